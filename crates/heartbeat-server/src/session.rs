//! One call: the handshake, then beats until either end has enough.
//!
//! ```text
//!   beat arrives ─► Ledger ─► LinkHandle::tell ─┐
//!   Effect::Announce (Outgoing.announce grows) ─┴─► due ─► room in the outbox? ─► stamp, echo, newest report ─► peer
//! ```
//!
//! A beat is made at the moment there is room for it, so that nothing old ever waits: a peer that does not read gets
//! fewer beats, not late ones, and in the end none.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use certificate_trust::{ChannelBinding, Der, KeyRing};
use duty::Outgoing;
use failover_core::{Input, SessionId, Via};
use onduty_api::heartbeat::{DialFrame, Ledger, ListenFrame, TestAnswer};
use onduty_api::wire::heartbeat::v1::{SessionRequest, SessionResponse};
use service_kit::latest::Latest;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tonic::{Status, Streaming};

use crate::handshake::{self, Failure, Proved, ProvedKey};
use crate::service::Shared;

/// Frames that wait for HTTP/2: the two of the handshake. When full a beat stays due and is made later.
pub(crate) const OUTBOX: usize = 2;
/// How long the answer to a failed attempt is held back. Well below the shortest deadline of a dial (200 ms), so that an
/// honest node with a wrong key learns the reason.
const FAILED_ANSWER_DELAY: Duration = Duration::from_millis(50);
/// How long a beat may be due without room for it before the session is given up.
const STUCK: Duration = Duration::from_secs(5);
/// How long the reason for the end of a session may wait for room.
const LAST_WORD: Duration = Duration::from_secs(1);
/// A session without a beat for this long, or for four of the peer's takeover times, is over.
const IDLE: Duration = Duration::from_secs(60);

/// What a call knows of its connection.
#[derive(Clone)]
pub(crate) struct Call {
    pub(crate) peer: SocketAddr,
    pub(crate) binding: ChannelBinding,
    /// The certificates that the peer has shown, because it was asked for them.
    pub(crate) shown: Arc<[Der]>,
    /// Cancelled by the call when the key is proved: the connection then has no deadline any more.
    pub(crate) proved: CancellationToken,
    /// Cancelled by the call when it is over: the connection then says goodbye.
    pub(crate) over: CancellationToken,
    /// Cancelled by the connection when it has ended.
    pub(crate) gone: CancellationToken,
}

type Inbox = Streaming<SessionRequest>;
type Outbox = mpsc::Sender<Result<SessionResponse, Status>>;

/// Runs one call to its end.
pub(crate) async fn run(shared: Arc<Shared>, call: Call, mut inbox: Inbox, outbox: Outbox) {
    let _over_at_the_end = call.over.clone().drop_guard();
    let from = call.peer.ip();
    let authenticated = tokio::select! {
        biased;
        () = call.gone.cancelled() => return,
        authenticated = handshake::authenticate(&shared, &call, &mut inbox, &outbox) => authenticated,
    };
    match authenticated {
        Ok(proved) => {
            call.proved.cancel();
            shared.waiting.proved(proved.hello.path, from);
            serve(&shared, &call, proved, &mut inbox, &outbox).await;
        }
        Err(Failure::Gone) => {}
        Err(Failure::Refused { code, sentence, answer }) => {
            shared.link.reject(code, sentence);
            let answered = async {
                tokio::time::sleep(FAILED_ANSWER_DELAY).await;
                let _ = outbox.send(Err(*answer)).await;
            };
            tokio::select! {
                biased;
                () = call.gone.cancelled() => {}
                () = answered => {}
            }
        }
    }
}

