//! I11 for the whole node: the same seed twice is the same life. Called by the tests with a life; they fail with the first
//! difference.
//!
//! Both lives are lived at the same time, each on a thread of its own: whatever this process counts for both then stands
//! elsewhere in each, and nothing may come of it. What could come of chance, and why it does not:
//!
//! | chance | |
//! | --- | --- |
//! | the order in which tokio's `watch` wakes several readers | `service_kit::latest` has one |
//! | the branch with which `tokio::select!` begins | `biased` in everything that is simulated |
//! | the order in which a runtime ends its tasks | `sockets`: nothing else of a process is seen from outside |
//! | a thread that writes to the disk | `duty::simulation`: a task on the simulated clock |
//! | who a node is in this run | `node::identity` |
//! | nonces, keys of TLS, secrets of tombstones | compared for equality only, and all equally long |
//! | signatures and the date in headers, not all equally long | as many segments all the same: `traffic` would show others |
//! | the real clock, by which h2 forgets a stream that was reset | after 30 s, and a connection has one stream |
//! | where a `HashMap` begins | the link, the driver and the machine have none |

use std::fmt::Display;
use std::panic::resume_unwind;
use std::thread;

use crate::Pair;
use crate::chaos::Ended;
use crate::traffic::Traffic;

/// So many lines before the first difference are shown, and as many from it on.
const SHOWN: usize = 6;

/// What is left of a life to compare it by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Traces {
    /// Everything that both nodes said.
    pub told: String,
    /// What went in and out at their sockets.
    pub traffic: Vec<Traffic>,
}

impl From<Ended> for Traces {
    fn from(ended: Ended) -> Self {
        Self { told: ended.told, traffic: ended.traffic }
    }
}

impl From<Pair> for Traces {
    fn from(pair: Pair) -> Self {
        let mut world = pair.shared.lock();
        Self { told: world.told(), traffic: std::mem::take(&mut world.traffic) }
    }
}

/// Lives a life twice.
///
/// # Errors
///
/// Where the two first differ.
///
/// # Panics
///
/// When a life does.
pub fn twice(life: impl Fn() -> Traces + Sync) -> Result<Traces, String> {
    let (first, again) = thread::scope(|scope| {
        let both = [scope.spawn(&life), scope.spawn(&life)];
        let [first, again] = both.map(|one| one.join().unwrap_or_else(|failure| resume_unwind(failure)));
        (first, again)
    });
    // The traffic differs first, and shows why.
    let traffic = difference(&first.traffic, &again.traffic);
    let told = difference(&lines(&first.told), &lines(&again.told));
    match (traffic, told) {
        (None, None) => Ok(first),
        (traffic, told) => {
            let or_not = |difference: Option<String>| difference.unwrap_or_else(|| "  the same\n".to_owned());
            Err(format!("what they said:\n{}what passed:\n{}", or_not(told), or_not(traffic)))
        }
    }
}

fn lines(told: &str) -> Vec<&str> {
    told.lines().collect()
}

/// The surroundings of the first difference, both one after the other.
fn difference<T: Display + PartialEq>(first: &[T], again: &[T]) -> Option<String> {
    let common = first.iter().zip(again).take_while(|(a, b)| a == b).count();
    if common == first.len().max(again.len()) {
        return None;
    }
    let around = |which: &str, all: &[T]| {
        let shown = all.iter().enumerate().skip(common.saturating_sub(SHOWN)).take(2 * SHOWN);
        let lines = shown.map(|(at, line)| format!("  {} {line}\n", if at < common { ' ' } else { '|' }));
        format!("  --- {which}\n{}", lines.collect::<String>())
    };
    Some(around("first", first) + &around("again", again))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_difference_is_shown_also_where_one_is_only_longer() {
        assert_eq!(difference(&["a", "b"], &["a", "b"]), None);
        let shown = |first: &[&str], again: &[&str]| difference(first, again).unwrap_or_default();
        assert_eq!(shown(&["a", "b"], &["a", "c"]), "  --- first\n    a\n  | b\n  --- again\n    a\n  | c\n");
        assert_eq!(shown(&["a"], &["a", "c"]), "  --- first\n    a\n  --- again\n    a\n  | c\n");
    }
}
