//! What the standing order means now: beginning, going on with and ending a duty.
//!
//! ```text
//!            Run                    Stop                 all stopped
//!   Idle ───────────► Running ─────────────► Stopping ───────────────► Ending ──► Idle, "reaped"
//!     ▲                  │                       │                       ▲  nothing lives
//!     │                  └── Kill, lease over, guard dead ───────────────┘
//!     └── the order is looked at again: what came meanwhile is done now
//! ```
//!
//! `Ending` has one way out: the guard (or, after its death, the search for what it left) has said that nothing of
//! the epoch lives. A guard that says nothing there is killed, so that there always is one or the other.
//!
//! (`guard_watch` holds what the guard says, and what its silence means.)

use std::time::Duration;

use failover_core::{DutyOrder, Epoch, Input};

use crate::core::{Core, Purpose};
use crate::life::Step;
use crate::plugins::KILLED;
use crate::timers::Timer;
use crate::wire::{Command, JobId};

/// What was killed should be gone within this time; beyond it the stop is stuck. Looked at again as often.
const STUCK: Duration = Duration::from_secs(5);
/// How long plugins wait for the epoch file; a stalled disk delays them no longer.
const EPOCH_FILE: Duration = Duration::from_millis(5);
/// Where the duty is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Nothing lives.
    Idle,
    /// Plugins are started and kept running.
    Running {
        epoch: Epoch,
        /// Plugins may be started: the epoch file is there, or late.
        open: bool,
        /// "Ready" has been reported.
        announced: bool,
    },
    /// Plugins are stopped in order.
    Stopping { epoch: Epoch },
    /// Everything is killed.
    Ending {
        epoch: Epoch,
        /// Of the guard's answer; `None` when the guard is dead.
        token: Option<u64>,
        /// Not by an order.
        fired: bool,
        /// "Stuck" has been reported.
        stuck: bool,
    },
}

impl Core {
    /// A new standing order.
    pub(crate) fn obey(&mut self, order: Option<DutyOrder>) {
        self.order = order;
        self.renew();
        self.reconcile();
    }

    /// The order stream is broken: nothing may run without orders.
    pub(crate) fn lose_driver(&mut self) {
        self.order = None;
        match self.phase {
            Phase::Running { epoch, .. } | Phase::Stopping { epoch } => {
                tracing::error!("the driver is gone: the plugins are killed");
                self.end_all(epoch, true);
            }
            Phase::Idle | Phase::Ending { .. } => {}
        }
    }

    /// Makes the phase follow the order.
    pub(crate) fn reconcile(&mut self) {
        let Some(order) = self.order else { return };
        match (self.phase, order) {
            (Phase::Idle, DutyOrder::Run { epoch, .. }) => self.begin(epoch),
            (Phase::Idle, DutyOrder::Stop { epoch, .. } | DutyOrder::Kill { epoch }) => {
                if self.answered != Some(epoch) {
                    self.answered = Some(epoch);
                    self.report(Input::PluginsReaped { epoch });
                }
            }
            (Phase::Running { epoch: current, .. }, DutyOrder::Run { epoch, .. }) => {
                if epoch > current {
                    self.enter_epoch(epoch);
                }
            }
            (Phase::Running { epoch, .. }, DutyOrder::Stop { .. }) => self.begin_stopping(epoch),
            (Phase::Running { epoch, .. } | Phase::Stopping { epoch }, DutyOrder::Kill { .. }) => {
                self.end_all(epoch, false);
            }
            // A run that comes during a stop waits for its end.
            (Phase::Stopping { .. }, DutyOrder::Run { .. } | DutyOrder::Stop { .. })
            | (Phase::Ending { .. }, _) => {}
        }
    }

    fn begin(&mut self, epoch: Epoch) {
        if self.fired.is_some_and(|fired| epoch <= fired) {
            return;
        }
        if self.link.is_none() {
            // Begun once there is a guard; its absence has been reported.
            return;
        }
        self.answered = None;
        self.begun = epoch;
        self.phase = Phase::Running { epoch, open: false, announced: false };
        self.renew();
        self.epoch_file.write(epoch);
        self.timers.after(EPOCH_FILE, Timer::EpochFile(epoch));
        for at in 0..self.lives.len() {
            if let Some(life) = self.lives.get_mut(at) {
                life.begin_duty();
            }
            self.step(at, Step::Waiting, String::new());
        }
    }

    /// The epoch file is there: running plugins are told of it now and not before, because the file is all they have to
    /// learn the new epoch from.
    pub(crate) fn epoch_file_is_there(&mut self, written: Epoch) {
        if matches!(self.phase, Phase::Running { epoch, .. } if epoch == written)
            && std::mem::take(&mut self.reload_due)
        {
            self.reload();
        }
        self.start_without_waiting(written);
    }

