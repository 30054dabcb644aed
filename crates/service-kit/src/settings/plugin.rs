//! What a plugin is: `[plugins.<name>]`.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use super::value::{Blank, Limits, Raw, Setting, Variables, choice, quoted};

/// How long a plugin must have stayed up to count as ready when nothing better is configured.
pub const DEFAULT_STAYS_UP: Duration = Duration::from_millis(200);
/// The most plugins of a node; the summary in heartbeats has room for as many.
pub const MOST_PLUGINS: usize = 64;

/// One plugin.
#[derive(Clone, Debug)]
pub struct PluginDefinition {
    /// What kind of thing it is.
    pub kind: PluginKind,
    /// Program and arguments.
    pub command: Vec<String>,
    /// Variables it gets beside onduty's own.
    pub env: Variables,
    /// Working directory; unset: `/`.
    pub dir: Option<PathBuf>,
    /// The user it runs as, by name or number; unset: onduty's own.
    pub user: Option<String>,
    /// Plugins that must be ready before this one starts.
    pub after: Vec<String>,
    /// When it counts as ready.
    pub ready: Ready,
    /// How it is stopped.
    pub stop: Stop,
    /// What happens when it ends by itself.
    pub restart: Restart,
    /// The check that it could be started here.
    pub preflight: Preflight,
    /// What exists of it on the standby.
    pub standby: StandbyLevel,
    /// Whether the node counts as failed when it cannot be kept running.
    pub critical: bool,
    /// Shared user data that it uses.
    pub claims: Vec<String>,
    /// The signal that makes it read the epoch file again.
    pub reload_signal: Option<Signal>,
    /// What happens on a new epoch without a stop; see [`PluginDefinition::on_new_epoch`].
    pub on_new_epoch: Option<OnNewEpoch>,
    /// Whether it uses the epoch as a fencing token.
    pub fenced: bool,
    /// Whether it may start when the peer was only silent.
    pub on_unconfirmed: OnUnconfirmed,
}

impl Default for PluginDefinition {
    fn default() -> Self {
        Self {
            kind: PluginKind::Process,
            command: Vec::new(),
            env: Variables::default(),
            dir: None,
            user: None,
            after: Vec::new(),
            ready: Ready {
                tcp: None,
                http: None,
                command: None,
                stays_up: None,
                within: Duration::from_secs(30),
            },
            stop: Stop { signal: Signal::TERM, grace: Duration::from_secs(10) },
            restart: Restart {
                policy: RestartPolicy::OnFailure,
                backoff: Duration::from_secs(1),
                limit: 5,
                window: Duration::from_secs(600),
            },
            preflight: Preflight { command: None, within: Duration::from_secs(10) },
            standby: StandbyLevel::Cold,
            critical: true,
            claims: Vec::new(),
            reload_signal: None,
            on_new_epoch: None,
            fenced: false,
            on_unconfirmed: OnUnconfirmed::Start,
        }
    }
}

impl PluginDefinition {
    /// What happens on a new epoch without a stop, when there is no reload signal.
    #[must_use]
    pub fn on_new_epoch(&self) -> OnNewEpoch {
        self.on_new_epoch.unwrap_or(if self.fenced { OnNewEpoch::Restart } else { OnNewEpoch::Ignore })
    }
}

/// `ready = { … }`: at most one check, and how long it may take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ready {
    /// `HOST:PORT` that must accept a connection.
    pub tcp: Option<String>,
    /// `http://` URL that must be answered with a status of 200 to 399.
    pub http: Option<String>,
    /// Command that must exit with 0.
    pub command: Option<Vec<String>>,
    /// How long the process must have stayed up.
    pub stays_up: Option<Duration>,
    /// How long the check may fail before the start counts as failed.
    pub within: Duration,
}

/// The one check of [`Ready`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReadyCheck {
    /// `HOST:PORT` that must accept a connection.
    Tcp(String),
    /// `http://` URL that must be answered with a status of 200 to 399.
    Http(String),
    /// Command that must exit with 0.
    Command(Vec<String>),
    /// How long the process must have stayed up.
    StaysUp(Duration),
}

impl Ready {
    /// The check in force.
    #[must_use]
    pub fn check(&self) -> ReadyCheck {
        if let Some(address) = &self.tcp {
            return ReadyCheck::Tcp(address.clone());
        }
        if let Some(url) = &self.http {
            return ReadyCheck::Http(url.clone());
        }
        if let Some(command) = &self.command {
            return ReadyCheck::Command(command.clone());
        }
        ReadyCheck::StaysUp(self.stays_up.unwrap_or(DEFAULT_STAYS_UP))
    }
}

