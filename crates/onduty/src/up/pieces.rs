//! The pieces a node is made of, as `up` puts them into one process and `serve` into several.

use std::ffi::OsString;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use duty::{DutyHandles, Recorder};
use failover_core::{Event, EventCode, Severity};
use journal::{Journal, JournalHandle, JournalThread};
use management::ConnectionTest;
use onduty_api::failover::PluginStatus;
use plugin_supervisor::{Leftovers, Supervisor, SupervisorHandle};
use service_kit::Clock;
use service_kit::codes::Code;
use service_kit::ports::{DriverPort, SupervisorPort};
use service_kit::settings::{Loaded, NodeSettings};
use service_kit::with_causes;
use tokio::sync::watch;

use crate::failure::Failure;
use crate::up::data_dir::DataDir;
use crate::up::duty_thread::DutyThread;
use crate::up::trust::Trust;
use crate::up::{Prepared, keys, mode, plugins, project};

/// The journal of the node, and its thread.
pub(crate) fn open_journal(prepared: &Prepared) -> Result<(JournalHandle, JournalThread), Failure> {
    let clock = prepared.clock.clone();
    Journal::open(journal::Options {
        path: prepared.data_dir.path().join("journal.db"),
        node: prepared.identity.name.to_string(),
        clock: Arc::new(move || clock.unix_millis()),
    })
    .map_err(|error| Failure::failed(with_causes(&error)))
}

/// The thread for driver and supervisor.
pub(crate) fn duty_thread() -> Result<DutyThread, Failure> {
    DutyThread::new().map_err(|error| Failure::failed(format!("starting the driver's runtime: {error}")))
}

/// The driver.
pub(crate) fn driver(
    prepared: &Prepared,
    journal: &JournalHandle,
    port: DriverPort,
) -> Result<(duty::Duty, DutyHandles), Failure> {
    let recorder = journal.clone();
    duty::build(duty::Options {
        settings: prepared.loaded.core(prepared.identity.clone(), None),
        data_dir: prepared.data_dir.path().to_owned(),
        clock: prepared.clock.clone(),
        recorder: Recorder::new(move |event| recorder.record(event)),
        port,
    })
    .map_err(|error| Failure::failed(with_causes(&error)))
}

/// The supervisor with its guard.
pub(crate) fn supervisor(
    loaded: &Loaded,
    data_dir: &DataDir,
    clock: &Clock,
    port: SupervisorPort,
) -> Result<(Supervisor, SupervisorHandle), Failure> {
    let settings = &loaded.settings;
    let plugins =
        settings.plugins.iter().map(|(name, definition)| plugins::plugin(name, definition)).collect();
    plugin_supervisor::build(plugin_supervisor::Options {
        plugins,
        containment: plugins::containment(settings.supervisor.containment),
        data_dir: data_dir.path().to_owned(),
        run_dir: data_dir.run(),
        node: settings.node.name.clone(),
        role: settings.redundancy.mode.to_string(),
        peer: None,
        project: project::fingerprint(loaded),
        tombstone_for: tombstone_for(settings),
        log: plugin_supervisor::LogLimits::default(),
        clock: clock.clone(),
        port,
        guard_command: guard_command()?,
    })
    .map_err(|error| Failure::failed(with_causes(&error)))
}

/// How long a tombstone is shown: as long as the peer would otherwise have to wait.
pub(crate) fn tombstone_for(settings: &NodeSettings) -> Duration {
    settings.longest_silence()
}

/// The operators' services, on the operators' own socket or on one behind a forwarder.
pub(crate) fn operators(
    prepared: &Prepared,
    journal: &JournalHandle,
    trust: &Trust,
    handles: &DutyHandles,
    plugins: watch::Receiver<Arc<Vec<PluginStatus>>>,
    connection_test: ConnectionTest,
) -> Result<management::Management, Failure> {
    let data_dir = &prepared.data_dir;
    let keys = prepared.keys.as_ref().map(|store| management::Keys {
        ring: store.ring(),
        trouble: keys::follow(store, journal.clone(), trust.stop.clone()),
    });
    // Whoever has the certificates is the whole node; the parts of one are behind `serve management`.
    let behind_forwarder = trust.certificates.is_none();
    management::build(management::Options {
        socket: if behind_forwarder { data_dir.duty_socket() } else { data_dir.socket() },
        behind_forwarder,
        operators: handles.operators.clone(),
        journal: journal.clone(),
        plugins,
        connection_test,
        mode: mode::settings(prepared),
        handover_on_stop: prepared.loaded.settings.redundancy.handover_on_stop,
        started: prepared.clock.boot(),
        certificates: trust.certificates.clone(),
        trust_away: trust.away.clone(),
        expiring: trust.expiring.clone(),
        keys,
    })
    .map_err(|error| Failure::failed(with_causes(&error)))
}

/// The own binary under its hidden subcommand.
fn guard_command() -> Result<Vec<OsString>, Failure> {
    let own =
        std::env::current_exe().map_err(|error| Failure::failed(format!("finding this program: {error}")))?;
    Ok(vec![own.into(), crate::GUARD.into()])
}

/// Ends what an earlier run has left, and writes it down.
pub(crate) fn clear_leftovers(run_dir: &Path, journal: &JournalHandle) -> Result<(), Failure> {
    let found =
        plugin_supervisor::clear_leftovers(run_dir).map_err(|error| Failure::failed(with_causes(&error)))?;
    for (severity, sentence) in leftovers(&found) {
        journal.record(Event::plain(EventCode::PluginChanged, severity, sentence));
    }
    Ok(())
}

/// What is to be said about leftovers.
pub(crate) fn leftovers(found: &Leftovers) -> Vec<(Severity, String)> {
    let mut said = Vec::new();
    if found.guard || found.processes > 0 {
        let sentence = format!(
            "an earlier run has left {}{} behind; ended before the port opens",
            if found.guard { "its guard and " } else { "" },
            match found.processes {
                1 => "1 process of its plugins".to_owned(),
                n => format!("{n} processes of its plugins"),
            }
        );
        said.push((Severity::Warn, sentence));
    }
    if let Some(aside) = &found.corrupt_file {
        let sentence = format!("the run file could not be read; kept as {}", aside.display());
        said.push((Severity::Error, sentence));
    }
    said
}

/// Opens the port.
pub(crate) fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    // std sets SO_REUSEADDR, so that connections of the run before do not keep the port.
    let listener = TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// Why there is no port.
pub(crate) fn no_port(address: SocketAddr, error: &io::Error) -> Failure {
    Failure::failed(if error.kind() == io::ErrorKind::AddrInUse {
        format!(
            "the address {address} (`node.listen`) is in use by another program: stop it, or choose another port"
        )
    } else {
        format!("the address {address} (`node.listen`) cannot be used: {error}")
    })
    .coded(Code::PortUnusable)
}

/// Another descriptor of the listening socket, for the guard.
pub(crate) fn duplicate(listener: &TcpListener) -> Result<OwnedFd, Failure> {
    let lent = listener.try_clone().map_err(|error| Failure::failed(format!("sharing the port: {error}")))?;
    Ok(lent.into())
}
