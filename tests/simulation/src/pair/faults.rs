//! What the network does to messages: lost in one direction or both, held back, rejected, late.

use std::time::Duration;

use super::Pair;
use crate::world::{ALPHA, BETA, NAMES};

impl Pair {
    /// Nothing passes from these hosts to the other one; everything passes from the rest.
    pub fn cut(&mut self, from: [bool; 2]) {
        let what = match from {
            [true, true] => "* the link is cut",
            [true, false] => "* nothing passes from alpha to beta",
            [false, true] => "* nothing passes from beta to alpha",
            [false, false] => "* the link is mended",
        };
        self.note(ALPHA, what);
        self.apply(from);
    }

    pub(super) fn apply(&mut self, from: [bool; 2]) {
        self.shared.lock().cut = from;
        for (host, cut) in from.into_iter().enumerate() {
            if cut {
                self.sim.partition_oneway(NAMES[host], NAMES[1 - host]);
            } else {
                self.sim.repair_oneway(NAMES[host], NAMES[1 - host]);
            }
        }
    }

    /// One of two cables is cut, and gives no sign of it.
    pub fn sever(&mut self, cable: usize) {
        self.note(ALPHA, &format!("* cable {} is cut", cable + 1));
        self.shared.lock().cables.sever(cable);
    }

    /// Both cables are whole.
    pub fn mend_cables(&mut self) {
        let now = self.now();
        let mended = self.shared.lock().cables.mend(now);
        if mended {
            self.note(ALPHA, "* both cables are whole");
        }
    }

    /// Holds every message back.
    pub fn hold(&mut self) {
        self.note(ALPHA, "* messages are held back");
        self.shared.lock().held = true;
        self.sim.hold(NAMES[ALPHA], NAMES[BETA]);
    }

    /// Delivers what was held back.
    pub fn release(&mut self) {
        self.note(ALPHA, "* messages are released");
        self.shared.lock().held = false;
        self.sim.release(NAMES[ALPHA], NAMES[BETA]);
    }

    /// A firewall resets every connection and refuses every new one; or it stops to.
    pub fn reject(&mut self, rejecting: bool) {
        self.note(
            ALPHA,
            if rejecting { "* a firewall rejects everything" } else { "* the firewall lets pass" },
        );
        self.shared.lock().rejecting = rejecting;
    }

    /// Messages take up to so long, more than the guarantees allow for; `None`: as long as they should.
    pub fn lag(&mut self, most: Option<Duration>) {
        let lagging = most.is_some();
        if lagging || self.shared.lock().lagging {
            self.note(
                ALPHA,
                &most.map_or_else(
                    || "* messages are as quick as before".to_owned(),
                    |most| format!("* messages take up to {most:?}"),
                ),
            );
        }
        self.shared.lock().lagging = lagging;
        self.sim.set_max_message_latency(most.unwrap_or(self.latency.1).max(self.latency.0));
    }

    /// Whether something is on its way from this host.
    pub fn under_way_from(&self, host: usize) -> bool {
        let from = self.sim.lookup(NAMES[host]);
        let mut found = false;
        self.sim.links(|links| {
            for mut link in links {
                found |= link.any(|message| message.pair().0.ip() == from);
            }
        });
        found
    }
}
