//! What really ran, from the files that the sample workload wrote: gaps and overlap, to 5 ms.

use std::fs;
use std::path::Path;

/// One line: when, by the clock that both nodes share on this machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Stamp {
    at_ns: u64,
    node: usize,
}

/// Lines further apart than this are two runs of the workload, or a gap: ten times the writing period.
const APART_NS: u64 = 50_000_000;

/// Everything both workloads have written.
#[derive(Debug, Default)]
pub(crate) struct Canaries {
    stamps: Vec<Stamp>,
}

impl Canaries {
    /// Reads the files of the nodes; one that is not there yet is empty.
    pub(crate) fn read(files: &[&Path]) -> Self {
        let mut stamps: Vec<Stamp> = files
            .iter()
            .enumerate()
            .flat_map(|(node, file)| stamps_of(node, &fs::read_to_string(file).unwrap_or_default()))
            .collect();
        stamps.sort_unstable();
        Self { stamps }
    }

    /// The workload's last line on `from` before its first line on `to` after `since_ns`, and that line: the gap between
    /// them in milliseconds. Negative: they overlapped.
    pub(crate) fn gap_ms(&self, from: usize, to: usize, since_ns: u64) -> Option<f64> {
        let first = self.stamps.iter().find(|stamp| stamp.node == to && stamp.at_ns >= since_ns)?.at_ns;
        let last = self
            .stamps
            .iter()
            .rfind(|stamp| stamp.node == from && stamp.at_ns < first.saturating_add(APART_NS))?
            .at_ns;
        Some((first as f64 - last as f64) / 1e6)
    }

    /// How long both ran at the same time, in milliseconds.
    pub(crate) fn overlap_ms(&self) -> f64 {
        let [a, b] = [self.runs(0), self.runs(1)];
        let both = |x: &(u64, u64), y: &(u64, u64)| x.1.min(y.1).saturating_sub(x.0.max(y.0));
        let total: u64 = a.iter().flat_map(|x| b.iter().map(move |y| both(x, y))).sum();
        total as f64 / 1e6
    }

    /// When the workload ran on a node: from its first to its last line, for each run.
    fn runs(&self, node: usize) -> Vec<(u64, u64)> {
        let mut runs: Vec<(u64, u64)> = Vec::new();
        for stamp in self.stamps.iter().filter(|stamp| stamp.node == node) {
            match runs.last_mut() {
                Some(run) if stamp.at_ns.saturating_sub(run.1) < APART_NS => run.1 = stamp.at_ns,
                Some(_) | None => runs.push((stamp.at_ns, stamp.at_ns)),
            }
        }
        runs
    }
}

/// A line cut in half by a kill is no stamp.
fn stamps_of(node: usize, text: &str) -> Vec<Stamp> {
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    let time = |line: &str| line.split(' ').nth(2)?.parse().ok();
    whole.lines().filter_map(time).map(|at_ns| Stamp { at_ns, node }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn canaries(a: &[u64], b: &[u64]) -> Canaries {
        let lines =
            |times: &[u64]| times.iter().map(|ms| format!("n 2 {}\n", ms * 1_000_000)).collect::<String>();
        let mut stamps = stamps_of(0, &lines(a));
        stamps.extend(stamps_of(1, &lines(b)));
        stamps.sort_unstable();
        Canaries { stamps }
    }

    #[test]
    fn the_gap_is_from_the_last_line_of_one_to_the_first_of_the_other() {
        let told = canaries(&[0, 5, 10, 500, 505], &[80, 85, 90]);
        assert_eq!(told.gap_ms(0, 1, 0), Some(70.0));
        assert_eq!(told.gap_ms(1, 0, 95_000_000), Some(410.0));
        assert!(told.overlap_ms() < 0.001);
    }

    #[test]
    fn running_twice_is_seen() {
        let told = canaries(&[0, 5, 10, 15, 20], &[10, 15, 20, 25]);
        assert!((told.overlap_ms() - 10.0).abs() < 0.001);
        assert_eq!(told.gap_ms(0, 1, 0), Some(-10.0));
    }

    #[test]
    fn a_line_cut_in_half_is_left_out() {
        assert_eq!(stamps_of(0, "n 2 1000\nn 2 20").len(), 1);
        assert!(stamps_of(0, "").is_empty());
    }
}
