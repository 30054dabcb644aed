//! Two nodes on this same core in a model checker (stateright): every order of deliveries, losses, crashes, freezes,
//! slow starts and slow stops, to a stated depth.
//!
//! Time is discretised: a step of half an interval lets both machines see every deadline that falls into it, at its
//! exact moment. Between steps messages are delivered, held, doubled or lost, processes die, stand still and return
//! with or without memory. Default: depth 20 (10 with losses), a few seconds. Deeper:
//! `ONDUTY_MODEL_DEPTH=28 cargo test --release -p failover-core --test model -- --ignored`
#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod pair;

use std::time::Duration;

use failover_core::{
    Beat, BootTime, DutyOrder, Effect, Epoch, Input, Machine, Memory, Now, PathId, SessionId, State, Via,
};
use stateright::{Checker, Model, Property};

/// The most network paths.
const PATHS: usize = 2;
/// One step: half an interval.
const STEP: Duration = Duration::from_millis(500);

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Node {
    machine: Option<Machine>,
    frozen: bool,
    plugins: Option<(Epoch, bool)>,
    hold_until: Option<BootTime>,
    memory: Memory,
    reserved: Option<Epoch>,
    run: u32,
    seen: [Option<BootTime>; PATHS],
    sequence: u64,
    /// The newest beat to this node over each path, still under way.
    inbox: [Option<BeatBox>; PATHS],
}

/// A beat, compared and hashed by what it says.
#[derive(Clone, Debug, PartialEq, Eq)]
struct BeatBox(Box<Beat>);

impl std::hash::Hash for BeatBox {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        (self.0.sequence, self.0.stamp, self.0.echo, &self.0.report).hash(state);
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Pair {
    now: BootTime,
    nodes: [Node; 2],
    /// Counts up.
    session: u64,
    /// The session of each path; 0: none.
    open: [u64; PATHS],
    /// How many paths there are.
    paths: usize,
    steps: u32,
    faults: u32,
    /// A message was lost: from here on the pair may have been parted.
    parted: bool,
    epochs: Vec<Epoch>,
    wrong: Option<&'static str>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Action {
    Step,
    Deliver(usize, usize, bool),
    Lose(usize, usize),
    Connect(usize),
    Break(usize),
    Ready(usize),
    Fail(usize),
    Reaped(usize),
    Crash(usize),
    Boot(usize, bool),
    Freeze(usize),
    Thaw(usize),
    Switchover(usize),
}

struct Rules {
    paths: usize,
    faults: u32,
    losses: bool,
}

impl Pair {
    fn new(paths: usize) -> Self {
        let node = || Node {
            machine: None,
            frozen: false,
            plugins: None,
            hold_until: None,
            memory: Memory::default(),
            reserved: Some(Epoch(0)),
            run: 0,
            seen: [None; PATHS],
            sequence: 0,
            inbox: [None, None],
        };
        let mut pair = Self {
            now: BootTime::from_millis(1000),
            nodes: [node(), node()],
            session: 0,
            open: [0; PATHS],
            paths,
            steps: 0,
            faults: 0,
            parted: false,
            epochs: Vec::new(),
            wrong: None,
        };
        pair.boot(0, true);
        pair.boot(1, true);
        pair
    }

    fn clock(&self) -> Now {
        Now { boot: self.now, unix: 1_700_000_000 }
    }

    fn boot(&mut self, node: usize, remembers: bool) {
        let mut settings = pair::settings(node);
        let paths = self.paths;
        let one = &mut self.nodes[node];
        one.run += 1;
        settings.identity = pair::identity(u8::try_from(node).unwrap(), one.run);
        // Short, so that the depth reaches beyond it; still longer than the takeover time.
        settings.startup_wait = Duration::from_secs(4);
        settings.paths = (0..paths).map(|path| format!("https://10.0.{path}.1:5001")).collect();
        if !remembers {
            one.memory = Memory::default();
        }
        one.plugins = None;
        one.hold_until = None;
        let (machine, effects) =
            Machine::new(self.clock(), settings, self.nodes[node].memory.clone(), self.nodes[node].reserved);
        self.nodes[node].machine = Some(machine);
        self.carry_out(node, effects);
    }

