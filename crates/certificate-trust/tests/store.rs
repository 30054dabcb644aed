//! The trust store as operators use it: moving files, while hostile ones lie beside them.
#![allow(clippy::unwrap_used, reason = "a test may fail by unwrapping")]

mod support;

use std::fs;
use std::time::{Duration, UNIX_EPOCH};

use certificate_trust::{CertificateFacts, TrustMode};
use proptest::prelude::{any, proptest};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use support::{DAY, NOW, Node, failure, shake};

#[tokio::test]
async fn an_unknown_certificate_is_kept_moved_to_trusted_and_revoked_without_a_restart() {
    let (a, b) = (Node::new(&["node-a", "10.0.0.5"]), Node::new(&["node-b"]));
    let (connector, acceptor) = (b.connector(TrustMode::Store), a.acceptor());
    let (code, words) = failure(shake(&connector, "node-a", &acceptor).await.0);
    assert_eq!(code, "tls.unknown_certificate");
    let fingerprint = a.identity.fingerprint();
    for part in [
        fingerprint.to_string().as_str(),
        "not trusted",
        "rejected",
        "`node-a`, 10.0.0.5",
        "onduty certs trust",
    ] {
        assert!(words.contains(part), "{part} is missing in: {words}");
    }

    let [kept] = &b.rejected()[..] else { panic!("one file is kept, not {:?}", b.rejected()) };
    assert_eq!(kept.file_name().unwrap().to_str().unwrap(), format!("{}.pem", fingerprint.to_hex()));
    let text = fs::read_to_string(kept).unwrap();
    for part in [
        &format!("Fingerprint: {fingerprint}"),
        "Subject:     CN=node-a",
        "Names:       `node-a`, 10.0.0.5",
        "Valid:       2026-11-21T00:00:00Z to 2046-11-22T00:00:00Z",
        "Reason:      it is not trusted here",
        "First seen:  2026-11-22T",
    ] {
        assert!(text.contains(part), "{part} is missing in: {text}");
    }

    let trusted = b.pki().join("trusted/certs/peer.pem");
    fs::rename(kept, &trusted).unwrap();
    assert!(shake(&connector, "node-a", &acceptor).await.0.is_ok(), "the very next dial");
    fs::remove_file(&trusted).unwrap();
    assert_eq!(failure(shake(&connector, "node-a", &acceptor).await.0).0, "tls.unknown_certificate");
}

#[tokio::test]
async fn der_and_bundles_are_trusted_too() {
    let (a, other, b) = (Node::new(&["node-a"]), Node::new(&["other"]), Node::new(&["node-b"]));
    let (connector, acceptor) = (b.connector(TrustMode::Store), a.acceptor());
    let place = b.pki().join("trusted/certs/peer");
    let der = CertificateDer::from_pem_file(a.certificate()).unwrap();
    fs::write(&place, &der).unwrap();
    assert!(shake(&connector, "node-a", &acceptor).await.0.is_ok(), "DER");
    let bundle = [fs::read(other.certificate()).unwrap(), fs::read(a.certificate()).unwrap()].concat();
    fs::write(&place, bundle).unwrap();
    assert!(shake(&connector, "node-a", &acceptor).await.0.is_ok(), "the second of a PEM bundle");
    fs::rename(&place, b.pki().join("trusted/certs/.peer")).unwrap();
    assert!(
        shake(&connector, "node-a", &acceptor).await.0.is_err(),
        "a hidden file is an editor's, not an operator's"
    );
}

/// A certificate with the right name but another key is another certificate.
#[tokio::test]
async fn the_same_names_are_not_the_same_certificate() {
    let (a, impostor, b) = (Node::new(&["node-a"]), Node::new(&["node-a"]), Node::new(&["node-b"]));
    b.trust(&a);
    let (dialled, _) = shake(&b.connector(TrustMode::Store), "node-a", &impostor.acceptor()).await;
    assert_eq!(failure(dialled).0, "tls.unknown_certificate");
}

#[tokio::test]
async fn damaged_files_do_not_take_the_trust_in_the_others_away() {
    let (a, b) = (Node::new(&["node-a"]), Node::new(&["node-b"]));
    let folder = b.pki().join("trusted/certs");
    let whole = fs::read(a.certificate()).unwrap();
    let der = CertificateDer::from_pem_file(a.certificate()).unwrap().to_vec();
    fs::write(folder.join("0-empty"), "").unwrap();
    fs::write(folder.join("0-cut.pem"), &whole[..whole.len() / 2]).unwrap();
    fs::write(folder.join("0-cut.der"), &der[..der.len() - 1]).unwrap();
    fs::write(folder.join("0-trailing.der"), [&der[..], &[0]].concat()).unwrap();
    fs::write(folder.join("0-huge"), vec![0x30; 10 << 20]).unwrap();
    fs::write(folder.join("0-garbage"), [0xff; 5000]).unwrap();
    fs::create_dir(folder.join("0-folder")).unwrap();
    std::os::unix::fs::symlink("/nowhere", folder.join("0-link")).unwrap();
    std::os::unix::fs::symlink("/dev/zero", folder.join("0-device")).unwrap();
    assert!(std::process::Command::new("mkfifo").arg(folder.join("0-pipe")).status().unwrap().success());
    let connector = b.connector(TrustMode::Store);
    assert_eq!(failure(shake(&connector, "node-a", &a.acceptor()).await.0).0, "tls.unknown_certificate");
    b.trust(&a);
    assert!(shake(&connector, "node-a", &a.acceptor()).await.0.is_ok());
}

