//! Random lives: settings that validation accepts, a phase in which anything may happen, a phase in which everything
//! works again.

use std::time::Duration;

use crate::{ALPHA, BETA, Chosen, Dice, Pair};

/// What may happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weather {
    /// Processes and hosts fail; the network works: nothing may ever run twice.
    Fair,
    /// The network fails as well.
    Foul,
}

/// The first failed starts of a node are tried again after 1 s and 2 s.
const BACKOFF: Duration = Duration::from_secs(4);
/// What happens in one life.
const DEEDS: u64 = 8;

fn span(dice: &mut Dice, low: u64, high: u64) -> Duration {
    Duration::from_millis(dice.within(low, high))
}

/// Lives one life and looks at its end.
pub fn live(seed: u64, weather: Weather) -> Pair {
    let mut dice = Dice::new(seed);
    let chosen = Chosen::draw(&mut dice);
    let mut pair = if dice.chance(75) {
        Pair::up(seed, chosen)
    } else {
        let mut pair = Pair::new(seed, chosen);
        let first = if dice.chance(50) { ALPHA } else { BETA };
        pair.boot(first);
        let wait = span(&mut dice, 0, 800);
        pair.run_for(wait);
        pair.boot(1 - first);
        pair
    };
    for host in [ALPHA, BETA] {
        let mut world = pair.shared.lock();
        world.hosts[host].start_takes = span(&mut dice, 5, 600);
        world.hosts[host].stop_takes = span(&mut dice, 5, 600);
        world.hosts[host].kill_takes = span(&mut dice, 1, 50);
    }
    for _ in 0..DEEDS {
        deed(&mut pair, &mut dice, weather);
        let wait = if dice.chance(50) { span(&mut dice, 1, 200) } else { span(&mut dice, 200, 1500) };
        pair.run_for(wait);
    }
    pair.mend();
    let within = pair.chosen.healing() + BACKOFF;
    pair.heals_within(within);
    if weather == Weather::Fair {
        pair.never_twice();
    }
    pair
}

fn deed(pair: &mut Pair, dice: &mut Dice, weather: Weather) {
    let host = if dice.chance(50) { ALPHA } else { BETA };
    let kinds = match weather {
        Weather::Fair => 12,
        Weather::Foul => 19,
    };
    match dice.within(0, kinds) {
        0 | 1 => pair.kill(host),
        2 => pair.power_off(host),
        3..=5 => {
            pair.boot(ALPHA);
            pair.boot(BETA);
        }
        6 => pair.switchover(host),
        7 => pair.freeze(host, true),
        8 => {
            pair.freeze(ALPHA, false);
            pair.freeze(BETA, false);
        }
        9 => pair.terminate(host),
        10 => {
            let unfit = dice.chance(50);
            pair.set_unfit(host, unfit);
        }
        11 => trouble(pair, dice, host),
        12..=14 => {
            let from = dice.pick(&[[true, true], [true, false], [false, true]]);
            pair.cut(from);
        }
        15 => {
            pair.cut([false; 2]);
            pair.reject(false);
            if pair.shared.lock().held {
                pair.release();
            }
        }
        16 => pair.hold(),
        17 => {
            if pair.shared.lock().held {
                pair.release();
            }
        }
        _ => pair.reject(true),
    }
}

fn trouble(pair: &mut Pair, dice: &mut Dice, host: usize) {
    match dice.within(0, 4) {
        0 => {
            let times = u32::try_from(dice.within(1, 3)).unwrap();
            pair.shared.lock().hosts[host].failing_starts = times;
        }
        1 => {
            let works = dice.chance(50).then_some(Duration::from_millis(2));
            pair.shared.lock().hosts[host].write_takes = works;
        }
        2 => {
            let slow = span(dice, 100, 2500);
            pair.shared.lock().hosts[host].write_takes = Some(slow);
        }
        _ => pair.stop_plainly(host),
    }
}
