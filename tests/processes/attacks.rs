//! Attacks on a pair whose session stands, with real sockets: it does not notice, nothing is taken over, and memory stays
//! bounded. Where the attack is on the way to the peer, nothing is believed and nobody acts before the silence is long enough.
#![allow(clippy::print_stderr, reason = "a test tells its figures, and loudly when it is skipped")]

use std::io::Read;
use std::net::{IpAddr, Ipv4Addr, TcpStream as StdStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use failover_core::{Identity, InstanceId, Mode, NodeId, NodeName, Role};
use onduty_api::errors::{Refusal, refusal};
use onduty_api::heartbeat::{Challenge, Hello, ListenFrame};
use onduty_api::wire::heartbeat::v1 as wire;
use test_support::{Pair, alone, beside_others, boot_ns, ms_between, timed, until, within};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Request, Response, Status, Streaming};
use wire::heartbeat_service_server::{HeartbeatService, HeartbeatServiceServer};
use wire::session_request::Frame as Said;

use crate::attacker::{Call, Ends, Wire, key_of, local, runtime, show, stranger, tcp, tls};
use crate::flood::{MOST_GROWTH_KIB, descriptors, is_back_after_a_cut, memory_kib};
use crate::frames::{opened_and_given_up, play, scripts};
use crate::{
    PATIENCE, SLACK, at_most, count_of, one_at_a_time, options, runs_again, sessions, tells, undisturbed,
};

/// How long somebody may take to prove the key, as documented.
const DEADLINE_MS: f64 = 5_000.0;
/// The takeover time of the pairs here, and their interval.
const TIMEOUT_MS: f64 = 500.0;
const INTERVAL_MS: f64 = 100.0;

/// A pair whose session stands, and how it was before the attack.
pub(crate) struct Standing {
    pub(crate) pair: Pair,
    since: u64,
    sessions: usize,
    disconnected: [usize; 2],
    pub(crate) memory: u64,
}

impl Standing {
    pub(crate) fn begin() -> Self {
        Self::of(Pair::running(options()))
    }

    fn of(pair: Pair) -> Self {
        let memory = memory_kib(pair.primary.manager());
        let disconnected = [&pair.primary, &pair.secondary].map(|node| count_of(node, "peer_disconnected"));
        Self { sessions: sessions(&pair.secondary), since: boot_ns(), disconnected, memory, pair }
    }

    /// The session that stood still stands, its heartbeats came in time, and nobody has taken over.
    #[track_caller]
    pub(crate) fn is_unhurt(&self) {
        assert_eq!(sessions(&self.pair.secondary), self.sessions, "{}", self.pair.secondary.log());
        self.is_not_taken_over();
    }

    /// Nobody has taken over, whatever became of the session.
    #[track_caller]
    fn is_not_taken_over(&self) {
        let Self { pair, since, disconnected, memory, .. } = self;
        undisturbed(pair, &pair.primary, *since);
        one_at_a_time(pair);
        for (node, before) in [&pair.primary, &pair.secondary].into_iter().zip(disconnected) {
            assert_eq!(count_of(node, "peer_disconnected"), *before, "{} noticed", node.name());
        }
        assert!(pair.secondary.plugins().is_empty());
        let after = memory_kib(pair.primary.manager());
        assert!(after < memory + MOST_GROWTH_KIB, "memory grew from {memory} to {after} KiB");
    }
}

/// A pair whose secondary reaches its primary over a wire of ours.
fn wired() -> (Pair, Wire) {
    let mut pair = Pair::prepare(options());
    let wire = Wire::to(pair.port);
    lead(&mut pair, wire.port);
    pair.primary.start();
    pair.secondary.start();
    pair.redundant();
    (pair, wire)
}

/// Leads the secondary to another port.
fn lead(pair: &mut Pair, port: u16) {
    let address = |port| format!("https://127.0.0.1:{port}");
    let settings = pair.secondary.settings().replace(&address(pair.port), &address(port));
    pair.secondary.settle(&settings);
}

