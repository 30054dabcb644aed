//! What the simulation knows and no node does: who runs what since when, what is broken, and what was said.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::time::Duration;

use duty::{OperatorHandle, RunEnd};
use failover_core::{BootTime, Epoch, Event, Memory, Rules, State};
use service_kit::latest::{LatestSender, latest};
use tokio_util::sync::CancellationToken;

use crate::checks::Checks;
use crate::sockets::Sockets;
use crate::traffic::Traffic;

/// The node that is the primary.
pub const ALPHA: usize = 0;
/// The node that is the secondary.
pub const BETA: usize = 1;
/// How the requests begin with which a person takes over by hand.
pub const BY_HAND: &str = "hand-";
/// What the hosts are called.
pub const NAMES: [&str; 2] = ["alpha", "beta"];

/// What runs on a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Nothing: it has no power, or the node was stopped.
    Off,
    /// The node's process with its guard.
    Manager,
    /// The guard alone, after its manager was killed.
    Guard,
}

/// Plugins that live.
#[derive(Clone, Copy, Debug)]
pub struct Plugins {
    /// Their epoch.
    pub epoch: Epoch,
    /// Since when.
    pub since: Duration,
    /// When the last of them is gone, once that is certain.
    pub gone_at: Option<Duration>,
    /// They are being killed, and nothing calls that off.
    pub dying: bool,
}

/// What was armed for the tombstone.
#[derive(Clone, Copy, Debug)]
pub struct Secret {
    /// The epoch it speaks of.
    pub epoch: Epoch,
    /// The 32 bytes.
    pub bytes: [u8; 32],
}

/// One host.
#[derive(Debug)]
pub struct Host {
    /// What runs on it.
    pub phase: Phase,
    /// How often its process was started.
    pub runs: u32,
    /// When the process of now was started.
    pub begun: Duration,
    /// It was given a key that is not the pair's.
    pub wrong_key: bool,
    /// A person took the duty that it has.
    pub by_hand: bool,
    /// The process stands still; its guard does not.
    pub frozen: bool,
    /// The same, for the process's clock.
    pub still: LatestSender<bool>,
    /// Whoever waits for the thaw.
    pub waiting: Vec<Waker>,
    /// What its process has open.
    pub sockets: Sockets,
    /// What lives of the plugins.
    pub plugins: Option<Plugins>,
    /// The lease that the guard judges by.
    pub hold_until: Option<BootTime>,
    /// What the guard keeps.
    pub secret: Option<Secret>,
    /// The boot-time clock at the start of the simulation.
    pub boot: Duration,
    /// By how many millionths that clock is too fast.
    pub drift_ppm: i32,
    /// From a start to every plugin ready.
    pub start_takes: Duration,
    /// From an ordered stop to the last plugin gone.
    pub stop_takes: Duration,
    /// From a kill to the last plugin gone.
    pub kill_takes: Duration,
    /// From an ordered stop to the kill of whatever has not ended.
    pub stop_grace: Duration,
    /// So many starts fail.
    pub failing_starts: u32,
    /// So many have failed since one succeeded.
    pub failed_in_a_row: u32,
    /// What the preflight finds.
    pub unfit: Option<String>,
    /// What is on the disk.
    pub memory: Memory,
    /// What is on the disk.
    pub reserved_up_to: Option<Epoch>,
    /// When the disk was last lost.
    pub disk_lost_at: Option<Duration>,
    /// How long a write takes; `None`: it fails.
    pub write_takes: Option<Duration>,
    /// A machine that breaks a rule.
    pub rules: Option<Rules>,
    /// The state by the last recorded transition.
    pub recorded: Option<State>,
    /// The way to the running driver.
    pub operators: Option<OperatorHandle>,
    /// SIGTERM.
    pub stop: CancellationToken,
    /// News of the preflight for the supervisor.
    pub preflight: Arc<tokio::sync::Notify>,
    /// A plugin has ended by itself.
    pub plugin_died: Arc<tokio::sync::Notify>,
    /// The guard was killed.
    pub guard_died: Arc<tokio::sync::Notify>,
    /// It was asked to end.
    pub stopping: bool,
    /// How the process ended by itself.
    pub ended: Option<RunEnd>,
}

impl Host {
    fn new(boot: Duration) -> Self {
        Self {
            phase: Phase::Off,
            runs: 0,
            begun: Duration::ZERO,
            wrong_key: false,
            by_hand: false,
            frozen: false,
            still: latest(false).0,
            waiting: Vec::new(),
            sockets: Sockets::default(),
            plugins: None,
            hold_until: None,
            secret: None,
            boot,
            drift_ppm: 0,
            start_takes: Duration::from_millis(40),
            stop_takes: Duration::from_millis(30),
            kill_takes: Duration::from_millis(20),
            stop_grace: Duration::from_secs(1),
            failing_starts: 0,
            failed_in_a_row: 0,
            unfit: None,
            memory: Memory::default(),
            reserved_up_to: None,
            disk_lost_at: None,
            write_takes: Some(Duration::from_millis(2)),
            rules: None,
            recorded: None,
            operators: None,
            stop: CancellationToken::new(),
            preflight: Arc::default(),
            plugin_died: Arc::default(),
            guard_died: Arc::default(),
            stopping: false,
            ended: None,
        }
    }

