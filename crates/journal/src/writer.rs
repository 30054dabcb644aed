//! Two small threads: one writes, one watches that the disk answers. The second exists because the first cannot say
//! anything while the disk holds it.
#![allow(
    clippy::disallowed_methods,
    reason = "the writer's own thread measures how long a disk takes; nothing here decides anything about the duty"
)]

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use failover_core::{Event, EventCode, Severity};

use crate::handle::JournalHandle;
use crate::state::{Bounds, Shared, Waiting};
use crate::store::{KeptAside, Store, StoreError};
use crate::{OpenError, Options};

/// How often a disk that does not work is tried again.
const RETRY: Duration = Duration::from_secs(1);
/// Entries of one transaction.
const BATCH: usize = 512;

/// Ends the journal when dropped: the last entries are written, for which it waits at most two seconds.
pub struct JournalThread {
    shared: Arc<Shared>,
    writer: Option<JoinHandle<()>>,
    watcher: Option<JoinHandle<()>>,
}

impl JournalThread {
    /// Writes the last entries and ends. `false`: the disk did not take them in time.
    #[must_use]
    pub fn close(mut self) -> bool {
        self.end()
    }

    fn end(&mut self) -> bool {
        let Some(writer) = self.writer.take() else { return true };
        let by = Instant::now() + self.shared.bounds.last_write;
        let mut state = self.shared.lock();
        state.closing = true;
        self.shared.changed.notify_all();
        while !state.closed {
            let Some(left) = by.checked_duration_since(Instant::now()) else { break };
            state = self
                .shared
                .changed
                .wait_timeout(state, left)
                .unwrap_or_else(std::sync::PoisonError::into_inner)
                .0;
        }
        let (closed, left) = (state.closed, state.waiting.len());
        state.closed = true;
        drop(state);
        self.shared.changed.notify_all();
        if closed {
            // The thread has nothing more to do with the disk.
            let _ = writer.join();
        }
        if let Some(watcher) = self.watcher.take() {
            let _ = watcher.join();
        }
        if left > 0 {
            tracing::error!(target: "journal", "{left} events could not be written into the journal before the end");
        }
        closed && left == 0
    }
}

impl Drop for JournalThread {
    fn drop(&mut self) {
        self.end();
    }
}

/// Opens the file in this thread, so that numbers go on from the first event, then starts the two.
pub(crate) fn open(options: Options, bounds: Bounds) -> Result<(JournalHandle, JournalThread), OpenError> {
    let shared = Arc::new(Shared::new(options, bounds));
    let store = connect(&shared);
    let spawn = |name: &str, work: Box<dyn FnOnce() + Send>| {
        std::thread::Builder::new().name(name.to_owned()).spawn(work).map_err(OpenError::Thread)
    };
    let (for_writer, for_watcher) = (Arc::clone(&shared), Arc::clone(&shared));
    let mut thread = JournalThread { shared: Arc::clone(&shared), writer: None, watcher: None };
    thread.watcher = Some(spawn("journal-watch", Box::new(move || watch(&for_watcher)))?);
    thread.writer = Some(spawn("journal", Box::new(move || write(&for_writer, store)))?);
    Ok((JournalHandle::new(shared), thread))
}

/// Opens the file and makes what waits continue from its head.
fn connect(shared: &Shared) -> Option<Store> {
    let path = &shared.options.path;
    match Store::open(path, shared.written()) {
        Ok((store, head, aside)) => {
            shared.reconcile(head);
            if let Ok(old) = store.newest(0, u32::try_from(shared.bounds.ring).unwrap_or(u32::MAX)) {
                let mut state = shared.lock();
                if state.is_untouched() {
                    state.remember(old, shared.bounds.ring);
                }
            }
            if let Some(KeptAside { path: aside, why }) = aside {
                let sentence = format!(
                    "The journal could not be gone on with ({why}); it is kept as {}, a new one was begun.",
                    aside.display()
                );
                shared.record(Event::plain(EventCode::JournalDegraded, Severity::Error, sentence));
            }
            Some(store)
        }
        Err(why) => {
            shared.degrade(&format!("{}: {why}", path.display()));
            None
        }
    }
}

