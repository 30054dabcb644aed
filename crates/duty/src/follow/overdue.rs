//! Until when a supervisor has to have said what its guard has said: that a lease has ended the plugins, or that nothing lives.

use std::time::Duration;

use failover_core::Epoch;
use tokio::time::{Instant, sleep_until};

/// How much later than its guard it may be when a lease has ended the plugins.
const GRACE: Duration = Duration::from_millis(50);
/// And when they have ended in order: nothing is late then.
const ORDERLY: Duration = Duration::from_secs(3);
/// How much longer its word may be on its way within this process, which may be the one that was late.
const ON_THE_WAY: Duration = Duration::from_millis(20);

/// The time limit; none while the guard has said nothing.
#[derive(Debug, Default)]
pub(super) struct Overdue {
    by: Option<Instant>,
    /// Its word was looked for once more.
    looked: bool,
}

impl Overdue {
    /// The guard has said that an epoch is gone, or that nothing lives.
    pub(super) fn hears(&mut self, word: Option<Epoch>) {
        let latest = Instant::now() + if word.is_some() { GRACE } else { ORDERLY };
        self.by = Some(self.by.map_or(latest, |by| by.min(latest)));
        self.looked = false;
    }

    /// The supervisor has said all that there was to say.
    pub(super) fn ends(&mut self) {
        self.by = None;
    }

    pub(super) const fn is_set(&self) -> bool {
        self.by.is_some()
    }

    /// Returns when the time has come; to be polled only while it is set. Cancel-safe.
    pub(super) async fn comes(&self) {
        if let Some(by) = self.by {
            sleep_until(by).await;
        }
    }

    /// The time has come: whether that is all the time there is.
    pub(super) fn is_over(&mut self) -> bool {
        if std::mem::replace(&mut self.looked, true) {
            self.by = None;
            return true;
        }
        self.by = Some(Instant::now() + ON_THE_WAY);
        false
    }
}
