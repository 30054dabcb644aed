//! The tombstone: whoever shows the bytes whose SHA-256 the peer promised over the authenticated session proves that every
//! plugin of the promised epoch is gone. Only the peer's guard has them, and it shows them only when its manager is
//! dead and the last plugin reaped.
//!
//! ```text
//!   session ends ─► connect, send nothing ─► "ONDUTY-TOMBSTONE/1\n" epoch secret, end ─► SHA-256(secret) as promised?
//!                       ▲                                                                    │ no, or nothing came
//!                       └──────────────────── a moment later, until `until` ◄────────────────┘
//! ```

use std::net::SocketAddr;
use std::time::Duration;

use failover_core::{Epoch, TombstonePromise};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use tokio::io::AsyncReadExt;
use tokio::time::{Instant, timeout, timeout_at};

use crate::network::Network;

/// What a tombstone begins with.
pub const TOMBSTONE_MAGIC: &[u8] = b"ONDUTY-TOMBSTONE/1\n";
/// The length of a tombstone: the magic, the epoch in big endian, the secret.
pub const TOMBSTONE_BYTES: usize = TOMBSTONE_MAGIC.len() + 8 + 32;
/// Between two probes. The guard needs up to 50 ms to reap; a probe that is queued at its port waits for the answer there.
const PAUSE: Duration = Duration::from_millis(20);

/// Probes until the promised tombstone has been read (`true`) or `until` has come (`false`). Each probe has at most
/// `patience`, for an end that accepts and says nothing.
pub(crate) async fn probe<N: Network>(
    network: &N,
    remote: SocketAddr,
    promise: TombstonePromise,
    patience: Duration,
    until: Instant,
) -> bool {
    let probing = async {
        loop {
            if let Ok(Some(bytes)) = timeout(patience, read(network, remote)).await
                && is_proof(&bytes, promise)
            {
                return;
            }
            tokio::time::sleep(PAUSE).await;
        }
    };
    timeout_at(until, probing).await.is_ok()
}

/// Exactly as many bytes as a tombstone has, and then the end.
async fn read<N: Network>(network: &N, remote: SocketAddr) -> Option<[u8; TOMBSTONE_BYTES]> {
    let mut io = network.connect(remote).await.ok()?;
    let mut bytes = [0; TOMBSTONE_BYTES];
    io.read_exact(&mut bytes).await.ok()?;
    let mut more = [0; 1];
    (io.read(&mut more).await.ok()? == 0).then_some(bytes)
}

/// Whether these bytes prove that every plugin of the promised epoch is gone: exactly a tombstone of that epoch with the
/// promised secret. Takes any bytes: whoever answers at the peer's port has sent them.
#[must_use]
pub fn is_proof(shown: &[u8], promise: TombstonePromise) -> bool {
    let Some((epoch, secret)) = shown.strip_prefix(TOMBSTONE_MAGIC).and_then(<[u8]>::split_first_chunk::<8>)
    else {
        return false;
    };
    let digest: [u8; 32] = Sha256::digest(secret).into();
    shown.len() == TOMBSTONE_BYTES
        && Epoch(u64::from_be_bytes(*epoch)) == promise.epoch
        && bool::from(digest.ct_eq(&promise.sha256))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tombstone(epoch: u64, secret: [u8; 32]) -> [u8; TOMBSTONE_BYTES] {
        let mut bytes = [0; TOMBSTONE_BYTES];
        bytes[..19].copy_from_slice(TOMBSTONE_MAGIC);
        bytes[19..27].copy_from_slice(&epoch.to_be_bytes());
        bytes[27..].copy_from_slice(&secret);
        bytes
    }

    #[test]
    fn only_the_promised_secret_of_the_promised_epoch_counts() {
        let secret = [7; 32];
        let promise = TombstonePromise { epoch: Epoch(12), sha256: Sha256::digest(secret).into() };
        assert!(is_proof(&tombstone(12, secret), promise));
        assert!(!is_proof(&tombstone(14, secret), promise));
        assert!(!is_proof(&tombstone(12, [8; 32]), promise));
        for at in 0..TOMBSTONE_BYTES {
            let mut changed = tombstone(12, secret);
            changed[at] ^= 1;
            assert!(!is_proof(&changed, promise), "byte {at}");
        }
        let long = [&tombstone(12, secret)[..], &[7]].concat();
        let of_long = TombstonePromise { sha256: Sha256::digest([7; 33]).into(), ..promise };
        assert!(!is_proof(&long, promise) && !is_proof(&long, of_long), "a secret has 32 bytes");
    }
}
