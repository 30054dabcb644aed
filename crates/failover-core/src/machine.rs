//! The machine of one node: the drawing, the contract, and where each input goes.
//!
//! ```text
//!            ┌────────────── GuardFired, restart ───────────────┐
//!            ▼                                                  │
//!        Starting ──► Standby ──► TakingOver ──► Active ──► Yielding ──► Standby
//!            └───────────────────────▲   ▲ └── start failed ──► ▲ │
//!                                        └── roll-back, peer died ┘        Standalone (mode deactivated)
//! ```
//!
//! Contract, for the driver:
//!
//! 1. [`Machine::new`] once; carry out its effects in order.
//! 2. Whatever happens: [`Machine::handle`] with the reading of the clock *now*, then its effects in order, then read
//!    [`Machine::deadline`] again and wait for the next input or that moment; at that moment hand in `Input::Woke`.
//!    After a `Woke` at or after the deadline, the new deadline lies in the future: the loop never spins.
//! 3. [`Machine::report`] goes out with every beat; [`Machine::view`] is what people see.
//! 4. When the loop was late, `Input::Stalled` comes *first*, before any queued beat: the lease is judged before
//!    old heartbeats can speak for it.
//!
//! Time-driven decisions are made on `Woke` and on inputs that can change them; renewals of the duty lease, warnings
//! and announcements follow every input. States cause nothing; transitions do. Each transition is recorded with one
//! sentence before it is announced.
//!
//! ```text
//!   in_<state>  one file per state: every input written out        peer      the link, silence, refusals
//!   paths       several network paths, which of them are lost      handover  planned moves
//!   acquire     who may take the duty, when, why
//!   licence     who has a say beside the pair                      bounds    a supervisor that never answers
//!   transition  how the duty is taken, given up, ended             conflict  both active
//!   lease       the lease to the guard, timings                    mode      changes of the mode
//!   epochs, flap, upkeep, redundancy, words
//! ```

mod acquire;
mod active;
mod bounds;
mod conflict;
mod epochs;
mod flap;
mod handover;
mod lease;
mod licence;
mod mode;
mod parts;
mod paths;
mod pause;
mod peer;
mod redundancy;
mod shared;
mod standalone;
mod standby;
mod starting;
mod stop;
mod taking_over;
mod transition;
mod upkeep;
mod words;
mod yielding;

use crate::rules::Rules;
use crate::{BootTime, Effect, Epoch, Input, Memory, Mode, Report, Settings, State, Summary, View};

use epochs::Epochs;
use lease::Lease;
use parts::{Conflict, Duty, Health, Leaving, LicenceState, Moves, Outbox, Said, Stopping};
use peer::Peer;

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
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Machine {
    settings: Settings,
    rules: Rules,
    memory: Memory,
    remembered: Memory,
    started: BootTime,
    state: State,
    since: BootTime,
    why: String,
    peer: Peer,
    epochs: Epochs,
    lease: Lease,
    health: Health,
    moves: Moves,
    licence: LicenceState,
    said: Said,
    summary: Summary,
    /// Present exactly in `TakingOver`, `Active`, `Yielding` and, while plugins exist, `Standalone`.
    duty: Option<Duty>,
    /// Present exactly in `Yielding`.
    leaving: Option<Leaving>,
    conflict: Option<Conflict>,
    stopping: Option<Stopping>,
    announced: Option<Report>,
    /// The number of `announced`.
    revision: u64,
    /// The last `Woke`, while nothing else has happened since: what it looked at is not due again.
    woken: Option<BootTime>,
    out: Outbox,
}

impl Machine {
    /// A machine in `Starting` (deactivated: on its way to `Standalone`), with the effects of the start.
    ///
    /// `reserved_up_to` is the last epoch that was durably reserved before; `None` when the file is missing or
    /// corrupt.
    #[must_use]
    pub fn new(
        now: Now,
        settings: Settings,
        memory: Memory,
        reserved_up_to: Option<Epoch>,
    ) -> (Self, Vec<Effect>) {
        Self::with_rules(now, settings, memory, reserved_up_to, Rules::RIGHT)
    }

