//! Random lives of a pair: whatever happens, in whatever order, the invariants hold and the pair heals.
//!
//! Two kinds of life: without a partition nothing may ever run twice; with one (arbitration none) both may be active
//! until they meet, but every other invariant holds and the pair heals within a stated bound.
#![allow(clippy::unwrap_used)]

mod pair;
#[path = "pair/two_paths.rs"]
mod two_paths;

use failover_core::{EventCode, FailbackMode, Input, Mode, RequestId, State};
use pair::{Micros, World, ms};
use proptest::prelude::*;

#[derive(Clone, Debug)]
enum Deed {
    Run(u64),
    Boot(usize),
    Crash(usize),
    PowerOff(usize),
    Freeze(usize, u64),
    Switchover(usize),
    Stop(usize, bool),
    Unfit(usize, bool),
    FailStarts(usize, u32),
    StopTakes(usize, u64),
    GuardDies(usize),
    WorkloadFails(usize),
    Maintenance(usize, bool),
    Forget(usize),
    WallClock(usize, i64),
    Mode(usize, Mode),
    Cut(usize),
    Mend,
    Reject,
    Unproved,
    Lossy(u64),
    Path(usize, bool),
    Slow(usize, u64),
    Impostor(usize),
    Loose(usize, u64),
}

fn node() -> impl Strategy<Value = usize> {
    0_usize..2
}

fn tame() -> impl Strategy<Value = Deed> {
    prop_oneof![
        6 => (1_u64..9000).prop_map(Deed::Run),
        3 => node().prop_map(Deed::Boot),
        2 => node().prop_map(Deed::Crash),
        1 => node().prop_map(Deed::PowerOff),
        2 => (node(), 1_u64..9000).prop_map(|(node, span)| Deed::Freeze(node, span)),
        3 => node().prop_map(Deed::Switchover),
        1 => (node(), any::<bool>()).prop_map(|(node, handover)| Deed::Stop(node, handover)),
        1 => (node(), any::<bool>()).prop_map(|(node, unfit)| Deed::Unfit(node, unfit)),
        1 => (node(), 0_u32..3).prop_map(|(node, times)| Deed::FailStarts(node, times)),
        1 => (node(), 1_u64..4000).prop_map(|(node, span)| Deed::StopTakes(node, span)),
        1 => node().prop_map(Deed::GuardDies),
        1 => node().prop_map(Deed::WorkloadFails),
        1 => (node(), any::<bool>()).prop_map(|(node, on)| Deed::Maintenance(node, on)),
        2 => (node(), prop_oneof![2 => Just(Mode::Primary), 2 => Just(Mode::Secondary), 1 => Just(Mode::Deactivated)])
            .prop_map(|(node, mode)| Deed::Mode(node, mode)),
        1 => (node(), prop_oneof![Just(i64::MIN), Just(-700), Just(-30), Just(0), Just(700), Just(i64::MAX)])
            .prop_map(|(node, skew)| Deed::WallClock(node, skew)),
    ]
}

fn wild() -> impl Strategy<Value = Deed> {
    prop_oneof![
        6 => tame(),
        1 => (0_usize..2).prop_map(Deed::Cut),
        2 => Just(Deed::Mend),
        1 => Just(Deed::Reject),
        1 => Just(Deed::Unproved),
        1 => (0_u64..300).prop_map(Deed::Lossy),
    ]
}

fn mend(world: &mut World) {
    world.net.cut = [false; 2];
    world.net.down = [false; 2];
    world.net.impostor = [false; 2];
    world.net.slow = [0; 2];
    world.net.reject = false;
    world.net.unproved = false;
    world.net.loss = 0;
    world.net.double = 0;
    world.net.straggle = 0;
}

