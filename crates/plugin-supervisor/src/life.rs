//! The life of one plugin, as bookkeeping without any effect: where it is, how often it was restarted, and what its
//! end means.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use tokio::task::AbortHandle;
use tokio::time::Instant;

use crate::definition::{Plugin, Restart, RestartPolicy};
use crate::wire::{End, JobId};

/// The longest wait before a restart.
const LONGEST_BACKOFF: Duration = Duration::from_secs(60);

/// Where a plugin is, as told to people.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum PluginState {
    /// It does not run, and is not to.
    Stopped,
    /// It is to run and is not ready yet.
    Starting,
    /// It runs and is ready.
    Ready,
    /// It was asked to stop.
    Stopping,
    /// It ended and will be started again.
    BackingOff,
    /// It ended and will not be started again.
    Failed,
}

impl PluginState {
    /// The word for people and for the summary.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Stopped => "stopped",
            Self::Starting => "starting",
            Self::Ready => "ready",
            Self::Stopping => "stopping",
            Self::BackingOff => "backing_off",
            Self::Failed => "failed",
        }
    }
}

/// What a plugin does now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PluginStatus {
    /// Its name.
    pub name: String,
    /// Where it is.
    pub state: PluginState,
    /// Why, as a sentence for people; may be empty.
    pub reason: String,
    /// Since when, in milliseconds of the Unix clock.
    pub since_unix_ms: u64,
    /// Its main process, as this machine numbers it.
    pub pid: Option<i32>,
    /// How often it was restarted since it was last started for a duty.
    pub restarts: u32,
}

/// Where a plugin is, with what belongs to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    Stopped,
    /// For those it comes after.
    Waiting,
    Starting(JobId),
    Ready(JobId),
    Stopping {
        job: JobId,
        /// It is started again once it has stopped: a new epoch asked for it.
        again: bool,
    },
    BackingOff {
        turn: u64,
    },
    Failed,
}

/// What follows from the end of a plugin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Consequence {
    /// It stays stopped.
    Rest,
    /// It is started again after this time.
    Again(Duration),
    /// It will not run any more.
    Failed(String),
}

/// One plugin.
pub(crate) struct Life {
    pub(crate) plugin: Arc<Plugin>,
    pub(crate) name: Arc<str>,
    pub(crate) after: Vec<usize>,
    pub(crate) step: Step,
    pub(crate) reason: String,
    pub(crate) since_unix_ms: u64,
    pub(crate) pid: Option<i32>,
    pub(crate) restarts: u32,
    /// It was ready, or failed, once in this duty: those after it need not wait any longer.
    pub(crate) settled: bool,
    /// Why it was killed although nobody asked for its stop.
    pub(crate) doomed: Option<String>,
    /// The task that waits for its readiness.
    pub(crate) watcher: Option<AbortHandle>,
    recent: VecDeque<Instant>,
}

impl Life {
    pub(crate) fn new(plugin: Plugin, after: Vec<usize>, now_unix_ms: u64) -> Self {
        Self {
            name: plugin.name.as_str().into(),
            plugin: Arc::new(plugin),
            after,
            step: Step::Stopped,
            reason: String::new(),
            since_unix_ms: now_unix_ms,
            pid: None,
            restarts: 0,
            settled: false,
            doomed: None,
            watcher: None,
            recent: VecDeque::new(),
        }
    }

    /// Begins a new duty with a clean slate.
    pub(crate) fn begin_duty(&mut self) {
        self.restarts = 0;
        self.settled = false;
        self.doomed = None;
        self.recent.clear();
    }

    /// The job its main process has.
    pub(crate) const fn job(&self) -> Option<JobId> {
        match self.step {
            Step::Starting(job) | Step::Ready(job) | Step::Stopping { job, .. } => Some(job),
            Step::Stopped | Step::Waiting | Step::BackingOff { .. } | Step::Failed => None,
        }
    }

    pub(crate) const fn state(&self) -> PluginState {
        match self.step {
            Step::Stopped => PluginState::Stopped,
            Step::Waiting | Step::Starting(_) => PluginState::Starting,
            Step::Ready(_) => PluginState::Ready,
            Step::Stopping { .. } => PluginState::Stopping,
            Step::BackingOff { .. } => PluginState::BackingOff,
            Step::Failed => PluginState::Failed,
        }
    }

