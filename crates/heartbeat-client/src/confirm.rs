//! `takeover_confirm`: whether every address of the peer refuses every fresh connection over a whole window. That is not
//! proof of a crash (a firewall may refuse on the peer's behalf), which is why it is off unless asked for.

use std::io;
use std::time::Duration;

use failover_core::Input;
use futures_util::future::join_all;
use tokio::time::{Instant, sleep_until, timeout};

use crate::dial::Dialler;
use crate::network::Network;

/// Connects per address over the window.
const ROUNDS: u32 = 3;

/// Watches until cancelled by being dropped; tells the driver each time a whole window was refused.
pub(crate) async fn watch<N: Network>(dialler: &Dialler<N>, window: Duration, pause: Duration) {
    loop {
        if all_refused(dialler, window).await && dialler.link.tell(Input::RefusalConfirmed).await.is_err() {
            return;
        }
        tokio::time::sleep(pause).await;
    }
}

/// Connects at the beginning, in the middle and at the end of the window.
async fn all_refused<N: Network>(dialler: &Dialler<N>, window: Duration) -> bool {
    let begun = Instant::now();
    let step = window / (ROUNDS - 1);
    for round in 0..ROUNDS {
        sleep_until(begun + step * round).await;
        let Ok(addresses) = dialler.resolver.addresses().await else { return false };
        let refused = join_all(addresses.into_iter().map(|address| is_refused(dialler, address, step))).await;
        if refused.is_empty() || refused.contains(&false) {
            return false;
        }
    }
    true
}

async fn is_refused<N: Network>(
    dialler: &Dialler<N>,
    address: std::net::SocketAddr,
    limit: Duration,
) -> bool {
    match timeout(limit, dialler.network.connect(address)).await {
        Ok(Err(error)) => error.kind() == io::ErrorKind::ConnectionRefused,
        Ok(Ok(_)) | Err(_) => false,
    }
}
