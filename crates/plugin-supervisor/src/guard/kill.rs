//! Ending everything, at whatever level of containment, until nothing lives.
//!
//! | level | what is killed | how it is known that nothing lives |
//! | --- | --- | --- |
//! | A | every process of the namespace but its first, by one call | no child is left (orphans become the first's) |
//! | B | the cgroup, by one write, and what descends | no child is left and the cgroup is empty |
//! | C | the groups, then every descendant, again and again | no child is left (orphans become the subreaper's) |
#![allow(
    clippy::disallowed_methods,
    reason = "the guard has no runtime: it looks again until what it killed is reaped"
)]

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::jobs::Jobs;
use crate::procfs;

/// How often the killing is repeated at first: a fork that raced with it is caught within this time.
const SOON: Duration = Duration::from_millis(2);
/// How often it is repeated once it takes long (a process in an uninterruptible wait).
const LATER: Duration = Duration::from_millis(50);
/// After this time it takes long.
const LONG: Duration = Duration::from_millis(200);
/// How often the supervisor is told what survives.
const TELL: Duration = Duration::from_secs(1);
/// Survivors named at most.
const NAMED: usize = 8;

/// An ending under way.
pub(super) struct Ending {
    began: Instant,
    told: Instant,
    /// Who waits for the answer.
    pub(super) tokens: Vec<u64>,
}

/// Whether this process is the first of its PID namespace: only then may a signal go to *every* process.
pub(super) fn is_first_process() -> bool {
    std::process::id() == 1
}

impl Ending {
    pub(super) fn begin() -> Self {
        let now = Instant::now();
        Self { began: now, told: now, tokens: Vec::new() }
    }

    /// When to try again.
    pub(super) fn pause(&self) -> Duration {
        if self.began.elapsed() < LONG { SOON } else { LATER }
    }

    /// Kills whatever lives now.
    pub(super) fn strike(&self, jobs: &Jobs) {
        if is_first_process() {
            let _ = kill(Pid::from_raw(-1), Signal::SIGKILL);
            return;
        }
        if let Some(cgroup) = &jobs.cgroup {
            let _ = fs::write(cgroup.join("cgroup.kill"), "1");
        }
        jobs.kill_groups();
        let own = i32::try_from(std::process::id()).unwrap_or(i32::MAX);
        for (pid, stat) in procfs::descendants(own) {
            if let Some(pidfd) = procfs::hold(pid, stat.started) {
                procfs::kill(&pidfd);
            }
        }
    }

    /// What survives, about once a second.
    pub(super) fn survivors(&mut self) -> Option<String> {
        if self.told.elapsed() < TELL {
            return None;
        }
        self.told = Instant::now();
        let own = i32::try_from(std::process::id()).unwrap_or(i32::MAX);
        let living = procfs::descendants(own);
        let named: Vec<String> = living
            .iter()
            .take(NAMED)
            .map(|(pid, stat)| format!("process {pid} ({}, state {})", stat.name, stat.state))
            .collect();
        Some(format!("{} of {} that were killed: {}", named.len(), living.len(), named.join(", ")))
    }
}

/// Whether no process is left in the cgroup.
pub(crate) fn cgroup_is_empty(cgroup: &Path) -> bool {
    match fs::read_to_string(cgroup.join("cgroup.events")) {
        Ok(events) => events.lines().any(|line| line == "populated 0"),
        Err(_) => !cgroup.exists(),
    }
}
