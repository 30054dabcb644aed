//! The parts that the machine is made of: plain data with a word on what each field is for.

use core::time::Duration;

use super::pause::Pause;
use crate::{BootTime, Effect, Epoch, Handover, Licence, Mode, Procedure, RequestId, TombstonePromise};

/// The duty while this node has it, from the order to start until every plugin is reaped.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Duty {
    /// The fencing token.
    pub(super) epoch: Epoch,
    /// When the order to start was given.
    pub(super) taken: BootTime,
    /// When every plugin was ready.
    pub(super) ready: Option<BootTime>,
    /// What the outage is counted from: the peer's last sign of life, or the order to stop in a planned move.
    pub(super) lost: Option<BootTime>,
    /// Why the duty was taken, for the event that says it is complete.
    pub(super) grounds: Grounds,
    /// The promise of a tombstone, once the guard keeps the secret for the session of now.
    pub(super) tombstone: Option<TombstonePromise>,
}

/// Why a node may take the duty.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Grounds {
    /// Which kind.
    pub(super) kind: Kind,
    /// One sentence for people.
    pub(super) sentence: String,
    /// What led to it.
    pub(super) cause: String,
    /// The move it belongs to.
    pub(super) request: Option<RequestId>,
    /// Whether no person asked for it: it counts for the flap latch.
    pub(super) automatic: bool,
}

/// The kinds of grounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Kind {
    /// The peer is silent for long enough.
    Silence,
    /// The peer's guard proved that nothing runs there; or, opt-in, every address refuses.
    Proof,
    /// The start table.
    Start,
    /// The peer released the duty to this node.
    Released,
    /// Nobody could use this node's release, or the hand-over broke before it: it is this node's again.
    Back,
    /// A person said so.
    ByHand,
    /// Mode `deactivated`.
    Alone,
}

/// How a stop under way ends.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Leaving {
    /// Where it leads.
    pub(super) then: Then,
    /// The planned move it serves.
    pub(super) handover: Option<Handover>,
}

/// What follows a stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Then {
    /// Standby; nothing is released to anybody (the workload failed and stays here).
    Standby,
    /// Standby, and the duty is the peer's: a hand-over, a health move, the loser of a conflict.
    Release,
    /// Standby with a release whatever the peer's fitness: the loser of a conflict.
    Concede,
    /// `Starting` with a full wait: the guard had fired.
    Restart,
}

/// Whether this node could run the plugins.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Health {
    /// What preflight says.
    pub(super) preflight: Option<String>,
    /// What the data directory says.
    pub(super) storage: Option<String>,
    /// Failed starts in a row, for the backoff.
    pub(super) failures: u32,
    /// No start before this.
    pub(super) retry: Option<BootTime>,
    /// What failed last.
    pub(super) failed: String,
    /// Whether it was fit when last looked at, and since when it is what it was.
    pub(super) seen: Option<(bool, BootTime)>,
    /// Since when the node is fit.
    pub(super) fit_since: Option<BootTime>,
    /// The end of the last stall, until an acknowledgement of something sent later, or a full takeover time.
    pub(super) stalled: Option<BootTime>,
}

/// Planned moves.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Moves {
    /// What the report says of them.
    pub(super) procedure: Procedure,
    /// When `offer`, `ask` or `released` lapse by themselves.
    pub(super) expires: Option<BootTime>,
    /// The peer's epoch when this node asked, or gave way to it: another one means that it went on.
    pub(super) against: Option<Epoch>,
    /// The move that `released` belongs to, for the event that closes it.
    pub(super) releasing: Option<Handover>,
    /// `released` ends a conflict: it is no hand-over that could be reported as done.
    pub(super) conceded: bool,
    /// The last requests that were dealt with; a report that still repeats one changes nothing.
    pub(super) settled: Vec<RequestId>,
    /// Makes the ids of the moves that the machine begins itself.
    pub(super) counter: u64,
    /// A person moved the duty away from this primary: no automatic return until something else moves it.
    pub(super) return_held: bool,
    /// No automatic return before this, after one that did not succeed.
    pub(super) return_after: Option<BootTime>,
    /// How many of them in a row did not succeed: the wait doubles.
    pub(super) return_failures: u32,
    /// The mode is to become `deactivated`, once the peer has heard of it.
    pub(super) deactivating: Option<Deactivating>,
}

/// A change to mode `deactivated` that the peer is being told of.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Deactivating {
    /// The request.
    pub(super) request: RequestId,
    /// Since when the reports say so.
    pub(super) since: BootTime,
    /// Until when the peer must have heard of it.
    pub(super) until: BootTime,
}

impl Moves {
    /// Whether a move is under way, so that automatic decisions wait.
    pub(super) const fn under_way(&self) -> bool {
        let procedure = &self.procedure;
        procedure.offer.is_some()
            || procedure.ask.is_some()
            || procedure.released.is_some()
            || self.deactivating.is_some()
    }

