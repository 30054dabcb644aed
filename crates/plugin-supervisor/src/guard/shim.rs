//! The last step before a plugin: a process of its own that does everything that may take long or fail (looking up
//! the user, a folder on a stalled disk, reading the program) so that the guard never waits for it.
//!
//! Standard input is a socket: the specification comes in, and the reason goes out if the plugin cannot be started.
//! It closes by itself when the plugin's program begins, which is how the guard knows that it did.

use std::ffi::CString;
use std::fs;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use nix::sys::signal::SigSet;
use nix::unistd::{Gid, Group, Uid, User};
use serde::{Deserialize, Serialize};

use crate::wire::Spec;

/// What the guard writes to the socket, ended by shutting its writing half.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Orders {
    pub(super) spec: Spec,
    pub(super) cgroup: Option<PathBuf>,
}

/// Becomes the plugin; returns only when that failed.
pub(super) fn main(socket: &OwnedFd) -> ExitCode {
    let Ok(socket) = socket.try_clone() else { return ExitCode::from(2) };
    let mut socket = UnixStream::from(socket);
    let mut text = Vec::new();
    let read = socket.set_nonblocking(false).and_then(|()| socket.read_to_end(&mut text));
    let Ok(orders) = read.and_then(|_| serde_json::from_slice::<Orders>(&text).map_err(io::Error::other))
    else {
        return ExitCode::from(2);
    };
    let why = become_plugin(&orders);
    let _ = socket.write_all(why.as_bytes());
    ExitCode::from(127)
}

/// Returns why it could not.
fn become_plugin(orders: &Orders) -> String {
    match prepare(orders) {
        Ok(mut command) => {
            let error = command.exec();
            format!("cannot execute `{}`: {error}", orders.spec.command.first().map_or("", String::as_str))
        }
        Err(why) => why,
    }
}

fn prepare(orders: &Orders) -> Result<Command, String> {
    let spec = &orders.spec;
    if let Some(cgroup) = &orders.cgroup {
        fs::write(cgroup.join("cgroup.procs"), "0").map_err(|e| format!("cannot enter the cgroup: {e}"))?;
    }
    // A session of its own: no terminal, and a process group that signals reach as a whole.
    nix::unistd::setsid().map_err(|e| format!("cannot make a session: {e}"))?;
    SigSet::empty().thread_set_mask().map_err(|e| format!("cannot clear the signal mask: {e}"))?;
    let home = become_user(spec)?;
    if let Some(dir) = &spec.dir {
        std::env::set_current_dir(dir)
            .map_err(|e| format!("cannot enter the directory {}: {e}", dir.display()))?;
    } else {
        // Not the manager's, which may be on a disk that is to be unmounted.
        std::env::set_current_dir("/").map_err(|e| format!("cannot enter /: {e}"))?;
    }
    let (program, arguments) = spec.command.split_first().ok_or("the command is empty")?;
    let mut command = Command::new(program);
    command.args(arguments).env_clear().stdin(Stdio::null());
    if let Some(home) = home {
        command.env("HOME", home);
    }
    command.envs(&spec.env);
    Ok(command)
}

/// Drops to the user and group of the plugin; gives the user's home.
fn become_user(spec: &Spec) -> Result<Option<PathBuf>, String> {
    let user = match &spec.user {
        Some(name) => Some(find_user(name)?),
        None => User::from_uid(Uid::effective()).ok().flatten(),
    };
    let home = user.as_ref().map(|user| user.dir.clone()).filter(|dir| dir != Path::new(""));
    let group = spec.group.as_deref().map(find_group).transpose()?;
    let Some((name, user)) = spec.user.as_ref().zip(user) else {
        if let Some(group) = group
            && group != Gid::effective()
        {
            nix::unistd::setgid(group).map_err(|e| format!("cannot become group {group}: {e}"))?;
        }
        return Ok(home);
    };
    let group = group.unwrap_or(user.gid);
    if user.uid == Uid::effective() && group == Gid::effective() {
        return Ok(home);
    }
    let change = || -> nix::Result<()> {
        let known = CString::new(user.name.as_bytes()).map_err(|_| nix::Error::EINVAL)?;
        nix::unistd::setgroups(&nix::unistd::getgrouplist(&known, group)?)?;
        nix::unistd::setgid(group)?;
        nix::unistd::setuid(user.uid)
    };
    change().map_err(|error| format!("cannot become user `{name}`: {error}"))?;
    Ok(home)
}

/// A user by name, or by number.
pub(crate) fn find_user(name: &str) -> Result<User, String> {
    let found = match name.parse() {
        Ok(number) => User::from_uid(Uid::from_raw(number)),
        Err(_) => User::from_name(name),
    };
    found
        .map_err(|e| format!("cannot look up user `{name}`: {e}"))?
        .ok_or_else(|| format!("there is no user `{name}`"))
}

/// A group by name, or by number.
pub(crate) fn find_group(name: &str) -> Result<Gid, String> {
    if let Ok(number) = name.parse() {
        return Ok(Gid::from_raw(number));
    }
    let found = Group::from_name(name).map_err(|e| format!("cannot look up group `{name}`: {e}"))?;
    found.map(|group| group.gid).ok_or_else(|| format!("there is no group `{name}`"))
}
