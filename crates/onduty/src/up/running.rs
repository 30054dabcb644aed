//! The services of a node, started in order, watched, and stopped in order.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use certificate_trust::Fingerprint;
use duty::{DutyHandles, OperatorHandle, RunEnd};
use failover_core::{Event, EventCode, Input, Mode, Severity};
use journal::{JournalHandle, JournalThread};
use service_kit::ports::duty_ports;
use service_kit::signals::{self, StopSignals};
use service_kit::with_causes;
use tokio::task::{JoinError, JoinSet};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::failure::Failure;
use crate::up::duty_thread::DutyThread;
use crate::up::trust::{self, Trust};
use crate::up::{Ended, Prepared, link, mode, parts, pieces};

/// How long the services may take to end after the driver has, and then the supervisor. Part of the stop budget that
/// `config check` prints.
const GOODBYE: Duration = Duration::from_secs(1);

/// How long the driver has to end by itself when another service has.
const LAST_WORD: Duration = Duration::from_millis(200);
/// How long the journal may take to write its last entries: longer than it waits itself.
const JOURNAL: Duration = Duration::from_secs(3);

/// What the services around the driver are made of, in the order of their making.
pub(crate) struct Services {
    /// Where driver and `plugins` run.
    pub(crate) thread: DutyThread,
    pub(crate) duty: duty::Duty,
    pub(crate) handles: DutyHandles,
    /// The supervisor, or what stands in its place; ends when `plugins_stop` is cancelled.
    pub(crate) plugins: Pin<Box<dyn Future<Output = ()> + Send>>,
    pub(crate) plugins_stop: CancellationToken,
    pub(crate) link: link::Link,
    pub(crate) trust: Trust,
    pub(crate) management: management::Management,
}

/// Runs the node until it has stopped.
pub(crate) async fn run(prepared: Prepared) -> Result<Ended, Failure> {
    let signals = listen()?;
    let (journal, journal_thread) = pieces::open_journal(&prepared)?;
    let services = build(&prepared, &journal)?;
    Box::pin(attend(&prepared, services, signals, journal, journal_thread)).await
}

/// The signals of this process.
pub(crate) fn listen() -> Result<StopSignals, Failure> {
    signals::listen().map_err(|error| Failure::failed(format!("listening for signals: {error}")))
}

/// Runs the driver and what is around it until it has stopped.
pub(crate) async fn attend(
    prepared: &Prepared,
    services: Services,
    signals: StopSignals,
    journal: JournalHandle,
    journal_thread: JournalThread,
) -> Result<Ended, Failure> {
    let operators = services.handles.operators.clone();
    banner(prepared, services.trust.own());
    tell_new_identity(prepared, &journal);
    let _hurrying = tokio::spawn(hurry(signals.clone(), operators));
    let Trust { bundles, keeper, .. } = &services.trust;
    let keys = prepared.keys.clone();
    let _reloading = tokio::spawn(trust::on_hang_up(bundles.clone(), Arc::clone(keeper), keys));
    let end = serve(services, &signals).await;
    if let End::Driver(RunEnd::ChangeMode(mode)) = &end {
        keep(*mode, prepared, &journal).await;
    }
    let outcome = told(end, &journal);
    close(journal_thread).await;
    match outcome {
        // Whoever asked for a stop meanwhile would not be heard by the next run.
        Ok(Ended::StartAnew) if signals.stop.is_cancelled() => Ok(Ended::Stopped),
        outcome => outcome,
    }
}

