//! The newest value for several readers, who are woken in the order in which they began to wait.
//!
//! Like tokio's `watch`, which wakes its readers in an order of chance: with a session for each network path that decides which
//! of them speaks first, and a simulated life could not be lived twice.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use thiserror::Error;
use tokio::sync::Notify;

#[derive(Debug)]
struct Shared<T> {
    state: Mutex<State<T>>,
    news: Notify,
}

#[derive(Debug)]
struct State<T> {
    value: T,
    version: u64,
    over: bool,
}

impl<T> Shared<T> {
    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The writing half; there is one.
#[derive(Debug)]
pub struct LatestSender<T>(Arc<Shared<T>>);

/// The reading half. A clone has seen what this one has.
#[derive(Debug)]
pub struct Latest<T> {
    shared: Arc<Shared<T>>,
    seen: u64,
}

impl<T> Clone for Latest<T> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared), seen: self.seen }
    }
}

/// Nobody writes any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("nobody writes any more")]
pub struct Over;

/// Both halves; the first value counts as seen.
#[must_use]
pub fn latest<T: Clone>(value: T) -> (LatestSender<T>, Latest<T>) {
    let state = Mutex::new(State { value, version: 0, over: false });
    let shared = Arc::new(Shared { state, news: Notify::new() });
    (LatestSender(Arc::clone(&shared)), Latest { shared, seen: 0 })
}

impl<T: Clone> LatestSender<T> {
    /// Another reader, which has seen what is there.
    #[must_use]
    pub fn subscribe(&self) -> Latest<T> {
        Latest { shared: Arc::clone(&self.0), seen: self.0.lock().version }
    }

    /// The value.
    #[must_use]
    pub fn get(&self) -> T {
        self.0.lock().value.clone()
    }

    /// Changes it; readers are woken when `change` says that it did.
    pub fn change(&self, change: impl FnOnce(&mut T) -> bool) {
        let mut state = self.0.lock();
        if !change(&mut state.value) {
            return;
        }
        state.version += 1;
        drop(state);
        self.0.news.notify_waiters();
    }
}

impl<T> Drop for LatestSender<T> {
    fn drop(&mut self) {
        self.0.lock().over = true;
        self.0.news.notify_waiters();
    }
}

impl<T: Clone> Latest<T> {
    /// The value.
    #[must_use]
    pub fn get(&self) -> T {
        self.shared.lock().value.clone()
    }

    /// The value, which has been seen then.
    pub fn take(&mut self) -> T {
        let state = self.shared.lock();
        self.seen = state.version;
        state.value.clone()
    }

    /// Waits until there is one that was not seen, and marks it so. Cancel-safe.
    ///
    /// # Errors
    ///
    /// When nobody writes any more and everything was seen.
    pub async fn changed(&mut self) -> Result<(), Over> {
        loop {
            let news = self.shared.news.notified();
            tokio::pin!(news);
            // Before looking, so that nothing falls in between.
            let _ = news.as_mut().enable();
            {
                let state = self.shared.lock();
                if state.version != self.seen {
                    self.seen = state.version;
                    return Ok(());
                }
                if state.over {
                    return Err(Over);
                }
            }
            news.await;
        }
    }

    /// Waits until there is one that is `so`, beginning with the one of now. Cancel-safe.
    ///
    /// # Errors
    ///
    /// When nobody writes any more and the last one is not.
    pub async fn wait_for(&mut self, so: impl Fn(&T) -> bool) -> Result<T, Over> {
        loop {
            let value = self.take();
            if so(&value) {
                return Ok(value);
            }
            self.changed().await?;
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::task::JoinSet;

    use super::*;

    #[tokio::test]
    async fn readers_are_woken_in_the_order_in_which_they_began_to_wait() {
        for _ in 0..50 {
            let (sender, receiver) = latest(0);
            let order = Arc::new(Mutex::new(Vec::new()));
            let mut readers = JoinSet::new();
            for number in 0..8 {
                let (mut receiver, order) = (receiver.clone(), Arc::clone(&order));
                let _ = readers.spawn(async move {
                    assert_eq!(receiver.changed().await, Ok(()));
                    order.lock().unwrap_or_else(PoisonError::into_inner).push(number);
                });
            }
            tokio::task::yield_now().await;
            sender.change(|value| {
                *value = 1;
                true
            });
            let _ = readers.join_all().await;
            let order = order.lock().unwrap_or_else(PoisonError::into_inner).clone();
            assert_eq!(order, (0..8).collect::<Vec<_>>());
        }
    }

    #[tokio::test]
    async fn what_was_not_seen_is_told_also_after_the_end_and_no_change_wakes_nobody() {
        let (sender, mut receiver) = latest(0);
        sender.change(|_| false);
        let quiet = tokio::time::timeout(std::time::Duration::from_millis(5), receiver.changed()).await;
        assert!(quiet.is_err());
        sender.change(|value| {
            *value += 1;
            true
        });
        assert_eq!((sender.get(), receiver.get()), (1, 1));
        drop(sender);
        assert_eq!(receiver.changed().await, Ok(()));
        assert_eq!((receiver.take(), receiver.changed().await), (1, Err(Over)));
    }

    #[tokio::test]
    async fn a_wait_for_a_value_begins_with_the_one_of_now_and_ends_with_the_last() {
        let (sender, mut receiver) = latest(3);
        assert_eq!(receiver.wait_for(|value| *value == 3).await, Ok(3));
        let set = |to| {
            sender.change(|value| {
                *value = to;
                true
            });
        };
        let waiting = receiver.wait_for(|value| *value > 4);
        let setting = async {
            for to in [4, 5] {
                tokio::task::yield_now().await;
                set(to);
            }
        };
        assert_eq!(tokio::join!(waiting, setting).0, Ok(5));
        drop(sender);
        assert_eq!(receiver.wait_for(|value| *value == 5).await, Ok(5));
        assert_eq!(receiver.wait_for(|value| *value == 6).await, Err(Over));
    }
}
