//! The storage thread: reserves epochs and keeps the machine's memory, and nothing ever waits for it.
//!
//! ```text
//!   driver ── put (never waits, newest wins) ──► slot ──► thread ──► epochs, memory.json
//!   driver ◄──────── EpochsReserved, StorageChanged ─────────┘
//! ```
//!
//! A plain thread, because a disk that stalls blocks whoever writes to it: it must not be one of the runtime's.
//! What cannot be written is tried again, with growing pauses, until it can be or until something newer replaces it.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use failover_core::{BootTime, Epoch, Event, EventCode, Input, Memory, Severity};
use service_kit::Clock;
use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;

use crate::epoch_file::{self, EpochFile};
use crate::memory_file;
use crate::recorder::notice;
use crate::simulation::{Disk, SimulatedWriter};

/// Feedback to the driver: at most one reservation and one change of health per write. When full the thread waits.
const FEEDBACK: usize = 8;
/// A write that takes longer than this is said to be stuck.
const STUCK_AFTER: Duration = Duration::from_secs(1);
/// The pause after the first failed write; it doubles up to the last.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// The longest pause between two tries.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// What was found at the start.
#[derive(Debug, Default)]
pub(crate) struct Found {
    pub(crate) memory: Memory,
    pub(crate) reserved_up_to: Option<Epoch>,
    pub(crate) trouble: Option<String>,
    pub(crate) notices: Vec<Event>,
    pub(crate) sequence: u64,
}

/// Reads both files. Never fails: what cannot be used is kept aside or told as trouble.
pub(crate) fn load(folder: &Path) -> Found {
    let mut found = Found {
        memory: Memory::default(),
        reserved_up_to: None,
        trouble: None,
        notices: Vec::new(),
        sequence: 0,
    };
    let known_before = load_memory(&memory_path(folder), &mut found);
    load_epochs(&epochs_path(folder), known_before, &mut found);
    found
}

fn load_memory(path: &Path, found: &mut Found) -> bool {
    match memory_file::load(path) {
        Ok(memory_file::Loaded::Missing) => return false,
        Ok(memory_file::Loaded::Known(memory)) => found.memory = *memory,
        Ok(memory_file::Loaded::Corrupt(why)) => {
            let sentence = match memory_file::keep_aside(path) {
                Ok(aside) => format!(
                    "what the node remembered cannot be read ({why}); kept as {}, starting without",
                    aside.display()
                ),
                Err(error) => format!(
                    "what the node remembered cannot be read ({why}), nor kept aside ({error}); starting without"
                ),
            };
            found.notices.push(notice(EventCode::StorageDegraded, Severity::Error, sentence, None));
        }
        Err(error) => found.trouble = Some(format!("reading {}: {error}", path.display())),
    }
    true
}

fn load_epochs(path: &Path, known_before: bool, found: &mut Found) {
    let said = |sentence| notice(EventCode::EpochTrouble, Severity::Error, sentence, None);
    match epoch_file::load(path) {
        Ok(epoch_file::Loaded::Reserved { up_to, sequence, damaged }) => {
            found.reserved_up_to = Some(up_to);
            found.sequence = sequence;
            if damaged {
                let sentence = format!(
                    "one half of the epoch file {} is damaged; the other half says: reserved up to {up_to}",
                    path.display()
                );
                found.notices.push(notice(EventCode::EpochTrouble, Severity::Warn, sentence, Some(up_to)));
            }
        }
        Ok(epoch_file::Loaded::Missing) if known_before => found.notices.push(said(format!(
            "the epoch file {} is missing on a node that has run before; a new range of epochs is begun",
            path.display()
        ))),
        Ok(epoch_file::Loaded::Missing | epoch_file::Loaded::Empty) => {}
        Ok(epoch_file::Loaded::Corrupt) => found.notices.push(said(match memory_file::keep_aside(path) {
            Ok(aside) => format!(
                "the epoch file cannot be understood; kept as {}, a new range of epochs is begun",
                aside.display()
            ),
            Err(error) => format!("the epoch file cannot be understood, nor kept aside: {error}"),
        })),
        Err(error) => found.trouble = Some(format!("reading {}: {error}", path.display())),
    }
}