/// Ends what an earlier run has left, opens the port, starts the guard, and makes every service.
fn build(prepared: &Prepared, journal: &JournalHandle) -> Result<Services, Failure> {
    let Prepared { loaded, clock, data_dir, .. } = prepared;
    pieces::clear_leftovers(&data_dir.run(), journal)?;
    let address = loaded.settings.node.listen;
    let listener = pieces::bind(address).map_err(|error| pieces::no_port(address, &error))?;
    let (driver_port, supervisor_port) = duty_ports();
    let (duty, handles) = pieces::driver(prepared, journal, driver_port)?;
    let thread = pieces::duty_thread()?;
    let (supervisor, supervised) = {
        let _its_sockets = thread.enter();
        pieces::supervisor(loaded, data_dir, clock, supervisor_port)?
    };
    supervised.lend_listener(pieces::duplicate(&listener)?);
    let folders =
        prepared.folders.as_ref().ok_or_else(|| Failure::failed("the certificates were not read"))?;
    let trust = trust::here(&loaded.settings, folders, clock, journal);
    let link = link::build(prepared, &trust, listener, handles.link.clone())?;
    let plugins = parts::plugin_statuses(supervised.statuses(), clock.clone());
    let management = pieces::operators(prepared, journal, &trust, &handles, plugins, link.test.clone())?;
    let plugins_stop = CancellationToken::new();
    let stop = plugins_stop.clone();
    let plugins = Box::pin(async move {
        if let Err(error) = supervisor.run(stop).await {
            tracing::error!(%error, "the plugin supervisor");
        }
    });
    Ok(Services { thread, duty, handles, plugins, plugins_stop, link, trust, management })
}

/// The peer knows this node by the id that was lost: people should not have to find out by themselves.
fn tell_new_identity(prepared: &Prepared, journal: &JournalHandle) {
    if let Some(aside) = &prepared.old_node_id {
        let sentence = format!(
            "the node id could not be read and is kept as {}; this node has a new one, and its peer sees a stranger with \
             the right key",
            aside.display()
        );
        journal.record(Event::plain(EventCode::TrustNotice, Severity::Error, sentence));
    }
}

/// Tells a person who looks at the log what runs here.
fn banner(prepared: &Prepared, own: Option<Fingerprint>) {
    let settings = &prepared.loaded.settings;
    tracing::info!(
        "onduty {} · node {} · {} · listens on {} · data in {} · certificate {}",
        env!("CARGO_PKG_VERSION"),
        prepared.identity.name,
        settings.redundancy.mode,
        settings.node.listen,
        prepared.data_dir.path().display(),
        own.map_or_else(|| "none yet".to_owned(), |own| own.to_string()),
    );
    if let Some(address) = &settings.redundancy.secondary.address {
        tracing::info!("dials {address}");
    }
    for warning in &prepared.loaded.warnings {
        tracing::warn!("{warning}");
    }
}

/// How the services ended.
enum End {
    /// The driver did.
    Driver(RunEnd),
    /// Another service did, without being asked to.
    Broken(String),
}

