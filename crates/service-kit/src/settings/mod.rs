//! The settings of a node: one file that every service reads, with layers over it, every problem said at once, and
//! for every value where it came from.
//!
//! ```text
//!   layers ──► figment ──► rows of the schema ──► NodeSettings ──► validate ──► Loaded
//!   (file, run time,       (read by type,                          (across       │ core()      → failover-core
//!    variables, flags)      unknown keys)                           fields)      │ forecast()  → `config check`
//!                                                                                └ effective() → `config show`
//! ```
//!
//! The rows of `schema.rs` are the one list of keys: loader, checker and `docs/configuration.md` go by it.

mod address;
mod convert;
mod forecast;
mod layers;
mod node;
mod plugin;
mod problem;
pub mod productive;
mod read;
mod reference;
mod schema;
mod validate;
mod validate_plugins;
mod value;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;

use serde::Serialize;

pub use address::{PeerAddress, PeerAddresses};
pub use forecast::{Fault, Forecast, forecast};
pub use node::{
    ArbitrationSettings, ChannelBindingMode, ClientTrust, Confirm, ContainmentMode, DEFAULT_PORT, Failback,
    Flap, LogFormat, LogSettings, Node, NodeSettings, Primary, Profile, Redundancy, Secondary,
    SupervisorSettings, Trust,
};
pub use plugin::{
    DEFAULT_STAYS_UP, MOST_PLUGINS, OnNewEpoch, OnUnconfirmed, PluginDefinition, PluginKind, Preflight,
    Ready, ReadyCheck, Restart, RestartPolicy, Signal, StandbyLevel, Stop,
};
pub use problem::{Problem, Problems, Source};
pub use reference::reference_markdown;
pub use validate::{Verdict, validate};
pub use value::{Secret, Variables, show_duration};

/// What the loader reads.
#[derive(Clone, Debug, Default)]
pub struct LoadOptions {
    /// The settings file. `None`: none, the other layers have to say everything.
    pub file: Option<PathBuf>,
    /// Every variable of the environment; those that are not ours are ignored.
    pub environment: Vec<(OsString, OsString)>,
    /// What the command line sets.
    pub overrides: Vec<Override>,
    /// Reads as if this mode had been set at run time, to see whether the settings could bear it.
    pub as_if: Option<failover_core::Mode>,
}

impl LoadOptions {
    /// This process's environment and the given file.
    #[must_use]
    pub fn from_process(file: Option<PathBuf>) -> Self {
        Self { file, environment: std::env::vars_os().collect(), overrides: Vec::new(), as_if: None }
    }
}

/// One setting from the command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Override {
    /// The flag as the person wrote it, for messages: `--listen`.
    pub flag: String,
    /// The key.
    pub key: String,
    /// The value as text; lists and tables as JSON.
    pub value: String,
}

/// Settings that can be used.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The settings.
    pub settings: NodeSettings,
    /// Where each value came from, by key.
    pub sources: BTreeMap<String, Source>,
    /// What is allowed but not recommended: lasting warnings, one sentence each.
    pub warnings: Vec<String>,
}

/// One effective value, for `onduty config show`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Effective {
    /// The key.
    pub key: String,
    /// The value as the file would have it; `(secret)` for secrets; `None` when it is not set.
    pub value: Option<String>,
    /// What holds when it is not set, for people.
    pub otherwise: Option<&'static str>,
    /// Where it came from.
    pub source: Source,
}

/// Reads every layer.
///
/// # Errors
///
/// Everything that is wrong, in the order of the keys.
pub fn load(options: &LoadOptions) -> Result<Loaded, Problems> {
    let read::Reading { mut settings, sources, mut problems, failed } = read::read(options);
    if settings.node.name.is_empty() && !sources.contains_key("node.name") {
        settings.node.name = host_name();
    }
    let verdict = validate(&settings, &sources);
    // A rule over a value that could not be read would be about the default, not about what the person wrote.
    let sound = |problem: &Problem| {
        !failed.iter().any(|key| problem.key == *key || problem.rule.contains(&format!("`{key}`")))
    };
    if !failed.contains("") {
        problems.extend(verdict.problems.into_iter().filter(sound));
    }
    if problems.is_empty() {
        Ok(Loaded { settings, sources, warnings: verdict.warnings })
    } else {
        Err(Problems(problems))
    }
}

impl Loaded {
    /// Every value in force with its source, in the order of the reference.
    #[must_use]
    pub fn effective(&self) -> Vec<Effective> {
        read::effective(&self.settings, &self.sources)
    }
}

/// The host name, or nothing where it cannot be read; the check of `node.name` says what to do then.
fn host_name() -> String {
    nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok()).unwrap_or_default()
}
