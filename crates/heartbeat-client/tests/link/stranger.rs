//! A client that does what it likes, message by message, over real TLS and HTTP/2.

use std::net::SocketAddr;

use certificate_trust::proof::{self, Transcript};
use certificate_trust::{ChannelBinding, PairKeys};
use failover_core::PathId;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use onduty_api::heartbeat::{ClientProofs, DialFrame, Hello};
use onduty_api::wire::heartbeat::v1 as wire;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};
use wire::heartbeat_service_client::HeartbeatServiceClient;
use wire::session_response::Frame;

use crate::support::Node;

type SendRequest = http2::SendRequest<tonic::body::Body>;

#[derive(Clone)]
pub(crate) struct Channel(pub(crate) SendRequest);

impl tower_service::Service<http::Request<tonic::body::Body>> for Channel {
    type Response = http::Response<hyper::body::Incoming>;
    type Error = hyper::Error;
    type Future = std::pin::Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut std::task::Context<'_>) -> std::task::Poll<Result<(), Self::Error>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, request: http::Request<tonic::body::Body>) -> Self::Future {
        Box::pin(self.0.send_request(request))
    }
}

/// TLS and HTTP/2, with a receive window of `window` bytes.
pub(crate) async fn connect(node: &Node, to: SocketAddr, window: u32) -> (Channel, ChannelBinding) {
    let io = TcpStream::connect(to).await.unwrap();
    let (io, binding) = node.connector().connect("localhost", io).await.unwrap();
    let (call, connection) = http2::Builder::new(TokioExecutor::new())
        .initial_stream_window_size(window)
        .handshake(TokioIo::new(io))
        .await
        .unwrap();
    tokio::spawn(connection);
    (Channel(call), binding)
}

pub(crate) fn origin() -> http::Uri {
    "https://localhost".parse().unwrap()
}

/// One call, message by message.
pub(crate) struct Stranger {
    pub(crate) outbox: mpsc::Sender<wire::SessionRequest>,
    pub(crate) inbox: Streaming<wire::SessionResponse>,
    pub(crate) binding: ChannelBinding,
}

impl Stranger {
    pub(crate) async fn call(node: &Node, to: SocketAddr) -> Self {
        Self::call_with_window(node, to, 65_535).await
    }

    pub(crate) async fn call_with_window(node: &Node, to: SocketAddr, window: u32) -> Self {
        let (channel, binding) = connect(node, to, window).await;
        let (outbox, frames) = mpsc::channel(16);
        let mut client = HeartbeatServiceClient::with_origin(channel, origin());
        let inbox = client.session(ReceiverStream::new(frames)).await.unwrap().into_inner();
        Self { outbox, inbox, binding }
    }

    pub(crate) async fn send(&self, frame: impl Into<wire::SessionRequest>) {
        // Err: the server has already hung up, which the test then sees at the other direction.
        let _ = self.outbox.send(frame.into()).await;
    }

    /// How the server ended the call.
    pub(crate) async fn end(&mut self) -> Result<(), Status> {
        loop {
            if self.inbox.message().await?.is_none() {
                return Ok(());
            }
        }
    }

    /// Says Hello and answers the challenge rightly; returns the two frames that were sent.
    pub(crate) async fn prove(&mut self, hello: Hello, keys: &PairKeys) -> [wire::SessionRequest; 2] {
        let channel_bound = hello.channel_bound;
        let hello = hello.encode();
        let first: wire::SessionRequest = DialFrame::Hello(hello.clone()).into();
        self.send(first.clone()).await;
        let challenge = match self.inbox.message().await.unwrap().unwrap().frame {
            Some(Frame::Challenge(challenge)) => challenge,
            other => panic!("{other:?} instead of a challenge"),
        };
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
}

pub(crate) fn hello(node: &Node) -> Hello {
    let report = node.report.clone();
    Hello {
        min_version: 1,
        max_version: 1,
        pair: node.pair.clone(),
        identity: report.identity,
        role: report.role,
        mode: report.mode,
        nonce: [5; 32],
        channel_bound: node.channel_bound,
        test_only: false,
        path: PathId::FIRST,
        paths: 1,
    }
}
