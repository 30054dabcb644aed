//! Options → service → handles.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use failover_core::{Effect, Epoch, Input, Machine, Memory, Mode, Now, Rules, Settings};
use service_kit::Clock;
use service_kit::ports::DriverPort;
use thiserror::Error;
use tokio::sync::{mpsc, watch};

use crate::driver::{Duty, Queues};
use crate::handles::{LINK_QUEUE, OPERATOR_QUEUE, Rejections, Sessions};
use crate::stall::StallWatch;
use crate::storage::{self, Found, Storage};
use crate::{DutyHandles, LinkHandle, OperatorHandle, Outgoing, Recorder};
use service_kit::latest::latest;

/// What the driver needs.
pub struct Options {
    /// What the machine goes by.
    pub settings: Settings,
    /// Where `epochs` and `memory.json` are. Trouble with it is told, never fatal.
    pub data_dir: PathBuf,
    /// The clocks.
    pub clock: Clock,
    /// Where events go.
    pub recorder: Recorder,
    /// The driver's ends of the channels to the supervisor.
    pub port: DriverPort,
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("settings", &self.settings)
            .field("data_dir", &self.data_dir)
            .finish_non_exhaustive()
    }
}

/// Why there can be no driver.
#[derive(Debug, Error)]
pub enum BuildError {
    /// The storage thread could not be started.
    #[error("starting the storage thread")]
    Thread(#[source] io::Error),
}

/// Reads what the node remembers and makes the driver with its handles. The machine's time runs from here; nothing is
/// carried out before [`Duty::run`].
///
/// # Errors
///
/// When the system gives no thread for the storage.
pub fn build(options: Options) -> Result<(Duty, DutyHandles), BuildError> {
    let found = storage::load(&options.data_dir);
    let (storage, from_storage) =
        Storage::start(&options.data_dir, &found, options.clock.clone()).map_err(BuildError::Thread)?;
    Ok(assemble(options, found, storage, from_storage, None))
}

/// Makes the driver around what was found. `rules` are broken ones, for the tests that must catch them.
pub(crate) fn assemble(
    options: Options,
    found: Found,
    storage: Storage,
    from_storage: mpsc::Receiver<Input>,
    rules: Option<Rules>,
) -> (Duty, DutyHandles) {
    let Options { settings, data_dir: _, clock, recorder, port } = options;
    let stop_bound = stop_bound(&settings);
    let handover_on_stop = settings.handover_on_stop;
    let now = clock.now();
    let (machine, started) = begin(now, settings, found.memory, found.reserved_up_to, rules);

    let mut effects: Vec<Effect> =
        found.notices.into_iter().map(|event| Effect::Record(Box::new(event))).collect();
    effects.extend(started);
    let first_input = found.trouble.map(|why| Input::StorageChanged { trouble: Some(why) });

    let report = Arc::new(machine.report());
    let (outgoing, outgoing_seen) = latest(Outgoing { report, announce: 0 });
    let (view, view_seen) = watch::channel(Arc::new(machine.view(now)));
    let (link_tx, link_rx) = mpsc::channel(LINK_QUEUE);
    let (operator_tx, operator_rx) = mpsc::channel(OPERATOR_QUEUE);
    let sessions = Sessions::driven();
    let rejections = Rejections::new(clock.clone(), recorder.clone());

    let handles = DutyHandles {
        link: LinkHandle {
            inputs: link_tx,
            outgoing: outgoing_seen.clone(),
            sessions: sessions.clone(),
            rejections: rejections.clone(),
        },
        operators: OperatorHandle {
            inputs: operator_tx,
            view: view_seen,
            outgoing: outgoing_seen,
            rejections: rejections.clone(),
            clock: clock.clone(),
        },
    };
    let driver = Duty {
        queues: Queues {
            link: link_rx,
            reports: port.reports,
            storage: from_storage,
            operators: operator_rx,
            link_in_a_row: 0,
        },
        machine,
        effects,
        pending: first_input.into_iter().collect(),
        stall: StallWatch::new(now.boot),
        clock,
        outgoing,
        view,
        orders: port.orders,
        secrets: port.secrets,
        sessions,
        rejections,
        recorder,
        storage,
        handover_on_stop,
        stop_bound,
        stop_by: None,
        expired_maintenance: None,
    };
    (driver, handles)
}

#[cfg(feature = "broken-variants")]
fn begin(
    now: Now,
    settings: Settings,
    memory: Memory,
    reserved_up_to: Option<Epoch>,
    rules: Option<Rules>,
) -> (Machine, Vec<Effect>) {
    match rules {
        Some(rules) => Machine::broken(now, settings, memory, reserved_up_to, rules),
        None => Machine::new(now, settings, memory, reserved_up_to),
    }
}

#[cfg(not(feature = "broken-variants"))]
fn begin(
    now: Now,
    settings: Settings,
    memory: Memory,
    reserved_up_to: Option<Epoch>,
    _rules: Option<Rules>,
) -> (Machine, Vec<Effect>) {
    Machine::new(now, settings, memory, reserved_up_to)
}

/// What a stop may take beyond the limits in the settings.
const STOP_MARGIN: Duration = Duration::from_millis(500);

/// How long a stop may take: that of the plugins and, where the duty is handed over, the other node's start. The stop budget
/// that `config check` prints is the same and has room for the end of the process.
fn stop_bound(settings: &Settings) -> Duration {
    let silence = settings.takeover_after.unwrap_or(settings.timeout).max(settings.timeout);
    let hands_over = settings.handover_on_stop && settings.mode != Mode::Deactivated;
    let handover = if hands_over { settings.start_limit + silence * 2 } else { Duration::ZERO };
    settings.stop_limit + handover + STOP_MARGIN
}
