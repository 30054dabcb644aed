//! One dial: every address of the peer is raced, each with a fresh socket, all under one deadline.
//!
//! The last good address begins; the others follow one by one, at once when one has failed (RFC 8305, but up to the proof
//! and not only up to TCP: an address behind which something else listens must not hide the peer).

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use certificate_trust::{ChannelBinding, ClientTls, Connector, TlsError};
use duty::LinkHandle;
use failover_core::PathId;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use onduty_api::heartbeat::{Hello, NEWEST_VERSION, OLDEST_VERSION};
use service_kit::settings::PeerAddress;
use tokio::time::{Instant, timeout_at};

use crate::failure::{Failure, Stage, most_telling};
use crate::network::Network;
use crate::prove::{self, Credentials, Session};
use crate::resolver::Resolver;
use crate::sniff::Sniff;

/// The head start of one address before the next, at most; a quarter of the deadline when that is shorter.
const HEAD_START: Duration = Duration::from_millis(250);

/// Everything a dial needs; one per network path.
pub(crate) struct Dialler<N> {
    /// Which of `paths`.
    pub(crate) path: PathId,
    pub(crate) paths: usize,
    pub(crate) network: Arc<N>,
    pub(crate) resolver: Resolver<N>,
    pub(crate) address: PeerAddress,
    pub(crate) connector: Arc<Connector>,
    pub(crate) credentials: Credentials,
    pub(crate) pair: String,
    pub(crate) link: LinkHandle,
}

/// A connection on which TLS is done.
pub(crate) type Secured<N> = (ClientTls<Sniff<<N as Network>::Io>>, ChannelBinding);

impl<N: Network> Dialler<N> {
    /// Dials every address until one has proved the key, or `limit` is over.
    pub(crate) async fn dial(&self, limit: Duration) -> Result<Session, Failure> {
        let deadline = Instant::now() + limit;
        let head_start = HEAD_START.min(limit / 4);
        let mut addresses = match timeout_at(deadline, self.resolver.addresses()).await {
            Ok(found) => found.map_err(Failure::name)?.into_iter(),
            Err(_elapsed) => {
                return Err(Failure::name(format!("looking up `{}` took too long", self.address.host())));
            }
        };
        let mut attempts = FuturesUnordered::new();
        let mut failures = Vec::new();
        attempts.extend(addresses.next().map(|address| self.attempt(address, deadline)));
        loop {
            // Both branches are cancel-safe.
            let done = tokio::select! {
                biased;
                done = attempts.next() => done,
                () = tokio::time::sleep(head_start), if addresses.len() > 0 => {
                    attempts.extend(addresses.next().map(|address| self.attempt(address, deadline)));
                    continue;
                }
            };
            match done {
                Some(Ok(session)) => {
                    self.resolver.found_at(session.remote);
                    return Ok(session);
                }
                Some(Err(failure)) => {
                    failures.push(failure);
                    attempts.extend(addresses.next().map(|address| self.attempt(address, deadline)));
                }
                None => {
                    let none = || Failure::name(format!("`{}` has no address", self.address.host()));
                    return Err(most_telling(failures).unwrap_or_else(none));
                }
            }
        }
    }

    /// One address, up to the proof.
    async fn attempt(&self, remote: SocketAddr, deadline: Instant) -> Result<Session, Failure> {
        let late = |stage| move |_elapsed| Failure::timed_out(remote, stage);
        let io = timeout_at(deadline, self.connect(remote)).await.map_err(late(Stage::Tcp))??;
        let tls = timeout_at(deadline, self.secure(remote, io)).await.map_err(late(Stage::Tls))??;
        timeout_at(deadline, self.prove(remote, tls, false)).await.map_err(late(Stage::Key))?
    }

    /// A fresh TCP connection.
    pub(crate) async fn connect(&self, remote: SocketAddr) -> Result<N::Io, Failure> {
        self.network.connect(remote).await.map_err(|error| Failure::connect(remote, &error))
    }

    /// TLS over it.
    pub(crate) async fn secure(&self, remote: SocketAddr, io: N::Io) -> Result<Secured<N>, Failure> {
        let (io, seen) = Sniff::new(io);
        self.connector.connect(&self.address.host(), io).await.map_err(|error| {
            let is_tombstone = matches!(error, TlsError::NotTls) && seen.is_tombstone();
            if is_tombstone { Failure::tombstone(remote) } else { Failure::tls(remote, &error) }
        })
    }

    /// The proof over that.
    pub(crate) async fn prove(
        &self,
        remote: SocketAddr,
        (tls, binding): Secured<N>,
        test_only: bool,
    ) -> Result<Session, Failure> {
        let own = self.link.own();
        let mut nonce = [0; 32];
        getrandom::fill(&mut nonce).map_err(|_| Failure::no_random())?;
        let hello = Hello {
            min_version: OLDEST_VERSION,
            max_version: NEWEST_VERSION,
            pair: self.pair.clone(),
            identity: own.identity,
            role: own.role,
            mode: own.mode,
            nonce,
            channel_bound: self.credentials.channel_bound,
            test_only,
            path: self.path,
            paths: self.paths,
        };
        let origin = self.address.to_string();
        let origin = origin.parse().map_err(|_| Failure::name(format!("`{origin}` cannot be dialled")))?;
        let seen = tls.get_ref().0.seen();
        let session = prove::prove(tls, &binding, remote, origin, hello, &self.credentials).await?;
        seen.prove();
        Ok(session)
    }
}
