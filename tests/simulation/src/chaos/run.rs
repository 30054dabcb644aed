//! Lives a plan.

use std::any::Any;
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Once;
use std::time::Duration;

use failover_core::Rules;

use super::act::{act, must_act};
use super::plan::{Pace, Plan, Weather};
use crate::traffic::Traffic;
use crate::world::{ALPHA, BETA};
use crate::{Chosen, Pair};

/// The longest wait between two tries of a start.
const LONGEST_BACKOFF: Duration = Duration::from_secs(60);

/// What a life comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    /// Everything that both nodes said.
    pub told: String,
    /// What went in and out at their sockets.
    pub traffic: Vec<Traffic>,
    /// How much simulated time went by.
    pub lasted: Duration,
    /// How often plugins were started below an epoch that had been used.
    pub steps_back: usize,
    /// How long the network had both nodes' plugins live.
    pub overlap: Duration,
}

/// Lives a plan to its end.
///
/// # Panics
///
/// When an invariant is broken: with the plan and everything that both nodes said.
#[must_use]
pub fn live(plan: &Plan, rules: Option<Rules>) -> Ended {
    let terms = crate::pair::Terms { rules, ..plan.terms };
    let mut pair = Pair::on(terms, plan.seed, plan.chosen.clone());
    pair.plan = plan.told();
    for (host, pace) in plan.paces.into_iter().enumerate() {
        set_pace(&pair, host, pace);
    }
    match plan.first {
        Some((first, wait)) => {
            pair.boot(first);
            pair.run_for(wait);
            pair.boot(1 - first);
        }
        None => pair.come_up(),
    }
    for scene in &plan.scenes {
        act(&mut pair, scene.deed);
        pair.run_for(scene.then);
    }
    if plan.survivors && plan.weather == Weather::Fair {
        look_at_survivors(&mut pair);
    }
    let backoff = longest_backoff(&pair);
    for (host, pace) in plan.paces.into_iter().enumerate() {
        set_pace(&pair, host, pace);
    }
    pair.mend();
    let within = pair.chosen.healing() + backoff;
    pair.heals_within(within);
    if plan.weather == Weather::Fair {
        pair.never_twice();
    }
    let mut world = pair.shared.lock();
    Ended {
        told: world.told(),
        traffic: std::mem::take(&mut world.traffic),
        lasted: pair.now(),
        steps_back: world.checks.steps_back(),
        overlap: world.checks.overlap(pair.now()),
    }
}

fn set_pace(pair: &Pair, host: usize, pace: Pace) {
    let mut world = pair.shared.lock();
    let host = &mut world.hosts[host];
    host.start_takes = pace.start_takes;
    host.stop_takes = pace.stop_takes;
    host.kill_takes = pace.kill_takes;
    host.write_takes = Some(pace.write_takes);
}

/// A node that failed to start waits before it tries again: 1 s, then twice as long each time.
fn longest_backoff(pair: &Pair) -> Duration {
    let world = pair.shared.lock();
    let failed = world.hosts.iter().map(|host| host.failed_in_a_row).max().unwrap_or(0);
    let backoff = Duration::from_secs(1) * (1 << failed.min(6));
    if failed == 0 { Duration::ZERO } else { backoff.min(LONGEST_BACKOFF) }
}

/// I9: the network works, and a node is there that may act. Within the bound somebody is active.
fn look_at_survivors(pair: &mut Pair) {
    let able = |pair: &Pair| [ALPHA, BETA].map(|host| must_act(&pair.shared.lock(), host));
    let before = able(pair);
    if before == [false; 2] {
        return;
    }
    let within = bound(&pair.chosen) + longest_backoff(pair);
    let active = pair.waited(within, |world| world.hosts.iter().any(|host| host.plugins.is_some()));
    // Meanwhile a maintenance window may have come over from the other node, or a start may have failed.
    if !active && able(pair) == before {
        pair.fail(&format!("I9: for {within:?} nobody has been active, although one could be ({before:?})"));
    }
}

/// Within this somebody takes a duty that nobody has: a start, a silence, the patience with another one whose turn it is.
fn bound(chosen: &Chosen) -> Duration {
    let silence = chosen.silence().max(chosen.interval * 2);
    (chosen.longest_wait() + silence * 3 + chosen.interval * 4 + chosen.start_within + chosen.stop_grace)
        .mul_f64(1.02)
        + Duration::from_secs(2)
}

thread_local! {
    static QUIET: Cell<bool> = const { Cell::new(false) };
}

/// Lives a plan; `Err` is what went wrong, in the words of the panic, which is not printed.
///
/// # Errors
///
/// What the life broke.
pub fn outcome(plan: &Plan, rules: Option<Rules>) -> Result<Ended, String> {
    static HUSH: Once = Once::new();
    HUSH.call_once(|| {
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            if !QUIET.get() {
                usual(panic);
            }
        }));
    });
    QUIET.set(true);
    let lived = catch_unwind(AssertUnwindSafe(|| live(plan, rules)));
    QUIET.set(false);
    lived.map_err(|failure| words(failure.as_ref()))
}

fn words(failure: &(dyn Any + Send)) -> String {
    let text = failure.downcast_ref::<String>().cloned();
    text.or_else(|| failure.downcast_ref::<&str>().map(|text| (*text).to_owned())).unwrap_or_default()
}

/// The first of these seeds whose life fails, with how many were lived and what went wrong.
#[must_use]
pub fn seed_fails(seeds: impl IntoIterator<Item = u64>, rules: Option<Rules>) -> Option<(u64, u64, String)> {
    seeds.into_iter().zip(1..).find_map(|(seed, lived)| {
        let failed = outcome(&Plan::draw(seed), rules).err()?;
        Some((seed, lived, failed))
    })
}
