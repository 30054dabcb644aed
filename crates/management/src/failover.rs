//! `FailoverService`: how a node and its pair are, and the requests that move the duty.

use std::sync::Arc;
use std::time::Duration;

use duty::OperatorHandle;
use failover_core::{BootTime, Event, EventCode, Input, RequestId, Severity, State, View};
use journal::{Health, JournalHandle};
use onduty_api::errors::with_reason;
use onduty_api::failover::{PluginStatus, StatusParts, WallAnchor};
use onduty_api::wire::failover::v1 as wire;
use onduty_api::wire::failover::v1::failover_service_server::FailoverService;
use onduty_api::wire::types::v1 as types;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Request, Response, Status};

use crate::requests::{ask, ask_and_see, ask_and_wait, request_id};

/// The reason of a refusal by the machine, for machines.
const REFUSED: &str = "REQUEST_REFUSED";
/// A watcher gets at most ten statuses in a second.
const WATCH_PAUSE: Duration = Duration::from_millis(100);
/// The longest silence of a watch, when the watcher does not say.
const WATCH_HEARTBEAT: Duration = Duration::from_secs(5);
/// Statuses on their way to one watcher. When full the watch waits: the next status is a fresh one anyway.
const TO_WATCHER: usize = 2;
/// A switchover that takes longer is told as still under way, whatever the caller's deadline.
const LONGEST_SWITCHOVER: Duration = Duration::from_secs(600);
/// The machine answers a takeover by hand at once: it begins, or is refused.
const TAKEOVER_ANSWER: Duration = Duration::from_secs(5);
/// The longest maintenance window.
const LONGEST_MAINTENANCE: Duration = Duration::from_secs(31 * 24 * 3600);
/// The longest reason, in bytes.
const LONGEST_REASON: usize = 1024;

/// The header in which a forwarder says for whom it asks.
pub(crate) const CALLER: &str = "onduty-caller";
/// The longest name of a caller.
const LONGEST_CALLER: usize = 256;

/// The service.
#[derive(Clone)]
pub(crate) struct Failover {
    pub(crate) operators: OperatorHandle,
    pub(crate) journal: JournalHandle,
    pub(crate) plugins: watch::Receiver<Arc<Vec<PluginStatus>>>,
    pub(crate) started: BootTime,
    pub(crate) stop: CancellationToken,
    /// The socket's callers are forwarders.
    pub(crate) behind_forwarder: bool,
}

#[tonic::async_trait]
impl FailoverService for Failover {
    type WatchStatusStream = ReceiverStream<Result<wire::WatchStatusResponse, Status>>;

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
        let (watcher, stream) = mpsc::channel(TO_WATCHER);
        let _detached = tokio::spawn(self.clone().watch(watcher, heartbeat));
        Ok(Response::new(ReceiverStream::new(stream)))
    }

    async fn switchover(
        &self,
        request: Request<wire::SwitchoverRequest>,
    ) -> Result<Response<wire::SwitchoverResponse>, Status> {
        let wire::SwitchoverRequest { request_id: given, check_only } = request.into_inner();
        let request = request_id(given)?;
        let view = Arc::clone(&self.operators.view().borrow());
        let joins = under_way(&view, &request);
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
        let input = Input::SwitchoverRequested { request: request.clone() };
        let event = ask_and_wait(
            &self.operators,
            &self.journal,
            (&request, input),
            ends_a_switchover,
            LONGEST_SWITCHOVER,
        )
        .await?;
        self.switched(request, event)
    }

    async fn stop(
        &self,
        request: Request<wire::StopRequest>,
    ) -> Result<Response<wire::StopResponse>, Status> {
        let keep_duty = request.into_inner().keep_duty;
        let view = Arc::clone(&self.operators.view().borrow());
        ask(&self.operators, Input::StopRequested { handover: !keep_duty }).await?;
        let name = &view.identity.name;
        let sentence = if !view.state.may_run_plugins() {
            format!("{name} stops; it does not run the plugins")
        } else if keep_duty {
            format!("{name} stops its plugins and ends without handing the duty over")
        } else if let Some(why) = &view.switchover_blocked {
            format!("{name} stops its plugins and ends; the duty cannot be handed over: {why}")
        } else {
            format!("{name} hands the duty over and stops")
        };
        Ok(Response::new(wire::StopResponse { sentence }))
    }

    async fn set_maintenance(
        &self,
        request: Request<wire::SetMaintenanceRequest>,
    ) -> Result<Response<wire::SetMaintenanceResponse>, Status> {
        let by = self.caller(&request);
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
        let input = Input::MaintenanceCleared { by: self.caller(&request) };
        let view = ask_and_see(&self.operators, input, |view| view.maintenance.window.is_none()).await?;
        let maintenance = Some(view.maintenance.clone().into());
        Ok(Response::new(wire::ClearMaintenanceResponse { maintenance }))
    }

    async fn take_over(
        &self,
        request: Request<wire::TakeOverRequest>,
    ) -> Result<Response<wire::TakeOverResponse>, Status> {
        let request = request_id(request.into_inner().request_id)?;
        let input = Input::TakeoverRequested { request: request.clone() };
        let event =
            ask_and_wait(&self.operators, &self.journal, (&request, input), |_any| true, TAKEOVER_ANSWER)
                .await?;
        if event.code == EventCode::RequestRefused {
            return Err(with_reason(Code::FailedPrecondition, REFUSED, event.sentence));
        }
        Ok(Response::new(wire::TakeOverResponse { sentence: event.sentence }))
    }
}