#[test]
fn slow_oversized_and_endless_strangers_are_shown_out_in_time() {
    let _turn = alone();
    let standing = Standing::begin();
    let (to, limit) = (local(standing.pair.port), Duration::from_secs(15));
    let ends = Ends::new();
    runtime().block_on(async {
        let mut played = JoinSet::new();
        for script in scripts() {
            let connector = ends.connector.clone();
            played.spawn(async move {
                let (io, _) = tls(&connector, to).await.expect("TLS");
                let took = play(&script, io, limit).await;
                let took = took.unwrap_or_else(|| panic!("{} goes on", script.name));
                eprintln!("{}: {took:.0} ms", script.name);
                assert!(took <= DEADLINE_MS * SLACK, "{} went on for {took:.0} ms", script.name);
            });
        }
        let in_pieces = async {
            // The TLS handshake, byte by byte.
            let mut io = tcp(to).await.expect("a connection");
            let begun = boot_ns();
            for byte in client_hello(&ends).await {
                tokio::time::sleep(Duration::from_millis(50)).await;
                if io.write_all(&[byte]).await.is_err() {
                    break;
                }
            }
            let _end = tokio::time::timeout(limit, io.read(&mut [0; 64])).await.expect("it hangs up");
            at_most("a TLS handshake in pieces", DEADLINE_MS, begun, boot_ns());
        };
        let reset = async {
            let (io, _) = tls(&ends.connector, to).await.expect("TLS");
            let (mut from, mut into) = tokio::io::split(io);
            let begun = boot_ns();
            let say = async {
                let _ = into.write_all(&opened_and_given_up()).await;
                std::future::pending::<()>().await;
            };
            let listen = async { while from.read(&mut [0; 4096]).await.is_ok_and(|read| read > 0) {} };
            tokio::select! {
                () = say => {}
                () = listen => {}
            }
            at_most("calls that are opened and given up", DEADLINE_MS, begun, boot_ns());
        };
        let (_played, (), ()) = tokio::join!(played.join_all(), in_pieces, reset);
    });
    let status = standing.pair.primary.status().expect("a status");
    assert!(status.rejected_as("timeout") > 0 && status.rejected_as("garbage") > 0, "{status:#?}");
    tells(&standing.pair.primary, "session_rejected");
    standing.is_unhurt();
}

/// The first message of TLS, as our own client sends it.
async fn client_hello(ends: &Ends) -> Vec<u8> {
    let (near, mut far) = tokio::io::duplex(4096);
    let mut bytes = vec![0; 4096];
    let read = tokio::select! {
        _never = ends.connector.connect("localhost", near) => panic!("nobody has answered"),
        read = far.read(&mut bytes) => read.expect("the first message"),
    };
    bytes.truncate(read);
    bytes
}

#[test]
fn thousands_of_half_open_handshakes_are_not_noticed() {
    const HANDSHAKES: usize = 3_000;
    const AT_ONCE: usize = 300;
    let _turn = alone();
    let standing = Standing::begin();
    let (to, manager) = (local(standing.pair.port), standing.pair.primary.manager());
    let open = descriptors(manager);
    let begun = boot_ns();
    let (most_open, most_memory) = runtime().block_on(async {
        let hello: Arc<[u8]> = client_hello(&Ends::new()).await.into();
        let places = Arc::new(Semaphore::new(AT_ONCE));
        let mut most = (0, 0);
        for number in 0..HANDSHAKES {
            let place = Arc::clone(&places).acquire_owned().await.expect("never closed");
            let hello = Arc::clone(&hello);
            tokio::spawn(async move {
                let _place = place;
                let Ok(mut io) = tcp(to).await else { return };
                // The node has made its keys and signed; we are never heard of again.
                if io.write_all(&hello).await.is_ok() {
                    while io.read(&mut [0; 4096]).await.is_ok_and(|read| read > 0) {}
                }
            });
            if number % 100 == 0 {
                most = (most.0.max(descriptors(manager)), most.1.max(memory_kib(manager)));
            }
        }
        most
    });
    let took = ms_between(begun, boot_ns());
    eprintln!(
        "{HANDSHAKES} in {took:.0} ms: descriptors {open}, at most {most_open}; memory at most {most_memory} KiB"
    );
    assert!(most_open < open + AT_ONCE + 150, "{open} descriptors, then {most_open}");
    assert!(most_memory < standing.memory + MOST_GROWTH_KIB, "{} KiB, then {most_memory}", standing.memory);
    let status = standing.pair.primary.reaches("the evictions", PATIENCE, |it| it.rejected_as("evicted") > 0);
    assert_eq!(status.redundancy(), "ready", "{status:#?}");
    standing.is_unhurt();
}