    fn feed(&mut self, node: usize, input: Input) {
        let now = self.clock();
        if let Some(machine) = self.nodes[node].machine.as_mut() {
            let effects = machine.handle(now, input);
            self.carry_out(node, effects);
        }
    }

    fn carry_out(&mut self, node: usize, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Order(order) => self.order(node, order),
                Effect::Announce => self.send(node),
                Effect::ReserveEpochs { up_to } => {
                    self.nodes[node].reserved = Some(up_to);
                    self.feed(node, Input::EpochsReserved { up_to });
                }
                Effect::Remember(memory) => self.nodes[node].memory = *memory,
                Effect::ArmTombstone { .. }
                | Effect::CloseSession { .. }
                | Effect::Record(_)
                | Effect::RequestLicence { .. }
                | Effect::ReleaseLicence { .. }
                | Effect::ChangeMode { .. }
                | Effect::Finish => {}
            }
        }
    }

    fn order(&mut self, node: usize, order: DutyOrder) {
        let one = &mut self.nodes[node];
        one.hold_until = order.hold_until();
        match order {
            DutyOrder::Run { epoch, .. } => {
                if one.plugins.is_none_or(|(running, _)| running != epoch) {
                    if self.epochs.contains(&epoch) {
                        self.wrong = Some("I2: an epoch is used twice");
                    }
                    self.epochs.push(epoch);
                }
                one.plugins = Some((epoch, false));
            }
            DutyOrder::Stop { .. } | DutyOrder::Kill { .. } => {
                one.plugins = one.plugins.map(|(epoch, _)| (epoch, true));
            }
        }
    }

    fn connected(&self) -> bool {
        self.open[..self.paths].iter().all(|session| *session != 0)
    }

    fn send(&mut self, from: usize) {
        for path in 0..self.paths {
            self.send_over(from, path);
        }
    }

    fn send_over(&mut self, from: usize, path: usize) {
        let (open, now) = (self.open[path] != 0, self.now);
        let one = &mut self.nodes[from];
        let Some(machine) = one.machine.as_ref().filter(|_| open && !one.frozen) else { return };
        one.sequence += 1;
        let beat =
            Beat { sequence: one.sequence, stamp: now, echo: one.seen[path], report: machine.report() };
        // Over a single path the newest replaces what it overtakes; over two, an old one may stay behind on either.
        self.nodes[1 - from].inbox[path] = Some(BeatBox(Box::new(beat)));
    }

    fn deliver(&mut self, to: usize, path: usize, again: bool) {
        let inbox = &mut self.nodes[to].inbox[path];
        let beat = if again { inbox.clone() } else { inbox.take() };
        let Some(BeatBox(beat)) = beat else { return };
        self.nodes[to].seen[path] = self.nodes[to].seen[path].max(Some(beat.stamp));
        let session = SessionId(self.open[path]);
        self.feed(to, Input::BeatArrived { session, beat });
        if to == 0 && !again {
            self.send_over(0, path);
        }
    }

    fn connect(&mut self, path: usize) {
        self.session += 1;
        self.open[path] = self.session;
        for node in [0, 1] {
            self.nodes[node].inbox[path] = None;
            self.nodes[node].seen[path] = None;
            let report = self.nodes[1 - node].machine.as_ref().unwrap().report();
            let session = SessionId(self.session);
            let id = PathId::try_from(u8::try_from(path).unwrap()).unwrap();
            let via = Via { path: id, paths: self.paths, remote: String::new(), dialled: node == 1 };
            let (peer, role, mode) = (report.identity, report.role, report.mode);
            self.feed(node, Input::SessionProved { session, via, peer, role, mode });
        }
        self.send_over(1, path);
    }

    /// The connection of a path breaks: each end that lives learns of it.
    fn disconnect(&mut self, path: usize, dead: Option<usize>) {
        let session = SessionId(core::mem::take(&mut self.open[path]));
        for node in [0, 1] {
            self.nodes[node].inbox[path] = None;
        }
        for node in [0, 1].into_iter().filter(|node| dead != Some(*node) && session.0 != 0) {
            self.feed(node, Input::SessionEnded { session, cause: "reset".to_owned() });
        }
    }

    /// Half an interval passes; every deadline in it is met at its moment.
    fn step(&mut self) {
        let end = self.now + STEP;
        self.steps += 1;
        for _ in 0..64 {
            let due =
                |node: &Node| node.machine.as_ref().filter(|_| !node.frozen).and_then(Machine::deadline);
            let wake = [0, 1].map(|node| due(&self.nodes[node]));
            let guard =
                [0, 1].map(|node| self.nodes[node].hold_until.filter(|_| self.nodes[node].plugins.is_some()));
            let next = wake.into_iter().chain(guard).flatten().min();
            let Some(next) = next.filter(|next| *next <= end) else { break };
            self.now = self.now.max(next);
            for node in [0, 1] {
                if guard[node].is_some_and(|until| until <= self.now) {
                    self.guard_kills(node);
                }
                if wake[node].is_some_and(|due| due <= self.now) {
                    self.feed(node, Input::Woke);
                }
            }
        }
        self.now = end;
        if self.steps.is_multiple_of(2) {
            self.send(1);
        }
    }

    fn guard_kills(&mut self, node: usize) {
        let Some((epoch, _)) = self.nodes[node].plugins.take() else { return };
        self.nodes[node].hold_until = None;
        if !self.nodes[node].frozen {
            self.feed(node, Input::GuardFired { epoch, why: "lease".to_owned() });
            self.feed(node, Input::PluginsReaped { epoch });
        }
    }

    fn judge(&mut self) {
        for node in &self.nodes {
            let Some(machine) = node.machine.as_ref() else { continue };
            if !machine.report().state.may_run_plugins() && node.plugins.is_some() {
                self.wrong = Some("I4: idle while plugins live");
            }
        }
        if !self.parted && self.nodes.iter().all(|node| node.plugins.is_some()) {
            self.wrong = Some("both run without a partition");
        }
    }
}

