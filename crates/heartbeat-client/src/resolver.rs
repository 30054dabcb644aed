//! The peer's addresses. Once known they are kept, so that name resolution is never on the path of a dial: it goes on
//! beside it, and a name server that is down or slow changes nothing.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use crate::network::Network;

/// How old the addresses may be before a dial asks again, beside its own work.
const FRESH: Duration = Duration::from_secs(5);
/// More addresses than any host of a pair has; the rest is ignored.
const MOST: usize = 8;

/// Finds and remembers the peer's addresses.
pub(crate) struct Resolver<N> {
    network: Arc<N>,
    host: String,
    port: u16,
    known: Arc<watch::Sender<Known>>,
}

#[derive(Clone, Debug, Default)]
struct Known {
    addresses: Vec<SocketAddr>,
    last_good: Option<SocketAddr>,
    trouble: Option<String>,
    /// When the newest question was put.
    asked: Option<Instant>,
    /// Whether it is still open: there is one at most.
    asking: bool,
}

impl<N: Network> Resolver<N> {
    pub(crate) fn new(network: Arc<N>, host: String, port: u16) -> Self {
        Self { network, host, port, known: Arc::new(watch::Sender::new(Known::default())) }
    }

    /// The addresses, the last good one first. Waits only while none are known, until the first answer. Cancel-safe.
    ///
    /// Err: why there are none.
    pub(crate) async fn addresses(&self) -> Result<Vec<SocketAddr>, String> {
        if let Ok(address) = self.host.parse::<IpAddr>() {
            return Ok(vec![SocketAddr::new(address, self.port)]);
        }
        let mut known = self.known.subscribe();
        self.refresh();
        let settled = known.wait_for(|known| !known.addresses.is_empty() || !known.asking).await;
        let Ok(known) = settled.map(|known| known.clone()) else {
            return Err(format!("the name `{}` cannot be looked up while this node stops", self.host));
        };
        if known.addresses.is_empty() {
            let trouble = known.trouble.unwrap_or_else(|| "no answer".to_owned());
            return Err(format!("the name `{}` has no address: {trouble}", self.host));
        }
        let mut addresses = known.addresses;
        // Stable: only the last good one moves.
        addresses.sort_by_key(|address| Some(*address) != known.last_good);
        Ok(addresses)
    }

    /// Remembers where the peer was found.
    pub(crate) fn found_at(&self, address: SocketAddr) {
        self.known.send_if_modified(|known| {
            known.last_good = Some(address);
            false
        });
    }

    /// Asks again beside everything else, unless the answer is fresh or a question is open.
    fn refresh(&self) {
        let now = Instant::now();
        let ask = self.known.send_if_modified(|known| {
            let fresh = known.asked.is_some_and(|asked| now < asked + FRESH) && !known.addresses.is_empty();
            if known.asking || fresh {
                return false;
            }
            known.asking = true;
            known.asked = Some(now);
            true
        });
        if !ask {
            return;
        }
        let (network, host, port) = (Arc::clone(&self.network), self.host.clone(), self.port);
        let known = Arc::clone(&self.known);
        tokio::spawn(async move {
            let answer = network.resolve(&host, port).await;
            known.send_modify(|known| {
                known.asking = false;
                match answer {
                    Ok(mut addresses) if !addresses.is_empty() => {
                        addresses.dedup();
                        addresses.truncate(MOST);
                        known.addresses = addresses;
                        known.trouble = None;
                    }
                    // The addresses from before stay: they are better than none.
                    Ok(_) => known.trouble = Some("the answer is empty".to_owned()),
                    Err(error) => known.trouble = Some(error.to_string()),
                }
            });
        });
    }
}
