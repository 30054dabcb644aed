//! What operators changed, until it is journalled: the journal belongs to the process with the driver, which may be away.

use std::collections::VecDeque;
use std::sync::Arc;

use onduty_api::trust::{MAX_NOTICES, Notice};
use tokio::sync::watch;

/// The notices that nobody has journalled yet. When there are more than [`MAX_NOTICES`] the oldest is dropped and said in
/// the log, where each of them stands anyway. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Notices(watch::Sender<Arc<State>>);

#[derive(Clone, Debug, Default)]
struct State {
    last: u64,
    open: VecDeque<Notice>,
}

impl Notices {
    pub(super) fn new() -> Self {
        Self(watch::Sender::new(Arc::default()))
    }

    /// Adds one.
    pub(super) fn add(&self, unix_ms: u64, sentence: String) {
        self.0.send_modify(|state| {
            let state = Arc::make_mut(state);
            state.last += 1;
            state.open.push_back(Notice { number: state.last, unix_ms, sentence });
            if state.open.len() > MAX_NOTICES
                && let Some(lost) = state.open.pop_front()
            {
                tracing::warn!(
                    notice = lost.sentence,
                    "will not be in the journal: nobody with a journal has asked for long"
                );
            }
        });
    }

    /// Forgets all up to this number.
    pub(super) fn confirm(&self, up_to: u64) {
        let _changed = self.0.send_if_modified(|state| {
            if state.open.front().is_none_or(|first| first.number > up_to) {
                return false;
            }
            Arc::make_mut(state).open.retain(|notice| notice.number > up_to);
            // Fewer of them is no news for a watcher.
            false
        });
    }

    /// Those that are open, oldest first.
    pub(super) fn open(&self) -> Vec<Notice> {
        self.0.borrow().open.iter().cloned().collect()
    }

    /// Tells of new ones.
    pub(super) fn watch(&self) -> watch::Receiver<impl Sized + use<>> {
        self.0.subscribe()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(notices: &Notices) -> Vec<u64> {
        notices.open().iter().map(|notice| notice.number).collect()
    }

    #[test]
    fn what_is_confirmed_is_forgotten_and_the_rest_stays() {
        let notices = Notices::new();
        let mut news = notices.watch();
        (0..3).for_each(|at| notices.add(at, format!("notice {at}")));
        assert!(news.has_changed().is_ok_and(|changed| changed));
        news.mark_unchanged();
        notices.confirm(2);
        assert_eq!(numbers(&notices), [3]);
        notices.confirm(2);
        notices.confirm(0);
        assert_eq!(numbers(&notices), [3]);
        assert!(news.has_changed().is_ok_and(|changed| !changed), "a confirmation is no news");
        notices.confirm(u64::MAX);
        assert_eq!(numbers(&notices), Vec::<u64>::new());
        notices.add(9, "another".to_owned());
        assert_eq!(numbers(&notices), [4], "numbers are never used twice");
    }

    #[test]
    fn the_oldest_goes_when_nobody_asks() {
        let notices = Notices::new();
        (0..100).for_each(|at| notices.add(at, "x".to_owned()));
        assert_eq!(numbers(&notices), (37..=100).collect::<Vec<u64>>());
    }
}