#[tokio::test]
async fn an_unreadable_store_trusts_nobody_and_says_so() {
    let (a, b) = (Node::new(&["node-a"]), Node::new(&["node-b"]));
    let connector = b.connector(TrustMode::Store);
    fs::remove_dir(b.pki().join("trusted/certs")).unwrap();
    assert_eq!(failure(shake(&connector, "node-a", &a.acceptor()).await.0).0, "tls.store_unreadable");
}

/// The refusal stands when the certificate cannot be kept (a full or read-only disk).
#[tokio::test]
async fn a_missing_rejected_folder_changes_nothing_of_the_refusal() {
    let (a, b) = (Node::new(&["node-a"]), Node::new(&["node-b"]));
    let connector = b.connector(TrustMode::Store);
    fs::remove_dir(b.pki().join("rejected")).unwrap();
    let (code, words) = failure(shake(&connector, "node-a", &a.acceptor()).await.0);
    assert_eq!(code, "tls.unknown_certificate");
    assert!(words.contains("could not be kept") && words.contains("No such file"), "{words}");
}

/// A flood of self-made certificates: bounded, the one not seen for longest goes first, an operator's files stay.
#[tokio::test]
async fn the_rejected_folder_is_bounded() {
    let (a, late, b) = (Node::new(&["node-a"]), Node::new(&["late"]), Node::new(&["node-b"]));
    let folder = b.pki().join("rejected");
    fs::write(folder.join("notes.txt"), "mine").unwrap();
    let at = |seconds| UNIX_EPOCH + Duration::from_secs(seconds);
    for number in 0..130_u64 {
        let path = folder.join(format!("{number:064X}.pem"));
        fs::write(&path, "flood").unwrap();
        fs::File::options().append(true).open(&path).unwrap().set_modified(at(NOW - 1000 + number)).unwrap();
    }
    failure(shake(&b.connector(TrustMode::Store), "node-a", &a.acceptor()).await.0);
    let ours =
        |folder| support::files(folder).iter().filter(|path| path.extension().unwrap() == "pem").count();
    assert_eq!(ours(&folder), 100);
    assert!(folder.join("notes.txt").exists());
    assert!(!folder.join(format!("{:064X}.pem", 30)).exists(), "the oldest are gone");
    assert!(folder.join(format!("{:064X}.pem", 31)).exists());

    // Seen again later, node-a's file becomes the newest, and keeps its words.
    let kept = folder.join(format!("{}.pem", a.identity.fingerprint().to_hex()));
    let words = fs::read(&kept).unwrap();
    failure(shake(&b.connector_at(TrustMode::Store, NOW + DAY), "node-a", &a.acceptor()).await.0);
    assert_eq!(fs::metadata(&kept).unwrap().modified().unwrap(), at(NOW + DAY));
    assert_eq!(fs::read(&kept).unwrap(), words);
    failure(shake(&b.connector(TrustMode::Store), "late", &late.acceptor()).await.0);
    assert_eq!(ours(&folder), 100);
    assert!(kept.exists() && !folder.join(format!("{:064X}.pem", 31)).exists());
}

/// A power cut may leave an empty file of the right name, a mistake another certificate: the next dial mends it.
#[tokio::test]
async fn a_wrong_file_in_rejected_is_mended() {
    let (a, b) = (Node::new(&["node-a"]), Node::new(&["node-b"]));
    let path = b.pki().join(format!("rejected/{}.pem", a.identity.fingerprint().to_hex()));
    for wrong in [Vec::new(), fs::read(b.certificate()).unwrap()] {
        fs::write(&path, wrong).unwrap();
        failure(shake(&b.connector(TrustMode::Store), "node-a", &a.acceptor()).await.0);
        assert!(fs::read_to_string(&path).unwrap().contains("Subject:     CN=node-a"));
    }
}

