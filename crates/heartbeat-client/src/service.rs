//! Options → client → handle, and the loop that dials.
//!
//! ```text
//!   tick (min(I, 1 s)), session over ─► wanted? at most two at once ─► dial ─┬─ proved ─► new session; the old one ends
//!                                                                           └─ else ───► DialFinished
//! ```
//!
//! Dials are wanted while there is no session, and beside one that has gone quiet: a half-dead connection must not keep
//! the peer away. The newest proved session wins.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use certificate_trust::{Connector, Fingerprint, KeySlot, PairKeys};
use duty::{DriverGone, LinkHandle};
use failover_core::{BootTime, Input, SessionId};
use onduty_api::heartbeat::TestStep;
use service_kit::Clock;
use service_kit::settings::PeerAddress;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::confirm;
use crate::dial::Dialler;
use crate::failure::Failure;
use crate::network::Network;
use crate::prove::{Credentials, Session};
use crate::resolver::Resolver;
use crate::session::{self, Over, Terms};
use crate::{test_steps, tombstone};

/// Dials at once.
const MOST_DIALS: usize = 2;
/// Between dials, at most.
const LONGEST_PERIOD: Duration = Duration::from_secs(1);
/// How long a check leaves an address alone where something else than a peer answers.
const CHECK_PAUSE: Duration = Duration::from_secs(30);
/// Acknowledgements that stay away for two intervals, and at least for this long, make dials wanted beside the session: a
/// late scheduler alone should not.
const SHORTEST_QUIET: Duration = Duration::from_millis(200);
/// How long sessions may take to say goodbye when the client stops.
const GOODBYE: Duration = Duration::from_secs(1);

/// What the client needs.
pub struct Options<N> {
    /// Names and connections: `TokioNetwork`.
    pub network: N,
    /// Where the peer is.
    pub address: PeerAddress,
    /// The TLS end.
    pub connector: Connector,
    /// Whether `connector` trusts every certificate, for the connection test to warn of.
    pub trusts_all: bool,
    /// The keys this node offers.
    pub keys: Arc<PairKeys>,
    /// The pair's name; both nodes have the same.
    pub pair: String,
    /// Whether proofs are bound to the TLS connection (`redundancy.channel_binding`).
    pub channel_bound: bool,
    /// Between heartbeats.
    pub interval: Duration,
    /// The silence after which this node takes over, as far as its settings tell.
    pub takeover_after: Duration,
    /// The window of `takeover_confirm`; `None`: off.
    pub takeover_confirm: Option<Duration>,
    /// The way to the driver.
    pub link: LinkHandle,
    /// The clocks.
    pub clock: Clock,
}

impl<N> fmt::Debug for Options<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("address", &self.address)
            .field("pair", &self.pair)
            .field("interval", &self.interval)
            .field("takeover_after", &self.takeover_after)
            .finish_non_exhaustive()
    }
}

/// The client; nothing is dialled before [`Client::run`].
pub struct Client<N> {
    dialler: Arc<Dialler<N>>,
    clock: Clock,
    interval: Duration,
    takeover_after: Duration,
    takeover_confirm: Option<Duration>,
    key_in_use: watch::Sender<Option<KeySlot>>,
    check: Option<Check>,
}

impl<N> fmt::Debug for Client<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").finish_non_exhaustive()
    }
}

/// What others may ask the client.
pub struct ClientHandle<N> {
    dialler: Arc<Dialler<N>>,
    trusts_all: bool,
    dial_limit: Duration,
    clock: Clock,
    one_test: Arc<Semaphore>,
    key_in_use: watch::Receiver<Option<KeySlot>>,
}

impl<N> Clone for ClientHandle<N> {
    fn clone(&self) -> Self {
        Self {
            dialler: Arc::clone(&self.dialler),
            trusts_all: self.trusts_all,
            dial_limit: self.dial_limit,
            clock: self.clock.clone(),
            one_test: Arc::clone(&self.one_test),
            key_in_use: self.key_in_use.clone(),
        }
    }
}

impl<N> fmt::Debug for ClientHandle<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientHandle").finish_non_exhaustive()
    }
}

impl<N: Network> ClientHandle<N> {
    /// Tries the link afresh, step by step, without joining the pair. Ends after the last step; dropping the receiver
    /// ends the test. One test runs at a time, the next waits for it.
    #[must_use]
    pub fn test(&self) -> mpsc::Receiver<TestStep> {
        let (steps, receiver) = mpsc::channel(test_steps::STEPS);
        let handle = self.clone();
        tokio::spawn(async move {
            let test = async {
                let _permit = handle.one_test.acquire().await;
                let test = test_steps::Test {
                    dialler: &handle.dialler,
                    trusts_all: handle.trusts_all,
                    dial_limit: handle.dial_limit,
                    clock: &handle.clock,
                    steps: &steps,
                };
                test.run().await;
            };
            tokio::select! {
                biased;
                () = steps.closed() => {}
                () = test => {}
            }
        });
        receiver
    }

