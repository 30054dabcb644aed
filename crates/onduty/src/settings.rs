//! Loading settings for a command, with problems told as its failure.

use std::path::Path;

use service_kit::codes::Code;
use service_kit::settings::{LoadOptions, Loaded, Override};

use crate::failure::Failure;

/// Reads every layer for a node that is to run. A node that was told nothing at all does not guess: an empty file is more
/// likely one that a full disk has cut off than a wish for a node without redundancy, plugins and a folder of its own.
pub(crate) fn load_for_node(file: Option<&Path>, set: &[String]) -> Result<Loaded, Failure> {
    let loaded = load(file, set)?;
    if !loaded.sources.is_empty() {
        return Ok(loaded);
    }
    let what = match file {
        None => "no settings are given".to_owned(),
        Some(file) => format!("the settings file {} says nothing", file.display()),
    };
    Err(Failure::settings(format!(
        "{what}: name a settings file with --config FILE, or give settings as ONDUTY_ variables (such as \
         ONDUTY_REDUNDANCY__MODE=primary) or with --set KEY=VALUE; `onduty demo` shows a pair that works"
    ))
    .coded(Code::NoSettings))
}

/// Reads every layer: file, run time, environment, `--set`.
pub(crate) fn load(file: Option<&Path>, set: &[String]) -> Result<Loaded, Failure> {
    let options = options(file, set)?;
    service_kit::settings::load(&options).map_err(|problems| Failure::settings(problems.to_string()))
}

/// Never on a command line.
const SECRET: &str = "redundancy.key";

/// What the loader reads.
pub(crate) fn options(file: Option<&Path>, set: &[String]) -> Result<LoadOptions, Failure> {
    let mut options = LoadOptions::from_process(file.map(Path::to_path_buf));
    for pair in set {
        let Some((key, value)) = pair.split_once('=') else {
            // Not repeated: it may be a secret in the wrong form.
            return Err(Failure::usage("--set: write it as KEY=VALUE, like redundancy.mode=secondary"));
        };
        if key.trim() == SECRET {
            return Err(Failure::usage(format!(
                "--set {SECRET}: everybody on this machine can read the command line; use `redundancy.key_file`, or the \
                 variable ONDUTY_REDUNDANCY__KEY"
            )));
        }
        options.overrides.push(Override {
            flag: format!("--set {key}"),
            key: key.trim().to_owned(),
            value: value.to_owned(),
        });
    }
    Ok(options)
}
