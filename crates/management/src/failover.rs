//! `FailoverService`: how a node and its pair are, and the requests that move the duty.

use std::sync::Arc;
use std::time::Duration;

use duty::OperatorHandle;
use failover_core::{BootTime, Event, EventCode, Input, RequestId, Severity, State, View, Warning};
use journal::{Health, JournalHandle};
use onduty_api::caller::caller;
use onduty_api::errors::with_reason;
use onduty_api::failover::{PluginStatus, StatusParts, WallAnchor};
use onduty_api::wire::failover::v1 as wire;
use onduty_api::wire::failover::v1::failover_service_server::FailoverService;
use onduty_api::wire::types::v1 as types;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use tonic::{Code, Request, Response, Status};

use crate::keys::{self, Keys};
use crate::mode::ModeSettings;
use crate::requests::{Asked, answered, ask, ask_and_see, request_id, wait_for};
use crate::stream::{Answers, answers};

/// The reason of a refusal by the machine, for machines.
pub(crate) const REFUSED: &str = "REQUEST_REFUSED";
/// A watcher gets at most ten statuses in a second.
const WATCH_PAUSE: Duration = Duration::from_millis(100);
/// The longest silence of a watch, when the watcher does not say.
const WATCH_HEARTBEAT: Duration = Duration::from_secs(5);
/// Statuses on their way to one watcher. When full the watch waits: the next status is a fresh one anyway.
const TO_WATCHER: usize = 2;
/// Watchers of the status at the same time. Each costs a status at every change and up to ten times a second, so that very
/// many would take the processors from the heartbeats; one more is refused.
pub(crate) const WATCHERS: usize = 64;
/// A watcher that has read nothing for so long gives its place to the next.
const WATCHER_PATIENCE: Duration = Duration::from_secs(30);
/// Calls at the same time that wait until the duty has moved or the mode has changed, which takes minutes. One move can be
/// under way at once, so that more have little to wait for; behind a forwarder everybody's calls share one connection, and
/// those that wait must leave room for those who only look. One more is refused.
pub(crate) const WAITING: usize = 16;
/// A switchover that takes longer is told as still under way, whatever the caller's deadline.
const LONGEST_SWITCHOVER: Duration = Duration::from_secs(600);
/// The machine answers a takeover by hand at once: it begins, or is refused.
const TAKEOVER_ANSWER: Duration = Duration::from_secs(5);
/// The longest maintenance window.
const LONGEST_MAINTENANCE: Duration = Duration::from_secs(31 * 24 * 3600);
/// The longest reason, in bytes.
const LONGEST_REASON: usize = 1024;

/// The service.
#[derive(Clone)]
pub(crate) struct Failover {
    pub(crate) operators: OperatorHandle,
    pub(crate) journal: JournalHandle,
    pub(crate) plugins: watch::Receiver<Arc<Vec<PluginStatus>>>,
    pub(crate) started: BootTime,
    pub(crate) trust_away: watch::Receiver<Option<String>>,
    pub(crate) expiring: watch::Receiver<Vec<Warning>>,
    pub(crate) keys: Option<Keys>,
    pub(crate) mode: ModeSettings,
    pub(crate) stop: CancellationToken,
    /// The switchovers that were asked for here.
    pub(crate) asked: Asked,
    /// Room for [`WATCHERS`].
    pub(crate) watchers: Arc<Semaphore>,
    /// Room for [`WAITING`].
    pub(crate) waiting: Arc<Semaphore>,
    /// Whether a stop hands the duty over, as the settings have it.
    pub(crate) handover_on_stop: bool,
    /// The socket's callers are forwarders.
    pub(crate) behind_forwarder: bool,
}

#[tonic::async_trait]
impl FailoverService for Failover {
    type WatchStatusStream = Answers<wire::WatchStatusResponse>;

    async fn get_status(
        &self,
        _request: Request<wire::GetStatusRequest>,
    ) -> Result<Response<wire::GetStatusResponse>, Status> {
        Ok(Response::new(wire::GetStatusResponse { status: Some(self.status()) }))
    }

