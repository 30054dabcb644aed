//! The channels between the driver (crate `duty`) and the plugin supervisor, made in one place so that neither
//! crate has to know the other.
//!
//! ```text
//!   driver ── orders (watch: the newest wins) ───────────► supervisor
//!   driver ── secrets (bounded: one per session) ────────► supervisor
//!   driver ◄─ reports (bounded; the supervisor waits) ──── supervisor
//! ```

use failover_core::{DutyOrder, Epoch, Input};
use tokio::sync::{mpsc, watch};
use zeroize::Zeroizing;

/// Secrets wait here only while the supervisor is busy for an instant; a full queue makes the driver drop the secret,
/// and the peer then goes by silence instead of by the tombstone.
const SECRETS: usize = 4;
/// Reports of one epoch: ready, failed, fired, reaped, with room for plugin news. When full the supervisor waits:
/// its guard does not.
const REPORTS: usize = 64;

/// A secret for the guard to keep: showing it proves that every plugin of the epoch is gone.
#[derive(Clone)]
pub struct TombstoneSecret {
    /// The epoch it speaks of.
    pub epoch: Epoch,
    /// 32 fresh random bytes.
    pub secret: Zeroizing<[u8; 32]>,
}

/// The driver's ends.
pub struct DriverPort {
    /// The standing order.
    pub orders: watch::Sender<Option<DutyOrder>>,
    /// Secrets for the guard.
    pub secrets: mpsc::Sender<TombstoneSecret>,
    /// What the supervisor reports, as inputs of the machine.
    pub reports: mpsc::Receiver<Input>,
}

/// The supervisor's ends.
pub struct SupervisorPort {
    /// The standing order.
    pub orders: watch::Receiver<Option<DutyOrder>>,
    /// Secrets for the guard.
    pub secrets: mpsc::Receiver<TombstoneSecret>,
    /// What the supervisor reports, as inputs of the machine.
    pub reports: mpsc::Sender<Input>,
}

/// Makes both ends.
#[must_use]
pub fn duty_ports() -> (DriverPort, SupervisorPort) {
    let (order_tx, order_rx) = watch::channel(None);
    let (secret_tx, secret_rx) = mpsc::channel(SECRETS);
    let (report_tx, report_rx) = mpsc::channel(REPORTS);
    (
        DriverPort { orders: order_tx, secrets: secret_tx, reports: report_rx },
        SupervisorPort { orders: order_rx, secrets: secret_rx, reports: report_tx },
    )
}
