//! One life of a pair, in the hands of a test: time, faults, requests, and what must hold in the end.

use std::sync::Arc;
use std::time::Duration;

use failover_core::{Memory, OnUnproved, Rules, State};
use turmoil::Sim;

use crate::world::{ALPHA, BETA, NAMES, Phase, Shared, World};
use crate::{Chosen, node};

mod faults;
mod people;

/// How a life is simulated, beside its settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// Simulated time per step. What the two nodes do within a step is not seen by the other before its end.
    pub tick: Duration,
    /// The shortest and the longest way of a message; with the tick well within the round trip that the guarantees
    /// hold for.
    pub latency: (Duration, Duration),
    /// By how many millionths each node's clock is too fast.
    pub drift_ppm: [i32; 2],
    /// Machines that break a rule.
    pub rules: Option<Rules>,
}

impl Default for Terms {
    fn default() -> Self {
        let ms = Duration::from_millis;
        Self { tick: ms(1), latency: (ms(1), ms(6)), drift_ppm: [0; 2], rules: None }
    }
}

/// A pair on its simulated network.
pub struct Pair {
    sim: Sim<'static>,
    /// What happens.
    pub shared: Shared,
    /// What it goes by.
    pub chosen: Chosen,
    /// What is to happen, for whoever reads a failure.
    pub plan: String,
    latency: (Duration, Duration),
    seed: u64,
    requests: u32,
}

impl std::fmt::Debug for Pair {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pair").field("seed", &self.seed).finish_non_exhaustive()
    }
}

impl Pair {
    /// Two hosts without power.
    ///
    /// # Panics
    ///
    /// When the settings are refused.
    #[must_use]
    pub fn new(seed: u64, chosen: Chosen) -> Self {
        Self::on(Terms::default(), seed, chosen)
    }

    /// The same on other terms.
    ///
    /// # Panics
    ///
    /// When the settings are refused.
    #[must_use]
    pub fn on(terms: Terms, seed: u64, chosen: Chosen) -> Self {
        let mut sim = turmoil::Builder::new()
            .rng_seed(seed)
            .tick_duration(terms.tick)
            .tcp_capacity(1024)
            .min_message_latency(terms.latency.0)
            .max_message_latency(terms.latency.1)
            .simulation_duration(Duration::from_secs(86_400))
            .epoch(std::time::UNIX_EPOCH)
            .build();
        let shared = Shared::default();
        for host in [ALPHA, BETA] {
            shared.lock().hosts[host].drift_ppm = terms.drift_ppm[host];
            shared.lock().hosts[host].rules = terms.rules;
            shared.lock().hosts[host].stop_grace = chosen.stop_grace;
            let loaded = Arc::new(chosen.load(host).expect("settings that validation accepts"));
            let shared = shared.clone();
            sim.host(NAMES[host], move || node::software(shared.clone(), host, Arc::clone(&loaded)));
        }
        // From a fault to a takeover because of it: a silence, or a whole start-up wait, and what is under way.
        shared.lock().checks.grace = chosen.silence() + chosen.longest_wait() + Duration::from_millis(500);
        shared.lock().checks.holds = chosen.on_unproved == OnUnproved::Hold;
        Self { sim, shared, chosen, plan: String::new(), latency: terms.latency, seed, requests: 0 }
    }

    /// A pair that is up: the primary active, the secondary on standby.
    ///
    /// # Panics
    ///
    /// When it does not come up.
    #[must_use]
    pub fn up(seed: u64, chosen: Chosen) -> Self {
        let mut pair = Self::new(seed, chosen);
        pair.come_up();
        pair
    }

    /// Boots both; the primary becomes active, the secondary stands by.
    ///
    /// # Panics
    ///
    /// When that takes too long.
    pub fn come_up(&mut self) {
        self.boot(ALPHA);
        self.boot(BETA);
        let within = Duration::from_secs(7) + self.chosen.longest_wait();
        self.until("the primary is active, the secondary on standby", within, |world| {
            state(world, ALPHA) == Some(State::Active)
                && state(world, BETA) == Some(State::Standby)
                && tombstone_promised(world, ALPHA)
        });
        // Until each has said so to the other.
        let said = self.chosen.interval * 2;
        self.run_for(said);
    }

