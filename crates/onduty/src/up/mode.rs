//! The mode of a running node: what the settings say of it, where it is kept, and the start anew that a new role is.
//!
//! A new role is a new run of the same process: when nothing runs here any more, the mode is kept and the program replaces
//! itself by itself, with the same arguments and environment. Whatever a restart does right, it does right; and what is
//! killed on the way finds either the old mode kept or the new one, never something in between.

use std::os::unix::process::CommandExt as _;
use std::process::Command;
use std::sync::Arc;

use failover_core::Mode;
use management::ModeSettings;
use service_kit::settings::{LoadOptions, Loaded, Source, load, productive};

use crate::failure::Failure;
use crate::serve;
use crate::up::{Prepared, keys, link};

/// The program of this very process, also when its file was replaced meanwhile.
const MYSELF: &str = "/proc/self/exe";
/// The key that all this is about.
const KEY: &str = "redundancy.mode";

/// What operators may do about the mode.
pub(crate) fn settings(prepared: &Prepared) -> ModeSettings {
    let loaded = &prepared.loaded;
    let source = source(loaded);
    let before = loaded.settings.redundancy.mode;
    let (options, service) = (prepared.reread.clone(), prepared.service);
    let names = prepared.own_names();
    let data_dir = prepared.data_dir.path().to_owned();
    ModeSettings {
        locked_by: lock(&source),
        mode: before,
        source: source.to_string(),
        kept_in: Source::RunTime(productive::path(&data_dir)).to_string(),
        bear: Arc::new(move |mode| {
            serve::fits(service, mode).map_err(|why| format!("as {mode}, {why}"))?;
            bear(&options, before, mode, &names)
        }),
        keep: Arc::new(move |mode| {
            productive::keep_mode(&data_dir, mode)
                .map_err(|error| format!("{}: {error}", productive::path(&data_dir).display()))
        }),
    }
}

fn source(loaded: &Loaded) -> Source {
    loaded.sources.get(KEY).cloned().unwrap_or(Source::Default)
}

/// What is above the productive revision cannot be changed at run time.
fn lock(source: &Source) -> Option<String> {
    match source {
        Source::Variable(_) | Source::Flag(_) => {
            Some(format!("`{KEY}` is locked: the {source} gives it; change it there and restart the node"))
        }
        Source::Default | Source::Profile(_) | Source::File { .. } | Source::RunTime(_) => None,
    }
}

/// Whether the settings, as they are in the files now, could bear the mode.
fn bear(options: &LoadOptions, before: Mode, mode: Mode, names: &[String]) -> Result<(), String> {
    let options = LoadOptions { as_if: Some(mode), ..options.clone() };
    let loaded = load(&options).map_err(|problems| format!("as {mode}, {problems}"))?;
    if let Some(lock) = lock(&source(&loaded)) {
        return Err(lock);
    }
    let redundancy = &loaded.settings.redundancy;
    let keys = keys::load(&loaded.settings).map_err(Failure::into_message)?;
    let Some(addresses) = &redundancy.secondary.address else {
        return if before == Mode::Secondary && mode == Mode::Primary {
            Err("`redundancy.secondary.address` is missing: until the other node has become the secondary, this one has to \
                 find it"
                .to_owned())
        } else {
            Ok(())
        };
    };
    if mode == Mode::Secondary
        && let Some(address) = link::leads_home(&loaded.settings, addresses, names)
    {
        return Err(format!(
            "`redundancy.secondary.address` is {address}, which is this node itself: mode secondary needs the other node's"
        ));
    }
    match keys {
        Some((keys, _left_out)) => {
            link::trust_mode(&loaded.settings, &keys).map(drop).map_err(Failure::into_message)
        }
        None => Ok(()),
    }
}

/// Replaces this process by a new run of the same program; returns only when that fails.
pub(crate) fn start_anew() -> Failure {
    let mut arguments = std::env::args_os();
    let mut command = Command::new(MYSELF);
    if let Some(name) = arguments.next() {
        command.arg0(name);
    }
    let error = command.args(arguments).exec();
    Failure::failed(format!(
        "starting anew with another mode: {error}; the mode is kept: start the node again"
    ))
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    #[test]
    fn only_what_is_above_the_productive_revision_locks_the_mode() {
        let path = PathBuf::from("/etc/onduty/onduty.toml");
        for free in [
            Source::Default,
            Source::File { path: path.clone(), line: Some(3) },
            Source::RunTime(path),
            Source::Profile("fast".to_owned()),
        ] {
            assert_eq!(lock(&free), None, "{free}");
        }
        for (locked, name) in [
            (Source::Variable("ONDUTY_REDUNDANCY__MODE".to_owned()), "variable ONDUTY_REDUNDANCY__MODE"),
            (Source::Flag("--set redundancy.mode".to_owned()), "flag --set redundancy.mode"),
        ] {
            assert!(lock(&locked).is_some_and(|why| why.contains(name)), "{locked}");
        }
    }
}
