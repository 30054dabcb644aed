//! What the guard says, what its silence means, and what follows from its death.
//!
//! ```text
//!   asked (a lease or a stop begins, every 20th renewal, everything is to be ended, each preflight) ── answer ──► well
//!      │ nothing within a second, or 40 ms after the lease's end
//!      └──► asked once more ── 2 s, or 20 ms after the lease's end ──► killed ──► what it left is ended, then another one
//!                                                                                 is started
//! ```
//!
//! While it ends everything it says each second what survives: one that is mute for two seconds is killed as well.
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
use crate::wire::{Command, Event, Received};

/// One renewal in so many is a message that the guard answers: it has nothing else to do while all is well.
const UNPROVED: u32 = 20;
/// How long it may take to answer: nothing is late yet, and the machine may be loaded.
const ANSWER: Duration = Duration::from_secs(1);
/// How much later than its lease's end a guard that did nothing is killed itself.
const SILENCE: Duration = Duration::from_millis(40);
/// How long a guard that ends everything may be mute: it says each second what survives.
const WORKING: Duration = Duration::from_secs(2);
/// And after this long again without a sign, when plugins may live that must not.
const LAST_CHANCE: Duration = Duration::from_millis(20);
/// And when nothing is late: the machine may be loaded.
const PATIENCE: Duration = Duration::from_secs(2);

/// What is expected of the guard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Owes {
    /// It has nothing to do while all is well.
    Nothing,
    /// It was asked.
    Answer,
    /// It ends everything, and says what survives.
    Progress,
}

impl Core {
    /// Hands the lease of the order on, before anything else is done with it.
    pub(crate) fn renew(&mut self) {
        let Some((epoch, hold_until)) = self.lease_of_order() else { return };
        let Some(link) = &mut self.link else { return };
        self.unproved_renewals += 1;
        match link.renew(epoch, hold_until) {
            Ok(true) => self.expect_answer(),
            Ok(false) if self.unproved_renewals >= UNPROVED && self.owes == Owes::Nothing => {
                link.tell_lease(epoch);
                self.expect_answer();
            }
            Ok(false) => {}
            // The guard ends the plugins when the lease of before is over.
            Err(error) => tracing::error!(%error, "the lease cannot be renewed"),
        }
    }

    pub(crate) fn expect_answer(&mut self) {
        self.owes = Owes::Answer;
        self.timers.at_latest(ANSWER, Timer::GuardSilent { last_chance: false });
    }