    async fn watch_status(
        &self,
        request: Request<wire::WatchStatusRequest>,
    ) -> Result<Response<Self::WatchStatusStream>, Status> {
        let heartbeat = match request.into_inner().heartbeat {
            None => WATCH_HEARTBEAT,
            Some(span) => Duration::try_from(span)
                .ok()
                .filter(|span| *span >= WATCH_PAUSE)
                .ok_or_else(|| Status::invalid_argument("`heartbeat` must be at least 100 ms"))?,
        };
        let place = Arc::clone(&self.watchers).try_acquire_owned().map_err(|_full| {
            Status::resource_exhausted(format!("{WATCHERS} watch the status already; no more are allowed"))
        })?;
        let (watcher, last_word, stream) = answers(TO_WATCHER);
        let watching = self.clone().watch(watcher, heartbeat);
        let _detached = tokio::spawn(async move {
            last_word.say(watching.await);
            drop(place);
        });
        Ok(Response::new(stream))
    }

    async fn switchover(
        &self,
        request: Request<wire::SwitchoverRequest>,
    ) -> Result<Response<wire::SwitchoverResponse>, Status> {
        let wire::SwitchoverRequest { request_id: given, check_only } = request.into_inner();
        let named = !given.is_empty() && !check_only;
        let request = request_id(given)?;
        let news = self.journal.subscribe();
        if named && let Some(event) = answered(&self.journal, &request, ends_a_switchover).await {
            return self.switched(request, event);
        }
        let view = Arc::clone(&self.operators.view().borrow());
        let joins = self.asked.knows(&request) || under_way(&view, &request);
        if let Some(why) = view.switchover_blocked.as_ref().filter(|_| !joins) {
            return Err(with_reason(Code::FailedPrecondition, REFUSED, why.clone()));
        }
        if check_only {
            return Ok(Response::new(wire::SwitchoverResponse {
                request_id: request.0,
                active: active(&view).unwrap_or_default(),
                sentence: "a switchover would begin now".to_owned(),
                gap: None,
            }));
        }
        let _place = self.place_to_wait()?;
        // Who joins only waits: asking again in the middle of a move would be refused under the very same id.
        if !joins {
            ask(&self.operators, Input::SwitchoverRequested { request: request.clone() }).await?;
            // Not before it is handed over: one that was not must not be waited for when it is asked for again.
            self.asked.note(&request);
        }
        let event = wait_for(news, &request, ends_a_switchover, LONGEST_SWITCHOVER).await?;
        self.switched(request, event)
    }

    async fn stop(
        &self,
        request: Request<wire::StopRequest>,
    ) -> Result<Response<wire::StopResponse>, Status> {
        let keep_duty = request.into_inner().keep_duty;
        let view = Arc::clone(&self.operators.view().borrow());
        ask(&self.operators, Input::StopRequested { handover: !keep_duty }).await?;
        Ok(Response::new(wire::StopResponse { sentence: ending(&view, keep_duty, self.handover_on_stop) }))
    }

    async fn set_maintenance(
        &self,
        request: Request<wire::SetMaintenanceRequest>,
    ) -> Result<Response<wire::SetMaintenanceResponse>, Status> {
        let by = caller(&request, self.behind_forwarder);
        let wire::SetMaintenanceRequest { reason, duration } = request.into_inner();
        let until_unix = window_end(&reason, duration, self.operators.now().unix)?;
        let before = self.operators.report().maintenance.version;
        let input = Input::MaintenanceSet { reason, by, until_unix };
        let view = ask_and_see(&self.operators, input, |view| {
            view.maintenance.version > before && view.maintenance.window.is_some()
        })
        .await?;
        let maintenance = Some(view.maintenance.clone().into());
        Ok(Response::new(wire::SetMaintenanceResponse { maintenance }))
    }

    async fn clear_maintenance(
        &self,
        request: Request<wire::ClearMaintenanceRequest>,
    ) -> Result<Response<wire::ClearMaintenanceResponse>, Status> {
        let by = caller(&request, self.behind_forwarder);
        let input = Input::MaintenanceCleared { by };
        let view = ask_and_see(&self.operators, input, |view| view.maintenance.window.is_none()).await?;
        let maintenance = Some(view.maintenance.clone().into());
        Ok(Response::new(wire::ClearMaintenanceResponse { maintenance }))
    }

