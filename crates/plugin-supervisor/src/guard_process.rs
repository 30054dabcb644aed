//! The supervisor's side of the guard: starting one at the strongest level that works, and making sure that nothing
//! is left when it has died. Everything here waits, so it is called at start or from a thread that may wait.
#![allow(
    clippy::disallowed_methods,
    reason = "how long the guard takes to answer is measured; duty deadlines come with the order"
)]

use std::ffi::OsString;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::Child;
use std::time::{Duration, Instant};

use failover_core::Containment;
use rustix::event::{PollFd, PollFlags, Timespec};

use crate::containment::{ContainmentChoice, Mechanism, candidates, make_cgroup, remove_cgroup};
use crate::guard::{Again, STEP_RUN};
use crate::lease_timer::LeaseTimer;
use crate::leftovers::{GUARD_ID, Process, Run, end_all_of};
use crate::procfs;
use crate::wire::{self, Command, Event, Received};

/// A guard that has not answered within this time does not work here.
const HANDSHAKE: Duration = Duration::from_secs(5);
/// A guard that was asked to leave kills what lives and goes, within milliseconds. What does not fit into the time that the
/// whole process has for its end is left alive by it.
const FAREWELL: Duration = Duration::from_millis(300);
/// Which takes an instant. One that takes longer waits for a disk or is frozen by its cgroup: what it has started is ended
/// without it.
const PROMPT: Duration = Duration::from_millis(100);
/// A killed guard ends when the kernel has ended its whole namespace.
const END: Duration = Duration::from_secs(5);

/// A running guard.
pub(crate) struct GuardProcess {
    pub(crate) socket: OwnedFd,
    pub(crate) level: Containment,
    /// Holds the guard and nobody else.
    pub(crate) pidfd: OwnedFd,
    pub(crate) run: Run,
    pub(crate) lease: LeaseTimer,
    child: Child,
}

/// What is needed to start one.
#[derive(Clone, Debug)]
pub(crate) struct GuardStarter {
    pub(crate) command: Vec<OsString>,
    pub(crate) choice: ContainmentChoice,
    pub(crate) run_dir: PathBuf,
}

impl GuardStarter {
    /// Starts a guard at the strongest level that works, and writes the run file.
    pub(crate) fn start(&self) -> Result<GuardProcess, String> {
        // Orphans of a dead guard become our children instead of the machine's, so that they can be found.
        let _ = nix::sys::prctl::set_child_subreaper(true);
        let id = random_id()?;
        let (mechanisms, mut why_not) = candidates(self.choice, &id);
        for mechanism in mechanisms {
            match self.start_as(&mechanism, &id) {
                Ok(guard) => {
                    if let Err(error) = guard.run.write(&self.run_dir) {
                        tracing::warn!(
                            %error, dir = %self.run_dir.display(),
                            "cannot write the run file: after a crash of everything at once, leftovers would not be found"
                        );
                    }
                    return Ok(guard);
                }
                Err(why) => why_not.push(why),
            }
        }
        Err(why_not.join("; "))
    }

    fn start_as(&self, mechanism: &Mechanism, id: &str) -> Result<GuardProcess, String> {
        let cgroup = match mechanism {
            Mechanism::Cgroup(path) => {
                make_cgroup(path)?;
                Some(path.clone())
            }
            Mechanism::Namespace(_) | Mechanism::Group => None,
        };
        let outcome = self.launch(mechanism, cgroup.clone(), id);
        if let (Err(_), Some(cgroup)) = (&outcome, &cgroup) {
            remove_cgroup(cgroup);
        }
        outcome
    }

