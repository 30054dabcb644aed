//! The peer's addresses. Once known they are kept, so that name resolution is never on the path of a dial: it goes on
//! beside it, and a name server that is down or slow changes nothing.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use service_kit::latest::{LatestSender, latest};
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
    known: Arc<LatestSender<Known>>,
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
        Self { network, host, port, known: Arc::new(latest(Known::default()).0) }
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
        let Ok(known) = settled else {
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
        self.known.change(|known| {
            known.last_good = Some(address);
            false
        });
    }

    /// Asks again beside everything else, unless the answer is fresh or a question is open.
    fn refresh(&self) {
        let now = Instant::now();
        let mut ask = false;
        self.known.change(|known| {
            let fresh = known.asked.is_some_and(|asked| now < asked + FRESH) && !known.addresses.is_empty();
            ask = !known.asking && !fresh;
            if ask {
                known.asking = true;
                known.asked = Some(now);
            }
            // Who waits does so for the answer.
            false
        });
        if !ask {
            return;
        }
        let (network, host, port) = (Arc::clone(&self.network), self.host.clone(), self.port);
        let known = Arc::clone(&self.known);
        tokio::spawn(async move {
            let answer = network.resolve(&host, port).await;
            known.change(|known| {
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
                true
            });
        });
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::io;
    use std::sync::Mutex;

    use tokio::io::DuplexStream;
    use tokio::task::{JoinSet, yield_now};

    use super::*;

    /// A name server that takes a moment.
    struct Slow;

    impl Network for Slow {
        type Io = DuplexStream;

        async fn resolve(&self, _host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
            for _ in 0..3 {
                yield_now().await;
            }
            Ok(vec![SocketAddr::from(([192, 0, 2, 1], port))])
        }

        async fn connect(&self, _address: SocketAddr) -> io::Result<DuplexStream> {
            Err(io::ErrorKind::ConnectionRefused.into())
        }
    }

    #[tokio::test]
    async fn those_who_wait_for_the_first_answer_go_on_in_the_order_of_their_waiting() {
        let resolver = Arc::new(Resolver::new(Arc::new(Slow), "alpha.example".to_owned(), 7411));
        let order = Arc::new(Mutex::new(Vec::new()));
        let mut waiting = JoinSet::new();
        for number in 0..8 {
            let (resolver, order) = (Arc::clone(&resolver), Arc::clone(&order));
            let _ = waiting.spawn(async move {
                assert_eq!(resolver.addresses().await.unwrap().len(), 1);
                order.lock().unwrap().push(number);
            });
        }
        let _ = waiting.join_all().await;
        assert_eq!(*order.lock().unwrap(), (0..8).collect::<Vec<_>>());
    }
}
