//! Who has a say beside the pair: the licence of a witness or of a fence, asked for before the duty is taken.
//!
//! ```text
//!   acquire ──► none needed, or one at hand ──► take
//!          └──► RequestLicence ──► LicenceChanged ──► decided anew; a request by hand goes on where it waited
//! ```
//!
//! A licence speaks of the epoch to be taken, and of the moment in which it was asked for. One for an epoch that the pair
//! has gone beyond is worth nothing, and a fence's confirmation is void as soon as the peer is heard again: what was
//! fenced has returned.

use core::time::Duration;

use super::parts::{Grounds, Kind};
use super::{Machine, Now};
use crate::{Arbitration, Effect, Epoch, Licence};

impl Machine {
    /// Takes the duty, once whoever has a say beside the pair agrees.
    pub(super) fn acquire(&mut self, now: Now, grounds: Grounds) {
        let apart = matches!(grounds.kind, Kind::Silence | Kind::Proof | Kind::ByHand);
        let needed = match self.settings.arbitration {
            Arbitration::None => false,
            Arbitration::Witness => true,
            Arbitration::Fence => apart,
        };
        if !needed {
            self.take(now, grounds, None);
            return;
        }
        if let Some(epoch) = self.licensed(now) {
            self.take(now, grounds, Some(epoch));
            return;
        }
        // Nothing repeats what a person asked for: it never waits for the pace of the others.
        let by_hand = grounds.kind == Kind::ByHand;
        if by_hand || self.licence.asked.is_none_or(|(_, asked)| asked + self.licence_pace() <= now.boot) {
            let epoch = self.epochs.next();
            self.licence.asked = Some((epoch, now.boot));
            self.out.push(Effect::RequestLicence { epoch });
        }
        if by_hand {
            self.licence.by_hand = Some(grounds);
        }
    }

    /// An unanswered or refused request is repeated at this pace.
    pub(super) fn licence_pace(&self) -> Duration {
        self.interval().max(Duration::from_secs(1))
    }

    /// The epoch that may be taken now: above every one of the pair.
    fn licensed(&self, now: Now) -> Option<Epoch> {
        self.licence.valid(now.boot).filter(|epoch| *epoch > self.epochs.seen())
    }

    /// News for a node without the duty.
    pub(super) fn licence_changed(&mut self, now: Now, licence: Licence) {
        let fence = self.settings.arbitration == Arbitration::Fence;
        if let (true, Licence::Granted { epoch, .. }) = (fence, licence)
            && self.licence.asked.is_none_or(|(asked, _)| asked != epoch)
        {
            return; // The peer was heard since it was asked for.
        }
        self.licence.note(licence);
        match (self.licence.by_hand.take(), self.licensed(now)) {
            (Some(grounds), Some(_)) => {
                let request = grounds.request.clone();
                match (request, self.takeover_blocked(now)) {
                    (Some(request), Some(why)) => self.refuse(request, why),
                    (_, _) => self.acquire(now, grounds),
                }
            }
            (Some(grounds), None) => {
                if let Some(request) = grounds.request {
                    self.refuse(request, "whoever has a say beside the pair did not agree".to_owned());
                }
                self.decide(now);
            }
            (None, _) => self.decide(now),
        }
    }

    /// The peer is heard: what a fence confirmed before says nothing of it any more.
    pub(super) fn void_fence(&mut self) {
        if self.settings.arbitration == Arbitration::Fence && self.duty.is_none() {
            self.licence.held = None;
            self.licence.asked = None;
        }
    }
}
