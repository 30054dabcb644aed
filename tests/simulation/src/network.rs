//! The two seams of the link over the simulated network.

use std::io;
use std::net::SocketAddr;

use turmoil::net::{TcpListener, TcpStream};

use crate::freeze::Gate;
use crate::traffic::{What, passed};
use crate::world::Shared;

/// The ports of every node. A cable between the two is known by its port: a simulated host has one address.
pub const PORTS: [u16; 2] = [5001, 5002];

/// A node's way out.
#[derive(Clone, Debug)]
pub struct SimNetwork {
    /// The world.
    pub shared: Shared,
    /// Whose.
    pub node: usize,
}

impl heartbeat_client::Network for SimNetwork {
    type Io = Gate;

    async fn resolve(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        Ok(vec![SocketAddr::new(turmoil::lookup(host), port)])
    }

    async fn connect(&self, address: SocketAddr) -> io::Result<Gate> {
        if self.shared.lock().rejecting {
            return Err(io::ErrorKind::ConnectionRefused.into());
        }
        let cable = cable(address.port());
        passed(&self.shared, self.node, cable, What::Dials);
        let connected = TcpStream::connect(address).await;
        passed(&self.shared, self.node, cable, What::Dialled(connected.is_ok()));
        // turmoil answers a lost SYN with a refusal; a real one is answered by nothing.
        let (cut, off) = {
            let world = self.shared.lock();
            let peer = &world.hosts[1 - self.node];
            (world.cut != [false; 2], peer.phase == crate::world::Phase::Off && peer.ended.is_none())
        };
        if cut || off || self.shared.lock().cables.cut(cable) {
            drop(connected);
            return std::future::pending().await;
        }
        Ok(Gate::new(&self.shared, self.node, cable, connected?))
    }
}

fn cable(port: u16) -> usize {
    usize::from(port == PORTS[1])
}

/// A node's way in.
pub struct SimListener {
    /// The ports.
    pub inner: Listeners,
    /// The world.
    pub shared: Shared,
    /// Whose.
    pub node: usize,
}

impl heartbeat_server::Accept for SimListener {
    type Io = Gate;

    async fn accept(&self) -> io::Result<(Gate, SocketAddr)> {
        let (stream, peer, cable) = self.inner.accept().await?;
        passed(&self.shared, self.node, cable, What::Accepts);
        Ok((Gate::new(&self.shared, self.node, cable, stream), peer))
    }
}

/// The node's open ports.
pub struct Listeners([TcpListener; 2]);

impl Listeners {
    /// Opens them.
    ///
    /// # Errors
    ///
    /// When one is open already.
    pub async fn open() -> io::Result<Self> {
        let [first, second] = PORTS;
        Ok(Self([
            TcpListener::bind(("0.0.0.0", first)).await?,
            TcpListener::bind(("0.0.0.0", second)).await?,
        ]))
    }

    /// The next connection, who made it and over which cable. Cancel-safe.
    ///
    /// # Errors
    ///
    /// As a socket has them.
    pub async fn accept(&self) -> io::Result<(TcpStream, SocketAddr, usize)> {
        let [first, second] = &self.0;
        // Biased, that each replay is like the first.
        tokio::select! {
            biased;
            accepted = first.accept() => accepted.map(|(stream, peer)| (stream, peer, 0)),
            accepted = second.accept() => accepted.map(|(stream, peer)| (stream, peer, 1)),
        }
    }
}
