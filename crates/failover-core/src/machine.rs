//! The machine. (Contract first; the rules follow.)

use crate::{BootTime, Effect, Epoch, Input, Memory, Report, Settings, View};

/// The two clocks at one moment. Everything is decided by `boot`; `unix` (seconds) only marks what must outlive a
/// restart: the ends of automatic moves and of maintenance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// `CLOCK_BOOTTIME`.
    pub boot: BootTime,
    /// Seconds of the Unix clock.
    pub unix: u64,
}

/// The machine of one node.
#[derive(Clone, Debug)]
pub struct Machine {
    settings: Settings,
}

impl Machine {
    /// A machine in `Starting` (or, deactivated, on its way to `Standalone`), with the effects of the start.
    #[must_use]
    pub fn new(_now: Now, settings: Settings, _memory: Memory, _reserved_up_to: Option<Epoch>) -> (Self, Vec<Effect>) {
        (Self { settings }, Vec::new())
    }

    /// Tells the machine what happened and returns what is to be done, in order.
    pub fn handle(&mut self, _now: Now, _input: Input) -> Vec<Effect> {
        Vec::new()
    }

    /// When `Input::Woke` is due.
    #[must_use]
    pub fn deadline(&self) -> Option<BootTime> {
        None
    }

    /// What goes to the peer with every beat.
    #[must_use]
    pub fn report(&self) -> Report {
        let _ = &self.settings;
        unreachable!("skeleton")
    }

    /// What people see.
    #[must_use]
    pub fn view(&self, _now: Now) -> View {
        unreachable!("skeleton")
    }
}