/// `stop = { … }`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stop {
    /// The polite signal.
    pub signal: Signal,
    /// How long it may take before the plugin is killed.
    pub grace: Duration,
}

/// `restart = { … }`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Restart {
    /// When.
    pub policy: RestartPolicy,
    /// The first pause; doubles with each failure up to a minute.
    pub backoff: Duration,
    /// How many restarts the window may hold.
    pub limit: u32,
    /// The window.
    pub window: Duration,
}

/// `preflight = { … }`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Preflight {
    /// The command that must exit with 0.
    pub command: Option<Vec<String>>,
    /// How long it may take.
    pub within: Duration,
}

/// What kind of thing a plugin is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PluginKind {
    /// A program.
    Process,
}

/// When an ended plugin is started again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RestartPolicy {
    /// When it ended with an error or by a signal.
    OnFailure,
    /// Whenever it ended.
    Always,
    /// Never.
    Never,
}

/// What exists of a plugin on the standby.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StandbyLevel {
    /// Nothing.
    Cold,
}

/// What happens on a new epoch without a stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnNewEpoch {
    /// The plugin is restarted.
    Restart,
    /// Only the epoch file changes.
    Ignore,
}

/// Whether a plugin may start after a takeover from a peer that was only silent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnUnconfirmed {
    /// It may.
    Start,
}

choice! { PluginKind { "process" => Self::Process } later { "grpc", "systemd", "container", "kubernetes" } }
choice! { RestartPolicy { "on_failure" => Self::OnFailure, "always" => Self::Always, "never" => Self::Never } }
choice! { StandbyLevel { "cold" => Self::Cold } later { "warm" } }
choice! { OnNewEpoch { "restart" => Self::Restart, "ignore" => Self::Ignore } }
choice! { OnUnconfirmed { "start" => Self::Start } later { "hold" } }

impl Blank for OnNewEpoch {
    fn blank() -> Self {
        Self::Ignore
    }
}

/// A signal a plugin can be asked with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Signal(nix::sys::signal::Signal);

impl Signal {
    /// SIGTERM.
    pub const TERM: Self = Self(nix::sys::signal::Signal::SIGTERM);

    /// The signals that make sense here: stopping or rereading. SIGSTOP and the like would only freeze the plugin.
    const KNOWN: [(&'static str, nix::sys::signal::Signal); 9] = {
        use nix::sys::signal::Signal as S;
        [
            ("TERM", S::SIGTERM),
            ("INT", S::SIGINT),
            ("QUIT", S::SIGQUIT),
            ("HUP", S::SIGHUP),
            ("USR1", S::SIGUSR1),
            ("USR2", S::SIGUSR2),
            ("WINCH", S::SIGWINCH),
            ("ABRT", S::SIGABRT),
            ("KILL", S::SIGKILL),
        ]
    };

    /// The number of the signal on this system.
    #[must_use]
    pub const fn number(self) -> i32 {
        self.0 as i32
    }

    /// The signal as `nix` has it.
    #[must_use]
    pub const fn get(self) -> nix::sys::signal::Signal {
        self.0
    }
}

impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = Self::KNOWN.iter().find(|(_, signal)| *signal == self.0).map_or("TERM", |(name, _)| name);
        f.write_str(name)
    }
}

impl Blank for Signal {
    fn blank() -> Self {
        Self::TERM
    }
}

impl Setting for Signal {
    fn kind(&self) -> String {
        "signal".to_owned()
    }

    fn read(&mut self, raw: Raw<'_>, limits: Limits) -> Result<(), String> {
        let mut text = String::new();
        text.read(raw, limits)?;
        let name = text.trim().to_ascii_uppercase();
        let name = name.strip_prefix("SIG").unwrap_or(&name);
        let names = Self::KNOWN.map(|(name, _)| name).join(", ");
        let found = Self::KNOWN.iter().find(|(known, _)| *known == name);
        self.0 = found.map(|(_, signal)| *signal).ok_or_else(|| format!("must be one of {names}"))?;
        Ok(())
    }

    fn show(&self) -> Option<String> {
        Some(quoted(&self.to_string()))
    }
}