impl Model for Rules {
    type State = Pair;
    type Action = Action;

    fn init_states(&self) -> Vec<Pair> {
        vec![Pair::new(self.paths)]
    }

    fn actions(&self, state: &Pair, actions: &mut Vec<Action>) {
        let up = |node: usize| state.nodes[node].machine.is_some() && !state.nodes[node].frozen;
        // Without losses the latency is bounded: what can be delivered or dialled comes before time passes.
        let idle =
            [0, 1].iter().all(|node| state.nodes[*node].inbox.iter().all(Option::is_none) || !up(*node));
        let linked = state.connected() || !up(0) || !up(1);
        if self.losses || (idle && linked) {
            actions.push(Action::Step);
        }
        let may_fail = state.faults < self.faults;
        for path in 0..self.paths {
            if state.open[path] == 0 && up(0) && up(1) {
                actions.push(Action::Connect(path));
            } else if self.paths > 1 && may_fail && up(0) && up(1) {
                actions.push(Action::Break(path));
            }
        }
        for node in [0, 1] {
            let one = &state.nodes[node];
            for path in (0..self.paths).filter(|path| one.inbox[*path].is_some() && up(node)) {
                actions.push(Action::Deliver(node, path, false));
                if self.losses && may_fail {
                    actions.extend([Action::Deliver(node, path, true), Action::Lose(node, path)]);
                }
            }
            let told = one.machine.as_ref().map(|machine| machine.report().state);
            match (one.plugins, told) {
                (Some((_, true)), _) if up(node) => actions.push(Action::Reaped(node)),
                (Some((_, false)), Some(State::TakingOver)) if up(node) => {
                    actions.push(Action::Ready(node));
                    if may_fail {
                        actions.push(Action::Fail(node));
                    }
                }
                _ => {}
            }
            if one.machine.is_none() {
                actions.extend([Action::Boot(node, true), Action::Boot(node, false)]);
            } else if one.frozen {
                actions.push(Action::Thaw(node));
            } else if may_fail {
                actions.extend([Action::Crash(node), Action::Freeze(node)]);
                if told == Some(State::Active) {
                    actions.push(Action::Switchover(node));
                }
            }
        }
    }

