//! The connection test against a peer that is slow, and one that falls silent after each step. Every wait is the real
//! one: the cases of a test run beside each other.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use certificate_trust::proof::{self, Transcript};
use certificate_trust::{ChannelBinding, PairKeys};
use failover_core::Identity;
use futures_util::future::join_all;
use onduty_api::errors::Refusal;
use onduty_api::heartbeat::{Challenge, DialFrame, ListenFrame, ServerProof, TestStep, TestVerdict};
use onduty_api::wire::heartbeat::v1 as wire;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::mpsc;
use tonic::{Request, Response, Status, Streaming};

use crate::steps::{stops_at, test};
use crate::support::{Node, ms};

/// What a step waits.
const LIMIT: Duration = Duration::from_secs(5);

/// How far a fake listening node goes along.
#[derive(Clone, Copy)]
pub(crate) enum Until {
    /// The call is not answered at all.
    Call,
    /// After the challenge.
    Challenge,
    /// After its own proof, which is right.
    Proof,
    /// Its proof is wrong.
    WrongProof,
    /// It ends the call with a reason.
    Refusal(Refusal),
    /// It ends the call without one.
    Refused(tonic::Code),
}

/// A listening node that falls silent.
pub(crate) struct Fake {
    until: Until,
    identity: Identity,
    keys: Arc<PairKeys>,
    binding: ChannelBinding,
}

type Frames = mpsc::Sender<Result<wire::SessionResponse, Status>>;

impl Fake {
    /// Serves with the certificate and the key of `node`.
    pub(crate) async fn serve(node: &Node, until: Until) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (acceptor, identity, keys) =
            (node.acceptor(), node.report.identity.clone(), Arc::clone(&node.keys));
        tokio::spawn(async move {
            loop {
                let (io, _) = listener.accept().await.unwrap();
                let (io, binding) = acceptor.accept(io).await.unwrap();
                let fake = Self { until, identity: identity.clone(), keys: Arc::clone(&keys), binding };
                let service = wire::heartbeat_service_server::HeartbeatServiceServer::new(fake);
                let service = hyper_util::service::TowerToHyperService::new(service);
                let executor = hyper_util::rt::TokioExecutor::new();
                let http = hyper::server::conn::http2::Builder::new(executor);
                tokio::spawn(http.serve_connection(hyper_util::rt::TokioIo::new(io), service));
            }
        });
        address
    }

    fn challenge(&self) -> Vec<u8> {
        let (role, mode) = (failover_core::Role::Primary, failover_core::Mode::Primary);
        Challenge { version: 1, identity: self.identity.clone(), role, mode, nonce: [1; 32] }.encode()
    }

    /// The right proof, or one that says nothing.
    fn proof(&self, hello: &[u8], challenge: &[u8], offered: usize) -> ServerProof {
        let transcript =
            Transcript { binding: &self.binding, channel_bound: true, hello, challenge, offered };
        let proof = match self.until {
            Until::WrongProof => [7; 32],
            _ => proof::server_proof(&transcript, &self.keys.current),
        };
        ServerProof { proof, matched: 0 }
    }
}

#[tonic::async_trait]
impl wire::heartbeat_service_server::HeartbeatService for Fake {
    type SessionStream =
        Pin<Box<dyn tokio_stream::Stream<Item = Result<wire::SessionResponse, Status>> + Send>>;

    async fn session(
        &self,
        request: Request<Streaming<wire::SessionRequest>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        match self.until {
            Until::Call => std::future::pending().await,
            Until::Refusal(refusal) => return Err(refusal.into()),
            Until::Refused(code) => return Err(Status::new(code, "no")),
            Until::Challenge | Until::Proof | Until::WrongProof => {}
        }
        let mut inbox = request.into_inner();
        let (outbox, frames): (Frames, _) = mpsc::channel(4);
        let Ok(Some(first)) = inbox.message().await else { return Err(Status::aborted("gone")) };
        let Ok(DialFrame::Hello(hello)) = DialFrame::try_from(first) else {
            return Err(Status::invalid_argument("no hello"));
        };
        let challenge = self.challenge();
        outbox.send(Ok(ListenFrame::Challenge(challenge.clone()).into())).await.unwrap();
        let proof = move |fake: &Self, offered| fake.proof(&hello, &challenge, offered);
        let fake = Self {
            until: self.until,
            identity: self.identity.clone(),
            keys: Arc::clone(&self.keys),
            binding: self.binding,
        };
        tokio::spawn(async move {
            while let Ok(Some(request)) = inbox.message().await {
                if let (Ok(DialFrame::Proof(proofs)), Until::Proof | Until::WrongProof) =
                    (DialFrame::try_from(request), fake.until)
                {
                    let proof = proof(&fake, proofs.proofs.len());
                    let _ = outbox.send(Ok(ListenFrame::Proof(proof).into())).await;
                }
            }
        });
        Ok(Response::new(Box::pin(tokio_stream::wrappers::ReceiverStream::new(frames))))
    }
}

