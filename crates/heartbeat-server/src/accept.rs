//! Where connections come from. A trait, because simulation brings its own network and the rest must stay as it is.

use std::future::Future;
use std::io;
use std::net::SocketAddr;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};

/// A source of connections.
pub trait Accept: Send + 'static {
    /// A connection.
    type Io: AsyncRead + AsyncWrite + Unpin + Send + 'static;

    /// The next connection and who made it. Must be cancel-safe.
    fn accept(&self) -> impl Future<Output = io::Result<(Self::Io, SocketAddr)>> + Send;
}

impl Accept for TcpListener {
    type Io = TcpStream;

    async fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        let (stream, peer) = Self::accept(self).await?;
        // Heartbeats are small and each counts now. A connection that is already gone fails here and again at the
        // handshake, where it is dealt with.
        let _ = stream.set_nodelay(true);
        Ok((stream, peer))
    }
}