    async fn take_over(
        &self,
        request: Request<wire::TakeOverRequest>,
    ) -> Result<Response<wire::TakeOverResponse>, Status> {
        let given = request.into_inner().request_id;
        let named = !given.is_empty();
        let request = request_id(given)?;
        let news = self.journal.subscribe();
        let before = if named { answered(&self.journal, &request, |_any| true).await } else { None };
        let event = match before {
            Some(event) => event,
            None => {
                let input = Input::TakeoverRequested { request: request.clone() };
                ask(&self.operators, input).await?;
                wait_for(news, &request, |_any| true, TAKEOVER_ANSWER).await?
            }
        };
        if event.code == EventCode::RequestRefused {
            return Err(with_reason(Code::FailedPrecondition, REFUSED, event.sentence));
        }
        Ok(Response::new(wire::TakeOverResponse { sentence: event.sentence }))
    }

    async fn get_mode(
        &self,
        _request: Request<wire::GetModeRequest>,
    ) -> Result<Response<wire::GetModeResponse>, Status> {
        Ok(Response::new(self.mode_in_force()))
    }

    async fn set_mode(
        &self,
        request: Request<wire::SetModeRequest>,
    ) -> Result<Response<wire::SetModeResponse>, Status> {
        self.clone().change_mode(request.into_inner()).await.map(Response::new)
    }
}

impl Failover {
    fn status(&self) -> wire::NodeStatus {
        let now = WallAnchor { boot: self.operators.now().boot, unix_ms: self.operators.unix_millis() };
        let view = Arc::clone(&self.operators.view().borrow());
        let plugins = Arc::clone(&self.plugins.borrow());
        let keys = self.keys.as_ref().map(Keys::statuses).unwrap_or_default();
        let mut status = wire::NodeStatus::from(StatusParts {
            view: &view,
            report: &self.operators.report(),
            plugins: &plugins,
            keys: &keys,
            rejected: &self.operators.rejected(),
            now,
            started: self.started,
        });
        status.warnings.extend(journal_warning(&self.journal.health().borrow()));
        status.warnings.extend(self.trust_away.borrow().clone().map(trust_warning));
        status.warnings.extend(self.expiring.borrow().iter().map(wire::Warning::from));
        status.warnings.extend(self.keys.iter().flat_map(Keys::warnings));
        status
    }

    /// A place among the calls that wait for minutes.
    pub(crate) fn place_to_wait(&self) -> Result<OwnedSemaphorePermit, Status> {
        Arc::clone(&self.waiting).try_acquire_owned().map_err(|_full| {
            let text = format!("{WAITING} calls wait for a move of the duty or a change of the mode already");
            Status::resource_exhausted(text)
        })
    }

    /// Sends the status now, after every change, and at least once in `heartbeat`; says how it ended.
    async fn watch(
        mut self,
        watcher: mpsc::Sender<Result<wire::WatchStatusResponse, Status>>,
        heartbeat: Duration,
    ) -> Status {
        let left = || Status::cancelled("the watcher has left");
        let stopping = || Status::unavailable("the node is stopping");
        let mut views = self.operators.view();
        let mut health = self.journal.health();
        let mut key_changes = keys::changes(self.keys.as_ref());
        loop {
            let answer = wire::WatchStatusResponse { status: Some(self.status()) };
            let _ = views.borrow_and_update();
            // A status that is not sent is lost with its watcher.
            let sent = tokio::select! {
                sent = timeout(WATCHER_PATIENCE, watcher.send(Ok(answer))) => sent,
                () = self.stop.cancelled() => return stopping(),
            };
            match sent {
                Ok(Ok(())) => {}
                Ok(Err(_gone)) => return left(),
                Err(_elapsed) => {
                    return Status::data_loss("the watcher was too slow: it has read nothing for 30 s");
                }
            }
            let earliest = Instant::now() + WATCH_PAUSE;
            let latest = Instant::now() + heartbeat;
            // Cancel-safe: a change that is not seen here is in the next status all the same.
            tokio::select! {
                changed = views.changed() => if changed.is_err() { return stopping() },
                Ok(()) = self.plugins.changed() => {}
                Ok(()) = health.changed() => {}
                Ok(()) = self.trust_away.changed() => {}
                Ok(()) = self.expiring.changed() => {}
                () = key_changes.next() => {}
                () = sleep_until(latest) => {}
                () = watcher.closed() => return left(),
                () = self.stop.cancelled() => return stopping(),
            }
            sleep_until(earliest).await;
        }
    }

