//! One connection: TLS, then HTTP/2 with one call, then nothing. Whatever happens on it stays in its own task.
//!
//! ```text
//!   accepted ─ TLS ─ HTTP/2 ─ Hello … proof ─┬─ session … ─ goodbye
//!   └─ DEADLINE, Meter, may be evicted ──────┘
//! ```

use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use certificate_trust::{ChannelBinding, Der, TlsError, shown_by_client};
use hyper::server::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::service::TowerToHyperService;
use onduty_api::MAX_LINK_MESSAGE;
use onduty_api::wire::heartbeat::v1 as wire;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};
use wire::heartbeat_service_server::{HeartbeatService, HeartbeatServiceServer};

use crate::meter::{MOST, Meter};
use crate::service::Shared;
use crate::session::{self, Call, OUTBOX};
use crate::waiting::Place;

/// From accepted to proved. Everything before is a stranger's time.
pub(crate) const DEADLINE: Duration = Duration::from_secs(5);
/// How long the last frames may take to leave when a connection ends.
const GOODBYE: Duration = Duration::from_secs(1);
/// What a peer may send before we have read it, per call and per connection. A report is about 1 KiB.
const WINDOW: u32 = 64 * 1024;
/// The smallest that HTTP/2 allows (RFC 9113 §4.2).
const FRAME: u32 = 16 * 1024;
/// Our own client sends about 300 bytes of headers.
const HEADERS: u32 = 4 * 1024;
/// What may wait here for a peer that does not read.
const SEND_BUFFER: usize = 64 * 1024;
/// Calls that were opened and reset before we looked at them, and calls we reset ourselves (CVE-2023-44487 and its
/// kin): our own client never does either, so few are enough; one more ends the connection.
const RESETS: usize = 8;

/// Serves one connection until it ends.
pub(crate) async fn serve<IO>(shared: Arc<Shared>, io: IO, peer: SocketAddr, place: Place)
where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let deadline = Instant::now() + DEADLINE;
    let evicted = place.evicted().clone();
    let proved = CancellationToken::new();
    let (io, exceeded) = Meter::new(io, proved.clone());
    let accepted = tokio::select! {
        biased;
        () = shared.stop.cancelled() => return,
        () = evicted.cancelled() => return evict(&shared, peer),
        accepted = tokio::time::timeout_at(deadline, shared.acceptor.accept(io)) => accepted,
    };
    match accepted {
        Ok(Ok((tls, binding))) => {
            let shown = shown_by_client(&tls).into();
            let stranger = Stranger { peer, shown, place, deadline, proved, exceeded };
            serve_http(&shared, tls, binding, stranger).await;
        }
        Ok(Err(_cut_off)) if exceeded.load(Ordering::Relaxed) => too_much(&shared, peer),
        Ok(Err(error)) => refuse_tls(&shared, peer, &error),
        Err(_elapsed) => time_out(&shared, peer),
    }
}

/// Who it is, and what ends its time.
struct Stranger {
    peer: SocketAddr,
    /// Its certificates, if it was asked for them.
    shown: Arc<[Der]>,
    place: Place,
    deadline: Instant,
    /// Cancelled when it is one no more.
    proved: CancellationToken,
    /// It has said too much.
    exceeded: Arc<AtomicBool>,
}

async fn serve_http<IO>(shared: &Arc<Shared>, tls: IO, binding: ChannelBinding, stranger: Stranger)
where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let Stranger { peer, shown, place, deadline, proved, exceeded } = stranger;
    let evicted = place.evicted().clone();
    // Given up when it is no stranger any more, or has gone: also while it is shown out.
    let mut place = Some(place);
    let over = CancellationToken::new();
    let gone = CancellationToken::new();
    // However this task ends, the session on the connection ends with it.
    let _gone_at_the_end = gone.clone().drop_guard();
    let call = Call { peer, binding, shown, proved: proved.clone(), over: over.clone(), gone };
    let service = One { shared: Arc::clone(shared), call, taken: AtomicBool::new(false) };
    let service = HeartbeatServiceServer::new(service)
        .max_decoding_message_size(MAX_LINK_MESSAGE)
        .max_encoding_message_size(MAX_LINK_MESSAGE);
    let http = http().serve_connection(TokioIo::new(tls), TowerToHyperService::new(service));
    let mut http = pin!(http);
    loop {
        // Polling the connection again after another branch is what HTTP/2 expects; tokens are cancel-safe.
        tokio::select! {
            biased;
            ended = http.as_mut() => {
                if exceeded.load(Ordering::Relaxed) {
                    too_much(shared, peer);
                } else if let Err(error) = ended {
                    ended_badly(shared, peer, proved.is_cancelled(), &error);
                }
                return;
            }
            () = over.cancelled() => break,
            () = shared.stop.cancelled(), if !proved.is_cancelled() => return,
            () = evicted.cancelled(), if !proved.is_cancelled() => return evict(shared, peer),
            () = tokio::time::sleep_until(deadline), if !proved.is_cancelled() => return time_out(shared, peer),
            // Turns the three branches above off.
            () = proved.cancelled(), if place.is_some() => place = None,
        }
    }
    // The call may have seen the end of its connection first.
    if exceeded.load(Ordering::Relaxed) {
        return too_much(shared, peer);
    }
    http.as_mut().graceful_shutdown();
    // A peer that does not read its goodbye has had its time, and a stranger gives way to the next meanwhile.
    tokio::select! {
        biased;
        () = evicted.cancelled(), if place.is_some() => {}
        _ended = tokio::time::timeout(GOODBYE, http) => {}
    }
}

