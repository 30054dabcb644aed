//! Whether this node could run the plugins, found out without starting any: programs, folders and users are looked
//! at by a thread (a disk or a directory service may stall), then the `preflight` commands are run in the guard's
//! containment. At start and every minute, on the standby too.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use failover_core::Input;
use nix::sys::signal::Signal;
use nix::unistd::{AccessFlags, access};

use crate::core::{Core, Internal, Purpose};
use crate::definition::Plugin;
use crate::duty::Phase;
use crate::guard::{find_group, find_user};
use crate::timers::Timer;
use crate::wire::{Command, JobId};

/// How often.
const EVERY: Duration = Duration::from_secs(60);
/// How soon again, when the last one was cut off by the end of a duty.
const SOON: Duration = Duration::from_secs(1);

/// Where the check is.
#[derive(Default)]
pub(crate) enum Round {
    /// Waiting for the next time.
    #[default]
    Resting,
    /// The thread looks at the files.
    Files,
    /// The commands run.
    Commands {
        left: BTreeMap<JobId, usize>,
        problems: Vec<String>,
        /// They were killed with everything else: their end means nothing.
        void: bool,
    },
}

/// The check and its last result.
#[derive(Default)]
pub(crate) struct Preflight {
    round: Round,
    /// Which of its timers is the newest.
    turn: u64,
    /// `None` until the first round is complete.
    result: Option<Option<String>>,
    /// What was last reported.
    reported: Option<Option<String>>,
}

impl Core {
    /// Sets the timer for the next round; an earlier one means nothing any more.
    fn preflight_after(&mut self, span: Duration) {
        self.preflight.turn += 1;
        self.timers.after(span, Timer::Preflight { turn: self.preflight.turn });
    }

    pub(crate) fn preflight_is_due(&mut self, turn: u64) {
        if turn == self.preflight.turn {
            self.begin_preflight();
        }
    }

    pub(crate) fn begin_preflight(&mut self) {
        self.preflight_after(EVERY);
        if self.phase == Phase::Idle {
            self.ask_guard();
        }
        match self.preflight.round {
            Round::Resting => {
                // Each of them would be followed by another one that cannot be killed either.
                if let Some(name) = self.lingering_preflight() {
                    let why = "its preflight command still lives, although it was killed";
                    return self.preflight_stands(format!("plugin `{name}`: {why}"));
                }
            }
            Round::Files => {
                let why = "looking at the plugins' files takes longer than a minute";
                return self.preflight_stands(why.to_owned());
            }
            Round::Commands { .. } => return,
        }
        self.preflight.round = Round::Files;
        let path = self.base_env.get("PATH").cloned().unwrap_or_default();
        let plugins: Vec<_> = self.lives.iter().map(|life| life.plugin.clone()).collect();
        let internals = self.internals.clone();
        let looked = std::thread::Builder::new().name("preflight".to_owned()).spawn(move || {
            let problems = plugins.iter().filter_map(|plugin| Some((plugin, look(plugin, &path).err()?)));
            let problems = problems.map(|(plugin, why)| format!("plugin `{}`: {why}", plugin.name)).collect();
            // The supervisor may have ended meanwhile.
            let _ = internals.blocking_send(Internal::FilesChecked(problems));
        });
        if let Err(error) = looked {
            self.files_checked(vec![format!("no thread for the preflight: {error}")]);
        }
    }

    /// No round is begun, and that is the result.
    fn preflight_stands(&mut self, why: String) {
        self.preflight.result = Some(Some(why));
        self.report_fitness();
    }

    /// Whose command of an earlier round has not ended yet.
    fn lingering_preflight(&self) -> Option<String> {
        self.jobs.values().find_map(|purpose| match purpose {
            Purpose::Preflight(at) => self.lives.get(*at).map(|life| life.plugin.name.clone()),
            Purpose::Plugin(_) | Purpose::Probe(_) => None,
        })
    }

    pub(crate) fn files_checked(&mut self, problems: Vec<String>) {
        self.preflight.round = Round::Commands { left: BTreeMap::new(), problems, void: false };
        if matches!(self.phase, Phase::Ending { .. }) || self.link.is_none() {
            self.void_preflight();
        } else {
            for at in 0..self.lives.len() {
                self.run_preflight(at);
            }
        }
        self.conclude_preflight();
    }

    fn run_preflight(&mut self, at: usize) {
        let Some(preflight) = self.lives.get(at).and_then(|life| life.plugin.preflight.clone()) else {
            return;
        };
        let Some(spec) = self.spec(at, &preflight.command, None) else { return };
        let job = self.number();
        if self.command(&Command::Start { job, epoch: None, spec: Box::new(spec) }, Vec::new()).is_err() {
            return;
        }
        self.jobs.insert(job, Purpose::Preflight(at));
        self.timers.after(preflight.within, Timer::PreflightLimit(job));
        if let Round::Commands { left, .. } = &mut self.preflight.round {
            left.insert(job, at);
        }
    }

    pub(crate) fn preflight_took_too_long(&mut self, job: JobId) {
        let Round::Commands { left, .. } = &self.preflight.round else { return };
        let Some(at) = left.get(&job).copied() else { return };
        let _ = self.command(&Command::Signal { job, signal: Signal::SIGKILL as i32 }, Vec::new());
        let within = self.lives.get(at).and_then(|life| Some(life.plugin.preflight.as_ref()?.within));
        self.preflight_ended(job, at, Err(format!("did not end within {:?}", within.unwrap_or_default())));
    }

