//! What is sent is what is received, what is too much is refused, and the key is not printed.
#![allow(clippy::unwrap_used, reason = "a test may fail by unwrapping")]

use super::*;

fn bundle() -> BundleBytes {
    BundleBytes {
        revision: 3,
        unusable: None,
        own: Some((vec![vec![1; 10], vec![2; MAX_DER]], Zeroizing::new(vec![0xA5; 48]))),
        pinned: vec![vec![3; 4]; MAX_PER_KIND],
        issuers: vec![vec![9; 4]],
        intermediates: vec![],
        crls: vec![vec![4; 5]],
        unreadable_crls: vec!["a list is cut".to_owned()],
        distrusted: vec![[6; 32]; 2],
        system: Some((vec![vec![8; 9]; 150], vec!["one is damaged".to_owned()])),
        problems: vec!["a file is skipped".to_owned()],
    }
}

fn news() -> BundleNews {
    let notice = |number| Notice { number, unix_ms: 1_700_000_000_123, sentence: "who did what".to_owned() };
    BundleNews { instance: [7; 16], bundle: bundle(), notices: (1..=64).map(notice).collect() }
}

fn refused(change: impl FnOnce(&mut wire::WatchBundleResponse)) -> String {
    let mut response = wire::WatchBundleResponse::from(news());
    change(&mut response);
    BundleNews::try_from(response).unwrap_err().to_string()
}

fn inner(response: &mut wire::WatchBundleResponse) -> &mut wire::Bundle {
    response.bundle.as_mut().unwrap()
}

#[test]
fn news_survive_the_wire() {
    for bundle in
        [bundle(), BundleBytes::default(), BundleBytes { unusable: Some("why".to_owned()), ..bundle() }]
    {
        let news = BundleNews { bundle, ..news() };
        assert_eq!(BundleNews::try_from(wire::WatchBundleResponse::from(news.clone())), Ok(news));
    }
}

#[test]
fn whatever_is_missing_or_too_much_is_refused_by_its_name() {
    assert_eq!(refused(|news| news.bundle = None), "`bundle` is missing");
    assert_eq!(refused(|news| news.instance = vec![1; 15]), "`instance` must have 16 bytes, has 15");
    let no_chain = refused(|news| inner(news).own_chain.clear());
    assert_eq!(no_chain, "`bundle.own_chain` is empty, but there is a key");
    assert_eq!(refused(|news| inner(news).own_key.clear()), "`bundle.own_key` is empty");
    assert_eq!(refused(|news| inner(news).pinned[3].clear()), "`bundle.pinned` is empty");
    let many = refused(|news| inner(news).pinned.push(vec![1]));
    assert_eq!(many, "`bundle.pinned` must be at most 4096, are 4097");
    let large = refused(|news| inner(news).crls.push(vec![1; MAX_CRL + 1]));
    assert_eq!(large, "`bundle.crls` must have at most 1048576 bytes, has 1048577");
    let long = refused(|news| inner(news).own_chain = vec![vec![1]; 65]);
    assert_eq!(long, "`bundle.own_chain` must be at most 64, are 65");
    let short = refused(|news| inner(news).distrusted[1] = vec![1; 31]);
    assert_eq!(short, "`bundle.distrusted` must have 32 bytes, has 31");
    let root = refused(|news| inner(news).system.as_mut().unwrap().roots.push(vec![]));
    assert_eq!(root, "`bundle.system.roots` is empty");
    assert_eq!(refused(|news| news.notices[0].number = 0), "`notices.number` must be 1 or more");
    assert_eq!(refused(|news| news.notices[0].at = None), "`notices.at` is missing");
    assert_eq!(
        refused(|news| news.notices.push(wire::Notice::default())),
        "`notices` must be at most 64, are 65"
    );
}

#[test]
fn a_private_key_is_not_printed() {
    let response = wire::WatchBundleResponse::from(news());
    for printed in [format!("{:?}", news()), format!("{response:?}")] {
        assert!(!printed.contains("165") && !printed.contains("own_key"), "{printed}");
        assert!(printed.contains("pinned: 4096"), "{printed}");
    }
}

#[test]
fn a_report_without_certificate_or_reason_is_refused() {
    let report = |certificate: Vec<u8>, reason: &str| {
        let reason = reason.to_owned();
        UnknownCertificate::try_from(wire::ReportUnknownRequest { certificate, reason, ..Default::default() })
    };
    assert!(report(vec![1], "not trusted").is_ok());
    assert_eq!(report(vec![], "x").unwrap_err().to_string(), "`certificate` is empty");
    assert_eq!(report(vec![1], " ").unwrap_err().to_string(), "`reason` is empty");
    assert!(report(vec![1; MAX_DER + 1], "x").unwrap_err().to_string().contains("at most 65536 bytes"));
    assert!(report(vec![1], &"x".repeat(1025)).unwrap_err().to_string().contains("at most 1024 bytes"));
}

/// What is sent is bounded too: a list of full folders fits into one answer.
#[test]
fn what_operators_get_is_cut_and_the_largest_list_fits() {
    let entry = CertificateEntry {
        fingerprint: [1; 32],
        store: wire::CertificateStore::Trusted,
        subject: "s".repeat(5000),
        issuer: "i".repeat(5000),
        names: vec!["n".repeat(5000); 20],
        more_names: 3,
        not_before: -1,
        not_after: i64::MAX,
        is_authority: false,
        file: "f".repeat(5000),
        reason: "r".repeat(5000),
        since: "s".repeat(5000),
        changed_unix: Some(u64::MAX),
    };
    let certificate = wire::Certificate::from(entry);
    assert_eq!((certificate.names.len(), certificate.more_names), (16, 7));
    assert_eq!((certificate.subject.len(), certificate.reason.len()), (1024, 1024));
    let list = ListEntry {
        issuer: "i".repeat(5000),
        file: "f".repeat(5000),
        made: i64::MIN,
        next: Some(i64::MAX),
        revoked: usize::MAX,
    };
    let lists = prost::Message::encoded_len(&wire::RevocationList::from(list)) * MAX_LISTS;
    let certificates = prost::Message::encoded_len(&certificate) * MAX_LISTED;
    let answer = certificates + lists + MAX_PROBLEMS * MAX_SENTENCE;
    assert!(answer < MAX_ANSWER, "{answer}");
}