    /// How many settled requests are remembered: more than two nodes can have under way at once; the oldest goes.
    const SETTLED: usize = 8;

    pub(super) fn settle(&mut self, request: &RequestId) {
        if !self.settled.contains(request) {
            if self.settled.len() == Self::SETTLED {
                self.settled.remove(0);
            }
            self.settled.push(request.clone());
        }
    }
}

/// Both nodes active.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Conflict {
    /// When this node saw it.
    pub(super) found: BootTime,
    /// From when both were active, as far as this node can know.
    pub(super) began: BootTime,
    /// The other node's epoch.
    pub(super) peer_epoch: Option<Epoch>,
    /// Whether this node keeps the duty.
    pub(super) keep: bool,
    /// How long it lasted at most, as the loser has told.
    pub(super) told_ms: Option<u64>,
}

/// The witness's licence.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct LicenceState {
    /// The newest.
    pub(super) held: Option<(Epoch, Option<BootTime>)>,
    /// When it was last asked for and which epoch, while unanswered.
    pub(super) asked: Option<(Epoch, BootTime)>,
    /// A person takes the duty by hand, and the answer is awaited.
    pub(super) by_hand: Option<Grounds>,
}

impl LicenceState {
    pub(super) fn note(&mut self, licence: Licence) {
        self.asked = match licence {
            Licence::Granted { .. } => None,
            // The time stays: it paces the next request.
            Licence::Refused => self.asked,
        };
        self.held = match licence {
            Licence::Granted { epoch, until } => Some((epoch, until)),
            Licence::Refused => None,
        };
    }

    pub(super) fn valid(&self, now: BootTime) -> Option<Epoch> {
        self.held.and_then(|(epoch, until)| until.is_none_or(|until| now < until).then_some(epoch))
    }
}

/// A requested stop, for good or for a start in another mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Stopping {
    /// The mode in which the node starts again; `None`: it ends.
    pub(super) mode: Option<Mode>,
    /// Whether the duty goes to the peer first.
    pub(super) handover: bool,
    /// `Effect::Finish` or `Effect::ChangeMode` was given.
    pub(super) finished: bool,
}

impl Stopping {
    /// What the node does, for sentences that begin with "it" or "this node".
    pub(super) const fn words(&self) -> &'static str {
        match self.mode {
            Some(_) => "changes its mode",
            None => "is being stopped",
        }
    }
}

/// What has been said already, so that a lasting condition is said once.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Said {
    /// `peer_disconnected` stands.
    pub(super) disconnected: bool,
    /// `peer_connected` was said at least once or `peer_disconnected` was.
    pub(super) link_known: bool,
    /// The reason of the last `node_unfit`.
    pub(super) unfit: Option<String>,
    /// The reason of the last `peer_unfit`.
    pub(super) peer_unfit: Option<String>,
    /// The reason why a takeover that is due is held back.
    pub(super) held: Option<String>,
    /// How soon it may be said again.
    pub(super) held_pause: Pause,
    /// When it is looked at again, because it was not said.
    pub(super) held_due: Option<BootTime>,
    /// The reason why two active nodes cannot be healed.
    pub(super) clash: bool,
    /// The epoch whose release ended the last conflict: what its report repeats is no news.
    pub(super) conflict_over: Option<Epoch>,
    /// The peer runs without redundancy.
    pub(super) standalone: bool,
    /// `redundancy_active` stands (secondary).
    pub(super) redundancy_active: bool,
    /// `flap_latched` stands.
    pub(super) latched: bool,
    /// When the latch is looked at again.
    pub(super) latch_check: Option<BootTime>,
    /// Both nodes are connected and nobody is active since.
    pub(super) dark: Option<BootTime>,
}

/// Effects on their way out. Empty between calls, therefore without weight in comparisons.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Outbox(Vec<Effect>);

impl core::hash::Hash for Outbox {
    fn hash<H: core::hash::Hasher>(&self, state: &mut H) {
        self.0.len().hash(state);
    }
}

impl Outbox {
    pub(super) fn push(&mut self, effect: Effect) {
        self.0.push(effect);
    }

    pub(super) fn take(&mut self) -> Vec<Effect> {
        core::mem::take(&mut self.0)
    }
}

/// A span in words: whole seconds, else milliseconds.
pub(super) fn words(span: Duration) -> String {
    let millis = span.as_millis();
    if millis >= 1000 && millis.is_multiple_of(1000) {
        format!("{} s", millis / 1000)
    } else if millis >= 1000 {
        format!("{}.{:03} s", millis / 1000, millis % 1000).replace("00 s", " s")
    } else {
        format!("{millis} ms")
    }
}
