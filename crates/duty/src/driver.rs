//! The loop: wait, feed the machine, publish, carry out.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use failover_core::{
    BootTime, DutyOrder, Effect, Event, EventCode, Input, Machine, Mode, Now, Severity, View,
};
use service_kit::Clock;
use service_kit::ports::TombstoneSecret;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use zeroize::Zeroizing;

use crate::handles::{LINK_QUEUE, Rejections, Sessions};
use crate::recorder::notice;
use crate::stall::StallWatch;
use crate::storage::Storage;
use crate::{Outgoing, Recorder};
use service_kit::latest::LatestSender;

/// How long the end of a run waits for the storage thread.
const LAST_WRITES: Duration = Duration::from_secs(1);

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunEnd {
    /// A requested stop is complete: nothing runs here any more.
    Finished,
    /// Nothing runs here any more, and the node is to start anew with this mode.
    ChangeMode(Mode),
    /// A requested stop took longer than its bound; the guard ends the plugins.
    StopTimedOut,
    /// The supervisor has ended without being asked to: the node cannot go on.
    SupervisorGone,
    /// The system gives no timer to wait with.
    NoTimer,
}

/// The driver of one node.
pub struct Duty {
    pub(crate) queues: Queues,
    pub(crate) machine: Machine,
    /// Not yet carried out: those of the start.
    pub(crate) effects: Vec<Effect>,
    /// The driver's own inputs, before any queue. Holds a handful: each is the answer to one effect or one check.
    pub(crate) pending: VecDeque<Input>,
    pub(crate) stall: StallWatch,
    pub(crate) clock: Clock,
    pub(crate) outgoing: LatestSender<Outgoing>,
    pub(crate) view: watch::Sender<Arc<View>>,
    pub(crate) orders: watch::Sender<Option<DutyOrder>>,
    pub(crate) secrets: mpsc::Sender<TombstoneSecret>,
    pub(crate) sessions: Sessions,
    pub(crate) rejections: Rejections,
    pub(crate) recorder: Recorder,
    pub(crate) storage: Storage,
    pub(crate) handover_on_stop: bool,
    pub(crate) stop_bound: Duration,
    pub(crate) stop_by: Option<BootTime>,
    pub(crate) expired_maintenance: Option<u64>,
}

impl std::fmt::Debug for Duty {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Duty").field("machine", &self.machine).finish_non_exhaustive()
    }
}

/// Where inputs come from.
pub(crate) struct Queues {
    pub(crate) link: mpsc::Receiver<Input>,
    pub(crate) reports: mpsc::Receiver<Input>,
    pub(crate) storage: mpsc::Receiver<Input>,
    pub(crate) operators: mpsc::Receiver<Input>,
    /// Link inputs since something else had its turn.
    pub(crate) link_in_a_row: usize,
}

/// What ended a wait.
enum Woken {
    Input(Input),
    Time,
    StopAsked,
    SupervisorGone,
}

impl Queues {
    /// Waits for the next input, at most until `sleep` ends.
    ///
    /// The link comes before the clock: a heartbeat that waits in the queue is not silence. A full queue's worth of link
    /// inputs in a row gives everything else one turn, so that no peer can hold back the rest.
    ///
    /// Cancel-safe: every branch is.
    async fn next(&mut self, sleep: impl Future<Output = ()>, stop: Option<&CancellationToken>) -> Woken {
        let link_may = self.link_in_a_row < LINK_QUEUE;
        let asked = async {
            match stop {
                Some(stop) => stop.cancelled().await,
                None => std::future::pending().await,
            }
        };
        let woken = tokio::select! {
            biased;
            Some(input) = self.link.recv(), if link_may => {
                self.link_in_a_row += 1;
                return Woken::Input(input);
            }
            report = self.reports.recv() => report.map_or(Woken::SupervisorGone, Woken::Input),
            Some(input) = self.storage.recv() => Woken::Input(input),
            () = asked => Woken::StopAsked,
            () = sleep => Woken::Time,
            Some(input) = self.operators.recv() => Woken::Input(input),
            () = std::future::ready(()), if !link_may => Woken::Time,
        };
        self.link_in_a_row = 0;
        woken
    }
}

impl Duty {
    /// Runs the node until a stop is complete. `stop` asks for one, with or without a hand-over as the settings say.
    pub async fn run(mut self, stop: CancellationToken) -> RunEnd {
        let mut timer = match self.clock.timer() {
            Ok(timer) => timer,
            Err(error) => {
                tracing::error!(%error, "making the driver's timer");
                return RunEnd::NoTimer;
            }
        };
        let started = std::mem::take(&mut self.effects);
        let mut ended = self.carry_out(started);
        let mut asked = false;
        while ended.is_none() {
            let until = self.wait_until();
            let woken = self.queues.next(timer.wait_until(until), (!asked).then_some(&stop)).await;
            asked |= matches!(woken, Woken::StopAsked);
            ended = self.turn(woken);
        }
        self.storage.finish(LAST_WRITES).await;
        ended.unwrap_or(RunEnd::Finished)
    }

    /// When the next wait ends: at the machine's deadline, or to look after the loop's own duties.
    fn wait_until(&mut self) -> BootTime {
        let deadline = [self.machine.deadline(), self.stop_by].into_iter().flatten().min();
        self.stall.plan(deadline, self.machine.attention(self.stall.last()))
    }

