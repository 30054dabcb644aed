//! Nodes, and waiting for what they are told.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use certificate_trust::{Acceptor, Connector, KeyRing, OwnIdentity, PairKey, PairKeys, PkiStore, TrustMode};
use duty::stand_in::StandIn;
use duty::{LinkHandle, Recorder};
use failover_core::{
    Beat, DialOutcome, Epoch, Fitness, Identity, Input, InstanceId, Maintenance, Mode, NodeId, NodeName,
    Procedure, Report, Role, SessionId, State, Summary, TimingsInForce,
};
use heartbeat_client::{Client, ClientHandle, TokioNetwork};
use heartbeat_server::ServerHandle;
use service_kit::Clock;
use service_kit::settings::{PeerAddress, PeerAddresses};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

pub(crate) const KEY: &str = "odk1_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8";
pub(crate) const OTHER_KEY: &str = "odk1_HxAeDRwMGwsaChkJGAgXBxYGFQUUBBMDEgIRARAADw4";
/// Long enough for a loaded machine; no test waits for it unless it fails.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

pub(crate) fn keys(current: &str, previous: Option<&str>) -> Arc<PairKeys> {
    let parse = |text| PairKey::parse(text).unwrap();
    Arc::new(PairKeys { current: parse(current), previous: previous.map(parse) })
}

pub(crate) fn report(role: Role, number: u8) -> Report {
    let mode = match role {
        Role::Primary => Mode::Primary,
        Role::Secondary => Mode::Secondary,
    };
    Report {
        identity: Identity {
            node: NodeId([number; 16]),
            instance: InstanceId([number; 16]),
            name: NodeName::try_from(format!("node-{number}")).unwrap(),
        },
        revision: 0,
        role,
        mode,
        state: State::Standby,
        fit: Fitness::Fit,
        epoch: None,
        highest_epoch: Epoch(0),
        last_held: None,
        parity: role,
        timings: TimingsInForce {
            interval: ms(1000),
            takeover_after: ms(3000),
            guard_deadline: ms(1700),
            startup_wait: ms(3000),
        },
        procedure: Procedure::default(),
        maintenance: Maintenance::default(),
        tombstone: None,
        summary: Summary {
            version: "0.1.0".to_owned(),
            project: "same".to_owned(),
            containment: None,
            plugins: Vec::new(),
        },
    }
}

/// One node with a stand-in for its driver.
pub(crate) struct Node {
    pub(crate) report: Report,
    pub(crate) driver: StandIn,
    pub(crate) link: LinkHandle,
    pub(crate) keys: Arc<PairKeys>,
    /// Keys that change, in the place of those.
    pub(crate) ring: Option<KeyRing>,
    pub(crate) pair: String,
    pub(crate) channel_bound: bool,
    pub(crate) interval: Duration,
    pub(crate) takeover_after: Duration,
    pub(crate) takeover_confirm: Option<Duration>,
    pub(crate) trust: TrustMode,
    pub(crate) clock: Clock,
    folder: TempDir,
}

impl Node {
    pub(crate) fn new(role: Role, number: u8) -> Self {
        let report = report(role, number);
        let clock = Clock::real();
        let (driver, link) = StandIn::new(report.clone(), clock.clone(), Recorder::new(|_| {}));
        Self {
            report,
            driver,
            link,
            keys: keys(KEY, None),
            ring: None,
            pair: "plant".to_owned(),
            channel_bound: true,
            // A dial beside the session begins after twice this: no test should see one because the machine is loaded.
            interval: ms(500),
            takeover_after: ms(3000),
            takeover_confirm: None,
            trust: TrustMode::All,
            clock,
            folder: TempDir::new().unwrap(),
        }
    }

    pub(crate) fn primary() -> Self {
        Self::new(Role::Primary, 1)
    }

    pub(crate) fn secondary() -> Self {
        Self::new(Role::Secondary, 2)
    }

    pub(crate) fn acceptor(&self) -> Acceptor {
        let pki = self.folder.path().join("pki");
        let names = ["localhost".to_owned(), "127.0.0.1".to_owned()];
        Acceptor::new(&OwnIdentity::open_or_create(&pki, &names, self.clock.now().unix).unwrap())
    }

    /// Puts the other node's certificate among the trusted ones, and goes by them.
    pub(crate) fn trusts(&mut self, other: &Self) {
        let store = PkiStore::open(&self.folder.path().join("pki")).unwrap();
        let _made = other.acceptor();
        std::fs::copy(other.folder.path().join("pki/own/certificate.pem"), store.trusted().join("other.pem"))
            .unwrap();
        self.trust = TrustMode::Store;
    }

    pub(crate) fn connector(&self) -> Connector {
        let store = PkiStore::open(&self.folder.path().join("pki")).unwrap();
        Connector::new(self.trust, store, self.clock.clone())
    }

    /// Serves on the listener.
    pub(crate) fn serve_on(&self, listener: TcpListener) -> Running<ServerHandle> {
        let address = listener.local_addr().unwrap();
        self.serve_from(listener, address)
    }

