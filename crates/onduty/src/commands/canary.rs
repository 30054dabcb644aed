//! `onduty canary`: the sample workload of the demo and of the tests.
//!
//! Every 5 ms it appends one line `node epoch boot-time-ns`, in one write, so that a checker that reads the files of
//! both nodes can compute outage and overlap from what really ran, not from what onduty says about it.
//! Ends by any signal. No runtime, no settings: it must be running a moment after it was started.

use std::env;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

use crate::cli::CanaryArgs;
use crate::failure::Failure;

const PERIOD_NS: u64 = 5_000_000;

/// Writes until signalled.
#[allow(
    clippy::disallowed_methods,
    reason = "a program of its own, whose whole work is to write and to sleep"
)]
pub(crate) fn run(args: &CanaryArgs) -> Result<(), Failure> {
    let failed =
        |error: std::io::Error| Failure::failed(format!("canary: writing {}: {error}", args.file.display()));
    let node = env::var("ONDUTY_NODE").unwrap_or_else(|_unset| "-".to_owned());
    let mut epoch = EpochSource::from_environment();
    let mut file = open(&args.file).map_err(failed)?;
    let mut due = boot_ns();
    loop {
        let now = boot_ns();
        file.write_all(format!("{node} {} {now}\n", epoch.current()).as_bytes()).map_err(failed)?;
        due = due.max(now.saturating_sub(PERIOD_NS)).saturating_add(PERIOD_NS);
        thread::sleep(Duration::from_nanos(due.saturating_sub(boot_ns())));
    }
}

fn open(path: &Path) -> std::io::Result<File> {
    OpenOptions::new().append(true).create(true).open(path)
}

fn boot_ns() -> u64 {
    let t = clock_gettime(ClockId::Boottime);
    let seconds = u64::try_from(t.tv_sec).unwrap_or(0);
    seconds.saturating_mul(1_000_000_000).saturating_add(u64::try_from(t.tv_nsec).unwrap_or(0))
}

/// The epoch at the start, and the newer one that the supervisor writes into a file while the plugin runs on.
struct EpochSource {
    at_start: String,
    file: Option<PathBuf>,
    shown: String,
    looks: u32,
}

impl EpochSource {
    /// The file is looked at every so many lines: 100 ms.
    const EVERY: u32 = 20;

    fn from_environment() -> Self {
        let at_start = env::var("ONDUTY_EPOCH").unwrap_or_else(|_unset| "0".to_owned());
        let file = env::var_os("ONDUTY_EPOCH_FILE").map(PathBuf::from);
        Self { shown: at_start.clone(), at_start, file, looks: 0 }
    }

    fn current(&mut self) -> &str {
        self.looks = (self.looks + 1) % Self::EVERY;
        if self.looks == 0
            && let Some(file) = &self.file
        {
            let newer = fs::read_to_string(file).ok().map(|text| text.trim().to_owned());
            self.shown =
                newer.filter(|text| text.parse::<u64>().is_ok()).unwrap_or_else(|| self.at_start.clone());
        }
        &self.shown
    }
}
