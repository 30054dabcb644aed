//! Asking the machine for something and waiting for what it says about it.
//!
//! A request is an input with an id; its answer is the event with the same id. The subscription is made before the
//! request is handed over, so the answer cannot be missed. A request that was answered before (the caller gives the same id
//! again, because it did not hear the answer) is answered from the journal and not carried out a second time.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use duty::OperatorHandle;
use failover_core::{Event, EventCode, Input, RequestId, View};
use journal::{Entry, JournalHandle};
use tokio::sync::broadcast::{self, error::RecvError};
use tokio::time::timeout;
use tonic::Status;

/// How long the driver may take to show the effect of a request that it carries out at once.
const AT_ONCE: Duration = Duration::from_secs(5);

/// Names a request: as the caller did, or with 16 random hexadecimal digits.
pub(crate) fn request_id(given: String) -> Result<RequestId, Status> {
    if given.chars().take(65).count() > 64 {
        return Err(Status::invalid_argument("`request_id` must have at most 64 characters"));
    }
    if !given.is_empty() {
        return Ok(RequestId(given));
    }
    let mut random = [0; 8];
    getrandom::fill(&mut random).map_err(|error| Status::internal(format!("no random bytes: {error}")))?;
    Ok(RequestId(random.iter().map(|byte| format!("{byte:02x}")).collect()))
}

/// How far back an answer given before is looked for, in events.
const ANSWERS_KEPT: u32 = 1000;

/// What is told from now on.
pub(crate) type News = broadcast::Receiver<Arc<Entry>>;

/// The answer that this request got before, if it is among the newest events. Subscribe first: then an answer that comes
/// meanwhile is either found here or told.
pub(crate) async fn answered(
    journal: &JournalHandle,
    request: &RequestId,
    wanted: impl Fn(EventCode) -> bool,
) -> Option<Event> {
    // A journal that cannot be read now has no answers; then the request is carried out as a new one.
    let entries = journal.list(0, ANSWERS_KEPT).await.unwrap_or_default();
    let mut events = entries.iter().map(|entry| &entry.event);
    events.find(|event| event.request.as_ref() == Some(request) && wanted(event.code)).cloned()
}

/// The requests that this process has handed over, newest last. A move that has begun is not in the view in each of its
/// phases; a request that is in here and not answered is under way.
#[derive(Clone, Debug, Default)]
pub(crate) struct Asked(Arc<Mutex<VecDeque<RequestId>>>);

/// More than can be under way at once; the oldest goes.
const ASKED_KEPT: usize = 16;

impl Asked {
    /// Whether it was handed over before.
    pub(crate) fn knows(&self, request: &RequestId) -> bool {
        self.0.lock().is_ok_and(|asked| asked.contains(request))
    }

    /// Notes it.
    pub(crate) fn note(&self, request: &RequestId) {
        // A poisoned lock is not possible: nothing panics while it is held.
        if let Ok(mut asked) = self.0.lock() {
            if asked.len() == ASKED_KEPT {
                let _oldest = asked.pop_front();
            }
            asked.push_back(request.clone());
        }
    }
}

/// Waits for an event of this request that `wanted` accepts, at most `limit` long.
pub(crate) async fn wait_for(
    mut news: News,
    request: &RequestId,
    wanted: impl Fn(EventCode) -> bool,
    limit: Duration,
) -> Result<Event, Status> {
    let answer = async {
        loop {
            match news.recv().await {
                Ok(entry) if entry.event.request.as_ref() == Some(request) && wanted(entry.event.code) => {
                    return Ok(entry.event.clone());
                }
                Ok(_) | Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => return Err(stopping()),
            }
        }
    };
    timeout(limit, answer).await.map_err(|_elapsed| Status::deadline_exceeded("it is still under way"))?
}

/// Hands `input` over and waits until the view shows what `shown` looks for.
pub(crate) async fn ask_and_see(
    operators: &OperatorHandle,
    input: Input,
    shown: impl Fn(&View) -> bool,
) -> Result<Arc<View>, Status> {
    let mut views = operators.view();
    ask(operators, input).await?;
    let seen = timeout(AT_ONCE, views.wait_for(|view| shown(view)))
        .await
        .map_err(|_elapsed| Status::deadline_exceeded("the node has not carried it out within 5 s"))?
        .map_err(|_closed| stopping())?;
    Ok(Arc::clone(&seen))
}

/// Hands `input` over.
pub(crate) async fn ask(operators: &OperatorHandle, input: Input) -> Result<(), Status> {
    timeout(AT_ONCE, operators.ask(input))
        .await
        .map_err(|_elapsed| Status::resource_exhausted("the node is too busy to take the request"))?
        .map_err(|_gone| stopping())
}

fn stopping() -> Status {
    Status::unavailable("the node is stopping")
}
