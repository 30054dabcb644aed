//! What the two nodes tell each other: the same report in both directions, with every heartbeat.
//!
//! The protocol is *state-based*: nothing is a one-time command, everything is repeated until it is
//! answered, so a lost, doubled or late message changes nothing.

use core::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{BootTime, Epoch, InstanceId, Mode, NodeId, NodeName, RequestId, Role, State};

/// Who a node is.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Identity {
    /// Made once, kept in the data directory.
    pub node: NodeId,
    /// New at each start of the process.
    pub instance: InstanceId,
    /// For people.
    pub name: NodeName,
}

/// Whether a node could run the plugins now.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fitness {
    /// It could.
    Fit,
    /// It could not, and why, as a sentence for people.
    Unfit(String),
}

impl Fitness {
    /// Whether this is [`Fitness::Fit`].
    #[must_use]
    pub const fn is_fit(&self) -> bool {
        matches!(self, Self::Fit)
    }
}

/// The timings a node goes by now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct TimingsInForce {
    /// How often the secondary sends a heartbeat (as this node knows it).
    pub interval: Duration,
    /// After this much silence the node takes over: the secondary's `takeover_after`, the primary's `timeout`.
    pub takeover_after: Duration,
    /// How long this node's guard lets plugins live without a renewal of the duty lease.
    pub guard_deadline: Duration,
    /// How long this node waits in `Starting` for its peer.
    pub startup_wait: Duration,
}

/// Why one node asks for, or offers, the duty.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HandoverReason {
    /// The primary is back and stable.
    Return,
    /// A person asked for it.
    Switchover,
    /// The active node is being stopped.
    Stop,
}

/// One planned move of the duty, named so that both nodes speak of the same one.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Handover {
    /// Names this move; made by the node that began it.
    pub request: RequestId,
    /// Why.
    pub reason: HandoverReason,
}

/// The planned moves as one node sees them; all `None` when nothing is under way.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Procedure {
    /// The active offers the duty; a fit standby answers with `ask` of the same request.
    pub offer: Option<Handover>,
    /// The standby asks for the duty; the active answers by yielding.
    pub ask: Option<Handover>,
    /// The standby refuses an `offer` of this request, with the reason.
    pub refusal: Option<(RequestId, String)>,
    /// Every plugin of this epoch has been reaped here and the duty is now the peer's alone.
    pub released: Option<Epoch>,
    /// The peer's release of this epoch could not be used: the duty goes back.
    pub declined: Option<Epoch>,
    /// `released` ends a conflict: for how long, at most, both nodes ran their plugins. It stands until the other node
    /// goes on under a new epoch, for that node may not have heard of the conflict before it was over.
    pub overlap_ms: Option<u64>,
}

/// Maintenance, pair-wide: the newer set or clear wins.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Maintenance {
    /// Increases with each set or clear; the larger one wins (tie: the primary's).
    pub version: u64,
    /// Set: the reason and its end. `None`: cleared.
    pub window: Option<MaintenanceWindow>,
}

/// A maintenance window.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct MaintenanceWindow {
    /// Why, in the operator's words.
    pub reason: String,
    /// Who set it.
    pub by: String,
    /// When it ends by itself, in seconds of the Unix clock (the one use of wall time).
    pub until_unix: u64,
}

/// The promise of a tombstone: whoever later shows bytes with this SHA-256 proves that every plugin of the epoch is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct TombstonePromise {
    /// The epoch it speaks of.
    pub epoch: Epoch,
    /// SHA-256 of the secret that only the guard will show.
    pub sha256: [u8; 32],
}

/// How surely the guard can end what the plugins started; see the supervisor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Containment {
    /// A PID namespace whose init is the guard.
    Namespace,
    /// A delegated cgroup v2.
    Cgroup,
    /// Process groups and subreapers.
    Group,
}

/// What a node runs, for the peer's eyes; nothing here decides anything.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Summary {
    /// The version of onduty.
    pub version: String,
    /// SHA-256 over the plugin definitions without per-node keys, in hexadecimal.
    pub project: String,
    /// Containment level, once the guard runs.
    pub containment: Option<Containment>,
    /// Plugins by name with their state, at most 64.
    pub plugins: Vec<(String, String)>,
}

/// What one node says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Report {
    /// Who speaks.
    pub identity: Identity,
    /// Grows with every change of the report in one run of the node: over two paths an older report may arrive after a
    /// newer one, and two with the same number say the same.
    pub revision: u64,
    /// The configured role; for mode `deactivated` the last one.
    pub role: Role,
    /// The configured mode.
    pub mode: Mode,
    /// What it does now.
    pub state: State,
    /// Whether it could run the plugins.
    pub fit: Fitness,
    /// The epoch it holds: in `TakingOver`, `Active`, `Yielding` and `Standalone`.
    pub epoch: Option<Epoch>,
    /// The highest epoch it knows of, of either node.
    pub highest_epoch: Epoch,
    /// The last epoch it held itself.
    pub last_held: Option<Epoch>,
    /// Whose parity its epochs have: the role that it had at its first start. A change of the role leaves it as it is, so
    /// that the two nodes never number alike in between.
    pub parity: Role,
    /// The timings it goes by.
    pub timings: TimingsInForce,
    /// Planned moves.
    pub procedure: Procedure,
    /// Maintenance as it knows it.
    pub maintenance: Maintenance,
    /// The promise of a tombstone for the epoch it holds, once its guard keeps the secret.
    pub tombstone: Option<TombstonePromise>,
    /// What it runs.
    pub summary: Summary,
}

/// One heartbeat or its acknowledgement.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Beat {
    /// Grows by at least one within a session.
    pub sequence: u64,
    /// The sender's boot time when it sent this.
    pub stamp: BootTime,
    /// The receiver's own stamp of the newest beat that the sender has seen from it, if any in this session.
    ///
    /// Under a witness the echo of a standby is a promise: the active counts from it until when it is safe from a takeover.
    /// The standby itself counts from its *own* stamp that the active echoed. Whoever carries beats must therefore stop
    /// echoing, on every connection, once an answer came late (its echo is more than an interval and a round trip
    /// behind what was sent since), and begin again only in a session that is proved anew: an echo sent after that
    /// would promise more than the standby keeps. With several network paths an answer is late when the newest one over
    /// any path is: that is what the standby counts from. With arbitration `none` and `fence` a promise grants nothing.
    pub echo: Option<BootTime>,
    /// The rest.
    pub report: Report,
}