#[tokio::test]
async fn a_certificate_too_large_to_keep_is_refused_all_the_same() {
    use rcgen::{CertificateParams, CustomExtension, KeyPair};
    let (a, b) = (Node::new(&["node-a"]), Node::new(&["node-b"]));
    let mut params = CertificateParams::new(vec!["node-a".to_owned()]).unwrap();
    // In DER just below the limit of a file, in PEM above it.
    params.custom_extensions = vec![CustomExtension::from_oid_content(&[1, 2, 3, 4], vec![0; 50_000])];
    let key = KeyPair::generate().unwrap();
    fs::write(a.certificate(), params.self_signed(&key).unwrap().der()).unwrap();
    fs::write(a.private_key(), key.serialize_pem()).unwrap();
    a.identity.reload().unwrap();
    let (code, words) = failure(shake(&b.connector(TrustMode::Store), "node-a", &a.acceptor()).await.0);
    assert_eq!(code, "tls.unknown_certificate");
    assert!(words.contains("larger than 65536 bytes"), "{words}");
    assert!(b.rejected().is_empty());
}

/// A subject made to look like PEM must not smuggle a second certificate into the file that an operator moves.
#[tokio::test]
async fn a_hostile_subject_cannot_smuggle_another_certificate_into_trust() {
    use rcgen::{CertificateParams, DnType, KeyPair};
    let (smuggled, b) = (Node::new(&["node-x"]), Node::new(&["node-b"]));
    let pem = fs::read_to_string(smuggled.certificate()).unwrap();
    let mut params = CertificateParams::new(vec!["node-a".to_owned()]).unwrap();
    params.distinguished_name.push(DnType::CommonName, format!("x\n{pem}"));
    params.distinguished_name.push(DnType::OrganizationName, "\u{1b}[2J\u{202e}");
    let key = KeyPair::generate().unwrap();
    let certificate = params.self_signed(&key).unwrap();
    let facts = CertificateFacts::read(certificate.der()).unwrap();
    assert!(!facts.subject.chars().any(|c| c.is_control() || c == '\u{202e}'), "{:?}", facts.subject);

    let hostile = Node::new(&["node-a"]);
    fs::write(hostile.certificate(), certificate.pem()).unwrap();
    fs::write(hostile.private_key(), key.serialize_pem()).unwrap();
    hostile.identity.reload().unwrap();
    let connector = b.connector(TrustMode::Store);
    failure(shake(&connector, "node-a", &hostile.acceptor()).await.0);
    let [kept] = &b.rejected()[..] else { panic!("one file is kept") };
    fs::rename(kept, b.pki().join("trusted/certs/moved.pem")).unwrap();
    assert!(shake(&connector, "node-a", &hostile.acceptor()).await.0.is_ok(), "what the operator meant");
    let (dialled, _) = shake(&connector, "node-x", &smuggled.acceptor()).await;
    assert_eq!(failure(dialled).0, "tls.unknown_certificate", "and nothing else");
}

#[tokio::test]
async fn a_certificate_for_clients_only_is_refused() {
    use rcgen::{CertificateParams, ExtendedKeyUsagePurpose, KeyPair};
    let (a, b) = (Node::new(&["node-a"]), Node::new(&["node-b"]));
    let mut params = CertificateParams::new(vec!["node-a".to_owned()]).unwrap();
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    let key = KeyPair::generate().unwrap();
    fs::write(a.certificate(), params.self_signed(&key).unwrap().pem()).unwrap();
    fs::write(a.private_key(), key.serialize_pem()).unwrap();
    a.identity.reload().unwrap();
    b.trust(&a);
    let (dialled, _) = shake(&b.connector(TrustMode::Store), "node-a", &a.acceptor()).await;
    assert_eq!(failure(dialled).0, "tls.wrong_usage");
}

proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig { cases: 512, ..Default::default() })]

    #[test]
    fn any_bytes_are_read_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..2000)) {
        let _ = CertificateFacts::read(&bytes);
    }

    /// Damage anywhere in a real certificate: never a panic, and never the same fingerprint.
    #[test]
    fn damaged_certificates_are_read_without_panic(place in any::<proptest::sample::Index>(), value in any::<u8>(), cut in any::<bool>()) {
        let whole = real();
        let mut damaged = whole.to_vec();
        let place = place.index(damaged.len());
        damaged[place] = value;
        if cut {
            damaged.truncate(place);
        }
        if let Ok(facts) = CertificateFacts::read(&damaged) {
            assert!(!cut, "a cut certificate is not one");
            assert_eq!(damaged[..] == whole[..], facts.fingerprint == certificate_trust::Fingerprint::of(whole));
            let _ = (facts.names_text(), facts.validity_text());
        }
    }
}

fn real() -> &'static [u8] {
    static REAL: std::sync::OnceLock<Vec<u8>> = std::sync::OnceLock::new();
    REAL.get_or_init(|| {
        let names = vec!["node-a".to_owned(), "10.0.0.5".to_owned(), "fd00::5".to_owned()];
        rcgen::generate_simple_self_signed(names).unwrap().cert.der().to_vec()
    })
}
