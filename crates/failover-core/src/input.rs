//! Everything that can happen to the machine. Past tense: an input tells what has happened.

use core::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{Beat, BootTime, Epoch, Identity, Mode, PathId, RequestId, Role, SessionId, Summary};

/// What the dialling end of the link has found, while no authenticated session is open.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DialOutcome {
    /// Nothing answered: refused, unreachable, timed out. The text says which.
    Silent(String),
    /// Something answered that could not prove the key, or with which TLS failed.
    Unproved(String),
}

/// The network path of a session, as its dialling end tells it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Via {
    /// Which path.
    pub path: PathId,
    /// How many the dialling node has.
    pub paths: usize,
    /// Where the other end of the connection is.
    pub remote: String,
    /// Whether this node has dialled; else the peer has.
    pub dialled: bool,
}

/// The licence of a witness or fence to hold the duty. With arbitration `none` it is never sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Licence {
    /// This node holds the witness's lease (or its fence command was confirmed) for `epoch`.
    Granted {
        /// The epoch the licence is for.
        epoch: Epoch,
        /// Until when, counted from the *send* of the request; `None` for a fence: until released.
        until: Option<BootTime>,
    },
    /// The witness said no, or somebody else holds the lease.
    Refused,
}

/// What can happen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Input {
    // -------------------------------------------------------------- time
    /// The deadline that [`crate::Machine::deadline`] named has come.
    Woke,
    /// The driver's loop was late: the process or the whole machine had stood still.
    Stalled {
        /// By how much.
        late_by: Duration,
    },

    // -------------------------------------------------------------- link
    /// A session was authenticated in both directions.
    SessionProved {
        /// Its number; larger than all before on its path.
        session: SessionId,
        /// Over which path.
        via: Via,
        /// Who is at the other end.
        peer: Identity,
        /// Its configured role (for mode `deactivated`, the last one).
        role: Role,
        /// Its configured mode.
        mode: Mode,
    },
    /// A heartbeat or acknowledgement arrived on an authenticated session.
    BeatArrived {
        /// On which session.
        session: SessionId,
        /// What it said.
        beat: Box<Beat>,
    },
    /// An authenticated session is over; the text says how.
    SessionEnded {
        /// Which one.
        session: SessionId,
        /// How, for people.
        cause: String,
    },
    /// A dial came to an end without a session.
    DialFinished {
        /// Of which path.
        path: PathId,
        /// What was found.
        outcome: DialOutcome,
    },
    /// On every address of every path the connection was refused on each of the fresh connects of `takeover_confirm`.
    RefusalConfirmed,
    /// A guard showed the secret whose SHA-256 the peer had promised for this epoch: no plugin of it lives.
    TombstoneRead {
        /// The epoch of the promise.
        epoch: Epoch,
    },
    /// Own guard keeps the secret for this epoch; from now on the report carries the promise.
    TombstoneArmed {
        /// The epoch.
        epoch: Epoch,
        /// SHA-256 of the secret.
        sha256: [u8; 32],
    },

    // -------------------------------------------------------------- supervisor
    /// Every plugin of the epoch is ready.
    PluginsReady {
        /// Of which epoch.
        epoch: Epoch,
    },
    /// The plugins of the epoch could not be started or kept running; the text names plugin and cause.
    PluginsFailed {
        /// Of which epoch.
        epoch: Epoch,
        /// Which plugin and why.
        why: String,
    },
    /// Every process of every plugin of the epoch has been reaped.
    PluginsReaped {
        /// Of which epoch.
        epoch: Epoch,
    },
    /// A stop has gone beyond its limit: something survives SIGKILL.
    StopStuck {
        /// Of which epoch.
        epoch: Epoch,
        /// What survives.
        what: String,
    },
    /// The guard ended the plugins by itself: the lease ran out, or the guard died and its containment with it.
    /// Every process may not yet be reaped; `PluginsReaped` follows.
    GuardFired {
        /// Of which epoch.
        epoch: Epoch,
        /// Why.
        why: String,
    },
    /// Fitness as the supervisor sees it: preflight of every plugin, guard alive. `Some(why)` is unfit.
    PreflightChanged {
        /// Why the node could not start the plugins; `None` when it could.
        unfit: Option<String>,
    },
    /// What the node runs, for reports.
    SummaryChanged(Box<Summary>),

    // -------------------------------------------------------------- storage, arbitration
    /// Epochs up to this one are durably reserved.
    EpochsReserved {
        /// The last reserved epoch.
        up_to: Epoch,
    },
    /// The data directory cannot be written (`Some`), or can again.
    StorageChanged {
        /// What is wrong.
        trouble: Option<String>,
    },
    /// News of the licence.
    LicenceChanged(Licence),

    // -------------------------------------------------------------- people
    /// An operator asks to move the duty to the other node.
    SwitchoverRequested {
        /// A repeated request is the same one.
        request: RequestId,
    },
    /// The node is to stop (SIGTERM, `onduty stop`).
    StopRequested {
        /// Whether to hand the duty over first.
        handover: bool,
    },
    /// An operator sets maintenance.
    MaintenanceSet {
        /// Why.
        reason: String,
        /// Who.
        by: String,
        /// Until when, in seconds of the Unix clock.
        until_unix: u64,
    },
    /// An operator clears maintenance.
    MaintenanceCleared {
        /// Who.
        by: String,
    },
    /// The wall clock has passed the end of the maintenance window of this version.
    MaintenanceExpired {
        /// The version that expired.
        version: u64,
    },
    /// An operator takes the duty by hand, during maintenance or when the machine holds back.
    TakeoverRequested {
        /// A repeated request is the same one.
        request: RequestId,
    },
    /// The mode is to change at run time.
    ModeRequested {
        /// A repeated request is the same one.
        request: RequestId,
        /// The new mode.
        mode: Mode,
        /// Do it although the plugins will run twice.
        force: bool,
    },
}