    fn launch(
        &self,
        mechanism: &Mechanism,
        cgroup: Option<PathBuf>,
        id: &str,
    ) -> Result<GuardProcess, String> {
        let lease = LeaseTimer::create().map_err(|e| format!("cannot make the timer of the lease: {e}"))?;
        let (socket, theirs) = wire::pair().map_err(|e| format!("cannot make the guard's socket: {e}"))?;
        let step = match mechanism {
            Mechanism::Namespace(step) => step.word(),
            Mechanism::Cgroup(_) | Mechanism::Group => STEP_RUN,
        };
        let mut command = Again::new(self.command.clone()).command(step, theirs);
        command.env(GUARD_ID, id);
        let mut child = command.spawn().map_err(|e| format!("cannot execute the guard: {e}"))?;
        // Its own copy of the other end must not keep the socket open.
        drop(command);
        let direct = matches!(step, STEP_RUN).then(|| i32::try_from(child.id()).unwrap_or(0));
        let greeted = wire::encode(&Command::Configure { cgroup: cgroup.clone() })
            .and_then(|bytes| wire::send(socket.as_fd(), &bytes, &[lease.share()?.as_fd()]))
            .map_err(|e| format!("cannot speak to the guard: {e}"))
            .and_then(|()| wait_for_guard(&socket, direct));
        if direct.is_none() {
            // The process that made the namespaces has done its work, or will not do it any more.
            let _ = child.kill();
            let _ = child.wait();
        }
        let held = greeted.and_then(|pid| {
            let started = procfs::stat(pid).map_or(0, |stat| stat.started);
            let pidfd = procfs::hold(pid, started).ok_or("the guard ended at once")?;
            Ok((Process { pid, started }, pidfd))
        });
        let (guard, pidfd) = match held {
            Ok(held) => held,
            Err(why) => {
                let _ = child.kill();
                let _ = child.wait();
                return Err(why);
            }
        };
        let run = Run {
            boot: procfs::boot_id(),
            id: id.to_owned(),
            manager: Process::own(),
            guard,
            cgroup,
            namespace: procfs::pid_namespace(),
        };
        Ok(GuardProcess { socket, level: mechanism.level(), pidfd, run, lease, child })
    }
}

/// Waits until the guard is ready; gives its process id.
fn wait_for_guard(socket: &OwnedFd, direct: Option<i32>) -> Result<i32, String> {
    let until = Instant::now() + HANDSHAKE;
    let (mut pid, mut ready) = (direct, false);
    let mut buffer = Vec::new();
    loop {
        if let (Some(pid), true) = (pid, ready) {
            return Ok(pid);
        }
        match wire::receive::<Event>(socket, &mut buffer) {
            Received::Message(Event::Ready, _) => ready = true,
            Received::Message(Event::Entered { pid: told }, _) => pid = Some(told),
            Received::Message(Event::CannotContain { why }, _) => return Err(why),
            Received::Message(other, _) => return Err(format!("the guard began with {other:?}")),
            Received::Garbage(why) => return Err(format!("the guard began with {why}")),
            Received::Closed => return Err("the guard ended before it was ready".to_owned()),
            Received::Nothing => {
                let left = until.saturating_duration_since(Instant::now());
                if left.is_zero() {
                    return Err(format!("the guard was not ready within {HANDSHAKE:?}"));
                }
                let timeout = Timespec::try_from(left).map_err(|e| e.to_string())?;
                let _ = rustix::event::poll(&mut [PollFd::new(socket, PollFlags::IN)], Some(&timeout));
            }
        }
    }
}

impl GuardProcess {
    /// Kills the guard if it lives, then everything it left, and waits until nothing of it lives.
    pub(crate) fn destroy(mut self) -> Result<(), String> {
        procfs::kill(&self.pidfd);
        let until = Instant::now() + END;
        let prompt = procfs::wait_ended(&self.pidfd, PROMPT);
        if !prompt {
            let _ = end_all_of(&self.run);
        }
        if !prompt && !procfs::wait_ended(&self.pidfd, until.saturating_duration_since(Instant::now())) {
            return Err(format!("the guard, process {}, or a process in its namespace", self.run.guard.pid));
        }
        self.reap();
        end_all_of(&self.run).map(drop)
    }

    /// Waits for a guard that was asked to leave; kills it when it does not.
    pub(crate) fn leave(self, run_dir: &Path) -> Result<(), String> {
        if !procfs::wait_ended(&self.pidfd, FAREWELL) {
            tracing::warn!("the guard did not leave in time and is killed");
        }
        self.destroy()?;
        Run::remove(run_dir);
        Ok(())
    }

    fn reap(&mut self) {
        let _ = self.child.wait();
        let guard = nix::unistd::Pid::from_raw(self.run.guard.pid);
        let _ = nix::sys::wait::waitpid(guard, Some(nix::sys::wait::WaitPidFlag::WNOHANG));
    }
}

/// 122 random bits from the kernel, as text.
fn random_id() -> Result<String, String> {
    std::fs::read_to_string("/proc/sys/kernel/random/uuid")
        .map(|text| text.trim().replace('-', ""))
        .map_err(|e| format!("cannot get a random id: {e}"))
}
