//! The node's own certificate: made once, kept, refused when damaged, reloaded under running acceptors.
#![allow(clippy::unwrap_used, reason = "a test may fail by unwrapping")]

mod support;

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use certificate_trust::{IdentityError, OwnIdentity, PkiStore, TrustMode};
use support::{DAY, NOW, Node, failure, owned, shake};
use tempfile::TempDir;

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

fn reopen(node: &Node) -> Result<OwnIdentity, IdentityError> {
    OwnIdentity::open_or_create(&node.pki(), &owned(&["node-a"]), NOW)
}

/// Both the start and the reload refuse what the files hold now; the old pair goes on serving.
fn refused(node: &Node) -> (&'static str, String) {
    let before = node.identity.fingerprint();
    let at_start = reopen(node).expect_err("this identity must be refused");
    let at_reload = node.identity.reload().expect_err("this identity must not be published");
    assert_eq!(at_start.code(), at_reload.code());
    assert_eq!(node.identity.fingerprint(), before);
    (at_start.code(), at_start.to_string())
}

#[test]
fn the_first_start_makes_folders_certificate_and_key() {
    let node = Node::new(&["node-a", "node-a.plant.local", "10.0.0.5", "fd00::5", "node-a"]);
    for folder in ["own", "trusted/certs", "trusted/crl", "issuers/certs", "issuers/crl", "rejected"] {
        assert!(node.pki().join(folder).is_dir(), "{folder}");
    }
    assert_eq!(mode(&node.pki().join("own")), 0o700);
    assert_eq!(mode(&node.private_key()), 0o600);
    let facts = node.identity.facts();
    assert_eq!(facts.names, ["`node-a`", "`node-a.plant.local`", "10.0.0.5", "fd00::5"]);
    assert_eq!(facts.subject, "CN=node-a");
    assert!(facts.for_servers);
    let (now, day) = (i64::try_from(NOW).unwrap(), i64::try_from(DAY).unwrap());
    assert!(
        facts.not_before <= now - day && facts.not_before > now - 3 * day,
        "a peer's clock may be a day behind"
    );
    assert!(facts.not_after > now + 19 * 365 * day);
    assert_eq!(support::files(&node.pki().join("own")).len(), 2, "nothing half-written is left");
}

#[test]
fn a_restart_keeps_the_identity_also_under_other_names() {
    let node = Node::new(&["node-a"]);
    let again = OwnIdentity::open_or_create(&node.pki(), &owned(&["another"]), NOW + DAY).unwrap();
    assert_eq!(again.fingerprint(), node.identity.fingerprint());
}

#[test]
fn two_nodes_have_different_identities() {
    assert_ne!(Node::new(&["node"]).identity.fingerprint(), Node::new(&["node"]).identity.fingerprint());
}

/// A machine without a battery clock: made in 1970, still valid when the clock has been set.
#[test]
fn a_first_start_in_1970_makes_a_certificate_for_today() {
    let folder = TempDir::new().unwrap();
    for clock in [0, 5, 1_000_000] {
        let pki = folder.path().join(clock.to_string());
        let facts = OwnIdentity::open_or_create(&pki, &owned(&["node-a"]), clock).unwrap().facts();
        assert!(facts.not_before <= i64::try_from(clock).unwrap());
        assert!(facts.not_after > i64::try_from(NOW + 10 * 365 * DAY).unwrap());
    }
    // And a clock far out of any calendar does not panic.
    assert!(OwnIdentity::open_or_create(&folder.path().join("end"), &owned(&["node-a"]), u64::MAX).is_ok());
}

#[test]
fn names_that_no_peer_could_dial_are_refused_and_named() {
    let folder = TempDir::new().unwrap();
    let many: Vec<String> = (0..65).map(|number| format!("name-{number}")).collect();
    for (names, words) in [
        (owned(&["node a"]), "`node a`"),
        (owned(&["node-a", ""]), "``"),
        (owned(&["-"]), "`-`"),
        (owned(&[]), "0 are given"),
        (many, "65 are given"),
    ] {
        let error = OwnIdentity::open_or_create(folder.path(), &names, NOW).unwrap_err();
        assert_eq!(error.code(), "identity.names");
        assert!(error.to_string().contains(words), "{error}");
        assert!(support::files(&folder.path().join("own")).is_empty(), "nothing is written for bad names");
    }
}