/// HTTP/2 with limits for strangers.
fn http() -> http2::Builder<TokioExecutor> {
    let mut http = http2::Builder::new(TokioExecutor::new());
    http.max_concurrent_streams(1)
        .initial_stream_window_size(WINDOW)
        .initial_connection_window_size(WINDOW)
        .max_frame_size(FRAME)
        .max_header_list_size(HEADERS)
        .max_send_buf_size(SEND_BUFFER)
        .max_pending_accept_reset_streams(RESETS)
        .max_local_error_reset_streams(RESETS);
    http
}

/// The service of one connection: it takes one call.
struct One {
    shared: Arc<Shared>,
    call: Call,
    taken: AtomicBool,
}

#[tonic::async_trait]
impl HeartbeatService for One {
    type SessionStream = ReceiverStream<Result<wire::SessionResponse, Status>>;

    async fn session(
        &self,
        request: Request<Streaming<wire::SessionRequest>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        if self.taken.swap(true, Ordering::Relaxed) {
            return Err(Status::failed_precondition("one connection carries one session"));
        }
        let (outbox, frames) = mpsc::channel(OUTBOX);
        let run = session::run(Arc::clone(&self.shared), self.call.clone(), request.into_inner(), outbox);
        self.shared.tasks.spawn(run);
        Ok(Response::new(ReceiverStream::new(frames)))
    }
}

fn evict(shared: &Shared, peer: SocketAddr) {
    let sentence = format!("a connection from {} gave way to newer ones before it proved the key", peer.ip());
    shared.link.reject("evicted", sentence);
}

fn time_out(shared: &Shared, peer: SocketAddr) {
    let sentence = format!("a connection from {} did not prove the key within {DEADLINE:?}", peer.ip());
    shared.link.reject("timeout", sentence);
}

fn too_much(shared: &Shared, peer: SocketAddr) {
    let sentence = format!("{} said more than {MOST} bytes and did not prove the key", peer.ip());
    shared.link.reject("garbage", sentence);
}

/// Only what somebody *said* is a rejection: port checks and probes connect and leave, all day long.
fn refuse_tls(shared: &Shared, peer: SocketAddr, error: &TlsError) {
    let from = peer.ip();
    match error {
        TlsError::Closed | TlsError::Io(_) | TlsError::Stopping => {
            tracing::debug!(%from, %error, "a connection left before the TLS handshake was done");
        }
        TlsError::NotTls => {
            shared.link.reject("garbage", format!("what came from {from} was not TLS"));
        }
        TlsError::RefusedByPeer { .. }
        | TlsError::Version(_)
        | TlsError::Alpn
        | TlsError::Resumed
        | TlsError::BadSignature
        | TlsError::BadHost { .. }
        | TlsError::NoCertificate
        | TlsError::Certificate { .. }
        | TlsError::Store(_)
        | TlsError::Handshake { .. } => {
            shared.link.reject("tls", format!("the TLS handshake with {from} failed: {error}"));
        }
    }
}

fn ended_badly(shared: &Shared, peer: SocketAddr, proved: bool, error: &hyper::Error) {
    let from = peer.ip();
    if proved || is_broken_connection(error) {
        tracing::debug!(%from, %error, "a connection broke");
    } else {
        shared.link.reject("garbage", format!("what came from {from} was not the onduty protocol"));
    }
}

/// Whether the connection is gone, rather than that something wrong came over it.
fn is_broken_connection(error: &hyper::Error) -> bool {
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        if let Some(h2) = error.downcast_ref::<h2::Error>() {
            return h2.is_io() || h2.reason() == Some(h2::Reason::NO_ERROR);
        }
        if error.is::<std::io::Error>() {
            return true;
        }
        cause = error.source();
    }
    false
}
