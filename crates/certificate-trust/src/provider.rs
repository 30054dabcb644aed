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

#[cfg(feature = "aws-lc-rs")]
pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

#[cfg(all(feature = "ring", not(feature = "aws-lc-rs")))]
pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}
