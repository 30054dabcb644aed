//! The settings the machine needs, already validated by the settings loader.

use core::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{Identity, Mode, Role};

/// When the primary takes the duty back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FailbackMode {
    /// By itself, once fit and connected for `stable_for`.
    Automatic,
    /// Only by `switchover`.
    Manual,
}

/// What a secondary does while something answers that cannot prove the key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnUnproved {
    /// Never takes over: unproven is not unavailable.
    Hold,
    /// Takes over after the takeover time, with a permanent warning.
    TakeOver,
}

/// Who decides beside the pair itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Arbitration {
    /// Nobody: silence decides, as in the model.
    None,
    /// A witness with a lease (etcd, Kubernetes): licence and promises decide.
    Witness,
    /// A fence command against the peer.
    Fence,
}

/// What the machine goes by.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Settings {
    /// Who this node is.
    pub identity: Identity,
    /// The configured mode.
    pub mode: Mode,
    /// The role; for mode `deactivated` the last one it had.
    pub role: Role,
    /// The heartbeat interval: own on the secondary, learned from the peer on the primary (this is the value until then).
    pub interval: Duration,
    /// Silence after which this node counts the peer as gone: the primary's `timeout`.
    pub timeout: Duration,
    /// The secondary's takeover time; `None`: the primary's timeout, as told by it.
    pub takeover_after: Option<Duration>,
    /// The addresses this node dials, one per network path, as people wrote them; empty where it dials nobody.
    pub paths: Vec<String>,
    /// Whether `takeover_confirm` is in use.
    pub confirm_refusals: bool,
    /// How long `Starting` waits for the peer.
    pub startup_wait: Duration,
    /// Fail-back.
    pub failback: FailbackMode,
    /// How long the primary must have been fit and connected before it asks for the duty.
    pub stable_for: Duration,
    /// How many automatic moves the window may hold.
    pub flap_limit: u32,
    /// The window.
    pub flap_window: Duration,
    /// What to do about an unproved peer.
    pub on_unproved: OnUnproved,
    /// Whether a stop hands over first.
    pub handover_on_stop: bool,
    /// Upper bound for starting every plugin, and for stopping every plugin, as the plugin definitions give it.
    pub start_limit: Duration,
    /// See `start_limit`.
    pub stop_limit: Duration,
    /// Who decides beside the pair.
    pub arbitration: Arbitration,
    /// Lasting warnings that the settings themselves bring: (sentence).
    pub unsafe_settings: Vec<String>,
}

impl Settings {
    /// The addresses that this node dials to find its peer: a secondary's.
    pub(crate) fn dialled(&self) -> &[String] {
        match self.role {
            Role::Secondary => &self.paths,
            Role::Primary => &[],
        }
    }
}
