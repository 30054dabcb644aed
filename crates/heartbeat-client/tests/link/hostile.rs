//! Strangers with bad intentions, while a real peer is there or wants to be.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicU32, Ordering};

use failover_core::{Identity, Input, Mode, Role};
use onduty_api::heartbeat::{Challenge, DialFrame, Ledger, ListenFrame, ServerProof};
use onduty_api::wire::heartbeat::v1 as wire;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tonic::{Code, Request, Response, Status, Streaming};

use crate::stranger::{Stranger, hello};
use crate::support::{Node, PATIENCE, ms};

/// A server that lets everybody in without knowing the key.
pub(crate) struct Impostor {
    pub(crate) identity: Identity,
}

#[tonic::async_trait]
impl wire::heartbeat_service_server::HeartbeatService for Impostor {
    type SessionStream =
        Pin<Box<dyn tokio_stream::Stream<Item = Result<wire::SessionResponse, Status>> + Send>>;

    async fn session(
        &self,
        request: Request<Streaming<wire::SessionRequest>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        let mut inbox = request.into_inner();
        let challenge = Challenge {
            version: 1,
            identity: self.identity.clone(),
            role: Role::Primary,
            mode: Mode::Primary,
            nonce: [1; 32],
        };
        let (outbox, frames) = tokio::sync::mpsc::channel(4);
        tokio::spawn(async move {
            let _ = outbox.send(Ok(ListenFrame::Challenge(challenge.encode()).into())).await;
            while let Ok(Some(request)) = inbox.message().await {
                if let Ok(DialFrame::Proof(proofs)) = DialFrame::try_from(request) {
                    let proof = ServerProof { proof: proofs.proofs[0], matched: 0 };
                    let _ = outbox.send(Ok(ListenFrame::Proof(proof).into())).await;
                }
            }
        });
        Ok(Response::new(Box::pin(tokio_stream::wrappers::ReceiverStream::new(frames))))
    }
}

#[tokio::test]
async fn garbage_does_not_disturb_the_standing_session() {
    let (mut primary, mut secondary) = (Node::primary(), Node::secondary());
    let server = primary.serve().await;
    let _client = secondary.dial(server.address);
    let (session, _) = primary.proved().await;
    secondary.proved().await;
    for number in 0..300_u32 {
        let mut io = TcpStream::connect(server.address).await.unwrap();
        let garbage: Vec<u8> =
            (0..64_u32).map(|i| u8::try_from((i * 31 + number * 7) % 251).unwrap() | 0x40).collect();
        let _ = io.write_all(&garbage).await;
    }
    primary.rejected("garbage", 300).await;
    for _ in 0..3 {
        let on = primary.told("a beat", |input| match input {
            Input::BeatArrived { session, .. } => Some(session),
            Input::SessionEnded { cause, .. } => panic!("the session ended: {cause}"),
            _ => None,
        });
        assert_eq!(on.await, session);
    }
}

#[tokio::test]
async fn held_connections_do_not_keep_the_real_peer_out() {
    let (mut primary, mut secondary) = (Node::primary(), Node::secondary());
    let server = primary.serve().await;
    let mut held = Vec::new();
    for number in 0..200_u8 {
        let mut io = TcpStream::connect(server.address).await.unwrap();
        if number % 2 == 0 {
            // The beginning of a TLS record that never goes on.
            io.write_all(&[0x16, 0x03, 0x01, 0x02]).await.unwrap();
        }
        held.push(io);
    }
    let _client = secondary.dial(server.address);
    secondary.proved().await;
    primary.proved().await;
    primary.rejected("evicted", 72).await;
    // The oldest ones were closed.
    let mut bytes = [0; 1];
    let read = tokio::time::timeout(PATIENCE, held[0].read(&mut bytes)).await.unwrap();
    assert!(matches!(read, Ok(0) | Err(_)));
}

