//! Two real machines on a simulated pair of hosts: hostile network, guard, supervisor, disk. Deterministic from a seed.
//!
//! ```text
//!   script ──► World ──┬─► Host a: Machine, supervisor, guard, disk ──┐
//!                      └─► Host b: …                                  ├─► log, checks
//!                 events by real time; each host's clock drifts ◄─────┘
//! ```
#![allow(dead_code, unreachable_pub, clippy::unwrap_used, missing_docs)]

pub mod checks;
pub mod host;
pub mod link;
pub mod mode;

use std::collections::BTreeMap;
use std::time::Duration;

use failover_core::{
    Arbitration, Beat, EventCode, FailbackMode, Identity, Input, InstanceId, Mode, NodeId, NodeName,
    OnUnproved, RequestId, Role, Rules, SessionId, Settings, State,
};

pub use checks::Checks;
pub use host::Host;

/// The most network paths of a pair in these tests.
pub const PATHS: usize = 2;

/// Real time, in microseconds.
pub type Micros = u64;

pub const fn ms(n: u64) -> Micros {
    n * 1000
}

/// SplitMix64: small, and the same everywhere.
#[derive(Clone, Debug)]
pub struct Dice(pub u64);

impl Dice {
    pub fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    pub fn within(&mut self, low: u64, high: u64) -> u64 {
        low + self.roll() % (high - low).max(1)
    }
}

/// What happens at a moment.
#[derive(Clone, Debug)]
pub enum Happening {
    Woke(usize, u64),
    Tell(usize, u64, Box<Input>),
    Guard(usize, u64),
    Gone(usize, u64, u64),
    Heartbeat(u64),
    Boot(usize, u64),
    Dial(usize, u64),
    DialDone(usize, u64),
    Deliver { to: usize, session: u64, beat: Box<Beat> },
    Broken { at: usize, session: u64, why: &'static str },
    Thaw(usize),
    Watch(u64),
}

/// How the network treats everybody.
#[derive(Clone, Debug)]
pub struct Net {
    /// Nothing passes from a to b, from b to a.
    pub cut: [bool; 2],
    /// Nothing passes over this path.
    pub down: [bool; PATHS],
    /// What a path takes longer than the others.
    pub slow: [Micros; PATHS],
    /// Something else answers at the end of this path.
    pub impostor: [bool; PATHS],
    /// A firewall answers for the primary with refusals.
    pub reject: bool,
    /// Something else answers at the primary's address.
    pub unproved: bool,
    /// Latency bounds.
    pub latency: (Micros, Micros),
    /// Out of 1000: lost, doubled, delayed beyond the bound.
    pub loss: u64,
    pub double: u64,
    pub straggle: u64,
}

impl Default for Net {
    fn default() -> Self {
        Self {
            cut: [false; 2],
            down: [false; PATHS],
            slow: [0; PATHS],
            impostor: [false; PATHS],
            reject: false,
            unproved: false,
            latency: (200, 2000),
            loss: 0,
            double: 0,
            straggle: 0,
        }
    }
}

pub struct World {
    pub now: Micros,
    queue: BTreeMap<(Micros, u64), Happening>,
    next: u64,
    pub dice: Dice,
    pub net: Net,
    pub hosts: [Host; 2],
    pub links: BTreeMap<u64, link::Connection>,
    /// How many network paths the pair has.
    pub paths: usize,
    pub sessions: u64,
    pub dial_generation: [u64; PATHS],
    /// Makes the ids of requests.
    pub requests: u64,
    pub log: Vec<String>,
    /// What each node recorded: the code, and how long an overlap was said to be.
    pub told: Vec<(usize, EventCode, Option<u64>)>,
    /// Which requests each node has answered for good: done, failed, refused.
    pub answered: Vec<(usize, RequestId)>,
    pub checks: Checks,
    pub rules: Option<Rules>,
    /// Everything ever handed to a machine and what came back, for the byte-for-byte comparison.
    pub tape: Option<Vec<String>>,
    pub edges: Vec<(State, &'static str, State)>,
    pub watch: bool,
    fast: bool,
}

pub fn identity(node: u8, run: u32) -> Identity {
    let mut instance = [node; 16];
    instance[1..5].copy_from_slice(&run.to_be_bytes());
    let name = NodeName::try_from(if node == 0 { "alpha" } else { "beta" }.to_owned()).unwrap();
    Identity { node: NodeId([node + 1; 16]), instance: InstanceId(instance), name }
}

pub fn settings(node: usize) -> Settings {
    let role = if node == 0 { Role::Primary } else { Role::Secondary };
    Settings {
        identity: identity(u8::try_from(node).unwrap(), 0),
        mode: if node == 0 { Mode::Primary } else { Mode::Secondary },
        role,
        interval: Duration::from_secs(1),
        timeout: Duration::from_secs(3),
        takeover_after: None,
        paths: vec!["https://alpha:5001".to_owned()],
        confirm_refusals: false,
        startup_wait: Duration::from_secs(if node == 0 { 3 } else { 30 }),
        failback: FailbackMode::Automatic,
        stable_for: Duration::from_secs(3),
        flap_limit: 5,
        flap_window: Duration::from_secs(600),
        on_unproved: OnUnproved::Hold,
        handover_on_stop: true,
        start_limit: Duration::from_secs(30),
        stop_limit: Duration::from_secs(10),
        arbitration: Arbitration::None,
        unsafe_settings: Vec::new(),
    }
}

impl World {
    pub fn new(seed: u64) -> Self {
        Self {
            now: ms(1000),
            queue: BTreeMap::new(),
            next: 0,
            dice: Dice(seed),
            net: Net::default(),
            hosts: [Host::new(settings(0)), Host::new(settings(1))],
            links: BTreeMap::new(),
            paths: 1,
            sessions: 0,
            dial_generation: [0; PATHS],
            requests: 0,
            log: Vec::new(),
            told: Vec::new(),
            answered: Vec::new(),
            checks: Checks::default(),
            rules: None,
            tape: None,
            edges: Vec::new(),
            watch: true,
            fast: false,
        }
    }

