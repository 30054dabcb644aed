//! The command line, as clap reads it. What each command does is in the module of its name.

mod certs;
mod key;
mod mode;

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, FromArgMatches as _, Parser, Subcommand, ValueEnum};

pub(crate) use certs::{
    CertsArgs, CertsCommand, CertsStore, KeptCommand, PurposeName, TrustName, VerifyArgs,
};
pub(crate) use key::{KeyCommand, RotateCommand};
pub(crate) use mode::{ModeArgs, ModeName};

/// Shown at the end of `onduty --help`; a test holds the codes to those of `service_kit::exit`.
const AFTER_HELP: &str = "\
Exit codes:
  0  it did what was asked
  1  it did not; the message says why
  2  the command line cannot be understood
  3  the settings, the key or a certificate cannot be used
  4  the node does not answer
  5  the node answered, and refused
  6  the answer is no: redundancy is not ready, a check found something
  7  it took longer than allowed; it may still go on in the node

A variable is a setting when its name has `__` after ONDUTY_, as in ONDUTY_REDUNDANCY__MODE=secondary.
NO_COLOR switches colours off.";

/// Keeps a workload running on exactly one of two machines.
#[derive(Debug, Parser)]
#[command(name = "onduty", version, after_help = AFTER_HELP, propagate_version = true, max_term_width = 100)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run this node: heartbeats, plugins and the operators' socket in one process
    Up(UpArgs),
    /// Show a pair of nodes failing over, on this machine, in half a minute
    Demo(DemoArgs),
    /// Show how redundant the pair is, and why
    Status(StatusArgs),
    /// Try the link to the other node step by step, without joining the pair
    Test(DataArgs),
    /// Move the duty to the other node
    Switchover(SwitchoverArgs),
    /// Stop the node; an active node hands the duty over first
    Stop(StopArgs),
    /// Hold back takeover and hand-back on both nodes for a while
    #[command(subcommand)]
    Maintenance(MaintenanceCommand),
    /// Take the duty by hand, while maintenance or an unproved peer holds it back
    Takeover(DataArgs),
    /// Show the mode of this node and where it comes from, or change it while the node runs
    Mode(ModeArgs),
    /// Show the journal
    Events(EventsArgs),
    /// Look at plugins
    #[command(subcommand)]
    Plugins(PluginsCommand),
    /// Make the key of a pair, look after it, exchange it
    #[command(subcommand)]
    Key(KeyCommand),
    /// Look after certificates: what this node shows, whom it trusts, what strangers have shown
    #[command(subcommand)]
    Certs(CertsCommand),
    /// Look at settings
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Print figures of the node as Prometheus reads them, what runs out among them
    Metrics(NodeArgs),
    /// Tell by the exit code whether the node is well (for containers)
    Health(HealthArgs),
    /// Run one service of a node in a process of its own; together they are what `up` is, and start in any order
    Serve(ServeArgs),
    /// The sample workload: append `node epoch boot-time-ns` to a file every 5 ms until signalled
    Canary(CanaryArgs),
    /// Print the completions for a shell
    Completions {
        /// Which shell
        shell: clap_complete::Shell,
    },
}

/// How a command finds its node.
#[derive(Debug, Clone, Args)]
pub(crate) struct NodeArgs {
    /// The node's socket [default: `onduty.sock` in the data_dir of --config, else /run/onduty/onduty.sock]
    #[arg(long, value_name = "PATH", global = true)]
    pub(crate) socket: Option<PathBuf>,
    /// The node's settings file; its data_dir leads to the socket
    #[arg(long, value_name = "FILE", global = true)]
    pub(crate) config: Option<PathBuf>,
}

/// A command that asks a node and prints data.
#[derive(Debug, Clone, Args)]
pub(crate) struct DataArgs {
    #[command(flatten)]
    pub(crate) node: NodeArgs,
    /// Print JSON, for machines
    #[arg(long)]
    pub(crate) json: bool,
}

/// `up`.
#[derive(Debug, Args)]
pub(crate) struct UpArgs {
    /// The settings file; without it, ONDUTY_ variables and --set have to say something
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Change one setting, as KEY=VALUE; wins over the file and the environment
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub(crate) set: Vec<String>,
}

/// `demo`.
#[derive(Debug, Args)]
pub(crate) struct DemoArgs {
    /// Leave the two nodes running at the end, and say how to look at them
    #[arg(long)]
    pub(crate) keep: bool,
    /// Use the profile `fast` (100 ms / 500 ms) instead of `standard` (1 s / 3 s)
    #[arg(long)]
    pub(crate) fast: bool,
}

/// `status`.
#[derive(Debug, Args)]
pub(crate) struct StatusArgs {
    #[command(flatten)]
    pub(crate) data: DataArgs,
    /// Show it again whenever it changes
    #[arg(long, short)]
    pub(crate) watch: bool,
}

/// `switchover`.
#[derive(Debug, Args)]
pub(crate) struct SwitchoverArgs {
    #[command(flatten)]
    pub(crate) data: DataArgs,
    /// Only say whether it would work now
    #[arg(long)]
    pub(crate) check: bool,
    /// Wait at most this long for the end
    #[arg(long, value_name = "TIME", default_value = "2m", value_parser = span)]
    pub(crate) within: Duration,
}

/// `stop`.
#[derive(Debug, Args)]
pub(crate) struct StopArgs {
    #[command(flatten)]
    pub(crate) data: DataArgs,
    /// Do not hand the duty over: a plain restart
    #[arg(long)]
    pub(crate) no_handover: bool,
}