    // ------------------------------------------------------------------------------------ time

    /// The simulated time.
    #[must_use]
    pub fn now(&self) -> Duration {
        self.sim.elapsed()
    }

    fn step(&mut self) {
        if let Err(error) = self.sim.step() {
            self.fail(&format!("the simulation broke: {error}"));
        }
        let now = self.now();
        let mut taken_down = Vec::new();
        {
            let mut world = self.shared.lock();
            world.recorded_what_it_does(now);
            for host in [ALPHA, BETA] {
                if world.hosts[host].phase == Phase::Manager && world.hosts[host].ended.is_some() {
                    taken_down.push(host);
                }
            }
            if world.network_fails() {
                world.checks.last_network_fault = now;
            }
            if world.in_the_way() {
                world.checks.last_in_the_way = Some(now);
            }
        }
        for host in taken_down {
            self.shared.lock().hosts[host].phase = Phase::Off;
            self.crash(host);
            self.end_leftovers(host);
            // The host stays up: whoever dials it is refused.
            self.sim.bounce(NAMES[host]);
        }
        let broken = self.shared.lock().checks.broken.first().cloned();
        if let Some((_, what)) = broken {
            self.fail(&what);
        }
    }

    /// Lets time pass.
    pub fn run_for(&mut self, span: Duration) {
        let end = self.now() + span;
        while self.now() < end {
            self.step();
        }
    }

    /// Lets time pass until something is so, at most `within`.
    ///
    /// # Panics
    ///
    /// When it is not.
    pub fn until(&mut self, what: &str, within: Duration, so: impl Fn(&World) -> bool) {
        if !self.waited(within, so) {
            self.fail(&format!("not within {within:?}: {what}"));
        }
    }

    /// Lets time pass until something is so, at most `within`; whether it was.
    pub fn waited(&mut self, within: Duration, so: impl Fn(&World) -> bool) -> bool {
        let end = self.now() + within;
        while self.now() < end {
            if so(&self.shared.lock()) {
                return true;
            }
            self.step();
        }
        so(&self.shared.lock())
    }

    /// Ends the test with everything that happened.
    ///
    /// # Panics
    ///
    /// Always.
    #[expect(clippy::panic, reason = "how a test fails")]
    pub fn fail(&self, what: &str) -> ! {
        let told = self.shared.lock().told();
        let states = [ALPHA, BETA].map(|host| state(&self.shared.lock(), host));
        panic!(
            "at {:?}: {what}\nstates: {states:?}\n{told}{}settings: {:?}\nseed: {}\nthe same again: ONDUTY_SIM_SEED={}\n",
            self.now(),
            self.plan,
            self.chosen,
            self.seed,
            self.seed
        );
    }

    /// Says what was done to a node.
    pub fn note(&self, node: usize, what: &str) {
        self.shared.lock().note(self.now(), node, what);
    }

    // ------------------------------------------------------------------------------------ processes

    /// Starts the node's process, with the guard and whatever lives of an earlier one ended first.
    pub fn boot(&mut self, host: usize) {
        if self.shared.lock().hosts[host].phase == Phase::Manager {
            return;
        }
        self.note(host, "* boots");
        self.enter(host, Phase::Manager);
    }

    fn enter(&mut self, host: usize, phase: Phase) {
        {
            let mut world = self.shared.lock();
            world.set_frozen(host, false);
            world.hosts[host].operators = None;
            world.hosts[host].ended = None;
            world.hosts[host].phase = phase;
        }
        self.crash(host);
        self.sim.bounce(NAMES[host]);
    }

