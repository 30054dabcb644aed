//! One host: the process with its machine and supervisor, the guard beside it, the disk.
//!
//! The guard judges by `hold_until` alone and outlives the manager. The supervisor is part of the process: while it
//! stands still, no order reaches the plugins and no report reaches the machine.

use failover_core::{
    BootTime, DutyOrder, Effect, Epoch, Event, EventCode, Input, Machine, Memory, Now, Settings,
};

use super::{Happening, Micros, World, identity, ms};

/// The time the guard needs to kill.
const KILL: Micros = 20_000;

#[derive(Clone, Debug)]
pub struct Plugins {
    pub epoch: Epoch,
    pub serial: u64,
    pub ready: Option<Micros>,
    pub dying: bool,
}

pub struct Host {
    pub settings: Settings,
    pub machine: Option<Machine>,
    pub run: u64,
    pub wake: u64,
    pub frozen: bool,
    pub froze_at: Micros,
    pub waiting: Vec<Input>,
    pub plugins: Option<Plugins>,
    pub serial: u64,
    pub hold_until: Option<BootTime>,
    pub guard_key: u64,
    /// The secret the guard keeps: the epoch it speaks of.
    pub secret: Option<Epoch>,
    /// Plugins of a dead manager are gone: the guard answers with the secret.
    pub tombstone: Option<Epoch>,
    pub memory: Memory,
    pub reserved: Option<Epoch>,
    pub disk_works: bool,
    /// Parts per million; the clock's offset to real time, in microseconds.
    pub drift: i64,
    pub offset: Micros,
    /// How wrong the wall clock is, in seconds.
    pub skew: i64,
    pub start_delay: Micros,
    pub stop_delay: Micros,
    pub failing_starts: u32,
    /// The supervisor takes orders and never answers.
    pub mute: bool,
    pub finished: bool,
    /// Nothing of this epoch or an older one is ever started again.
    pub ended: Epoch,
    pub unfit: Option<String>,
    /// Whether the witness answers requests with yes.
    pub witness: Option<bool>,
}

impl Host {
    pub fn new(settings: Settings) -> Self {
        Self {
            settings,
            machine: None,
            run: 0,
            wake: 0,
            frozen: false,
            froze_at: 0,
            waiting: Vec::new(),
            plugins: None,
            serial: 0,
            hold_until: None,
            guard_key: 0,
            secret: None,
            tombstone: None,
            memory: Memory::default(),
            reserved: Some(Epoch(0)),
            disk_works: true,
            drift: 0,
            offset: ms(500),
            skew: 0,
            start_delay: ms(40),
            stop_delay: ms(30),
            failing_starts: 0,
            mute: false,
            finished: false,
            ended: Epoch(0),
            unfit: None,
            witness: None,
        }
    }

    pub fn clock(&self, now: Micros) -> Now {
        let unix = (1_700_000_000 + now / 1_000_000).saturating_add_signed(self.skew);
        Now { boot: BootTime::from_nanos(self.boot(now) * 1000), unix }
    }

    fn boot(&self, now: Micros) -> Micros {
        let drifted = i128::from(now) * (1_000_000 + i128::from(self.drift)) / 1_000_000;
        self.offset + u64::try_from(drifted).unwrap()
    }

    /// The first real microsecond at which the clock shows at least `boot`.
    pub fn real(&self, boot: BootTime) -> Micros {
        let micros = boot.as_nanos().div_ceil(1000).saturating_sub(self.offset);
        let wide = u128::from(micros) * 1_000_000;
        let rate = u128::try_from(1_000_000 + self.drift).unwrap();
        let mut real = u64::try_from(wide.div_ceil(rate)).unwrap_or(u64::MAX / 4).min(u64::MAX / 4);
        while self.boot(real) < boot.as_nanos().div_ceil(1000) && real < u64::MAX / 4 {
            real += 1;
        }
        real
    }
}

impl World {
    // ------------------------------------------------------------------------------------ the process

    pub fn boot(&mut self, node: usize) {
        if self.hosts[node].machine.is_some() {
            return;
        }
        // Leftovers are killed before anything else, and the port is this manager's again.
        let host = &mut self.hosts[node];
        host.plugins = None;
        host.hold_until = None;
        host.secret = None;
        host.tombstone = None;
        host.frozen = false;
        host.finished = false;
        host.waiting.clear();
        host.run += 1;
        host.settings.identity = identity(u8::try_from(node).unwrap(), u32::try_from(host.run).unwrap());
        let now = host.clock(self.now);
        let settings = host.settings.clone();
        let (memory, reserved) = (host.memory.clone(), host.reserved);
        let (machine, effects) = match self.rules {
            None => Machine::new(now, settings, memory, reserved),
            Some(rules) => Machine::broken(now, settings, memory, reserved, rules),
        };
        self.checks.booted(node);
        self.hosts[node].machine = Some(machine);
        self.note(node, "boots".to_owned());
        self.carry_out(node, effects);
        if let Some(unfit) = self.hosts[node].unfit.clone() {
            self.feed(node, Input::PreflightChanged { unfit: Some(unfit) });
        }
        self.plan_wake(node);
        for path in 0..self.paths {
            self.dial_soon(path, 1000);
        }
    }

