//! Options → server → handle, and the loop that takes connections.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use certificate_trust::{Acceptor, KeyRing, PairKeys};
use duty::LinkHandle;
use service_kit::Clock;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::accept::Accept;
use crate::connection;
use crate::waiting::Waiting;

/// How long the loop leaves a listener alone that cannot accept for want of descriptors or memory. Dropping the oldest
/// unauthenticated connection gives one back within this time.
const PAUSE: Duration = Duration::from_millis(10);
/// How long connections may take to say goodbye when the server stops.
const GOODBYE: Duration = Duration::from_secs(2);

/// What the server needs.
pub struct Options<L> {
    /// Where connections come from: a bound `tokio::net::TcpListener`.
    pub listener: L,
    /// The TLS end.
    pub acceptor: Acceptor,
    /// The keys this node accepts, unless they may change ([`build_with`]).
    pub keys: Arc<PairKeys>,
    /// The pair's name; both nodes have the same.
    pub pair: String,
    /// Whether proofs are bound to the TLS connection (`redundancy.channel_binding`).
    pub channel_bound: bool,
    /// The way to the driver.
    pub link: LinkHandle,
    /// The clocks.
    pub clock: Clock,
}

impl<L> fmt::Debug for Options<L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("pair", &self.pair)
            .field("channel_bound", &self.channel_bound)
            .finish_non_exhaustive()
    }
}

/// What every connection uses.
pub(crate) struct Shared {
    pub(crate) acceptor: Acceptor,
    pub(crate) keys: KeyRing,
    pub(crate) pair: String,
    pub(crate) channel_bound: bool,
    pub(crate) link: LinkHandle,
    pub(crate) clock: Clock,
    pub(crate) waiting: Arc<Waiting>,
    /// Connections and sessions; all have ended when `Server::run` returns.
    pub(crate) tasks: TaskTracker,
    /// Cancelled when the server stops.
    pub(crate) stop: CancellationToken,
}

/// The server; nothing is accepted before [`Server::run`].
pub struct Server<L> {
    listener: L,
    shared: Shared,
}

impl<L> fmt::Debug for Server<L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server").finish_non_exhaustive()
    }
}

/// What others may ask the server.
#[derive(Clone, Debug)]
pub struct ServerHandle {
    keys: KeyRing,
}

impl ServerHandle {
    /// The keys that it goes by, and which of them sessions use.
    #[must_use]
    pub const fn keys(&self) -> &KeyRing {
        &self.keys
    }
}

/// Makes the server and its handle.
#[must_use]
pub fn build<L: Accept>(options: Options<L>) -> (Server<L>, ServerHandle) {
    let keys = KeyRing::fixed(Arc::clone(&options.keys), options.clock.clone());
    build_with(options, keys)
}

/// The same with keys that may change while it runs; they stand in the place of those of the options.
#[must_use]
pub fn build_with<L: Accept>(options: Options<L>, keys: KeyRing) -> (Server<L>, ServerHandle) {
    let Options { listener, acceptor, keys: _, pair, channel_bound, link, clock } = options;
    let shared = Shared {
        acceptor,
        keys: keys.clone(),
        pair,
        channel_bound,
        link,
        clock,
        waiting: Arc::default(),
        tasks: TaskTracker::new(),
        stop: CancellationToken::new(),
    };
    (Server { listener, shared }, ServerHandle { keys })
}

impl<L: Accept> Server<L> {
    /// Serves until `stop`, then ends every session and waits for the connections to say goodbye.
    pub async fn run(self, stop: CancellationToken) {
        let Self { listener, mut shared } = self;
        shared.stop = stop.clone();
        let shared = Arc::new(shared);
        let mut scarce = false;
        loop {
            // Both are cancel-safe.
            let accepted = tokio::select! {
                biased;
                () = stop.cancelled() => break,
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok((io, peer)) => {
                    scarce = false;
                    let place = shared.waiting.enter(peer.ip());
                    shared.tasks.spawn(connection::serve(Arc::clone(&shared), io, peer, place));
                }
                Err(error) if is_of_one_connection(&error) => {
                    tracing::debug!(%error, "a connection was gone before it could be accepted");
                }
                Err(error) => {
                    let freed = shared.waiting.evict_oldest();
                    if !scarce {
                        tracing::warn!(%error, freed, "connections cannot be accepted; trying again");
                    }
                    scarce = true;
                    tokio::select! {
                        biased;
                        () = stop.cancelled() => break,
                        () = tokio::time::sleep(PAUSE) => {}
                    }
                }
            }
        }
        drop(listener);
        shared.tasks.close();
        if tokio::time::timeout(GOODBYE, shared.tasks.wait()).await.is_err() {
            tracing::debug!("a connection did not end in time and is left behind");
        }
    }
}

/// Whether an accept failed for a reason of that one connection (see accept(2)) and not for want of something.
fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{
        ConnectionAborted, ConnectionRefused, ConnectionReset, HostUnreachable, Interrupted, NetworkDown,
        NetworkUnreachable, WouldBlock,
    };
    [
        ConnectionAborted,
        ConnectionRefused,
        ConnectionReset,
        HostUnreachable,
        Interrupted,
        NetworkDown,
        NetworkUnreachable,
        WouldBlock,
    ]
    .contains(&error.kind())
}
