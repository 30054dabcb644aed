//! The settings of a life: written as a person writes them, and accepted by the product's own loader.

use std::fmt::Write as _;
use std::io::Write as _;
use std::time::Duration;

use failover_core::{FailbackMode, OnUnproved};
use service_kit::settings::{LoadOptions, Loaded, load};

use crate::network::PORTS;
use crate::world::{ALPHA, BETA, NAMES};

/// The pair's key. Generated once; it protects nothing.
pub const KEY: &str = "odk1_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8";
/// Another one, for the node that was given a wrong key.
pub const WRONG_KEY: &str = "odk1_ICEiIyQlJicoKSorLC0uLzAxMjM0NTY3ODk6Ozw9Pj8";

/// What a life goes by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chosen {
    /// `redundancy.secondary.interval`.
    pub interval: Duration,
    /// `redundancy.primary.timeout`.
    pub timeout: Duration,
    /// `redundancy.secondary.takeover_after`.
    pub takeover_after: Option<Duration>,
    /// `redundancy.secondary.takeover_confirm`; `None`: off.
    pub takeover_confirm: Option<Duration>,
    /// `redundancy.secondary.on_unproved`.
    pub on_unproved: OnUnproved,
    /// `redundancy.allow_overlap`.
    pub allow_overlap: bool,
    /// Two addresses in `redundancy.secondary.address`, over two cables.
    pub two_paths: bool,
    /// `redundancy.primary.startup_wait`.
    pub primary_wait: Option<Duration>,
    /// `redundancy.secondary.startup_wait`.
    pub secondary_wait: Duration,
    /// `redundancy.failback.mode`.
    pub failback: FailbackMode,
    /// `redundancy.failback.stable_for`.
    pub stable_for: Duration,
    /// `redundancy.flap.limit`.
    pub flap_limit: u32,
    /// `redundancy.handover_on_stop`.
    pub handover_on_stop: bool,
    /// `ready.within` of the one plugin.
    pub start_within: Duration,
    /// `stop.grace` of the one plugin.
    pub stop_grace: Duration,
}

impl Default for Chosen {
    /// The profile `fast`, with a start-up wait that does not make every test long.
    fn default() -> Self {
        Self {
            interval: Duration::from_millis(100),
            timeout: Duration::from_millis(500),
            takeover_after: None,
            takeover_confirm: None,
            on_unproved: OnUnproved::Hold,
            allow_overlap: false,
            two_paths: false,
            primary_wait: None,
            secondary_wait: Duration::from_millis(1500),
            failback: FailbackMode::Automatic,
            stable_for: Duration::from_millis(500),
            flap_limit: 50,
            handover_on_stop: true,
            start_within: Duration::from_secs(2),
            stop_grace: Duration::from_secs(1),
        }
    }
}

fn ms(span: Duration) -> String {
    format!("\"{}ms\"", span.as_millis())
}

impl Chosen {
    /// The same with manual fail-back.
    #[must_use]
    pub fn manual() -> Self {
        Self { failback: FailbackMode::Manual, ..Self::default() }
    }

    /// The silence after which either node acts, at most.
    #[must_use]
    pub fn silence(&self) -> Duration {
        self.takeover_after.unwrap_or(self.timeout).max(self.timeout)
    }

    /// The longest start-up wait of the two.
    #[must_use]
    pub fn longest_wait(&self) -> Duration {
        self.primary_wait.unwrap_or(self.timeout).max(self.secondary_wait)
    }

    /// The bound on the time from "everything works" to "one is active, one is ready": the longest start-up wait, a
    /// silence, the return of the primary with its hand-over, and dials in between.
    #[must_use]
    pub fn healing(&self) -> Duration {
        let move_over = self.stable_for + self.start_within + self.stop_grace;
        self.longest_wait() + self.silence() * 4 + move_over + Duration::from_secs(4)
    }

    fn text(&self, node: usize) -> String {
        let mode = if node == BETA { "secondary" } else { "primary" };
        let failback = match self.failback {
            FailbackMode::Automatic => "automatic",
            FailbackMode::Manual => "manual",
        };
        let mut text = format!(
            "[node]\nname = \"{}\"\n[redundancy]\nmode = \"{mode}\"\nkey = \"{KEY}\"\nhandover_on_stop = {}\n\
             allow_overlap = {}\n",
            NAMES[node], self.handover_on_stop, self.allow_overlap
        );
        let _ = write!(
            text,
            "[redundancy.primary]\ntimeout = {}\n{}[redundancy.secondary]\naddress = {:?}\n\
             trust = \"all\"\ninterval = {}\nstartup_wait = {}\non_unproved = \"{}\"\n",
            ms(self.timeout),
            self.primary_wait.map_or_else(String::new, |wait| format!("startup_wait = {}\n", ms(wait))),
            &PORTS.map(|port| format!("https://{}:{port}", NAMES[ALPHA]))
                [..if self.two_paths { 2 } else { 1 }],
            ms(self.interval),
            ms(self.secondary_wait),
            if self.on_unproved == OnUnproved::Hold { "hold" } else { "take_over" }
        );
        if let Some(window) = self.takeover_confirm {
            let _ = writeln!(text, "takeover_confirm = {}", ms(window));
        }
        if let Some(takeover_after) = self.takeover_after {
            let _ = writeln!(text, "takeover_after = {}", ms(takeover_after));
        }
        let _ = write!(
            text,
            "[redundancy.failback]\nmode = \"{failback}\"\nstable_for = {}\n[redundancy.flap]\nlimit = {}\n\
             [plugins.bridge]\ncommand = [\"/usr/bin/bridge\"]\nready = {{ within = {} }}\nstop = {{ grace = {} }}\n",
            ms(self.stable_for),
            self.flap_limit,
            ms(self.start_within),
            ms(self.stop_grace)
        );
        text
    }

    /// As the product loads them.
    ///
    /// # Errors
    ///
    /// What is wrong with them, in the product's words.
    pub fn load(&self, node: usize) -> Result<Loaded, String> {
        let mut file = tempfile::Builder::new().suffix(".toml").tempfile().map_err(|e| e.to_string())?;
        file.write_all(self.text(node).as_bytes()).map_err(|e| e.to_string())?;
        let options = LoadOptions { file: Some(file.path().to_owned()), ..LoadOptions::default() };
        load(&options).map_err(|problems| problems.to_string())
    }
}
