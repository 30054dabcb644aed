//! Settings as people write them: right, wrong, cut in half. The texts of the errors are the product, so they are
//! asserted word for word.
#![allow(clippy::unwrap_used)]

mod cases;
mod pages;
mod pair;
mod plugins;
mod run_time;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::*;

pub(super) const fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// A folder with a settings file `onduty.toml`.
pub(super) struct Place {
    folder: tempfile::TempDir,
    environment: Vec<(OsString, OsString)>,
    overrides: Vec<Override>,
}

impl Place {
    pub(super) fn with(file: impl AsRef<[u8]>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("onduty.toml"), file).unwrap();
        Self { folder, environment: Vec::new(), overrides: Vec::new() }
    }

    pub(super) fn variable(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.into(), value.into()));
        self
    }

    pub(super) fn flag(mut self, flag: &str, key: &str, value: &str) -> Self {
        self.overrides.push(Override { flag: flag.into(), key: key.into(), value: value.into() });
        self
    }

    pub(super) fn path(&self) -> PathBuf {
        self.folder.path().join("onduty.toml")
    }

    pub(super) fn load(&self) -> Result<Loaded, Problems> {
        load(&LoadOptions {
            file: Some(self.path()),
            environment: self.environment.clone(),
            overrides: self.overrides.clone(),
            ..LoadOptions::default()
        })
    }

    /// The problems as people read them, without the folder.
    pub(super) fn problems(&self) -> Vec<String> {
        let problems = self.load().expect_err("these settings should be refused");
        let folder = format!("{}/", self.folder.path().display());
        problems.0.iter().map(|problem| problem.to_string().replace(&folder, "")).collect()
    }
}

/// The problems of a file.
pub(super) fn problems(file: impl AsRef<[u8]>) -> Vec<String> {
    Place::with(file).problems()
}

/// What a file gives.
pub(super) fn loaded(file: &str) -> Loaded {
    Place::with(file).load().unwrap_or_else(|problems| panic!("{problems}"))
}

/// A pair's node with what is given added to `[redundancy]` and below.
pub(super) fn primary(more: &str) -> String {
    format!("[node]\nname = 'a'\n[redundancy]\nmode = 'primary'\nkey_file = '/k'\n{more}")
}

/// A secondary whose `[redundancy.secondary]` comes last, so that more of it can be added.
pub(super) fn secondary(more: &str) -> String {
    format!(
        "[node]\nname = 'b'\n[redundancy]\nmode = 'secondary'\nkey_file = '/k'\n[redundancy.secondary]\n\
         address = 'https://a'\ntrust = 'store'\n{more}"
    )
}

pub(super) fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().and_then(Path::parent).unwrap()
}
