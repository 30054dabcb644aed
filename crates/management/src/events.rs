//! `EventsService`: the journal for operators.

use std::sync::Arc;

use journal::{Entry, JournalHandle, ListError};
use onduty_api::events::Record;
use onduty_api::wire::events::v1::events_service_server::EventsService;
use onduty_api::wire::events::v1::{
    ListEventsRequest, ListEventsResponse, WatchEventsRequest, WatchEventsResponse,
};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

use crate::stream::{Answers, answers};

/// Events on their way to one watcher. When full the journal's own queue takes them, and a watcher that falls behind
/// that as well is ended.
const TO_WATCHER: usize = 64;

/// Events of a list that are made ready in one go, in a tenth of a millisecond. Ten thousand took four, on a thread that has
/// the heartbeats to carry, too.
const PIECE: usize = 256;

/// The service.
pub(crate) struct Events {
    pub(crate) journal: JournalHandle,
    pub(crate) stop: CancellationToken,
}

#[tonic::async_trait]
impl EventsService for Events {
    type WatchEventsStream = Answers<WatchEventsResponse>;

    async fn list_events(
        &self,
        request: Request<ListEventsRequest>,
    ) -> Result<Response<ListEventsResponse>, Status> {
        let ListEventsRequest { after, limit } = request.into_inner();
        let entries = self.entries(after, limit).await?;
        let mut events = Vec::with_capacity(entries.len());
        for piece in entries.chunks(PIECE) {
            events.extend(piece.iter().map(|entry| wire(entry)));
            tokio::task::yield_now().await;
        }
        Ok(Response::new(ListEventsResponse { events }))
    }

    async fn watch_events(
        &self,
        request: Request<WatchEventsRequest>,
    ) -> Result<Response<Self::WatchEventsStream>, Status> {
        let WatchEventsRequest { after, backlog } = request.into_inner();
        // Subscribed before the list is read, so that nothing falls between the two.
        let mut news = self.journal.subscribe();
        let old = if backlog == 0 { Vec::new() } else { self.entries(after, backlog).await? };
        let (watcher, last_word, stream) = answers(TO_WATCHER);
        let stop = self.stop.clone();
        let _detached = tokio::spawn(async move {
            let mut last = old.iter().map(|entry| entry.number).max().unwrap_or(0).max(after);
            let sending = async {
                for entry in &old {
                    send(&watcher, entry).await?;
                }
                loop {
                    match news.recv().await {
                        // Not journalled entries have no number, and are never in the list.
                        Ok(entry) if entry.number == 0 || entry.number > last => {
                            last = last.max(entry.number);
                            send(&watcher, &entry).await?;
                        }
                        Ok(_already_sent) => {}
                        Err(RecvError::Lagged(missed)) => {
                            let text = format!("the watcher was too slow and has missed {missed} events");
                            return Err(Status::data_loss(text));
                        }
                        Err(RecvError::Closed) => return Err(stopping()),
                    }
                }
            };
            let ended: Result<(), Status> = tokio::select! {
                ended = sending => ended,
                () = watcher.closed() => return,
                () = stop.cancelled() => Err(stopping()),
            };
            if let Err(status) = ended {
                last_word.say(status);
            }
        });
        Ok(Response::new(stream))
    }
}

impl Events {
    async fn entries(&self, after: u64, limit: u32) -> Result<Vec<Arc<Entry>>, Status> {
        self.journal
            .list(after, limit)
            .await
            .map_err(|error @ ListError::TooMany(_)| Status::invalid_argument(error.to_string()))
    }
}

fn stopping() -> Status {
    Status::unavailable("the node is stopping")
}

async fn send(
    watcher: &mpsc::Sender<Result<WatchEventsResponse, Status>>,
    entry: &Entry,
) -> Result<(), Status> {
    let answer = WatchEventsResponse { event: Some(wire(entry)) };
    watcher.send(Ok(answer)).await.map_err(|_gone| Status::cancelled("the watcher has left"))
}

fn wire(entry: &Entry) -> onduty_api::wire::events::v1::Event {
    Record {
        number: entry.number,
        unix_ms: entry.unix_ms,
        node: entry.node.clone(),
        event: entry.event.clone(),
        chain: entry.chain,
    }
    .into()
}
