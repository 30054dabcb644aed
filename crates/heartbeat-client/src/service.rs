//! Options → client → handle, and the client's run: one loop per network path, and the watch for refusals over all of them.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use certificate_trust::{Connector, Fingerprint, KeyRing, PairKeys};
use duty::LinkHandle;
use failover_core::PathId;
use futures_util::future::join_all;
use onduty_api::heartbeat::TestStep;
use service_kit::Clock;
use service_kit::settings::PeerAddresses;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::confirm;
use crate::dial::Dialler;
use crate::network::Network;
use crate::path::{Check, LONGEST_PERIOD, PathLoop};
use crate::prove::Credentials;
use crate::resolver::Resolver;
use crate::test_steps;

/// What the client needs.
pub struct Options<N> {
    /// Names and connections: `TokioNetwork`.
    pub network: N,
    /// Where the peer is: one address per network path.
    pub addresses: PeerAddresses,
    /// The TLS end.
    pub connector: Connector,
    /// Whether `connector` trusts every certificate, for the connection test to warn of.
    pub trusts_all: bool,
    /// The keys this node offers, unless they may change ([`build_with`]).
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
            .field("addresses", &self.addresses)
            .field("pair", &self.pair)
            .field("interval", &self.interval)
            .field("takeover_after", &self.takeover_after)
            .finish_non_exhaustive()
    }
}

/// The client; nothing is dialled before [`Client::run`].
pub struct Client<N> {
    diallers: Vec<Arc<Dialler<N>>>,
    clock: Clock,
    interval: Duration,
    takeover_after: Duration,
    takeover_confirm: Option<Duration>,
    check: Option<Check>,
}

impl<N> fmt::Debug for Client<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").finish_non_exhaustive()
    }
}

/// What others may ask the client.
pub struct ClientHandle<N> {
    diallers: Vec<Arc<Dialler<N>>>,
    trusts_all: bool,
    dial_limit: Duration,
    clock: Clock,
    one_test: Arc<Semaphore>,
    keys: KeyRing,
}

impl<N> Clone for ClientHandle<N> {
    fn clone(&self) -> Self {
        Self {
            diallers: self.diallers.clone(),
            trusts_all: self.trusts_all,
            dial_limit: self.dial_limit,
            clock: self.clock.clone(),
            one_test: Arc::clone(&self.one_test),
            keys: self.keys.clone(),
        }
    }
}

impl<N> fmt::Debug for ClientHandle<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientHandle").finish_non_exhaustive()
    }
}

impl<N: Network> ClientHandle<N> {
    /// Tries the link afresh, step by step and path by path, without joining the pair. Ends after the last step; dropping
    /// the receiver ends the test. One test runs at a time, the next waits for it.
    #[must_use]
    pub fn test(&self) -> mpsc::Receiver<TestStep> {
        let (steps, receiver) = mpsc::channel(test_steps::STEPS);
        let handle = self.clone();
        tokio::spawn(async move {
            tokio::select! {
                biased;
                () = steps.closed() => {}
                () = handle.test_paths(&steps) => {}
            }
        });
        receiver
    }

    /// Each path has a test of its own, one after the other.
    async fn test_paths(&self, steps: &mpsc::Sender<TestStep>) {
        let _permit = self.one_test.acquire().await;
        for dialler in &self.diallers {
            let test = test_steps::Test {
                dialler,
                trusts_all: self.trusts_all,
                dial_limit: self.dial_limit,
                clock: &self.clock,
                steps,
            };
            test.run().await;
        }
    }

    /// The keys that it goes by, and which of them sessions use.
    #[must_use]
    pub const fn keys(&self) -> &KeyRing {
        &self.keys
    }
}

/// Makes the client and its handle.
#[must_use]
pub fn build<N: Network>(options: Options<N>) -> (Client<N>, ClientHandle<N>) {
    let keys = KeyRing::fixed(Arc::clone(&options.keys), options.clock.clone());
    build_with(options, keys)
}

/// The same with keys that may change while it runs; they stand in the place of those of the options.
#[must_use]
pub fn build_with<N: Network>(options: Options<N>, keys: KeyRing) -> (Client<N>, ClientHandle<N>) {
    let network = Arc::new(options.network);
    let connector = Arc::new(options.connector);
    let credentials = Credentials { keys: keys.clone(), channel_bound: options.channel_bound };
    let addresses = options.addresses.all();
    let diallers: Vec<_> = PathId::all(addresses.len())
        .zip(addresses)
        .map(|(path, address)| {
            Arc::new(Dialler {
                path,
                paths: addresses.len(),
                network: Arc::clone(&network),
                resolver: Resolver::new(Arc::clone(&network), address.host(), address.port()),
                address: address.clone(),
                connector: Arc::clone(&connector),
                credentials: credentials.clone(),
                pair: options.pair.clone(),
                link: options.link.clone(),
            })
        })
        .collect();
    let handle = ClientHandle {
        diallers: diallers.clone(),
        trusts_all: options.trusts_all,
        dial_limit: dial_limit(options.takeover_after),
        clock: options.clock.clone(),
        one_test: Arc::new(Semaphore::new(1)),
        keys,
    };
    let client = Client {
        diallers,
        clock: options.clock,
        interval: options.interval,
        takeover_after: options.takeover_after,
        takeover_confirm: options.takeover_confirm,
        check: None,
    };
    (client, handle)
}

/// The deadline of a whole dial: a third of the takeover time, so that two fit into it, but at least 200 ms and at
/// most 5 s.
pub(crate) fn dial_limit(takeover_after: Duration) -> Duration {
    (takeover_after / 3).clamp(Duration::from_millis(200), Duration::from_secs(5))
}

impl<N: Network> Client<N> {
    /// For a node that is not the one to dial: it looks whether another half of the pair answers at the addresses, as long as
    /// nobody has dialled this node. Only a proved session is told to the driver: a primary must not wait for a peer that it
    /// is not asked to find. Something else that answers is counted and journalled, unless it is this very node (one file
    /// for both nodes): then the check is over. `own` is the fingerprint of this node's certificate.
    #[must_use]
    pub fn as_check(self, own: Fingerprint) -> Self {
        Self { check: Some(Check::new(&own)), takeover_confirm: None, ..self }
    }

    /// Dials and keeps a session over every path until `stop`, or until the driver has ended.
    pub async fn run(self, stop: CancellationToken) {
        let stop = stop.child_token();
        let (away, seen_away) = watch::channel(0);
        let paths: Vec<_> = self
            .diallers
            .iter()
            .map(|dialler| {
                PathLoop {
                    dialler: Arc::clone(dialler),
                    clock: self.clock.clone(),
                    interval: self.interval,
                    takeover_after: self.takeover_after,
                    check: self.check.clone(),
                    away: away.clone(),
                }
                .run(stop.clone())
            })
            .collect();
        let refusals = async {
            if let Some(window) = self.takeover_confirm {
                let pause = self.interval.min(LONGEST_PERIOD);
                confirm::watch(&self.diallers, window, pause, seen_away).await;
            }
            std::future::pending::<()>().await;
        };
        // The paths end by themselves; the watch has nothing to finish.
        tokio::select! {
            biased;
            _ended = join_all(paths) => {}
            () = refusals => {}
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