    fn switched(
        &self,
        request: RequestId,
        event: Event,
    ) -> Result<Response<wire::SwitchoverResponse>, Status> {
        if event.code == EventCode::RequestRefused {
            return Err(with_reason(Code::FailedPrecondition, REFUSED, event.sentence));
        }
        if event.code != EventCode::HandoverDone {
            return Err(with_reason(Code::Aborted, "HANDOVER_FAILED", event.sentence));
        }
        let gap = event.measures.outage_ms.map(Duration::from_millis);
        Ok(Response::new(wire::SwitchoverResponse {
            request_id: request.0,
            active: active(&self.operators.view().borrow()).unwrap_or_default(),
            sentence: event.sentence,
            gap: gap.and_then(|gap| prost_types::Duration::try_from(gap).ok()),
        }))
    }
}

/// The events that end a switchover.
fn ends_a_switchover(code: EventCode) -> bool {
    [EventCode::HandoverDone, EventCode::HandoverFailed, EventCode::RequestRefused].contains(&code)
}

/// What a stop that is asked for now will do.
fn ending(view: &View, keep_duty: bool, handover_on_stop: bool) -> String {
    let name = &view.identity.name;
    if !view.state.may_run_plugins() {
        format!("{name} stops; it does not run the plugins")
    } else if keep_duty {
        format!("{name} stops its plugins and ends without handing the duty over")
    } else if !handover_on_stop {
        format!(
            "{name} stops its plugins and ends without handing the duty over: `redundancy.handover_on_stop` is false"
        )
    } else if let Some(why) = &view.switchover_blocked {
        format!("{name} stops its plugins and ends; the duty cannot be handed over: {why}")
    } else {
        format!("{name} hands the duty over and stops")
    }
}

/// Whether this very request is what moves the duty now.
fn under_way(view: &View, request: &RequestId) -> bool {
    let procedure = &view.procedure;
    [&procedure.offer, &procedure.ask].into_iter().flatten().any(|move_| move_.request == *request)
}

/// The name of the node that has the duty, as this node knows.
fn active(view: &View) -> Option<String> {
    let has = |state: State| state.may_run_plugins() && state != State::Yielding;
    if has(view.state) {
        return Some(view.identity.name.to_string());
    }
    let peer = view.peer.report.as_ref()?;
    has(peer.state).then(|| peer.identity.name.to_string())
}

/// Checks a maintenance window and returns its end, in seconds of the Unix clock.
fn window_end(reason: &str, duration: Option<prost_types::Duration>, now_unix: u64) -> Result<u64, Status> {
    if reason.trim().is_empty() {
        return Err(Status::invalid_argument("maintenance needs a `reason`"));
    }
    if reason.len() > LONGEST_REASON {
        return Err(Status::invalid_argument("`reason` must have at most 1024 bytes"));
    }
    let span = duration.and_then(|span| Duration::try_from(span).ok()).unwrap_or_default();
    if span.is_zero() || span > LONGEST_MAINTENANCE {
        return Err(Status::invalid_argument("`duration` must be more than zero and at most 31 days"));
    }
    Ok(now_unix.saturating_add(span.as_secs().max(1)))
}

/// The journal's own trouble is no business of the machine, but of people.
fn journal_warning(health: &Health) -> Option<wire::Warning> {
    let sentence = match health {
        Health::Ok => return None,
        Health::Degraded { why, lost: 0 } => format!("the journal cannot be written: {why}"),
        Health::Degraded { why, lost } => format!("the journal has lost {lost} events: {why}"),
    };
    Some(wire::Warning {
        code: EventCode::JournalDegraded.as_str().to_owned(),
        severity: types::Severity::from(Severity::Error) as i32,
        sentence,
    })
}

/// The same is true of who says whom to trust.
fn trust_warning(sentence: String) -> wire::Warning {
    wire::Warning {
        code: EventCode::TrustNotice.as_str().to_owned(),
        severity: types::Severity::from(Severity::Warn) as i32,
        sentence,
    }
}