#[tokio::test]
async fn frames_out_of_order_or_out_of_bounds_are_refused() {
    let (mut primary, secondary) = (Node::primary(), Node::secondary());
    let server = primary.serve().await;
    let mut ledger = Ledger::new(primary.report.identity.clone());
    let beat = ledger.next(secondary.clock.boot(), secondary.report.clone());
    let mut nobody = hello(&secondary).encode();
    nobody.truncate(20);
    let no_proofs = wire::ClientProof { proofs: Vec::new(), key_checks: Vec::new() };
    let frames: Vec<Vec<wire::SessionRequest>> = vec![
        vec![wire::SessionRequest { frame: None }],
        vec![DialFrame::Beat(Box::new(beat)).into()],
        vec![wire::SessionRequest { frame: Some(wire::session_request::Frame::Proof(no_proofs)) }],
        vec![DialFrame::Hello(nobody).into()],
        vec![DialFrame::Hello(vec![0xff; 300]).into()],
        vec![DialFrame::Hello(vec![0; 100_000]).into()],
        vec![
            DialFrame::Hello(hello(&secondary).encode()).into(),
            DialFrame::Hello(hello(&secondary).encode()).into(),
        ],
    ];
    let wrong = u64::try_from(frames.len()).unwrap();
    for frames in frames {
        let mut stranger = Stranger::call(&secondary, server.address).await;
        let text = format!("{:?}", frames.iter().map(|frame| format!("{frame:.40?}")).collect::<Vec<_>>());
        for frame in frames {
            stranger.send(frame).await;
        }
        let status = stranger.end().await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument, "{text}");
    }
    primary.rejected("garbage", wrong).await;
    assert!(primary.driver.inputs.try_recv().is_err(), "an unproved peer changed something");
}

#[tokio::test]
async fn a_beat_out_of_order_ends_its_session_only() {
    let (mut primary, mut secondary) = (Node::primary(), Node::secondary());
    let server = primary.serve().await;
    let other = Node::new(Role::Secondary, 3);
    let mut repeating = Stranger::call(&other, server.address).await;
    repeating.prove(hello(&other), &other.keys).await;
    let (session, _) = primary.proved().await;
    let _client = secondary.dial(server.address);
    let (standing, _) = primary.proved().await;
    let beat = Ledger::new(primary.report.identity.clone()).next(other.clock.boot(), other.report.clone());
    repeating.send(DialFrame::Beat(Box::new(beat.clone()))).await;
    repeating.send(DialFrame::Beat(Box::new(beat))).await;
    assert_eq!(repeating.end().await.unwrap_err().code(), Code::InvalidArgument);
    let (ended, cause) = primary.ended().await;
    assert_eq!(ended, session);
    assert!(cause.contains("does not follow"), "{cause}");
    secondary.beat().await;
    let on = primary.told("a beat", |input| match input {
        Input::BeatArrived { session, .. } => Some(session),
        _ => None,
    });
    assert_eq!(on.await, standing);
}

#[tokio::test]
async fn a_peer_that_never_reads_is_given_up_and_blocks_nobody() {
    let (mut primary, mut secondary) = (Node::primary(), Node::secondary());
    let server = primary.serve().await;
    let other = Node::new(Role::Secondary, 3);
    // The handshake fits into the window; the acknowledgements soon do not.
    let mut deaf = Stranger::call_with_window(&other, server.address, 1024).await;
    deaf.prove(hello(&other), &other.keys).await;
    let (session, _) = primary.proved().await;
    let mut ledger = Ledger::new(primary.report.identity.clone());
    let outbox = deaf.outbox.clone();
    let talking = tokio::spawn(async move {
        let mut beats = 0;
        loop {
            let beat = ledger.next(other.clock.boot(), other.report.clone());
            if outbox.send(DialFrame::Beat(Box::new(beat)).into()).await.is_err() {
                return beats;
            }
            beats += 1;
            tokio::time::sleep(ms(10)).await;
        }
    });
    let _client = secondary.dial(server.address);
    secondary.proved().await;
    let cause = primary.told("the end of the deaf session", |input| match input {
        Input::SessionEnded { session: ended, cause } if ended == session => Some(cause),
        _ => None,
    });
    let cause = cause.await;
    assert!(cause.contains("has read nothing"), "{cause}");
    assert!(talking.await.unwrap() > 10, "it went on being heard until then");
    secondary.beat().await;
}

/// A listener that for a while cannot accept, because the process has no descriptor left.
struct Scarce {
    listener: TcpListener,
    failures_left: AtomicU32,
}

impl heartbeat_server::Accept for Scarce {
    type Io = TcpStream;

    async fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        const EMFILE: i32 = 24;
        let take_one = |left: u32| left.checked_sub(1);
        if self.failures_left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take_one).is_ok() {
            return Err(io::Error::from_raw_os_error(EMFILE));
        }
        self.listener.accept().await
    }
}

#[tokio::test]
async fn a_lack_of_descriptors_is_waited_out() {
    let (mut primary, mut secondary) = (Node::primary(), Node::secondary());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let _server = primary.serve_from(Scarce { listener, failures_left: AtomicU32::new(20) }, address);
    let _client = secondary.dial(address);
    secondary.proved().await;
    primary.proved().await;
}
