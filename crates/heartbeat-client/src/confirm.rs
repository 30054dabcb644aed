//! `takeover_confirm`: whether every address of every network path refuses every fresh connection over a whole window. That
//! is not proof of a crash (a firewall may refuse on the peer's behalf), which is why it is off unless asked for.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use failover_core::Input;
use futures_util::future::join_all;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout};

use crate::dial::Dialler;
use crate::network::Network;

/// Connects per address over the window.
const ROUNDS: u32 = 3;

/// Looks at every address while the peer is away on every path, and tells the driver each time a whole window was refused.
/// Ends when the paths or the driver do; otherwise it is ended by being dropped.
pub(crate) async fn watch<N: Network>(
    diallers: &[Arc<Dialler<N>>],
    window: Duration,
    pause: Duration,
    mut away: watch::Receiver<u8>,
) {
    let every = (1_u8 << diallers.len()) - 1;
    loop {
        if away.wait_for(|away| *away == every).await.is_err() {
            return;
        }
        // Both branches are cancel-safe: nothing of a window outlives it.
        let refused = tokio::select! {
            biased;
            _proved_or_over = away.wait_for(|away| *away != every) => continue,
            refused = all_refused(diallers, window) => refused,
        };
        // A proof that comes at this moment voids it: the machine asks whether a session is open.
        if let (true, Some(dialler)) = (refused, diallers.first())
            && dialler.link.tell(Input::RefusalConfirmed).await.is_err()
        {
            return;
        }
        tokio::time::sleep(pause).await;
    }
}

/// Connects at the beginning, in the middle and at the end of the window.
async fn all_refused<N: Network>(diallers: &[Arc<Dialler<N>>], window: Duration) -> bool {
    let begun = Instant::now();
    let step = window / (ROUNDS - 1);
    for round in 0..ROUNDS {
        sleep_until(begun + step * round).await;
        let paths = join_all(diallers.iter().map(|dialler| is_path_refused(dialler, step))).await;
        if paths.contains(&false) {
            return false;
        }
    }
    true
}

async fn is_path_refused<N: Network>(dialler: &Dialler<N>, limit: Duration) -> bool {
    // A path whose name has no address (yet) has not refused.
    let Ok(Ok(addresses)) = timeout(limit, dialler.resolver.addresses()).await else { return false };
    let refused = join_all(addresses.into_iter().map(|address| is_refused(dialler, address, limit))).await;
    !refused.is_empty() && !refused.contains(&false)
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
