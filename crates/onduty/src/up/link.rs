//! The link of a node: the server that every mode has, and the client of a node that has an address to dial.

use std::net::TcpListener;
use std::sync::Arc;

use certificate_trust::{Acceptor, ClientTrust, Connector, KeyRing, KeyStore, PairKeys, TrustMode};
use duty::LinkHandle;
use failover_core::Mode;
use heartbeat_client::{Client, TokioNetwork};
use heartbeat_server::Server;
use management::{ConnectionTest, NoAddress};
use service_kit::codes::Code;
use service_kit::settings::{
    ChannelBindingMode, ClientTrust as ClientTrustMode, NodeSettings, PeerAddress, PeerAddresses, Trust,
};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::failure::Failure;
use crate::up::{Prepared, trust};

/// Both ends, and the function that tries the link.
pub(crate) struct Link {
    server: Option<Server<tokio::net::TcpListener>>,
    client: Option<Client<TokioNetwork>>,
    pub(crate) test: ConnectionTest,
}

/// Makes the ends that the settings ask for. A node without a key (mode `deactivated`) has none.
pub(crate) fn build(
    prepared: &Prepared,
    trust: &trust::Trust,
    listener: TcpListener,
    link: LinkHandle,
) -> Result<Link, Failure> {
    let redundancy = &prepared.loaded.settings.redundancy;
    let Some(keys) = prepared.keys.as_ref().map(KeyStore::ring) else {
        return Ok(Link {
            server: None,
            client: None,
            test: no_test("this node has no key, and so no link"),
        });
    };
    let server = Some(server(prepared, trust, listener, keys.clone(), link.clone())?);
    // One file may serve both nodes: then the primary finds its own address here, and there is nothing to look for.
    let dials = redundancy.mode == Mode::Secondary;
    let settings = &prepared.loaded.settings;
    let names = prepared.own_names();
    let is_peer = |addresses: &PeerAddresses| dials || leads_home(settings, addresses, &names).is_none();
    match redundancy.secondary.address.clone().filter(is_peer) {
        Some(addresses) => {
            let (client, test) = client(prepared, trust, addresses, keys, link)?;
            // Two primaries would never hear of each other if both only listened.
            let client = match trust.own().filter(|_| !dials) {
                Some(own) => client.as_check(own),
                None => client,
            };
            Ok(Link { server, client: Some(client), test })
        }
        None => {
            let why = "this node dials nobody: the secondary does; run the test there";
            Ok(Link { server, client: None, test: no_test(why) })
        }
    }
}

/// The first of the addresses that is this node's own; `names` are its names and addresses.
pub(crate) fn leads_home<'a>(
    settings: &NodeSettings,
    addresses: &'a PeerAddresses,
    names: &[String],
) -> Option<&'a PeerAddress> {
    let home = |address: &&PeerAddress| {
        let host = address.host();
        address.port() == settings.node.listen.port() && (host == "localhost" || names.contains(&host))
    };
    addresses.all().iter().find(home)
}

/// Whose certificates a dial accepts, and whether the key is good enough for that.
pub(crate) fn trust_mode(settings: &NodeSettings, keys: &PairKeys) -> Result<TrustMode, Failure> {
    let mode = match settings.redundancy.secondary.trust {
        Some(Trust::All) => TrustMode::All,
        Some(Trust::System) => TrustMode::System,
        // The check of the settings asks a secondary for its trust; the strict one is the safe answer.
        Some(Trust::Store) | None => TrustMode::Store,
    };
    if mode == TrustMode::All && !keys.are_generated() {
        // A fake primary gets a proof it could guess a passphrase from.
        return Err(Failure::settings(
            "`redundancy.secondary.trust` is \"all\", which needs a generated key: a passphrase could be guessed from \
             what a false primary sees. Make one with `onduty key generate`, or use trust = \"store\"",
        )
        .coded(Code::KeyUnusable));
    }
    Ok(mode)
}

