//! What callers and writer share: the last number and link, the newest entries, and those that wait for the disk.
//!
//! The lock is held for a hash and some moves, never over I/O, so that whoever records is never held up by a disk.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use failover_core::{Event, EventCode, Severity};
use tokio::sync::{broadcast, watch};

use crate::chain::{self, GENESIS, Link};
use crate::{Entry, Health, Options};

/// Entries for one watcher that is slower than the events; beyond that it is told that it lagged.
const BROADCAST: usize = 1024;

/// How much is kept where.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    /// Entries that wait for the disk: hours of a quiet node, minutes of a flapping one. When full, further events
    /// are shown and logged but not journalled, and counted as lost.
    pub(crate) queue: usize,
    /// The newest entries in memory, for lists without the disk; older ones are read from the file.
    pub(crate) ring: usize,
    /// Rows in the file; the oldest beyond them are trimmed, which the anchor row tells. About 25 MB.
    pub(crate) retained: u64,
    /// Trimming is done this many rows at a time.
    pub(crate) trim_step: u64,
    /// After this long without an answer of the disk the journal is degraded: what is recorded is to be durable by
    /// then.
    pub(crate) stalled: Duration,
    /// How long a stop waits for the last entries; a disk that hangs must not hold up the stop of a node.
    pub(crate) last_write: Duration,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            queue: 4096,
            ring: 1024,
            retained: 50_000,
            trim_step: 1000,
            stalled: Duration::from_secs(1),
            last_write: Duration::from_secs(2),
        }
    }
}

/// The last entry of a chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) number: u64,
    pub(crate) link: Link,
}

impl Head {
    pub(crate) const BEGIN: Self = Self { number: 0, link: GENESIS };
}

/// An entry on its way to the disk.
#[derive(Clone)]
pub(crate) struct Waiting {
    /// Order of arrival in this process; finds the entry in the ring again when it is renumbered.
    arrival: u64,
    /// The event as it will be stored.
    pub(crate) json: Arc<str>,
    pub(crate) entry: Arc<Entry>,
}

/// Everything under the lock.
pub(crate) struct State {
    /// The last number given; `None` until the file could be read once.
    last: Option<Head>,
    pub(crate) waiting: VecDeque<Waiting>,
    ring: VecDeque<(u64, Arc<Entry>)>,
    arrivals: u64,
    /// Events that will never be in the file, since the journal was last well.
    pub(crate) lost: u64,
    /// Why the disk does not take events, if it does not.
    pub(crate) trouble: Option<String>,
    /// Entries the writer has in hand now, and since when (for the watch over a stalling disk).
    pub(crate) writing: Option<Instant>,
    pub(crate) closing: bool,
    pub(crate) closed: bool,
}

/// State, lock and ways out.
pub(crate) struct Shared {
    pub(crate) options: Options,
    pub(crate) bounds: Bounds,
    state: Mutex<State>,
    /// Signals both ways: work for the writer, progress for whoever watches it.
    pub(crate) changed: Condvar,
    pub(crate) news: broadcast::Sender<Arc<Entry>>,
    pub(crate) health: watch::Sender<Health>,
}

