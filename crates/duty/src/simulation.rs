//! The seam for deterministic simulation: a driver whose disk is a model, in place of the files and of the thread that
//! writes them. A thread reports back when the machine under the test lets it, and so no run would be like another.
//!
//! ```text
//!   driver ── put (never waits, newest wins) ──► slot ──► task on the simulated clock ──► Disk
//!   driver ◄──────── EpochsReserved, StorageChanged ─────────┘
//! ```
//!
//! Everything else is the driver as it is.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use failover_core::{Epoch, Input, Memory};
use service_kit::Clock;
use tokio::sync::mpsc;

use crate::storage::{Found, Health, Slot};
use crate::{DutyHandles, Options, service};

/// A disk that a simulation makes up.
pub trait Disk: Send + Sync + 'static {
    /// What is on it at the start: the memory, and the last reserved epoch.
    fn found(&self) -> (Memory, Option<Epoch>);

    /// How long the next write takes, and whether it fails then; asked once for each.
    fn next_write(&self) -> (Duration, Result<(), String>);

    /// A write is complete.
    fn written(&self, reserved_up_to: Option<Epoch>, memory: Option<&Memory>);
}

/// What a simulation brings.
pub struct Simulation {
    /// The disk. `Options::data_dir` is not used.
    pub disk: Arc<dyn Disk>,
    /// A machine that breaks a rule, for the tests that must catch it.
    #[cfg(feature = "broken-variants")]
    pub rules: Option<failover_core::Rules>,
}

impl Simulation {
    /// The right machine on this disk.
    #[must_use]
    pub fn of(disk: Arc<dyn Disk>) -> Self {
        Self {
            disk,
            #[cfg(feature = "broken-variants")]
            rules: None,
        }
    }
}

impl fmt::Debug for Simulation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Simulation").finish_non_exhaustive()
    }
}

/// Like [`build`](crate::build), on a simulated disk. Must be called inside a runtime.
#[must_use]
pub fn build(options: Options, simulation: Simulation) -> (crate::Duty, DutyHandles) {
    let (memory, reserved_up_to) = simulation.disk.found();
    let found = Found { memory, reserved_up_to, ..Found::default() };
    let disk = Arc::clone(&simulation.disk);
    let (storage, from_storage) = crate::storage::Storage::start_simulated(disk, options.clock.clone());
    #[cfg(feature = "broken-variants")]
    let rules = simulation.rules;
    #[cfg(not(feature = "broken-variants"))]
    let rules = None;
    service::assemble(options, found, storage, from_storage, rules)
}

/// The writer as a task.
pub(crate) struct SimulatedWriter {
    pub(crate) slot: Arc<Slot>,
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) feedback: mpsc::Sender<Input>,
    pub(crate) clock: Clock,
}

impl SimulatedWriter {
    /// Writes what is put until it is told to end, with the same manners as the thread.
    pub(crate) async fn run(self) {
        let mut health = Health::new(None);
        loop {
            let Some((epochs, memory)) = self.next().await else { return };
            let (takes, outcome) = self.disk.next_write();
            tokio::time::sleep(takes).await;
            if outcome.is_ok() {
                self.disk.written(epochs, memory.as_deref());
            }
            let took = self.slot.ended(self.clock.boot());
            let reserved = epochs.filter(|_| outcome.is_ok()).map(|up_to| Input::EpochsReserved { up_to });
            if outcome.is_err() {
                self.slot.put_back(epochs, memory);
            }
            let told = health.after(outcome.err(), took);
            for input in reserved.into_iter().chain(told) {
                if self.feedback.send(input).await.is_err() {
                    return;
                }
            }
            if let Some(pause) = health.pause() {
                tokio::time::sleep(pause).await;
                if self.slot.lock().stop {
                    return;
                }
            }
        }
    }

    async fn next(&self) -> Option<(Option<Epoch>, Option<Box<Memory>>)> {
        loop {
            {
                let mut work = self.slot.lock();
                let (epochs, memory) = (work.epochs.take(), work.memory.take());
                if epochs.is_some() || memory.is_some() {
                    work.busy_since = Some(self.clock.boot());
                    return Some((epochs, memory));
                }
                if work.stop {
                    return None;
                }
            }
            self.slot.told.notified().await;
        }
    }
}