impl Failover {
    fn status(&self) -> wire::NodeStatus {
        let now = WallAnchor { boot: self.operators.now().boot, unix_ms: self.operators.unix_millis() };
        let view = Arc::clone(&self.operators.view().borrow());
        let plugins = Arc::clone(&self.plugins.borrow());
        let mut status = wire::NodeStatus::from(StatusParts {
            view: &view,
            report: &self.operators.report(),
            plugins: &plugins,
            rejected: &self.operators.rejected(),
            now,
            started: self.started,
        });
        status.warnings.extend(journal_warning(&self.journal.health().borrow()));
        status
    }

    /// Sends the status now, after every change, and at least once in `heartbeat`.
    async fn watch(
        mut self,
        watcher: mpsc::Sender<Result<wire::WatchStatusResponse, Status>>,
        heartbeat: Duration,
    ) {
        let mut views = self.operators.view();
        let mut health = self.journal.health();
        loop {
            let answer = wire::WatchStatusResponse { status: Some(self.status()) };
            let _ = views.borrow_and_update();
            if watcher.send(Ok(answer)).await.is_err() {
                return;
            }
            let earliest = Instant::now() + WATCH_PAUSE;
            let latest = Instant::now() + heartbeat;
            // Cancel-safe: a change that is not seen here is in the next status all the same.
            tokio::select! {
                changed = views.changed() => if changed.is_err() { break },
                Ok(()) = self.plugins.changed() => {}
                Ok(()) = health.changed() => {}
                () = sleep_until(latest) => {}
                () = watcher.closed() => return,
                () = self.stop.cancelled() => break,
            }
            sleep_until(earliest).await;
        }
        let _ = watcher.try_send(Err(Status::unavailable("the node is stopping")));
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

impl Failover {
    /// Who asks. Behind a forwarder the socket's caller is the forwarder, and it says for whom it asks.
    fn caller<T>(&self, request: &Request<T>) -> String {
        let told = request.metadata().get(CALLER).filter(|_| self.behind_forwarder);
        let told = told.and_then(|told| told.to_str().ok()).filter(|told| told.len() <= LONGEST_CALLER);
        told.map_or_else(|| caller(request.extensions()), str::to_owned)
    }
}

/// The kernel's word for who is at the other end of a connection.
pub(crate) fn caller(connection: &http::Extensions) -> String {
    let credentials =
        connection.get::<tonic::transport::server::UdsConnectInfo>().and_then(|info| info.peer_cred);
    match credentials {
        Some(who) => {
            let user = nix::unistd::User::from_uid(who.uid().into()).ok().flatten();
            user.map_or_else(|| format!("user id {}", who.uid()), |user| user.name)
        }
        None => "the node's socket".to_owned(),
    }
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