#[test]
fn who_guesses_at_the_key_from_the_peers_own_address_does_not_keep_the_peer_out() {
    const GUESSERS: u8 = 8;
    let _turn = alone();
    let (pair, wire) = wired();
    let standing = Standing::of(pair);
    let (to, wrong) = (local(standing.pair.port), key_of(&standing.pair.another_key()));
    let (wrong, ends, guesses) = (Arc::new(wrong), Arc::new(Ends::new()), Arc::new(AtomicUsize::new(0)));
    let attack = runtime();
    for number in 0..GUESSERS {
        let (wrong, ends, guesses) = (Arc::clone(&wrong), Arc::clone(&ends), Arc::clone(&guesses));
        attack.spawn(async move {
            loop {
                // The peer's own address: whatever is done about guesses must not be done to that.
                let from = IpAddr::V4(Ipv4Addr::LOCALHOST);
                let Some(mut call) = Call::open_from(from, &ends.connector, to).await else { continue };
                call.prove(stranger(number + 1), &wrong).await;
                let status = call.end().await.expect("a refusal");
                assert_eq!(status.code(), Code::Unauthenticated, "{status:?}");
                guesses.fetch_add(1, Ordering::Relaxed);
            }
        });
    }
    let guessed = |more: usize| {
        let wanted = guesses.load(Ordering::Relaxed) + more;
        until("guesses", PATIENCE, || (guesses.load(Ordering::Relaxed) >= wanted).then_some(()));
    };
    guessed(100);
    standing.is_unhurt();
    let back: Vec<f64> = (0..3)
        .map(|_| {
            guessed(20);
            is_back_after_a_cut(&standing.pair, &wire)
        })
        .collect();
    drop(attack);
    let guesses = guesses.load(Ordering::Relaxed);
    eprintln!("{guesses} guesses; back after {back:.0?} ms");
    let status = standing.pair.primary.reaches("the session", PATIENCE, |it| it.redundancy() == "ready");
    assert!(status.rejected_as("key_mismatch") >= guesses as u64, "{status:#?}");
    assert!(count_of(&standing.pair.primary, "session_rejected") <= 10);
    standing.is_not_taken_over();
}

#[test]
fn a_downgrade_of_version_or_binding_and_a_node_under_our_own_name_are_refused() {
    let _turn = beside_others();
    let standing = Standing::begin();
    let pair = &standing.pair;
    let (ends, to, keys) = (Ends::new(), local(pair.port), key_of(&pair.key_file()));
    let wrong = key_of(&pair.another_key());
    runtime().block_on(async {
        let versions = |min_version, max_version| Hello { min_version, max_version, ..stranger(7) };
        let mut call = Call::open(&ends.connector, to).await.expect("a call");
        let (_, challenge) = call.greet(stranger(7)).await;
        let own = Challenge::decode(&challenge).expect("a challenge").identity;
        let ours = Hello { identity: own.clone(), ..stranger(7) };
        let instance = Identity { instance: own.instance, ..stranger(7).identity };
        for (hello, reason) in [
            (versions(0, 0), Refusal::Version),
            (versions(2, 9), Refusal::Version),
            (versions(u32::MAX, u32::MAX), Refusal::Version),
            (Hello { channel_bound: false, ..stranger(7) }, Refusal::ChannelBinding),
            (ours, Refusal::Selfie),
            (Hello { identity: instance, ..stranger(7) }, Refusal::Selfie),
            (Hello { pair: "another".to_owned(), ..stranger(7) }, Refusal::Pair),
        ] {
            // Who does not know the key hears nothing of why.
            for (keys, told) in [(&keys, Some(reason)), (&wrong, None)] {
                let mut call = Call::open(&ends.connector, to).await.expect("a call");
                call.prove(hello.clone(), keys).await;
                let status = call.end().await.expect("a refusal");
                assert_eq!(status.code(), Code::Unauthenticated, "{reason:?}: {status:?}");
                assert_eq!(refusal(&status), told, "{status:?}");
            }
        }
    });
    let status = pair.primary.status().expect("a status");
    for (code, count) in [
        ("version_mismatch", 3),
        ("binding_mismatch", 1),
        ("selfie", 2),
        ("pair_mismatch", 1),
        ("key_mismatch", 7),
    ] {
        assert_eq!(status.rejected_as(code), count, "{code}: {status:#?}");
    }
    standing.is_unhurt();
}

