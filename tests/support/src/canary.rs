//! The canary's checker: who ran when.
//!
//! The sample workload (`onduty canary --file F`) appends one line `node epoch boot_ns` every 5 ms, on `CLOCK_BOOTTIME`,
//! which both nodes of a test share. From these lines alone the checker computes what the pair promises:
//!
//! ```text
//!   node a, epoch 2   |■■■■■■■■■■■■■■■|                      one Activity: first to last line of (node, epoch)
//!   node b, epoch 3                    ·····|■■■■■■■■■■■|
//!                                      outage
//!   overlap = time that two activities of different nodes share; 0 is what most scenarios promise
//! ```
//!
//! An activity counts as running from its first to its last line, also where lines are far apart: the checker may say
//! "both ran" where a canary was only late, never the other way round. The last line of a file may be torn (its writer
//! was killed); any other line that does not parse is an error.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// One line of a canary.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// The node's name.
    pub node: String,
    /// The epoch the canary was started under.
    pub epoch: u64,
    /// When it was written, on `CLOCK_BOOTTIME`, in nanoseconds.
    pub boot_ns: u64,
}

/// A line that is not `node epoch boot_ns`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadLine {
    /// Counted from 1.
    pub line: usize,
    /// What it says.
    pub text: String,
}

/// A node's run under one epoch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Activity {
    /// The node's name.
    pub node: String,
    /// The epoch.
    pub epoch: u64,
    /// Its first line.
    pub first_ns: u64,
    /// Its last line.
    pub last_ns: u64,
    /// How many lines it wrote.
    pub lines: usize,
}

/// All lines of a pair.
#[derive(Clone, Debug, Default)]
pub struct Canary {
    /// Sorted by time.
    stamps: Vec<Stamp>,
}

impl Canary {
    /// Reads the files of both nodes; a file that is not there yet has no lines.
    ///
    /// # Panics
    ///
    /// When a file cannot be read or has a bad line, other than a torn last one.
    #[must_use]
    #[track_caller]
    pub fn read(files: &[PathBuf]) -> Self {
        let text_of = |path: &Path| match fs::read_to_string(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            other => other.unwrap_or_else(|error| panic!("cannot read {}: {error}", path.display())),
        };
        let stamps = files.iter().flat_map(|path| {
            let parsed = parse(&text_of(path));
            parsed
                .unwrap_or_else(|bad| panic!("{}:{}: not a stamp: {:?}", path.display(), bad.line, bad.text))
        });
        Self::new(stamps.collect())
    }

    /// From lines in any order.
    #[must_use]
    pub fn new(mut stamps: Vec<Stamp>) -> Self {
        stamps.sort_by_key(|stamp| stamp.boot_ns);
        Self { stamps }
    }

    /// Every run, sorted by its first line.
    #[must_use]
    pub fn activities(&self) -> Vec<Activity> {
        let mut by_run: BTreeMap<(&str, u64), Activity> = BTreeMap::new();
        for Stamp { node, epoch, boot_ns } in &self.stamps {
            let fresh = || Activity {
                node: node.clone(),
                epoch: *epoch,
                first_ns: *boot_ns,
                last_ns: *boot_ns,
                lines: 0,
            };
            let activity = by_run.entry((node, *epoch)).or_insert_with(fresh);
            activity.last_ns = *boot_ns;
            activity.lines += 1;
        }
        let mut activities: Vec<Activity> = by_run.into_values().collect();
        activities.sort_by_key(|activity| activity.first_ns);
        activities
    }

    /// How long two nodes ran at once, in milliseconds, summed over all pairs of runs.
    #[must_use]
    pub fn overlap_ms(&self) -> f64 {
        let activities = self.activities();
        let shared = |a: &Activity, b: &Activity| {
            let begin = a.first_ns.max(b.first_ns);
            let end = a.last_ns.min(b.last_ns);
            if a.node == b.node { 0 } else { end.saturating_sub(begin) }
        };
        let of = |(index, a): (usize, &Activity)| {
            activities[index + 1..].iter().map(|b| shared(a, b)).sum::<u64>()
        };
        crate::ms_between(0, activities.iter().enumerate().map(of).sum())
    }

    /// The longest time between two neighbouring lines in which nobody wrote, in milliseconds, from `after_ns` on.
    #[must_use]
    pub fn longest_outage_ms(&self, after_ns: u64) -> f64 {
        let later: Vec<u64> =
            self.stamps.iter().map(|stamp| stamp.boot_ns).filter(|at| *at >= after_ns).collect();
        let longest = later.windows(2).map(|pair| pair[1] - pair[0]).max();
        crate::ms_between(0, longest.unwrap_or(0))
    }

    /// The first line of a node at or after a time.
    #[must_use]
    pub fn first_of(&self, node: &str, after_ns: u64) -> Option<&Stamp> {
        self.stamps.iter().find(|stamp| stamp.node == node && stamp.boot_ns >= after_ns)
    }

    /// The last line of a node.
    #[must_use]
    pub fn last_of(&self, node: &str) -> Option<&Stamp> {
        self.stamps.iter().rev().find(|stamp| stamp.node == node)
    }

    /// The node that wrote last of all.
    #[must_use]
    pub fn newest(&self) -> Option<&Stamp> {
        self.stamps.last()
    }