fn act(world: &mut World, deed: &Deed, counter: usize) {
    match *deed {
        Deed::Run(span) => world.run_for(ms(span)),
        Deed::Boot(node) => world.boot(node),
        Deed::Crash(node) => world.crash(node),
        Deed::PowerOff(node) => world.power_off(node),
        Deed::Freeze(node, span) => world.freeze(node, ms(span)),
        Deed::Switchover(node) => {
            world.tell(node, Input::SwitchoverRequested { request: RequestId(format!("move-{counter}")) });
        }
        Deed::Stop(node, handover) => world.tell(node, Input::StopRequested { handover }),
        Deed::Unfit(node, unfit) => {
            world.hosts[node].unfit = unfit.then(|| "the program is missing".to_owned());
            let unfit = world.hosts[node].unfit.clone();
            world.tell(node, Input::PreflightChanged { unfit });
        }
        Deed::FailStarts(node, times) => world.hosts[node].failing_starts = times,
        Deed::StopTakes(node, span) => world.hosts[node].stop_delay = ms(span),
        Deed::GuardDies(node) => {
            if let Some(epoch) = world.hosts[node].plugins.as_ref().map(|plugins| plugins.epoch) {
                world.tell(node, Input::GuardFired { epoch, why: "the guard died".to_owned() });
                world.kill_plugins(node);
            }
        }
        Deed::WorkloadFails(node) => {
            if let Some(epoch) = world.hosts[node].plugins.as_ref().map(|plugins| plugins.epoch) {
                world.tell(node, Input::PluginsFailed { epoch, why: "bridge ended".to_owned() });
            }
        }
        Deed::Maintenance(node, true) => {
            let input = Input::MaintenanceSet {
                reason: "test".to_owned(),
                by: "ann".to_owned(),
                until_unix: u64::MAX,
            };
            world.tell(node, input);
        }
        Deed::Maintenance(node, false) => {
            world.tell(node, Input::MaintenanceCleared { by: "ann".to_owned() })
        }
        Deed::Forget(node) => {
            world.hosts[node].memory = failover_core::Memory::default();
            world.hosts[node].reserved = None;
        }
        Deed::Mode(node, mode) => world.request_mode(node, mode, false),
        Deed::WallClock(node, skew) => world.hosts[node].skew = skew,
        Deed::Cut(direction) => world.net.cut[direction] = true,
        Deed::Mend => mend(world),
        Deed::Reject => world.net.reject = true,
        Deed::Unproved => world.net.unproved = true,
        Deed::Path(path, down) => world.net.down[path] = down,
        Deed::Slow(path, by) => world.net.slow[path] = ms(by),
        Deed::Impostor(path) => world.net.impostor[path] = true,
        Deed::Loose(path, half) => {
            for _ in 0..4 {
                world.net.down[path] = true;
                let open = world.links.iter().filter(|(_, link)| link.path == path);
                for id in open.map(|(id, _)| *id).collect::<Vec<_>>() {
                    world.broken(0, id, "the connection broke");
                    world.broken(1, id, "the connection broke");
                }
                world.run_for(ms(half));
                world.net.down[path] = false;
                world.run_for(ms(half));
            }
        }
        Deed::Lossy(loss) => {
            world.net.loss = loss;
            world.net.double = loss;
            world.net.straggle = loss / 4;
        }
    }
}

fn life(seed: u64, fast: bool, drift: i64, deeds: &[Deed]) -> World {
    lead(World::new(seed), fast, drift, deeds)
}

fn lead(mut world: World, fast: bool, drift: i64, deeds: &[Deed]) -> World {
    let seed = world.dice.0;
    world.watch = std::env::var_os("SHOW_LIFE").is_some();
    if fast {
        world.fast();
    }
    world.hosts[0].drift = drift;
    world.hosts[1].drift = -drift;
    // Both automatic, both manual, and each with a rule of its own.
    for node in [0, 1] {
        if seed >> (8 + node) & 1 == 1 {
            world.hosts[node].settings.failback = FailbackMode::Manual;
        }
    }
    // Three lives of four begin with a pair that is up.
    if !seed.is_multiple_of(4) {
        world.boot(0);
        world.boot(1);
        world.run_for(ms(5000));
    }
    for (counter, deed) in deeds.iter().enumerate() {
        if world.watch {
            world.log.push(format!("# {deed:?}"));
        }
        act(&mut world, deed, counter);
    }
    world
}

