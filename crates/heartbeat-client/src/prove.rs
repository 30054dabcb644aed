//! The dialling node's part of the first four messages, over an HTTP/2 connection of its own.

use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

use certificate_trust::proof::{self, Transcript};
use certificate_trust::{ChannelBinding, KeyFingerprint, KeyRing, KeySlot};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use onduty_api::MAX_LINK_MESSAGE;
use onduty_api::heartbeat::{
    Challenge, ClientProofs, DialFrame, Hello, ListenFrame, NEWEST_VERSION, OLDEST_VERSION,
};
use onduty_api::wire::heartbeat::v1 as wire;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::task::AbortOnDropHandle;
use tonic::Streaming;
use tonic::body::Body;
use wire::heartbeat_service_client::HeartbeatServiceClient;

use crate::failure::Failure;

/// Frames that wait for HTTP/2: the two of the handshake. When full a beat stays due and is made later.
const OUTBOX: usize = 2;
/// What the listening node may send before we have read it. A report is about 1 KiB.
const WINDOW: u32 = 64 * 1024;
/// The smallest that HTTP/2 allows (RFC 9113 §4.2).
const FRAME: u32 = 16 * 1024;
/// Headers and the details of an error.
const HEADERS: u32 = 8 * 1024;
/// What may wait here for a peer that does not read.
const SEND_BUFFER: usize = 64 * 1024;

/// An authenticated session, before its first beat.
pub(crate) struct Session {
    /// What the peer said of itself, under the proof.
    pub(crate) peer: Challenge,
    /// Which key it used.
    pub(crate) key: ProvedKey,
    /// Where it is.
    pub(crate) remote: SocketAddr,
    pub(crate) outbox: mpsc::Sender<wire::SessionRequest>,
    pub(crate) inbox: Streaming<wire::SessionResponse>,
    /// Dropping it ends the connection at once.
    pub(crate) connection: AbortOnDropHandle<()>,
}

/// The key that a session was proved with.
#[derive(Clone, Copy)]
pub(crate) struct ProvedKey {
    pub(crate) slot: KeySlot,
    pub(crate) fingerprint: KeyFingerprint,
    /// Of the keys at that time.
    pub(crate) revision: u64,
}

/// What the proof is made of.
#[derive(Clone)]
pub(crate) struct Credentials {
    pub(crate) keys: KeyRing,
    pub(crate) channel_bound: bool,
}

/// Exchanges the first four messages over a connection that TLS has secured.
pub(crate) async fn prove<IO>(
    io: IO,
    binding: &ChannelBinding,
    remote: SocketAddr,
    origin: http::Uri,
    hello: Hello,
    credentials: &Credentials,
) -> Result<Session, Failure>
where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (call, connection) =
        http().handshake(TokioIo::new(io)).await.map_err(|error| Failure::http(remote, &error))?;
    let connection = AbortOnDropHandle::new(tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "a connection of the link broke");
        }
    }));
    let mut client = HeartbeatServiceClient::with_origin(OneConnection(call), origin)
        .max_decoding_message_size(MAX_LINK_MESSAGE)
        .max_encoding_message_size(MAX_LINK_MESSAGE);

    let own = hello.identity.clone();
    let hello = hello.encode();
    let (outbox, frames) = mpsc::channel(OUTBOX);
    send(&outbox, DialFrame::Hello(hello.clone()), remote).await?;
    let response = client.session(ReceiverStream::new(frames)).await;
    let mut inbox = response.map_err(|status| Failure::status(remote, &status))?.into_inner();

    let ListenFrame::Challenge(challenge) = receive(&mut inbox, remote).await? else {
        return Err(Failure::out_of_order(remote));
    };
    let peer = Challenge::decode(&challenge).map_err(|invalid| Failure::invalid(remote, &invalid))?;
    if peer.identity.node == own.node || peer.identity.instance == own.instance {
        return Err(Failure::selfie(remote));
    }
    // In this order: a session with keys that have changed meanwhile is looked at again.
    let (revision, keys) = (credentials.keys.revision(), credentials.keys.newest());
    let transcript = Transcript {
        binding,
        channel_bound: credentials.channel_bound,
        hello: &hello,
        challenge: &challenge,
        offered: keys.count(),
    };
    let proof::ClientProofs { proofs, key_checks } = proof::client_proofs(&transcript, &keys);
    send(&outbox, DialFrame::Proof(ClientProofs { proofs, key_checks }), remote).await?;
    let ListenFrame::Proof(answer) = receive(&mut inbox, remote).await? else {
        return Err(Failure::out_of_order(remote));
    };
    let matched = u32::try_from(answer.matched).unwrap_or(u32::MAX);
    let slot = proof::check_server(&transcript, &keys, matched, &answer.proof);
    let proved = slot.and_then(|slot| keys.get(slot).map(|key| (slot, key.fingerprint())));
    let (slot, fingerprint) = proved.ok_or_else(|| Failure::impostor(remote))?;
    if !(OLDEST_VERSION..=NEWEST_VERSION).contains(&peer.version) {
        return Err(Failure::version(remote));
    }
    let key = ProvedKey { slot, fingerprint, revision };
    Ok(Session { peer, key, remote, outbox, inbox, connection })
}

/// HTTP/2 with limits for a peer that is not yet known.
fn http() -> http2::Builder<TokioExecutor> {
    let mut http = http2::Builder::new(TokioExecutor::new());
    http.initial_stream_window_size(WINDOW)
        .initial_connection_window_size(WINDOW)
        .max_frame_size(FRAME)
        .max_header_list_size(HEADERS)
        .max_send_buf_size(SEND_BUFFER);
    http
}

async fn send(
    outbox: &mpsc::Sender<wire::SessionRequest>,
    frame: DialFrame,
    to: SocketAddr,
) -> Result<(), Failure> {
    outbox.send(frame.into()).await.map_err(|_closed| Failure::ended(to))
}

async fn receive(
    inbox: &mut Streaming<wire::SessionResponse>,
    from: SocketAddr,
) -> Result<ListenFrame, Failure> {
    let response = inbox.message().await.map_err(|status| Failure::status(from, &status))?;
    let response = response.ok_or_else(|| Failure::ended(from))?;
    ListenFrame::try_from(response).map_err(|invalid| Failure::invalid(from, &invalid))
}

/// One connection as tonic wants it: never another one under it.
struct OneConnection(http2::SendRequest<Body>);

impl tower_service::Service<http::Request<Body>> for OneConnection {
    type Response = http::Response<hyper::body::Incoming>;
    type Error = hyper::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        Box::pin(self.0.send_request(request))
    }
}
