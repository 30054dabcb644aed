//! What people ask a node for.

use failover_core::{Input, RequestId};
use futures_util::FutureExt;

use super::Pair;
use crate::node;
use crate::world::{BY_HAND, Phase};

impl Pair {
    /// Hands an input of an operator to a node.
    pub fn ask(&mut self, host: usize, input: Input) {
        let operators = self.shared.lock().hosts[host].operators.clone();
        if let Some(operators) = operators {
            // The queue of operators is empty, as there is one.
            let _ = operators.ask(input).now_or_never();
        }
    }

    /// `onduty switchover`.
    pub fn switchover(&mut self, host: usize) {
        self.note(host, "* a switchover is asked for");
        self.requests += 1;
        let request = RequestId(format!("move-{}", self.requests));
        self.ask(host, Input::SwitchoverRequested { request });
    }

    /// `onduty takeover`.
    pub fn take_over(&mut self, host: usize) {
        self.requests += 1;
        let request = RequestId(format!("{BY_HAND}{}", self.requests));
        self.asked(host, "* a person takes over", Input::TakeoverRequested { request });
    }

    /// `onduty maintenance on`, for so many seconds.
    pub fn maintenance(&mut self, host: usize, seconds: u64) {
        let until_unix = node::UNIX + self.now().as_secs() + seconds;
        let (reason, by) = ("a new pump".to_owned(), "somebody".to_owned());
        let set = Input::MaintenanceSet { reason, by, until_unix };
        self.asked(host, &format!("* maintenance for {seconds} s"), set);
    }

    /// `onduty maintenance off`.
    pub fn maintenance_off(&mut self, host: usize) {
        self.asked(host, "* no more maintenance", Input::MaintenanceCleared { by: "somebody".to_owned() });
    }

    /// A stop without a hand-over.
    pub fn stop_plainly(&mut self, host: usize) {
        self.note(host, "* a plain stop is asked for");
        if self.shared.lock().hosts[host].operators.is_some() {
            self.shared.lock().hosts[host].stopping = true;
            self.ask(host, Input::StopRequested { handover: false });
        }
    }

    /// What the preflight finds from now on.
    pub fn set_unfit(&mut self, host: usize, unfit: bool) {
        self.note(host, if unfit { "* the plugin's program is missing" } else { "* the program is back" });
        let mut world = self.shared.lock();
        world.hosts[host].unfit = unfit.then(|| "bridge: the program is missing".to_owned());
        world.hosts[host].preflight.notify_one();
    }
    /// Says what a person asks of a node that runs, and asks it.
    fn asked(&mut self, host: usize, what: &str, input: Input) {
        if self.shared.lock().hosts[host].phase == Phase::Manager {
            self.note(host, what);
            self.ask(host, input);
        }
    }
}
