//! What the hostile tests attack with: TLS and HTTP/2 in the hands of somebody who does what he likes.
//!
//! ```text
//!   Ends       certificate of his own, trust in everybody        Call   the heartbeat call, message by message
//!   Wire       a relay of bytes that can be cut, and forge       relay  the same, but it ends TLS: the man in the middle
//! ```

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use certificate_trust::proof::{self, Transcript};
use certificate_trust::{
    Acceptor, ChannelBinding, ClientTls, Connector, OwnIdentity, PairKey, PairKeys, PkiStore, TrustMode,
};
use failover_core::{Identity, InstanceId, Mode, NodeId, NodeName, Role};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use onduty_api::heartbeat::{ClientProofs, DialFrame, Hello};
use onduty_api::wire::heartbeat::v1 as wire;
use service_kit::Clock;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use tonic::body::Body;
use wire::heartbeat_service_client::HeartbeatServiceClient;
use wire::session_response::Frame;

/// A runtime for one attack.
pub(crate) fn runtime() -> Runtime {
    Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime")
}

/// A loopback address of this machine that is not the peer's.
pub(crate) const ELSEWHERE: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2));

/// A port of this machine.
pub(crate) fn local(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}

/// Both ends of TLS, with a certificate that nobody knows.
pub(crate) struct Ends {
    pub(crate) acceptor: Acceptor,
    pub(crate) connector: Connector,
    _folder: tempfile::TempDir,
}

impl Ends {
    pub(crate) fn new() -> Self {
        certificate_trust::install_crypto_provider();
        let folder = tempfile::tempdir().expect("a folder");
        let (pki, clock) = (folder.path().join("pki"), Clock::real());
        let names = ["localhost".to_owned(), "127.0.0.1".to_owned()];
        let own = OwnIdentity::open_or_create(&pki, &names, clock.now().unix).expect("an identity");
        let store = PkiStore::open(&pki).expect("PKI folders");
        Self {
            acceptor: Acceptor::new(&own),
            connector: Connector::new(TrustMode::All, store, clock),
            _folder: folder,
        }
    }
}

/// A TCP connection from elsewhere.
pub(crate) async fn tcp(to: SocketAddr) -> std::io::Result<TcpStream> {
    tcp_from(ELSEWHERE, to).await
}

async fn tcp_from(from: IpAddr, to: SocketAddr) -> std::io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(SocketAddr::from((from, 0)))?;
    socket.connect(to).await
}

/// TLS over it; `None` when the node has hung up.
pub(crate) async fn tls(
    connector: &Connector,
    to: SocketAddr,
) -> Option<(ClientTls<TcpStream>, ChannelBinding)> {
    connector.connect("localhost", tcp(to).await.ok()?).await.ok()
}

/// One HTTP/2 connection as tonic wants it.
#[derive(Clone)]
pub(crate) struct Channel(http2::SendRequest<Body>);

impl Channel {
    /// HTTP/2 over TLS; `None` when the node has hung up.
    pub(crate) async fn open(connector: &Connector, to: SocketAddr) -> Option<(Self, ChannelBinding)> {
        Self::open_from(ELSEWHERE, connector, to).await
    }

    async fn open_from(
        from: IpAddr,
        connector: &Connector,
        to: SocketAddr,
    ) -> Option<(Self, ChannelBinding)> {
        let (io, binding) = connector.connect("localhost", tcp_from(from, to).await.ok()?).await.ok()?;
        Some((Self::over(io).await?, binding))
    }

    /// HTTP/2 over anything.
    pub(crate) async fn over<IO>(io: IO) -> Option<Self>
    where
        IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (call, connection) =
            http2::Builder::new(TokioExecutor::new()).handshake(TokioIo::new(io)).await.ok()?;
        tokio::spawn(connection);
        Some(Self(call))
    }
}

impl tower::Service<http::Request<Body>> for Channel {
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

pub(crate) fn origin() -> http::Uri {
    http::Uri::from_static("https://localhost")
}

/// The heartbeat call.
pub(crate) struct Call {
    pub(crate) outbox: mpsc::Sender<wire::SessionRequest>,
    pub(crate) inbox: Streaming<wire::SessionResponse>,
    binding: ChannelBinding,
}

impl Call {
    pub(crate) async fn open(connector: &Connector, to: SocketAddr) -> Option<Self> {
        Self::open_from(ELSEWHERE, connector, to).await
    }

    pub(crate) async fn open_from(from: IpAddr, connector: &Connector, to: SocketAddr) -> Option<Self> {
        let (channel, binding) = Channel::open_from(from, connector, to).await?;
        let (outbox, frames) = mpsc::channel(64);
        let mut client = HeartbeatServiceClient::with_origin(channel, origin());
        let inbox = client.session(ReceiverStream::new(frames)).await.ok()?.into_inner();
        Some(Self { outbox, inbox, binding })
    }

    pub(crate) async fn send(&self, frame: impl Into<wire::SessionRequest>) {
        // Err: the node has hung up, which the other direction shows.
        let _ = self.outbox.send(frame.into()).await;
    }