/// How many lives per property: few, so that the suite stays quick; `ONDUTY_CASES=2000` looks for longer.
fn cases() -> u32 {
    std::env::var("ONDUTY_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(60)
}

/// The same lives in every ordinary run; new ones whenever somebody looks for longer.
fn seed() -> proptest::test_runner::RngSeed {
    if std::env::var_os("ONDUTY_CASES").is_some() {
        proptest::test_runner::RngSeed::Random
    } else {
        proptest::test_runner::RngSeed::Fixed(20)
    }
}

/// Everything is repaired; the pair has this long to heal: the secondary's start-up wait, the longest backoff that the
/// failing starts can have built up, a hand-over with its slowest stop.
const HEALING: Micros = ms(90_000);

fn heal(world: &mut World) {
    mend(world);
    for node in [0, 1] {
        let host = &mut world.hosts[node];
        host.failing_starts = 0;
        host.unfit = None;
        world.thaw(node);
        world.tell(node, Input::PreflightChanged { unfit: None });
        world.tell(node, Input::MaintenanceCleared { by: "ann".to_owned() });
    }
    world.run_for(ms(8000)); // Stops that were asked for come to their end.
    world.make_pair();
    for node in [0, 1] {
        world.boot(node);
        world.tell(node, Input::MaintenanceCleared { by: "ann".to_owned() });
    }
    world.run_for(ms(2000));
    for node in [0, 1] {
        world.boot(node);
        world.tell(node, Input::MaintenanceCleared { by: "ann".to_owned() });
    }
    world.run_for(HEALING);
}

fn told(world: &World) -> String {
    world.log.join("\n")
}

fn healed(world: &World) -> Result<(), TestCaseError> {
    let states = world.states();
    let active = states.iter().filter(|state| **state == Some(State::Active)).count();
    let standby = states.iter().filter(|state| **state == Some(State::Standby)).count();
    prop_assert!(active == 1 && standby == 1, "I8: not healed: {states:?}\n{}", told(world));
    let node = states.iter().position(|state| *state == Some(State::Active)).unwrap();
    let report = world.hosts[node].machine.as_ref().unwrap().report();
    prop_assert!(report.epoch == world.checks.highest(), "I10: the active has an old epoch\n{}", told(world));
    prop_assert!(
        world.hosts[node].plugins.as_ref().is_some_and(|p| p.ready.is_some()),
        "I9\n{}",
        told(world)
    );
    prop_assert!(world.hosts[1 - node].plugins.is_none(), "I4\n{}", told(world));
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), rng_seed: seed(), max_shrink_iters: 400, failure_persistence: None, ..ProptestConfig::default() })]

    /// Crashes, freezes, power cuts, hand-overs, stops, failing workloads, in any order: nothing ever runs twice.
    #[test]
    fn without_a_partition_nothing_ever_runs_twice(
        seed in any::<u64>(), fast in any::<bool>(), drift in 0_i64..10_000, deeds in prop::collection::vec(tame(), 4..24),
    ) {
        let mut world = life(seed, fast, drift, &deeds);
        prop_assert!(world.checks.overlap == 0, "overlap {} us\n{}", world.checks.overlap, told(&world));
        heal(&mut world);
        prop_assert!(world.checks.overlap == 0, "overlap {} us\n{}", world.checks.overlap, told(&world));
        prop_assert!(world.checks.broken.is_empty(), "{:?}\n{}", world.checks.broken, told(&world));
        healed(&world)?;
    }

    /// The same with partitions, loss, doubling, reordering, firewalls and impostors: every invariant but the overlap.
    #[test]
    fn with_partitions_the_invariants_hold_and_the_pair_heals(
        seed in any::<u64>(), fast in any::<bool>(), drift in 0_i64..10_000, deeds in prop::collection::vec(wild(), 4..24),
    ) {
        let mut world = life(seed, fast, drift, &deeds);
        heal(&mut world);
        prop_assert!(world.checks.broken.is_empty(), "{:?}\n{}", world.checks.broken, told(&world));
        healed(&world)?;
    }

    /// I11: the same inputs at the same times give the same effects, byte for byte, also for a copy fed from the tape.
    #[test]
    fn the_same_inputs_give_the_same_effects(seed in any::<u64>(), deeds in prop::collection::vec(wild(), 4..10)) {
        let record = || {
            let mut world = World::new(seed);
            world.watch = false;
            world.tape = Some(Vec::new());
            for node in [0, 1] {
                world.boot(node);
            }
            for (counter, deed) in deeds.iter().enumerate() {
                act(&mut world, deed, counter);
            }
            world.tape.unwrap()
        };
        prop_assert_eq!(record(), record());
    }
}

/// What stands between two nodes that meet again: their rules, who was active first, stops, latency, loss.
#[derive(Clone, Debug)]
struct Meeting {
    seed: u64,
    manual: [bool; 2],
    secondary_first: bool,
    stops: [u64; 2],
    latency: u64,
    loss: u64,
    parted: u64,
    stopped_by_hand: bool,
}

fn meeting() -> impl Strategy<Value = Meeting> {
    let rules = (any::<u64>(), any::<[bool; 2]>(), any::<bool>(), prop::array::uniform2(0_u64..60));
    (rules, 300_u64..40_000, 0_u64..200, 3100_u64..9000, any::<bool>()).prop_map(
        |((seed, manual, secondary_first, stops), latency, loss, parted, stopped_by_hand)| Meeting {
            seed,
            manual,
            secondary_first,
            stops,
            latency,
            // A node that ends before it could tell leaves nobody who knows.
            loss: if stopped_by_hand { 0 } else { loss },
            parted,
            stopped_by_hand,
        },
    )
}