    pub(crate) fn status(&self) -> PluginStatus {
        PluginStatus {
            name: self.plugin.name.clone(),
            state: self.state(),
            reason: self.reason.clone(),
            since_unix_ms: self.since_unix_ms,
            pid: self.pid,
            restarts: self.restarts,
        }
    }

    pub(crate) fn stop_watching(&mut self) {
        if let Some(watcher) = self.watcher.take() {
            watcher.abort();
        }
    }

    /// What follows when its main process ended although nobody asked for it; counts the restart.
    pub(crate) fn ended(&mut self, end: End, now: Instant) -> Consequence {
        let was_ready = matches!(self.step, Step::Ready(_));
        let doomed = self.doomed.take();
        let clean = end == End::Status(0) && was_ready && !self.plugin.critical && doomed.is_none();
        let why = doomed.unwrap_or_else(|| end.to_string());
        let Restart { policy, backoff, limit, window } = self.plugin.restart;
        match policy {
            RestartPolicy::Never | RestartPolicy::OnFailure if clean => Consequence::Rest,
            RestartPolicy::Never => Consequence::Failed(why),
            RestartPolicy::OnFailure | RestartPolicy::Always => {
                while self.recent.front().is_some_and(|at| now.duration_since(*at) > window) {
                    self.recent.pop_front();
                }
                let count = u32::try_from(self.recent.len()).unwrap_or(u32::MAX);
                if count >= limit {
                    return Consequence::Failed(format!(
                        "{why}; {count} restarts within {window:?} did not help"
                    ));
                }
                self.recent.push_back(now);
                self.restarts = self.restarts.saturating_add(1);
                let doubled = backoff.saturating_mul(1_u32.checked_shl(count.min(16)).unwrap_or(u32::MAX));
                Consequence::Again(doubled.min(LONGEST_BACKOFF.max(backoff)))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn life(policy: RestartPolicy, critical: bool) -> Life {
        let mut plugin = Plugin::new("p", vec!["true".to_owned()]);
        let (limit, window) = (3, Duration::from_secs(100));
        plugin.restart = Restart { policy, backoff: Duration::from_secs(1), limit, window };
        plugin.critical = critical;
        let mut life = Life::new(plugin, Vec::new(), 0);
        life.step = Step::Ready(1);
        life
    }

    #[test]
    fn the_wait_doubles_until_the_limit_and_old_restarts_are_forgotten() {
        let mut life = life(RestartPolicy::OnFailure, true);
        let now = Instant::now();
        for seconds in [1, 2, 4] {
            assert_eq!(life.ended(End::Status(1), now), Consequence::Again(Duration::from_secs(seconds)));
        }
        let Consequence::Failed(why) = life.ended(End::Signal(9), now) else { panic!("the limit holds") };
        assert_eq!(why, "was ended by signal 9 (SIGKILL); 3 restarts within 100s did not help");
        assert_eq!(life.restarts, 3);
        let later = now + Duration::from_secs(101);
        assert_eq!(life.ended(End::Status(1), later), Consequence::Again(Duration::from_secs(1)));
    }

    #[test]
    fn what_an_end_means_depends_on_policy_status_and_weight() {
        let now = Instant::now();
        let again = Consequence::Again(Duration::from_secs(1));
        let clean = End::Status(0);
        assert_eq!(life(RestartPolicy::OnFailure, false).ended(clean, now), Consequence::Rest);
        assert_eq!(life(RestartPolicy::OnFailure, true).ended(clean, now), again, "the duty is to run it");
        assert_eq!(life(RestartPolicy::Always, false).ended(clean, now), again);
        assert_eq!(life(RestartPolicy::Never, false).ended(clean, now), Consequence::Rest);
        assert!(matches!(life(RestartPolicy::Never, true).ended(clean, now), Consequence::Failed(_)));
        assert!(matches!(
            life(RestartPolicy::Never, false).ended(End::Status(3), now),
            Consequence::Failed(_)
        ));
        let mut early = life(RestartPolicy::OnFailure, false);
        early.step = Step::Starting(1);
        assert_eq!(early.ended(clean, now), again, "it was never ready");
    }
}