    /// Serves what comes from any source of connections.
    pub(crate) fn serve_from<L: heartbeat_server::Accept>(
        &self,
        listener: L,
        address: SocketAddr,
    ) -> Running<ServerHandle> {
        let options = heartbeat_server::Options {
            listener,
            acceptor: self.acceptor(),
            keys: Arc::clone(&self.keys),
            pair: self.pair.clone(),
            channel_bound: self.channel_bound,
            link: self.link.clone(),
            clock: self.clock.clone(),
        };
        let (server, handle) = match self.ring.clone() {
            Some(ring) => heartbeat_server::build_with(options, ring),
            None => heartbeat_server::build(options),
        };
        let stop = CancellationToken::new();
        Running { address, task: tokio::spawn(server.run(stop.clone())), stop, handle }
    }

    pub(crate) async fn serve(&self) -> Running<ServerHandle> {
        self.serve_on(TcpListener::bind("127.0.0.1:0").await.unwrap())
    }

    pub(crate) fn client(&self, to: SocketAddr) -> (Client<TokioNetwork>, ClientHandle<TokioNetwork>) {
        self.client_of(&format!("https://{to}"))
    }

    pub(crate) fn client_of(&self, address: &str) -> (Client<TokioNetwork>, ClientHandle<TokioNetwork>) {
        let address: PeerAddress = address.parse().unwrap();
        self.client_over(address.into())
    }

    pub(crate) fn client_over(
        &self,
        addresses: PeerAddresses,
    ) -> (Client<TokioNetwork>, ClientHandle<TokioNetwork>) {
        let options = heartbeat_client::Options {
            network: TokioNetwork,
            addresses,
            connector: self.connector(),
            trusts_all: self.trust == TrustMode::All,
            keys: Arc::clone(&self.keys),
            pair: self.pair.clone(),
            channel_bound: self.channel_bound,
            interval: self.interval,
            takeover_after: self.takeover_after,
            takeover_confirm: self.takeover_confirm,
            link: self.link.clone(),
            clock: self.clock.clone(),
        };
        match self.ring.clone() {
            Some(ring) => heartbeat_client::build_with(options, ring),
            None => heartbeat_client::build(options),
        }
    }

    pub(crate) fn dial(&self, to: SocketAddr) -> Running<ClientHandle<TokioNetwork>> {
        let (client, handle) = self.client(to);
        let stop = CancellationToken::new();
        Running { address: to, task: tokio::spawn(client.run(stop.clone())), stop, handle }
    }

    /// The next input that `pick` wants; the others are dropped.
    pub(crate) async fn told<T>(&mut self, what: &str, mut pick: impl FnMut(Input) -> Option<T>) -> T {
        let waiting = async {
            loop {
                let input = self.driver.inputs.recv().await.expect("the link is there");
                if let Some(picked) = pick(input) {
                    return picked;
                }
            }
        };
        tokio::time::timeout(PATIENCE, waiting).await.unwrap_or_else(|_| panic!("was not told of {what}"))
    }

    pub(crate) async fn proved(&mut self) -> (SessionId, Identity) {
        self.told("a proved session", |input| match input {
            Input::SessionProved { session, peer, .. } => Some((session, peer)),
            _ => None,
        })
        .await
    }

    pub(crate) async fn ended(&mut self) -> (SessionId, String) {
        self.told("the end of a session", |input| match input {
            Input::SessionEnded { session, cause } => Some((session, cause)),
            _ => None,
        })
        .await
    }

    pub(crate) async fn beat(&mut self) -> Beat {
        self.told("a beat", |input| match input {
            Input::BeatArrived { beat, .. } => Some(*beat),
            _ => None,
        })
        .await
    }

    /// The outcome of a dial; a proved session instead is a failure.
    pub(crate) async fn dialled(&mut self) -> DialOutcome {
        self.told("the end of a dial", |input| match input {
            Input::DialFinished { outcome, .. } => Some(outcome),
            Input::SessionProved { .. } => panic!("a session was proved"),
            _ => None,
        })
        .await
    }

    /// Waits until connections have been turned away for this reason.
    pub(crate) async fn rejected(&self, code: &str, at_least: u64) -> BTreeMap<String, u64> {
        let begun = tokio::time::Instant::now();
        loop {
            let rejected = self.driver.rejected();
            if rejected.get(code).copied().unwrap_or(0) >= at_least {
                return rejected;
            }
            assert!(begun.elapsed() < PATIENCE, "{code} {at_least} times, but: {rejected:?}");
            tokio::time::sleep(ms(5)).await;
        }
    }
}

/// A running end of the link; it stops when dropped.
pub(crate) struct Running<H> {
    pub(crate) address: SocketAddr,
    pub(crate) handle: H,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl<H> Running<H> {
    pub(crate) async fn stop(mut self) {
        self.stop.cancel();
        tokio::time::timeout(PATIENCE, &mut self.task).await.expect("it stops").unwrap();
    }
}

impl<H> Drop for Running<H> {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}
