//! A manager that stands still and goes on: its guard has ended its plugins before the other node acts.

use std::time::Duration;

use failover_core::{FailbackMode, State};
use simulation::pair::state;
use simulation::seeds::each;
use simulation::{ALPHA, BETA, Chosen, Dice, Pair};

const ACTIVE: Option<State> = Some(State::Active);

/// A pair with `host` as its active node.
fn active(seed: u64, host: usize, chosen: Chosen) -> Pair {
    let mut pair = Pair::up(seed, chosen);
    if host == BETA {
        pair.kill(ALPHA);
        pair.until("the secondary has taken over", Duration::from_secs(2), |w| state(w, BETA) == ACTIVE);
        // The primary is on standby until it is stable: that is when its guard has to be right.
        pair.boot(ALPHA);
        pair.until("the primary is on standby", Duration::from_secs(2), |w| {
            state(w, ALPHA) == Some(State::Standby)
        });
    }
    pair
}

fn frozen(seed: u64, host: usize, low: u64, high: u64) -> Pair {
    let mut dice = Dice::new(seed);
    let mut pair = active(seed, host, Chosen::default());
    let phase = Duration::from_millis(dice.within(0, 200));
    pair.run_for(phase);
    pair.freeze(host, true);
    let span = Duration::from_millis(dice.within(low, high));
    pair.run_for(span);
    pair.freeze(host, false);
    pair
}

#[test]
fn a_frozen_primary_never_runs_beside_its_secondary() {
    each("frozen_primary", 6, |seed| {
        let mut pair = frozen(seed, ALPHA, 50, 3000);
        pair.heals();
        pair.never_twice();
    });
}

#[test]
fn a_frozen_active_secondary_never_runs_beside_its_primary() {
    each("frozen_secondary", 6, |seed| {
        let mut pair = frozen(seed, BETA, 50, 3000);
        pair.heals();
        pair.never_twice();
    });
}

#[test]
fn a_frozen_standby_disturbs_nothing() {
    each("frozen_standby", 4, |seed| {
        let mut dice = Dice::new(seed);
        let mut pair = Pair::up(seed, Chosen::default());
        pair.freeze(BETA, true);
        let span = Duration::from_millis(dice.within(100, 3000));
        pair.run_for(span);
        pair.freeze(BETA, false);
        pair.heals();
        if pair.shared.lock().checks.activity.len() != 1 {
            pair.fail("the duty moved");
        }
    });
}

#[test]
fn a_long_freeze_is_taken_over() {
    each("long_freeze", 2, |seed| {
        let mut pair = Pair::up(seed, Chosen::default());
        pair.freeze(ALPHA, true);
        pair.until("the secondary has taken over", Duration::from_millis(800), |w| state(w, BETA) == ACTIVE);
        pair.never_twice();
        pair.freeze(ALPHA, false);
        pair.heals();
        pair.never_twice();
    });
}

/// The standby stands still, too short to be told from a slow machine or not, and just as it goes on the active node stands
/// still.
fn one_after_the_other(seed: u64, host: usize) {
    let mut dice = Dice::new(seed);
    let chosen = Chosen { failback: FailbackMode::Manual, ..Chosen::default() };
    let mut pair = active(seed, host, chosen);
    let other = ALPHA + BETA - host;
    pair.run_for(Duration::from_secs(1) + Duration::from_millis(dice.within(0, 100)));
    pair.freeze(other, true);
    pair.run_for(Duration::from_millis(dice.within(20, 490)));
    pair.freeze(other, false);
    pair.run_for(Duration::from_millis(dice.within(0, 100)));
    pair.freeze(host, true);
    pair.until("the other node has taken over", Duration::from_secs(2), |w| state(w, other) == ACTIVE);
    pair.never_twice();
}

#[test]
fn a_primary_that_freezes_just_after_its_standby_never_runs_beside_it() {
    each("primary_after_standby", 30, |seed| one_after_the_other(seed, ALPHA));
}

#[test]
fn a_secondary_that_freezes_just_after_its_standby_never_runs_beside_it() {
    each("secondary_after_standby", 30, |seed| one_after_the_other(seed, BETA));
}