/// The writer: takes what waits, writes it, and keeps it when that fails.
fn write(shared: &Shared, mut store: Option<Store>) {
    while let Some((batch, closing)) = take(shared, store.is_some()) {
        let done = attempt(shared, &mut store, &batch);
        let mut state = shared.lock();
        state.writing = None;
        if done {
            state.waiting.drain(..batch.len());
        }
        let idle = state.waiting.is_empty();
        drop(state);
        shared.changed.notify_all();
        match (done, idle) {
            (true, true) => shared.restore(),
            (true, false) => {}
            (false, _) if closing => break,
            (false, _) => pause(shared),
        }
    }
    drop(store);
    let mut state = shared.lock();
    state.closed = true;
    drop(state);
    shared.changed.notify_all();
}

/// Waits for work: what is to be written now, and whether the journal ends after it; `None`: it has ended. Without a file
/// (`open` is false) there is always something to do.
pub(crate) fn take(shared: &Shared, open: bool) -> Option<(Vec<Waiting>, bool)> {
    let mut state = shared.lock();
    while state.waiting.is_empty() && !state.closing && !state.closed && open {
        state = shared.changed.wait(state).unwrap_or_else(std::sync::PoisonError::into_inner);
    }
    let closing = state.closing;
    if state.closed || (closing && state.waiting.is_empty()) {
        return None;
    }
    let batch = state.waiting.iter().take(BATCH).cloned().collect();
    state.writing = Some(Instant::now());
    drop(state);
    // What was recorded has woken the watcher, too: it may have looked before, and sleeps again.
    shared.changed.notify_all();
    Some((batch, closing))
}

/// One try to put a batch on the disk; `false`: not done, and said why.
fn attempt(shared: &Shared, store: &mut Option<Store>, batch: &[Waiting]) -> bool {
    let Some(open) = store else {
        // The numbers may change with the file, so what was taken as a batch is taken again.
        *store = connect(shared);
        return batch.is_empty() && store.is_some();
    };
    match open.append(batch, &shared.bounds) {
        Ok(()) => true,
        Err(why @ (StoreError::Disk(_) | StoreError::Busy)) => {
            *store = None;
            shared.degrade(&format!("{}: {why}", shared.options.path.display()));
            false
        }
        Err(StoreError::Damaged(why)) => {
            tracing::error!(target: "journal", "the journal is damaged: {why}");
            *store = None;
            *store = connect(shared);
            false
        }
    }
}

/// Waits before the next try, unless the journal ends. News alone does not shorten it: a full disk stays full.
fn pause(shared: &Shared) {
    let by = Instant::now() + RETRY;
    let mut state = shared.lock();
    while !state.closing && !state.closed {
        let Some(left) = by.checked_duration_since(Instant::now()) else { break };
        state = shared.changed.wait_timeout(state, left).unwrap_or_else(std::sync::PoisonError::into_inner).0;
    }
}

/// The watcher: sleeps until the writer is busy, and says so when the disk holds it for too long.
pub(crate) fn watch(shared: &Shared) {
    let mut state = shared.lock();
    while !state.closed {
        let Some(since) = state.writing else {
            state = shared.changed.wait(state).unwrap_or_else(std::sync::PoisonError::into_inner);
            continue;
        };
        match (since + shared.bounds.stalled).checked_duration_since(Instant::now()) {
            Some(left) => {
                state = shared
                    .changed
                    .wait_timeout(state, left)
                    .unwrap_or_else(std::sync::PoisonError::into_inner)
                    .0;
            }
            None if state.trouble.is_none() => {
                drop(state);
                shared.degrade(&format!(
                    "{}: the disk has not answered for {} s",
                    shared.options.path.display(),
                    shared.bounds.stalled.as_secs_f32()
                ));
                state = shared.lock();
            }
            None => state = shared.changed.wait(state).unwrap_or_else(std::sync::PoisonError::into_inner),
        }
    }
}
