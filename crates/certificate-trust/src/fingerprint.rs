//! The name by which people compare certificates: SHA-256 over the DER bytes, as browsers and openssl show it.

use core::fmt;

use sha2::{Digest, Sha256};

/// SHA-256 of a certificate. Shown as upper-case hexadecimal with colons.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fingerprint([u8; 32]);

impl Fingerprint {
    /// The fingerprint of a certificate in DER.
    #[must_use]
    pub fn of(der: &[u8]) -> Self {
        Self(Sha256::digest(der).into())
    }

    /// A fingerprint that has travelled.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// From 64 hexadecimal digits, with or without colons between the bytes.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let digits: Vec<u32> =
            text.chars().filter(|c| *c != ':').map(|c| c.to_digit(16)).collect::<Option<_>>()?;
        let bytes: Vec<u8> = digits
            .chunks_exact(2)
            .map(|pair| u8::try_from(pair[0] * 16 + pair[1]).ok())
            .collect::<Option<_>>()?;
        if digits.len() % 2 == 1 {
            return None;
        }
        bytes.try_into().ok().map(Self)
    }

    /// The 32 bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Without colons: 64 characters, for file names.
    #[must_use]
    pub fn to_hex(&self) -> String {
        self.0.iter().map(|byte| format!("{byte:02X}")).collect()
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, byte) in self.0.iter().enumerate() {
            let colon = if index == 0 { "" } else { ":" };
            write!(f, "{colon}{byte:02X}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Fingerprint({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_is_read_again() {
        let fingerprint = Fingerprint::of(b"abc");
        assert_eq!(Fingerprint::parse(&fingerprint.to_string()), Some(fingerprint));
        assert_eq!(Fingerprint::parse(&fingerprint.to_hex().to_lowercase()), Some(fingerprint));
        for wrong in ["", "AB", &fingerprint.to_hex()[1..], &format!("{fingerprint}0"), &"g".repeat(64)] {
            assert_eq!(Fingerprint::parse(wrong), None, "{wrong}");
        }
    }

    /// FIPS 180-4, the one-block example "abc".
    #[test]
    fn shows_what_openssl_shows() {
        let shown = Fingerprint::of(b"abc").to_string();
        assert!(shown.starts_with("BA:78:16:BF:8F:01:CF:EA:"), "{shown}");
        assert_eq!(shown.len(), 32 * 3 - 1);
        assert_eq!(shown.replace(':', ""), Fingerprint::of(b"abc").to_hex());
    }
}
