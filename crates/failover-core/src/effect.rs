//! Everything the machine can ask for. Imperative: an effect tells what is to be done, in order.

use serde::{Deserialize, Serialize};

use crate::{BootTime, Epoch, Event, Memory, Mode, SessionId};

/// The standing order to the supervisor; the newest replaces the one before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DutyOrder {
    /// Run the plugins under this epoch. The same epoch with a later `hold_until` renews the lease.
    Run {
        /// The fencing token the plugins get.
        epoch: Epoch,
        /// The guard kills every plugin at this moment unless the lease is renewed before.
        hold_until: BootTime,
    },
    /// Stop the plugins in order, each with its signal and grace, then report them reaped.
    Stop {
        /// The epoch that ends.
        epoch: Epoch,
        /// The lease goes on during the stop.
        hold_until: BootTime,
    },
    /// Kill every plugin at once, then report them reaped.
    Kill {
        /// The epoch that ends.
        epoch: Epoch,
    },
}

impl DutyOrder {
    /// The epoch the order speaks of.
    #[must_use]
    pub const fn epoch(self) -> Epoch {
        match self {
            Self::Run { epoch, .. } | Self::Stop { epoch, .. } | Self::Kill { epoch } => epoch,
        }
    }

    /// Until when plugins may live under this order; `None` for a kill.
    #[must_use]
    pub const fn hold_until(self) -> Option<BootTime> {
        match self {
            Self::Run { hold_until, .. } | Self::Stop { hold_until, .. } => Some(hold_until),
            Self::Kill { .. } => None,
        }
    }
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Effect {
    /// Give this order to the supervisor.
    Order(DutyOrder),
    /// Send the new report to the peer now, without waiting for the next interval.
    Announce,
    /// Put a fresh secret into the guard's keeping for this epoch, then feed back `TombstoneArmed`.
    ArmTombstone {
        /// The epoch it will prove the end of.
        epoch: Epoch,
    },
    /// Close this session: a newer one of the same peer has replaced it, or the peer is not who it should be.
    CloseSession {
        /// Which.
        session: SessionId,
        /// Why, for people.
        why: String,
    },
    /// Reserve epochs durably up to this one, then feed back `EpochsReserved`. Nothing waits for it.
    ReserveEpochs {
        /// The last one.
        up_to: Epoch,
    },
    /// Keep this over a restart. Nothing waits for it.
    Remember(Box<Memory>),
    /// Write this into the journal and the log. Nothing waits for it.
    Record(Box<Event>),
    /// Ask the witness (or fence) for a licence for this epoch. Never with arbitration `none`.
    RequestLicence {
        /// The epoch to be taken.
        epoch: Epoch,
    },
    /// Give the witness's licence back. Never with arbitration `none`.
    ReleaseLicence {
        /// The epoch that ended.
        epoch: Epoch,
    },
    /// A requested stop is complete: nothing runs here any more, the process may end.
    Finish,
    /// A change of the role is complete as far as this run goes: nothing runs here any more. Keep the mode over a restart,
    /// then start anew with it.
    ChangeMode {
        /// The new mode.
        mode: Mode,
    },
}
