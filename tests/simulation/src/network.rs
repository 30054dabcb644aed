//! The two seams of the link over the simulated network.

use std::io;
use std::net::SocketAddr;

use turmoil::net::{TcpListener, TcpStream};

use crate::freeze::Gate;
use crate::world::Shared;

/// The port of every node.
pub const PORT: u16 = 5001;

/// A node's way out.
#[derive(Clone, Debug)]
pub struct SimNetwork {
    /// The world.
    pub shared: Shared,
    /// Whose.
    pub node: usize,
}

impl heartbeat_client::Network for SimNetwork {
    type Io = Gate<TcpStream>;

    async fn resolve(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        Ok(vec![SocketAddr::new(turmoil::lookup(host), port)])
    }

    async fn connect(&self, address: SocketAddr) -> io::Result<Gate<TcpStream>> {
        if self.shared.lock().rejecting {
            return Err(io::ErrorKind::ConnectionRefused.into());
        }
        let connected = TcpStream::connect(address).await;
        // turmoil answers a lost SYN with a refusal; a real one is answered by nothing.
        let (cut, off) = {
            let world = self.shared.lock();
            let peer = &world.hosts[1 - self.node];
            (world.cut != [false; 2], peer.phase == crate::world::Phase::Off && peer.ended.is_none())
        };
        if cut || off {
            drop(connected);
            return std::future::pending().await;
        }
        Ok(Gate::new(&self.shared, self.node, connected?))
    }
}

/// A node's way in.
pub struct SimListener {
    /// The port.
    pub inner: TcpListener,
    /// The world.
    pub shared: Shared,
    /// Whose.
    pub node: usize,
}

impl heartbeat_server::Accept for SimListener {
    type Io = Gate<TcpStream>;

    async fn accept(&self) -> io::Result<(Gate<TcpStream>, SocketAddr)> {
        let (stream, peer) = self.inner.accept().await?;
        Ok((Gate::new(&self.shared, self.node, stream), peer))
    }
}

/// Opens the node's port.
///
/// # Errors
///
/// When it is open already.
pub async fn listen() -> io::Result<TcpListener> {
    TcpListener::bind(("0.0.0.0", PORT)).await
}
