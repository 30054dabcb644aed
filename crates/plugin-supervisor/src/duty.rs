//! What the standing order means now: beginning, renewing and ending a duty, and what the guard says about it.
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
//! the epoch lives.

use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Duration;

use failover_core::{BootTime, DutyOrder, Epoch, Input};

use crate::core::{Core, Internal, Purpose};
use crate::life::Step;
use crate::link::{Link, Sign};
use crate::timers::Timer;
use crate::wire::{Command, Event, JobId, Received};

/// What was killed should be gone within this time; beyond it the stop is stuck.
const STUCK: Duration = Duration::from_secs(5);
/// How long plugins wait for the epoch file; a stalled disk delays them no longer.
const EPOCH_FILE: Duration = Duration::from_millis(5);
/// One renewal in so many is a message that the guard answers: it has nothing else to do while all is well.
const UNPROVED: u32 = 20;
/// How long it may take to answer: nothing is late yet, and the machine may be loaded.
const ANSWER: Duration = Duration::from_secs(1);
/// How much later than its lease's end a guard that did nothing is killed itself.
const SILENCE: Duration = Duration::from_millis(40);
/// And after this long again without a sign.
const LAST_CHANCE: Duration = Duration::from_millis(20);

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

    /// Hands the lease of the order on, before anything else is done with it.
    fn renew(&mut self) {
        let Some((epoch, hold_until)) = self.lease_of_order() else { return };
        let Some(link) = &mut self.link else { return };
        self.unproved_renewals += 1;
        match link.renew(epoch, hold_until) {
            Ok(true) => self.expect_answer(),
            Ok(false) if self.unproved_renewals >= UNPROVED && !self.guard_asked => {
                link.tell_lease(epoch);
                self.expect_answer();
            }
            Ok(false) => {}
            // The guard ends the plugins when the lease of before is over.
            Err(error) => tracing::error!(%error, "the lease cannot be renewed"),
        }
    }

    fn expect_answer(&mut self) {
        self.guard_asked = true;
        self.timers.replace(ANSWER, Timer::GuardSilent { last_chance: false });
    }

    /// The lease that what runs now lives by.
    fn lease_of_order(&self) -> Option<(u64, BootTime)> {
        let order = self.order?;
        let lives = match self.phase {
            Phase::Running { epoch, .. } | Phase::Stopping { epoch } => order.epoch() >= epoch,
            Phase::Idle | Phase::Ending { .. } => false,
        };
        order.hold_until().filter(|_| lives).map(|until| (order.epoch().0, until))
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
        self.guard_asked = false;
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
        let sent = self.command(&Command::EndAll { token }, Vec::new()).is_ok();
        self.phase = Phase::Ending { epoch, token: sent.then_some(token), fired, stuck: false };
        self.surviving = None;
        self.timers.after(STUCK, Timer::Stuck { token });
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

    pub(crate) fn ending_is_stuck(&mut self, of: u64) {
        if let Phase::Ending { token: Some(token), .. } = self.phase
            && token == of
        {
            let what = self.surviving.take();
            self.report_stuck(what.unwrap_or_else(|| "the guard does not say what survives".to_owned()));
        }
    }

    /// Once for each ending.
    fn report_stuck(&mut self, what: String) {
        if let Phase::Ending { epoch, stuck, .. } = &mut self.phase
            && !std::mem::replace(stuck, true)
        {
            let epoch = *epoch;
            tracing::error!(%epoch, %what, "the stop is stuck");
            self.report(Input::StopStuck { epoch, what });
        }
    }

    /// Nothing lives: says so, and looks at the order again.
    fn finish_ending(&mut self) {
        let Phase::Ending { epoch, fired, .. } = self.phase else { return };
        self.phase = Phase::Idle;
        self.jobs.retain(|_, purpose| matches!(purpose, Purpose::Preflight(_)));
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

    /// Something from the guard's side.
    pub(crate) fn see(&mut self, sign: Sign) {
        match sign {
            Sign::Said(received) => self.heard(received),
            Sign::LeaseOver if self.lease_of_order().is_some() => {
                self.timers.replace(SILENCE, Timer::GuardSilent { last_chance: false });
            }
            Sign::LeaseOver => {}
        }
    }

    fn heard(&mut self, received: Received<Event>) {
        match received {
            Received::Message(event, passed) => self.understand(event, passed),
            Received::Garbage(why) => tracing::warn!(%why, "the guard sent something unreadable"),
            Received::Nothing => {}
            Received::Closed => self.lose_guard(),
        }
    }

    fn understand(&mut self, event: Event, passed: Vec<OwnedFd>) {
        match event {
            Event::Held { epoch: _ } => self.guard_answers(),
            Event::Started { job, pid } => self.started(job, passed.first().map_or(Some(pid), host_pid)),
            Event::StartFailed { job, why } => self.start_failed(job, why),
            Event::Exited { job, end } => self.exited(job, end),
            Event::Fired { epoch } => self.lease_ran_out(Epoch(epoch)),
            Event::Empty { token } => {
                if matches!(self.phase, Phase::Ending { token: Some(asked), .. } if asked == token) {
                    self.finish_ending();
                }
            }
            Event::Surviving { what } => {
                tracing::warn!(%what, "killed processes still live");
                self.surviving = Some(what);
            }
            Event::Buried { epoch } => {
                if let Some((_, sha256)) = self.burying.pop_front().filter(|(promised, _)| *promised == epoch)
                {
                    self.report(Input::TombstoneArmed { epoch: Epoch(epoch), sha256 });
                }
            }
            Event::Refused { why } => tracing::warn!(%why, "the guard refused a command"),
            Event::Ready | Event::Entered { .. } | Event::CannotContain { .. } => {
                tracing::warn!(?event, "the guard greets again");
            }
        }
    }

    fn lease_ran_out(&mut self, epoch: Epoch) {
        self.fired = self.fired.max(Some(epoch));
        match self.phase {
            Phase::Running { epoch: current, .. } | Phase::Stopping { epoch: current } => {
                let why = "the duty lease ran out before it was renewed".to_owned();
                self.report(Input::GuardFired { epoch: current, why });
                self.end_all(current, true);
            }
            Phase::Idle | Phase::Ending { .. } => {}
        }
    }

    fn guard_answers(&mut self) {
        (self.unproved_renewals, self.guard_asked) = (0, false);
        if self.link.as_ref().is_some_and(|link| !link.lease_is_over()) {
            self.timers.forget(Timer::GuardSilent { last_chance: false });
        }
    }

    /// A guard that owes an answer, or has not acted on a lease that is over, is stopped or stuck. Or the whole machine
    /// stood still: it is asked once more, and gets a moment to wake up.
    pub(crate) fn check_silence(&mut self, last_chance: bool) {
        // What it has said already counts, also when this process itself has just been frozen and hears it late.
        while let Some(link) = &mut self.link {
            match link.take() {
                Received::Nothing => break,
                received @ (Received::Message(..) | Received::Garbage(_) | Received::Closed) => {
                    self.heard(received)
                }
            }
        }
        let (Some((epoch, _)), Some(link)) = (self.lease_of_order(), &mut self.link) else {
            self.guard_asked = false;
            return;
        };
        if !self.guard_asked && !link.lease_is_over() {
            return;
        }
        if last_chance {
            tracing::error!("the guard does not act on its lease and is killed");
            crate::procfs::kill(&link.process.pidfd);
        } else {
            self.guard_asked = true;
            link.tell_lease(epoch);
            self.timers.replace(LAST_CHANCE, Timer::GuardSilent { last_chance: true });
        }
    }

    /// The guard is dead. What it left is ended by a thread, which then makes room for another guard.
    fn lose_guard(&mut self) {
        let Some(link) = self.link.take() else { return };
        tracing::error!("the guard died");
        self.guard_trouble = Some("the guard is not running".to_owned());
        self.burying.clear();
        self.void_preflight();
        match self.phase {
            Phase::Running { epoch, .. } | Phase::Stopping { epoch } => {
                self.fired = self.fired.max(Some(epoch));
                self.report(Input::GuardFired {
                    epoch,
                    why: "the guard died, and the plugins with it".to_owned(),
                });
                self.end_all(epoch, true);
            }
            Phase::Ending { ref mut token, .. } => *token = None,
            Phase::Idle => {}
        }
        self.report_fitness();
        self.dirty = true;
        let process = link.into_process();
        let internals = self.internals.clone();
        let spawned = std::thread::Builder::new().name("guard-end".to_owned()).spawn(move || {
            let run = process.run.clone();
            let mut outcome = process.destroy();
            while let Err(what) = outcome {
                if internals.blocking_send(Internal::GuardRemains(what)).is_err() {
                    return;
                }
                outcome = crate::leftovers::end_all_of(&run).map(drop);
            }
            // The supervisor may have ended meanwhile; then nobody asks any more.
            let _ = internals.blocking_send(Internal::GuardGone);
        });
        if let Err(error) = spawned {
            self.report_stuck(format!("what the guard left cannot be looked for: {error}"));
        }
    }

    pub(crate) fn guard_remains(&mut self, what: String) {
        self.report_stuck(what);
    }

    pub(crate) fn guard_is_gone(&mut self) {
        self.finish_ending();
        self.start_guard();
    }

    pub(crate) fn start_guard(&mut self) {
        let (starter, internals) = (self.context.starter.clone(), self.internals.clone());
        let spawned = std::thread::Builder::new().name("guard-start".to_owned()).spawn(move || {
            let started = starter.start().map(Box::new);
            // The supervisor may have ended meanwhile: then the guard's socket closes, and it goes.
            let _ = internals.blocking_send(Internal::GuardStarted(started));
        });
        if let Err(error) = spawned {
            self.guard_started(Err(error.to_string()));
        }
    }

    pub(crate) fn guard_started(&mut self, outcome: Result<Box<crate::guard_process::GuardProcess>, String>) {
        match outcome.and_then(|process| Link::new(*process).map_err(|error| error.to_string())) {
            Ok(link) => {
                tracing::info!(containment = ?link.level(), pid = link.run().guard.pid, "another guard runs");
                self.link = Some(link);
                (self.unproved_renewals, self.guard_asked) = (0, false);
                self.guard_trouble = None;
                self.reset_respawn();
                self.pass_line();
                self.begin_preflight();
                self.reconcile();
            }
            Err(why) => {
                tracing::error!(%why, "no guard can be started");
                self.guard_trouble = Some(format!("the guard cannot be started: {why}"));
                if let Some(DutyOrder::Run { epoch, .. }) = self.order
                    && self.phase == Phase::Idle
                    && self.fired.is_none_or(|fired| fired < epoch)
                {
                    self.report(Input::PluginsFailed {
                        epoch,
                        why: format!("the guard cannot be started: {why}"),
                    });
                }
                let after = self.grow_respawn();
                self.timers.after(after, Timer::GuardRespawn);
            }
        }
        self.report_fitness();
        self.dirty = true;
    }

    /// A plugin that was killed is still there: everything is ended, which names what survives.
    pub(crate) fn survived_its_killing(&mut self, job: JobId) {
        if let (Some(Purpose::Plugin(_)), Phase::Stopping { epoch }) = (self.jobs.get(&job), self.phase) {
            self.end_all(epoch, false);
        }
    }
}

/// The id by which this machine knows the process behind a pidfd of another namespace.
fn host_pid(pidfd: &OwnedFd) -> Option<i32> {
    let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", pidfd.as_raw_fd())).ok()?;
    let pid = info.lines().find_map(|line| line.strip_prefix("Pid:"))?;
    pid.trim().parse().ok().filter(|pid| *pid > 0)
}
