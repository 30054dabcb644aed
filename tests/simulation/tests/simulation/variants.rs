//! The simulation can fail: each machine that breaks one rule is caught, by a scenario that the right one passes.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use failover_core::{Rules, State};
use simulation::pair::state;
use simulation::{ALPHA, BETA, Chosen, Pair};

const ACTIVE: Option<State> = Some(State::Active);

/// The right machine passes; the broken one fails, and with these words.
fn catches(rules: Rules, words: &str, scenario: impl Fn(Option<Rules>)) {
    scenario(None);
    let failure = catch_unwind(AssertUnwindSafe(|| scenario(Some(rules))));
    let failure = failure.expect_err("a broken machine has passed");
    let told = failure.downcast_ref::<String>().expect("words");
    assert!(told.contains(words), "caught for another reason than `{words}`:\n{told}");
}

/// A pair that is up; the rules hold from the next start of a node.
fn pair(rules: Option<Rules>) -> Pair {
    let pair = Pair::up(1, Chosen::default());
    for host in [ALPHA, BETA] {
        pair.shared.lock().hosts[host].rules = rules;
    }
    pair
}

/// The same with both nodes started anew under the rules.
fn restarted(rules: Option<Rules>) -> Pair {
    let mut pair = pair(rules);
    for host in [BETA, ALPHA] {
        pair.kill(host);
        pair.run_for(Duration::from_millis(1000));
        pair.boot(host);
        pair.heals();
    }
    pair
}

#[test]
fn a_primary_that_does_not_wait_at_its_start_is_caught() {
    catches(Rules::NO_STARTUP_WAIT, "I1:", |rules| {
        let mut pair = pair(rules);
        pair.kill(ALPHA);
        pair.until("the secondary is active", Duration::from_secs(2), |w| state(w, BETA) == ACTIVE);
        pair.boot(ALPHA);
        pair.run_for(Duration::from_secs(1));
        pair.never_twice();
    });
}

#[test]
fn a_standby_before_the_last_plugin_is_reaped_is_caught() {
    catches(Rules::STANDBY_BEFORE_REAPED, "I4:", |rules| {
        let mut pair = restarted(rules);
        pair.switchover(ALPHA);
        pair.run_for(Duration::from_secs(1));
        pair.heals();
    });
}

#[test]
fn a_refusal_that_counts_as_death_is_caught() {
    catches(Rules::REFUSED_IS_DEAD, "the duty moved", |rules| {
        let mut pair = restarted(rules);
        let starts = pair.shared.lock().checks.activity.len();
        pair.reject(true);
        pair.run_for(Duration::from_millis(250));
        pair.reject(false);
        pair.run_for(Duration::from_secs(1));
        if pair.shared.lock().checks.activity.len() != starts {
            pair.fail("the duty moved although nobody had died");
        }
    });
}

#[test]
fn silence_that_counts_from_the_arrival_is_caught() {
    catches(Rules::COUNT_FROM_ARRIVAL, "not within", |rules| {
        let mut pair = restarted(rules);
        while !pair.under_way_from(ALPHA) {
            pair.run_for(Duration::from_millis(1));
        }
        // The acknowledgement comes after the primary's death, and speaks of a heartbeat from before it.
        pair.hold();
        pair.power_off(ALPHA);
        pair.run_for(Duration::from_millis(350));
        pair.release();
        pair.until("the secondary has taken over in time", Duration::from_millis(200), |w| {
            state(w, BETA) == Some(State::TakingOver)
        });
    });
}
