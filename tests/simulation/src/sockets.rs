//! What the process of a host has open. When a process dies, the kernel closes its sockets in the order of their descriptors,
//! and the peer hears of their ends in that order.
//!
//! In the simulation it is the end of a tokio runtime that drops them, and in an order of chance: tokio ends the tasks of a
//! runtime by their numbers, which it counts for all runtimes of this process.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use turmoil::net::TcpStream;

/// A socket of which its user and the kernel know; `None`: closed.
#[derive(Clone, Debug)]
pub struct Socket(Arc<Mutex<Option<TcpStream>>>);

impl Socket {
    /// What is connected.
    pub fn lock(&self) -> MutexGuard<'_, Option<TcpStream>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Closes it, if that was not done.
    pub fn close(&self) {
        let closed = self.lock().take();
        drop(closed);
    }
}

/// The table of descriptors of one host.
#[derive(Debug, Default)]
pub struct Sockets {
    opened: u64,
    open: BTreeMap<u64, Socket>,
    dying: bool,
}

impl Sockets {
    /// Another one, with its number.
    pub fn open(&mut self, stream: TcpStream) -> (u64, Socket) {
        let socket = Socket(Arc::new(Mutex::new(Some(stream))));
        self.opened += 1;
        self.open.insert(self.opened, socket.clone());
        (self.opened, socket)
    }

    /// What is to be closed with this one, in this order: while the process dies, everything.
    pub fn forget(&mut self, number: u64) -> Vec<Socket> {
        if self.dying {
            return std::mem::take(&mut self.open).into_values().collect();
        }
        self.open.remove(&number).into_iter().collect()
    }

    /// From now on the process dies, or another one begins.
    pub const fn set_dying(&mut self, dying: bool) {
        self.dying = dying;
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;
    use std::time::Duration;

    use tokio::io::AsyncReadExt;
    use turmoil::net::TcpListener;

    use super::*;
    use crate::freeze::Gate;
    use crate::network::PORTS;
    use crate::world::{ALPHA, BETA, NAMES, Shared};

    const CONNECTIONS: usize = 6;

    /// Beta has a task for each connection and dies; the order in which alpha hears of their ends. `before`: so many tasks
    /// were there before.
    fn ends(before: usize) -> Vec<usize> {
        let ms = Duration::from_millis;
        let mut sim =
            turmoil::Builder::new().min_message_latency(ms(1)).max_message_latency(ms(1)).rng_seed(1).build();
        let heard = Arc::new(Mutex::new(Vec::new()));
        let told = Arc::clone(&heard);
        sim.host(NAMES[ALPHA], move || {
            let told = Arc::clone(&told);
            async move {
                let listener = TcpListener::bind(("0.0.0.0", PORTS[0])).await?;
                for number in 0..CONNECTIONS {
                    let (mut stream, _) = listener.accept().await?;
                    let told = Arc::clone(&told);
                    let _detached = tokio::spawn(async move {
                        let _ended = stream.read(&mut [0]).await;
                        told.lock().unwrap().push(number);
                    });
                }
                pending().await
            }
        });
        let shared = Shared::default();
        let world = shared.clone();
        sim.host(NAMES[BETA], move || {
            let world = world.clone();
            async move {
                for _ in 0..before {
                    tokio::spawn(async {}).await?;
                }
                for _ in 0..CONNECTIONS {
                    let stream = TcpStream::connect((NAMES[ALPHA], PORTS[0])).await?;
                    let gate = Gate::new(&world, BETA, 0, stream);
                    let _detached = tokio::spawn(async move {
                        let _open = gate;
                        pending::<()>().await;
                    });
                }
                pending().await
            }
        });
        for _ in 0..50 {
            let _finished = sim.step().unwrap();
        }
        assert_eq!(shared.lock().hosts[BETA].sockets.open.len(), CONNECTIONS);
        shared.lock().hosts[BETA].sockets.set_dying(true);
        sim.crash(NAMES[BETA]);
        for _ in 0..10 {
            let _finished = sim.step().unwrap();
        }
        heard.lock().unwrap().clone()
    }

    #[test]
    fn a_process_that_dies_closes_its_sockets_in_the_order_of_their_opening() {
        for before in 0..4 {
            assert_eq!(ends(before), (0..CONNECTIONS).collect::<Vec<_>>(), "after {before} tasks");
        }
    }
}
