//! What the guard says, what its silence means, and what follows from its death.
//!
//! ```text
//!   asked (a lease begins, every 20th renewal, everything is to be ended) ── answer ──► well
//!      │ nothing within a second, or 40 ms after the lease's end
//!      └──► asked once more ── 20 ms ──► killed ──► what it left is ended, then another one is started
//! ```
//!
//! The guard may stand still while this process does not, and the other way round; or the whole machine did. So before it
//! is killed, what it has said already is heard, and it gets a moment to wake up.

use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Duration;

use failover_core::{BootTime, DutyOrder, Epoch, Input};

use crate::core::Core;
use crate::duty::Phase;
use crate::guard_keeper::Job;
use crate::guard_process::GuardProcess;
use crate::link::{Link, Sign};
use crate::timers::Timer;
use crate::wire::{Event, Received};

/// One renewal in so many is a message that the guard answers: it has nothing else to do while all is well.
const UNPROVED: u32 = 20;
/// How long it may take to answer: nothing is late yet, and the machine may be loaded.
const ANSWER: Duration = Duration::from_secs(1);
/// How much later than its lease's end a guard that did nothing is killed itself.
const SILENCE: Duration = Duration::from_millis(40);
/// And after this long again without a sign.
const LAST_CHANCE: Duration = Duration::from_millis(20);

impl Core {
    /// Hands the lease of the order on, before anything else is done with it.
    pub(crate) fn renew(&mut self) {
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

    pub(crate) fn expect_answer(&mut self) {
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

    /// Something from the guard's side.
    pub(crate) fn see(&mut self, sign: Sign) {
        match sign {
            Sign::Said(received) => self.heard(received),
            Sign::LeaseOver if self.guard_asked || self.lease_of_order().is_some() => {
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
            Event::Held { epoch: _ } | Event::Ending { token: _ } => self.guard_answers(),
            Event::Started { job, pid } => self.started(job, passed.first().map_or(Some(pid), host_pid)),
            Event::StartFailed { job, why } => self.start_failed(job, why),
            Event::Exited { job, end } => self.exited(job, end),
            Event::Fired { epoch } => self.lease_ran_out(Epoch(epoch)),
            Event::Empty { token } => {
                self.guard_answers();
                if matches!(self.phase, Phase::Ending { token: Some(asked), .. } if asked == token) {
                    self.finish_ending();
                }
            }
            Event::Surviving { what } => {
                self.guard_answers();
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

    /// Whatever runs, or is being ended, ran under that lease or in the place of what did: its epoch is over, too.
    fn lease_ran_out(&mut self, of: Epoch) {
        self.fired = self.fired.max(Some(of));
        let current = match &mut self.phase {
            Phase::Running { epoch, .. } | Phase::Stopping { epoch } => *epoch,
            Phase::Ending { epoch, fired: told @ false, .. } if of >= *epoch => {
                *told = true;
                *epoch
            }
            Phase::Idle | Phase::Ending { .. } => return,
        };
        self.fired = self.fired.max(Some(current));
        let why = "the duty lease ran out before it was renewed".to_owned();
        self.report(Input::GuardFired { epoch: current, why });
        if !matches!(self.phase, Phase::Ending { .. }) {
            self.end_all(current, true);
        }
    }

    fn guard_answers(&mut self) {
        (self.unproved_renewals, self.guard_asked) = (0, false);
        if self.link.as_ref().is_some_and(|link| !link.lease_is_over()) {
            self.timers.forget(Timer::GuardSilent { last_chance: false });
        }
    }

    /// What it has said already counts, also when this process itself has just been frozen and hears it late.
    pub(crate) fn hear_what_was_said(&mut self) {
        while let Some(link) = &mut self.link {
            match link.take() {
                Received::Nothing => break,
                received @ (Received::Message(..) | Received::Garbage(_) | Received::Closed) => {
                    self.heard(received)
                }
            }
        }
    }

    /// A guard that owes an answer, or has not acted on a lease that is over, is stopped or stuck. Or the whole machine
    /// stood still: it is asked once more, and gets a moment to wake up.
    pub(crate) fn check_silence(&mut self, last_chance: bool) {
        self.hear_what_was_said();
        let lease = self.lease_of_order();
        let Some(link) = &mut self.link else { return };
        if !self.guard_asked && (lease.is_none() || !link.lease_is_over()) {
            return;
        }
        if last_chance {
            self.kill_guard("it neither answers nor acts on its lease");
        } else {
            self.guard_asked = true;
            if let Some((epoch, _)) = lease {
                link.tell_lease(epoch);
            }
            self.timers.replace(LAST_CHANCE, Timer::GuardSilent { last_chance: true });
        }
    }

    /// What it leaves is ended when its end is seen. (None is there, or it is dead already: then that is under way.)
    pub(crate) fn kill_guard(&self, why: &str) {
        if let Some(link) = &self.link {
            tracing::error!(why, "the guard stands still and is killed");
            crate::procfs::kill(&link.process.pidfd);
        }
    }

    /// The guard is dead. What it left is ended by the keeper, and then there is room for another guard.
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
        if !self.keeper.give(Job::End(Box::new(link.into_process()))) {
            self.report_stuck("the thread that looks for what the guard left has ended".to_owned());
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
        if !self.keeper.give(Job::Start) {
            self.guard_started(Err("the thread that starts guards has ended".to_owned()));
        }
    }

    pub(crate) fn guard_started(&mut self, outcome: Result<Box<GuardProcess>, String>) {
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
}

/// The id by which this machine knows the process behind a pidfd of another namespace.
fn host_pid(pidfd: &OwnedFd) -> Option<i32> {
    let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", pidfd.as_raw_fd())).ok()?;
    let pid = info.lines().find_map(|line| line.strip_prefix("Pid:"))?;
    pid.trim().parse().ok().filter(|pid| *pid > 0)
}