fn epochs_path(folder: &Path) -> PathBuf {
    folder.join("epochs")
}

fn memory_path(folder: &Path) -> PathBuf {
    folder.join("memory.json")
}

/// The driver's end.
#[derive(Debug)]
pub(crate) struct Storage {
    slot: Arc<Slot>,
    ended: CancellationToken,
    clock: Clock,
    stuck: bool,
}

#[derive(Debug, Default)]
pub(crate) struct Slot {
    work: Mutex<Work>,
    /// Wakes the thread.
    changed: Condvar,
    /// Wakes the task that is the writer in a simulation.
    pub(crate) told: Notify,
}

#[derive(Debug, Default)]
pub(crate) struct Work {
    pub(crate) epochs: Option<Epoch>,
    pub(crate) memory: Option<Box<Memory>>,
    pub(crate) busy_since: Option<BootTime>,
    pub(crate) stop: bool,
}

impl Slot {
    pub(crate) fn lock(&self) -> MutexGuard<'_, Work> {
        self.work.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wake(&self) {
        self.changed.notify_one();
        self.told.notify_one();
    }

    /// A write has ended, well or not: how long it took.
    pub(crate) fn ended(&self, now: BootTime) -> Duration {
        self.lock().busy_since.take().map_or(Duration::ZERO, |since| now.since(since))
    }

    /// What could not be written is tried again, unless something newer came meanwhile.
    pub(crate) fn put_back(&self, epochs: Option<Epoch>, memory: Option<Box<Memory>>) {
        let mut work = self.lock();
        work.epochs = work.epochs.or(epochs);
        work.memory = work.memory.take().or(memory);
    }
}

/// The health of the disk as the writer tells it, and how long it waits before the next try.
#[derive(Debug)]
pub(crate) struct Health {
    told: Option<String>,
    pause: Duration,
}

impl Health {
    pub(crate) const fn new(told: Option<String>) -> Self {
        Self { told, pause: FIRST_PAUSE }
    }

    /// What the driver is told after a write that took `took`. It may have called a long one stuck, and has to hear what
    /// became of it even where nothing else is new.
    pub(crate) fn after(&mut self, trouble: Option<String>, took: Duration) -> Option<Input> {
        if trouble.is_none() {
            self.pause = FIRST_PAUSE;
        }
        let news = self.told != trouble || took >= STUCK_AFTER;
        self.told.clone_from(&trouble);
        news.then_some(Input::StorageChanged { trouble })
    }

    /// How long to wait before the next try, if the last one has failed.
    pub(crate) fn pause(&mut self) -> Option<Duration> {
        self.told.as_ref()?;
        let pause = self.pause;
        self.pause = (pause * 2).min(LONGEST_PAUSE);
        Some(pause)
    }
}

impl Storage {
    /// Starts the thread.
    ///
    /// # Errors
    ///
    /// When the system gives no thread.
    pub(crate) fn start(
        folder: &Path,
        found: &Found,
        clock: Clock,
    ) -> io::Result<(Self, mpsc::Receiver<Input>)> {
        let slot = Arc::new(Slot::default());
        let ended = CancellationToken::new();
        let (feedback, inputs) = mpsc::channel(FEEDBACK);
        let writer = Writer {
            slot: Arc::clone(&slot),
            epochs: EpochFile::new(epochs_path(folder), found.sequence),
            memory_path: memory_path(folder),
            feedback,
            health: Health::new(found.trouble.clone()),
            clock: clock.clone(),
        };
        let guard = ended.clone().drop_guard();
        let _detached = std::thread::Builder::new().name("onduty-storage".into()).spawn(move || {
            let _ended = guard;
            writer.run();
        })?;
        Ok((Self { slot, ended, clock, stuck: false }, inputs))
    }

