//! The processes the guard has started: starting them without ever waiting, and reaping them.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, WaitOptions, WaitStatus};

use super::shim::Orders;
use super::{Again, STEP_EXEC};
use crate::wire::{End, Event, JobId, Spec};

/// The longest text about a failed start that is taken from a shim.
const LONGEST_REASON: u64 = 4096;

/// Dead children of plugins that are reaped in one go: the lease is judged between two of these, however many there are.
const REAPED_AT_ONCE: usize = 1024;

/// A started process; while it is here it has not been reaped, so its id is its own.
struct Job {
    pid: Pid,
    /// Open until the plugin's program begins or could not be started.
    shim: Option<UnixStream>,
    /// Why it could not.
    failed: Option<String>,
}

/// All of them.
pub(super) struct Jobs {
    again: Again,
    jobs: BTreeMap<JobId, Job>,
    /// Every job enters it before its program begins.
    pub(super) cgroup: Option<PathBuf>,
    /// More dead children may wait.
    pub(super) behind: bool,
}

/// What there is to tell after a look at the children.
pub(super) type News = Vec<(Event, Option<OwnedFd>)>;

impl Jobs {
    pub(super) const fn new(again: Again) -> Self {
        Self { again, jobs: BTreeMap::new(), cgroup: None, behind: false }
    }

    /// Starts a shim that becomes the plugin. Waits for nothing but the execution of this very binary.
    pub(super) fn start(&mut self, job: JobId, spec: Spec, output: Vec<OwnedFd>) -> io::Result<()> {
        let orders =
            serde_json::to_vec(&Orders { spec, cgroup: self.cgroup.clone() }).map_err(io::Error::other)?;
        let (mut ours, theirs) = UnixStream::pair()?;
        ours.set_nonblocking(true)?;
        ours.write_all(&orders)?;
        ours.shutdown(Shutdown::Write)?;
        let mut command = self.again.command(STEP_EXEC, theirs.into());
        let mut output = output.into_iter();
        if let (Some(out), Some(err)) = (output.next(), output.next()) {
            command.stdout(out).stderr(err);
        }
        let child = command.spawn()?;
        let pid = Pid::from_child(&child);
        self.jobs.insert(job, Job { pid, shim: Some(ours), failed: None });
        Ok(())
    }

    /// Sends a signal to the group of a job. A stopped plugin is continued, or it could never act on it.
    pub(super) fn signal(&self, job: JobId, number: i32) -> Result<(), String> {
        // Gone already: its end is on its way to the supervisor.
        let Some(job) = self.jobs.get(&job) else { return Ok(()) };
        let signal = Signal::from_named_raw(number).ok_or_else(|| format!("there is no signal {number}"))?;
        job.signal(signal);
        if signal != Signal::STOP {
            job.signal(Signal::CONT);
        }
        Ok(())
    }

    /// Kills the group of every job.
    pub(super) fn kill_groups(&self) {
        for job in self.jobs.values() {
            job.signal(Signal::KILL);
        }
    }

    /// The sockets to wait for.
    pub(super) fn shims(&self) -> impl Iterator<Item = &UnixStream> {
        self.jobs.values().filter_map(|job| job.shim.as_ref())
    }

    /// Looks which programs have begun.
    pub(super) fn begun(&mut self) -> News {
        self.jobs.iter_mut().filter_map(|(id, job)| job.has_begun().then(|| job.started(*id))).collect()
    }

    /// Reaps dead children, whoever started them. The second value tells whether any child is left.
    pub(super) fn reap(&mut self) -> (News, bool) {
        let mut news = News::new();
        let ended: Vec<(JobId, End)> =
            self.jobs.iter().filter_map(|(id, job)| Some((*id, job.has_ended()?))).collect();
        for (id, end) in ended {
            if let Some(pid) = self.jobs.get(&id).map(|job| job.pid) {
                news.extend(self.bury(id, end));
                let _ = rustix::process::waitpid(Some(pid), WaitOptions::NOHANG);
            }
        }
        self.behind = false;
        for _ in 0..REAPED_AT_ONCE {
            match rustix::process::wait(WaitOptions::NOHANG) {
                Ok(Some((pid, status))) => {
                    // One that has ended since it was asked.
                    let found = self.jobs.iter().find(|(_, job)| job.pid == pid).map(|(id, _)| *id);
                    if let (Some(id), Some(end)) = (found, end_of(status)) {
                        news.extend(self.bury(id, end));
                    }
                }
                Err(Errno::INTR) => {}
                Ok(None) => return (news, true),
                Err(_no_child) => return (news, false),
            }
        }
        self.behind = true;
        (news, true)
    }

    /// What is left of its group goes with its leader, and what there is to tell is told.
    fn bury(&mut self, id: JobId, end: End) -> News {
        let Some(mut job) = self.jobs.remove(&id) else { return News::new() };
        let _ = rustix::process::kill_process_group(job.pid, Signal::KILL);
        job.farewell(id, end)
    }
}

/// Signals are numbers here: one of real time has no name, and ends a process as well.
fn end_of(status: WaitStatus) -> Option<End> {
    status.exit_status().map(End::Status).or_else(|| status.terminating_signal().map(End::Signal))
}

impl Job {
    fn signal(&self, signal: Signal) {
        // Before its session exists the shim is alone; afterwards it leads the group.
        if rustix::process::kill_process_group(self.pid, signal).is_err() {
            let _ = rustix::process::kill_process(self.pid, signal);
        }
    }

    /// How its process has ended. It is not reaped by that, so its number still means it and its group.
    fn has_ended(&self) -> Option<End> {
        let look = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        let status = rustix::process::waitid(WaitId::Pid(self.pid), look).ok()??;
        status.exit_status().map(End::Status).or_else(|| status.terminating_signal().map(End::Signal))
    }

    /// Whether the program has begun since the last look. A failure is kept until the shim itself is reaped, so
    /// that nothing of the job lives when it is told.
    fn has_begun(&mut self) -> bool {
        let Some(shim) = self.shim.as_mut() else { return false };
        let mut text = [0; 512];
        match shim.read(&mut text) {
            Ok(0) => {
                self.shim = None;
                true
            }
            Ok(read) => {
                let mut why = text.get(..read).unwrap_or_default().to_vec();
                let _ = shim.take(LONGEST_REASON).read_to_end(&mut why);
                self.failed = Some(String::from_utf8_lossy(&why).into_owned());
                self.shim = None;
                false
            }
            // Not known yet.
            Err(_) => false,
        }
    }

    fn started(&self, id: JobId) -> (Event, Option<OwnedFd>) {
        let pidfd = rustix::process::pidfd_open(self.pid, PidfdFlags::empty()).ok();
        (Event::Started { job: id, pid: self.pid.as_raw_nonzero().get() }, pidfd)
    }

    /// What is to be told of a job whose process has ended (and is not reaped yet).
    fn farewell(&mut self, id: JobId, end: End) -> News {
        let exited = (Event::Exited { job: id, end }, None);
        let begun = self.has_begun();
        match self.failed.take() {
            Some(why) => vec![(Event::StartFailed { job: id, why }, None)],
            None if begun => vec![self.started(id), exited],
            None => vec![exited],
        }
    }
}
