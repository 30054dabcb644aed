//! Crashes of either node at each phase of each procedure, by `kill -9` (the guard shows the tombstone) and by loss of
//! the whole host. Nothing runs twice, and the pair heals when the node is back.

use std::time::Duration;

use failover_core::State;
use simulation::pair::state;
use simulation::seeds::each;
use simulation::world::World;
use simulation::{ALPHA, BETA, Chosen, Dice, Pair};

const ACTIVE: Option<State> = Some(State::Active);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Procedure {
    Start,
    Takeover,
    Return,
    SwitchOver,
    SwitchBack,
    Stop,
}

const PROCEDURES: [Procedure; 6] = [
    Procedure::Start,
    Procedure::Takeover,
    Procedure::Return,
    Procedure::SwitchOver,
    Procedure::SwitchBack,
    Procedure::Stop,
];

type Moment = (&'static str, fn(&World) -> bool);

const fn in_states(world: &World) -> bool {
    let _ = world;
    true
}

/// The phases of the move to `BETA`.
const TO_BETA: [Moment; 5] = [
    ("asked for", in_states),
    ("the old one yields", |w| state(w, ALPHA) == Some(State::Yielding)),
    ("the old one has released", |w| state(w, ALPHA) == Some(State::Standby)),
    ("the new one takes over", |w| state(w, BETA) == Some(State::TakingOver)),
    ("the new one is active", |w| state(w, BETA) == ACTIVE),
];

/// The phases of the move to `ALPHA`.
const TO_ALPHA: [Moment; 5] = [
    ("asked for", in_states),
    ("the old one yields", |w| state(w, BETA) == Some(State::Yielding)),
    ("the old one has released", |w| state(w, BETA) == Some(State::Standby)),
    ("the new one takes over", |w| state(w, ALPHA) == Some(State::TakingOver)),
    ("the new one is active", |w| state(w, ALPHA) == ACTIVE),
];

const STARTING: [Moment; 3] = [
    ("begun", in_states),
    ("the primary takes over", |w| state(w, ALPHA) == Some(State::TakingOver)),
    ("the primary is active", |w| state(w, ALPHA) == ACTIVE),
];

const TAKING_OVER: [Moment; 2] = [
    ("the secondary takes over", |w| state(w, BETA) == Some(State::TakingOver)),
    ("the secondary is active", |w| state(w, BETA) == ACTIVE),
];

const fn moments(procedure: Procedure) -> &'static [Moment] {
    match procedure {
        Procedure::Start => &STARTING,
        Procedure::Takeover => &TAKING_OVER,
        Procedure::Return | Procedure::SwitchBack => &TO_ALPHA,
        Procedure::SwitchOver | Procedure::Stop => &TO_BETA,
    }
}

/// Begins the procedure; what happens then is its first phase.
fn begin(seed: u64, procedure: Procedure) -> Pair {
    let secs = Duration::from_secs;
    match procedure {
        Procedure::Start => {
            let mut pair = Pair::new(seed, Chosen::default());
            pair.boot(ALPHA);
            pair.boot(BETA);
            pair
        }
        Procedure::Takeover => {
            let mut pair = Pair::up(seed, Chosen::default());
            if seed.is_multiple_of(2) {
                pair.kill(ALPHA)
            } else {
                pair.power_off(ALPHA)
            }
            pair
        }
        Procedure::Return => {
            let mut pair = Pair::up(seed, Chosen::default());
            pair.kill(ALPHA);
            pair.until("the secondary has taken over", secs(2), |w| state(w, BETA) == ACTIVE);
            pair.boot(ALPHA);
            pair.until("the primary is on standby", secs(2), |w| state(w, ALPHA) == Some(State::Standby));
            pair
        }
        Procedure::SwitchOver => {
            let mut pair = Pair::up(seed, Chosen::manual());
            pair.switchover(if seed.is_multiple_of(2) { ALPHA } else { BETA });
            pair
        }
        Procedure::SwitchBack => {
            let mut pair = Pair::up(seed, Chosen::manual());
            pair.switchover(ALPHA);
            pair.until("the secondary is active", secs(2), |w| {
                state(w, BETA) == ACTIVE && state(w, ALPHA) == Some(State::Standby)
            });
            pair.run_for(Duration::from_millis(300));
            pair.switchover(if seed.is_multiple_of(2) { ALPHA } else { BETA });
            pair
        }
        Procedure::Stop => {
            let mut pair = Pair::up(seed, Chosen::default());
            pair.terminate(ALPHA);
            pair
        }
    }
}

/// One life: a procedure, a crash in it, and what becomes of the pair.
fn crash(seed: u64, procedure: Procedure, moment: Moment, victim: usize, with_guard: bool) {
    let mut dice = Dice::new(seed);
    let mut pair = begin(seed, procedure);
    let come = pair.waited(Duration::from_secs(3), moment.1);
    if !come {
        pair.fail(&format!("{procedure:?} never came to: {}", moment.0));
    }
    let more = Duration::from_millis(dice.within(0, 12));
    pair.run_for(more);
    if with_guard {
        pair.kill(victim);
    } else {
        pair.power_off(victim);
    }
    let down = Duration::from_millis(dice.within(0, 1500));
    pair.run_for(down);
    pair.restart();
    pair.heals();
    pair.never_twice();
}

fn at_each_phase(name: &str, usual: u64, victim: usize, with_guard: bool) {
    each(name, usual, |seed| {
        for (at, procedure) in PROCEDURES.into_iter().enumerate() {
            for (number, moment) in moments(procedure).iter().enumerate() {
                let own = seed * 1000 + u64::try_from(at * 10 + number).unwrap();
                crash(own, procedure, *moment, victim, with_guard);
            }
        }
    });
}

#[test]
fn the_primary_is_killed_at_each_phase() {
    at_each_phase("killed_primary", 1, ALPHA, true);
}

#[test]
fn the_secondary_is_killed_at_each_phase() {
    at_each_phase("killed_secondary", 1, BETA, true);
}

#[test]
fn the_primary_is_lost_at_each_phase() {
    at_each_phase("lost_primary", 1, ALPHA, false);
}

#[test]
fn the_secondary_is_lost_at_each_phase() {
    at_each_phase("lost_secondary", 1, BETA, false);
}
