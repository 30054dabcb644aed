//! The supervisor as the rest of onduty sees it: options in, service and handle out.

use std::ffi::OsString;
use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use failover_core::Containment;
use service_kit::Clock;
use service_kit::ports::SupervisorPort;
use thiserror::Error;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::containment::ContainmentChoice;
use crate::core::{Context, Core, Lent};
use crate::definition::{DefinitionError, Plugin, check};
use crate::guard_process::{GuardProcess, GuardStarter};
use crate::life::{Life, PluginStatus};
use crate::output::{LogLimits, Output};

/// What a supervisor needs.
pub struct Options {
    /// The plugins.
    pub plugins: Vec<Plugin>,
    /// Which level of containment is wanted.
    pub containment: ContainmentChoice,
    /// Where the plugins' output goes: `plugins/<name>/output.log` below it.
    pub data_dir: PathBuf,
    /// Where run file and epoch file are; on the machine itself, not shared.
    pub run_dir: PathBuf,
    /// `ONDUTY_NODE`.
    pub node: String,
    /// `ONDUTY_ROLE`: the configured role or mode.
    pub role: String,
    /// `ONDUTY_PEER`, if the peer's name is known.
    pub peer: Option<String>,
    /// The fingerprint of the plugin definitions, for the summary.
    pub project: String,
    /// How long the tombstone answers at most.
    pub tombstone_for: Duration,
    /// How much of the plugins' output is kept.
    pub log: LogLimits,
    /// The clock.
    pub clock: Clock,
    /// The channels to the driver.
    pub port: SupervisorPort,
    /// The own binary and its hidden subcommand, which hands what follows to [`crate::guard::main`].
    pub guard_command: Vec<OsString>,
}

/// Why there is no supervisor.
#[derive(Debug, Error)]
pub enum BuildError {
    /// A plugin is not what it must be.
    #[error("the plugins cannot run as they are defined")]
    Definition(#[from] DefinitionError),
    /// No guard could be started.
    #[error("the guard cannot be started: {0}")]
    Guard(String),
    /// A folder or thread could not be made.
    #[error("cannot prepare {what}")]
    Prepare {
        /// What.
        what: String,
        /// The cause.
        source: io::Error,
    },
}

/// The service; [`Supervisor::run`] it.
pub struct Supervisor {
    context: Context,
    lives: Vec<Life>,
    starter: GuardStarter,
    guard: GuardProcess,
    output: Output,
    port: SupervisorPort,
    statuses: watch::Sender<Arc<Vec<PluginStatus>>>,
    containment: watch::Sender<Containment>,
    listener: watch::Receiver<Option<Arc<OwnedFd>>>,
    line: watch::Receiver<Option<Arc<OwnedFd>>>,
}

/// What others may ask of it.
#[derive(Clone)]
pub struct SupervisorHandle {
    statuses: watch::Receiver<Arc<Vec<PluginStatus>>>,
    containment: watch::Receiver<Containment>,
    listener: Arc<watch::Sender<Option<Arc<OwnedFd>>>>,
    line: Arc<watch::Sender<Option<Arc<OwnedFd>>>>,
}

impl SupervisorHandle {
    /// What the plugins do, in the order of their definition; always current.
    #[must_use]
    pub fn statuses(&self) -> watch::Receiver<Arc<Vec<PluginStatus>>> {
        self.statuses.clone()
    }

    /// Lends the guard a duplicate of the listening socket, on which it shows the tombstone after the manager's
    /// death. Without one there is no tombstone, and the peer waits out the silence.
    pub fn lend_listener(&self, listener: OwnedFd) {
        self.listener.send_replace(Some(Arc::new(listener)));
    }

    /// Lets go of the listening socket, in the guard too: the process that lent it has ended, and the port is to be free.
    pub fn give_listener_back(&self) {
        self.listener.send_replace(None);
    }

    /// Gives the guard its end of a line to the driver's process (`service_kit::guard_line`), which is another one than this.
    pub fn lend_line(&self, line: OwnedFd) {
        self.line.send_replace(Some(Arc::new(line)));
    }

    /// The level of containment in force.
    #[must_use]
    pub fn containment(&self) -> Containment {
        *self.containment.borrow()
    }
}

/// Checks the definitions and starts the guard. Waits for it (milliseconds, at most a few seconds), so it is to be
/// called before the node has anything to do, and after [`crate::clear_leftovers`].
///
/// # Errors
///
/// When a definition is wrong, the guard cannot be started at the wanted level, or a folder cannot be made.
pub fn build(options: Options) -> Result<(Supervisor, SupervisorHandle), BuildError> {
    let Options { plugins, containment, data_dir, run_dir, log, clock, port, guard_command, .. } = options;
    let after = check(&plugins)?;
    let prepare = |what: String| move |source| BuildError::Prepare { what, source };
    std::fs::create_dir_all(&run_dir).map_err(prepare(format!("the folder {}", run_dir.display())))?;
    let output = Output::start(&data_dir, log).map_err(prepare("the thread for plugin output".to_owned()))?;
    let starter = GuardStarter { command: guard_command, choice: containment, run_dir: run_dir.clone() };
    let guard = starter.start().map_err(BuildError::Guard)?;
    tracing::info!(containment = ?guard.level, pid = guard.run.guard.pid, "the guard runs");
    let now = clock.unix_millis();
    let lives: Vec<Life> =
        plugins.into_iter().zip(after).map(|(plugin, after)| Life::new(plugin, after, now)).collect();
    let (statuses, statuses_seen) = watch::channel(Arc::new(lives.iter().map(Life::status).collect()));
    let (level, level_seen) = watch::channel(guard.level);
    let (listener, listener_seen) = watch::channel(None);
    let (line, line_seen) = watch::channel(None);
    let context = Context {
        data_dir,
        run_dir,
        node: options.node,
        role: options.role,
        peer: options.peer,
        project: options.project,
        tombstone_for: options.tombstone_for,
        clock,
    };
    let handle = SupervisorHandle {
        statuses: statuses_seen,
        containment: level_seen,
        listener: Arc::new(listener),
        line: Arc::new(line),
    };
    let (listener, line) = (listener_seen, line_seen);
    let supervisor = Supervisor {
        context,
        lives,
        starter,
        guard,
        output,
        port,
        statuses,
        containment: level,
        listener,
        line,
    };
    Ok((supervisor, handle))
}

impl Supervisor {
    /// Runs until `stop` is cancelled, then ends everything that lives. The caller gives the duty away first if it
    /// wants a graceful stop.
    ///
    /// # Errors
    ///
    /// When the run time has no room for the guard's socket or a thread.
    pub async fn run(self, stop: CancellationToken) -> io::Result<()> {
        let Self { context, lives, starter, guard, output, port, statuses, containment, listener, line } =
            self;
        let (core, inbox) = Core::new(context, lives, starter, guard, output, statuses, containment)?;
        core.run(port, inbox, Lent { listener, line }, stop).await;
        Ok(())
    }
}
