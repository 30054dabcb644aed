//! What `/proc` tells about processes, and signals that can never hit the wrong one: a process is held by a pidfd
//! first, then looked at again, then signalled through the pidfd.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::process::{Pid, PidfdFlags, Signal};

/// What `/proc/PID/stat` says of a process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stat {
    /// Its short name.
    pub(crate) name: String,
    /// `R`, `S`, `D`, `Z` …
    pub(crate) state: char,
    /// Its parent.
    pub(crate) parent: i32,
    /// Its session.
    pub(crate) session: i32,
    /// When it was started, in clock ticks after boot: together with the id it names one process for ever.
    pub(crate) started: u64,
}

/// Reads `/proc/PID/stat`; `None` when there is no such process.
pub(crate) fn stat(pid: i32) -> Option<Stat> {
    parse(&fs::read(format!("/proc/{pid}/stat")).ok()?)
}

/// The name stands in parentheses and may hold anything, so the fields are counted after the last `)`.
fn parse(bytes: &[u8]) -> Option<Stat> {
    let text = String::from_utf8_lossy(bytes);
    let (before, after) = text.rsplit_once(')')?;
    let (_, name) = before.split_once('(')?;
    let fields: Vec<&str> = after.split_ascii_whitespace().collect();
    Some(Stat {
        name: name.to_owned(),
        state: fields.first()?.chars().next()?,
        parent: fields.get(1)?.parse().ok()?,
        session: fields.get(3)?.parse().ok()?,
        started: fields.get(19)?.parse().ok()?,
    })
}

/// The id of this boot; empty when the kernel does not tell.
pub(crate) fn boot_id() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned()
}

/// Every process id that `/proc` shows.
pub(crate) fn all() -> Vec<i32> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

/// Every living descendant of `root`, without `root` itself and without the dead that wait to be reaped.
pub(crate) fn descendants(root: i32) -> Vec<(i32, Stat)> {
    let mut processes: BTreeMap<i32, Stat> =
        all().into_iter().filter_map(|pid| Some((pid, stat(pid)?))).collect();
    let mut family = BTreeSet::from([root]);
    loop {
        let children: Vec<i32> = processes
            .iter()
            .filter(|(pid, stat)| family.contains(&stat.parent) && !family.contains(*pid))
            .map(|(pid, _)| *pid)
            .collect();
        if children.is_empty() {
            break;
        }
        family.extend(children);
    }
    family.remove(&root);
    family
        .into_iter()
        .filter_map(|pid| Some((pid, processes.remove(&pid)?)))
        .filter(|(_, stat)| stat.state != 'Z')
        .collect()
}

/// Holds one certain process: the one with this id that was started at this tick.
pub(crate) fn hold(pid: i32, started: u64) -> Option<OwnedFd> {
    let pidfd = rustix::process::pidfd_open(Pid::from_raw(pid)?, PidfdFlags::empty()).ok()?;
    // Looked at after the pidfd exists: if the id had been given to somebody else, this shows it.
    (stat(pid)?.started == started).then_some(pidfd)
}

/// Kills the process behind a pidfd; one that is gone already is no error.
pub(crate) fn kill(pidfd: &OwnedFd) {
    let _ = rustix::process::pidfd_send_signal(pidfd, Signal::KILL);
}

/// Waits until the process behind a pidfd has ended; `false` when it had not within the time.
pub(crate) fn wait_ended(pidfd: &OwnedFd, within: Duration) -> bool {
    let timeout = Timespec::try_from(within).ok();
    let mut fds = [PollFd::new(pidfd, PollFlags::IN)];
    matches!(rustix::event::poll(&mut fds, timeout.as_ref()), Ok(count) if count > 0)
}

/// Names the PID namespace of this process; empty when it cannot be told.
pub(crate) fn pid_namespace() -> String {
    fs::read_link("/proc/self/ns/pid").map(|link| link.display().to_string()).unwrap_or_default()
}

/// The value of one variable in the environment a process was started with.
pub(crate) fn variable(pid: i32, name: &str) -> Option<String> {
    let bytes = fs::read(format!("/proc/{pid}/environ")).ok()?;
    let value = |variable: &[u8]| {
        let (key, value) = variable.split_at_checked(name.len())?;
        (key == name.as_bytes()).then(|| value.strip_prefix(b"=").map(<[u8]>::to_vec)).flatten()
    };
    bytes.split(|byte| *byte == 0).find_map(value).map(|value| String::from_utf8_lossy(&value).into_owned())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_name_with_parentheses_and_spaces_does_not_confuse() {
        let line = b"42 (a) (b) c) S 7 1 1 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 4711 0 0";
        let stat = parse(line).unwrap();
        assert_eq!((stat.name.as_str(), stat.state, stat.parent, stat.started), ("a) (b) c", 'S', 7, 4711));
        assert_eq!(parse(b"42 (x"), None);
        assert_eq!(parse(b""), None);
    }

    #[test]
    fn a_process_with_another_start_time_is_never_held() {
        let own = i32::try_from(std::process::id()).unwrap();
        let started = stat(own).unwrap().started;
        assert!(hold(own, started).is_some());
        assert!(hold(own, started + 1).is_none());
    }
}