    /// One turn: a gap first, then what was waiting inside, then what ended the wait, then what is due by time.
    fn turn(&mut self, woken: Woken) -> Option<RunEnd> {
        let now = self.clock.now();
        if let Some(late_by) = self.stall.woke(now.boot, self.clock.suspended()) {
            self.pending.push_front(Input::Stalled { late_by });
        }
        let stop = Input::StopRequested { handover: self.handover_on_stop };
        match woken {
            Woken::Input(input) => self.pending.push_back(input),
            Woken::StopAsked => self.pending.push_back(stop),
            Woken::Time => {}
            Woken::SupervisorGone => return Some(RunEnd::SupervisorGone),
        }
        self.pending.extend(self.storage.check());
        let expired = self.maintenance_expiry(now);
        self.pending.extend(expired);
        let mut quiet = true;
        while let Some(input) = self.pending.pop_front() {
            quiet = false;
            if let Some(end) = self.feed(now, input) {
                return Some(end);
            }
        }
        if self.machine.deadline().is_some_and(|deadline| deadline <= now.boot) {
            quiet = false;
            if let Some(end) = self.feed(now, Input::Woke) {
                return Some(end);
            }
        }
        if quiet {
            // What the view says of time changes by itself.
            self.publish(now);
        }
        self.stop_by.filter(|by| *by <= now.boot).map(|_late| RunEnd::StopTimedOut)
    }

    /// The wall clock has passed the end of a maintenance window; told once per window.
    fn maintenance_expiry(&mut self, now: Now) -> Option<Input> {
        let published = self.outgoing.get().report;
        let version = published.maintenance.version;
        let over = published.maintenance.window.as_ref().is_some_and(|window| window.until_unix <= now.unix);
        let news = over && self.expired_maintenance != Some(version);
        news.then(|| {
            self.expired_maintenance = Some(version);
            Input::MaintenanceExpired { version }
        })
    }

    /// Feeds the machine, publishes, carries out.
    fn feed(&mut self, now: Now, input: Input) -> Option<RunEnd> {
        if matches!(input, Input::StopRequested { .. }) && self.stop_by.is_none() {
            self.stop_by = Some(now.boot + self.stop_bound);
        }
        let proved = if let Input::SessionProved { session, .. } = &input { Some(*session) } else { None };
        let effects = self.machine.handle(now, input);
        self.publish(now);
        let end = self.carry_out(effects);
        if let Some(session) = proved {
            self.sessions.decide(session);
        }
        end
    }

    /// Watchers are woken only by a change.
    fn publish(&self, now: Now) {
        self.outgoing.change(|outgoing| {
            let changed = outgoing.report.revision != self.machine.revision();
            if changed {
                outgoing.report = Arc::new(self.machine.report());
            }
            changed
        });
        let view = self.machine.view(now);
        let _ = self.view.send_if_modified(|shown| {
            let changed = **shown != view;
            if changed {
                *shown = Arc::new(view);
            }
            changed
        });
    }

    /// Carries effects out in order, also those that come with the end.
    fn carry_out(&mut self, effects: Vec<Effect>) -> Option<RunEnd> {
        let mut end = None;
        for effect in effects {
            match effect {
                Effect::Order(order) => drop(self.orders.send_replace(Some(order))),
                Effect::Announce => {
                    self.outgoing.change(|outgoing| {
                        outgoing.announce = outgoing.announce.wrapping_add(1);
                        true
                    });
                }
                Effect::ArmTombstone { epoch } => self.arm_tombstone(epoch),
                Effect::CloseSession { session, why } => {
                    tracing::info!(session = session.0, why, "closing a session");
                    self.sessions.close(session);
                }
                Effect::ReserveEpochs { up_to } => self.storage.reserve(up_to),
                Effect::Remember(memory) => self.storage.remember(memory),
                Effect::Record(event) => self.record(*event),
                Effect::RequestLicence { .. } => {
                    // No arbiter runs in this version: the settings refuse every mode that would need one.
                    self.pending.push_back(Input::LicenceChanged(failover_core::Licence::Refused));
                }
                Effect::ReleaseLicence { .. } => {}
                Effect::Finish => end = Some(RunEnd::Finished),
                Effect::ChangeMode { mode } => end = Some(RunEnd::ChangeMode(mode)),
            }
        }
        end
    }

    /// Journals an event of the machine. Peers that know the key and are turned away all the same are counted like
    /// strangers, and one that comes again and again does not fill the journal either.
    fn record(&self, event: Event) {
        if event.code == EventCode::SessionRejected {
            return self.rejections.add("other_node", event.sentence);
        }
        if event.code == EventCode::PeerRefused {
            self.rejections.count("peer_refused");
        }
        self.recorder.record(event);
    }

    /// Gives the guard a fresh secret. Without one the peer goes by silence: slower, not less safe.
    fn arm_tombstone(&self, epoch: failover_core::Epoch) {
        let mut secret = Zeroizing::new([0; 32]);
        let armed = match getrandom::fill(secret.as_mut_slice()) {
            Ok(()) => self
                .secrets
                .try_send(TombstoneSecret { epoch, secret })
                .map_err(|_full| "the supervisor does not take it".to_owned()),
            Err(error) => Err(error.to_string()),
        };
        if let Err(why) = armed {
            let sentence =
                format!("no tombstone for epoch {epoch} ({why}): a crash is noticed by silence only");
            self.recorder.record(notice(EventCode::PluginChanged, Severity::Warn, sentence, Some(epoch)));
        }
    }
}
