//! The invariants, watched from outside. The ids are those of the design: see `docs/`.

use std::collections::BTreeSet;
use std::time::Duration;

use failover_core::Epoch;

use crate::world::NAMES;

/// Plugins of one epoch that lived on one node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Activity {
    /// Where.
    pub node: usize,
    /// Under which epoch.
    pub epoch: Epoch,
    /// From the start of the first process.
    pub from: Duration,
    /// To the last one reaped; `None`: they live.
    pub to: Option<Duration>,
}

/// What was seen.
#[derive(Clone, Debug, Default)]
pub struct Checks {
    /// Rules that were broken: when and how.
    pub broken: Vec<(Duration, String)>,
    /// Who ran what, when.
    pub activity: Vec<Activity>,
    /// When the network last was in the way of anything; `None`: never yet.
    pub last_in_the_way: Option<Duration>,
    /// When the network last failed.
    pub last_network_fault: Duration,
    /// `on_unproved = "hold"`.
    pub holds: bool,
    /// How long after a fault of the network both nodes may become active because of it.
    pub grace: Duration,
    /// Overlaps that a fault of the network explains.
    pub explained: Duration,
    /// Overlaps before this nobody can know of any more.
    forgotten: Duration,
    /// Epochs whose node died before it could write down that it had used them: the other node is never told.
    unwritten: BTreeSet<Epoch>,
    /// The same that were not even reserved, because the disk failed: the node itself cannot know of them.
    unreserved: BTreeSet<Epoch>,
    both_since: Option<Duration>,
    epochs: BTreeSet<Epoch>,
    last: [Option<Epoch>; 2],
}

impl Checks {
    /// A rule was broken.
    pub fn break_rule(&mut self, at: Duration, what: String) {
        self.broken.push((at, what));
    }

    /// The highest epoch that plugins ever ran under.
    #[must_use]
    pub fn highest(&self) -> Option<Epoch> {
        self.epochs.last().copied()
    }

    /// A node has lost what it did up to now: of an overlap nobody can be told.
    pub const fn forget(&mut self, now: Duration) {
        self.forgotten = now;
    }

    /// A node dies; `written` is the last epoch that its disk says it used, `reserved` the last one that it may have used.
    pub fn dies(&mut self, node: usize, written: Option<Epoch>, reserved: Option<Epoch>) {
        let last = self.last[node];
        self.unwritten.extend(last.filter(|last| written < Some(*last)));
        self.unreserved.extend(last.filter(|last| written.max(reserved) < Some(*last)));
    }

    /// The last epoch that was used on a node.
    #[must_use]
    pub const fn last_of(&self, node: usize) -> Option<Epoch> {
        self.last[node]
    }

    /// The highest epoch whose plugins lived beside the other node's, as far as anybody can know.
    #[must_use]
    pub fn disputed(&self) -> Option<Epoch> {
        let beside = |a: &Activity, b: &Activity| {
            a.node != b.node && b.to.is_none_or(|to| a.from < to) && a.to.is_none_or(|to| b.from < to)
        };
        let known =
            |a: &Activity| a.to.is_none_or(|to| to > self.forgotten) && !self.unwritten.contains(&a.epoch);
        let disputed = |a: &&Activity| known(a) && self.activity.iter().any(|b| beside(a, b));
        self.activity.iter().filter(disputed).map(|activity| activity.epoch).max()
    }

    /// How often plugins were started under an epoch below one that the other node had used before.
    #[must_use]
    pub fn steps_back(&self) -> usize {
        let mut highest = Epoch(0);
        let mut back = 0;
        for activity in &self.activity {
            back += usize::from(activity.epoch < highest);
            highest = highest.max(activity.epoch);
        }
        back
    }

    /// Whether plugins ever ran on this node.
    #[must_use]
    pub const fn ran_before(&self, node: usize) -> bool {
        self.last[node].is_some()
    }

    /// How often plugins were started.
    #[must_use]
    pub fn starts(&self, node: usize) -> usize {
        self.activity.iter().filter(|activity| activity.node == node).count()
    }

    /// I2: unique in the pair, increasing on each node.
    pub(crate) fn epoch_used(&mut self, at: Duration, node: usize, epoch: Epoch) {
        let name = NAMES[node];
        if self.last[node] == Some(epoch) {
            // Called off before it was stopped: the same plugins, or the same order once more.
            return;
        }
        if let Some(last) = self.last[node].filter(|last| epoch <= *last && !self.unreserved.contains(last)) {
            self.break_rule(at, format!("I2: {name} uses epoch {epoch} after {last}"));
        }
        if !self.epochs.insert(epoch) {
            self.break_rule(at, format!("I2: {name} uses epoch {epoch}, which was used before"));
        }
        self.last[node] = Some(epoch);
    }

    pub(crate) fn begun(&mut self, at: Duration, node: usize, epoch: Epoch, other: bool, in_the_way: bool) {
        self.activity.push(Activity { node, epoch, from: at, to: None });
        if !other {
            return;
        }
        self.both_since = Some(at);
        let near = self.last_in_the_way.is_some_and(|last| at <= last + self.grace);
        if !in_the_way && !near {
            self.break_rule(at, format!("I1: {} starts while the other node's plugins live, and nothing was in the way of the link", NAMES[node]));
        }
    }

    pub(crate) fn renumbered(&mut self, at: Duration, node: usize, epoch: Epoch) {
        self.close(at, node);
        self.activity.push(Activity { node, epoch, from: at, to: None });
    }

    pub(crate) fn ended(&mut self, at: Duration, node: usize) {
        self.close(at, node);
        if let Some(since) = self.both_since.take() {
            self.explained += at.saturating_sub(since);
        }
    }

    fn close(&mut self, at: Duration, node: usize) {
        let open = self.activity.iter_mut().rev().find(|activity| activity.node == node);
        if let Some(open) = open.filter(|open| open.to.is_none()) {
            open.to = Some(at);
        }
    }

    /// How long both nodes' plugins lived at the same time, by the intervals.
    #[must_use]
    pub fn overlap(&self, now: Duration) -> Duration {
        let of = |node| self.activity.iter().filter(move |activity| activity.node == node);
        let mut sum = Duration::ZERO;
        for a in of(0) {
            for b in of(1) {
                let from = a.from.max(b.from);
                let to = a.to.unwrap_or(now).min(b.to.unwrap_or(now));
                sum += to.saturating_sub(from);
            }
        }
        sum
    }

    /// The longest time since `from` in which nobody's plugins lived, up to `now`.
    #[must_use]
    pub fn longest_gap(&self, from: Duration, now: Duration) -> Duration {
        let mut spans: Vec<_> =
            self.activity.iter().map(|activity| (activity.from, activity.to.unwrap_or(now))).collect();
        spans.sort();
        let mut reached = from;
        let mut longest = Duration::ZERO;
        for (begin, end) in spans {
            longest = longest.max(begin.saturating_sub(reached));
            reached = reached.max(end);
        }
        longest.max(now.saturating_sub(reached))
    }
}