    /// The epoch file is there, or late: plugins that start need not wait for it any longer, they have the epoch in
    /// their environment.
    pub(crate) fn start_without_waiting(&mut self, written: Epoch) {
        if let Phase::Running { epoch, open, .. } = &mut self.phase
            && *epoch == written
            && !std::mem::replace(open, true)
        {
            self.start_due();
            self.announce();
        }
    }

    /// The winner of a conflict goes on under a new epoch.
    fn enter_epoch(&mut self, epoch: Epoch) {
        self.phase = Phase::Running { epoch, open: false, announced: false };
        self.epoch_file.write(epoch);
        self.timers.after(EPOCH_FILE, Timer::EpochFile(epoch));
        self.reload_due = true;
        self.restart_for_epoch();
    }

    fn begin_stopping(&mut self, epoch: Epoch) {
        self.phase = Phase::Stopping { epoch };
        // Every signal goes through it: whether it is there is to be known before they have had their grace.
        self.ask_guard();
        for at in 0..self.lives.len() {
            match self.lives.get(at).map(|life| life.step) {
                Some(Step::Waiting | Step::BackingOff { .. }) => self.step(at, Step::Stopped, String::new()),
                Some(Step::Stopping { job, again: true }) => {
                    self.step(at, Step::Stopping { job, again: false }, String::new());
                }
                Some(
                    Step::Stopped
                    | Step::Starting(_)
                    | Step::Ready(_)
                    | Step::Stopping { again: false, .. }
                    | Step::Failed,
                )
                | None => {}
            }
        }
        self.stop_due();
    }

    /// Kills whatever lives; the answer ends the phase.
    pub(crate) fn end_all(&mut self, epoch: Epoch, fired: bool) {
        let token = self.number();
        let guarded = self.link.is_some();
        self.phase = Phase::Ending { epoch, token: guarded.then_some(token), fired, stuck: false };
        self.surviving = None;
        self.timers.after(STUCK, Timer::Stuck { token });
        if self.command(&Command::EndAll { token }, Vec::new()).is_ok() {
            self.expect_answer();
        } else {
            self.lose_guard("the guard takes no commands, and is killed");
        }
        self.void_preflight();
        for at in 0..self.lives.len() {
            let Some(life) = self.lives.get_mut(at) else { continue };
            life.stop_watching();
            match life.job() {
                Some(job) => {
                    self.step(at, Step::Stopping { job, again: false }, "is being killed".to_owned())
                }
                None if life.step == Step::Failed => {}
                None => self.step(at, Step::Stopped, String::new()),
            }
        }
    }

    /// The end takes long: it is said what survives.
    pub(crate) fn ending_is_stuck(&mut self, of: u64) {
        if !matches!(self.phase, Phase::Ending { token: Some(token), .. } if token == of) {
            return;
        }
        // A guard that does not say it has not long to live.
        if let Some(what) = self.surviving.take() {
            self.report_stuck(what);
        }
        self.timers.after(STUCK, Timer::Stuck { token: of });
    }

    /// Once for each ending.
    pub(crate) fn report_stuck(&mut self, what: String) {
        if let Phase::Ending { epoch, stuck, .. } = &mut self.phase
            && !std::mem::replace(stuck, true)
        {
            let epoch = *epoch;
            tracing::error!(%epoch, %what, "the stop is stuck");
            self.report(Input::StopStuck { epoch, what });
        }
    }

    /// Nothing lives: says so, and looks at the order again.
    pub(crate) fn finish_ending(&mut self) {
        let Phase::Ending { epoch, fired, .. } = self.phase else { return };
        self.phase = Phase::Idle;
        self.jobs.clear();
        for at in 0..self.lives.len() {
            if self.lives.get(at).is_some_and(|life| life.step != Step::Failed) {
                self.step(at, Step::Stopped, String::new());
            }
        }
        // A stop that was called off before it was complete is not reported: the duty goes on under its epoch.
        let goes_on = matches!(self.order, Some(DutyOrder::Run { epoch: wanted, .. }) if wanted == epoch);
        if fired || !goes_on {
            self.report(Input::PluginsReaped { epoch });
        }
        if matches!(self.order, Some(order) if order.epoch() == epoch && !goes_on) {
            self.answered = Some(epoch);
        }
        self.reconcile();
    }

    /// A plugin that was killed is still there. In a stop everything is ended, which names what survives; else it has failed.
    pub(crate) fn survived_its_killing(&mut self, job: JobId) {
        let Some(Purpose::Plugin(at)) = self.jobs.get(&job).copied() else { return };
        match self.phase {
            Phase::Stopping { epoch } => self.end_all(epoch, false),
            Phase::Running { .. } if self.lives.get(at).is_some_and(|life| life.job() == Some(job)) => {
                self.fail(at, format!("has not ended {KILLED:?} after it was killed"));
            }
            Phase::Running { .. } | Phase::Idle | Phase::Ending { .. } => {}
        }
    }
}
