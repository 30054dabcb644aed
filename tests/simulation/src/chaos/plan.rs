//! A life as it is planned: everything the seed decides, before anything happens. A plan can be read, run again, and
//! made smaller.

use std::time::Duration;

use super::deed::{Deed, draw_fair, draw_foul, draw_later};
use super::settings;
use crate::pair::Terms;
use crate::world::{ALPHA, BETA};
use crate::{Chosen, Dice};

/// What may happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weather {
    /// Processes, hosts, disks and plugins fail; the network works: nothing may ever run twice.
    Fair,
    /// The network fails as well.
    Foul,
}

/// How long the plugins of a node take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// From a start to every plugin ready.
    pub start_takes: Duration,
    /// From an ordered stop to the last plugin gone.
    pub stop_takes: Duration,
    /// From a kill to the last plugin gone.
    pub kill_takes: Duration,
    /// A write to the disk.
    pub write_takes: Duration,
}

/// One deed and the time until the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scene {
    /// What happens.
    pub deed: Deed,
    /// And then for so long nothing does.
    pub then: Duration,
}

/// One life.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// What it was drawn from.
    pub seed: u64,
    /// What may happen.
    pub weather: Weather,
    /// The settings.
    pub chosen: Chosen,
    /// How many drafts of them validation refused.
    pub refused: u32,
    /// How it is simulated.
    pub terms: Terms,
    /// The plugins of each node.
    pub paces: [Pace; 2],
    /// Which node boots first, and how long before the other; `None`: the life begins with a pair that is up.
    pub first: Option<(usize, Duration)>,
    /// What happens.
    pub scenes: Vec<Scene>,
    /// Whether the nodes that are left are looked at before everything is mended.
    pub survivors: bool,
}

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

impl Plan {
    /// The plan of a seed. Each part has dice of its own, so that a new kind of deed leaves the settings of every seed
    /// as they were.
    #[must_use]
    pub fn draw(seed: u64) -> Self {
        let dice = &mut Dice::of(seed, "weather");
        let weather = if dice.chance(40) { Weather::Fair } else { Weather::Foul };
        let (mut chosen, refused) = settings::settings(&mut Dice::of(seed, "settings"));
        let terms = settings::terms(&mut Dice::of(seed, "terms"), &chosen);
        let dice = &mut Dice::of(seed, "paces");
        let mut pace = || Pace {
            start_takes: ms(dice.within(5, 600)),
            stop_takes: ms(dice.within(5, 600)),
            kill_takes: ms(dice.within(1, 50)),
            write_takes: ms(dice.within(1, 20)),
        };
        let paces = [pace(), pace()];
        let dice = &mut Dice::of(seed, "scenes");
        let first = dice.chance(30).then(|| (dice.pick(&[ALPHA, BETA]), ms(dice.within(0, 800))));
        let silence = u64::try_from(chosen.silence().as_millis()).unwrap();
        let many = dice.within(3, 9);
        let mut scenes: Vec<_> = (0..many).map(|_| scene(dice, weather, silence)).collect();
        let survivors = dice.chance(30);
        let dice = &mut Dice::of(seed, "later");
        chosen.two_paths = dice.chance(35);
        for row in draw_later(dice, weather, silence, chosen.two_paths) {
            let place = usize::try_from(dice.within(0, 1 + scenes.len() as u64)).unwrap();
            for (more, deed) in row.into_iter().enumerate() {
                scenes.insert(place + more, Scene { deed, then: pause(dice, silence) });
            }
        }
        Self { seed, weather, chosen, refused, terms, paces, first, scenes, survivors }
    }

    /// The plan in words, for whoever reads a failure.
    #[must_use]
    pub fn told(&self) -> String {
        let scenes: Vec<_> =
            self.scenes.iter().map(|scene| format!("  {:?}, then {:?}\n", scene.deed, scene.then)).collect();
        format!(
            "{:?} weather, {:?}\npaces: {:?}\nfirst: {:?}\n{}survivors: {}\n",
            self.weather,
            self.terms,
            self.paces,
            self.first,
            scenes.concat(),
            self.survivors
        )
    }
}

fn scene(dice: &mut Dice, weather: Weather, silence: u64) -> Scene {
    let deed = match weather {
        Weather::Fair => draw_fair(dice, silence),
        Weather::Foul => draw_foul(dice, silence),
    };
    Scene { deed, then: pause(dice, silence) }
}

fn pause(dice: &mut Dice, silence: u64) -> Duration {
    let then = match dice.within(0, 10) {
        0..5 => dice.within(1, silence / 3 + 2),
        5..9 => dice.within(silence / 3, silence * 2),
        _ => dice.within(0, 10),
    };
    // Long timings are for long silences, not for long lives.
    ms(then.min(8000))
}
