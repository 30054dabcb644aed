//! `serve plugin-supervisor`: the guard and the plugins. Ends what an earlier run has left before its socket opens: whoever
//! finds the socket knows that nothing lives which this supervisor does not know.

use std::process::ExitCode;
use std::time::Duration;

use failover_core::Severity;
use plugin_supervisor::apart;
use service_kit::Clock;
use service_kit::ports::duty_ports;
use service_kit::settings::Loaded;
use service_kit::with_causes;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::SUPERVISOR;
use crate::failure::Failure;
use crate::up::data_dir::{DataDir, Part};
use crate::up::{self, pieces, running};

// Together with what the service itself needs (a second), these are part of the stop budget that `config check` prints.
/// What an orderly stop of the plugins may take beyond their own limits.
const STOP_SLACK: Duration = Duration::from_secs(2);
/// How long the supervisor may take to end after the last plugin.
const GOODBYE: Duration = Duration::from_secs(2);

/// Runs the service until it is stopped.
pub(super) fn run(loaded: &Loaded) -> Result<ExitCode, Failure> {
    let data_dir = DataDir::open(&loaded.settings.node.data_dir, Part::One(SUPERVISOR))?;
    let found = plugin_supervisor::clear_leftovers(&data_dir.run())
        .map_err(|error| Failure::failed(with_causes(&error)))?;
    for (severity, sentence) in pieces::leftovers(&found) {
        match severity {
            Severity::Info | Severity::Warn => tracing::warn!("{sentence}"),
            Severity::Error | Severity::Critical => tracing::error!("{sentence}"),
        }
    }
    up::block_on(serve(loaded, &data_dir))
}

async fn serve(loaded: &Loaded, data_dir: &DataDir) -> Result<ExitCode, Failure> {
    let signals = running::listen()?;
    let clock = Clock::real();
    let (driver_port, supervisor_port) = duty_ports();
    let (supervisor, handle) = pieces::supervisor(loaded, data_dir, &clock, supervisor_port)?;
    let service = apart::build(apart::Options {
        run_dir: data_dir.run(),
        port: driver_port,
        handle,
        tombstone_for: pieces::tombstone_for(&loaded.settings),
        stop_within: loaded.settings.stop_limit() + STOP_SLACK,
        clock,
    })
    .map_err(|error| Failure::failed(with_causes(&error)))?;
    let plugins_stop = CancellationToken::new();
    let mut supervised = tokio::spawn(supervisor.run(plugins_stop.clone()));
    running::ready();
    // On the thread where its connections are served: each order passes through it.
    let served = tokio::spawn(service.run(signals.stop.clone()));
    let served = served.await.map_err(|error| Failure::failed(with_causes(&error)))?;
    running::sd(&[sd_notify::NotifyState::Stopping]);
    let asked = signals.stop.is_cancelled();
    plugins_stop.cancel();
    if timeout(GOODBYE, &mut supervised).await.is_err() {
        tracing::warn!("the supervisor did not end in time; its guard ends the plugins");
    }
    served.map_err(|error| Failure::failed(with_causes(&error)))?;
    if asked {
        Ok(ExitCode::SUCCESS)
    } else {
        Err(Failure::failed("the plugin supervisor has ended by itself"))
    }
}
