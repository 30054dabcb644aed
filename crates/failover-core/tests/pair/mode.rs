//! Changes of the mode: what the process around the machine does about them.

use std::time::Duration;

use failover_core::{Event, EventCode, Input, Mode, RequestId, Role};

use super::{Happening, World, ms};

impl World {
    /// A person asks for another mode.
    pub fn request_mode(&mut self, node: usize, mode: Mode, force: bool) {
        self.requests += 1;
        let request = RequestId(format!("mode-{}", self.requests));
        self.tell(node, Input::ModeRequested { request, mode, force });
    }

    /// What the next start of the node reads.
    pub fn keep_mode(&mut self, node: usize, mode: Mode) {
        let fast = self.fast;
        let settings = &mut self.hosts[node].settings;
        settings.mode = mode;
        if let Some(role) = mode.role() {
            settings.role = role;
            let wait = if mode == Mode::Primary { 3000 } else { 30_000 };
            settings.startup_wait = Duration::from_millis(if fast { wait / 6 } else { wait });
        }
    }

    /// Ends what was half done: the first node gets the role that the second one does not have, and nobody is deactivated.
    pub fn make_pair(&mut self) {
        let second = self.hosts[1].settings.role;
        for (node, role) in [(0, second.other()), (1, second)] {
            let mode = match role {
                Role::Primary => Mode::Primary,
                Role::Secondary => Mode::Secondary,
            };
            if self.hosts[node].settings.mode != mode {
                self.crash(node);
                self.keep_mode(node, mode);
            }
        }
    }

    /// The run is over; the process starts again at once, with the new mode.
    pub fn start_anew(&mut self, node: usize, mode: Mode) {
        self.note(node, format!("starts anew as {mode}"));
        self.keep_mode(node, mode);
        self.end_process(node);
        self.hosts[node].secret = None;
        self.reset_links(node, true);
        let run = self.hosts[node].run;
        self.at(self.now + ms(300), Happening::Boot(node, run));
    }

    /// A mode that is in force without a new run is kept as soon as the machine says so.
    pub fn mode_recorded(&mut self, node: usize, event: &Event) {
        let in_force = self.hosts[node].machine.as_ref().map(|machine| machine.report().mode);
        if event.code == EventCode::ModeChanged && in_force == Some(Mode::Deactivated) {
            self.keep_mode(node, Mode::Deactivated);
        }
    }
}