    /// Asks whether it is there, when nothing else is to be said: a guard is needed before it is used.
    pub(crate) fn ask_guard(&mut self) {
        if self.link.is_some() && self.command(&Command::Ask, Vec::new()).is_ok() {
            self.expect_answer();
        }
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
            Sign::LeaseOver if self.lease_of_order().is_some() || self.has_not_heard_of_the_end() => {
                self.timers.at_latest(SILENCE, Timer::GuardSilent { last_chance: false });
            }
            Sign::LeaseOver => {}
        }
    }

    fn heard(&mut self, received: Received<Event>) {
        match received {
            Received::Message(event, passed) => self.understand(event, passed),
            Received::Garbage(why) => tracing::warn!(%why, "the guard sent something unreadable"),
            Received::Nothing => {}
            Received::Closed => self.lose_guard("the guard died"),
        }
    }

    fn understand(&mut self, event: Event, passed: Vec<OwnedFd>) {
        match event {
            // What was said before the kill says nothing about it.
            Event::Here | Event::Held { .. } if matches!(self.phase, Phase::Ending { .. }) => {}
            Event::Here | Event::Held { .. } => self.guard_answers(),
            Event::Ending { token } => {
                if matches!(self.phase, Phase::Ending { token: Some(asked), .. } if asked == token) {
                    self.guard_works();
                }
            }
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
                self.guard_works();
                tracing::warn!(%what, "killed processes still live");
                self.surviving = Some(what);
            }
            Event::Buried { epoch } => {
                // Those before it were lost on the way.
                while let Some((promised, sha256)) = self.burying.pop_front() {
                    if promised == epoch {
                        self.report(Input::TombstoneArmed { epoch: Epoch(epoch), sha256 });
                        break;
                    }
                }
            }
            Event::Refused { why } => tracing::warn!(%why, "the guard refused a command"),
            Event::Ready | Event::Entered { .. } | Event::CannotContain { .. } => {
                tracing::warn!(?event, "the guard greets again");
            }
        }
    }

    /// Whatever runs, or is being ended, ran under that lease or in the place of what did: its epoch is over, too. (The end of
    /// an epoch before this run's first is old news.)
    fn lease_ran_out(&mut self, of: Epoch) {
        self.fired = self.fired.max(Some(of));
        self.void_preflight();
        if of < self.begun {
            return;
        }
        let current = match &mut self.phase {
            Phase::Running { epoch, .. } | Phase::Stopping { epoch } => *epoch,
            Phase::Ending { epoch, fired: told @ false, .. } => {
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
        (self.unproved_renewals, self.owes) = (0, Owes::Nothing);
        self.timers.forget(Timer::GuardSilent { last_chance: false });
        // It still has to act on that.
        if self.lease_of_order().is_some() && self.link.as_ref().is_some_and(Link::lease_is_over) {
            self.timers.after(SILENCE, Timer::GuardSilent { last_chance: false });
        }
    }

    /// Everything is being ended: the next word is due soon.
    fn guard_works(&mut self) {
        self.guard_answers();
        if matches!(self.phase, Phase::Ending { .. }) {
            self.owes = Owes::Progress;
            self.timers.at_latest(WORKING, Timer::GuardSilent { last_chance: false });
        }
    }

    /// What it has said already counts, also when this process itself has just been frozen and hears it late. Whether there
    /// was anything.
    fn hear_what_was_said(&mut self) -> bool {
        let mut any = false;
        while let Some(link) = &mut self.link {
            match link.take() {
                Received::Nothing => break,
                received @ (Received::Message(..) | Received::Garbage(_) | Received::Closed) => {
                    any = true;
                    self.heard(received);
                }
            }
        }
        any
    }

    /// A guard that owes a word, or has not acted on a lease that is over, is stopped or stuck. Or the whole machine
    /// stood still: it is asked once more, and gets a moment to wake up.
    pub(crate) fn check_silence(&mut self, last_chance: bool) {
        let speaks = self.hear_what_was_said();
        let lease = self.lease_of_order();
        let Some(link) = &mut self.link else { return };
        if self.owes == Owes::Nothing && (lease.is_none() || !link.lease_is_over()) {
            return;
        }
        if speaks {
            // Whatever it was: it wakes up just now. What it said may have set the time for its next word.
            if !self.timers.is_set(Timer::GuardSilent { last_chance: false }) {
                self.timers.after(SILENCE, Timer::GuardSilent { last_chance: false });
            }
        } else if last_chance {
            self.lose_guard("the guard neither answers nor acts on its lease, and is killed");
        } else {
            let late = self.phase != Phase::Idle && link.lease_is_over();
            if let Some((epoch, _)) = lease {
                link.tell_lease(epoch);
            }
            let patience = if late { LAST_CHANCE } else { PATIENCE };
            self.timers.after(patience, Timer::GuardSilent { last_chance: true });
        }
    }

    /// Everything is to be ended, and whether it knows is not known.
    fn has_not_heard_of_the_end(&self) -> bool {
        matches!(self.phase, Phase::Ending { .. }) && self.owes == Owes::Answer
    }

    /// The guard is dead, or is to be: it, and what it leaves, is ended by the keeper, and then there is room for another one.
    pub(crate) fn lose_guard(&mut self, why: &str) {
        let Some(link) = self.link.take() else { return };
        tracing::error!("{why}");
        self.owes = Owes::Nothing;
        self.timers.forget(Timer::GuardSilent { last_chance: false });
        self.guard_trouble = Some("the guard is not running".to_owned());
        self.burying.clear();
        self.void_preflight();
        match self.phase {
            Phase::Running { epoch, .. } | Phase::Stopping { epoch } => {
                self.fired = self.fired.max(Some(epoch));
                self.report(Input::GuardFired { epoch, why: format!("{why}, and the plugins with it") });
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
                (self.unproved_renewals, self.owes) = (0, Owes::Nothing);
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