    /// Which key the peer used for the newest session; `None` before the first.
    #[must_use]
    pub fn key_in_use(&self) -> watch::Receiver<Option<KeySlot>> {
        self.key_in_use.clone()
    }
}

/// Makes the client and its handle.
#[must_use]
pub fn build<N: Network>(options: Options<N>) -> (Client<N>, ClientHandle<N>) {
    let network = Arc::new(options.network);
    let resolver = Resolver::new(Arc::clone(&network), options.address.host(), options.address.port());
    let dialler = Arc::new(Dialler {
        network,
        resolver,
        address: options.address,
        connector: options.connector,
        credentials: Credentials { keys: options.keys, channel_bound: options.channel_bound },
        pair: options.pair,
        link: options.link,
    });
    let (key_in_use, seen) = watch::channel(None);
    let handle = ClientHandle {
        dialler: Arc::clone(&dialler),
        trusts_all: options.trusts_all,
        dial_limit: dial_limit(options.takeover_after),
        clock: options.clock.clone(),
        one_test: Arc::new(Semaphore::new(1)),
        key_in_use: seen,
    };
    let client = Client {
        dialler,
        clock: options.clock,
        interval: options.interval,
        takeover_after: options.takeover_after,
        takeover_confirm: options.takeover_confirm,
        key_in_use,
        check: None,
    };
    (client, handle)
}

/// The deadline of a whole dial: a third of the takeover time, so that two fit into it, but at least 200 ms and at
/// most 5 s.
fn dial_limit(takeover_after: Duration) -> Duration {
    (takeover_after / 3).clamp(Duration::from_millis(200), Duration::from_secs(5))
}

/// What a node needs that only looks.
struct Check {
    /// The fingerprint of its own certificate, as failures show it.
    own: String,
    /// It has found itself.
    over: bool,
}

/// The session that counts.
struct Current {
    id: SessionId,
    heard: Arc<AtomicU64>,
    replaced: CancellationToken,
    remote: std::net::SocketAddr,
}

/// What runs while the peer is away; dropping it ends both.
#[derive(Default)]
struct Bereft {
    probe: Option<AbortOnDropHandle<()>>,
    confirm: Option<AbortOnDropHandle<()>>,
}

impl<N: Network> Client<N> {
    /// For a node that is not the one to dial: it looks whether another half of the pair answers at the address, as long as
    /// nobody has dialled this node. Only a proved session is told to the driver: a primary must not wait for a peer that it
    /// is not asked to find. Something else that answers is counted and journalled, unless it is this very node (one file
    /// for both nodes): then the check is over. `own` is the fingerprint of this node's certificate.
    #[must_use]
    pub fn as_check(self, own: Fingerprint) -> Self {
        Self { check: Some(Check { own: own.to_string(), over: false }), takeover_confirm: None, ..self }
    }

    /// Dials and keeps a session until `stop`, or until the driver has ended.
    pub async fn run(self, stop: CancellationToken) {
        let mut running = Running {
            sessions: JoinSet::new(),
            current: None,
            bereft: Bereft::default(),
            stop: stop.clone(),
            client: self,
        };
        running.dial_until_stopped(&stop).await;
        running.stop.cancel();
        running.bereft = Bereft::default();
        let goodbye = async { while running.sessions.join_next().await.is_some() {} };
        if tokio::time::timeout(GOODBYE, goodbye).await.is_err() {
            tracing::debug!("a session did not end in time and is left behind");
        }
    }
}

struct Running<N> {
    client: Client<N>,
    sessions: JoinSet<Over>,
    current: Option<Current>,
    bereft: Bereft,
    stop: CancellationToken,
}

impl<N: Network> Running<N> {
    async fn dial_until_stopped(&mut self, stop: &CancellationToken) {
        let period = self.client.interval.min(LONGEST_PERIOD);
        let limit = dial_limit(self.client.takeover_after);
        let mut dials: JoinSet<Result<Session, Failure>> = JoinSet::new();
        let mut next_dial = Instant::now();
        loop {
            // Every branch is cancel-safe.
            let told = tokio::select! {
                biased;
                () = stop.cancelled() => return,
                () = tokio::time::sleep_until(next_dial) => {
                    next_dial = Instant::now() + period;
                    if self.is_peer_away() {
                        self.watch_refusals();
                        if dials.len() < MOST_DIALS {
                            let dialler = Arc::clone(&self.client.dialler);
                            dials.spawn(async move { dialler.dial(limit).await });
                        }
                    }
                    Ok(())
                }
                Some(Ok(dialled)) = dials.join_next() => match dialled {
                    Ok(session) => self.begin(session).await,
                    Err(failure) => {
                        if self.client.check.is_some() && failure.is_unproved() {
                            next_dial = Instant::now() + CHECK_PAUSE;
                        }
                        self.failed(failure).await
                    }
                },
                Some(Ok(over)) = self.sessions.join_next() => {
                    // A session that ended as soon as it began would end again: that is what the period is for.
                    if self.end(&over) && over.lasted >= period {
                        next_dial = Instant::now();
                    }
                    Ok(())
                }
            };
            if told.is_err() {
                return;
            }
        }
    }