    fn next_state(&self, last: &Pair, action: Action) -> Option<Pair> {
        let mut next = last.clone();
        match action {
            Action::Step => {
                // A message that is held for half an interval, or a dial that is not made: the pair is parted.
                next.parted |= self.losses;
                next.step();
            }
            Action::Connect(path) => next.connect(path),
            Action::Break(path) => {
                next.faults += 1;
                next.disconnect(path, None);
            }
            Action::Deliver(node, path, again) => {
                next.faults += u32::from(again);
                next.deliver(node, path, again);
            }
            Action::Lose(node, path) => {
                next.faults += 1;
                next.parted = true;
                next.nodes[node].inbox[path] = None;
            }
            Action::Ready(node) => {
                let (epoch, _) = next.nodes[node].plugins?;
                next.feed(node, Input::PluginsReady { epoch });
            }
            Action::Fail(node) => {
                next.faults += 1;
                let (epoch, _) = next.nodes[node].plugins?;
                next.feed(node, Input::PluginsFailed { epoch, why: "model".to_owned() });
            }
            Action::Reaped(node) => {
                let (epoch, _) = next.nodes[node].plugins.take()?;
                next.feed(node, Input::PluginsReaped { epoch });
            }
            Action::Crash(node) => {
                next.faults += 1;
                next.nodes[node].machine = None;
                next.nodes[node].plugins = None; // Its guard.
                for path in 0..next.paths {
                    next.disconnect(path, Some(node));
                }
            }
            Action::Boot(node, remembers) => next.boot(node, remembers),
            Action::Freeze(node) => {
                next.faults += 1;
                next.nodes[node].frozen = true;
            }
            Action::Thaw(node) => {
                next.nodes[node].frozen = false;
                next.feed(node, Input::Stalled { late_by: STEP });
                if node == 1 {
                    // A heartbeat that fell due meanwhile is sent at once, never skipped: the primary learns of an echo
                    // one interval late already.
                    next.send(1);
                }
            }
            Action::Switchover(node) => {
                next.faults += 1;
                let request = failover_core::RequestId(format!("model-{}", next.faults));
                next.feed(node, Input::SwitchoverRequested { request });
            }
        }
        next.judge();
        Some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("the invariants hold", |_, state: &Pair| state.wrong.is_none()),
            Property::sometimes("a node becomes active", |_, state: &Pair| {
                state.nodes.iter().any(|node| {
                    node.machine.as_ref().is_some_and(|machine| machine.report().state == State::Active)
                })
            }),
        ]
    }
}

fn explore(rules: Rules, depth: usize) -> usize {
    let checker = rules.checker().threads(1).target_max_depth(depth).spawn_bfs().join();
    checker.assert_properties();
    checker.unique_state_count()
}

/// Depth 20, some eight seconds of the pair: from the power switch through start, crash or freeze anywhere, takeover and
/// return. Latency is bounded, so nothing may ever run twice.
#[test]
fn every_short_life_with_one_fault_keeps_the_invariants() {
    let states = explore(Rules { paths: 1, faults: 1, losses: false }, 20);
    assert!(states > 200, "only {states} states");
}

/// Depth 10, with lost, held and doubled messages: the pair may be parted, every other invariant holds.
#[test]
fn every_short_life_with_a_lost_message_keeps_the_invariants() {
    let states = explore(Rules { paths: 1, faults: 1, losses: true }, 10);
    assert!(states > 200, "only {states} states");
}

/// Depth 11 on two paths, of which either may break, with messages that wait on one while the other goes on.
#[test]
fn every_short_life_on_two_paths_keeps_the_invariants() {
    let states = explore(Rules { paths: 2, faults: 1, losses: false }, 11);
    assert!(states > 200, "only {states} states");
    println!("two paths: {states} states");
}

/// As deep as there is patience: `ONDUTY_MODEL_DEPTH`, default 24 (half of it with losses), with two faults.
#[test]
#[ignore = "minutes; run it in release"]
fn every_longer_life_with_two_faults_keeps_the_invariants() {
    let depth = std::env::var("ONDUTY_MODEL_DEPTH").ok().and_then(|depth| depth.parse().ok()).unwrap_or(24);
    for (losses, depth) in [(false, depth), (true, depth / 2)] {
        let states = explore(Rules { paths: 1, faults: 2, losses }, depth);
        println!("two faults, losses {losses}: {states} states to depth {depth}");
        let states = explore(Rules { paths: 2, faults: 2, losses }, depth * 2 / 3);
        println!("two faults on two paths, losses {losses}: {states} states to depth {}", depth * 2 / 3);
    }
}
