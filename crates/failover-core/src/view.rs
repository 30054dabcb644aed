//! What the machine shows: the answer to every "how are we?" of the command line, the console and the metrics.

use core::fmt;
use core::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{
    BootTime, DutyOrder, Epoch, Fitness, Identity, Maintenance, Mode, PathId, Procedure, Report, Role,
    Severity, State,
};

/// One word for people.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Word {
    /// One node is active and the other could take over now.
    Ready,
    /// One node is active, but a failover would be late, held back or not certain.
    Degraded,
    /// Nobody could take over, or nobody is active.
    Lost,
    /// Mode `deactivated`.
    Off,
}

impl fmt::Display for Word {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ready => "ready",
            Self::Degraded => "degraded",
            Self::Lost => "lost",
            Self::Off => "off",
        })
    }
}

/// The word with its reason, the first line of every status.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Redundancy {
    /// The word.
    pub word: Word,
    /// Why, as a sentence.
    pub reason: String,
}

/// The link as this node sees it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "verdict", content = "reason")]
pub enum LinkVerdict {
    /// No answer; counts towards the takeover. The text says what was seen last.
    Silent(String),
    /// Something answers but cannot prove the key, or TLS fails.
    Unproved(String),
    /// The key is proved, but role, mode, timing or version are refused: the peer is alive, no duty moves.
    ProvedRefused(String),
    /// Heartbeats flow.
    Established,
}

/// One of several network paths to the peer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PathView {
    /// Which.
    pub path: PathId,
    /// The address as configured; on the node that is dialled, where the newest connection came from. Empty: not known yet.
    pub address: String,
    /// The link over this path.
    pub link: LinkVerdict,
    /// Since when it is like this.
    pub since: BootTime,
    /// The newest round trip over it. Only the secondary measures it.
    pub round_trip: Option<Duration>,
    /// Whether it is a lost one: nothing has come over it for the timeout, while the peer is connected over another.
    pub lost: bool,
}

/// The peer as this node sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerView {
    /// The link.
    pub link: LinkVerdict,
    /// Since when the link is like this.
    pub since: BootTime,
    /// The last peer whose key was proved, over restarts.
    pub paired_with: Option<Identity>,
    /// The newest report of this run, also after the link was lost.
    pub report: Option<Report>,
    /// Own newest stamp that the peer has echoed: what every silence is counted from.
    pub last_echo: Option<BootTime>,
    /// The newest round trip. Only the secondary measures it: what it sends is answered at once.
    pub round_trip: Option<Duration>,
    /// The network paths, in the order of their addresses; one where there is only one.
    pub paths: Vec<PathView>,
    /// Until when the peer has promised not to take over (from its echoes). Decides only under a witness.
    pub promise_until: Option<BootTime>,
    /// When silence will have lasted long enough for this node to take over, where it may.
    pub takeover_due: Option<BootTime>,
}

/// A condition that lasts and that people should know of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Warning {
    /// The same code as the event that announced it.
    pub code: crate::EventCode,
    /// How much it asks of the reader.
    pub severity: Severity,
    /// One sentence.
    pub sentence: String,
}

/// Everything the machine shows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct View {
    /// One word and why.
    pub redundancy: Redundancy,
    /// This node.
    pub identity: Identity,
    /// Its configured mode.
    pub mode: Mode,
    /// Its role; for mode `deactivated` the last one.
    pub role: Role,
    /// What it does.
    pub state: State,
    /// Since when.
    pub since: BootTime,
    /// The sentence of the transition that led here.
    pub why: String,
    /// The epoch it holds.
    pub epoch: Option<Epoch>,
    /// Whether it could run the plugins.
    pub fit: Fitness,
    /// The standing order to the supervisor.
    pub order: Option<DutyOrder>,
    /// The guard deadline in force.
    pub guard_deadline: Duration,
    /// The takeover time in force.
    pub takeover_after: Duration,
    /// The peer.
    pub peer: PeerView,
    /// Planned moves under way.
    pub procedure: Procedure,
    /// Maintenance.
    pub maintenance: Maintenance,
    /// Why a switchover asked for now would be refused; `None`: it would begin.
    pub switchover_blocked: Option<String>,
    /// Whether automatic moves are blocked by the flap latch.
    pub flap_latched: bool,
    /// Lasting conditions, worst first.
    pub warnings: Vec<Warning>,
}