/// Runs the services; the driver's end ends the others.
async fn serve(services: Services, signals: &StopSignals) -> End {
    let Services { thread, duty, handles: _kept, plugins, plugins_stop, link, trust, management } = services;
    let rest = CancellationToken::new();
    let mut others: JoinSet<(&'static str, Result<(), String>)> = JoinSet::new();
    link.spawn(&mut others, &rest);
    let stop = rest.clone();
    let _ = others.spawn(async move {
        ("the operators' socket", management.run(stop).await.map_err(|error| with_causes(&error)))
    });
    let Trust { task, stop: trust_stop, .. } = trust;
    let _ = others.spawn(async move { ("the certificates", task.await.map_err(|error| error.to_string())) });
    let supervised = thread.spawn(plugins);
    let mut driver = thread.spawn(duty.run(signals.stop.clone()));
    let _running = match thread.start() {
        Ok(running) => running,
        Err(error) => return End::Broken(format!("starting the driver's thread: {error}")),
    };
    ready();
    let end = tokio::select! {
        biased;
        ended = &mut driver => driver_end(ended),
        // A service whose driver ends just now ends with it: then that is the end that counts.
        Some(ended) = others.join_next() => match timeout(LAST_WORD, &mut driver).await {
            Ok(ended) => driver_end(ended),
            Err(_elapsed) => End::Broken(broken(ended)),
        },
        () = signals.now.cancelled() => End::Broken("Ctrl-C was pressed three times".to_owned()),
    };
    if !matches!(end, End::Driver(RunEnd::ChangeMode(_))) {
        sd(&[sd_notify::NotifyState::Stopping]);
    }
    // The link says goodbye before the guard goes: until then the peer hears from us.
    rest.cancel();
    trust_stop.cancel();
    let gone = timeout(GOODBYE, async { while others.join_next().await.is_some() {} }).await;
    if gone.is_err() {
        tracing::warn!("some services did not end in time");
    }
    plugins_stop.cancel();
    if timeout(GOODBYE, supervised).await.is_err() {
        tracing::warn!("the supervisor did not end in time; its guard ends the plugins");
    }
    end
}

fn driver_end(ended: Result<RunEnd, JoinError>) -> End {
    match ended {
        Ok(end) => End::Driver(end),
        Err(error) => End::Broken(format!("the driver broke: {error}")),
    }
}

fn broken(ended: Result<(&'static str, Result<(), String>), JoinError>) -> String {
    match ended {
        Ok((name, Ok(()))) => format!("{name} ended by itself"),
        Ok((name, Err(why))) => format!("{name} ended: {why}"),
        Err(error) => format!("a service broke: {error}"),
    }
}

fn told(end: End, journal: &JournalHandle) -> Result<Ended, Failure> {
    let why = match end {
        End::Driver(RunEnd::Finished) => {
            tracing::info!("stopped");
            return Ok(Ended::Stopped);
        }
        End::Driver(RunEnd::ChangeMode(_)) => return Ok(Ended::StartAnew),
        End::Driver(RunEnd::StopTimedOut) => {
            "the stop took longer than it may; what still ran was killed".to_owned()
        }
        End::Driver(RunEnd::NoTimer) => "the system gives no timer to wait with".to_owned(),
        End::Driver(RunEnd::SupervisorGone) => "the plugin supervisor has ended by itself".to_owned(),
        End::Broken(why) => why,
    };
    journal.record(Event::plain(EventCode::NodeStopped, Severity::Critical, format!("the node ends: {why}")));
    Err(Failure::failed(why))
}

/// Keeps the new mode. Where that fails the node starts anew all the same, with the mode of before.
async fn keep(mode: Mode, prepared: &Prepared, journal: &JournalHandle) {
    let keep = mode::settings(prepared).keep;
    let kept = timeout(GOODBYE, tokio::task::spawn_blocking(move || keep(mode))).await;
    let stalled =
        |_stalled| Ok(Err("the data directory does not answer; it may still be kept later".to_owned()));
    let (severity, sentence) =
        match kept.unwrap_or_else(stalled).unwrap_or_else(|error| Err(error.to_string())) {
            Ok(()) => (Severity::Info, format!("the mode is {mode} from the next start on, which follows")),
            Err(why) => (
                Severity::Error,
                format!("the mode could not be changed to {mode}, because it could not be kept: {why}"),
            ),
        };
    journal.record(Event::plain(EventCode::ModeChanged, severity, sentence));
}

/// The second Ctrl-C: no hand-over any more. (The third ends the services themselves.)
async fn hurry(signals: StopSignals, operators: OperatorHandle) {
    signals.hurry.cancelled().await;
    let _ = operators.ask(Input::StopRequested { handover: false }).await;
}

/// The last entries are written, for a bounded time.
async fn close(journal: JournalThread) {
    let written = timeout(JOURNAL, tokio::task::spawn_blocking(move || journal.close())).await;
    if !matches!(written, Ok(Ok(true))) {
        tracing::warn!("the journal's last entries could not be written in time");
    }
}

/// Tells the service manager and the log.
pub(crate) fn ready() {
    sd(&[sd_notify::NotifyState::Ready]);
    tracing::info!("ready");
}

/// Tells systemd, where there is one.
pub(crate) fn sd(state: &[sd_notify::NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::debug!(%error, "telling the service manager");
    }
}
