//! The connections that have not proved the key yet: bounded, and the *oldest* goes when there are too many. So nobody
//! can lock the real peer out by holding connections open: the newest is always let in.
//!
//! The newest two connections from the address of the last proved peer are never the ones to go: a flood from elsewhere
//! cannot push out the real peer's handshake. A peer with several network paths has one such address for each.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use failover_core::PathId;
use tokio_util::sync::CancellationToken;

/// A handshake takes milliseconds, so this many at once come from a flood only. Each holds a task, a descriptor and
/// at most about 200 KiB. When full the oldest is dropped.
pub(crate) const MOST: usize = 128;
/// Connections of the last proved peer that are never dropped: it dials at most two at once.
const KEPT: usize = 2;

/// The connections that have not proved the key yet.
#[derive(Debug, Default)]
pub(crate) struct Waiting(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    next: u64,
    /// By age: the oldest first.
    places: BTreeMap<u64, (IpAddr, CancellationToken)>,
    /// By path.
    last_proved: [Option<IpAddr>; PathId::MOST],
}

/// One connection's place; dropping it frees the place.
#[derive(Debug)]
pub(crate) struct Place {
    number: u64,
    evicted: CancellationToken,
    waiting: Arc<Waiting>,
}

impl Place {
    /// Cancelled when the connection must go.
    pub(crate) const fn evicted(&self) -> &CancellationToken {
        &self.evicted
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.waiting.inner().places.remove(&self.number);
    }
}

impl Waiting {
    /// A place for a new connection; when there is none, the oldest connection goes.
    pub(crate) fn enter(self: &Arc<Self>, address: IpAddr) -> Place {
        let evicted = CancellationToken::new();
        let mut inner = self.inner();
        if inner.places.len() >= MOST {
            inner.evict_oldest();
        }
        let number = inner.next;
        inner.next += 1;
        inner.places.insert(number, (address.to_canonical(), evicted.clone()));
        drop(inner);
        Place { number, evicted, waiting: Arc::clone(self) }
    }

    /// Drops the oldest connection, to have its descriptor back. `false`: there was none to drop.
    pub(crate) fn evict_oldest(&self) -> bool {
        self.inner().evict_oldest()
    }

    /// Remembers where the real peer is.
    pub(crate) fn proved(&self, path: PathId, address: IpAddr) {
        if let Some(last) = self.inner().last_proved.get_mut(path.index()) {
            *last = Some(address.to_canonical());
        }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn evict_oldest(&mut self) -> bool {
        // Two for each address, also where two paths have the same.
        let kept_of = |peer: IpAddr| {
            let of_peer = self.places.iter().rev().filter(move |(_, (address, _))| *address == peer);
            of_peer.take(KEPT).map(|(number, _)| *number)
        };
        let kept: Vec<u64> = self.last_proved.iter().flatten().flat_map(|peer| kept_of(*peer)).collect();
        let Some(oldest) = self.places.keys().copied().find(|number| !kept.contains(number)) else {
            return false;
        };
        if let Some((_, evicted)) = self.places.remove(&oldest) {
            evicted.cancel();
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(last: u8) -> IpAddr {
        IpAddr::from([10, 0, 0, last])
    }

    #[test]
    fn the_oldest_goes_and_the_newest_is_let_in() {
        let waiting = Arc::new(Waiting::default());
        let places: Vec<Place> = (0..MOST).map(|_| waiting.enter(address(1))).collect();
        assert!(places.iter().all(|place| !place.evicted().is_cancelled()));
        let newest = waiting.enter(address(1));
        assert!(places[0].evicted().is_cancelled());
        assert!(!places[1].evicted().is_cancelled());
        assert!(!newest.evicted().is_cancelled());
    }

    #[test]
    fn a_flood_does_not_push_out_the_last_proved_peer() {
        let waiting = Arc::new(Waiting::default());
        waiting.proved(PathId::FIRST, address(9));
        let real = [waiting.enter(address(9)), waiting.enter("::ffff:10.0.0.9".parse().expect("an address"))];
        let flood: Vec<Place> = (0..10 * MOST).map(|_| waiting.enter(address(1))).collect();
        assert!(real.iter().all(|place| !place.evicted().is_cancelled()));
        assert_eq!(flood.iter().filter(|place| !place.evicted().is_cancelled()).count(), MOST - 2);
    }

    #[test]
    fn the_peers_own_address_cannot_hold_more_than_two_places_against_others() {
        let waiting = Arc::new(Waiting::default());
        waiting.proved(PathId::FIRST, address(9));
        let held: Vec<Place> = (0..MOST).map(|_| waiting.enter(address(9))).collect();
        let _others: Vec<Place> = (0..MOST).map(|_| waiting.enter(address(1))).collect();
        assert_eq!(held.iter().filter(|place| !place.evicted().is_cancelled()).count(), 2);
    }

    #[test]
    fn every_path_of_the_peer_keeps_its_places() {
        let waiting = Arc::new(Waiting::default());
        waiting.proved(PathId::FIRST, address(9));
        waiting.proved(PathId::try_from(1).expect("a path"), address(8));
        let real = [waiting.enter(address(9)), waiting.enter(address(8)), waiting.enter(address(8))];
        let _flood: Vec<Place> = (0..10 * MOST).map(|_| waiting.enter(address(1))).collect();
        assert!(real.iter().all(|place| !place.evicted().is_cancelled()));
    }

    #[test]
    fn a_finished_connection_frees_its_place() {
        let waiting = Arc::new(Waiting::default());
        let first = waiting.enter(address(1));
        for _ in 0..10 * MOST {
            drop(waiting.enter(address(2)));
        }
        assert!(!first.evicted().is_cancelled());
        assert!(waiting.evict_oldest());
        assert!(first.evicted().is_cancelled());
        assert!(!waiting.evict_oldest());
    }
}
