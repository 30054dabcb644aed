//! Random settings, random faults, in random order: see `simulation::lives`.

use std::time::Duration;

use simulation::lives::{Weather, live};
use simulation::seeds::each;
use simulation::{ALPHA, BETA, Chosen, Dice, Pair};

#[test]
fn whatever_happens_nothing_runs_twice_and_the_pair_heals() {
    each("fair_weather", 10, |seed| {
        let _ = live(seed, Weather::Fair);
    });
}

#[test]
fn whatever_the_network_does_the_pair_heals_and_only_that_explains_an_overlap() {
    each("foul_weather", 10, |seed| {
        let _ = live(seed, Weather::Foul);
    });
}

/// Whatever validation accepts, the two nodes accept of each other.
#[test]
fn accepted_settings_make_a_pair() {
    each("accepted_settings", 30, |seed| {
        let mut pair = Pair::new(seed, Chosen::draw(&mut Dice::new(seed)));
        pair.boot(ALPHA);
        pair.boot(BETA);
        pair.run_for(Duration::from_millis(300));
        let told = pair.shared.lock().told();
        if let Some(refused) = told.lines().find(|line| line.contains("peer_refused")) {
            pair.fail(&format!("refused: {refused}"));
        }
    });
}