    pub(crate) fn preflight_ended(&mut self, job: JobId, at: usize, outcome: Result<(), String>) {
        let name = self.lives.get(at).map(|life| life.name.clone());
        if let Round::Commands { left, problems, .. } = &mut self.preflight.round
            && left.remove(&job).is_some()
            && let (Some(name), Err(why)) = (name, outcome)
        {
            problems.push(format!("plugin `{name}`: its preflight command {why}"));
        }
        self.conclude_preflight();
    }

    /// Everything is being killed, so the commands of a round under way tell nothing.
    pub(crate) fn void_preflight(&mut self) {
        if let Round::Commands { void, left, .. } = &mut self.preflight.round {
            *void = true;
            left.clear();
        }
        self.jobs.retain(|_, purpose| !matches!(purpose, Purpose::Preflight(_)));
        self.conclude_preflight();
    }

    fn conclude_preflight(&mut self) {
        let Round::Commands { left, problems, void } = &self.preflight.round else { return };
        if !left.is_empty() {
            return;
        }
        if *void {
            self.preflight_after(SOON);
        } else {
            self.preflight.result = Some((!problems.is_empty()).then(|| problems.join("; ")));
        }
        self.preflight.round = Round::Resting;
        self.report_fitness();
    }

    /// Reports fitness if it has changed: the guard's first, then the preflight's.
    pub(crate) fn report_fitness(&mut self) {
        let unfit = match (&self.guard_trouble, &self.preflight.result) {
            (Some(trouble), _) => Some(trouble.clone()),
            (None, Some(result)) => result.clone(),
            (None, None) => return,
        };
        if self.preflight.reported.as_ref() != Some(&unfit) {
            self.preflight.reported = Some(unfit.clone());
            match &unfit {
                Some(why) => tracing::warn!(%why, "this node could not run the plugins"),
                None => tracing::info!("this node could run the plugins"),
            }
            self.report(Input::PreflightChanged { unfit });
        }
    }
}

/// Looks at what can be seen of a plugin without starting it.
fn look(plugin: &Plugin, manager_path: &str) -> Result<(), String> {
    if let Some(user) = &plugin.user {
        find_user(user)?;
    }
    if let Some(group) = &plugin.group {
        find_group(group)?;
    }
    let dir = plugin.dir.as_deref().unwrap_or_else(|| Path::new("/"));
    if !dir.is_dir() {
        return Err(format!("the directory {} does not exist", dir.display()));
    }
    let program = plugin.command.first().map_or("", String::as_str);
    let path = plugin.env.get("PATH").map_or(manager_path, String::as_str);
    find_program(program, dir, OsStr::new(path))
}

fn find_program(program: &str, dir: &Path, path: &OsStr) -> Result<(), String> {
    if program.contains('/') {
        return executable(&dir.join(program)).map_err(|why| format!("the program `{program}` {why}"));
    }
    let places: Vec<PathBuf> = std::env::split_paths(path).collect();
    if places.iter().any(|place| executable(&dir.join(place).join(program)).is_ok()) {
        return Ok(());
    }
    Err(format!("the program `{program}` is in no directory of PATH ({})", path.display()))
}

fn executable(file: &Path) -> Result<(), String> {
    match std::fs::metadata(file) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Err("does not exist".to_owned()),
        Err(error) => Err(format!("cannot be looked at: {error}")),
        Ok(found) if !found.is_file() => Err("is not a file".to_owned()),
        Ok(_) => access(file, AccessFlags::X_OK).map_err(|_| "is not executable".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn what_is_missing_is_named() {
        let check = |change: &dyn Fn(&mut Plugin)| {
            let mut plugin = Plugin::new("p", vec!["sh".to_owned()]);
            change(&mut plugin);
            look(&plugin, "/usr/bin:/bin").map_or_else(|why| why, |()| String::new())
        };
        assert_eq!(check(&|_| ()), "");
        let no_program = check(&|p| p.command = vec!["no-such-thing".to_owned()]);
        assert_eq!(no_program, "the program `no-such-thing` is in no directory of PATH (/usr/bin:/bin)");
        assert_eq!(
            check(&|p| p.command = vec!["/no/such".to_owned()]),
            "the program `/no/such` does not exist"
        );
        assert_eq!(
            check(&|p| p.command = vec!["/etc/passwd".to_owned()]),
            "the program `/etc/passwd` is not executable"
        );
        assert_eq!(check(&|p| p.command = vec!["/etc".to_owned()]), "the program `/etc` is not a file");
        assert_eq!(check(&|p| p.dir = Some("/no/dir".into())), "the directory /no/dir does not exist");
        assert_eq!(check(&|p| p.user = Some("no_such_user".into())), "there is no user `no_such_user`");
        let own_path = check(&|p| drop(p.env.insert("PATH".to_owned(), "/nowhere".to_owned())));
        assert_eq!(own_path, "the program `sh` is in no directory of PATH (/nowhere)");
        assert_eq!(check(&|p| (p.command, p.dir) = (vec!["./sh".to_owned()], Some("/bin".into()))), "");
    }
}
