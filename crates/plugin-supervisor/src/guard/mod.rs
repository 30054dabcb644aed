//! The guard: a small process without an async runtime that is the parent of everything the plugins are, and that
//! outlives the manager just long enough to end them.
//!
//! ```text
//!   onduty (manager)
//!     └─ guard enter-…     makes the namespaces, starts the guard in them, goes          (level A only)
//!          └─ guard run    the poll loop: lease, starts, signals, reaping, tombstone
//!               └─ guard exec → becomes the plugin (cgroup, session, user, folder)
//! ```
//!
//! All three are the same binary, executed again through a hidden subcommand that hands its arguments to [`main`]
//! before any runtime exists. What they have to know comes through standard input, which is a socket; nothing else
//! is inherited, so nothing of the manager's memory, environment or descriptors reaches a plugin.

mod enter;
mod jobs;
mod kill;
mod run;
mod shim;
mod signals;
mod tombstone;

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::process::{Command, ExitCode, Stdio};

use crate::leftovers::GUARD_ID;

pub(crate) use enter::Step;
pub(crate) use kill::cgroup_is_empty;
pub(crate) use shim::{find_group, find_user};
pub(crate) use tombstone::MAGIC;

/// Runs one of the guard's processes. To be called with everything that follows the hidden subcommand, before any
/// thread or runtime exists.
#[must_use]
pub fn main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let mut args = args.into_iter();
    let step = args.next().unwrap_or_default();
    let again = Again::new(args.collect());
    let Ok(socket) = take_standard_input() else { return ExitCode::from(2) };
    if step == OsStr::new(STEP_EXEC) {
        return shim::main(&socket);
    }
    close_the_rest(&socket);
    let outcome = match Step::parse(&step) {
        Some(step) => enter::main(step, &socket, &again),
        None if step == OsStr::new(STEP_RUN) => run::main(socket, again),
        None => return ExitCode::from(2),
    };
    if outcome.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// The guard itself.
pub(crate) const STEP_RUN: &str = "run";
/// The last step before a plugin.
pub(crate) const STEP_EXEC: &str = "exec";

/// How to execute this binary again: its path and what stands before the guard's own arguments.
#[derive(Clone, Debug)]
pub(crate) struct Again(Vec<OsString>);

impl Again {
    pub(crate) const fn new(command: Vec<OsString>) -> Self {
        Self(command)
    }

    /// A command for `step`, with a clear environment and nothing inherited.
    pub(crate) fn command(&self, step: &str, input: OwnedFd) -> Command {
        use std::os::unix::process::CommandExt;

        let mut words = self.0.iter();
        let path = words.next().cloned().unwrap_or_default();
        // The running binary itself, also when its file was replaced by an update in the meantime.
        let own = OsStr::new("/proc/self/exe");
        let mut replaced = path.clone();
        replaced.push(" (deleted)");
        let is_own = std::fs::read_link(own).is_ok_and(|target| target == path || target == replaced);
        let mut command = Command::new(if is_own { own } else { path.as_os_str() });
        command.arg0(&path).args(words).arg(step).args(&self.0);
        command.env_clear().stdin(input).stdout(Stdio::null()).stderr(Stdio::null());
        if let Some(id) = std::env::var_os(GUARD_ID) {
            command.env(GUARD_ID, id);
        }
        command
    }
}

/// Moves standard input to a descriptor that no child inherits, and leaves `/dev/null` in its place.
fn take_standard_input() -> io::Result<OwnedFd> {
    let stdin = io::stdin();
    let socket = rustix::io::fcntl_dupfd_cloexec(stdin.as_fd(), 3)?;
    nix::unistd::dup2_stdin(File::open("/dev/null")?)?;
    Ok(socket)
}

/// Closes what the manager was given by whoever started it, so that no plugin inherits it.
fn close_the_rest(keep: &OwnedFd) {
    use std::os::fd::AsRawFd;

    let open: Vec<i32> = match std::fs::read_dir("/proc/self/fd") {
        Ok(entries) => {
            entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
        }
        Err(_) => (3..1024).collect(),
    };
    for number in open {
        if number > 2 && number != keep.as_raw_fd() {
            // Only numbers nobody in this process owns: nothing but `keep` has been opened yet.
            let _ = nix::unistd::close(number);
        }
    }
}
