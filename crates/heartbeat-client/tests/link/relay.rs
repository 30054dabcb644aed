//! Things between the two nodes: a wire that can be frozen, and a man in the middle.

use std::net::SocketAddr;

use certificate_trust::{Acceptor, Connector};
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// A wire to `to`. While the number is `n`, only connections from the `n`th on carry anything.
pub(crate) async fn wire(to: SocketAddr) -> (SocketAddr, watch::Sender<usize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (alive_from, seen) = watch::channel(0);
    tokio::spawn(async move {
        let mut number = 0;
        while let Ok((near, _)) = listener.accept().await {
            let far = TcpStream::connect(to).await.unwrap();
            let (near, far) = (near.into_split(), far.into_split());
            tokio::spawn(carry(near.0, far.1, number, seen.clone()));
            tokio::spawn(carry(far.0, near.1, number, seen.clone()));
            number += 1;
        }
    });
    (address, alive_from)
}

async fn carry(
    mut from: tokio::net::tcp::OwnedReadHalf,
    mut to: tokio::net::tcp::OwnedWriteHalf,
    number: usize,
    mut alive_from: watch::Receiver<usize>,
) {
    let mut bytes = [0; 4096];
    while let Ok(length @ 1..) = from.read(&mut bytes).await {
        // A frozen wire holds what it has, and both ends open.
        if alive_from.wait_for(|from| *from <= number).await.is_err() {
            return;
        }
        if to.write_all(&bytes[..length]).await.is_err() {
            return;
        }
    }
}

/// Ends TLS with a certificate of its own and relays every byte.
pub(crate) async fn man_in_the_middle(
    acceptor: Acceptor,
    connector: Connector,
    to: SocketAddr,
) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((near, _)) = listener.accept().await {
            let (acceptor, connector) = (acceptor.clone(), connector.clone());
            tokio::spawn(async move {
                let (mut near, _) = acceptor.accept(near).await.unwrap();
                let far = TcpStream::connect(to).await.unwrap();
                let (mut far, _) = connector.connect("localhost", far).await.unwrap();
                // Err: one of the two has hung up.
                let _ = copy_bidirectional(&mut near, &mut far).await;
            });
        }
    });
    address
}
