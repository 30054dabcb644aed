//! What a plugin is, already checked in its single values: the input of the supervisor. The settings (crate
//! `service-kit`) know how it is written down; the binary turns one into the other.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use nix::sys::signal::Signal;
use thiserror::Error;

/// The most plugins of a node; the summary in heartbeats has room for as many.
pub const MOST_PLUGINS: usize = 64;

/// One plugin of kind `process`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plugin {
    /// Its name: `[a-z0-9_]+`.
    pub name: String,
    /// Program and arguments. A program without a slash is looked for in the `PATH` the plugin gets.
    pub command: Vec<String>,
    /// Variables beside those that onduty sets.
    pub env: BTreeMap<String, String>,
    /// Working directory; `/` unless given.
    pub dir: Option<PathBuf>,
    /// User to run as, by name or number.
    pub user: Option<String>,
    /// Group to run as, by name or number; the user's own one unless given.
    pub group: Option<String>,
    /// Plugins that are to be ready before this one is started, and that are stopped after it.
    pub after: Vec<String>,
    /// When it counts as ready.
    pub ready: Readiness,
    /// How long it may take until then.
    pub ready_within: Duration,
    /// The signal that asks it to stop.
    pub stop_signal: Signal,
    /// How long it may take to stop before it is killed.
    pub stop_grace: Duration,
    /// What happens when it ends by itself.
    pub restart: Restart,
    /// A command that tells whether the node could run the plugin.
    pub preflight: Option<Preflight>,
    /// Whether the node gives the duty away when this plugin cannot run.
    pub critical: bool,
    /// The signal that makes it read its epoch file again.
    pub reload_signal: Option<Signal>,
    /// What a new epoch does to it while it runs, unless `reload_signal` is set.
    pub on_new_epoch: OnNewEpoch,
}

impl Plugin {
    /// A plugin with the default of every setting.
    #[must_use]
    pub fn new(name: impl Into<String>, command: Vec<String>) -> Self {
        Self {
            name: name.into(),
            command,
            env: BTreeMap::new(),
            dir: None,
            user: None,
            group: None,
            after: Vec::new(),
            ready: Readiness::default(),
            ready_within: Duration::from_secs(30),
            stop_signal: Signal::SIGTERM,
            stop_grace: Duration::from_secs(10),
            restart: Restart::default(),
            preflight: None,
            critical: true,
            reload_signal: None,
            on_new_epoch: OnNewEpoch::default(),
        }
    }
}

/// When a plugin counts as ready.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Readiness {
    /// When it has run for this long.
    StaysUp(Duration),
    /// When this `host:port` accepts a connection.
    Tcp(String),
    /// When a GET of this `http://host[:port]/path` is answered with a status of 200 to 399.
    Http(String),
    /// When this command, run as the plugin's user with its environment, ends with status 0.
    Command(Vec<String>),
}

impl Default for Readiness {
    fn default() -> Self {
        Self::StaysUp(Duration::from_millis(200))
    }
}

/// What happens when a plugin ends without having been asked to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Restart {
    /// Whether it is started again.
    pub policy: RestartPolicy,
    /// How long to wait before the first restart; doubles with each one within the window, up to a minute.
    pub backoff: Duration,
    /// How many restarts within the window are tried before the plugin counts as failed.
    pub limit: u32,
    /// That window.
    pub window: Duration,
}

impl Default for Restart {
    fn default() -> Self {
        Self {
            policy: RestartPolicy::OnFailure,
            backoff: Duration::from_secs(1),
            limit: 5,
            window: Duration::from_secs(600),
        }
    }
}

/// When a plugin is started again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RestartPolicy {
    /// Never: its end is its failure, unless it is not critical and ended with status 0.
    Never,
    /// When it failed: ended by a signal or with another status than 0, or was not ready in time. For a critical
    /// plugin *every* end is a failure: the node has the duty in order to run it.
    OnFailure,
    /// Whenever it ends.
    Always,
}

/// A command that tells whether the node could run a plugin; run on the standby too.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Preflight {
    /// Program and arguments; status 0 means yes.
    pub command: Vec<String>,
    /// How long it may take.
    pub within: Duration,
}