    /// A task on a simulated disk in the thread's place.
    pub(crate) fn start_simulated(disk: Arc<dyn Disk>, clock: Clock) -> (Self, mpsc::Receiver<Input>) {
        let slot = Arc::new(Slot::default());
        let ended = CancellationToken::new();
        let (feedback, inputs) = mpsc::channel(FEEDBACK);
        let writer = SimulatedWriter { slot: Arc::clone(&slot), disk, feedback, clock: clock.clone() };
        let guard = ended.clone().drop_guard();
        let _detached = tokio::spawn(async move {
            let _ended = guard;
            writer.run().await;
        });
        (Self { slot, ended, clock, stuck: false }, inputs)
    }

    pub(crate) fn reserve(&self, up_to: Epoch) {
        self.slot.lock().epochs = Some(up_to);
        self.slot.wake();
    }

    pub(crate) fn remember(&self, memory: Box<Memory>) {
        self.slot.lock().memory = Some(memory);
        self.slot.wake();
    }

    /// Tells once when a write is stuck. The writer tells how it has ended.
    pub(crate) fn check(&mut self) -> Option<Input> {
        let now = self.clock.boot();
        let busy_since = self.slot.lock().busy_since;
        let stuck = busy_since.is_some_and(|since| now.since(since) >= STUCK_AFTER);
        let news = stuck && !self.stuck;
        self.stuck = stuck;
        let trouble = Some("a write to the data directory does not come to an end".to_owned());
        news.then_some(Input::StorageChanged { trouble })
    }

    /// Lets the thread write what it has, for at most `limit`.
    pub(crate) async fn finish(self, limit: Duration) {
        self.slot.lock().stop = true;
        self.slot.wake();
        if tokio::time::timeout(limit, self.ended.cancelled()).await.is_err() {
            tracing::warn!("stopping without waiting any longer for a write to the data directory");
        }
    }
}

impl Drop for Storage {
    fn drop(&mut self) {
        self.slot.lock().stop = true;
        self.slot.wake();
    }
}

/// The thread's end.
struct Writer {
    slot: Arc<Slot>,
    epochs: EpochFile,
    memory_path: PathBuf,
    feedback: mpsc::Sender<Input>,
    health: Health,
    clock: Clock,
}

impl Writer {
    fn run(mut self) {
        while let Some((epochs, memory)) = self.next() {
            let trouble = self.write(epochs, memory.as_deref()).err();
            let took = self.slot.ended(self.clock.boot());
            if trouble.is_some() {
                self.slot.put_back(epochs, memory);
            }
            let told = self.health.after(trouble, took);
            let heard = told.is_none_or(|input| self.feedback.blocking_send(input).is_ok());
            if !heard || self.feedback.is_closed() || !self.rest() {
                return;
            }
        }
    }

    /// Waits for work; `None` when there is none left and the thread is to end.
    fn next(&self) -> Option<(Option<Epoch>, Option<Box<Memory>>)> {
        let mut work = self.slot.lock();
        loop {
            let (epochs, memory) = (work.epochs.take(), work.memory.take());
            if epochs.is_some() || memory.is_some() {
                work.busy_since = Some(self.clock.boot());
                return Some((epochs, memory));
            }
            if work.stop {
                return None;
            }
            work = self.slot.changed.wait(work).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn write(&mut self, epochs: Option<Epoch>, memory: Option<&Memory>) -> Result<(), String> {
        if let Some(up_to) = epochs {
            self.epochs.reserve(up_to).map_err(|error| format!("reserving epochs: {error}"))?;
            // The driver being gone is noticed when the health is told.
            let _ = self.feedback.blocking_send(Input::EpochsReserved { up_to });
        }
        memory.map_or(Ok(()), |memory| {
            memory_file::save(&self.memory_path, memory)
                .map_err(|error| format!("keeping memory.json: {error}"))
        })
    }

    /// After a failure rests before the next try; `false` when the thread is to end.
    fn rest(&mut self) -> bool {
        let Some(pause) = self.health.pause() else { return true };
        let work = self.slot.lock();
        let (work, _timed_out) = self
            .slot
            .changed
            .wait_timeout_while(work, pause, |work| !work.stop)
            .unwrap_or_else(PoisonError::into_inner);
        !work.stop
    }
}