impl Shared {
    pub(crate) fn new(options: Options, bounds: Bounds) -> Self {
        let state = State {
            last: None,
            waiting: VecDeque::new(),
            ring: VecDeque::new(),
            arrivals: 0,
            lost: 0,
            trouble: None,
            writing: None,
            closing: false,
            closed: false,
        };
        Self {
            options,
            bounds,
            state: Mutex::new(state),
            changed: Condvar::new(),
            news: broadcast::channel(BROADCAST).0,
            health: watch::channel(Health::Ok).0,
        }
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        // A panic while holding the lock would be a bug, but the journal of the bug is worth having.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives the event its place and tells everybody. Never waits for the disk.
    pub(crate) fn record(&self, event: Event) {
        log(&event);
        let json: Arc<str> = serde_json::to_string(&event).unwrap_or_else(|_| String::from("null")).into();
        let mut state = self.lock();
        let fits = state.waiting.len() < self.bounds.queue && !state.closed;
        let unix_ms = (self.options.clock)();
        let entry = Entry { number: 0, unix_ms, node: self.options.node.clone(), event, chain: GENESIS };
        let entry = match state.last {
            Some(last) if fits => Arc::new(chained(entry, last, &json)),
            Some(_) | None => Arc::new(entry),
        };
        if entry.number > 0 {
            state.last = Some(Head { number: entry.number, link: entry.chain });
        }
        state.arrivals += 1;
        let arrival = state.arrivals;
        state.ring.push_back((arrival, Arc::clone(&entry)));
        if state.ring.len() > self.bounds.ring {
            state.ring.pop_front();
        }
        if fits {
            state.waiting.push_back(Waiting { arrival, json, entry: Arc::clone(&entry) });
        } else {
            state.lost += 1;
            if state.trouble.is_none() {
                state.trouble = Some("events come faster than the disk takes them".to_owned());
            }
        }
        // Nobody watching is no error.
        let _ = self.news.send(entry);
        self.publish(&state);
        drop(state);
        self.changed.notify_all();
    }

    /// Makes `health` follow the state.
    pub(crate) fn publish(&self, state: &State) {
        let health = match &state.trouble {
            Some(why) => Health::Degraded { why: why.clone(), lost: state.lost },
            None => Health::Ok,
        };
        self.health.send_if_modified(|current| {
            let changed = *current != health;
            *current = health;
            changed
        });
    }

    /// The disk does not take events: says so once per cause, in the log, the journal itself and `health`.
    pub(crate) fn degrade(&self, why: &str) {
        let mut state = self.lock();
        let news = state.trouble.as_deref() != Some(why);
        let first = state.trouble.is_none();
        state.trouble = Some(why.to_owned());
        self.publish(&state);
        drop(state);
        if first {
            self.record(Event::plain(
                EventCode::JournalDegraded,
                Severity::Error,
                format!("The journal cannot be written; events are kept in memory: {why}."),
            ));
        } else if news {
            tracing::error!(target: "journal", "the journal still cannot be written: {why}");
        }
    }

    /// The disk has taken everything again.
    pub(crate) fn restore(&self) {
        let mut state = self.lock();
        if state.trouble.take().is_none() {
            return;
        }
        let lost = std::mem::take(&mut state.lost);
        self.publish(&state);
        drop(state);
        let (severity, what) = match lost {
            0 => (Severity::Info, "nothing was lost".to_owned()),
            1 => (Severity::Warn, "1 event was not journalled".to_owned()),
            many => (Severity::Warn, format!("{many} events were not journalled")),
        };
        let sentence = format!("The journal can be written again; {what}.");
        self.record(Event::plain(EventCode::JournalRestored, severity, sentence));
    }

    /// The newest `limit` entries after number `after` that memory has, and whether the file has no more of them.
    pub(crate) fn newest(&self, after: u64, limit: usize) -> (Vec<Arc<Entry>>, bool) {
        let state = self.lock();
        // Entries without a number stay where they arrived: shown unless a later one has already been seen.
        let seen = state.ring.iter().rposition(|(_, entry)| entry.number != 0 && entry.number <= after);
        let begin = seen.map_or(0, |position| position + 1);
        let candidates = state.ring.len() - begin;
        let entries: Vec<Arc<Entry>> = state
            .ring
            .iter()
            .skip(begin + candidates.saturating_sub(limit))
            .map(|(_, e)| Arc::clone(e))
            .collect();
        let oldest = state.ring.iter().map(|(_, entry)| entry.number).find(|number| *number != 0);
        let complete = seen.is_some() || candidates >= limit || oldest == Some(1) || state.last.is_none();
        (entries, complete || state.last == Some(Head::BEGIN))
    }

    /// The last number that needs no place in a file any more; `None` until the file could be read once.
    pub(crate) fn written(&self) -> Option<u64> {
        let state = self.lock();
        let last = state.last?;
        Some(state.waiting.front().map_or(last.number, |first| first.entry.number.saturating_sub(1)))
    }

    /// The file's head is known (again): what waits continues from it, under new numbers if it must.
    pub(crate) fn reconcile(&self, head: Head) {
        let mut state = self.lock();
        let continues =
            |w: &Waiting| w.entry.number != 0 && w.entry.number == head.number && w.entry.chain == head.link;
        if let Some(done) = state.waiting.iter().position(continues) {
            // A commit that was reported as failed had reached the disk after all.
            state.waiting.drain(..=done);
            return;
        }
        let fits = match state.waiting.front() {
            Some(first) => {
                first.entry.number != 0
                    && first.entry.number == head.number + 1
                    && chained(Entry::clone(&first.entry), head, &first.json).chain == first.entry.chain
            }
            None => state.last == Some(head),
        };
        if !fits {
            state.renumber(head);
        }
    }
}

impl State {
    fn renumber(&mut self, mut head: Head) {
        for waiting in &mut self.waiting {
            let entry = Arc::new(chained(Entry::clone(&waiting.entry), head, &waiting.json));
            head = Head { number: entry.number, link: entry.chain };
            if let Ok(position) = self.ring.binary_search_by_key(&waiting.arrival, |(arrival, _)| *arrival) {
                self.ring[position].1 = Arc::clone(&entry);
            }
            waiting.entry = entry;
        }
        self.last = Some(head);
    }

    /// Whether nothing has been recorded yet, so that old entries may be put into the ring.
    pub(crate) fn is_untouched(&self) -> bool {
        self.ring.is_empty()
    }

    /// Puts the newest entries of the file in front of those of this process, so that lists need no disk.
    pub(crate) fn remember(&mut self, old: Vec<Arc<Entry>>, bound: usize) {
        for entry in old.into_iter().rev() {
            if self.ring.len() >= bound {
                break;
            }
            self.ring.push_front((0, entry));
        }
    }
}

fn chained(entry: Entry, last: Head, json: &str) -> Entry {
    let number = last.number + 1;
    let chain = chain::next(&last.link, number, entry.unix_ms, &entry.node, json);
    Entry { number, chain, ..entry }
}

/// The same sentence in the log, at the matching level.
fn log(event: &Event) {
    let Event { code, severity, sentence, cause, epoch, .. } = event;
    let (code, epoch) = (code.as_str(), epoch.map(|epoch| epoch.0));
    match severity {
        Severity::Info => tracing::info!(target: "event", code, epoch, cause, "{sentence}"),
        Severity::Warn => tracing::warn!(target: "event", code, epoch, cause, "{sentence}"),
        Severity::Error => tracing::error!(target: "event", code, epoch, cause, "{sentence}"),
        Severity::Critical => {
            tracing::error!(target: "event", code, epoch, cause, critical = true, "{sentence}")
        }
    }
}
