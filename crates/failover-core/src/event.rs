//! What is worth telling people: codes, severities and the measured times. The sentence is part of the event, so
//! that the journal, the log, the command line and the console show the same words.

use core::fmt;

use serde::{Deserialize, Serialize};

use crate::{Epoch, RequestId, State};

/// How much an event asks of the reader.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// A change of state, as planned.
    Info,
    /// Unexpected, but the node goes on.
    Warn,
    /// A person must act.
    Error,
    /// A person must act now: the workload is down, or runs twice.
    Critical,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Info => "info",
            Self::Warn => "warn",
            Self::Error => "error",
            Self::Critical => "critical",
        })
    }
}

/// Measured times, in milliseconds; each present only where it was measured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Measures {
    /// From the last sign of life of the peer (the send of the last acknowledged heartbeat) to the decision.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detected_ms: Option<u64>,
    /// From the decision to every plugin ready.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub takeover_ms: Option<u64>,
    /// From the last sign of life of the peer, or from the order to stop in a planned move, to every plugin ready.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outage_ms: Option<u64>,
    /// How long both nodes were active: the smallest upper bound that the two nodes know together. Each counts from
    /// when it took the duty, or from its own message that the peer answered last while it had none; the loser up to
    /// its last reaped process, the winner up to the moment in which it heard of that. Never less than what happened.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub overlap_ms: Option<u64>,
}

/// One event, before the journal gives it a number and a time of day.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// What kind of event; stable, for machines.
    pub code: EventCode,
    /// How much it asks of the reader.
    pub severity: Severity,
    /// One sentence for people.
    pub sentence: String,
    /// What led to it, in a few words for people; empty when the sentence says all.
    pub cause: String,
    /// The epoch concerned, if any.
    pub epoch: Option<Epoch>,
    /// The transition, if it is one: from, to.
    pub transition: Option<(State, State)>,
    /// The operator request (or hand-over) that it answers or belongs to, if any.
    pub request: Option<RequestId>,
    /// Measured times.
    pub measures: Measures,
}

impl Event {
    /// One that is a sentence and nothing else.
    #[must_use]
    pub fn plain(code: EventCode, severity: Severity, sentence: String) -> Self {
        Self {
            code,
            severity,
            sentence,
            cause: String::new(),
            epoch: None,
            transition: None,
            request: None,
            measures: Measures::default(),
        }
    }
}

macro_rules! event_codes {
    ($($(#[$doc:meta])* $name:ident => $text:literal),+ $(,)?) => {
        /// The kinds of events.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub enum EventCode {
            $($(#[$doc])* #[serde(rename = $text)] $name,)+
        }

        impl EventCode {
            /// Every code.
            pub const ALL: &'static [Self] = &[$(Self::$name,)+];

            /// The code as the wire, the journal and machines write it.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => $text,)+ }
            }
        }

        impl core::str::FromStr for EventCode {
            type Err = UnknownEventCode;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                match text { $($text => Ok(Self::$name),)+ _ => Err(UnknownEventCode(text.chars().take(64).collect())) }
            }
        }
    };
}

/// A text that is no event code of this version.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not an event code of this version")]
pub struct UnknownEventCode(pub String);

event_codes! {
    /// The node started.
    NodeStarted => "node_started",
    /// The node stops.
    NodeStopped => "node_stopped",
    /// The state changed, and no more specific code fits.
    StateChanged => "state_changed",
    /// The secondary became active: the primary has failed.
    RedundancyActive => "redundancy_active",
    /// The secondary is on standby again: the primary is accessible.
    RedundancyInactive => "redundancy_inactive",
    /// The primary took the duty.
    PrimaryActive => "primary_active",
    /// No heartbeat for the timeout: the peer counts as disconnected.
    PeerDisconnected => "peer_disconnected",
    /// The peer is connected.
    PeerConnected => "peer_connected",
    /// One of several network paths is lost; the peer is connected over another.
    PathLost => "path_lost",
    /// A network path is back.
    PathBack => "path_back",
    /// Something answers, but cannot prove the key.
    PeerUnproved => "peer_unproved",
    /// The peer proved the key, but role, mode, timing or version do not fit.
    PeerRefused => "peer_refused",
    /// The peer runs its plugins without redundancy.
    PeerStandalone => "peer_standalone",
    /// An attempt to connect was rejected.
    SessionRejected => "session_rejected",
    /// The peer's guard proved that its plugins are gone.
    TombstoneRead => "tombstone_read",
    /// A planned move of the duty began.
    HandoverBegun => "handover_begun",
    /// A planned move of the duty succeeded.
    HandoverDone => "handover_done",
    /// A planned move of the duty did not succeed; who has the duty is in the sentence.
    HandoverFailed => "handover_failed",
    /// A request was refused.
    RequestRefused => "request_refused",
    /// Both nodes were active; healed by the rule.
    ConflictFound => "conflict_found",
    /// The conflict is over.
    ConflictHealed => "conflict_healed",
    /// The plugins could not be started.
    StartFailed => "start_failed",
    /// The guard killed the plugins by itself.
    GuardFired => "guard_fired",
    /// Something survives SIGKILL.
    StopStuck => "stop_stuck",
    /// The node could not run the plugins now.
    NodeUnfit => "node_unfit",
    /// The node could run the plugins again.
    NodeFit => "node_fit",
    /// The peer could not run the plugins now.
    PeerUnfit => "peer_unfit",
    /// The peer could run the plugins again.
    PeerFit => "peer_fit",
    /// The process or machine had stood still.
    Stalled => "stalled",
    /// Maintenance was set.
    MaintenanceSet => "maintenance_set",
    /// Maintenance was cleared or expired.
    MaintenanceCleared => "maintenance_cleared",
    /// Maintenance holds back a takeover that would be due.
    MaintenanceHolds => "maintenance_holds",
    /// A takeover that would be due is held back, and why.
    TakeoverHeld => "takeover_held",
    /// Automatic moves are blocked after too many of them.
    FlapLatched => "flap_latched",
    /// Automatic moves are allowed again.
    FlapReleased => "flap_released",
    /// The reserved epochs are used up, or the epoch file was lost.
    EpochTrouble => "epoch_trouble",
    /// The data directory cannot be written; the node goes on.
    StorageDegraded => "storage_degraded",
    /// The data directory can be written again.
    StorageRestored => "storage_restored",
    /// The journal can be written again.
    JournalRestored => "journal_restored",
    /// The journal lost events or could not be written.
    JournalDegraded => "journal_degraded",
    /// A setting that is allowed but not recommended is in use.
    UnsafeSetting => "unsafe_setting",
    /// The mode changed at run time.
    ModeChanged => "mode_changed",
    /// A plugin's own change of state.
    PluginChanged => "plugin_changed",
    /// Certificates or the key: something a person should know.
    TrustNotice => "trust_notice",
    /// The keys of the pair have changed, or the pair has gone over to another one.
    KeyChanged => "key_changed",
    /// A key of the pair cannot be used.
    KeyUnusable => "key_unusable",
    /// A certificate or a revocation list runs out, or has.
    CertificateExpires => "certificate_expires",
}

impl fmt::Display for EventCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
