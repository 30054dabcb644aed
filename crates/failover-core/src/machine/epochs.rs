//! Fencing tokens: unique in the pair, increasing, reserved before they are used.
//!
//! ```text
//!   seen      the highest epoch known of either node
//!   floor     what may have been used by a run that left no trace: everything reserved before
//!   reserved  durably ours; a takeover takes one and writes nothing
//! ```
//!
//! The parity is the node's own and stays when its role changes: were it the role's, the two nodes of a pair that is being
//! swapped would for a while number alike. It is that of the epochs reserved on disk. Two nodes that meet with the same
//! one (one is new, or both began with the same role) settle it between them: exactly one of them goes over.
//!
//! A lost file is made good by a jump ahead, also when the peer knows epochs: a run that died may have used some that it
//! told nobody. The reserve is filled while nothing is at stake (`Starting`, `Standby`). When it is used up, or the disk stalls,
//! epochs are taken from memory with an alarm: a failover never waits for a disk.

use super::words::Saying;
use super::{Machine, Now};
use crate::{BootTime, Effect, Epoch, EventCode, Memory, Report, Role, Severity, State, timing};

/// How many epochs one reservation covers.
const RESERVE: u64 = 16;
/// Below this many the reserve is filled up again: a write every eight takeovers, and eight in hand when the disk fails.
const REFILL_BELOW: u64 = 8;
/// How far beyond every known epoch a jump leads at least: further than runs without a witness can have counted.
const JUMP: u64 = 1 << 16;
/// Epochs beyond this cannot come from counting: a peer that names one is broken, and following it would leave none.
const CREDIBLE: u64 = u64::MAX / 2;

/// What this node knows of epochs.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Epochs {
    parity: Role,
    /// Since when, if it was changed in this run: only an answer to something sent later tells what the peer made of it.
    parity_since: Option<BootTime>,
    seen: Epoch,
    floor: Epoch,
    reserved: Option<Epoch>,
    asked: Option<(Epoch, BootTime)>,
    /// The file was lost, and is not yet made good.
    lost: bool,
    /// The peer was asked: waiting longer teaches nothing.
    asked_peer: bool,
    /// Nothing here remembers that an epoch was ever held or a peer ever met: there is no file that could be lost.
    first_start: bool,
}

impl Epochs {
    pub(super) fn restore(role: Role, memory: &Memory, reserved: Option<Epoch>) -> Self {
        let seen = memory.highest_epoch.max(memory.last_held.unwrap_or_default());
        let ours = reserved.filter(|reserved| *reserved > Epoch(0)).or(memory.last_held);
        // What was reserved before may have been used: the next epoch lies above it.
        let floor = seen.max(reserved.unwrap_or_default());
        let first_start = reserved.is_none() && seen == Epoch(0) && memory.paired_with.is_none();
        Self {
            parity: ours.map_or(role, Epoch::owner),
            parity_since: None,
            seen,
            floor,
            reserved: None,
            asked: None,
            lost: reserved.is_none(),
            asked_peer: false,
            first_start,
        }
    }

    /// The highest epoch known of either node.
    pub(super) const fn seen(&self) -> Epoch {
        self.seen
    }

    /// Takes note of an epoch; false when it is not credible.
    pub(super) fn note(&mut self, epoch: Epoch) -> bool {
        if epoch.0 > CREDIBLE {
            return false;
        }
        self.seen = self.seen.max(epoch);
        self.floor = self.floor.max(epoch);
        true
    }

    /// Takes note of what the peer knows.
    pub(super) fn learn(&mut self, epoch: Epoch) -> bool {
        self.asked_peer = true;
        self.note(epoch)
    }

    /// Whose parity this node's epochs have.
    pub(super) const fn parity(&self) -> Role {
        self.parity
    }

    /// The smallest epoch above all, with the parity of this node.
    pub(super) const fn next(&self) -> Epoch {
        self.floor.next_for(self.parity)
    }

    /// Whether the next epoch is durably reserved.
    pub(super) fn in_reserve(&self) -> bool {
        self.reserved.is_some_and(|reserved| self.next() <= reserved)
    }

    fn left(&self) -> u64 {
        self.reserved.map_or(0, |reserved| (reserved.0 + 2).saturating_sub(self.next().0) / 2)
    }
}

impl Machine {
    /// Takes the next epoch; says so when it was not reserved.
    pub(super) fn take_epoch(&mut self, now: Now) -> Epoch {
        self.jump_if_lost(now);
        let epoch = self.epochs.next();
        if !self.epochs.in_reserve() {
            let sentence = format!(
                "epoch {epoch} is used without having been reserved on disk: the data directory did not answer in time"
            );
            self.say(EventCode::EpochTrouble, Severity::Error, Saying::new(sentence));
        }
        self.epochs.note(epoch);
        self.memory.last_held = Some(epoch);
        epoch
    }