    /// kill −9 of the manager; the guard ends the plugins and then keeps the tombstone.
    pub fn crash(&mut self, node: usize) {
        self.note(node, "the manager is killed".to_owned());
        self.end_process(node);
        self.kill_plugins(node);
        if self.hosts[node].plugins.is_none() {
            self.hosts[node].tombstone = self.hosts[node].secret.take();
        }
        self.reset_links(node, true);
    }

    /// The whole host loses power: nothing is left, nothing answers.
    pub fn power_off(&mut self, node: usize) {
        self.note(node, "the host loses power".to_owned());
        self.end_process(node);
        self.hosts[node].plugins = None;
        self.hosts[node].secret = None;
        self.reset_links(node, false);
    }

    pub fn end_process(&mut self, node: usize) {
        let host = &mut self.hosts[node];
        host.machine = None;
        host.run += 1;
        host.wake += 1;
        host.frozen = false;
        host.waiting.clear();
    }

    pub fn freeze(&mut self, node: usize, span: Micros) {
        if self.hosts[node].machine.is_none() || self.hosts[node].frozen {
            return;
        }
        self.note(node, "stands still".to_owned());
        self.hosts[node].frozen = true;
        self.hosts[node].froze_at = self.now;
        self.at(self.now + span, Happening::Thaw(node));
    }

    pub fn thaw(&mut self, node: usize) {
        if !self.hosts[node].frozen {
            return;
        }
        self.note(node, "goes on".to_owned());
        self.hosts[node].frozen = false;
        let late = self.now - self.hosts[node].froze_at;
        if late >= ms(200) {
            let late_by = std::time::Duration::from_micros(late);
            self.feed(node, Input::Stalled { late_by });
        }
        for input in std::mem::take(&mut self.hosts[node].waiting) {
            self.tell(node, input);
        }
        self.plan_wake(node);
    }

    // ------------------------------------------------------------------------------------ effects

