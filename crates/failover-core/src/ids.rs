//! Names and numbers with a meaning: who a node is, which role it has, which epoch it holds.

use core::fmt;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// The configured part a node plays in its pair. It never moves by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Runs the plugins whenever it can.
    Primary,
    /// Runs the plugins while the primary is not available.
    Secondary,
}

impl Role {
    /// The other role.
    #[must_use]
    pub const fn other(self) -> Self {
        match self {
            Self::Primary => Self::Secondary,
            Self::Secondary => Self::Primary,
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Primary => "primary",
            Self::Secondary => "secondary",
        })
    }
}

/// The configured redundancy mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Part of a pair, as its primary.
    Primary,
    /// Part of a pair, as its secondary.
    Secondary,
    /// Plugins run, redundancy is inactive.
    Deactivated,
}

impl Mode {
    /// The role this mode gives, if it gives one.
    #[must_use]
    pub const fn role(self) -> Option<Role> {
        match self {
            Self::Primary => Some(Role::Primary),
            Self::Secondary => Some(Role::Secondary),
            Self::Deactivated => None,
        }
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Primary => "primary",
            Self::Secondary => "secondary",
            Self::Deactivated => "deactivated",
        })
    }
}

/// A fencing token: unique in the pair and increasing. One node's epochs are even, the other's odd: those of the primary and
/// of the secondary that the pair began with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Epoch(pub u64);

impl Epoch {
    /// The role whose parity this epoch has.
    #[must_use]
    pub const fn owner(self) -> Role {
        if self.0.is_multiple_of(2) { Role::Primary } else { Role::Secondary }
    }

    /// The smallest epoch above this one with the parity of `role`.
    #[must_use]
    pub const fn next_for(self, role: Role) -> Self {
        let next = self.0.saturating_add(1);
        let parity = match role {
            Role::Primary => 0,
            Role::Secondary => 1,
        };
        if next % 2 == parity { Self(next) } else { Self(next.saturating_add(1)) }
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

macro_rules! random_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub [u8; 16]);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }
    };
}

random_id! {
    /// Who a node is: 16 random bytes made at its first start and kept in its data directory.
    NodeId
}
random_id! {
    /// Which run of a node this is: 16 random bytes made at each start of the process.
    InstanceId
}

/// One authenticated session of the link; numbered by the node that observes it, never sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SessionId(pub u64);

/// One network path between the two nodes: which address of `redundancy.secondary.address`, counted from 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u8", into = "u8")]
pub struct PathId(u8);

/// A number that is no path.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("there is no path {0}: at most {most} are possible, counted from 0", most = PathId::MOST)]
pub struct InvalidPath(u8);

impl PathId {
    /// How many paths a pair has at most.
    pub const MOST: usize = 4;
    /// The only one of a pair with one address.
    pub const FIRST: Self = Self(0);

    /// Every path of a pair with `count` of them.
    pub fn all(count: usize) -> impl Iterator<Item = Self> {
        (0_u8..).map(Self).take(count.min(Self::MOST))
    }

    /// Its place in a list.
    #[must_use]
    pub fn index(self) -> usize {
        usize::from(self.0)
    }
}

impl TryFrom<u8> for PathId {
    type Error = InvalidPath;

    fn try_from(number: u8) -> Result<Self, InvalidPath> {
        if usize::from(number) < Self::MOST { Ok(Self(number)) } else { Err(InvalidPath(number)) }
    }
}

impl From<PathId> for u8 {
    fn from(path: PathId) -> Self {
        path.0
    }
}

/// People count from 1.
impl fmt::Display for PathId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.index() + 1)
    }
}

/// The name of a node for people: 1 to 64 of `A-Z a-z 0-9 . _ -`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct NodeName(String);

/// Why a text is not a node name.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("`{0}` is not a node name: 1 to 64 characters out of A-Z a-z 0-9 . _ - are allowed")]
pub struct InvalidNodeName(String);

impl NodeName {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for NodeName {
    type Error = InvalidNodeName;

    fn try_from(name: String) -> Result<Self, Self::Error> {
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        if (1..=64).contains(&name.len()) && name.chars().all(allowed) {
            Ok(Self(name))
        } else {
            Err(InvalidNodeName(name.chars().take(80).collect()))
        }
    }
}

impl From<NodeName> for String {
    fn from(name: NodeName) -> Self {
        name.0
    }
}

impl fmt::Display for NodeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Names one operator request, so that a repeated call is recognised: 1 to 64 characters.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RequestId(pub String);

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
