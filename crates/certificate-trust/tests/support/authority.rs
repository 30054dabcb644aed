//! Authorities (CAs) for tests: they sign other authorities, certificates and revocation lists, with any single defect.
#![allow(
    dead_code,
    unused_imports,
    unreachable_pub,
    clippy::unwrap_used,
    reason = "each test binary uses a part; a test may fail by unwrapping"
)]

use std::sync::OnceLock;

use certificate_trust::Bundle;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams,
    SerialNumber,
};

/// The names of a certificate in these tests.
pub const HOST: &str = "node-a.plant.local";

/// A time on 2026-11-22 (`support::NOW`) and so many days after it.
macro_rules! day {
    ($days:expr) => {{
        let days: i64 = $days;
        let base = rcgen::date_time_ymd(2026, 11, 22);
        let span = std::time::Duration::from_secs(days.unsigned_abs() * 86_400);
        if days < 0 { base - span } else { base + span }
    }};
}
pub(crate) use day;

/// A certification authority with its key.
pub struct Authority {
    pub params: CertificateParams,
    pub key: KeyPair,
    pub der: Vec<u8>,
}

fn authority_params(name: &str, change: impl FnOnce(&mut CertificateParams)) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    (params.not_before, params.not_after) = (day!(-100), day!(3650));
    change(&mut params);
    params
}

/// What a node's certificate looks like when a plant's authority makes it.
pub fn leaf_params(change: impl FnOnce(&mut CertificateParams)) -> CertificateParams {
    let mut params = CertificateParams::new(vec![HOST.to_owned(), "10.0.0.5".to_owned()]).unwrap();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, "node-a");
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.serial_number = Some(SerialNumber::from(42_u64));
    (params.not_before, params.not_after) = (day!(-10), day!(365));
    change(&mut params);
    params
}

/// The private key of every node's certificate here, so that a server can show any of them.
pub fn node_key() -> &'static KeyPair {
    static KEY: OnceLock<KeyPair> = OnceLock::new();
    KEY.get_or_init(|| KeyPair::generate().unwrap())
}

/// Signed by its own key.
pub fn self_signed(change: impl FnOnce(&mut CertificateParams)) -> Vec<u8> {
    leaf_params(change).self_signed(node_key()).unwrap().der().to_vec()
}

impl Authority {
    pub fn root(name: &str, change: impl FnOnce(&mut CertificateParams)) -> Self {
        Self::root_with(name, KeyPair::generate().unwrap(), change)
    }

    pub fn root_with(name: &str, key: KeyPair, change: impl FnOnce(&mut CertificateParams)) -> Self {
        let params = authority_params(name, change);
        let der = params.self_signed(&key).unwrap().der().to_vec();
        Self { params, key, der }
    }

    /// An authority that this one has signed.
    pub fn below(&self, name: &str, change: impl FnOnce(&mut CertificateParams)) -> Self {
        let key = KeyPair::generate().unwrap();
        let params = authority_params(name, change);
        let der = params.signed_by(&key, &self.issuer()).unwrap().der().to_vec();
        Self { params, key, der }
    }

    /// A node's certificate.
    pub fn leaf(&self, change: impl FnOnce(&mut CertificateParams)) -> Vec<u8> {
        self.leaf_with(node_key(), change)
    }

    pub fn leaf_with(&self, key: &KeyPair, change: impl FnOnce(&mut CertificateParams)) -> Vec<u8> {
        leaf_params(change).signed_by(key, &self.issuer()).unwrap().der().to_vec()
    }

    /// A list of what it has revoked, made and to be replaced so many days from now.
    pub fn crl(&self, revoked: &[u64], made: i64, next: i64) -> Vec<u8> {
        let revoked = revoked.iter().map(|serial| RevokedCertParams {
            serial_number: SerialNumber::from(*serial),
            revocation_time: day!(-50),
            reason_code: None,
            invalidity_date: None,
        });
        let list = CertificateRevocationListParams {
            this_update: day!(made),
            next_update: day!(next),
            crl_number: SerialNumber::from(1_u64),
            issuing_distribution_point: None,
            revoked_certs: revoked.collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        list.signed_by(&self.issuer()).unwrap().der().to_vec()
    }

    pub fn issuer(&self) -> Issuer<'_, &KeyPair> {
        Issuer::from_params(&self.params, &self.key)
    }

    /// A bundle that trusts what it has signed.
    pub fn trusted(&self) -> Bundle {
        Bundle { revision: 1, issuers: vec![self.der.clone()], ..Bundle::default() }
    }
}