    /// A machine that breaks a rule, for the tests that must catch it.
    #[cfg(feature = "broken-variants")]
    #[doc(hidden)]
    #[must_use]
    pub fn broken(
        now: Now,
        settings: Settings,
        memory: Memory,
        reserved_up_to: Option<Epoch>,
        rules: Rules,
    ) -> (Self, Vec<Effect>) {
        Self::with_rules(now, settings, memory, reserved_up_to, rules)
    }

    fn with_rules(
        now: Now,
        settings: Settings,
        memory: Memory,
        reserved_up_to: Option<Epoch>,
        rules: Rules,
    ) -> (Self, Vec<Effect>) {
        let mut settings = settings;
        if settings.mode == Mode::Deactivated {
            settings.role = memory.last_role.unwrap_or(settings.role);
        }
        let mut machine = Self {
            rules,
            started: now.boot,
            state: State::Starting,
            since: now.boot,
            why: "the node has started".to_owned(),
            peer: Peer::new(now.boot, settings.dialled()),
            epochs: Epochs::restore(settings.role, &memory, reserved_up_to),
            lease: Lease::new(),
            health: Health::default(),
            moves: Moves::default(),
            licence: LicenceState::default(),
            said: Said::default(),
            summary: Summary {
                version: String::new(),
                project: String::new(),
                containment: None,
                plugins: Vec::new(),
            },
            duty: None,
            leaving: None,
            conflict: None,
            stopping: None,
            announced: None,
            revision: 0,
            woken: None,
            out: Outbox::default(),
            remembered: memory.clone(),
            memory,
            settings,
        };
        machine.memory.last_role = Some(machine.settings.role);
        machine.begin(now);
        machine.upkeep(now);
        let effects = machine.out.take();
        (machine, effects)
    }

    /// Tells the machine what happened and returns what is to be done, in order.
    pub fn handle(&mut self, now: Now, input: Input) -> Vec<Effect> {
        self.woken = matches!(input, Input::Woke).then_some(now.boot);
        match self.state {
            State::Starting => self.in_starting(now, input),
            State::Standby => self.in_standby(now, input),
            State::TakingOver => self.in_taking_over(now, input),
            State::Active => self.in_active(now, input),
            State::Yielding => self.in_yielding(now, input),
            State::Standalone => self.in_standalone(now, input),
        }
        self.upkeep(now);
        self.out.take()
    }

    /// When `Input::Woke` is due; it may lie in the past, then it is due at once.
    #[must_use]
    pub fn deadline(&self) -> Option<BootTime> {
        self.next_deadline()
    }

    /// The number of the report of now: as long as it stays, so does the report.
    #[must_use]
    pub const fn revision(&self) -> u64 {
        self.revision
    }

    /// What goes to the peer with every beat.
    #[must_use]
    pub fn report(&self) -> Report {
        Report {
            identity: self.settings.identity.clone(),
            revision: self.revision,
            role: self.settings.role,
            mode: self.mode_told(),
            state: self.state,
            fit: self.fitness(),
            epoch: self.duty.as_ref().map(|duty| duty.epoch),
            highest_epoch: self.epochs.seen(),
            last_held: self.memory.last_held,
            parity: self.epochs.parity(),
            timings: self.timings_told(),
            procedure: self.moves.procedure.clone(),
            maintenance: self.memory.maintenance.clone(),
            tombstone: self.duty.as_ref().and_then(|duty| duty.tombstone),
            summary: self.summary.clone(),
        }
    }

    /// What people see.
    #[must_use]
    pub fn view(&self, now: Now) -> View {
        self.describe(now)
    }

    fn is_deactivated(&self) -> bool {
        self.settings.mode == Mode::Deactivated
    }
}