    /// Says Hello and answers the challenge with `keys`; gives the two frames that were sent.
    pub(crate) async fn prove(&mut self, hello: Hello, keys: &PairKeys) -> [wire::SessionRequest; 2] {
        let channel_bound = hello.channel_bound;
        let (hello, challenge) = self.greet(hello).await;
        let first = DialFrame::Hello(hello.clone()).into();
        let transcript = Transcript {
            binding: &self.binding,
            channel_bound,
            hello: &hello,
            challenge: &challenge,
            offered: keys.count(),
        };
        let proof::ClientProofs { proofs, key_checks } = proof::client_proofs(&transcript, keys);
        let second: wire::SessionRequest = DialFrame::Proof(ClientProofs { proofs, key_checks }).into();
        self.send(second.clone()).await;
        [first, second]
    }

    /// Says Hello; gives its bytes and those of the challenge.
    pub(crate) async fn greet(&mut self, hello: Hello) -> (Vec<u8>, Vec<u8>) {
        let hello = hello.encode();
        self.send(DialFrame::Hello(hello.clone())).await;
        match self.inbox.message().await.expect("an answer").and_then(|it| it.frame) {
            Some(Frame::Challenge(challenge)) => (hello, challenge),
            other => panic!("{other:?} instead of a challenge"),
        }
    }

    /// Reads until the node ends the call, and gives what it said last.
    pub(crate) async fn end(&mut self) -> Option<tonic::Status> {
        loop {
            match self.inbox.message().await {
                Ok(Some(_frame)) => {}
                Ok(None) => return None,
                Err(status) => return Some(status),
            }
        }
    }
}

/// A secondary that is nobody's other half.
pub(crate) fn stranger(number: u8) -> Hello {
    Hello {
        min_version: 1,
        max_version: 1,
        pair: String::new(),
        identity: Identity {
            node: NodeId([number; 16]),
            instance: InstanceId([number; 16]),
            name: NodeName::try_from(format!("stranger-{number}")).expect("a name"),
        },
        role: Role::Secondary,
        mode: Mode::Secondary,
        nonce: [5; 32],
        channel_bound: true,
        test_only: false,
        path: failover_core::PathId::FIRST,
        paths: 1,
    }
}

/// The key of a file.
pub(crate) fn key_of(file: &Path) -> PairKeys {
    let text = std::fs::read_to_string(file).expect("the key file");
    PairKeys { current: PairKey::parse(text.trim()).expect("a key"), previous: None }
}

/// A relay of bytes to a port, which can be cut, and answer with bytes of its own. Runs until dropped.
pub(crate) struct Wire {
    pub(crate) port: u16,
    cut: watch::Sender<u64>,
    forged: watch::Sender<Option<Vec<u8>>>,
    shown: Arc<AtomicUsize>,
    _runtime: Runtime,
}

impl Wire {
    pub(crate) fn to(port: u16) -> Self {
        let runtime = runtime();
        let listener = runtime.block_on(TcpListener::bind(local(0))).expect("a port");
        let own = listener.local_addr().expect("its address").port();
        let ((cut, seen), (forged, forge)) = (watch::channel(0), watch::channel(None::<Vec<u8>>));
        let shown = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&shown);
        runtime.spawn(async move {
            while let Ok((mut near, _)) = listener.accept().await {
                let (mut seen, bytes, counted) = (seen.clone(), forge.borrow().clone(), Arc::clone(&counted));
                let _now = *seen.borrow_and_update();
                tokio::spawn(async move {
                    if let Some(bytes) = bytes {
                        show(near, &bytes).await;
                        counted.fetch_add(1, Ordering::Relaxed);
                        return;
                    }
                    let Ok(mut far) = TcpStream::connect(local(port)).await else { return };
                    tokio::select! {
                        _ended = copy_bidirectional(&mut near, &mut far) => {}
                        _cut = seen.changed() => {}
                    }
                });
            }
        });
        Self { port: own, cut, forged, shown, _runtime: runtime }
    }

    /// Ends every connection over it; new ones are let through.
    pub(crate) fn cut(&self) {
        self.cut.send_modify(|times| *times += 1);
    }

    /// Shows these bytes to every new connection instead of letting it through.
    pub(crate) fn forge(&self, bytes: Option<Vec<u8>>) {
        self.forged.send_replace(bytes);
    }

    /// How many were shown forged bytes.
    pub(crate) fn shown(&self) -> usize {
        self.shown.load(Ordering::Relaxed)
    }
}

/// Says this and hangs up, as a guard does with its tombstone.
pub(crate) async fn show(mut io: TcpStream, bytes: &[u8]) {
    // Err: it has hung up.
    let _ = io.write_all(bytes).await;
    let _ = io.shutdown().await;
    let rest = async { while io.read(&mut [0; 4096]).await.is_ok_and(|read| read > 0) {} };
    let _ = tokio::time::timeout(Duration::from_millis(500), rest).await;
}

/// Ends TLS with a certificate of its own and relays every byte to a port. Runs until dropped.
pub(crate) fn man_in_the_middle(to: u16) -> (u16, Runtime) {
    let runtime = runtime();
    let listener = runtime.block_on(TcpListener::bind(local(0))).expect("a port");
    let own = listener.local_addr().expect("its address").port();
    runtime.spawn(async move {
        let ends = Ends::new();
        while let Ok((near, _)) = listener.accept().await {
            let (acceptor, connector) = (ends.acceptor.clone(), ends.connector.clone());
            tokio::spawn(async move {
                let Ok((mut near, _)) = acceptor.accept(near).await else { return };
                let Some((mut far, _)) = tls(&connector, local(to)).await else { return };
                // Err: one of the two has hung up.
                let _ = copy_bidirectional(&mut near, &mut far).await;
            });
        }
    });
    (own, runtime)
}