#[test]
fn an_interrupted_first_start_goes_on_with_the_key_that_is_there() {
    let node = Node::new(&["node-a"]);
    let key = fs::read(node.private_key()).unwrap();
    fs::remove_file(node.certificate()).unwrap();
    // What a crash in the middle of writing leaves behind.
    fs::write(node.pki().join("own/.certificate.pem.0123456789abcdef.tmp"), "-----BEGIN CERT").unwrap();
    let again = reopen(&node).unwrap();
    assert_ne!(again.fingerprint(), node.identity.fingerprint());
    assert_eq!(fs::read(node.private_key()).unwrap(), key);
    let text = fs::read_to_string(node.certificate()).unwrap();
    assert!(
        text.ends_with("-----END CERTIFICATE-----\n") || text.ends_with("-----END CERTIFICATE-----\r\n"),
        "{text}"
    );
}

#[test]
fn a_certificate_without_its_key_is_an_error_and_nothing_is_overwritten() {
    let node = Node::new(&["node-a"]);
    let before = fs::read(node.certificate()).unwrap();
    fs::remove_file(node.private_key()).unwrap();
    let error = reopen(&node).unwrap_err();
    assert_eq!(error.code(), "identity.key_missing");
    assert_eq!(fs::read(node.certificate()).unwrap(), before);
}

#[test]
fn a_private_key_of_another_certificate_is_refused() {
    let (node, other) = (Node::new(&["node-a"]), Node::new(&["node-b"]));
    fs::copy(other.private_key(), node.private_key()).unwrap();
    let (code, words) = refused(&node);
    assert_eq!(code, "identity.mismatch");
    assert!(words.contains("does not belong to the private key"), "{words}");
}

#[test]
fn a_private_key_that_others_can_read_is_refused() {
    let node = Node::new(&["node-a"]);
    for open in [0o644, 0o604, 0o602] {
        fs::set_permissions(node.private_key(), Permissions::from_mode(open)).unwrap();
        let (code, words) = refused(&node);
        assert_eq!(code, "identity.key_permissions");
        assert!(words.contains(&format!("mode {open:04o}")) && words.contains("private.key"), "{words}");
    }
}

#[test]
fn damaged_files_are_refused_wherever_they_are_cut() {
    let node = Node::new(&["node-a"]);
    for (path, expected) in
        [(node.certificate(), "identity.certificate"), (node.private_key(), "identity.key_malformed")]
    {
        let whole = fs::read(&path).unwrap();
        let last = whole.len() - 2;
        for length in [0, 1, 20, 60, whole.len() / 2, last - 20, last] {
            fs::write(&path, &whole[..length]).unwrap();
            assert_eq!(refused(&node).0, expected, "{} cut to {length} bytes", path.display());
        }
        let garbage: [&[u8]; 4] =
            [&[0xff; 3000], b"\0", &[0x30; 900], b"-----BEGIN NOTHING-----\nAAAA\n-----END NOTHING-----\n"];
        for garbage in garbage {
            fs::write(&path, garbage).unwrap();
            assert_eq!(refused(&node).0, expected);
        }
        fs::write(&path, &whole).unwrap();
        assert!(!node.identity.reload().unwrap(), "whole again, and nothing has changed");
    }
    fs::write(node.certificate(), vec![b'A'; 1 << 20]).unwrap();
    assert_eq!(refused(&node).0, "identity.certificate");
}

#[tokio::test]
async fn a_reload_shows_the_new_certificate_without_touching_running_sessions() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let (a, renewed, b) = (Node::new(&["node-a"]), Node::new(&["node-a"]), Node::new(&["node-b"]));
    let (acceptor, connector) = (a.acceptor(), b.connector(TrustMode::Store));
    b.trust(&a);
    let (client, server) = shake(&connector, "node-a", &acceptor).await;
    let ((mut client, _), (mut server, _)) = (client.unwrap(), server.unwrap());

    fs::copy(renewed.private_key(), a.private_key()).unwrap();
    assert!(a.identity.reload().is_err(), "half of the exchange is a mismatch and is not published");
    assert!(shake(&connector, "node-a", &acceptor).await.0.is_ok());
    fs::copy(renewed.certificate(), a.certificate()).unwrap();
    assert!(a.identity.reload().unwrap());
    assert_eq!(a.identity.fingerprint(), renewed.identity.fingerprint());

    let (dialled, _) = shake(&connector, "node-a", &acceptor).await;
    assert_eq!(
        failure(dialled).0,
        "tls.unknown_certificate",
        "the acceptor made before the reload shows the new one"
    );
    b.trust(&renewed);
    assert!(shake(&connector, "node-a", &acceptor).await.0.is_ok());
    client.write_all(b"on").await.unwrap();
    client.flush().await.unwrap();
    server.read_exact(&mut [0; 2]).await.unwrap();
}

#[test]
fn a_folder_that_cannot_be_made_is_named() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, "").unwrap();
    let error = PkiStore::open(&file.join("pki")).unwrap_err();
    assert!(error.to_string().contains("file/pki"), "{error}");
}