    /// `kill -9` of the manager: its guard ends the plugins and shows the tombstone.
    pub fn kill(&mut self, host: usize) {
        if self.shared.lock().hosts[host].phase == Phase::Manager {
            self.note(host, "* the manager is killed");
            self.shared.lock().dies(host);
            self.enter(host, Phase::Guard);
        }
    }

    /// The host loses power: nothing lives, nothing answers, nothing says goodbye.
    pub fn power_off(&mut self, host: usize) {
        self.note(host, "* the host loses power");
        let (cut, held) = {
            let world = self.shared.lock();
            (world.cut, world.held)
        };
        // Its sockets say no goodbye. What is held back stays on its way.
        if !held {
            self.sim.partition(NAMES[ALPHA], NAMES[BETA]);
        }
        {
            let mut world = self.shared.lock();
            world.set_frozen(host, false);
            let now = self.sim.elapsed();
            world.hosts[host].operators = None;
            world.hosts[host].secret = None;
            world.hosts[host].phase = Phase::Off;
            world.plugins_end(now, host);
            world.dies(host);
        }
        self.crash(host);
        if !held {
            self.sim.repair(NAMES[ALPHA], NAMES[BETA]);
            self.apply(cut);
        }
    }

    /// The end of everything that the host runs.
    fn crash(&mut self, host: usize) {
        self.shared.lock().hosts[host].sockets.set_dying(true);
        self.sim.crash(NAMES[host]);
        self.shared.lock().hosts[host].sockets.set_dying(false);
    }

    fn end_leftovers(&self, host: usize) {
        let now = self.now();
        self.shared.lock().plugins_end(now, host);
    }

    /// SIGTERM.
    pub fn terminate(&mut self, host: usize) {
        self.note(host, "* SIGTERM");
        let stop = {
            let mut world = self.shared.lock();
            if world.hosts[host].phase != Phase::Manager {
                return;
            }
            world.hosts[host].stopping = true;
            world.hosts[host].stop.clone()
        };
        stop.cancel();
    }

    /// The process stands still, its guard does not; or it goes on.
    pub fn freeze(&mut self, host: usize, frozen: bool) {
        self.note(host, if frozen { "* the manager stands still" } else { "* the manager goes on" });
        self.shared.lock().set_frozen(host, frozen);
    }

    /// What the machine remembered, the epochs, or both are gone from the disk.
    pub fn lose_disk(&mut self, host: usize, memory: bool, epochs: bool) {
        let what = match (memory, epochs) {
            (true, true) => "* the disk is lost",
            (true, false) => "* the memory on the disk is lost",
            (false, _) => "* the epochs on the disk are lost",
        };
        self.note(host, what);
        let mut world = self.shared.lock();
        world.checks.forget(self.sim.elapsed());
        let host = &mut world.hosts[host];
        if memory {
            host.memory = Memory::default();
        }
        if epochs {
            host.reserved_up_to = None;
            host.disk_lost_at = Some(self.sim.elapsed());
        }
    }

    /// A plugin that ran ends by itself.
    pub fn plugin_dies(&mut self, host: usize) {
        self.note(host, "* a plugin ends by itself");
        self.shared.lock().hosts[host].plugin_died.notify_one();
    }

    /// The guard is killed; its containment ends the plugins.
    pub fn guard_dies(&mut self, host: usize) {
        self.note(host, "* the guard is killed");
        self.shared.lock().hosts[host].guard_died.notify_one();
    }

    // ------------------------------------------------------------------------------------ what must hold

    /// Both nodes' states.
    #[must_use]
    pub fn states(&self) -> [Option<State>; 2] {
        let world = self.shared.lock();
        [ALPHA, BETA].map(|host| state(&world, host))
    }

    /// Nothing has run twice.
    pub fn never_twice(&self) {
        let overlap = self.shared.lock().checks.overlap(self.now());
        if !overlap.is_zero() {
            self.fail(&format!("I1: both nodes' plugins lived for {overlap:?}"));
        }
    }

