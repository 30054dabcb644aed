//! The rules across fields. Every rule names its keys in backticks; what is allowed but not recommended comes back as
//! a lasting warning, which the node shows for as long as it runs.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::Duration;

use failover_core::timing::{KILL_TIME, MARGIN, SCHEDULING_DELAY, guard_deadline_against};
use failover_core::{Mode, NodeName, OnUnproved, Role};

use super::node::{ChannelBindingMode, NodeSettings, Trust};
use super::problem::{Problem, Source};
use super::value::show_duration;
use super::{read, validate_plugins};
use crate::codes::Code;

/// A key with fewer bytes can be guessed.
const SHORTEST_KEY: usize = 16;
/// What a generated key begins with.
const GENERATED: &str = "odk1_";
/// A unix socket's path has at most 107 bytes (`sun_path` in unix(7)); the operators' is `onduty.sock` in the data directory.
const LONGEST_DATA_DIR: usize = 107 - "/onduty.sock".len();

/// What the rules say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// What makes the settings unusable.
    pub problems: Vec<Problem>,
    /// What is allowed but not recommended, one sentence each.
    pub warnings: Vec<String>,
}

/// Checks every rule across fields. `sources` only serves the messages; it may be empty.
#[must_use]
pub fn validate(settings: &NodeSettings, sources: &BTreeMap<String, Source>) -> Verdict {
    let mut check = Check { settings, sources, verdict: Verdict::default() };
    check.names();
    check.key();
    check.key_files();
    check.trust();
    check.peer();
    check.timing();
    check.takeover();
    check.start();
    check.log();
    validate_plugins::check(&mut check);
    check.verdict
}

/// The findings, with what the messages need.
pub(super) struct Check<'a> {
    pub(super) settings: &'a NodeSettings,
    sources: &'a BTreeMap<String, Source>,
    verdict: Verdict,
}

