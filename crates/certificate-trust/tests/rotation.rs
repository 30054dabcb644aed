//! Own certificate and trusted certificates change again and again under a thousand heartbeats a second, over real TCP: no
//! message is lost, doubled or out of order, no session ends, and every new connection shows and trusts the newest.
#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a test may fail by unwrapping, and tells its figures"
)]

mod support;

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use certificate_trust::{Acceptor, ClientTls, Connector, PkiStore, ServerTls, TrustFolders, TrustMode};
use failover_core::BootTime;
use service_kit::Clock;
use support::{NOW, Node};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

/// As many as a pair with that many paths has, and more; together a thousand heartbeats a second.
const SESSIONS: usize = 10;
const EVERY: Duration = Duration::from_millis(10);
const BEATS: u64 = 300;
/// A report is about so large.
const SIZE: usize = 1024;
/// Between two changes; 3 s have room for about a hundred.
const CHANGE_EVERY: Duration = Duration::from_millis(30);
/// Long enough for a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

fn beat(number: u64) -> Vec<u8> {
    [&number.to_be_bytes()[..], &[0x5A; SIZE - 8]].concat()
}

/// Sends a beat each tick and expects it back before the next; gives the longest time one took.
async fn pulse(mut io: impl AsyncRead + AsyncWrite + Unpin) -> Duration {
    let mut tick = interval(EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let mut longest = Duration::ZERO;
    for number in 1..=BEATS {
        tick.tick().await;
        let sent = Instant::now();
        io.write_all(&beat(number)).await.expect("the session stands");
        io.flush().await.expect("the session stands");
        let mut heard = vec![0; SIZE];
        io.read_exact(&mut heard).await.expect("the session stands");
        assert_eq!(heard, beat(number), "lost, doubled or out of order");
        longest = longest.max(sent.elapsed());
    }
    io.shutdown().await.expect("an orderly end");
    longest
}

/// Acknowledges beats until the end of the session; gives how many came.
async fn acknowledge(mut io: impl AsyncRead + AsyncWrite + Unpin) -> u64 {
    let mut count = 0;
    let mut heard = vec![0; SIZE];
    while io.read_exact(&mut heard).await.is_ok() {
        count += 1;
        assert_eq!(heard, beat(count), "lost, doubled or out of order");
        io.write_all(&heard).await.expect("the session stands");
        io.flush().await.expect("the session stands");
    }
    count
}

/// A pair whose ends follow the folders of their nodes.
struct Ends {
    a: Node,
    b: Node,
    of_a: TrustFolders,
    of_b: TrustFolders,
    acceptor: Acceptor,
    connector: Connector,
    listener: TcpListener,
}

impl Ends {
    async fn new() -> Self {
        let (a, b) = (Node::new(&["127.0.0.1"]), Node::new(&["node-b"]));
        let store = |node: &Node| PkiStore::open(&node.pki()).unwrap();
        let of_a = TrustFolders::new(store(&a), Some(a.identity.clone()), None);
        let of_b = TrustFolders::new(store(&b), None, None);
        b.trust(&a);
        assert!(of_a.look() && of_b.look());
        let clock = Clock::simulated(BootTime::from_nanos(0), NOW);
        let acceptor = Acceptor::watching(of_a.receiver());
        let connector = Connector::watching(TrustMode::Store, of_b.receiver(), Arc::new(of_b.clone()), clock);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        Self { a, b, of_a, of_b, acceptor, connector, listener }
    }

    /// Both ends of a new connection.
    async fn connect(&self) -> (ClientTls<TcpStream>, ServerTls<TcpStream>) {
        let to = self.listener.local_addr().unwrap();
        let dial = async {
            let io = TcpStream::connect(to).await.unwrap();
            self.connector.connect("127.0.0.1", io).await.unwrap()
        };
        let serve = async {
            let (io, _) = self.listener.accept().await.unwrap();
            self.acceptor.accept(io).await.unwrap()
        };
        let ((near, at_near), (far, at_far)) =
            timeout(PATIENCE, async { tokio::join!(dial, serve) }).await.unwrap();
        assert_eq!(at_near, at_far);
        (near, far)
    }

    /// Shows another certificate and trusts only that one.
    fn change(&self, next: &Node) {
        fs::copy(next.private_key(), self.a.private_key()).unwrap();
        fs::copy(next.certificate(), self.a.certificate()).unwrap();
        assert!(self.of_a.look(), "a new own certificate is a change");
        let own = self.of_a.receiver().borrow().own.clone();
        assert_eq!(own.unwrap(), next.identity.pair());
        self.b.trust(next);
        assert!(self.of_b.look(), "a new trusted certificate is a change");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_and_trust_change_under_a_thousand_heartbeats_a_second() {
    let ends = Ends::new().await;
    let (mut near, mut far) = (JoinSet::new(), JoinSet::new());
    let begun = Instant::now();
    for _ in 0..SESSIONS {
        let (dialled, accepted) = ends.connect().await;
        near.spawn(pulse(dialled));
        far.spawn(acknowledge(accepted));
    }
    let others: Vec<Node> = (0..4).map(|_| Node::new(&["127.0.0.1"])).collect();
    let (mut changes, mut longest) = (0, Duration::ZERO);
    let mut next = others.iter().cycle();
    let mut tick = interval(CHANGE_EVERY);
    while !near.is_empty() {
        tokio::select! {
            Some(done) = near.join_next() => longest = longest.max(done.unwrap()),
            _tick = tick.tick() => {
                ends.change(next.next().unwrap());
                changes += 1;
                if changes % 10 == 0 {
                    drop(ends.connect().await);
                }
            }
        }
    }
    let took = begun.elapsed();
    let heard: u64 = far.join_all().await.into_iter().sum();
    let rate = heard as f64 / took.as_secs_f64();
    eprintln!(
        "{heard} beats in {took:.1?}, {rate:.0} a second; {changes} changes; the longest took {longest:.1?}"
    );
    assert_eq!(heard, BEATS * u64::try_from(SESSIONS).unwrap(), "every beat arrived");
    assert!(changes >= 20, "{changes} changes in {took:?}");
}
