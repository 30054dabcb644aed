//! The link in the way: cut both ways, one way, held back. With arbitration `none` both may be active while it lasts;
//! afterwards the pair heals by its rule.

use std::time::Duration;

use failover_core::{FailbackMode, State};
use simulation::pair::state;
use simulation::seeds::each;
use simulation::{ALPHA, BETA, Chosen, Dice, Pair};

const ACTIVE: Option<State> = Some(State::Active);

fn drawn(seed: u64) -> (Chosen, Dice) {
    let mut dice = Dice::new(seed);
    let failback = dice.pick(&[FailbackMode::Automatic, FailbackMode::Manual]);
    (Chosen { failback, ..Chosen::default() }, dice)
}

fn some_ms(dice: &mut Dice, low: u64, high: u64) -> Duration {
    Duration::from_millis(dice.within(low, high))
}

#[test]
fn a_cut_link_makes_both_active_and_the_rule_heals_it() {
    each("a_cut_link", 4, |seed| {
        let (chosen, mut dice) = drawn(seed);
        let automatic = chosen.failback == FailbackMode::Automatic;
        let mut pair = Pair::up(seed, chosen);
        pair.cut([true, true]);
        pair.until("both are active", Duration::from_secs(3), |world| {
            state(world, ALPHA) == ACTIVE && state(world, BETA) == ACTIVE
        });
        let span = some_ms(&mut dice, 100, 4000);
        pair.run_for(span);
        pair.cut([false, false]);
        pair.heals();
        let winner = if automatic { ALPHA } else { BETA };
        if pair.states()[winner] != ACTIVE {
            pair.fail("the rule named the other one");
        }
        let overlap = pair.shared.lock().checks.overlap(pair.now());
        if overlap < span {
            pair.fail(&format!("both were active for {span:?}, but only {overlap:?} were seen"));
        }
    });
}

#[test]
fn a_short_cut_moves_nothing() {
    each("a_short_cut", 4, |seed| {
        let (chosen, mut dice) = drawn(seed);
        let mut pair = Pair::up(seed, chosen);
        pair.cut([true, true]);
        let span = some_ms(&mut dice, 1, 150);
        pair.run_for(span);
        pair.cut([false, false]);
        pair.run_for(Duration::from_secs(3));
        if pair.shared.lock().checks.activity.len() != 1 {
            pair.fail("the duty moved");
        }
        pair.heals();
    });
}

#[test]
fn a_one_way_cut_heals_in_each_direction() {
    each("a_one_way_cut", 6, |seed| {
        let (chosen, mut dice) = drawn(seed);
        let mut pair = Pair::up(seed, chosen);
        let from = if seed.is_multiple_of(2) { [true, false] } else { [false, true] };
        pair.cut(from);
        let span = some_ms(&mut dice, 50, 4000);
        pair.run_for(span);
        pair.cut([false, false]);
        pair.heals();
    });
}

#[test]
fn the_return_of_the_primary_survives_a_cut_at_any_moment() {
    each("a_cut_return", 6, |seed| {
        let mut dice = Dice::new(seed);
        let mut pair = Pair::up(seed, Chosen::default());
        pair.kill(ALPHA);
        pair.until("the secondary has taken over", Duration::from_secs(2), |w| state(w, BETA) == ACTIVE);
        pair.boot(ALPHA);
        let before = some_ms(&mut dice, 1, 900);
        pair.run_for(before);
        let from = dice.pick(&[[true, true], [true, false], [false, true]]);
        pair.cut(from);
        let span = some_ms(&mut dice, 20, 3000);
        pair.run_for(span);
        pair.cut([false, false]);
        pair.heals();
        if pair.states()[ALPHA] != ACTIVE {
            pair.fail("the primary did not return");
        }
    });
}

#[test]
fn late_answers_prove_nothing() {
    each("late_answers", 6, |seed| {
        let (chosen, mut dice) = drawn(seed);
        let mut pair = Pair::up(seed, chosen);
        for _ in 0..3 {
            pair.hold();
            let span = some_ms(&mut dice, 20, 1200);
            pair.run_for(span);
            pair.release();
            let span = some_ms(&mut dice, 20, 1200);
            pair.run_for(span);
        }
        pair.heals();
    });
}

#[test]
fn answers_that_come_after_the_takeover_change_nothing() {
    each("late_after_takeover", 4, |seed| {
        let (chosen, mut dice) = drawn(seed);
        let mut pair = Pair::up(seed, chosen);
        pair.hold();
        pair.run_for(Duration::from_millis(100));
        pair.power_off(ALPHA);
        pair.until("the secondary has taken over", Duration::from_secs(2), |w| state(w, BETA) == ACTIVE);
        pair.release();
        let span = some_ms(&mut dice, 20, 1200);
        pair.run_for(span);
        pair.boot(ALPHA);
        pair.heals();
        pair.never_twice();
    });
}
