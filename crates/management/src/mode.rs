//! `GetMode` and `SetMode`: the mode of the running node. What the settings say of it, and where it is kept, is the business
//! of whoever reads the settings; management is given functions.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use failover_core::{Event, EventCode, Input, Mode, RequestId, Severity};
use onduty_api::errors::with_reason;
use onduty_api::types::mode;
use onduty_api::wire::failover::v1 as wire;
use onduty_api::wire::types::v1 as types;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::timeout;
use tonic::{Code, Status};

use crate::failover::{Failover, REFUSED};
use crate::requests::{News, answered, ask, request_id, wait_for};

/// A new role begins at once; a deactivation waits until the peer has heard of it, which takes a few heartbeats.
const LONGEST_CHANGE: Duration = Duration::from_secs(120);

/// How long the files of the settings may take; the disk may be one that does not answer.
const FILES: Duration = Duration::from_secs(10);

type Check = dyn Fn(Mode) -> Result<(), String> + Send + Sync;

/// What the settings have to do with the mode.
#[derive(Clone)]
pub struct ModeSettings {
    /// The mode that this run began with.
    pub mode: Mode,
    /// Where that comes from.
    pub source: String,
    /// Where a mode that is changed in this run is kept.
    pub kept_in: String,
    /// What stands against a change at run time; `None`: nothing.
    pub locked_by: Option<String>,
    /// Whether the settings could bear this mode, as they are in the files now. May read files.
    pub bear: Arc<Check>,
    /// Keeps this mode over a restart. May write files.
    pub keep: Arc<Check>,
}

impl fmt::Debug for ModeSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ModeSettings")
            .field("source", &self.source)
            .field("locked_by", &self.locked_by)
            .finish_non_exhaustive()
    }
}

impl Failover {
    pub(crate) fn mode_in_force(&self) -> wire::GetModeResponse {
        let view = Arc::clone(&self.operators.view().borrow());
        wire::GetModeResponse {
            mode: types::Mode::from(view.mode) as i32,
            source: if view.mode == self.mode.mode { &self.mode.source } else { &self.mode.kept_in }.clone(),
            locked_by: self.mode.locked_by.clone().unwrap_or_default(),
        }
    }

    pub(crate) async fn change_mode(
        self,
        request: wire::SetModeRequest,
    ) -> Result<wire::SetModeResponse, Status> {
        let wire::SetModeRequest { request_id: given, mode: wanted, force } = request;
        let wanted = mode(wanted).map_err(|_unknown| {
            Status::invalid_argument("`mode` must be primary, secondary or deactivated")
        })?;
        let named = !given.is_empty();
        let request = request_id(given)?;
        let place = Arc::new(self.place_to_wait()?);
        let news = self.journal.subscribe();
        if named && let Some(event) = answered(&self.journal, &request, ends_a_change).await {
            self.keep(wanted, &event.sentence, &place).await?;
            return changed(request, wanted, event);
        }
        if let Some(lock) = &self.mode.locked_by {
            return Err(refused(lock.clone()));
        }
        if self.operators.view().borrow().mode == wanted {
            let sentence = format!("the mode is {wanted} already");
            self.keep(wanted, &sentence, &place).await?;
            return Ok(wire::SetModeResponse { request_id: String::new(), sentence, starts_anew: false });
        }
        off_the_runtime(&self.mode.bear, wanted, &place).await.map_err(refused)?;
        // In a task of its own: a caller that leaves must not leave a mode that is in force and not kept.
        let change = tokio::spawn(async move { self.carry_out(news, request, wanted, force, &place).await });
        change.await.map_err(|_broken| Status::internal("changing the mode broke"))?
    }

    async fn carry_out(
        &self,
        news: News,
        request: RequestId,
        wanted: Mode,
        force: bool,
        place: &Arc<OwnedSemaphorePermit>,
    ) -> Result<wire::SetModeResponse, Status> {
        let input = Input::ModeRequested { request: request.clone(), mode: wanted, force };
        ask(&self.operators, input).await?;
        let event = wait_for(news, &request, ends_a_change, LONGEST_CHANGE).await?;
        self.keep(wanted, &event.sentence, place).await?;
        changed(request, wanted, event)
    }

    /// Keeps a mode that this run has changed to and is in. A new role is kept by whoever starts anew.
    async fn keep(
        &self,
        wanted: Mode,
        sentence: &str,
        place: &Arc<OwnedSemaphorePermit>,
    ) -> Result<(), Status> {
        let in_force = self.operators.view().borrow().mode == wanted;
        if !in_force || wanted.role().is_some() || self.mode.mode == wanted {
            return Ok(());
        }
        let Err(why) = off_the_runtime(&self.mode.keep, wanted, place).await else { return Ok(()) };
        let before = self.mode.mode;
        // The caller may have left, and whoever starts the node next must find it.
        self.journal.record(Event::plain(
            EventCode::StorageDegraded,
            Severity::Error,
            format!("Mode {wanted} is in force and could not be kept: the next start brings {before} back ({why})."),
        ));
        Err(Status::internal(format!(
            "{sentence}; but it could not be kept, so the next start brings the mode of before: {why}"
        )))
    }
}

/// The events that answer a request for another mode.
fn ends_a_change(code: EventCode) -> bool {
    [EventCode::ModeChanged, EventCode::RequestRefused].contains(&code)
}

fn changed(request: RequestId, wanted: Mode, event: Event) -> Result<wire::SetModeResponse, Status> {
    if event.code == EventCode::RequestRefused {
        return Err(refused(event.sentence));
    }
    let starts_anew = wanted.role().is_some();
    Ok(wire::SetModeResponse { request_id: request.0, sentence: event.sentence, starts_anew })
}

fn refused(why: String) -> Status {
    with_reason(Code::FailedPrecondition, REFUSED, why)
}

/// Reads or writes files, or says why not. A thread that a disk holds for longer keeps its place among the calls that wait,
/// so that callers who ask again and again do not use up the threads.
async fn off_the_runtime(
    check: &Arc<Check>,
    mode: Mode,
    place: &Arc<OwnedSemaphorePermit>,
) -> Result<(), String> {
    let (check, place) = (Arc::clone(check), Arc::clone(place));
    let done = tokio::task::spawn_blocking(move || {
        let _place = place;
        check(mode)
    });
    match timeout(FILES, done).await {
        Ok(Ok(outcome)) => outcome,
        Ok(Err(_broken)) => Err("reading or writing the settings broke".to_owned()),
        Err(_elapsed) => Err("the files of the settings do not answer within 10 s".to_owned()),
    }
}
