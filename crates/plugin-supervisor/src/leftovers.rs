//! What an earlier run may have left behind, and ending it for certain: before the port opens, and after a guard has
//! died.
//!
//! A run file names the guard (process id, start time, boot), its cgroup, and the random id that every plugin of it
//! has in its environment. Nothing is killed by its number alone: a process is held by a pidfd, looked at again, and
//! only then killed through the pidfd.
#![allow(
    clippy::disallowed_methods,
    reason = "runs before anything else exists: waits for killed processes to be gone"
)]

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::process::{Pid, PidfdFlags};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::containment::remove_cgroup;
use crate::{guard, procfs};

/// The variable by which a plugin's processes are recognised.
pub(crate) const GUARD_ID: &str = "ONDUTY_GUARD_ID";
const RUN_FILE: &str = "guard.json";
/// How long what was killed may take to be gone. SIGKILL works at once, except on a process in an uninterruptible
/// wait.
const LIMIT: Duration = Duration::from_secs(5);
/// Between two looks.
const PAUSE: Duration = Duration::from_millis(2);

/// What [`clear_leftovers`] found and did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Leftovers {
    /// Whether a guard of an earlier run was still there.
    pub guard: bool,
    /// How many processes of plugins were killed besides.
    pub processes: usize,
    /// Where a run file that could not be read was put.
    pub corrupt_file: Option<PathBuf>,
}

/// Why the node must not start.
#[derive(Debug, Error)]
pub enum LeftoversError {
    /// Another manager uses the same folder.
    #[error("onduty runs already with this folder, as process {pid}; stop it first")]
    ManagerAlive {
        /// Its process id.
        pid: i32,
    },
    /// Something cannot be killed.
    #[error("processes of an earlier run survive being killed: {0}")]
    Survived(String),
    /// The run file cannot be read or put away.
    #[error("cannot use the run file {path}")]
    File {
        /// Which.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
}

/// One certain process.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Process {
    pub(crate) pid: i32,
    pub(crate) started: u64,
}

impl Process {
    pub(crate) fn own() -> Self {
        let pid = i32::try_from(std::process::id()).unwrap_or(0);
        Self { pid, started: procfs::stat(pid).map_or(0, |stat| stat.started) }
    }
}

/// The run file.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Run {
    pub(crate) boot: String,
    pub(crate) id: String,
    pub(crate) manager: Process,
    pub(crate) guard: Process,
    pub(crate) cgroup: Option<PathBuf>,
    /// The PID namespace in which these numbers mean something.
    #[serde(default)]
    pub(crate) namespace: String,
}

/// What a process that is not the supervisor can tell about leftovers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sight {
    /// There is no run file: a planned end, or no supervisor has ever run.
    NoFile,
    /// The run file speaks of processes that this process can see.
    Here,
    /// It speaks of another PID namespace, or cannot be read: nothing can be told from here.
    Elsewhere,
}

/// Whether [`clear_leftovers`] would find what lives, if called by this process.
#[must_use]
pub fn sight(run_dir: &Path) -> Sight {
    match fs::read(run_dir.join(RUN_FILE)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Sight::NoFile,
        Err(_) => Sight::Elsewhere,
        Ok(bytes) => match serde_json::from_slice::<Run>(&bytes) {
            Ok(run) if run.boot != procfs::boot_id() => Sight::Here,
            // Mounted elsewhere, or not at all: nothing could be killed through it, or seen in it.
            Ok(Run { cgroup: Some(cgroup), .. }) if cgroup.parent().is_none_or(|dir| !dir.exists()) => {
                Sight::Elsewhere
            }
            Ok(run) if !run.namespace.is_empty() && run.namespace == procfs::pid_namespace() => Sight::Here,
            Ok(_) | Err(_) => Sight::Elsewhere,
        },
    }
}

impl Run {
    /// Writes it durably, whole or not at all.
    pub(crate) fn write(&self, run_dir: &Path) -> io::Result<()> {
        let bytes = serde_json::to_vec(self).map_err(io::Error::other)?;
        write_whole(&run_dir.join(RUN_FILE), &bytes, true)
    }

