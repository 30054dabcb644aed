//! What is trusted at one moment, as a plain snapshot: whoever decides about a certificate has one, and asks nobody.
//!
//! ```text
//!   PKI folders, system's roots ─► TrustFolders (reads, checks) ─► Bundle, revision n
//!                                                                    │ BundleReceiver: a watch, in process
//!                                                                    │ or filled by the trust service over gRPC
//!                                              Connector, Acceptor ◄─┘ decide with the newest one they have
//! ```
//!
//! A verifier inside a handshake cannot wait for a file or a call; so a bundle holds bytes and nothing else, and it can
//! travel. Everything in it has been read whole and found to be what it says; what was not is named in `problems`.

use core::fmt;
use core::future::{Future, ready};
use core::pin::Pin;
use std::collections::BTreeSet;
use std::sync::Arc;

use tokio::sync::watch;
use zeroize::Zeroizing;

use crate::Fingerprint;
use crate::certificate::CertificateFacts;
use crate::rejected::Kept;

/// One certificate, or one revocation list, in DER.
pub type Der = Vec<u8>;

/// The reading half: the newest bundle, always there.
pub type BundleReceiver = watch::Receiver<Arc<Bundle>>;

/// The writing half.
pub type BundleSender = watch::Sender<Arc<Bundle>>;

/// The answer of a [`TrustKeeper`], some time later.
pub type Later<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// What is trusted, and the own certificate, at one moment.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Bundle {
    /// Grows by one with each change, from 1; 0 is a bundle that nobody has filled yet. It begins anew when its maker does.
    pub revision: u64,
    /// Why nobody can be trusted for now: the folders cannot be read, or the trust service has never answered. Every
    /// decision that needs the bundle is then a refusal with this sentence.
    pub unusable: Option<String>,
    /// Trusted themselves: everything in `trusted/certs`.
    pub pinned: Vec<Der>,
    /// Trusted with everything they have signed: the certification authorities in `trusted/certs`.
    pub issuers: Vec<Der>,
    /// They only complete chains, and nobody trusts them: `issuers/certs`.
    pub intermediates: Vec<Der>,
    /// Revocation lists, from `trusted/crl` and `issuers/crl`.
    pub crls: Vec<Der>,
    /// Files in the folders of revocation lists that cannot be read. While there is one, nobody can say that a certificate is
    /// not revoked, and every chain is refused.
    pub unreadable_crls: Vec<String>,
    /// Refused whatever else speaks for them, by an operator's decision: `distrusted`.
    pub distrusted: BTreeSet<Fingerprint>,
    /// The operating system's roots; only where trust is `system`.
    pub system: Option<SystemRoots>,
    /// What this node shows to others. None before the first one has been published.
    pub own: Option<OwnPair>,
    /// Files that were skipped, and why, for people.
    pub problems: Vec<String>,
}

/// The roots that the operating system trusts.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct SystemRoots {
    /// The certificates.
    pub roots: Vec<Der>,
    /// What could not be read, for people.
    pub problems: Vec<String>,
}

/// A certificate chain and the private key of its first certificate. They belong together: a pair that does not match is never
/// published.
#[derive(Clone, PartialEq, Eq)]
pub struct OwnPair {
    /// The node's certificate, then what it was signed by.
    pub chain: Vec<Der>,
    /// The private key, in DER (PKCS #8, PKCS #1 or SEC 1). Wiped when dropped, never shown.
    pub key_der: Zeroizing<Vec<u8>>,
}

impl fmt::Debug for OwnPair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let leaf = self.chain.first().map(|der| Fingerprint::of(der));
        f.debug_struct("OwnPair").field("fingerprint", &leaf).finish_non_exhaustive()
    }
}

/// Numbers instead of certificates: there may be hundreds.
impl fmt::Debug for Bundle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bundle")
            .field("revision", &self.revision)
            .field("unusable", &self.unusable)
            .field("pinned", &self.pinned.len())
            .field("issuers", &self.issuers.len())
            .field("intermediates", &self.intermediates.len())
            .field("crls", &self.crls.len())
            .field("unreadable_crls", &self.unreadable_crls)
            .field("distrusted", &self.distrusted)
            .field("system", &self.system)
            .field("own", &self.own)
            .field("problems", &self.problems)
            .finish()
    }
}

impl fmt::Debug for SystemRoots {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SystemRoots")
            .field("roots", &self.roots.len())
            .field("problems", &self.problems)
            .finish()
    }
}

impl Bundle {
    /// Trusts these: each one itself, and the authorities among them with everything they have signed.
    pub fn trust(&mut self, certificates: Vec<Der>) {
        let is_authority = |der: &&Der| CertificateFacts::read(der).is_ok_and(|facts| facts.is_authority);
        self.issuers = certificates.iter().filter(is_authority).cloned().collect();
        self.pinned = certificates;
    }

    /// The bundle before the first one: nobody is trusted, for this reason.
    #[must_use]
    pub fn unusable(why: impl Into<String>) -> Self {
        Self { unusable: Some(why.into()), ..Self::default() }
    }

    /// A bundle that never changes, for tools and tests.
    #[must_use]
    pub fn fixed(self) -> BundleReceiver {
        watch::channel(Arc::new(self)).1
    }

    /// The same apart from its number.
    #[must_use]
    pub fn is_same_as(&self, other: &Self) -> bool {
        Self { revision: other.revision, ..self.clone() } == *other
    }
}

/// A certificate that was refused because nobody here knows it, on its way to `rejected/`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unknown {
    /// The certificate. Any bytes: a stranger has sent it.
    pub der: Der,
    /// The machine code of the refusal.
    pub code: String,
    /// Its sentence.
    pub reason: String,
    /// When it was seen, in Unix seconds.
    pub seen_unix: u64,
}

/// Whoever keeps the PKI folders: in this process, or the trust service at the other end of a socket.
pub trait TrustKeeper: fmt::Debug + Send + Sync {
    /// Called before each dial that needs the bundle: returns when a change made by hand up to now is in it, or when that
    /// cannot be said. The default does nothing: the bundle is as new as its watcher makes it. The caller has a deadline, and
    /// dropping the future is harmless.
    fn refresh(&self) -> Later<'_, ()> {
        Box::pin(ready(()))
    }

    /// Puts an unknown certificate into `rejected/`. The refusal stands whatever the answer is.
    fn keep(&self, unknown: Unknown) -> Later<'_, Kept>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_private_key_is_never_shown() {
        let key_der = Zeroizing::new(b"very secret".to_vec());
        let own = Some(OwnPair { chain: vec![b"abc".to_vec()], key_der });
        let shown = format!("{:?}", Bundle { own, ..Bundle::default() });
        assert!(shown.contains("BA:78:16:BF"), "{shown}");
        assert!(!shown.contains("secret") && !shown.contains("118, 101"), "{shown}");
    }

    #[test]
    fn sameness_leaves_the_number_out() {
        let one = Bundle { revision: 1, pinned: vec![vec![1]], ..Bundle::default() };
        assert!(one.is_same_as(&Bundle { revision: 2, ..one.clone() }));
        assert!(!one.is_same_as(&Bundle { pinned: Vec::new(), ..one.clone() }));
    }
}