    /// Two network paths.
    pub fn two_paths(&mut self) {
        self.paths = 2;
        for host in &mut self.hosts {
            host.settings.paths =
                vec!["https://10.0.1.1:5001".to_owned(), "https://10.0.2.1:5001".to_owned()];
        }
    }

    /// The profile `fast`.
    pub fn fast(&mut self) {
        self.fast = true;
        for host in &mut self.hosts {
            host.settings.interval = Duration::from_millis(100);
            host.settings.timeout = Duration::from_millis(500);
            host.settings.stable_for = Duration::from_millis(500);
            host.settings.startup_wait /= 6;
        }
    }

    pub fn at(&mut self, at: Micros, what: Happening) {
        self.next += 1;
        self.queue.insert((at.max(self.now), self.next), what);
    }

    pub fn run_for(&mut self, span: Micros) {
        let end = self.now + span;
        while let Some((&(at, key), _)) = self.queue.iter().next() {
            if at > end {
                break;
            }
            let what = self.queue.remove(&(at, key)).unwrap();
            self.pass(at);
            self.happen(what);
            self.check();
        }
        self.pass(end);
    }

    fn pass(&mut self, to: Micros) {
        let both = self.hosts.iter().all(|host| host.plugins.is_some());
        if both {
            self.checks.overlap += to - self.now;
        }
        let none =
            self.hosts.iter().all(|host| host.plugins.as_ref().is_none_or(|plugins| plugins.ready.is_none()));
        self.checks.dark = if none { self.checks.dark + (to - self.now) } else { 0 };
        self.now = to;
    }

    fn happen(&mut self, what: Happening) {
        match what {
            Happening::Woke(node, key) => self.woke(node, key),
            Happening::Tell(node, run, input) => {
                if self.hosts[node].run == run {
                    self.tell(node, *input);
                }
            }
            Happening::Guard(node, key) => self.guard_looks(node, key),
            Happening::Gone(node, serial, run) => self.plugins_gone(node, serial, run),
            Happening::Heartbeat(link) => self.heartbeat(link),
            Happening::Boot(node, run) => {
                if self.hosts[node].run == run {
                    self.boot(node);
                }
            }
            Happening::Dial(path, generation) => self.dial(path, generation),
            Happening::DialDone(path, generation) => self.dial_done(path, generation),
            Happening::Deliver { to, session, beat } => self.deliver(to, session, *beat),
            Happening::Broken { at, session, why } => self.broken(at, session, why),
            Happening::Thaw(node) => self.thaw(node),
            Happening::Watch(link) => self.watch_session(link),
        }
    }

    /// Hands an input to a machine, or into its queue while the process stands still.
    pub fn tell(&mut self, node: usize, input: Input) {
        if self.hosts[node].machine.is_none() {
            return;
        }
        if self.hosts[node].frozen {
            self.hosts[node].waiting.push(input);
            return;
        }
        self.feed(node, input);
    }

    pub fn feed(&mut self, node: usize, input: Input) {
        let now = self.hosts[node].clock(self.now);
        let kind = failover_core::table::kind(&input);
        let host = &mut self.hosts[node];
        let Some(machine) = host.machine.as_mut() else { return };
        let before = machine.report();
        let woke = matches!(input, Input::Woke);
        let said = self.tape.is_some().then(|| serde_json::to_string(&input).unwrap());
        let effects = machine.handle(now, input);
        if let Some(tape) = self.tape.as_mut() {
            tape.push(format!(
                "{node} {} {} {}",
                now.boot,
                said.unwrap(),
                serde_json::to_string(&effects).unwrap()
            ));
        }
        let after = machine.report();
        let due = machine.deadline();
        assert!(
            !woke || due.is_none_or(|due| due > now.boot),
            "the loop would spin: {due:?} after Woke at {}",
            now.boot
        );
        self.edges.push((before.state, kind, after.state));
        self.checks.transition(node, &before, &after, &effects);
        self.carry_out(node, effects);
        self.plan_wake(node);
    }

    pub fn plan_wake(&mut self, node: usize) {
        let host = &mut self.hosts[node];
        host.wake += 1;
        let (key, run) = (host.wake, host.run);
        let _ = run;
        if let Some(due) = host.machine.as_ref().and_then(failover_core::Machine::deadline) {
            let at = self.hosts[node].real(due);
            self.at(at, Happening::Woke(node, key));
        }
    }

    fn woke(&mut self, node: usize, key: u64) {
        if self.hosts[node].wake == key && !self.hosts[node].frozen {
            self.feed(node, Input::Woke);
        }
    }

    fn check(&mut self) {
        let hosts = &self.hosts;
        for host in hosts {
            let Some(machine) = host.machine.as_ref() else { continue };
            let state = machine.report().state;
            if !state.may_run_plugins() && host.plugins.is_some() {
                self.checks.broken.push(format!("I4: {state} is reported while plugins of this node live"));
            }
        }
    }

    pub fn states(&self) -> [Option<State>; 2] {
        [0, 1].map(|node| self.hosts[node].machine.as_ref().map(|machine| machine.report().state))
    }

    pub fn actives(&self) -> usize {
        self.states().iter().filter(|state| **state == Some(State::Active)).count()
    }

    pub fn session(id: u64) -> SessionId {
        SessionId(id)
    }
}