/// Serves the heartbeat call with a certificate of its own and no key, and gives the client its own proof back.
#[derive(Clone)]
struct Mirror(mpsc::Sender<()>);

#[tonic::async_trait]
impl HeartbeatService for Mirror {
    type SessionStream = ReceiverStream<Result<wire::SessionResponse, Status>>;

    async fn session(
        &self,
        request: Request<Streaming<wire::SessionRequest>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        let (outbox, frames) = mpsc::channel(4);
        let (mut inbox, mirrored) = (request.into_inner(), self.0.clone());
        tokio::spawn(async move {
            while let Ok(Some(request)) = inbox.message().await {
                let answer: wire::SessionResponse = match request.frame {
                    Some(Said::Hello(hello)) => ListenFrame::Challenge(challenge_of(&hello)).into(),
                    Some(Said::Proof(proof)) => {
                        let proof = proof.proofs.into_iter().next().expect("a proof");
                        let proof = wire::ServerProof { proof, matched: 0 };
                        let _ = mirrored.try_send(());
                        wire::SessionResponse { frame: Some(wire::session_response::Frame::Proof(proof)) }
                    }
                    Some(Said::Beat(beat)) => {
                        wire::SessionResponse { frame: Some(wire::session_response::Frame::Beat(beat)) }
                    }
                    None => return,
                };
                if outbox.send(Ok(answer)).await.is_err() {
                    return;
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(frames)))
    }
}

/// A primary's challenge with the very nonce that it was greeted with.
fn challenge_of(hello: &[u8]) -> Vec<u8> {
    let hello = Hello::decode(hello).expect("a hello");
    let name = NodeName::try_from("mirror".to_owned()).expect("a name");
    let identity = Identity { node: NodeId([3; 16]), instance: InstanceId([3; 16]), name };
    let (role, mode) = (Role::Primary, Mode::Primary);
    Challenge { version: 1, identity, role, mode, nonce: hello.nonce }.encode()
}

#[test]
fn a_mirror_in_the_primarys_place_proves_nothing_and_nobody_acts_on_it() {
    let _turn = beside_others();
    let mut pair = Pair::prepare(options());
    let attack = runtime();
    let listener = attack.block_on(TcpListener::bind(local(0))).expect("a port");
    lead(&mut pair, listener.local_addr().expect("its address").port());
    let (mirrored, mut seen) = mpsc::channel(1);
    attack.spawn(async move {
        let ends = Ends::new();
        while let Ok((io, _)) = listener.accept().await {
            let (acceptor, service) =
                (ends.acceptor.clone(), HeartbeatServiceServer::new(Mirror(mirrored.clone())));
            tokio::spawn(async move {
                let Ok((io, _)) = acceptor.accept(io).await else { return };
                let service = hyper_util::service::TowerToHyperService::new(service);
                let http = hyper::server::conn::http2::Builder::new(hyper_util::rt::TokioExecutor::new());
                let _ended = http.serve_connection(hyper_util::rt::TokioIo::new(io), service).await;
            });
        }
    });
    pair.primary.start();
    runs_again(&pair, &pair.primary, 0);
    let since = boot_ns();
    pair.secondary.start();
    let status = pair.secondary.reaches("the refusal", PATIENCE, |status| status.link() == "unproved");
    attack.block_on(async { tokio::time::timeout(PATIENCE, seen.recv()).await.expect("a proof came back") });
    assert!(status.rejected_as("dialled_unproved") > 0, "{status:#?}");
    tells(&pair.secondary, "peer_unproved");
    let told = boot_ns();
    until("four takeover times", PATIENCE, || (ms_between(told, boot_ns()) > 4.0 * TIMEOUT_MS).then_some(()));
    assert_eq!(sessions(&pair.secondary), 0);
    assert!(pair.secondary.plugins().is_empty(), "it holds: something answers there");
    undisturbed(&pair, &pair.primary, since);
}

/// The tombstone that the guard of a killed primary shows.
fn tombstone(pair: &Pair) -> Vec<u8> {
    until("the tombstone", PATIENCE, || {
        let mut io = StdStream::connect(local(pair.port)).ok()?;
        let mut bytes = Vec::new();
        io.read_to_end(&mut bytes).ok()?;
        bytes.starts_with(b"ONDUTY-TOMBSTONE/1\n").then_some(bytes)
    })
}

/// The same of another epoch.
fn of_epoch(tombstone: &[u8], epoch: u64) -> Vec<u8> {
    let (magic, rest) = tombstone.split_at(19);
    assert_eq!(rest.len(), 8 + 32, "epoch and secret");
    [magic, &epoch.to_be_bytes(), &rest[8..]].concat()
}

#[test]
fn a_forged_tombstone_in_the_way_to_a_living_primary_moves_nothing() {
    let _turn = timed();
    let (mut pair, wire) = wired();
    // A real one, from an earlier life.
    pair.primary.kill_manager();
    let old = tombstone(&pair);
    tells(&pair.secondary, "tombstone_read");
    pair.primary.start();
    pair.redundant();
    let epoch = pair.canary().last_of("node-a").expect("the primary ran").epoch;
    let standing = Standing::of(pair);
    let read = count_of(&standing.pair.secondary, "tombstone_read");
    for forged in [old.clone(), of_epoch(&old, epoch), old[..30].to_vec()] {
        let (had, shown) = (sessions(&standing.pair.secondary), wire.shown());
        wire.forge(Some(forged));
        wire.cut();
        until("three looks at it", PATIENCE, || (wire.shown() >= shown + 3).then_some(()));
        wire.forge(None);
        until("the session", PATIENCE, || (sessions(&standing.pair.secondary) > had).then_some(()));
        // The next cut must not find the silence of this one.
        standing.pair.secondary.reaches("redundancy", PATIENCE, |status| status.redundancy() == "ready");
    }
    assert_eq!(count_of(&standing.pair.secondary, "tombstone_read"), read, "nothing forged was believed");
    standing.is_not_taken_over();
}

#[test]
fn a_forged_tombstone_at_the_port_of_a_dead_primary_hastens_nothing() {
    let _turn = timed();
    let mut pair = Pair::running(options());
    let epoch = pair.canary().last_of("node-a").expect("the primary ran").epoch;
    let attack = runtime();
    let killed = pair.primary.kill_everything();
    let bind = || attack.block_on(TcpListener::bind(local(pair.port))).ok();
    let listener = within(PATIENCE, bind).expect("the dead node's port");
    let shown = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&shown);
    attack.spawn(async move {
        while let Ok((io, _)) = listener.accept().await {
            let number = counted.fetch_add(1, Ordering::Relaxed);
            let secret = [u8::try_from(number % 256).expect("a byte"); 32];
            let forged = [&b"ONDUTY-TOMBSTONE/1\n"[..], &epoch.to_be_bytes(), &secret].concat();
            tokio::spawn(async move { show(io, &forged).await });
        }
    });
    let runs = runs_again(&pair, &pair.secondary, killed);
    let (took, shown) = (ms_between(killed, runs), shown.load(Ordering::Relaxed));
    eprintln!("took over {took:.0} ms after the death, {shown} forged tombstones");
    assert!(shown > 0, "nobody has looked");
    assert!(
        took >= TIMEOUT_MS - INTERVAL_MS - 50.0,
        "took over {took:.0} ms after the death: before its time"
    );
    at_most("the takeover", TIMEOUT_MS + 20.0, killed, runs);
    assert_eq!(count_of(&pair.secondary, "tombstone_read"), 0);
    one_at_a_time(&pair);
}
