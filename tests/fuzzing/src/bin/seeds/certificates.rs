//! Seeds of the certificates: what plants import, and what nobody should. Keys are made and thrown away.

use std::error::Error;

use rcgen::string::Ia5String;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer, CustomExtension,
    DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, KeyIdMethod, KeyPair, KeyUsagePurpose,
    RevocationReason, RevokedCertParams, SanType, SerialNumber, date_time_ymd,
};

use crate::Seed;

type Authority = CertifiedIssuer<'static, KeyPair>;

fn named(name: &str) -> Result<CertificateParams, rcgen::Error> {
    let mut params = CertificateParams::new(vec!["node-a".to_owned()])?;
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.not_before = date_time_ymd(2025, 1, 1);
    params.not_after = date_time_ymd(2035, 1, 1);
    Ok(params)
}

fn authority(name: &str, constraints: BasicConstraints) -> Result<Authority, rcgen::Error> {
    let mut params = named(name)?;
    params.subject_alt_names.clear();
    params.is_ca = IsCa::Ca(constraints);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    CertifiedIssuer::self_signed(params, KeyPair::generate()?)
}

fn leaf(change: impl FnOnce(&mut CertificateParams)) -> Result<rcgen::Certificate, rcgen::Error> {
    let mut params = named("press 4")?;
    change(&mut params);
    params.self_signed(&KeyPair::generate()?)
}

fn list(issuer: &Authority, number: u64, serials: &[u64]) -> Result<(Vec<u8>, String), rcgen::Error> {
    let revoked = |serial: &u64| RevokedCertParams {
        serial_number: SerialNumber::from(*serial),
        revocation_time: date_time_ymd(2026, 1, 2),
        reason_code: Some(RevocationReason::KeyCompromise),
        invalidity_date: None,
    };
    let params = CertificateRevocationListParams {
        this_update: date_time_ymd(2026, 1, 1 + u8::try_from(number).unwrap_or(1)),
        next_update: date_time_ymd(2036, 1, 1),
        crl_number: SerialNumber::from(number),
        issuing_distribution_point: None,
        revoked_certs: serials.iter().map(revoked).collect(),
        key_identifier_method: KeyIdMethod::Sha256,
    };
    let list = params.signed_by(issuer)?;
    Ok((list.der().to_vec(), list.pem()?))
}

/// What a person imports.
pub(crate) fn certificates() -> Result<Vec<Seed>, Box<dyn Error>> {
    let plain = leaf(|_| {})?;
    let (der, pem) = (plain.der().to_vec(), plain.pem());
    let root = authority("plant", BasicConstraints::Unconstrained)?;
    let other = authority("other plant", BasicConstraints::Constrained(0))?;
    let signed = named("press 5")?.signed_by(&KeyPair::generate()?, &root)?;
    let (list_der, list_pem) = list(&root, 1, &[7, 9])?;
    let (_, newer_list) = list(&root, 2, &[7, 9, 11])?;
    let (_, other_list) = list(&other, 1, &[])?;
    let all = [signed.pem(), root.pem(), list_pem.clone(), other_list].concat();
    let section = |name: &str| format!("-----BEGIN {name}-----\nMAA=\n-----END {name}-----\n");
    let mut seeds: Vec<Seed> = vec![
        ("empty", Vec::new()),
        ("one-der", der.clone()),
        ("one-pem", pem.clone().into_bytes()),
        ("one-pem-of-another-system", pem.replace('\n', "\r\n").into_bytes()),
        ("words-before", format!("Subject: press 4\n\n{pem}").into_bytes()),
        ("twice", [pem.clone(), pem.clone()].concat().into_bytes()),
        ("one-cut", der[..der.len() - 1].to_vec()),
        ("one-and-more", [&der[..], &[0]].concat()),
        ("pem-cut", pem.as_bytes()[..pem.len() / 2].to_vec()),
        ("authority", root.pem().into_bytes()),
        ("authority-der", root.der().to_vec()),
        ("chain", [signed.pem(), root.pem()].concat().into_bytes()),
        ("two-authorities", [root.pem(), other.pem()].concat().into_bytes()),
        ("list", list_pem.clone().into_bytes()),
        ("list-der", list_der.clone()),
        ("list-cut", list_der[..list_der.len() - 1].to_vec()),
        ("lists-of-one-issuer", [newer_list, list_pem.clone()].concat().into_bytes()),
        ("all-together", all.into_bytes()),
        ("list-and-damage", format!("{list_pem}-----BEGIN CERTIFICATE-----\nAAAA\n").into_bytes()),
        ("with-private-key", format!("{pem}{}", section("PRIVATE KEY")).into_bytes()),
        ("with-another-section", format!("{pem}{}", section("PUBLIC KEY")).into_bytes()),
        ("no-certificate-inside", section("CERTIFICATE").into_bytes()),
        ("text", b"hello".to_vec()),
        ("sequence", vec![0x30, 0x00]),
        ("sequence-without-end", vec![0x30, 0x84, 0xFF, 0xFF, 0xFF, 0xFF]),
    ];
    seeds.extend(special()?);
    Ok(seeds)
}

/// Certificates with something about them.
fn special() -> Result<Vec<Seed>, Box<dyn Error>> {
    let der = |certificate: rcgen::Certificate| certificate.der().to_vec();
    let ascii = |text: &str| Ia5String::try_from(text.to_owned());
    let (host, mail, uri) = (ascii("*.example.org")?, ascii("ann@example.org")?, ascii("urn:press:4")?);
    let names = leaf(|params| {
        params.subject_alt_names = vec![
            SanType::DnsName(host),
            SanType::IpAddress([192, 0, 2, 1].into()),
            SanType::IpAddress([0x2001, 0xdb8, 0, 0, 0, 0, 0, 1].into()),
            SanType::Rfc822Name(mail),
            SanType::URI(uri),
        ];
    })?;
    let many = (0..20).map(|n| ascii(&format!("n{n}"))).collect::<Result<Vec<_>, _>>()?;
    let many = leaf(|params| params.subject_alt_names = many.into_iter().map(SanType::DnsName).collect())?;
    let subject = |name: &'static str| {
        leaf(move |params| {
            params.distinguished_name = DistinguishedName::new();
            params.distinguished_name.push(DnType::CommonName, name);
        })
    };
    let usages = leaf(|params| {
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        params.key_usages = vec![KeyUsagePurpose::KeyEncipherment];
    })?;
    let unknown = leaf(|params| {
        let mut extension = CustomExtension::from_oid_content(&[1, 3, 6, 1, 4, 1, 9999, 1], vec![5, 0]);
        extension.set_criticality(true);
        params.custom_extensions.push(extension);
    })?;
    let expired = leaf(|params| params.not_after = date_time_ymd(2025, 2, 1))?;
    let far = leaf(|params| {
        (params.not_before, params.not_after) = (date_time_ymd(1950, 1, 1), date_time_ymd(9999, 12, 31));
    })?;
    Ok(vec![
        ("names", der(names)),
        ("names-many", der(many)),
        ("no-subject", der(leaf(|params| params.distinguished_name = DistinguishedName::new())?)),
        ("subject-of-a-terminal", der(subject("\u{1b}[31mred `x` \u{202e}abc")?)),
        ("subject-of-pem", der(subject("-----BEGIN CERTIFICATE-----")?)),
        ("subject-of-words", der(subject("x\nReason: trusted by an operator")?)),
        ("usages", der(usages)),
        ("extension-unknown", der(unknown)),
        ("expired", der(expired)),
        ("times-far", der(far)),
    ])
}