    /// Two nodes that number alike: one goes over to the other parity, which nobody uses then. Both find the same one by
    /// what each tells of itself, and an answer to something sent after the last change is needed to go by it, so that
    /// never both do: whoever answers has seen what the other goes by, and stays.
    pub(super) fn settle_parity(&mut self, now: Now, echo: Option<BootTime>, report: &Report) {
        let ours = self.epochs.parity;
        let answered = echo.is_some_and(|echo| {
            // A report that goes out at the very moment of the change may still be the one of before.
            self.epochs.parity_since.is_none_or(|since| since + timing::SCHEDULING_DELAY < echo)
        });
        if report.parity != ours || !answered || report.identity.node == self.settings.identity.node {
            return;
        }
        let goes = if report.role == self.settings.role {
            self.settings.identity.node > report.identity.node
        } else {
            ours != self.settings.role
        };
        if !goes {
            return;
        }
        self.epochs.parity = ours.other();
        self.epochs.parity_since = Some(now.boot);
        // The reserve is of the other parity.
        self.epochs.reserved = None;
        self.epochs.asked = None;
        let name = self.peer_name();
        let even_or_odd = match self.epochs.parity {
            Role::Primary => "even",
            Role::Secondary => "odd",
        };
        let sentence =
            format!("{name} numbers its epochs as this node does: this node goes on with {even_or_odd} ones");
        self.say(EventCode::EpochTrouble, Severity::Info, Saying::new(sentence));
    }

    /// A witness may name the epoch itself.
    pub(super) fn use_epoch(&mut self, epoch: Epoch) -> Epoch {
        self.epochs.note(epoch);
        self.memory.last_held = Some(epoch);
        epoch
    }

    /// Whether an epoch can be taken without an alarm, or waiting for the disk has lasted long enough. What was not
    /// yet asked for is asked for at the end of this very input, or as soon as a lost file is made good.
    pub(super) fn epoch_at_hand(&self, now: Now) -> bool {
        self.epochs.in_reserve()
            || self.health.storage.is_some()
            || self.epoch_wait_ends().is_some_and(|end| end <= now.boot)
    }

    /// Until when a start waits for the reservation, counted from the request; `None` when nothing is waited for.
    pub(super) fn epoch_wait_ends(&self) -> Option<BootTime> {
        let patience = self.interval().min(core::time::Duration::from_secs(1));
        self.epochs.asked.filter(|_| !self.epochs.in_reserve()).map(|(_, asked)| asked + patience)
    }

    /// When a lost file is made good by a jump: as soon as the peer has told what it knows, or when nobody is asked.
    pub(super) fn jump_due(&self) -> Option<BootTime> {
        self.epochs.lost.then(|| {
            if self.epochs.asked_peer || self.is_deactivated() {
                self.started
            } else {
                self.started + self.settings.startup_wait / 2
            }
        })
    }

    fn jump_if_lost(&mut self, now: Now) {
        if !self.epochs.lost {
            return;
        }
        self.epochs.lost = false;
        let beyond = if self.epochs.seen > Epoch(0) { self.epochs.seen.0.saturating_add(JUMP) } else { 0 };
        let jump = Epoch(now.unix.saturating_mul(JUMP).max(beyond).min(CREDIBLE));
        self.epochs.floor = self.epochs.floor.max(jump);
        let next = self.epochs.next();
        if self.epochs.first_start {
            let sentence = format!("this is the first start here: the epochs of this node begin at {next}");
            self.say(EventCode::StateChanged, Severity::Info, Saying::new(sentence));
        } else {
            let sentence = format!(
                "no reserved epochs were found on disk, and some may have been used that nobody knows: this node goes on \
                 from epoch {next}"
            );
            self.say(EventCode::EpochTrouble, Severity::Warn, Saying::new(sentence));
        }
    }

    /// Fills the reserve while nothing is at stake.
    pub(super) fn keep_reserve(&mut self, now: Now) {
        // A reserve of the other parity is none: at the next start it would be taken for this node's own.
        let gone_over = self.epochs.parity_since.is_some() && self.epochs.reserved.is_none();
        let quiet = matches!(self.state, State::Starting | State::Standby) || gone_over;
        let told = self.epochs.lost && self.peer.fresh;
        if told || self.jump_due().is_some_and(|due| due <= now.boot) {
            self.jump_if_lost(now);
        }
        if !quiet || self.epochs.lost || self.epochs.left() >= REFILL_BELOW {
            return;
        }
        let up_to = Epoch(self.epochs.next().0 + 2 * (RESERVE - 1));
        if self.epochs.asked.is_some_and(|(asked, _)| asked >= self.epochs.next()) {
            return;
        }
        self.epochs.asked = Some((up_to, now.boot));
        self.out.push(Effect::ReserveEpochs { up_to });
    }

    pub(super) fn epochs_reserved(&mut self, up_to: Epoch) {
        if self.epochs.parity_since.is_some() && up_to.owner() != self.epochs.parity {
            return; // Asked for before the change of parity.
        }
        self.epochs.reserved = self.epochs.reserved.max(Some(up_to));
        if self.epochs.asked.is_some_and(|(asked, _)| asked <= up_to) {
            self.epochs.asked = None;
        }
    }

    /// The disk is back: what was asked for meanwhile may be lost, so it is asked for again.
    pub(super) const fn forget_reservation(&mut self) {
        self.epochs.asked = None;
    }
}
