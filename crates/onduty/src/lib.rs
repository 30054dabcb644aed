//! The `onduty` command and the services' own programs: a table of contents. What each command does is in the module of
//! its name. A library, so that `onduty serve SERVICE` and the program SERVICE are the same function.
//!
//! ```text
//!   main ─► guard              the hidden helper process, before any runtime or thread exists
//!        ├► canary             no runtime either: it must run a moment after it was started
//!        ├► key, config, …     no node needed
//!        ├► status, events, …  ask a node over its unix socket
//!        ├► up                 run a node in one process
//!        ├► serve              run one service of a node
//!        └► demo               run two of them and let one fail
//!
//!   serve ─► guard, or the service whose program was started (`crates/SERVICE/src/main.rs`)
//! ```

mod cli;
mod commands;
mod demo;
mod failure;
mod node;
mod output;
mod serve;
mod settings;
mod tables;
mod up;

use std::process::ExitCode;

use clap::Parser;

pub use crate::cli::ServiceName;
use crate::cli::{CertsCommand, Cli, Command, ConfigCommand, KeyCommand, PluginsCommand};
use crate::commands as run;
use crate::failure::Failure;

/// The hidden subcommand under which the supervisor starts this very binary as its guard.
pub(crate) const GUARD: &str = "guard-of-onduty";

/// All of the program `onduty`.
#[must_use]
pub fn main() -> ExitCode {
    guard().unwrap_or_else(|| told(dispatch(Cli::parse().command)))
}

/// All of a service's own program: what `onduty serve SERVICE` is, with the same flags and exit codes.
#[must_use]
pub fn serve(service: ServiceName) -> ExitCode {
    guard().unwrap_or_else(|| told(serve::run(&cli::serve_args(service))))
}

/// Runs the guard, if this process was started as one.
fn guard() -> Option<ExitCode> {
    let mut arguments = std::env::args_os().skip(1);
    let first = arguments.next()?;
    (first == GUARD).then(|| plugin_supervisor::guard::main(arguments))
}

fn told(outcome: Result<ExitCode, Failure>) -> ExitCode {
    outcome.unwrap_or_else(Failure::report)
}

fn dispatch(command: Command) -> Result<ExitCode, Failure> {
    let done: Result<(), Failure> = match command {
        Command::Up(args) => return up::run(&args),
        Command::Serve(args) => return serve::run(&args),
        Command::Demo(args) => demo::run(&args),
        Command::Canary(args) => run::canary::run(&args),
        Command::Completions { shell } => run::completions::run(shell),
        Command::Key(KeyCommand::Generate { out, print }) => run::key::generate(out.as_deref(), print),
        Command::Key(KeyCommand::Show(args)) => ask(run::key::show(&args)),
        Command::Key(KeyCommand::Rotate(command)) => ask(run::key::rotate::run(&command)),
        Command::Certs(CertsCommand::Verify(args)) => run::certs::verify::run(&args),
        Command::Certs(CertsCommand::Kept(command)) => ask(run::certs::run(&command)),
        Command::Config(ConfigCommand::Check(args)) => run::config::check(&args),
        Command::Config(ConfigCommand::Show(args)) => run::config::show(&args),
        Command::Status(args) => ask(run::status::run(&args)),
        Command::Test(args) => ask(run::test::run(&args)),
        Command::Switchover(args) => ask(run::switchover::run(&args)),
        Command::Stop(args) => ask(run::stop::run(&args)),
        Command::Maintenance(command) => ask(run::maintenance::run(&command)),
        Command::Takeover(args) => ask(run::takeover::run(&args)),
        Command::Mode(args) => ask(run::mode::run(&args)),
        Command::Events(args) => ask(run::events::run(&args)),
        Command::Plugins(PluginsCommand::List(args)) => ask(run::plugins::list(&args)),
        Command::Metrics(args) => ask(run::metrics::run(&args)),
        Command::Health(args) => ask(run::health::run(&args)),
    };
    done.map(|()| ExitCode::SUCCESS)
}

/// Runs a command that talks to a node.
fn ask(command: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::failed(format!("starting: {error}")))?
        .block_on(command)
}