fn part_and_meet(meeting: &Meeting) -> World {
    let mut world = World::new(meeting.seed);
    world.watch = std::env::var_os("SHOW_LIFE").is_some();
    for node in [0, 1] {
        let host = &mut world.hosts[node];
        host.stop_delay = ms(meeting.stops[node]);
        if meeting.manual[node] {
            host.settings.failback = FailbackMode::Manual;
        }
        world.boot(node);
    }
    world.run_for(ms(6000));
    if meeting.secondary_first {
        act(&mut world, &Deed::Switchover(0), 0);
        world.run_for(ms(3000));
    }
    world.net.cut = [true; 2];
    world.run_for(ms(meeting.parted));
    world.net.latency = (200, meeting.latency);
    world.net.loss = meeting.loss;
    world.net.double = meeting.loss;
    world.net.cut = [false; 2];
    if meeting.stopped_by_hand {
        // Slowly enough that the two meet while it is under way.
        let node = usize::from(!meeting.secondary_first);
        world.hosts[node].stop_delay = ms(3000);
        world.tell(node, Input::StopRequested { handover: true });
    }
    world.run_for(ms(12_000));
    mend(&mut world);
    world.run_for(ms(60_000));
    world
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), rng_seed: seed(), max_shrink_iters: 400, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever happens to the line, the plugins and the other node at whichever moment of a switchover: the node that was
    /// asked says how it ended, and the pair is whole again.
    #[test]
    fn every_switchover_is_answered(
        seed in any::<u64>(), asked in 0_usize..2, secondary_first in any::<bool>(),
        (cut, cut_after, healed_after) in (prop::array::uniform2(any::<bool>()), 0_u64..150, 1_u64..8000),
        (loss, stop, start) in (0_u64..250, 0_u64..120, 0_u64..120),
        fault in prop::option::of((0_usize..2, 0_usize..4, 0_u64..150)),
    ) {
        let mut world = World::new(seed);
        world.watch = std::env::var_os("SHOW_LIFE").is_some();
        for node in [0, 1] {
            world.hosts[node].settings.failback = FailbackMode::Manual;
            world.hosts[node].stop_delay = ms(stop);
            world.hosts[node].start_delay = ms(start);
            world.boot(node);
        }
        world.run_for(ms(6000));
        if secondary_first {
            act(&mut world, &Deed::Switchover(0), 0);
            world.run_for(ms(3000));
        }
        world.net.loss = loss;
        let run = world.hosts[asked].run;
        let request = RequestId("the-move".to_owned());
        world.tell(asked, Input::SwitchoverRequested { request: request.clone() });
        let (node, what, when) = fault.unwrap_or((0, 4, 0));
        world.run_for(ms(when));
        match what {
            0 => act(&mut world, &Deed::Unfit(node, true), 0),
            1 => act(&mut world, &Deed::FailStarts(node, 1), 0),
            2 => act(&mut world, &Deed::GuardDies(node), 0),
            3 => act(&mut world, &Deed::Freeze(node, 4000), 0),
            _ => {}
        }
        world.run_for(ms(cut_after));
        world.net.cut = cut;
        world.run_for(ms(healed_after));
        heal(&mut world);
        prop_assert!(world.checks.broken.is_empty(), "{:?}\n{}", world.checks.broken, told(&world));
        healed(&world)?;
        prop_assert!(world.hosts[asked].run == run);
        prop_assert!(world.answered.contains(&(asked, request)), "no answer\n{}", told(&world));
    }

    /// However they meet again, and whoever hears of it first: both nodes say that they ran at the same time, neither
    /// says less than it was, and the winner goes on under an epoch above both.
    #[test]
    fn both_nodes_tell_of_an_overlap_and_never_of_less_than_it_was(meeting in meeting()) {
        let world = part_and_meet(&meeting);
        prop_assert!(world.checks.broken.is_empty(), "{:?}\n{}", world.checks.broken, told(&world));
        prop_assert_eq!(world.actives(), 1);
        if world.checks.overlap > 0 {
            for node in [0, 1] {
                let of = |code| world.told.iter().filter(move |(by, what, _)| (*by, *what) == (node, code));
                prop_assert!(of(EventCode::ConflictFound).count() > 0, "{node} has not found it\n{}", told(&world));
                let said: u64 = of(EventCode::ConflictHealed).filter_map(|(_, _, overlap)| *overlap).sum();
                prop_assert!(ms(said + 1) >= world.checks.overlap, "{node} says {said} ms, it was {} us\n{}", world.checks.overlap, told(&world));
            }
            let active = world.states().iter().position(|state| *state == Some(State::Active)).unwrap();
            let epoch = world.hosts[active].machine.as_ref().unwrap().report().epoch;
            prop_assert!(epoch == world.checks.highest(), "I10\n{}", told(&world));
        }
    }
}

/// A lost epoch file and memory: the pair goes on above everything that its peer knows.
#[test]
fn a_node_without_memory_does_not_use_an_epoch_twice() {
    let mut world = World::new(7);
    world.boot(0);
    world.boot(1);
    world.run_for(ms(6000));
    for round in 0..4 {
        let node = round % 2;
        world.crash(node);
        act(&mut world, &Deed::Forget(node), 0);
        world.run_for(ms(5000));
        world.boot(node);
        world.run_for(ms(12_000));
    }
    assert_eq!(world.checks.broken, Vec::<String>::new());
    assert_eq!(world.actives(), 1);
}
