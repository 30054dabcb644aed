//! What everybody else holds: record, list, subscribe, health.

use std::sync::Arc;
use std::time::Duration;

use failover_core::Event;
use thiserror::Error;
use tokio::sync::{Semaphore, broadcast, watch};

use crate::state::Shared;
use crate::{Entry, Health, store};

/// The most entries of one list.
pub const MOST_LISTED: u32 = 10_000;
/// The entries of a list that does not say how many.
const USUALLY_LISTED: u32 = 50;
/// How long a list waits for the file before it goes by memory alone.
const READ_LIMIT: Duration = Duration::from_secs(2);

/// Threads that read the file at the same time. A disk that does not answer keeps them for as long as it likes, and they are
/// out of a pool that everybody shares; a list that gets no thread in time goes by memory alone.
const READERS: usize = 2;

/// A handle on the journal.
#[derive(Clone)]
pub struct JournalHandle {
    shared: Arc<Shared>,
    readers: Arc<Semaphore>,
}

/// Why there is no list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum ListError {
    /// More than [`MOST_LISTED`].
    #[error("at most {MOST_LISTED} events are listed at once, not {0}")]
    TooMany(u32),
}

impl JournalHandle {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared, readers: Arc::new(Semaphore::new(READERS)) }
    }

    /// Records an event: numbered, chained, logged, shown to every subscriber, and on its way to the disk. Never
    /// waits for the disk and never fails.
    pub fn record(&self, event: Event) {
        self.shared.record(event);
    }

    /// Every entry from now on, each once: one that was shown without a number (0) because the disk was away is not
    /// shown again when it gets its number later; [`Self::list`] then has it. A subscriber that is slower than the events is told that it lagged, and can go on
    /// with [`Self::list`] from the last number it has seen.
    #[must_use]
    pub fn subscribe(&self) -> broadcast::Receiver<Arc<Entry>> {
        self.shared.news.subscribe()
    }

    /// The newest `limit` entries with a number above `after`, oldest of them first; limit 0 is 50. Answered from
    /// memory where that has them all. When the file does not answer within two seconds, or is held by lists before this
    /// one, memory has to do; the log says so.
    ///
    /// # Errors
    ///
    /// When more than [`MOST_LISTED`] are asked for.
    pub async fn list(&self, after: u64, limit: u32) -> Result<Vec<Arc<Entry>>, ListError> {
        if limit > MOST_LISTED {
            return Err(ListError::TooMany(limit));
        }
        let limit = if limit == 0 { USUALLY_LISTED } else { limit };
        let most = usize::try_from(limit).unwrap_or(usize::MAX);
        let (recent, complete) = self.shared.newest(after, most);
        if complete {
            return Ok(recent);
        }
        let path = self.shared.options.path.clone();
        let readers = Arc::clone(&self.readers);
        let read = async {
            let place = readers.acquire_owned().await.ok()?;
            let reading = tokio::task::spawn_blocking(move || {
                // Given back by the thread, not by the call, which leaves one behind that the disk holds.
                let _place = place;
                store::reader(&path).and_then(|connection| store::newest(&connection, after, limit))
            });
            reading.await.ok()?.ok()
        };
        match tokio::time::timeout(READ_LIMIT, read).await {
            Ok(Some(older)) => Ok(joined(older, recent, most)),
            // Said loudly by the writer already.
            Ok(None) => Ok(recent),
            Err(_elapsed) => {
                tracing::warn!(target: "journal", "the journal's file does not answer: a list is from memory alone");
                Ok(recent)
            }
        }
    }

    /// How the journal is.
    #[must_use]
    pub fn health(&self) -> watch::Receiver<Health> {
        self.shared.health.subscribe()
    }
}

/// Entries of the file, then those that only memory has: newer ones, and ones without a number at the end.
fn joined(older: Vec<Arc<Entry>>, recent: Vec<Arc<Entry>>, most: usize) -> Vec<Arc<Entry>> {
    let begin = recent.iter().find(|entry| entry.number != 0).map_or(u64::MAX, |entry| entry.number);
    let mut all: Vec<Arc<Entry>> = older.into_iter().filter(|entry| entry.number < begin).collect();
    all.extend(recent);
    all.split_off(all.len().saturating_sub(most))
}