/// What a new epoch does to a running plugin.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnNewEpoch {
    /// Nothing but the epoch file.
    #[default]
    Ignore,
    /// It is restarted.
    Restart,
}

/// Why plugins cannot be what they are defined to be.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum DefinitionError {
    /// The name breaks the rule.
    #[error("`plugins.{0}`: a plugin's name is 1 to 64 of a-z, 0-9 and _")]
    Name(String),
    /// Two plugins of one name.
    #[error("`plugins.{0}` is there twice")]
    Twice(String),
    /// More plugins than a node can have.
    #[error("`plugins` has {0} entries; a node can run {MOST_PLUGINS}")]
    TooMany(usize),
    /// No program.
    #[error("`plugins.{0}.command` is empty: it needs at least the program")]
    NoCommand(String),
    /// A NUL byte, which no program could ever get.
    #[error("`plugins.{plugin}.{key}` holds a NUL byte, which cannot be handed to a program")]
    Nul {
        /// Of which plugin.
        plugin: String,
        /// Where.
        key: &'static str,
    },
    /// An order after nobody.
    #[error("`plugins.{plugin}.after` names `{unknown}`, which is not a plugin")]
    UnknownAfter {
        /// Of which plugin.
        plugin: String,
        /// The name nobody has.
        unknown: String,
    },
    /// An order that bites its tail.
    #[error("`plugins.*.after` goes in a circle: {}", .0.join(" after "))]
    Cycle(Vec<String>),
    /// An address that cannot be one.
    #[error("`plugins.{plugin}.ready`: {why}")]
    Ready {
        /// Of which plugin.
        plugin: String,
        /// What is wrong.
        why: String,
    },
    /// Another user without the right to become it.
    #[error(
        "`plugins.{plugin}.user` is `{user}`, but onduty does not run as root and cannot start a plugin as another \
         user; leave it out, or run onduty as root"
    )]
    User {
        /// Of which plugin.
        plugin: String,
        /// The user that was asked for.
        user: String,
    },
}

/// Checks what concerns more than one value, and gives each plugin the positions of those it comes after.
pub(crate) fn check(plugins: &[Plugin]) -> Result<Vec<Vec<usize>>, DefinitionError> {
    if plugins.len() > MOST_PLUGINS {
        return Err(DefinitionError::TooMany(plugins.len()));
    }
    let mut names = BTreeSet::new();
    for plugin in plugins {
        check_one(plugin)?;
        if !names.insert(plugin.name.as_str()) {
            return Err(DefinitionError::Twice(plugin.name.clone()));
        }
    }
    let mut after = Vec::new();
    for plugin in plugins {
        let mut positions = BTreeSet::new();
        for name in &plugin.after {
            let found = plugins.iter().position(|other| other.name == *name);
            positions.insert(found.ok_or_else(|| DefinitionError::UnknownAfter {
                plugin: plugin.name.clone(),
                unknown: name.clone(),
            })?);
        }
        after.push(positions.into_iter().collect());
    }
    match find_cycle(&after) {
        Some(cycle) => Err(DefinitionError::Cycle(
            cycle.into_iter().filter_map(|at| plugins.get(at)).map(|plugin| plugin.name.clone()).collect(),
        )),
        None => Ok(after),
    }
}

fn check_one(plugin: &Plugin) -> Result<(), DefinitionError> {
    let name = &plugin.name;
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    if !(1..=64).contains(&name.len()) || !name.chars().all(allowed) {
        return Err(DefinitionError::Name(name.chars().take(80).collect()));
    }
    if plugin.command.first().is_none_or(String::is_empty) {
        return Err(DefinitionError::NoCommand(name.clone()));
    }
    let nul = |key| Err(DefinitionError::Nul { plugin: name.clone(), key });
    if plugin.command.iter().any(|word| word.contains('\0')) {
        return nul("command");
    }
    if plugin.env.iter().any(|(key, value)| key.contains('\0') || key.contains('=') || value.contains('\0')) {
        return nul("env");
    }
    let bad_ready = |why: String| DefinitionError::Ready { plugin: name.clone(), why };
    match &plugin.ready {
        Readiness::StaysUp(_) => {}
        Readiness::Tcp(address) => crate::readiness::check_address(address).map_err(bad_ready)?,
        Readiness::Http(url) => drop(crate::readiness::Target::parse(url).map_err(bad_ready)?),
        Readiness::Command(command) if command.first().is_none_or(String::is_empty) => {
            return Err(bad_ready("the command is empty".to_owned()));
        }
        Readiness::Command(_) => {}
    }
    if let Some(user) = &plugin.user
        && !nix::unistd::geteuid().is_root()
        && crate::guard::find_user(user).is_ok_and(|found| found.uid != nix::unistd::geteuid())
    {
        return Err(DefinitionError::User { plugin: name.clone(), user: user.clone() });
    }
    Ok(())
}

