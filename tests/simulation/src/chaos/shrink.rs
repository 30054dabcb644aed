//! Makes a failing life shorter: scenes that the failure does not need are taken out of its plan, the pauses between them
//! are shortened, until nothing more can go.

use std::time::Duration;

use super::plan::Plan;
use super::run::outcome;

/// The shortest plan found that fails with the same invariant, and its failure. `None`: the plan does not fail.
#[must_use]
pub fn shrink(plan: &Plan) -> Option<(Plan, String)> {
    let mut failure = outcome(plan, None).err()?;
    let mut plan = plan.clone();
    let kind = kind(&failure);
    let mut changed = true;
    while changed {
        changed = false;
        for smaller in smaller(&plan) {
            if let Err(other) = outcome(&smaller, None)
                && self::kind(&other) == kind
            {
                (plan, failure, changed) = (smaller, other, true);
                break;
            }
        }
    }
    Some((plan, failure))
}

/// Which rule was broken: the words after the time, up to the first that differs from life to life.
fn kind(failure: &str) -> String {
    let line = failure.lines().next().unwrap_or_default();
    let said = line.split_once(": ").map_or(line, |(_, said)| said);
    said.split([':', '`', '(']).next().unwrap_or_default().chars().take(16).collect()
}

fn smaller(plan: &Plan) -> Vec<Plan> {
    let mut all = Vec::new();
    for at in 0..plan.scenes.len() {
        let mut fewer = plan.clone();
        fewer.scenes.remove(at);
        all.push(fewer);
    }
    for at in 0..plan.scenes.len() {
        let then = plan.scenes[at].then;
        for shorter in [Duration::ZERO, then / 2] {
            if then > Duration::from_millis(5) && shorter < then {
                let mut fewer = plan.clone();
                fewer.scenes[at].then = shorter;
                all.push(fewer);
            }
        }
    }
    if plan.survivors {
        all.push(Plan { survivors: false, ..plan.clone() });
    }
    if plan.first.is_some() {
        all.push(Plan { first: None, ..plan.clone() });
    }
    all
}