    /// Epochs must be unique to a node and grow from run to run.
    ///
    /// # Errors
    ///
    /// A sentence that names the two runs that break the rule.
    pub fn epochs_in_order(&self) -> Result<(), String> {
        let activities = self.activities();
        activities.windows(2).try_for_each(|pair| {
            let [earlier, later] = pair else { return Ok(()) };
            if later.epoch > earlier.epoch {
                return Ok(());
            }
            Err(format!(
                "{} began to run under epoch {} after {} had begun under epoch {}",
                later.node, later.epoch, earlier.node, earlier.epoch
            ))
        })
    }
}

/// Parses a file's lines; the last one may be torn.
fn parse(text: &str) -> Result<Vec<Stamp>, BadLine> {
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    let of_line = |(index, line): (usize, &str)| {
        stamp(line).ok_or_else(|| BadLine { line: index + 1, text: line.chars().take(80).collect() })
    };
    whole.lines().enumerate().map(of_line).collect()
}

fn stamp(line: &str) -> Option<Stamp> {
    let mut words = line.split(' ');
    let stamp = Stamp {
        node: words.next().filter(|node| !node.is_empty())?.to_owned(),
        epoch: words.next()?.parse().ok()?,
        boot_ns: words.next()?.parse().ok()?,
    };
    words.next().is_none().then_some(stamp)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A run that writes every 5 ms from one millisecond to another, both included.
    fn run(node: &str, epoch: u64, from_ms: u64, to_ms: u64) -> Vec<Stamp> {
        let stamp = |ms: u64| Stamp { node: node.to_owned(), epoch, boot_ns: ms * 1_000_000 };
        (from_ms..=to_ms).step_by(5).map(stamp).collect()
    }

    fn canary(runs: &[Vec<Stamp>]) -> Canary {
        Canary::new(runs.concat())
    }

    fn close(a: f64, b: f64) -> bool {
        (a - b).abs() < 1e-6
    }

    #[test]
    fn a_takeover_has_an_outage_and_no_overlap() {
        let canary = canary(&[run("a", 2, 0, 1000), run("b", 3, 1060, 2000)]);
        assert!(close(canary.overlap_ms(), 0.0));
        assert!(close(canary.longest_outage_ms(0), 60.0));
        assert_eq!(canary.epochs_in_order(), Ok(()));
        assert_eq!(canary.first_of("b", 0).map(|stamp| stamp.boot_ns), Some(1_060_000_000));
        assert_eq!(canary.last_of("a").map(|stamp| stamp.boot_ns), Some(1_000_000_000));
        assert_eq!(canary.newest().map(|stamp| stamp.node.as_str()), Some("b"));
        let [a, b] = &canary.activities()[..] else { panic!("two runs") };
        assert_eq!((a.node.as_str(), a.lines, b.node.as_str(), b.epoch), ("a", 201, "b", 3));
    }

    #[test]
    fn two_that_run_at_once_are_measured_also_when_one_lies_within_the_other() {
        assert!(close(canary(&[run("a", 2, 0, 1000), run("b", 3, 950, 2000)]).overlap_ms(), 50.0));
        assert!(close(canary(&[run("a", 2, 0, 1000), run("b", 3, 300, 500)]).overlap_ms(), 200.0));
        let twice = [run("a", 2, 0, 1000), run("b", 3, 100, 200), run("b", 5, 300, 400)];
        assert!(close(canary(&twice).overlap_ms(), 200.0));
    }

    #[test]
    fn a_late_canary_is_still_running() {
        let halves = [run("a", 2, 0, 100), run("a", 2, 900, 1000), run("b", 3, 400, 500)];
        assert!(close(canary(&halves).overlap_ms(), 100.0));
    }

    #[test]
    fn a_node_that_runs_again_does_not_overlap_itself() {
        assert!(close(canary(&[run("a", 2, 0, 100), run("a", 4, 50, 200)]).overlap_ms(), 0.0));
    }

    #[test]
    fn epochs_that_repeat_or_fall_are_named() {
        let repeated = canary(&[run("a", 4, 0, 100), run("b", 4, 200, 300)]);
        assert!(repeated.epochs_in_order().is_err_and(|why| why.contains("b began to run under epoch 4")));
        let fallen = canary(&[run("a", 4, 0, 100), run("b", 3, 200, 300)]);
        assert!(fallen.epochs_in_order().is_err());
    }

    #[test]
    fn the_outage_counts_from_the_time_given() {
        let canary = canary(&[run("a", 2, 0, 100), run("b", 3, 500, 1000), run("a", 4, 1030, 2000)]);
        assert!(close(canary.longest_outage_ms(0), 400.0));
        assert!(close(canary.longest_outage_ms(500_000_000), 30.0));
        assert!(close(canary.longest_outage_ms(u64::MAX), 0.0));
    }

    #[test]
    fn only_the_last_line_may_be_torn() {
        let stamps = parse("a 2 100\na 2 105\na 2 1").expect("a torn last line is no error");
        assert_eq!(stamps.len(), 2);
        assert_eq!(parse("a 2").expect("nothing whole yet"), []);
        assert_eq!(parse("").expect("empty"), []);
        for bad in ["a 2 x", "a 2", "a 2 1 9", " 2 1", ""] {
            let text = format!("a 2 100\n{bad}\na 2 110\n");
            assert_eq!(parse(&text), Err(BadLine { line: 2, text: bad.to_owned() }));
        }
    }
}
