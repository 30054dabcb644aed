//! The settings of a node, as every service reads them. Field by field they are documented in the tables of
//! `schema.rs`, from which `docs/configuration.md` is generated.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use failover_core::{Arbitration, FailbackMode, Mode, OnUnproved, Role};

use super::address::PeerAddresses;
use super::plugin::PluginDefinition;
use super::value::{Blank, Limits, Raw, Secret, Setting, choice, quoted};

/// The port of a node when the address names none.
pub const DEFAULT_PORT: u16 = 5001;

/// The whole of a node's settings.
#[derive(Clone, Debug, Default)]
pub struct NodeSettings {
    /// The node itself.
    pub node: Node,
    /// Its part in the pair.
    pub redundancy: Redundancy,
    /// Who decides beside the pair.
    pub arbitration: ArbitrationSettings,
    /// How plugins are kept from outliving their manager.
    pub supervisor: SupervisorSettings,
    /// The node's own log.
    pub log: LogSettings,
    /// The plugins, by name.
    pub plugins: BTreeMap<String, PluginDefinition>,
}

/// `[node]`.
#[derive(Clone, Debug)]
pub struct Node {
    /// For people; validated to be a `failover_core::NodeName`.
    pub name: String,
    /// Where heartbeats arrive.
    pub listen: SocketAddr,
    /// Where everything lives that must outlive a restart.
    pub data_dir: PathBuf,
}

impl Default for Node {
    fn default() -> Self {
        Self {
            name: String::new(),
            listen: SocketAddr::from(([0, 0, 0, 0], DEFAULT_PORT)),
            data_dir: PathBuf::from("/var/lib/onduty"),
        }
    }
}

/// `[redundancy]`.
#[derive(Clone, Debug)]
pub struct Redundancy {
    /// The configured mode.
    pub mode: Mode,
    /// Names the pair; both nodes say the same.
    pub pair: String,
    /// The key itself.
    pub key: Option<Secret>,
    /// The file with the key.
    pub key_file: Option<PathBuf>,
    /// The file with the key before, during a rotation.
    pub previous_key_file: Option<PathBuf>,
    /// Whether the proof of the key is bound to the TLS channel.
    pub channel_binding: ChannelBindingMode,
    /// A set of timings.
    pub profile: Profile,
    /// Whether timings are allowed under which a lost heartbeat or two can make both nodes active.
    pub allow_overlap: bool,
    /// Whether a stop hands over first.
    pub handover_on_stop: bool,
    /// What a primary goes by.
    pub primary: Primary,
    /// What a secondary goes by.
    pub secondary: Secondary,
    /// When the primary takes the duty back.
    pub failback: Failback,
    /// How many automatic moves are too many.
    pub flap: Flap,
}

impl Default for Redundancy {
    fn default() -> Self {
        Self {
            mode: Mode::Deactivated,
            pair: String::new(),
            key: None,
            key_file: None,
            previous_key_file: None,
            channel_binding: ChannelBindingMode::Required,
            profile: Profile::Standard,
            allow_overlap: false,
            handover_on_stop: true,
            primary: Primary {
                timeout: Duration::from_secs(3),
                startup_wait: None,
                client_trust: ClientTrust::None,
            },
            secondary: Secondary::default(),
            failback: Failback { mode: FailbackMode::Automatic, stable_for: Duration::from_secs(3) },
            flap: Flap { limit: 5, window: Duration::from_secs(600) },
        }
    }
}

/// `[redundancy.primary]`.
#[derive(Clone, Debug)]
pub struct Primary {
    /// Silence after which the secondary counts as disconnected, and as gone when it was active.
    pub timeout: Duration,
    /// How long `Starting` waits; see [`NodeSettings::startup_wait`].
    pub startup_wait: Option<Duration>,
    /// Which certificate the secondary has to show, besides proving the key.
    pub client_trust: ClientTrust,
}

/// `[redundancy.secondary]`.
#[derive(Clone, Debug)]
pub struct Secondary {
    /// The primary, one address per network path.
    pub address: Option<PeerAddresses>,
    /// Which certificates of the primary are accepted.
    pub trust: Option<Trust>,
    /// How often a heartbeat is sent.
    pub interval: Duration,
    /// Silence after which the secondary takes over; unset: the primary's timeout, as the primary tells it.
    pub takeover_after: Option<Duration>,
    /// Whether refused connections count as proof, and for how long they have to be refused.
    pub takeover_confirm: Confirm,
    /// How long `Starting` waits; see [`NodeSettings::startup_wait`].
    pub startup_wait: Option<Duration>,
    /// What to do while something answers that cannot prove the key.
    pub on_unproved: OnUnproved,
}

impl Default for Secondary {
    fn default() -> Self {
        Self {
            address: None,
            trust: None,
            interval: Duration::from_secs(1),
            takeover_after: None,
            takeover_confirm: Confirm(None),
            startup_wait: None,
            on_unproved: OnUnproved::Hold,
        }
    }
}

/// `[redundancy.failback]`.
#[derive(Clone, Debug)]
pub struct Failback {
    /// By itself or by hand.
    pub mode: FailbackMode,
    /// How long the primary must have been fit and connected.
    pub stable_for: Duration,
}

/// `[redundancy.flap]`.
#[derive(Clone, Debug)]
pub struct Flap {
    /// How many automatic moves the window may hold.
    pub limit: u32,
    /// The window.
    pub window: Duration,
}

/// `[arbitration]`.
#[derive(Clone, Debug)]
pub struct ArbitrationSettings {
    /// Who decides.
    pub mode: Arbitration,
}

impl Default for ArbitrationSettings {
    fn default() -> Self {
        Self { mode: Arbitration::None }
    }
}

