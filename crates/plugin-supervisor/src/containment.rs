//! Which level of containment a node has: the strongest that works here, found by trying, or the one that is asked
//! for.

use std::fs;
use std::path::{Path, PathBuf};

use failover_core::Containment;
use nix::unistd::{AccessFlags, access};

use crate::guard::Step;

/// Which level is wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ContainmentChoice {
    /// The strongest that works.
    #[default]
    Auto,
    /// Level A or nothing: a PID namespace.
    Namespace,
    /// Level B or nothing: a delegated cgroup v2.
    Cgroup,
    /// Level C: process groups and subreapers.
    Group,
}

/// How a guard is started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Mechanism {
    Namespace(Step),
    Cgroup(PathBuf),
    Group,
}

impl Mechanism {
    /// The level it gives. As the first process of a container, even plain groups are as good as a namespace: the
    /// end of this process is the end of all of them.
    pub(crate) fn level(&self) -> Containment {
        match self {
            Self::Namespace(_) => Containment::Namespace,
            Self::Cgroup(_) | Self::Group if std::process::id() == 1 => Containment::Namespace,
            Self::Cgroup(_) => Containment::Cgroup,
            Self::Group => Containment::Group,
        }
    }
}

/// What to try, strongest first, and why something is not even tried.
pub(crate) fn candidates(choice: ContainmentChoice, id: &str) -> (Vec<Mechanism>, Vec<String>) {
    let step = if nix::unistd::geteuid().is_root() { Step::Root } else { Step::Rootless };
    let mut why_not = Vec::new();
    let mut found = Vec::new();
    if matches!(choice, ContainmentChoice::Auto | ContainmentChoice::Namespace) {
        found.push(Mechanism::Namespace(step));
    }
    if matches!(choice, ContainmentChoice::Auto | ContainmentChoice::Cgroup) {
        match cgroup_for(id) {
            Ok(path) => found.push(Mechanism::Cgroup(path)),
            Err(why) => why_not.push(why),
        }
    }
    if matches!(choice, ContainmentChoice::Auto | ContainmentChoice::Group) {
        found.push(Mechanism::Group);
    }
    (found, why_not)
}

/// The folder of a cgroup that could be made below the own one.
fn cgroup_for(id: &str) -> Result<PathBuf, String> {
    let mounts =
        fs::read_to_string("/proc/self/mountinfo").map_err(|e| format!("cannot read the mounts: {e}"))?;
    let own =
        fs::read_to_string("/proc/self/cgroup").map_err(|e| format!("cannot read the own cgroup: {e}"))?;
    let mount = mount_point(&mounts).ok_or("no cgroup v2 is mounted")?;
    let own = own.lines().find_map(|line| line.strip_prefix("0::/")).ok_or("there is no own cgroup v2")?;
    let parent = mount.join(own);
    // A process may be moved only by who may write to the common ancestor of its old and its new cgroup.
    access(&parent.join("cgroup.procs"), AccessFlags::W_OK)
        .and_then(|()| access(&parent, AccessFlags::W_OK))
        .map_err(|e| format!("the cgroup {} is not delegated: {e}", parent.display()))?;
    Ok(parent.join(format!("onduty-{id}")))
}

/// Where cgroup v2 is mounted (`/sys/fs/cgroup`, or `/sys/fs/cgroup/unified` beside version 1).
fn mount_point(mountinfo: &str) -> Option<PathBuf> {
    mountinfo.lines().find_map(|line| {
        let (before, after) = line.split_once(" - ")?;
        let is_v2 = after.split(' ').next() == Some("cgroup2");
        is_v2.then(|| before.split(' ').nth(4).map(PathBuf::from)).flatten()
    })
}

/// Makes the cgroup; it must be one that can be killed as a whole (Linux 5.14).
pub(crate) fn make_cgroup(path: &Path) -> Result<(), String> {
    fs::create_dir(path).map_err(|e| format!("cannot make the cgroup {}: {e}", path.display()))?;
    if path.join("cgroup.kill").exists() {
        return Ok(());
    }
    remove_cgroup(path);
    Err("this kernel cannot kill a cgroup as a whole (Linux 5.14 can)".to_owned())
}

/// Removes the cgroup; one with processes in it stays.
pub(crate) fn remove_cgroup(path: &Path) {
    // Plugins may have made cgroups below it; the kernel's own files go with the folder.
    if let Ok(entries) = fs::read_dir(path) {
        for entry in entries.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())) {
            remove_cgroup(&entry.path());
        }
    }
    let _ = fs::remove_dir(path);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cgroup_v2_is_found_beside_version_1() {
        let hybrid = "33 32 0:26 / /sys/fs/cgroup/cpu rw shared:9 - cgroup cgroup rw,cpu\n\
                      41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n";
        assert_eq!(mount_point(hybrid), Some(PathBuf::from("/sys/fs/cgroup/unified")));
        assert_eq!(mount_point("22 27 0:21 / /proc rw - proc proc rw\n"), None);
    }
}