    /// A planned end leaves nothing.
    pub(crate) fn remove(run_dir: &Path) {
        let _ = fs::remove_file(run_dir.join(RUN_FILE));
    }
}

/// Replaces a file so that a reader sees the old or the new content, never a part.
pub(crate) fn write_whole(path: &Path, bytes: &[u8], durably: bool) -> io::Result<()> {
    use std::io::Write;

    let temporary = path.with_extension("new");
    let mut file = fs::File::create(&temporary)?;
    file.write_all(bytes)?;
    if durably {
        file.sync_all()?;
    }
    fs::rename(&temporary, path)
}

/// Ends what an earlier run in this folder left behind and waits until it is gone. To be called before the port
/// opens; waits a few seconds at most.
///
/// # Errors
///
/// When another manager is alive, or something survives: then the node must not start, or plugins would run beside
/// it.
pub fn clear_leftovers(run_dir: &Path) -> Result<Leftovers, LeftoversError> {
    let path = run_dir.join(RUN_FILE);
    let failed = |source| LeftoversError::File { path: path.clone(), source };
    let bytes = match fs::read(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Leftovers::default()),
        other => other.map_err(failed)?,
    };
    let Ok(run) = serde_json::from_slice::<Run>(&bytes) else {
        let aside = free_name(run_dir);
        fs::rename(&path, &aside).map_err(failed)?;
        tracing::error!(
            path = %path.display(), kept = %aside.display(),
            "the run file is corrupt: plugins of an earlier run could not be looked for"
        );
        return Ok(Leftovers { corrupt_file: Some(aside), ..Leftovers::default() });
    };
    let mut found = Leftovers::default();
    if run.boot == procfs::boot_id() {
        let own = Process::own();
        if run.manager.pid != own.pid && is_alive(run.manager) {
            return Err(LeftoversError::ManagerAlive { pid: run.manager.pid });
        }
        if let Some(pidfd) = procfs::hold(run.guard.pid, run.guard.started) {
            found.guard = true;
            end_family(run.guard.pid);
            procfs::kill(&pidfd);
            if !procfs::wait_ended(&pidfd, LIMIT) {
                return Err(LeftoversError::Survived(format!("the guard, process {}", run.guard.pid)));
            }
        }
        found.processes = end_all_of(&run).map_err(LeftoversError::Survived)?;
    }
    fs::remove_file(&path).map_err(failed)?;
    Ok(found)
}

/// What a guard has started is recognised most surely while it is there to be the ancestor of all: afterwards a process without
/// the id in its environment could be anybody's. Bounded: what survives is found again after the guard's end.
fn end_family(guard: i32) {
    let until = Instant::now() + LIMIT;
    loop {
        let family = procfs::descendants(guard);
        if family.is_empty() || Instant::now() > until {
            return;
        }
        for (pid, stat) in family {
            if let Some(pidfd) = procfs::hold(pid, stat.started) {
                procfs::kill(&pidfd);
            }
        }
        sleep(PAUSE);
    }
}

fn is_alive(process: Process) -> bool {
    procfs::hold(process.pid, process.started).is_some()
        && procfs::stat(process.pid).is_some_and(|stat| !matches!(stat.state, 'Z' | 'X'))
}

fn free_name(run_dir: &Path) -> PathBuf {
    let name = |n: u32| run_dir.join(format!("{RUN_FILE}.corrupt-{n}"));
    (1..1000).map(name).find(|path| !path.exists()).unwrap_or_else(|| name(1000))
}