/// One circle, first name repeated at its end, or `None`.
fn find_cycle(after: &[Vec<usize>]) -> Option<Vec<usize>> {
    #[derive(Clone, Copy, PartialEq)]
    enum Mark {
        New,
        OnPath,
        Done,
    }
    fn visit(
        at: usize,
        after: &[Vec<usize>],
        marks: &mut [Mark],
        path: &mut Vec<usize>,
    ) -> Option<Vec<usize>> {
        match marks.get(at).copied()? {
            Mark::Done => return None,
            Mark::OnPath => {
                let begin = path.iter().position(|other| *other == at)?;
                return Some(path.iter().skip(begin).copied().chain([at]).collect());
            }
            Mark::New => {}
        }
        marks[at] = Mark::OnPath;
        path.push(at);
        for next in after.get(at)? {
            if let Some(cycle) = visit(*next, after, marks, path) {
                return Some(cycle);
            }
        }
        path.pop();
        marks[at] = Mark::Done;
        None
    }
    let mut marks = vec![Mark::New; after.len()];
    (0..after.len()).find_map(|at| visit(at, after, &mut marks, &mut Vec::new()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn plugin(name: &str, after: &[&str]) -> Plugin {
        let mut plugin = Plugin::new(name, vec!["true".to_owned()]);
        plugin.after = after.iter().map(|name| (*name).to_owned()).collect();
        plugin
    }

    #[test]
    fn a_circle_is_printed() {
        let error =
            check(&[plugin("a", &["c"]), plugin("b", &["a"]), plugin("c", &["b"]), plugin("d", &["a"])]);
        assert_eq!(
            error.unwrap_err().to_string(),
            "`plugins.*.after` goes in a circle: a after c after b after a"
        );
        let error = check(&[plugin("x", &[]), plugin("own", &["own"])]).unwrap_err();
        assert_eq!(error.to_string(), "`plugins.*.after` goes in a circle: own after own");
    }

    #[test]
    fn an_order_after_nobody_names_both() {
        let error = check(&[plugin("a", &["ghost"])]).unwrap_err();
        assert_eq!(error.to_string(), "`plugins.a.after` names `ghost`, which is not a plugin");
    }

    #[test]
    fn diamonds_are_fine() {
        let after = check(&[
            plugin("a", &[]),
            plugin("b", &["a"]),
            plugin("c", &["a"]),
            plugin("d", &["b", "c", "b"]),
        ]);
        assert_eq!(after.unwrap(), vec![vec![], vec![0], vec![0], vec![1, 2]]);
    }

    #[test]
    fn bad_values_name_their_key() {
        assert!(check(&[plugin("Bad-Name", &[])]).unwrap_err().to_string().contains("plugins.Bad-Name"));
        assert!(matches!(check(&[plugin("a", &[]), plugin("a", &[])]), Err(DefinitionError::Twice(_))));
        let mut empty = plugin("a", &[]);
        empty.command.clear();
        assert!(matches!(check(&[empty]), Err(DefinitionError::NoCommand(_))));
        let mut nul = plugin("a", &[]);
        nul.command.push("x\0y".to_owned());
        assert!(matches!(check(&[nul]), Err(DefinitionError::Nul { key: "command", .. })));
        let mut ready = plugin("a", &[]);
        ready.ready = Readiness::Http("https://x/".to_owned());
        assert!(matches!(check(&[ready]), Err(DefinitionError::Ready { .. })));
        let many: Vec<Plugin> = (0..65).map(|n| plugin(&format!("p{n}"), &[])).collect();
        assert_eq!(check(&many).unwrap_err(), DefinitionError::TooMany(65));
    }
}