fn no_test(why: &'static str) -> ConnectionTest {
    ConnectionTest::new(move || Err(NoAddress(why.to_owned())))
}

fn server(
    prepared: &Prepared,
    trust: &trust::Trust,
    listener: TcpListener,
    keys: KeyRing,
    link: LinkHandle,
) -> Result<Server<tokio::net::TcpListener>, Failure> {
    let redundancy = &prepared.loaded.settings.redundancy;
    let listener = tokio::net::TcpListener::from_std(listener)
        .map_err(|error| Failure::failed(format!("taking the port over: {error}")))?;
    let options = heartbeat_server::Options {
        listener,
        acceptor: acceptor(prepared, trust),
        keys: keys.newest(),
        pair: redundancy.pair.clone(),
        channel_bound: redundancy.channel_binding == ChannelBindingMode::Required,
        link,
        clock: prepared.clock.clone(),
    };
    Ok(heartbeat_server::build_with(options, keys).0)
}

/// The TLS end. A primary asks whoever dials for a certificate where the settings want it; a secondary judges a primary that dials
/// (it looks for another one) as it judges the one that it dials: else the key alone would pass for a primary at this end.
fn acceptor(prepared: &Prepared, trust: &trust::Trust) -> Acceptor {
    let redundancy = &prepared.loaded.settings.redundancy;
    let bundles = trust.bundles.clone();
    let mode = match (redundancy.mode, redundancy.primary.client_trust, redundancy.secondary.trust) {
        (Mode::Primary, ClientTrustMode::Store, _) | (Mode::Secondary, _, Some(Trust::Store)) => {
            TrustMode::Store
        }
        (Mode::Primary, ClientTrustMode::System, _) | (Mode::Secondary, _, Some(Trust::System)) => {
            TrustMode::System
        }
        (Mode::Primary, ClientTrustMode::None, _)
        | (Mode::Secondary, _, Some(Trust::All) | None)
        | (Mode::Deactivated, _, _) => return Acceptor::watching(bundles),
    };
    let (keeper, clock) = (Arc::clone(&trust.keeper), prepared.clock.clone());
    Acceptor::asking(bundles.clone(), ClientTrust::watching(mode, bundles, keeper, clock))
}

fn client(
    prepared: &Prepared,
    trust: &trust::Trust,
    addresses: PeerAddresses,
    keys: KeyRing,
    link: LinkHandle,
) -> Result<(Client<TokioNetwork>, ConnectionTest), Failure> {
    let settings = &prepared.loaded.settings;
    let secondary = &settings.redundancy.secondary;
    let mode = trust_mode(settings, &keys.newest())?;
    let options = heartbeat_client::Options {
        network: TokioNetwork,
        addresses,
        connector: Connector::watching(
            mode,
            trust.bundles.clone(),
            Arc::clone(&trust.keeper),
            prepared.clock.clone(),
        ),
        trusts_all: mode == TrustMode::All,
        keys: keys.newest(),
        pair: settings.redundancy.pair.clone(),
        channel_bound: settings.redundancy.channel_binding == ChannelBindingMode::Required,
        interval: secondary.interval,
        takeover_after: settings.takeover_after(),
        takeover_confirm: secondary.takeover_confirm.0,
        link,
        clock: prepared.clock.clone(),
    };
    let (client, handle) = heartbeat_client::build_with(options, keys);
    Ok((client, ConnectionTest::new(move || Ok(handle.test()))))
}

impl Link {
    /// Runs both ends until `stop`.
    pub(crate) fn spawn(
        self,
        tasks: &mut JoinSet<(&'static str, Result<(), String>)>,
        stop: &CancellationToken,
    ) {
        if let Some(server) = self.server {
            let stop = stop.clone();
            let _ = tasks.spawn(async move {
                server.run(stop).await;
                ("the heartbeat server", Ok(()))
            });
        }
        if let Some(client) = self.client {
            let stop = stop.clone();
            let _ = tasks.spawn(async move {
                client.run(stop).await;
                ("the heartbeat client", Ok(()))
            });
        }
    }
}
