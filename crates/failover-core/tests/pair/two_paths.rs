//! Lives of a pair on two network paths; a part of the property tests.

use super::*;

/// What happens to the second of two paths while the first works.
fn on_the_second_path() -> impl Strategy<Value = Deed> {
    prop_oneof![
        2 => any::<bool>().prop_map(|down| Deed::Path(1, down)),
        2 => (0_u64..2500).prop_map(|by| Deed::Slow(1, by)),
        1 => Just(Deed::Impostor(1)),
        1 => (50_u64..900).prop_map(|half| Deed::Loose(1, half)),
    ]
}

/// The same, and whatever else can happen to a pair without a partition.
fn tame_on_two_paths() -> impl Strategy<Value = Deed> {
    prop_oneof![2 => tame(), 3 => on_the_second_path()]
}

/// Everything, on both paths.
fn wild_on_two_paths() -> impl Strategy<Value = Deed> {
    prop_oneof![
        3 => wild(),
        2 => on_the_second_path(),
        1 => any::<bool>().prop_map(|down| Deed::Path(0, down)),
        1 => (0_u64..2500).prop_map(|by| Deed::Slow(0, by)),
    ]
}

fn life_on_two_paths(seed: u64, fast: bool, drift: i64, deeds: &[Deed]) -> World {
    let mut world = World::new(seed);
    world.two_paths();
    lead(world, fast, drift, deeds)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), rng_seed: seed(), max_shrink_iters: 400, failure_persistence: None, ..ProptestConfig::default() })]

    /// Two paths of which one works: whatever the other does, and whatever happens to the nodes, nothing runs twice.
    #[test]
    fn with_one_good_path_nothing_ever_runs_twice(
        seed in any::<u64>(), fast in any::<bool>(), drift in 0_i64..10_000,
        deeds in prop::collection::vec(tame_on_two_paths(), 4..24),
    ) {
        let mut world = life_on_two_paths(seed, fast, drift, &deeds);
        prop_assert!(world.checks.overlap == 0, "overlap {} us\n{}", world.checks.overlap, told(&world));
        heal(&mut world);
        prop_assert!(world.checks.overlap == 0, "overlap {} us\n{}", world.checks.overlap, told(&world));
        prop_assert!(world.checks.broken.is_empty(), "{:?}\n{}", world.checks.broken, told(&world));
        healed(&world)?;
    }

    /// Two paths of which one always works, and nodes that live: there is never a takeover.
    #[test]
    fn with_one_good_path_there_is_never_a_takeover(
        seed in any::<u64>(), fast in any::<bool>(), drift in 0_i64..10_000,
        deeds in prop::collection::vec(prop_oneof![1 => (1_u64..9000).prop_map(Deed::Run), 2 => on_the_second_path()], 4..40),
    ) {
        let mut world = World::new(seed);
        world.two_paths();
        world.watch = std::env::var_os("SHOW_LIFE").is_some();
        if fast {
            world.fast();
        }
        world.hosts[0].drift = drift;
        world.hosts[1].drift = -drift;
        world.boot(0);
        world.boot(1);
        world.run_for(ms(5000));
        for (counter, deed) in deeds.iter().enumerate() {
            act(&mut world, deed, counter);
        }
        world.run_for(ms(10_000));
        prop_assert_eq!(world.states(), [Some(State::Active), Some(State::Standby)], "{}", told(&world));
        prop_assert!(world.checks.highest() == Some(failover_core::Epoch(2)), "{}", told(&world));
        let lost = world.told.iter().any(|(_, code, _)| *code == EventCode::PeerDisconnected);
        prop_assert!(!lost, "{}", told(&world));
    }

    /// Both paths cut, slow, loose, false: every invariant but the overlap, and the pair heals.
    #[test]
    fn on_two_bad_paths_the_invariants_hold_and_the_pair_heals(
        seed in any::<u64>(), fast in any::<bool>(), drift in 0_i64..10_000,
        deeds in prop::collection::vec(wild_on_two_paths(), 4..24),
    ) {
        let mut world = life_on_two_paths(seed, fast, drift, &deeds);
        heal(&mut world);
        prop_assert!(world.checks.broken.is_empty(), "{:?}\n{}", world.checks.broken, told(&world));
        healed(&world)?;
    }
}
