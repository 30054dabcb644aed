//! Services are started in any order, of both nodes at once: nobody waits for anybody who waits for him.

use std::env;

use test_support::{Pair, boot_ns, one_at_a_time, timed};

use super::{
    CLIENT, MANAGEMENT, OF_PRIMARY, OF_SECONDARY, SERVER, SUPERVISOR, TRUST, Which, options, prepared,
    redundant,
};

/// Random orders that are tried beside those that look hard.
const RANDOM: usize = 3;

type Order = Vec<(Which, &'static str)>;

fn start_in(order: &Order) {
    println!("order: {order:?}");
    let mut pair: Pair = prepared(options());
    for (node, service) in order {
        node.of_mut(&mut pair).start_service(service);
    }
    // The primary has the duty at last, also where the secondary was there long before.
    redundant(&pair, Which::Primary);
    one_at_a_time(&pair);
    for node in [Which::Primary, Which::Secondary] {
        let listed = node.of(&pair).ask(&["plugins", "list", "--json"]);
        assert!(listed.stdout.contains("canary"), "{listed:?}");
    }
}

fn all() -> Order {
    let primary = OF_PRIMARY.into_iter().map(|service| (Which::Primary, service));
    primary.chain(OF_SECONDARY.into_iter().map(|service| (Which::Secondary, service))).collect()
}

#[test]
fn orders_that_look_hard() {
    use Which::{Primary, Secondary};
    let _turn = timed();
    // Whoever depends on others first.
    start_in(&vec![
        (Primary, MANAGEMENT),
        (Secondary, MANAGEMENT),
        (Primary, SERVER),
        (Secondary, CLIENT),
        (Primary, SUPERVISOR),
        (Secondary, SUPERVISOR),
        (Primary, TRUST),
        (Secondary, TRUST),
    ]);
    // The supervisors long before anybody who gives orders, the secondary before the primary.
    start_in(&vec![
        (Secondary, SUPERVISOR),
        (Primary, SUPERVISOR),
        (Secondary, TRUST),
        (Primary, TRUST),
        (Secondary, CLIENT),
        (Secondary, MANAGEMENT),
        (Primary, SERVER),
        (Primary, MANAGEMENT),
    ]);
}

/// `ONDUTY_TEST_SEED` repeats the orders of a run.
#[test]
fn random_orders() {
    let _turn = timed();
    let given = env::var("ONDUTY_TEST_SEED").ok();
    let seed = given.map_or_else(boot_ns, |seed| seed.parse().expect("ONDUTY_TEST_SEED is a number"));
    println!("ONDUTY_TEST_SEED={seed}");
    let mut dice = seed | 1;
    for _ in 0..RANDOM {
        let mut order = all();
        // Fisher and Yates, with the numbers of xorshift64.
        for at in (1..order.len()).rev() {
            dice ^= dice << 13;
            dice ^= dice >> 7;
            dice ^= dice << 17;
            let with = usize::try_from(dice % (at as u64 + 1)).unwrap();
            order.swap(at, with);
        }
        start_in(&order);
    }
}
