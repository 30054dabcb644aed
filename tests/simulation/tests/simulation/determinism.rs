//! I11 for the whole node: the same seed twice is the same life, byte for byte.

use std::time::Duration;

use simulation::chaos::draw_settings;
use simulation::seeds::each;
use simulation::{ALPHA, BETA, Dice, Pair};

/// A life with something of everything; what both nodes said.
fn life(seed: u64) -> String {
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
    pair.shared.lock().told()
}

/// FNV-1a, for people to compare.
fn digest(text: &str) -> u32 {
    text.bytes().fold(0x811C_9DC5, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193))
}

#[test]
fn the_same_seed_is_the_same_life() {
    each("determinism", 3, |seed| {
        let (first, again) = (life(seed), life(seed));
        if first != again {
            let differs = first.lines().zip(again.lines()).find(|(a, b)| a != b);
            println!("--- first\n{first}\n--- again\n{again}");
            panic!("seed {seed}: two lives; the first difference: {differs:?}");
        }
        // Another process must come to the same: `--nocapture` shows it.
        println!("seed {seed}: {} lines, digest {:08x}", first.lines().count(), digest(&first));
        assert!(first.lines().count() > 20, "a life in which nothing happens proves nothing:\n{first}");
    });
}