impl Check<'_> {
    /// The value of `key` breaks a rule.
    pub(super) fn wrong(&mut self, key: &str, rule: impl Into<String>) {
        let value = read::effective(self.settings, self.sources).into_iter().find(|e| e.key == key);
        let source = self.sources.get(key).cloned().unwrap_or(Source::Default);
        let value = value.and_then(|effective| effective.value);
        let (code, key) = (code_of(key), key.to_owned());
        self.verdict.problems.push(Problem { code, key, value, rule: rule.into(), source });
    }

    /// `key` is missing.
    fn missing(&mut self, key: &str, rule: impl Into<String>) {
        let source = self.sources.get("redundancy.mode").cloned().unwrap_or(Source::Default);
        let (code, key) = (Code::MissingKey, key.to_owned());
        self.verdict.problems.push(Problem { code, key, value: None, rule: rule.into(), source });
    }

    fn warn(&mut self, sentence: impl Into<String>) {
        self.verdict.warnings.push(sentence.into());
    }

    fn is_set(&self, key: &str) -> bool {
        self.sources.contains_key(key)
    }

    fn names(&mut self) {
        let name = &self.settings.node.name;
        if NodeName::try_from(name.clone()).is_err() {
            let hint =
                if self.is_set("node.name") { "" } else { " (this is the host name: set `node.name`)" };
            self.wrong("node.name", format!("must be 1 to 64 characters out of A-Z a-z 0-9 . _ -{hint}"));
        }
        let length = self.settings.node.data_dir.as_os_str().len();
        if length > LONGEST_DATA_DIR {
            self.wrong(
                "node.data_dir",
                format!("must have at most {LONGEST_DATA_DIR} bytes: the node's unix socket lies in it, and the system takes no longer path"),
            );
        }
        let pair = &self.settings.redundancy.pair;
        if !pair.is_empty() && NodeName::try_from(pair.clone()).is_err() {
            self.wrong("redundancy.pair", "must be at most 64 characters out of A-Z a-z 0-9 . _ -");
        }
    }

    fn key(&mut self) {
        let redundancy = &self.settings.redundancy;
        if let Some(key) = &redundancy.key {
            let key = key.expose();
            if key.trim().is_empty() {
                self.wrong(
                    "redundancy.key",
                    "an empty key is invalid; `onduty key generate` makes a good one",
                );
            } else if key.trim().len() < SHORTEST_KEY {
                let rule = format!(
                    "a key needs at least {SHORTEST_KEY} bytes; `onduty key generate` makes a good one"
                );
                self.wrong("redundancy.key", rule);
            }
            if redundancy.key_file.is_some() {
                let other = self.sources.get("redundancy.key_file").cloned().unwrap_or(Source::Default);
                let rule = format!("`redundancy.key_file` is set too ({other}): give the key once");
                self.wrong("redundancy.key", rule);
            }
        }
        let no_key = redundancy.key.is_none() && redundancy.key_file.is_none();
        if redundancy.mode != Mode::Deactivated && no_key {
            let rule = format!(
                "is missing: mode `{}` needs the key of the pair (or `redundancy.key`); `onduty key generate` makes one",
                redundancy.mode
            );
            self.missing("redundancy.key_file", rule);
        }
        if redundancy.previous_key_file.is_some() {
            if no_key {
                self.wrong("redundancy.previous_key_file", "is of use only beside `redundancy.key_file`");
            } else if redundancy.previous_key_file == redundancy.key_file {
                self.wrong("redundancy.previous_key_file", "is the same file as `redundancy.key_file`");
            }
        }
    }

    /// What the files hold, as far as this user may read them; whoever uses the key reads it for real.
    fn key_files(&mut self) {
        let redundancy = &self.settings.redundancy;
        if let (Some(_), Some(Source::File { path, .. })) =
            (&redundancy.key, self.sources.get("redundancy.key"))
            && std::fs::metadata(path).is_ok_and(|metadata| metadata.mode() & 0o007 != 0)
        {
            self.warn(format!(
                "`redundancy.key` stands in {}, which every user of this machine can read.",
                path.display()
            ));
        }
        let Some(key) = readable(redundancy.key_file.as_deref()) else { return };
        if key.trim().is_empty() {
            self.wrong("redundancy.key_file", "the file is empty: an empty key is invalid");
        } else if key.trim().len() < SHORTEST_KEY {
            let rule = format!("the key in the file is shorter than {SHORTEST_KEY} bytes");
            self.wrong("redundancy.key_file", rule);
        }
    }

    /// Whether one of the keys was typed by a person: what a false primary gets of it can be tried against a list of
    /// words. The key before is proved too, so it counts.
    fn has_typed_key(&self) -> bool {
        let typed = |key: &str| !key.trim().is_empty() && !key.trim().starts_with(GENERATED);
        let redundancy = &self.settings.redundancy;
        let files = [&redundancy.key_file, &redundancy.previous_key_file];
        redundancy.key.as_ref().is_some_and(|key| typed(key.expose()))
            || files.iter().any(|file| readable(file.as_deref()).is_some_and(|key| typed(&key)))
    }

    fn trust(&mut self) {
        let redundancy = &self.settings.redundancy;
        let unbound = redundancy.channel_binding == ChannelBindingMode::Off;
        let secondary = redundancy.mode == Mode::Secondary;
        let everybody = redundancy.secondary.trust == Some(Trust::All);
        // A primary that has an address dials too, to see whether the other node is one.
        let dials = secondary || redundancy.mode == Mode::Primary && redundancy.secondary.address.is_some();
        if dials && everybody && unbound {
            let rule = "with `redundancy.channel_binding` off anybody could sit between the nodes: use `store` or `system`";
            self.wrong("redundancy.secondary.trust", rule);
        }
        if dials && everybody && self.has_typed_key() {
            let rule = "a typed key could be guessed by a false primary: use `store` or `system`, or a key of `onduty key generate`";
            self.wrong("redundancy.secondary.trust", rule);
        }
        if dials && everybody {
            self.warn(
                "`redundancy.secondary.trust` is `all`: every certificate is accepted, only the key protects the pair.",
            );
        }
        if unbound && redundancy.mode != Mode::Deactivated {
            self.warn(
                "`redundancy.channel_binding` is off: whoever ends TLS between the nodes could act for both of them.",
            );
        }
        if secondary && redundancy.secondary.on_unproved == OnUnproved::TakeOver {
            self.warn(
                "`redundancy.secondary.on_unproved` is `take_over`: a wrong key or certificate on a running primary \
                 makes both nodes active.",
            );
        }
    }

    fn peer(&mut self) {
        let redundancy = &self.settings.redundancy;
        if redundancy.mode == Mode::Secondary {
            if redundancy.secondary.address.is_none() {
                self.missing(
                    "redundancy.secondary.address",
                    "is missing: mode `secondary` needs the primary's address, such as \"https://other-node:5001\"",
                );
            }
            if redundancy.secondary.trust.is_none() {
                self.missing(
                    "redundancy.secondary.trust",
                    "is missing: mode `secondary` needs to know which certificates to accept: `store`, `system` or `all`",
                );
            }
        }
        let pair_keys = ["redundancy.key", "redundancy.key_file", "redundancy.secondary.address"];
        let given = pair_keys.into_iter().find(|key| self.is_set(key));
        // Without sources nobody wrote anything: the settings were made by a program, which has chosen the mode.
        if let (Some(given), false) = (given, self.is_set("redundancy.mode")) {
            let source = self.sources.get(given).cloned().unwrap_or(Source::Default);
            let rule = format!(
                "is missing although `{given}` is set ({source}): write `primary`, `secondary` or `deactivated`"
            );
            self.missing("redundancy.mode", rule);
        }
    }

    fn timing(&mut self) {
        let redundancy = &self.settings.redundancy;
        let (interval, timeout) = (redundancy.secondary.interval, redundancy.primary.timeout);
        self.silence("redundancy.primary.timeout", Role::Primary, timeout, interval);
        if let Some(takeover_after) = redundancy.secondary.takeover_after {
            self.silence("redundancy.secondary.takeover_after", Role::Secondary, takeover_after, interval);
        }
    }

    /// A silence that the `contender` acts upon: long enough for heartbeats to be lost and for the other's guard.
    fn silence(&mut self, key: &str, contender: Role, silence: Duration, interval: Duration) {
        let (shown, every) = (show_duration(silence), show_duration(interval));
        if interval >= silence {
            // The interval is what the model refuses, so it is what the message is about.
            let rule = format!("must be below `{key}`: the interval is {every}, `{key}` is {shown}");
            return self.wrong("redundancy.secondary.interval", rule);
        }
        if silence < interval * 3 {
            let three = show_duration(interval * 3);
            if !self.settings.redundancy.allow_overlap {
                let rule = format!(
                    "must be at least three times `redundancy.secondary.interval` ({every}), that is {three}, or one \
                     lost heartbeat can make both nodes active; `redundancy.allow_overlap = true` allows it"
                );
                return self.wrong(key, rule);
            }
            self.warn(format!(
                "`redundancy.allow_overlap` is on and `{key}` ({shown}) is below three intervals of {every}: one or two \
                 lost heartbeats can make both nodes active."
            ));
        }
        if let Err(no_room) = guard_deadline_against(contender, interval, silence) {
            let needed = show_duration(no_room.needed);
            let rule = format!(
                "leaves the guard too little time to end the plugins of a frozen node before the other takes over: at \
                 `redundancy.secondary.interval` = {every} it must be at least {needed}"
            );
            self.wrong(key, rule);
        }
    }

    fn takeover(&mut self) {
        let Some(window) = self.settings.redundancy.secondary.takeover_confirm.0 else { return };
        let key = "redundancy.secondary.takeover_confirm";
        let least = KILL_TIME + SCHEDULING_DELAY + MARGIN;
        let silence = self.settings.takeover_after();
        if window < least {
            let rule = format!(
                "must be at least {}, the time the guard of the other node needs to end its plugins",
                show_duration(least)
            );
            self.wrong(key, rule);
        } else if window >= silence {
            let rule = format!(
                "must be below the silence after which the secondary takes over anyway ({})",
                show_duration(silence)
            );
            self.wrong(key, rule);
        } else if self.settings.redundancy.mode == Mode::Secondary {
            self.warn(format!(
                "`{key}` is {}: a firewall that rejects connections looks like a crash and makes both nodes active.",
                show_duration(window)
            ));
        }
    }

    fn start(&mut self) {
        let two_dials = self.settings.dial_deadline() * 2;
        if self.settings.startup_wait(Role::Primary) < two_dials {
            let rule = format!("must be at least {}, the time of two dials", show_duration(two_dials));
            self.wrong("redundancy.primary.startup_wait", rule);
        }
        let silence = self.settings.takeover_after();
        if self.settings.startup_wait(Role::Secondary) < silence {
            let rule = format!(
                "must be at least the silence after which the secondary takes over ({})",
                show_duration(silence)
            );
            self.wrong("redundancy.secondary.startup_wait", rule);
        }
    }

    fn log(&mut self) {
        if tracing_subscriber::EnvFilter::try_new(&self.settings.log.level).is_err() {
            let rule = "must be `error`, `warn`, `info`, `debug`, `trace`, or directives such as \"info,duty=debug\"";
            self.wrong("log.level", rule);
        }
    }
}

/// What a broken rule is about, by the key that is named.
fn code_of(key: &str) -> Code {
    match key.rsplit('.').next() {
        Some("key" | "key_file" | "previous_key_file") => Code::KeyUnusable,
        Some("timeout" | "interval" | "takeover_after" | "takeover_confirm" | "startup_wait") => {
            Code::BadTiming
        }
        Some(_) | None => Code::BadValue,
    }
}

/// The content of a key file, as far as this user may read it.
fn readable(path: Option<&Path>) -> Option<zeroize::Zeroizing<String>> {
    let path = path?;
    // A folder, a pipe or a huge file is not read: this check must not hang.
    if !std::fs::metadata(path).is_ok_and(|metadata| metadata.is_file() && metadata.len() <= 4096) {
        return None;
    }
    std::fs::read_to_string(path).ok().map(zeroize::Zeroizing::new)
}