/// `maintenance`.
#[derive(Debug, Subcommand)]
pub(crate) enum MaintenanceCommand {
    /// Begin it
    On {
        #[command(flatten)]
        data: DataArgs,
        /// Why, in your words
        #[arg(long, value_name = "TEXT")]
        reason: String,
        /// How long, at most 31 days
        #[arg(long = "for", value_name = "TIME", value_parser = span)]
        duration: Duration,
    },
    /// End it
    Off {
        #[command(flatten)]
        data: DataArgs,
    },
}

/// `events`.
#[derive(Debug, Args)]
pub(crate) struct EventsArgs {
    #[command(flatten)]
    pub(crate) data: DataArgs,
    /// Go on with each new event
    #[arg(long, short)]
    pub(crate) follow: bool,
    /// At most this many old ones
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(0..=10_000))]
    pub(crate) limit: u32,
    /// Only events with a larger number
    #[arg(long, value_name = "NUMBER", default_value_t = 0)]
    pub(crate) after: u64,
}

/// `plugins`.
#[derive(Debug, Subcommand)]
pub(crate) enum PluginsCommand {
    /// List them with their state
    List(DataArgs),
}

/// `config`.
#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Check it, and say what it means for detection, takeover and stop
    Check(ConfigArgs),
    /// Print the settings in force, each with where it comes from
    Show(ConfigArgs),
}

/// `config check` and `config show`.
#[derive(Debug, Args)]
pub(crate) struct ConfigArgs {
    /// The settings file
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Change one setting, as KEY=VALUE
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub(crate) set: Vec<String>,
    /// Print JSON, for machines
    #[arg(long)]
    pub(crate) json: bool,
}

/// `health`.
#[derive(Debug, Args)]
pub(crate) struct HealthArgs {
    #[command(flatten)]
    pub(crate) node: NodeArgs,
    /// Well only if this node is active
    #[arg(long)]
    pub(crate) active: bool,
}

/// `serve`.
#[derive(Debug, Args)]
pub(crate) struct ServeArgs {
    /// Which service; a node needs certificate-trust, plugin-supervisor, a heartbeat, and management
    pub(crate) service: ServiceName,
    #[command(flatten)]
    pub(crate) settings: UpArgs,
}

/// The services of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ServiceName {
    /// The driver and the link, whatever the mode is; starts anew when that changes
    Heartbeat,
    /// The driver and the link, in the modes primary and deactivated
    HeartbeatServer,
    /// The driver and the link, in mode secondary
    HeartbeatClient,
    /// The guard and the plugins
    PluginSupervisor,
    /// The operators' socket
    Management,
    /// The certificates: the heartbeat asks it whom to trust, and what to show
    CertificateTrust,
}

impl ServiceName {
    /// As it is written on the command line, and its own program's name.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Heartbeat => "heartbeat",
            Self::HeartbeatServer => "heartbeat-server",
            Self::HeartbeatClient => "heartbeat-client",
            Self::PluginSupervisor => "plugin-supervisor",
            Self::Management => "management",
            Self::CertificateTrust => "certificate-trust",
        }
    }
}

/// The command line of a service's own program: that of `onduty serve` without the service's name.
fn service_command(service: ServiceName) -> clap::Command {
    let value = service.to_possible_value();
    let about =
        value.as_ref().and_then(|value| value.get_help()).map(ToString::to_string).unwrap_or_default();
    let name = service.name();
    // What the arguments say about themselves comes first, so that it does not replace what is said here.
    UpArgs::augment_args(clap::Command::new(name))
        .about(format!("{about}; the same as `onduty serve {name}`"))
        .version(env!("CARGO_PKG_VERSION"))
        .after_help(AFTER_HELP)
        .max_term_width(100)
}

/// Reads the command line of a service's own program. Ends the process when it cannot be understood, as clap does.
pub(crate) fn serve_args(service: ServiceName) -> ServeArgs {
    let mut command = service_command(service);
    let matches = command.get_matches_mut();
    let settings =
        UpArgs::from_arg_matches(&matches).unwrap_or_else(|error| error.format(&mut command).exit());
    ServeArgs { service, settings }
}

/// `canary`.
#[derive(Debug, Args)]
pub(crate) struct CanaryArgs {
    /// The file to append to
    #[arg(long, value_name = "FILE")]
    pub(crate) file: PathBuf,
}

/// Nobody waits for longer, and more cannot be counted everywhere.
const LONGEST_SPAN: Duration = Duration::from_secs(366 * 86_400);

/// A span of time: `90s`, `2h`, `1h 30m`, or a number of seconds.
fn span(text: &str) -> Result<Duration, String> {
    let span = match text.parse::<f64>() {
        Ok(seconds) => Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string()),
        Err(_not_a_number) => {
            humantime::parse_duration(text).map_err(|error| format!("{error}; like 90s, 15m or 2h"))
        }
    }?;
    if span.is_zero() || span > LONGEST_SPAN {
        return Err("must be more than zero, and at most 366 days".to_owned());
    }
    Ok(span)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_definitions_are_sound() {
        Cli::command().debug_assert();
        for service in ServiceName::value_variants() {
            service_command(*service).debug_assert();
            let value = service.to_possible_value();
            assert_eq!(value.map(|value| value.get_name().to_owned()).as_deref(), Some(service.name()));
        }
    }

    #[test]
    fn spans_are_read_as_people_write_them_and_nonsense_is_refused() {
        assert_eq!(span("2h").unwrap(), Duration::from_secs(7200));
        assert_eq!(span("1h 30m").unwrap(), Duration::from_secs(5400));
        assert_eq!(span("3").unwrap(), Duration::from_secs(3));
        assert_eq!(span("0.25").unwrap(), Duration::from_millis(250));
        for wrong in ["", "0", "0s", "-1", "soon", "NaN", "inf", "3 parsecs", "1e12", "1e19", "367d"] {
            assert!(span(wrong).is_err(), "{wrong}");
        }
    }
}
