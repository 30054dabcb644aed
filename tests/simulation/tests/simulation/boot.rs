//! Starts: in each order, alone, after everything was lost.

use std::time::Duration;

use failover_core::State;
use simulation::pair::state;
use simulation::seeds::each;
use simulation::{ALPHA, BETA, Chosen, Dice, Pair};

const ACTIVE: Option<State> = Some(State::Active);

fn order(seed: u64, chosen: Chosen) {
    let mut dice = Dice::new(seed);
    let mut pair = Pair::new(seed, chosen);
    let first = if seed.is_multiple_of(2) { ALPHA } else { BETA };
    pair.boot(first);
    let wait = Duration::from_millis(dice.within(0, 400));
    pair.run_for(wait);
    pair.boot(1 - first);
    pair.heals();
    pair.never_twice();
    if pair.states()[ALPHA] != ACTIVE {
        pair.fail("the primary takes the duty when both begin");
    }
}

#[test]
fn both_orders_end_with_the_primary_active() {
    each("boot_order", 6, |seed| order(seed, Chosen::default()));
}

#[test]
fn a_first_start_of_a_pair_raises_no_alarm() {
    each("first_start", 2, |seed| {
        let mut pair = Pair::up(seed, Chosen::default());
        pair.run_for(Duration::from_millis(500));
        let told = pair.shared.lock().told();
        if let Some(alarm) = told.lines().find(|line| line.contains(" error ") || line.contains(" critical "))
        {
            pair.fail(&format!("an alarm: {alarm}"));
        }
    });
}

#[test]
fn a_secondary_that_was_never_paired_waits_for_ever() {
    each("unpaired", 2, |seed| {
        let mut pair = Pair::new(seed, Chosen::default());
        pair.boot(BETA);
        pair.run_for(Duration::from_secs(6));
        if pair.shared.lock().checks.starts(BETA) != 0 {
            pair.fail("it has taken the duty without ever having met its primary");
        }
        pair.boot(ALPHA);
        pair.heals();
        pair.never_twice();
    });
}

#[test]
fn a_node_that_is_alone_goes_on_alone() {
    each("alone", 4, |seed| {
        let mut pair = Pair::up(seed, Chosen::default());
        pair.power_off(ALPHA);
        pair.power_off(BETA);
        pair.run_for(Duration::from_millis(700));
        let only = if seed.is_multiple_of(2) { ALPHA } else { BETA };
        pair.boot(only);
        pair.until("the one that is there is active", Duration::from_secs(4), |w| state(w, only) == ACTIVE);
        pair.boot(1 - only);
        pair.heals();
        pair.never_twice();
    });
}

#[test]
fn a_lost_disk_costs_no_epoch() {
    each("lost_disk", 4, |seed| {
        let mut pair = Pair::up(seed, Chosen::default());
        for round in 0..3_u64 {
            let host = if (seed + round).is_multiple_of(2) { ALPHA } else { BETA };
            pair.kill(host);
            pair.lose_disk(host, true, true);
            pair.run_for(Duration::from_millis(1500));
            pair.boot(host);
            pair.heals();
        }
        pair.never_twice();
    });
}

#[test]
fn a_full_disk_stops_no_failover() {
    each("full_disk", 2, |seed| {
        let mut pair = Pair::up(seed, Chosen::default());
        for host in [ALPHA, BETA] {
            pair.shared.lock().hosts[host].write_takes = None;
        }
        pair.kill(ALPHA);
        pair.until("the secondary has taken over", Duration::from_millis(400), |w| state(w, BETA) == ACTIVE);
        pair.never_twice();
        for host in [ALPHA, BETA] {
            pair.shared.lock().hosts[host].write_takes = Some(Duration::from_millis(2));
        }
        pair.boot(ALPHA);
        pair.heals();
        pair.never_twice();
    });
}