/// Accepts TCP and says nothing.
async fn mute() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let mut held = Vec::new();
        while let Ok((io, _)) = listener.accept().await {
            held.push(io);
        }
    });
    address
}

/// Does not even accept: its queue is full, so the kernel answers nobody any more. Lasts as long as what comes back.
async fn deaf() -> (SocketAddr, Vec<tokio::task::JoinHandle<std::io::Result<TcpStream>>>, TcpListener) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(1).unwrap();
    let address = listener.local_addr().unwrap();
    let mut waiting: Vec<_> = (0..8).map(|_| tokio::spawn(TcpStream::connect(address))).collect();
    // The queue is full when one of those who came is not let in any more.
    loop {
        let next = tokio::spawn(TcpStream::connect(address));
        let stuck = tokio::time::timeout(ms(300), async {
            while !next.is_finished() {
                tokio::task::yield_now().await
            }
        })
        .await;
        waiting.push(next);
        if stuck.is_err() {
            return (address, waiting, listener);
        }
    }
}

/// TLS is done, then nothing.
async fn only_tls(node: &Node) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let acceptor = node.acceptor();
    tokio::spawn(async move {
        let mut held = Vec::new();
        while let Ok((io, _)) = listener.accept().await {
            held.push(acceptor.accept(io).await.unwrap());
        }
    });
    address
}

fn waited(steps: &[TestStep], name: &str) {
    let step = steps.iter().find(|step| step.step == name).unwrap();
    assert!(step.took >= LIMIT && step.took < LIMIT * 3, "{step:?}");
}

#[tokio::test]
async fn silence_after_each_step_is_bounded_and_says_how_long_it_waited() {
    let (node, secondary) = (Node::primary(), Node::secondary());
    let (deaf, _waiting, _listener) = deaf().await;
    let cases = [
        (deaf, "tcp", "the TCP connection"),
        (mute().await, "tls", "the TLS handshake"),
        (only_tls(&node).await, "key", "the proof of the key"),
        (Fake::serve(&node, Until::Call).await, "key", "the proof of the key"),
        (Fake::serve(&node, Until::Challenge).await, "key", "the proof of the key"),
        (Fake::serve(&node, Until::Proof).await, "timing", "its first report"),
    ];
    let tested = cases.map(|(address, step, words)| {
        let secondary = &secondary;
        async move { (test(secondary, address).await, step, words) }
    });
    for (steps, step, words) in join_all(tested).await {
        if step == "timing" {
            let role = &steps[6];
            assert_eq!(role.verdict, TestVerdict::Passed, "{role:?}");
        }
        stops_at(&steps, step, "no_answer", words);
        stops_at(&steps, step, "no_answer", "within 5s");
        waited(&steps, step);
    }
}

/// Carries every piece that comes 150 ms later.
async fn slow_wire(to: SocketAddr) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((near, _)) = listener.accept().await {
            let far = TcpStream::connect(to).await.unwrap();
            let ((near_in, near_out), (far_in, far_out)) = (near.into_split(), far.into_split());
            for (mut from, mut to) in [(near_in, far_out), (far_in, near_out)] {
                tokio::spawn(async move {
                    let mut bytes = [0; 65_536];
                    while let Ok(length @ 1..) = from.read(&mut bytes).await {
                        tokio::time::sleep(ms(150)).await;
                        if to.write_all(&bytes[..length]).await.is_err() {
                            return;
                        }
                    }
                });
            }
        }
    });
    address
}

#[tokio::test]
async fn a_peer_that_answers_too_late_for_the_link_is_told_from_a_silent_one() {
    let (primary, mut secondary) = (Node::primary(), Node::secondary());
    // A dial has a third of it.
    secondary.takeover_after = ms(600);
    let server = primary.serve().await;
    let steps = test(&secondary, slow_wire(server.address).await).await;
    let key = &steps[5];
    assert_eq!((key.step, key.verdict, key.code), ("key", TestVerdict::Warned, "link_slow"), "{key:?}");
    assert!(key.found.contains("the link has 200 ms"), "{key:?}");
    // It is judged to the end.
    assert!(steps[6..].iter().all(|step| step.verdict == TestVerdict::Passed), "{steps:#?}");
}