    /// Everything works again: one is active and one on standby within the bound (I8), and stays so; the plugins of the
    /// one live (I9) under the highest epoch there is (I10).
    pub fn heals(&mut self) {
        let within = self.chosen.healing();
        self.heals_within(within);
    }

    /// Ends every fault, and starts what does not run, as a service manager does.
    pub fn mend(&mut self) {
        self.note(ALPHA, "* everything is mended");
        self.reject(false);
        self.lag(None);
        self.cut([false; 2]);
        self.mend_cables();
        if self.shared.lock().held {
            self.release();
        }
        for host in [ALPHA, BETA] {
            if self.shared.lock().hosts[host].wrong_key {
                self.kill(host);
                self.shared.lock().hosts[host].wrong_key = false;
            }
        }
        for host in [ALPHA, BETA] {
            self.freeze(host, false);
            self.set_unfit(host, false);
            let mut world = self.shared.lock();
            world.hosts[host].failing_starts = 0;
            world.hosts[host].write_takes = Some(Duration::from_millis(2));
        }
        self.restart();
        for host in [ALPHA, BETA] {
            let set = self.shared.lock().hosts[host].in_maintenance();
            if set {
                self.maintenance_off(host);
            }
        }
    }

    /// Starts whatever does not run, or comes to its end because it was asked to.
    pub fn restart(&mut self) {
        // A stop is bounded by the driver itself.
        let end = self.now() + Duration::from_secs(20);
        loop {
            for host in [ALPHA, BETA] {
                self.boot(host);
            }
            self.run_for(Duration::from_millis(10));
            let stopping = {
                let world = self.shared.lock();
                world.hosts.iter().any(|host| host.phase != Phase::Manager || host.stopping)
            };
            if !stopping {
                return;
            }
            if self.now() > end {
                self.fail("a stop does not come to its end");
            }
        }
    }

    /// The same with a bound of its own.
    pub fn heals_within(&mut self, within: Duration) {
        self.until("one active, one on standby", within, settled);
        self.comes_to_rest();
    }

    fn comes_to_rest(&mut self) {
        // A return may follow, with its own hand-over; after it nothing moves any more.
        let more = self.chosen.healing();
        let move_over = self.chosen.start_within + self.chosen.stop_grace;
        let calm = self.chosen.stable_for + self.chosen.silence() * 2 + Duration::from_millis(300);
        let end = self.now() + more;
        let mut since = self.now();
        while self.now() - since < calm {
            if !settled(&self.shared.lock()) {
                since = self.now();
            }
            if self.now() > end + move_over + calm {
                self.fail("I8: the pair does not come to rest");
            }
            self.step();
        }
        let (active, epoch, disputed) = {
            let world = self.shared.lock();
            let active = usize::from(state(&world, BETA) == Some(State::Active));
            (active, world.hosts[active].plugins.map(|plugins| plugins.epoch), world.checks.disputed())
        };
        if epoch < disputed {
            let name = NAMES[active];
            self.fail(&format!(
                "I10: {name} is active under epoch {epoch:?}, which is below {disputed:?} of the conflict"
            ));
        }
    }
}

/// What a node says it does.
#[must_use]
pub fn state(world: &World, host: usize) -> Option<State> {
    world.hosts[host].state()
}

/// Whether the node's report carries the promise of a tombstone.
#[must_use]
pub fn tombstone_promised(world: &World, host: usize) -> bool {
    let operators = world.hosts[host].operators.as_ref();
    operators.is_some_and(|operators| operators.report().tombstone.is_some())
}

/// One node active with living plugins, the other on standby without.
#[must_use]
pub fn settled(world: &World) -> bool {
    let states = [state(world, ALPHA), state(world, BETA)];
    let active = match states {
        [Some(State::Active), Some(State::Standby)] => ALPHA,
        [Some(State::Standby), Some(State::Active)] => BETA,
        _ => return false,
    };
    world.hosts[active].plugins.is_some() && world.hosts[1 - active].plugins.is_none()
}