async fn serve(shared: &Shared, call: &Call, proved: Proved, inbox: &mut Inbox, outbox: &Outbox) {
    let Proved { hello, key, answer } = proved;
    let ledger = Ledger::new(hello.identity.clone());
    if outbox.send(Ok(ListenFrame::Proof(answer).into())).await.is_err() {
        return;
    }
    if hello.test_only {
        return answer_test(shared, ledger, outbox).await;
    }
    let _counts = shared.keys.begin_use(key.fingerprint);
    let ticket = shared.link.begin_session();
    let session = ticket.id;
    let peer = hello.identity;
    let remote = call.peer.ip().to_canonical().to_string();
    let via = Via { path: hello.path, paths: hello.paths, remote, dialled: false };
    tracing::info!(
        peer = %peer.name, from = %call.peer, path = %via.path, session = session.0, key = ?key.slot,
        "a session was proved"
    );
    let proved = Input::SessionProved { session, via, peer, role: hello.role, mode: hello.mode };
    let told = shared.link.tell(proved);
    if told.await.is_err() {
        let _ = outbox.try_send(Err(stopping()));
        return;
    }
    // A node that is not wanted must not get a beat first: it would take itself for the other half of the pair.
    tokio::select! {
        biased;
        () = ticket.decided.cancelled() => {}
        () = call.gone.cancelled() => {}
        () = shared.stop.cancelled() => {}
    }
    let mut beats = Beats { shared, ledger, outgoing: shared.link.outgoing(), outbox, due: true };
    let End { cause, status } = tokio::select! {
        biased;
        () = call.gone.cancelled() => gone(),
        end = replaced(shared.keys.clone(), &key) => end,
        end = beats.exchange(session, &ticket.closed, inbox) => end,
    };
    tracing::info!(session = session.0, %cause, "a session ended");
    // Err: the driver has ended, and so will everything else.
    let _ = shared.link.tell(Input::SessionEnded { session, cause }).await;
    if let Some(status) = status {
        // The answers before it may still be on their way: the reason is worth a moment, a peer that does not read is not.
        let _ = tokio::time::timeout(LAST_WORD, outbox.send(Err(status))).await;
    }
}

/// Waits until a session with this key is to make room for one with another. Cancel-safe.
async fn replaced(mut keys: KeyRing, proved: &ProvedKey) -> End {
    let mut later = keys.clone();
    tokio::select! {
        () = keys.outlived(proved.fingerprint) => {
            End::unavailable("its key is not accepted any more")
        }
        // What the dialling node would rather use may be known here now.
        () = later.later_than(proved.revision), if !proved.is_first_choice => {
            End::unavailable("the keys have changed")
        }
    }
}

/// A connection test is owed one beat, and changes nothing.
async fn answer_test(shared: &Shared, mut ledger: Ledger, outbox: &Outbox) {
    let report = shared.link.outgoing().get().report;
    let beat = ledger.next(shared.clock.boot(), (*report).clone());
    // Err: the tester has left.
    let _ = outbox.send(Ok(TestAnswer::frame(beat, shared.clock.unix_millis()))).await;
}

fn stopping() -> Status {
    Status::unavailable("this node stops")
}

/// How a session ended: for our people, and for the peer.
struct End {
    cause: String,
    status: Option<Status>,
}

impl End {
    fn refused(cause: String) -> Self {
        let status = Status::invalid_argument(cause.clone());
        Self { cause, status: Some(status) }
    }

    fn unavailable(cause: &str) -> Self {
        Self { cause: cause.to_owned(), status: Some(Status::unavailable(cause)) }
    }
}

/// Both directions of a proved session.
struct Beats<'a> {
    shared: &'a Shared,
    ledger: Ledger,
    outgoing: Latest<Outgoing>,
    outbox: &'a Outbox,
    /// A beat is owed to the peer.
    due: bool,
}