    pub fn carry_out(&mut self, node: usize, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Order(order) => self.order(node, order),
                Effect::Announce => self.announce(node),
                Effect::ArmTombstone { epoch } => {
                    self.hosts[node].secret = Some(epoch);
                    self.soon(node, 300, Input::TombstoneArmed { epoch, sha256: [7; 32] });
                }
                Effect::CloseSession { session, .. } => self.close(node, session.0),
                Effect::ReserveEpochs { up_to } => {
                    if self.hosts[node].disk_works {
                        self.hosts[node].reserved = self.hosts[node].reserved.max(Some(up_to));
                        self.soon(node, 2000, Input::EpochsReserved { up_to });
                    }
                }
                Effect::Remember(memory) => {
                    if self.hosts[node].disk_works {
                        self.hosts[node].memory = *memory;
                    }
                }
                Effect::Record(event) => self.recorded(node, &event),
                Effect::RequestLicence { epoch } => {
                    self.note(node, format!("asks for a licence for epoch {epoch}"));
                    let answer = match self.hosts[node].witness {
                        Some(true) => failover_core::Licence::Granted { epoch, until: None },
                        Some(false) | None => failover_core::Licence::Refused,
                    };
                    if self.hosts[node].witness.is_some() {
                        self.soon(node, 5000, Input::LicenceChanged(answer));
                    }
                }
                Effect::ReleaseLicence { epoch } => {
                    self.note(node, format!("gives the licence for epoch {epoch} back"))
                }
                Effect::ChangeMode { mode } => self.start_anew(node, mode),
                Effect::Finish => {
                    self.hosts[node].finished = true;
                    self.note(node, "ends".to_owned());
                    self.end_process(node);
                    // The guard ends with an orderly stop: no tombstone.
                    self.hosts[node].secret = None;
                    self.reset_links(node, true);
                }
            }
        }
    }

    fn soon(&mut self, node: usize, after: Micros, input: Input) {
        let run = self.hosts[node].run;
        self.at(self.now + after, Happening::Tell(node, run, Box::new(input)));
    }

    fn recorded(&mut self, node: usize, event: &Event) {
        self.told.push((node, event.code, event.measures.overlap_ms));
        self.mode_recorded(node, event);
        let last = matches!(
            event.code,
            EventCode::HandoverDone | EventCode::HandoverFailed | EventCode::RequestRefused
        );
        if let Some(request) = event.request.clone().filter(|_| last) {
            self.answered.push((node, request));
        }
        let mut line = match event.transition {
            Some((from, to)) => format!("{from} -> {to}: {} [{}]", event.sentence, event.code),
            None => format!("{} {}: {}", event.severity, event.code, event.sentence),
        };
        if !event.cause.is_empty() && !event.sentence.contains(&event.cause) {
            line.push_str(&format!(" ({})", event.cause));
        }
        let m = event.measures;
        for (name, value) in [
            ("detected", m.detected_ms),
            ("takeover", m.takeover_ms),
            ("outage", m.outage_ms),
            ("overlap", m.overlap_ms),
        ] {
            if let Some(value) = value {
                line.push_str(&format!(" {name}={value}ms"));
            }
        }
        self.note(node, line);
    }

    pub fn note(&mut self, node: usize, what: String) {
        if self.watch {
            let name = ["a", "b"][node];
            self.log.push(format!("{:>9.3} {name} {what}", self.now as f64 / 1_000_000.0));
        }
    }

    // ------------------------------------------------------------------------------------ supervisor and guard

    fn order(&mut self, node: usize, order: DutyOrder) {
        let epoch = order.epoch();
        self.checks.ordered(node, order);
        self.hosts[node].hold_until = order.hold_until();
        self.plan_guard(node);
        if self.hosts[node].mute {
            return;
        }
        match order {
            DutyOrder::Run { .. } => self.run_plugins(node, epoch),
            DutyOrder::Stop { .. } => {
                let delay = self.hosts[node].stop_delay;
                let Some(plugins) = self.hosts[node].plugins.as_mut() else {
                    self.soon(node, 500, Input::PluginsReaped { epoch });
                    return;
                };
                if !plugins.dying {
                    plugins.dying = true;
                    let (serial, run) = (plugins.serial, self.hosts[node].run);
                    self.at(self.now + delay, Happening::Gone(node, serial, run));
                }
            }
            DutyOrder::Kill { .. } => {
                if self.hosts[node].plugins.is_none() {
                    self.soon(node, 500, Input::PluginsReaped { epoch });
                } else {
                    self.kill_plugins(node);
                }
            }
        }
    }

    fn run_plugins(&mut self, node: usize, epoch: Epoch) {
        let run = self.hosts[node].run;
        if let Some(plugins) = self.hosts[node].plugins.as_mut() {
            if plugins.epoch != epoch && !plugins.dying {
                plugins.epoch = epoch; // The file with the epoch, then a signal.
                let (input, at) = match plugins.ready {
                    Some(ready) => (Input::PluginsReady { epoch }, ready.max(self.now + 500)),
                    None => {
                        let why = "bridge ended with status 1".to_owned();
                        (Input::PluginsFailed { epoch, why }, self.now + 500)
                    }
                };
                self.at(at, Happening::Tell(node, run, Box::new(input)));
            }
            return;
        }
        let host = &mut self.hosts[node];
        if epoch <= host.ended {
            return; // A renewal that crossed the news of the end.
        }
        host.serial += 1;
        let (serial, delay) = (host.serial, host.start_delay);
        host.plugins = Some(Plugins { epoch, serial, ready: None, dying: false });
        let input = if host.failing_starts > 0 {
            host.failing_starts -= 1;
            Input::PluginsFailed { epoch, why: "bridge ended with status 1".to_owned() }
        } else {
            host.plugins.as_mut().unwrap().ready = Some(self.now + delay);
            Input::PluginsReady { epoch }
        };
        self.at(self.now + delay, Happening::Tell(node, run, Box::new(input)));
    }

    pub fn kill_plugins(&mut self, node: usize) {
        let run = self.hosts[node].run;
        if let Some(plugins) = self.hosts[node].plugins.as_mut() {
            plugins.dying = true;
            let serial = plugins.serial;
            self.at(self.now + KILL, Happening::Gone(node, serial, run));
        }
    }

    pub fn plugins_gone(&mut self, node: usize, serial: u64, run: u64) {
        if self.hosts[node].plugins.as_ref().is_none_or(|plugins| plugins.serial != serial) {
            return;
        }
        let epoch = self.hosts[node].plugins.take().unwrap().epoch;
        self.hosts[node].ended = epoch;
        self.hosts[node].hold_until = None;
        if self.hosts[node].machine.is_some() && self.hosts[node].run == run {
            self.tell(node, Input::PluginsReaped { epoch });
        } else if self.hosts[node].machine.is_none() {
            self.hosts[node].tombstone = self.hosts[node].secret.take();
            self.tombstone_stands(node);
        }
    }

    fn plan_guard(&mut self, node: usize) {
        self.hosts[node].guard_key += 1;
        let key = self.hosts[node].guard_key;
        if let Some(until) = self.hosts[node].hold_until {
            let at = self.hosts[node].real(until);
            self.at(at, Happening::Guard(node, key));
        }
    }

    pub fn guard_looks(&mut self, node: usize, key: u64) {
        if self.hosts[node].guard_key != key || self.hosts[node].plugins.is_none() {
            return;
        }
        self.note(node, "the guard kills the plugins".to_owned());
        let epoch = self.hosts[node].plugins.as_ref().unwrap().epoch;
        self.tell(node, Input::GuardFired { epoch, why: "the duty lease ran out".to_owned() });
        self.kill_plugins(node);
    }
}