    /// A dial led to no session.
    async fn failed(&mut self, failure: Failure) -> Result<(), DriverGone> {
        let link = &self.client.dialler.link;
        let Some(check) = &mut self.client.check else {
            if let Some(code) = failure.counted_as() {
                link.count(code);
            }
            return link.tell(Input::DialFinished(failure.outcome)).await;
        };
        check.over = failure.own || failure.sentence().contains(&check.own);
        if let Some(code) = failure.counted_as().filter(|_| !check.over) {
            let seen = failure.sentence();
            link.reject(
                code,
                format!(
                    "whether `redundancy.secondary.address` leads to another primary cannot be told: {seen}"
                ),
            );
        }
        Ok(())
    }

    /// Whether there is no session, or one whose acknowledgements have stopped.
    fn is_peer_away(&self) -> bool {
        if let (Some(check), None) = (&self.client.check, &self.current) {
            return !check.over && !self.client.dialler.link.has_session();
        }
        self.current.as_ref().is_none_or(|current| {
            let heard = BootTime::from_nanos(current.heard.load(Ordering::Relaxed));
            self.client.clock.boot().since(heard) > (self.client.interval * 2).max(SHORTEST_QUIET)
        })
    }

    /// A session was proved: it counts from now on.
    async fn begin(&mut self, session: Session) -> Result<(), DriverGone> {
        let link = self.client.dialler.link.clone();
        let ticket = link.begin_session();
        let peer = &session.peer;
        tracing::info!(peer = %peer.identity.name, at = %session.remote, session = ticket.id.0, "a session was proved");
        self.client.key_in_use.send_replace(Some(session.slot));
        let (identity, role, mode) = (peer.identity.clone(), peer.role, peer.mode);
        // A proved session voids tombstones and refusals, so nothing of the kind may be told after this.
        self.bereft = Bereft::default();
        link.tell(Input::SessionProved { session: ticket.id, peer: identity, role, mode }).await?;
        let current = Current {
            id: ticket.id,
            heard: Arc::new(AtomicU64::new(self.client.clock.boot().as_nanos())),
            replaced: CancellationToken::new(),
            remote: session.remote,
        };
        let terms = Terms {
            link,
            clock: self.client.clock.clone(),
            interval: self.client.interval,
            heard: Arc::clone(&current.heard),
            replaced: current.replaced.clone(),
            stop: self.stop.clone(),
        };
        self.sessions.spawn(session::run(terms, session, ticket));
        if let Some(old) = self.current.replace(current) {
            old.replaced.cancel();
        }
        Ok(())
    }

    /// A session is over; `true` when it was the one that counts.
    fn end(&mut self, over: &Over) -> bool {
        if self.current.as_ref().is_none_or(|current| current.id != over.id) {
            return false;
        }
        let Some(current) = self.current.take() else { return false };
        if let Some(promise) = over.promise {
            let dialler = Arc::clone(&self.client.dialler);
            let until = Instant::now() + self.client.takeover_after;
            let patience = dial_limit(self.client.takeover_after).min(Duration::from_secs(1));
            self.bereft.probe = Some(AbortOnDropHandle::new(tokio::spawn(async move {
                if tombstone::probe(&*dialler.network, current.remote, promise, patience, until).await {
                    // Err: the driver has ended.
                    let _ = dialler.link.tell(Input::TombstoneRead { epoch: promise.epoch }).await;
                }
            })));
        }
        self.watch_refusals();
        true
    }

    /// Begins to watch for refusals, where that is asked for and not yet done.
    fn watch_refusals(&mut self) {
        let Some(window) = self.client.takeover_confirm else { return };
        if self.bereft.confirm.is_none() {
            let dialler = Arc::clone(&self.client.dialler);
            let pause = self.client.interval.min(LONGEST_PERIOD);
            self.bereft.confirm = Some(AbortOnDropHandle::new(tokio::spawn(async move {
                confirm::watch(&dialler, window, pause).await;
            })));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_of_a_dial_is_a_third_of_the_takeover_time_within_bounds() {
        let ms = Duration::from_millis;
        assert_eq!(dial_limit(ms(3000)), ms(1000));
        assert_eq!(dial_limit(ms(500)), ms(200));
        assert_eq!(dial_limit(ms(60_000)), ms(5000));
    }
}
