//! I11 for the whole node: the same seed twice is the same life: what both nodes say, and when which socket reads and writes.

use std::time::Duration;

use simulation::chaos::draw_settings;
use simulation::seeds::each;
use simulation::twice::{Traces, twice};
use simulation::{ALPHA, BETA, Dice, Pair};

/// A life with something of everything.
fn life(seed: u64) -> Traces {
    let mut dice = Dice::new(seed);
    let mut pair = Pair::up(seed, draw_settings(&mut dice).0);
    for _ in 0..6 {
        match dice.within(0, 6) {
            0 => pair.kill(ALPHA),
            1 => pair.kill(BETA),
            2 => pair.cut([true, true]),
            3 => pair.hold(),
            4 => pair.switchover(BETA),
            _ => pair.freeze(ALPHA, true),
        }
        let span = Duration::from_millis(dice.within(10, 900));
        pair.run_for(span);
        pair.cut([false, false]);
        pair.release();
        pair.freeze(ALPHA, false);
        pair.boot(ALPHA);
        pair.boot(BETA);
        let span = Duration::from_millis(dice.within(10, 900));
        pair.run_for(span);
    }
    pair.into()
}

/// FNV-1a, for people to compare.
fn digest(text: &str) -> u32 {
    text.bytes().fold(0x811C_9DC5, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193))
}

#[test]
fn the_same_seed_is_the_same_life() {
    each("determinism", 3, |seed| {
        let life = twice(|| life(seed)).unwrap_or_else(|differs| panic!("seed {seed}: two lives\n{differs}"));
        // Another process must come to the same: `--nocapture` shows it.
        println!("seed {seed}: {} lines, digest {:08x}", life.told.lines().count(), digest(&life.told));
        assert!(
            life.told.lines().count() > 20,
            "a life in which nothing happens proves nothing:\n{}",
            life.told
        );
    });
}
