//! Level A: makes the namespaces and starts the guard as their first process, so that the kernel ends everything in
//! them when the guard ends.
//!
//! As root a PID and a mount namespace are enough. Otherwise a user namespace comes first, in which this user is
//! mapped to itself; the guard keeps the right to mount its own `/proc` just long enough to do it (as an ambient
//! capability), and no plugin ever has it.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use rustix::thread::{CapabilitySet, CapabilitySets};

use super::{Again, STEP_RUN};
use crate::wire::{self, Event};

/// How the namespaces are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// With the rights of root.
    Root,
    /// With a user namespace.
    Rootless,
}

impl Step {
    /// The word on the command line.
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Root => "enter",
            Self::Rootless => "enter-rootless",
        }
    }

    pub(super) fn parse(word: &OsStr) -> Option<Self> {
        [Self::Root, Self::Rootless].into_iter().find(|step| word == OsStr::new(step.word()))
    }
}

/// Makes the namespaces, starts the guard in them, tells the supervisor its process id, and ends.
pub(super) fn main(step: Step, socket: &OwnedFd, again: &Again) -> io::Result<()> {
    let (what, outcome) = match enter(step).map_err(|(what, error)| (what, io::Error::from(error))) {
        Ok(()) => {
            let child = socket.try_clone().and_then(|input| again.command(STEP_RUN, input).spawn());
            ("start the guard", child)
        }
        Err((what, error)) => (what, Err(error)),
    };
    let event = match &outcome {
        Ok(child) => Event::Entered { pid: i32::try_from(child.id()).unwrap_or(0) },
        Err(error) => Event::CannotContain { why: format!("cannot {what}: {error}") },
    };
    wire::send(socket.as_fd(), &wire::encode(&event)?, &[])?;
    outcome.map(drop)
}

type Failed = (&'static str, nix::Error);

fn enter(step: Step) -> Result<(), Failed> {
    let (user, group) = (nix::unistd::geteuid(), nix::unistd::getegid());
    let namespaces = CloneFlags::CLONE_NEWPID | CloneFlags::CLONE_NEWNS;
    match step {
        Step::Root => unshare(namespaces).map_err(|error| ("make a PID namespace", error))?,
        Step::Rootless => {
            unshare(CloneFlags::CLONE_NEWUSER | namespaces)
                .map_err(|error| ("make a user namespace", error))?;
            let write = |file, text: String| {
                let path = format!("/proc/self/{file}");
                fs::write(path, text).map_err(|error| {
                    (
                        "map the user into its namespace",
                        error.raw_os_error().map_or(nix::Error::EIO, nix::Error::from_raw),
                    )
                })
            };
            write("setgroups", "deny".to_owned())?;
            write("uid_map", format!("{user} {user} 1"))?;
            write("gid_map", format!("{group} {group} 1"))?;
            keep_the_right_to_mount().map_err(|error| ("keep the right to mount", error))?;
        }
    }
    Ok(())
}

/// Lets the next program, the guard, have `CAP_SYS_ADMIN` within the user namespace although it is not root there.
fn keep_the_right_to_mount() -> Result<(), nix::Error> {
    let errno = |error: rustix::io::Errno| nix::Error::from_raw(error.raw_os_error());
    let mut sets = rustix::thread::capabilities(None).map_err(errno)?;
    sets.inheritable = CapabilitySet::SYS_ADMIN;
    rustix::thread::set_capabilities(None, sets).map_err(errno)?;
    rustix::thread::configure_capability_in_ambient_set(CapabilitySet::SYS_ADMIN, true).map_err(errno)
}

/// In the guard, as first process of a PID namespace: gives the namespace its own `/proc`, without which plugins
/// would see process ids that are not theirs. Best effort: where `/proc` may not be mounted (some containers), the
/// plugins see the outer one, and nothing else changes.
pub(super) fn settle_in() {
    let slave = mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_SLAVE, None::<&str>);
    if slave.is_ok() {
        let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
        let _ = mount(Some("proc"), "/proc", Some("proc"), flags, None::<&str>);
    }
    if !nix::unistd::geteuid().is_root() {
        let _ = rustix::thread::clear_ambient_capability_set();
        let none = CapabilitySet::empty();
        let _ = rustix::thread::set_capabilities(
            None,
            CapabilitySets { effective: none, permitted: none, inheritable: none },
        );
    }
}