    /// What the running driver says it does.
    #[must_use]
    pub fn state(&self) -> Option<State> {
        self.operators.as_ref().map(|operators| operators.report().state)
    }

    /// Whether the node knows of a maintenance window.
    #[must_use]
    pub fn in_maintenance(&self) -> bool {
        self.operators.as_ref().is_some_and(|operators| operators.report().maintenance.window.is_some())
    }
}

/// The two cables of a pair with two addresses. One that is cut gives no sign: what is sent waits, as TCP has it.
#[derive(Debug, Default)]
pub struct Cables {
    cut: [bool; 2],
    /// When both were whole again.
    whole_since: Duration,
    waiting: Vec<Waker>,
}

impl Cables {
    /// Whether this one is cut.
    #[must_use]
    pub const fn cut(&self, cable: usize) -> bool {
        self.cut[cable]
    }

    /// Whether something comes through; if not, `waker` is woken when it does.
    pub fn passes(&mut self, cable: usize, waker: &Waker) -> bool {
        if self.cut[cable] {
            self.waiting.push(waker.clone());
        }
        !self.cut[cable]
    }

    /// Since when both are whole; `None`: one is cut.
    #[must_use]
    pub fn whole_since(&self) -> Option<Duration> {
        (self.cut == [false; 2]).then_some(self.whole_since)
    }

    /// Cuts one.
    pub const fn sever(&mut self, cable: usize) {
        self.cut[cable] = true;
    }

    /// Mends both; `false`: both were whole.
    pub fn mend(&mut self, now: Duration) -> bool {
        let cut = std::mem::take(&mut self.cut) != [false; 2];
        if cut {
            self.whole_since = now;
            self.waiting.drain(..).for_each(Waker::wake);
        }
        cut
    }
}

/// Everything, shared by the test and the hosts.
#[derive(Debug)]
pub struct World {
    /// Both hosts.
    pub hosts: [Host; 2],
    /// Nothing passes from this host.
    pub cut: [bool; 2],
    /// Everything under way is held back.
    pub held: bool,
    /// Two cables, of which a pair may use one.
    pub cables: Cables,
    /// A firewall resets and refuses every connection.
    pub rejecting: bool,
    /// Messages take longer than the guarantees allow for.
    pub lagging: bool,
    /// What happened, in the order of its happening.
    pub log: Vec<(Duration, String)>,
    /// What went in and out meanwhile.
    pub traffic: Vec<Traffic>,
    /// The invariants.
    pub checks: Checks,
}

/// The world, from anywhere.
#[derive(Clone, Debug)]
pub struct Shared(Arc<Mutex<World>>);

impl Default for Shared {
    fn default() -> Self {
        let hosts = [Host::new(Duration::from_secs(500)), Host::new(Duration::from_secs(90_000))];
        Self(Arc::new(Mutex::new(World {
            hosts,
            cut: [false; 2],
            held: false,
            cables: Cables::default(),
            rejecting: false,
            lagging: false,
            log: Vec::new(),
            traffic: Vec::new(),
            checks: Checks::default(),
        })))
    }
}

impl Shared {
    /// The world. Nothing that holds it may wait.
    pub fn lock(&self) -> MutexGuard<'_, World> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says what happened on a node now.
    pub fn note(&self, node: usize, what: &str) {
        self.lock().note(now(), node, what);
    }
}

/// The simulated time. Only inside a host.
#[must_use]
pub fn now() -> Duration {
    turmoil::sim_elapsed().expect("inside the simulation")
}

impl World {
    /// Says what happened on a node.
    pub fn note(&mut self, at: Duration, node: usize, what: &str) {
        let name = NAMES[node];
        self.log.push((at, format!("{name:<5} {what}")));
    }

    /// The log of both nodes, by time.
    #[must_use]
    pub fn told(&self) -> String {
        let mut lines: Vec<_> = self.log.iter().collect();
        lines.sort_by_key(|(at, _)| *at);
        let line = |(at, what): &&(Duration, String)| {
            format!("{:>5}.{:03} {what}\n", at.as_secs(), at.subsec_millis())
        };
        lines.iter().map(line).collect()
    }