/// Kills whatever a dead guard left, at every level of containment, until nothing of it lives. Returns how many
/// processes it had to kill, or what survives.
pub(crate) fn end_all_of(run: &Run) -> Result<usize, String> {
    let until = Instant::now() + LIMIT;
    let mut killed = Vec::new();
    let mut seen_empty = false;
    loop {
        let populated = run.cgroup.as_deref().filter(|cgroup| !guard::cgroup_is_empty(cgroup));
        if let Some(cgroup) = populated {
            let _ = fs::write(cgroup.join("cgroup.kill"), "1");
        }
        let living = strays(run);
        kill_strays(&living, run);
        killed.extend(living.iter().copied().filter(|pid| !killed.contains(pid)).collect::<Vec<_>>());
        for pid in &killed {
            // Those that became our own children, because this process is a subreaper.
            let flags = nix::sys::wait::WaitPidFlag::WNOHANG;
            let _ = nix::sys::wait::waitpid(nix::unistd::Pid::from_raw(*pid), Some(flags));
        }
        // Twice in a row: while a process executes a program its environment cannot be read for an instant.
        let empty = living.is_empty() && populated.is_none();
        if empty && seen_empty {
            if let Some(cgroup) = &run.cgroup {
                remove_cgroup(cgroup);
            }
            return Ok(killed.len());
        }
        seen_empty = empty;
        if Instant::now() > until {
            return Err(format!("processes {living:?}"));
        }
        sleep(PAUSE);
    }
}

/// Living processes of this guard: those with its id in their environment, and orphans that became descendants of
/// this process. A plugin never is in the manager's session, other children of the manager are.
fn strays(run: &Run) -> Vec<i32> {
    let own = Process::own();
    let mut found: Vec<i32> = procfs::all()
        .into_iter()
        .filter(|pid| *pid != own.pid && has_id(*pid, run))
        .filter(|pid| procfs::stat(*pid).is_some_and(|stat| stat.state != 'Z'))
        .collect();
    found.extend(orphans(run));
    found.sort_unstable();
    found.dedup();
    found
}

fn has_id(pid: i32, run: &Run) -> bool {
    procfs::variable(pid, GUARD_ID).is_some_and(|id| id == run.id)
}

/// Descendants of the manager, if that is this process, that no living guard looks after, outside its session and younger than
/// the dead guard.
fn orphans(run: &Run) -> Vec<i32> {
    let Process { pid: own, started } = Process::own();
    if run.manager.pid != own || run.manager.started != started || run.cgroup.is_some() {
        return Vec::new();
    }
    let session = procfs::stat(own).map(|stat| stat.session);
    let family = procfs::descendants(own);
    let parent_of = |pid: i32| family.iter().find(|(other, _)| *other == pid).map(|(_, stat)| stat.parent);
    let has_another_guard = |pid: i32| {
        let ancestors =
            std::iter::successors(Some(pid), |pid| parent_of(*pid).filter(|parent| *parent != own));
        ancestors
            .take(family.len() + 1)
            .any(|pid| procfs::variable(pid, GUARD_ID).is_some_and(|id| id != run.id))
    };
    family
        .iter()
        .filter(|(_, stat)| Some(stat.session) != session && stat.started >= run.guard.started)
        .map(|(pid, _)| *pid)
        .filter(|pid| !has_another_guard(*pid))
        .collect()
}

/// Holds each of them, looks again (a number may have been given to somebody else meanwhile), and only then kills.
fn kill_strays(found: &[i32], run: &Run) {
    let hold = |pid: &i32| {
        let raw = Pid::from_raw(*pid)?;
        Some((*pid, rustix::process::pidfd_open(raw, PidfdFlags::empty()).ok()?))
    };
    let held: Vec<_> = found.iter().filter_map(hold).collect();
    // Each by itself: a second look at the whole machine would let them live for as long as that takes.
    let (with_id, without): (Vec<_>, Vec<_>) = held.iter().partition(|(pid, _)| has_id(*pid, run));
    with_id.iter().for_each(|(_, pidfd)| procfs::kill(pidfd));
    if !without.is_empty() {
        let still = orphans(run);
        without.iter().filter(|(pid, _)| still.contains(pid)).for_each(|(_, pidfd)| procfs::kill(pidfd));
    }
}
