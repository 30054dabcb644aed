//! Settings and terms of a life: drawn wide, and thrown again when the product's own validation refuses them.

use std::time::Duration;

use failover_core::{FailbackMode, OnUnproved, timing};
use service_kit::settings::Profile;

use crate::pair::Terms;
use crate::world::{ALPHA, BETA};
use crate::{Chosen, Dice};

/// The largest drift that the guarantees hold for.
const LARGEST_DRIFT_PPM: u64 = 10_000;
/// Beyond this a step would hide too much.
const LONGEST_TICK_MS: u64 = 10;

/// Draws until validation accepts; with it how many drafts it refused.
pub fn settings(dice: &mut Dice) -> (Chosen, u32) {
    let mut refused = 0;
    loop {
        let chosen = draft(dice);
        if chosen.load(ALPHA).is_ok() && chosen.load(BETA).is_ok() {
            return (chosen, refused);
        }
        refused += 1;
    }
}

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn draft(dice: &mut Dice) -> Chosen {
    let (interval, timeout, stable_for) = match dice.within(0, 100) {
        0..78 => {
            let interval = dice.within(10, 400);
            let timeout = interval * dice.within(1, 9) + dice.within(0, 500);
            (ms(interval), ms(timeout), ms(dice.within(0, 1500)))
        }
        78..90 => Profile::Fast.timings(),
        90..98 => Profile::Standard.timings(),
        _ => Profile::Relaxed.timings(),
    };
    let silence =
        |dice: &mut Dice| interval * u32::try_from(dice.within(1, 9)).unwrap() + ms(dice.within(0, 500));
    let scale = u64::try_from(timeout.as_millis()).unwrap();
    Chosen {
        interval,
        timeout,
        takeover_after: dice.chance(40).then(|| silence(dice)),
        takeover_confirm: dice.chance(20).then(|| ms(dice.within(50, 800))),
        on_unproved: if dice.chance(25) { OnUnproved::TakeOver } else { OnUnproved::Hold },
        allow_overlap: dice.chance(10),
        // Drawn apart, see `draw_later`.
        two_paths: false,
        primary_wait: dice.chance(40).then(|| ms(dice.within(100, 2 * scale))),
        secondary_wait: ms(dice.within(100, 1000 + 2 * scale)),
        failback: dice.pick(&[FailbackMode::Automatic, FailbackMode::Automatic, FailbackMode::Manual]),
        stable_for,
        flap_limit: u32::try_from(dice.within(0, 30)).unwrap(),
        handover_on_stop: dice.chance(70),
        start_within: ms(dice.within(700, 3000)),
        stop_grace: ms(dice.within(100, 1500)),
    }
}

/// How the life is simulated: steps and delays for which the guarantees hold, clocks that drift as far as they may.
///
/// The longer the interval, the longer the round trip that is allowed for, and the coarser the steps may be: what a
/// life costs is its steps. One life in four is looked at millisecond by millisecond.
pub(super) fn terms(dice: &mut Dice, chosen: &Chosen) -> Terms {
    let there = u64::try_from(timing::longest_round_trip(chosen.interval).as_millis()).unwrap() / 2;
    let interval = u64::try_from(chosen.interval.as_millis()).unwrap();
    let coarse = (there / 2).min(interval / 8).clamp(1, LONGEST_TICK_MS);
    let fine = if interval > 400 { coarse } else { 1 };
    let tick = dice.pick(&[fine, coarse, coarse, coarse]);
    let least = dice.within(1, there - tick + 1);
    let most = dice.within(least, there - tick + 1);
    let mut drift = || {
        let ppm = i32::try_from(dice.within(0, 2 * LARGEST_DRIFT_PPM + 1)).unwrap();
        ppm - i32::try_from(LARGEST_DRIFT_PPM).unwrap()
    };
    Terms { tick: ms(tick), latency: (ms(least), ms(most)), drift_ppm: [drift(), drift()], rules: None }
}