    /// An event of a node's journal.
    pub fn recorded(&mut self, at: Duration, node: usize, event: &Event) {
        let mut line = match event.transition {
            Some((from, to)) => format!("{from} -> {to}: {} [{}]", event.sentence, event.code.as_str()),
            None => format!("{} {}: {}", event.severity, event.code.as_str(), event.sentence),
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
        self.note(at, node, &line);
        if let Some((_, to)) = event.transition {
            if to == State::TakingOver {
                self.taking_over(at, node, event);
            }
            self.hosts[node].recorded = Some(to);
            if !to.may_run_plugins() && self.hosts[node].plugins.is_some() {
                self.checks.break_rule(at, format!("I4: {} is in {to} while its plugins live", NAMES[node]));
            }
        }
    }

    /// I5: in maintenance a node takes the duty only when a person tells it to, or when it had it before.
    fn taking_over(&mut self, at: Duration, node: usize, event: &Event) {
        let by_hand = event.request.as_ref().is_some_and(|request| request.0.starts_with(BY_HAND));
        self.hosts[node].by_hand = by_hand;
        if self.hosts[node].in_maintenance() && !by_hand && !self.checks.ran_before(node) {
            self.checks.break_rule(
                at,
                format!("I5: {} takes the duty in maintenance: {}", NAMES[node], event.sentence),
            );
        }
    }

    /// I6: what a node says it does is what it has recorded.
    pub fn recorded_what_it_does(&mut self, at: Duration) {
        for node in [ALPHA, BETA] {
            let host = &self.hosts[node];
            let (Some(state), recorded) = (host.state(), host.recorded.unwrap_or(State::Starting)) else {
                continue;
            };
            if state != recorded {
                self.checks
                    .break_rule(at, format!("I6: {} is in {state}, and recorded {recorded}", NAMES[node]));
            }
        }
    }

    /// Plugins begin to live.
    pub fn plugins_begin(&mut self, at: Duration, node: usize, epoch: Epoch) {
        self.note(at, node, &format!("  plugins of epoch {epoch} start"));
        let state = self.hosts[node].state();
        if state.is_some_and(|state| !state.may_run_plugins()) {
            self.checks.break_rule(at, format!("I3: {} starts plugins in {state:?}", NAMES[node]));
        }
        self.hosts[node].plugins = Some(Plugins { epoch, since: at, gone_at: None, dying: false });
        self.checks.epoch_used(at, node, epoch);
        self.beside_a_stranger(at, node);
        let other = self.hosts[1 - node].plugins.is_some();
        let in_the_way = self.in_the_way();
        self.checks.begun(at, node, epoch, other, in_the_way);
    }

    /// I12: with `on_unproved = "hold"` the secondary never starts beside a living peer that answers with a wrong key and
    /// has had its time to.
    fn beside_a_stranger(&mut self, at: Duration, node: usize) {
        let [alpha, beta] = &self.hosts;
        let answers = alpha.phase == Phase::Manager
            && !alpha.frozen
            && alpha.plugins.is_some()
            && at > alpha.begun + self.checks.grace;
        let holds = node == BETA && self.checks.holds && !beta.by_hand;
        let reached = !self.network_fails() && self.checks.last_network_fault + self.checks.grace < at;
        if holds && answers && reached && self.strangers() {
            self.checks
                .break_rule(at, "I12: beta starts beside alpha, which answers with a wrong key".to_owned());
        }
    }

    /// The plugins go on under another epoch.
    pub fn plugins_renumbered(&mut self, at: Duration, node: usize, epoch: Epoch) {
        self.note(at, node, &format!("  plugins go on under epoch {epoch}"));
        if let Some(plugins) = self.hosts[node].plugins.as_mut() {
            plugins.epoch = epoch;
        }
        self.checks.epoch_used(at, node, epoch);
        self.checks.renumbered(at, node, epoch);
    }

    /// The manager dies, or ends: what it has not written is lost.
    pub fn dies(&mut self, node: usize) {
        let host = &self.hosts[node];
        self.checks.dies(node, host.memory.last_held, host.reserved_up_to);
    }

    /// The last plugin is reaped.
    pub fn plugins_end(&mut self, at: Duration, node: usize) {
        if let Some(plugins) = self.hosts[node].plugins.take() {
            self.note(at, node, &format!("  plugins of epoch {} are gone", plugins.epoch));
            self.hosts[node].hold_until = None;
            self.checks.ended(at, node);
        }
    }

    /// Kills what lives; it is gone a moment later.
    pub fn kill_plugins(&mut self, at: Duration, node: usize) {
        let takes = self.hosts[node].kill_takes;
        if let Some(plugins) = self.hosts[node].plugins.as_mut()
            && !plugins.dying
        {
            plugins.dying = true;
            let gone_at = at + takes;
            plugins.gone_at = Some(plugins.gone_at.map_or(gone_at, |earlier| earlier.min(gone_at)));
        }
    }

    /// Whether the two have different keys: then they are no pair, and nothing can keep both from running their plugins.
    #[must_use]
    pub const fn strangers(&self) -> bool {
        self.hosts[ALPHA].wrong_key != self.hosts[BETA].wrong_key
    }

    /// Whether the network is in the way of anything.
    #[must_use]
    pub fn network_fails(&self) -> bool {
        self.cut != [false; 2] || self.held || self.rejecting || self.lagging
    }

    /// Whether anything keeps the two from hearing each other.
    #[must_use]
    pub fn in_the_way(&self) -> bool {
        self.network_fails() || self.strangers()
    }

    /// Lets a process go on, or not.
    pub fn set_frozen(&mut self, node: usize, frozen: bool) {
        let host = &mut self.hosts[node];
        host.frozen = frozen;
        host.still.change(|still| std::mem::replace(still, frozen) != frozen);
        if !frozen {
            host.waiting.drain(..).for_each(Waker::wake);
        }
    }
}
