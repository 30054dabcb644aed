//! Whatever validation accepts, the two nodes accept of each other.

use std::time::Duration;

use simulation::chaos::draw_settings;
use simulation::seeds::each;
use simulation::{ALPHA, BETA, Dice, Pair};

#[test]
fn accepted_settings_make_a_pair() {
    each("accepted_settings", 40, |seed| {
        let (chosen, _refused) = draw_settings(&mut Dice::new(seed));
        let mut pair = Pair::new(seed, chosen);
        pair.boot(ALPHA);
        pair.boot(BETA);
        let a_while = pair.chosen.interval * 2 + Duration::from_millis(150);
        pair.run_for(a_while);
        let told = pair.shared.lock().told();
        if let Some(refused) = told.lines().find(|line| line.contains("peer_refused")) {
            pair.fail(&format!("refused: {refused}"));
        }
    });
}
