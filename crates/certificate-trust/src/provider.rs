//! Which cryptography rustls uses: aws-lc-rs, or ring when built without the default features.

use std::sync::Arc;

use rustls::crypto::CryptoProvider;

#[cfg(not(any(feature = "aws-lc-rs", feature = "ring")))]
compile_error!("certificate-trust needs one of its features `aws-lc-rs` (the default) and `ring`");

/// Makes the provider the process's default, for libraries that ask for one. Call it first in `main`; further calls
/// change nothing. The ends of this crate name their provider themselves.
pub fn install_crypto_provider() {
    // An error says only that another call was first.
    let _ = CryptoProvider::install_default(CryptoProvider::clone(&provider()));
}

/// Has the library do now what it does at its first use: self-tests, collecting randomness, tables of curves. In a first handshake
/// that would hold up whatever else runs beside it, and heartbeats do. May take a moment: for before the runtime.
pub fn warm_up() {
    let provider = provider();
    // Whatever fails here fails again, and is told, where it is needed.
    let _ = provider.secure_random.fill(&mut [0; 32]);
    for group in &provider.kx_groups {
        let _ = group.start();
    }
    let Ok(key) = rcgen::KeyPair::generate() else { return };
    let Ok(certificate) = rcgen::CertificateParams::default().self_signed(&key) else { return };
    let Ok(private) = rustls::pki_types::PrivateKeyDer::try_from(key.serialize_der()) else { return };
    let _ = rustls::sign::CertifiedKey::from_der(vec![certificate.der().clone()], private, &provider);
}

#[cfg(feature = "aws-lc-rs")]
pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

#[cfg(all(feature = "ring", not(feature = "aws-lc-rs")))]
pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}