impl Beats<'_> {
    /// Receives, tells, acknowledges and announces until something ends the session.
    async fn exchange(&mut self, session: SessionId, closed: &CancellationToken, inbox: &mut Inbox) -> End {
        let mut announced = self.outgoing.take().announce;
        let mut due_since = Instant::now();
        let mut heard = Instant::now();
        let mut patience = IDLE;
        loop {
            // Every branch is cancel-safe: a permit not taken is given back, a message half received stays in `inbox`.
            tokio::select! {
                biased;
                () = closed.cancelled() => {
                    let status = Status::aborted("the other node has closed this session");
                    return End { cause: "closed by this node".to_owned(), status: Some(status) };
                }
                () = self.shared.stop.cancelled() => return self.part(),
                permit = self.outbox.reserve(), if self.due => match permit {
                    Ok(permit) => {
                        permit.send(Ok(next_frame(self.shared, &mut self.ledger, &self.outgoing)));
                        self.due = false;
                    }
                    Err(_closed) => return gone(),
                },
                () = tokio::time::sleep_until(due_since + STUCK), if self.due => {
                    return End { cause: format!("the peer has read nothing for {STUCK:?}"), status: None };
                }
                () = tokio::time::sleep_until(heard + patience) => {
                    let cause = format!("no heartbeat for {patience:?}");
                    return End { status: Some(Status::deadline_exceeded(cause.clone())), cause };
                }
                changed = self.outgoing.changed() => {
                    if changed.is_err() {
                        return self.part();
                    }
                    let announce = self.outgoing.take().announce;
                    if announce != announced {
                        announced = announce;
                        self.owe(&mut due_since);
                    }
                }
                message = inbox.message() => {
                    heard = Instant::now();
                    match self.receive(session, message).await {
                        Ok(takeover_after) => patience = IDLE.max(takeover_after * 4),
                        Err(end) => return end,
                    }
                    self.owe(&mut due_since);
                }
            }
        }
    }

    fn owe(&mut self, since: &mut Instant) {
        if !self.due {
            self.due = true;
            *since = Instant::now();
        }
    }

    /// Hands one message to the driver; returns the peer's takeover time.
    async fn receive(
        &mut self,
        session: SessionId,
        message: Result<Option<SessionRequest>, Status>,
    ) -> Result<Duration, End> {
        let request = match message {
            Ok(Some(request)) => request,
            Ok(None) => return Err(End { cause: "the peer ended it".to_owned(), status: None }),
            Err(status) => {
                let cause = format!("the connection broke: {}", status.message());
                return Err(End { cause, status: None });
            }
        };
        let beat = match DialFrame::try_from(request) {
            Ok(DialFrame::Beat(beat)) => beat,
            Ok(DialFrame::Hello(_) | DialFrame::Proof(_)) => {
                return Err(End::refused("the peer began a second handshake".to_owned()));
            }
            Err(invalid) => return Err(End::refused(format!("the peer sent an invalid message: {invalid}"))),
        };
        if let Err(disorder) = self.ledger.receive(&beat) {
            return Err(End::refused(format!("the peer sent a beat out of order: {disorder}")));
        }
        let takeover_after = beat.report.timings.takeover_after;
        let told = self.shared.link.tell(Input::BeatArrived { session, beat }).await;
        told.map(|()| takeover_after).map_err(|_gone| self.part())
    }

    /// The last words: what the driver last wanted the peer to know, then the end.
    fn part(&mut self) -> End {
        if let Ok(permit) = self.outbox.try_reserve() {
            permit.send(Ok(next_frame(self.shared, &mut self.ledger, &self.outgoing)));
        }
        End { cause: "this node stops".to_owned(), status: Some(stopping()) }
    }
}

fn gone() -> End {
    End { cause: "the connection broke".to_owned(), status: None }
}

fn next_frame(shared: &Shared, ledger: &mut Ledger, outgoing: &Latest<Outgoing>) -> SessionResponse {
    // Not marked as seen: whether it was an announcement is for the loop to find.
    let report = outgoing.get().report;
    ListenFrame::Beat(Box::new(ledger.next(shared.clock.boot(), (*report).clone()))).into()
}