/// `[supervisor]`.
#[derive(Clone, Debug, Default)]
pub struct SupervisorSettings {
    /// The containment level.
    pub containment: ContainmentMode,
}

/// `[log]`.
#[derive(Clone, Debug)]
pub struct LogSettings {
    /// What is logged: a level, or directives such as `info,duty=debug`.
    pub level: String,
    /// How it is written.
    pub format: LogFormat,
}

impl Default for LogSettings {
    fn default() -> Self {
        Self { level: "info".to_owned(), format: LogFormat::Auto }
    }
}

/// Timings that belong together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Profile {
    /// 5 s / 15 s.
    Relaxed,
    /// 1 s / 3 s.
    Standard,
    /// 100 ms / 500 ms.
    Fast,
}

impl Profile {
    /// Interval, timeout and `stable_for`.
    #[must_use]
    pub const fn timings(self) -> (Duration, Duration, Duration) {
        match self {
            Self::Relaxed => (Duration::from_secs(5), Duration::from_secs(15), Duration::from_secs(3)),
            Self::Standard => (Duration::from_secs(1), Duration::from_secs(3), Duration::from_secs(3)),
            Self::Fast => {
                (Duration::from_millis(100), Duration::from_millis(500), Duration::from_millis(500))
            }
        }
    }
}

/// Whether the proof of the key is bound to the TLS channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChannelBindingMode {
    /// It is: nobody can sit between the nodes.
    Required,
    /// It is not: a proxy that ends TLS may sit between the nodes.
    Off,
}

/// Which certificates of the primary are accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trust {
    /// Every certificate; the key proof still protects the pair.
    All,
    /// Certificates trusted in the node's own store, and what the authorities among them have signed.
    Store,
    /// What an authority that the operating system trusts has signed.
    System,
}

/// Which certificate of the secondary is accepted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ClientTrust {
    /// It is not asked for one: the proof of the key lets it in.
    #[default]
    None,
    /// One that is trusted in the node's own store, or was signed by an authority in it.
    Store,
    /// One that an authority has signed which the operating system trusts.
    System,
}

/// How plugins are contained; the levels are described in the documentation of the supervisor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ContainmentMode {
    /// The strongest that works here.
    #[default]
    Auto,
    /// A PID namespace (level A).
    Namespace,
    /// A delegated cgroup (level B).
    Cgroup,
    /// Process groups (level C).
    Group,
}

/// How the log is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people on a terminal, JSON otherwise.
    Auto,
    /// For people.
    Human,
    /// One JSON object a line.
    Json,
}

choice! { Mode { "primary" => Self::Primary, "secondary" => Self::Secondary, "deactivated" => Self::Deactivated } }
choice! { Profile { "relaxed" => Self::Relaxed, "standard" => Self::Standard, "fast" => Self::Fast } }
choice! { ChannelBindingMode { "required" => Self::Required, "off" => Self::Off } }
choice! { Trust { "all" => Self::All, "store" => Self::Store, "system" => Self::System } }
choice! { ClientTrust { "none" => Self::None, "store" => Self::Store, "system" => Self::System } }
choice! { OnUnproved { "hold" => Self::Hold, "take_over" => Self::TakeOver } }
choice! { FailbackMode { "automatic" => Self::Automatic, "manual" => Self::Manual } }
choice! { Arbitration { "none" => Self::None } later { "etcd", "kubernetes", "fence" } }
choice! { ContainmentMode {
    "auto" => Self::Auto, "namespace" => Self::Namespace, "cgroup" => Self::Cgroup, "group" => Self::Group,
} }
choice! { LogFormat { "auto" => Self::Auto, "human" => Self::Human, "json" => Self::Json } }

impl Blank for Trust {
    fn blank() -> Self {
        Self::Store
    }
}

/// `"off"`, or the window over which every connection must be refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Confirm(pub Option<Duration>);

impl Setting for Confirm {
    fn kind(&self) -> String {
        "\"off\" or duration".to_owned()
    }

    fn read(&mut self, raw: Raw<'_>, limits: Limits) -> Result<(), String> {
        if raw.value.as_str() == Some("off") {
            self.0 = None;
            return Ok(());
        }
        let mut window = Duration::ZERO;
        window.read(raw, limits).map_err(|rule| format!("{rule}, or \"off\""))?;
        self.0 = Some(window);
        Ok(())
    }

    fn show(&self) -> Option<String> {
        self.0.map_or_else(|| Some(quoted("off")), |window| window.show())
    }
}

impl NodeSettings {
    /// The silence after which a secondary takes over, as far as this node's own settings tell.
    #[must_use]
    pub fn takeover_after(&self) -> Duration {
        self.redundancy.secondary.takeover_after.unwrap_or(self.redundancy.primary.timeout)
    }

    /// The longest silence after which either node acts, as far as this node's own settings tell.
    #[must_use]
    pub fn longest_silence(&self) -> Duration {
        self.takeover_after().max(self.redundancy.primary.timeout)
    }

    /// The total deadline of one dial: name, TCP, TLS and proof together.
    #[must_use]
    pub fn dial_deadline(&self) -> Duration {
        (self.takeover_after() / 3).clamp(Duration::from_millis(200), Duration::from_secs(5))
    }

    /// How long `Starting` waits for the peer in this role.
    #[must_use]
    pub fn startup_wait(&self, role: Role) -> Duration {
        let two_dials = self.dial_deadline() * 2;
        match role {
            Role::Primary => {
                let usual = self.redundancy.primary.timeout.max(two_dials);
                self.redundancy.primary.startup_wait.unwrap_or(usual)
            }
            Role::Secondary => {
                let usual = Duration::from_secs(30).max(self.takeover_after());
                self.redundancy.secondary.startup_wait.unwrap_or(usual)
            }
        }
    }
}
