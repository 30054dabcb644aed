//! Between the bundle and its bytes on the wire.

use onduty_api::trust::{BundleBytes, MAX_SENTENCE};
use zeroize::Zeroizing;

use crate::{Bundle, Fingerprint, OwnPair, SystemRoots};

/// For the wire.
pub(super) fn to_bytes(bundle: &Bundle) -> BundleBytes {
    // Every field by name, so that a new one cannot be forgotten here.
    let Bundle {
        revision,
        unusable,
        pinned,
        issuers,
        intermediates,
        crls,
        unreadable_crls,
        distrusted,
        system,
        own,
        problems,
    } = bundle.clone();
    BundleBytes {
        revision,
        unusable,
        own: own.map(|OwnPair { chain, key_der }| (chain, key_der)),
        pinned,
        issuers,
        intermediates,
        crls,
        unreadable_crls,
        distrusted: distrusted.iter().map(|fingerprint| *fingerprint.as_bytes()).collect(),
        system: system.map(|SystemRoots { roots, problems }| (roots, problems)),
        problems,
    }
}

/// From the wire. That the bytes are certificates is checked where they are used: a bundle is only ever taken from the
/// node's own user.
pub(super) fn from_bytes(bytes: BundleBytes) -> Bundle {
    let BundleBytes {
        revision,
        unusable,
        own,
        pinned,
        issuers,
        intermediates,
        crls,
        unreadable_crls,
        distrusted,
        system,
        problems,
    } = bytes;
    Bundle {
        revision,
        unusable,
        pinned,
        issuers,
        intermediates,
        crls,
        unreadable_crls,
        distrusted: distrusted.into_iter().map(Fingerprint::from_bytes).collect(),
        system: system.map(|(roots, problems)| SystemRoots { roots, problems }),
        own: own.map(|(chain, key_der)| OwnPair { chain, key_der: Zeroizing::new(key_der.to_vec()) }),
        problems,
    }
}

/// At most as many bytes as the wire takes, without splitting a character.
pub(super) fn sentence(text: &str) -> String {
    let end = (0..=MAX_SENTENCE.min(text.len())).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
    text.get(..end).unwrap_or_default().to_owned()
}
