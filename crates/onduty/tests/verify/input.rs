//! What is said to input that cannot be understood: exit code 2, and a sentence that names it.

use std::fs;

use tempfile::TempDir;

use crate::asked::{onduty, write};
use crate::authority::{Authority, self_signed};

fn refused(arguments: &[&str]) -> String {
    let output = onduty().args(arguments).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{arguments:?}: {said}");
    assert!(output.stdout.is_empty(), "{arguments:?}");
    said
}

#[test]
fn each_wrong_input_is_named() {
    let place = TempDir::new().unwrap();
    let file = |name: &str, content: &str| {
        let path = place.path().join(name);
        fs::write(&path, content).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let leaf = write(place.path(), "leaf.pem", &[&self_signed(|_| {})], true, "CERTIFICATE");
    let leaf = leaf.to_str().unwrap();
    let garbage = file("garbage.pem", "hello");
    let half = file("half.pem", &fs::read_to_string(leaf).unwrap()[..200]);
    let large = file("large.pem", &" ".repeat(5 * 1024 * 1024));
    let missing = place.path().join("missing.pem");
    let folder = place.path().to_str().unwrap();
    let cases: [(&[&str], &[&str]); 14] = [
        (&[], &["<LEAF>"]),
        (&[leaf], &["--anchors FILE", "--data-dir DIR"]),
        (&["--anchors", leaf, "--name", "a b", leaf], &["--name", "`a b`"]),
        (&["--anchors", leaf, "--at", "yesterday", leaf], &["--at", "yesterday"]),
        (&["--anchors", leaf, "--purpose", "fun", leaf], &["--purpose", "server", "client"]),
        (&["--trust", "some", leaf], &["--trust", "store", "system", "all"]),
        (&["--trust", "system", "--anchors", leaf, "--json", leaf], &["--anchors", "system"]),
        (&["--anchors", leaf, "--json", missing.to_str().unwrap()], &["missing.pem", "No such file"]),
        (&["--anchors", leaf, "--json", folder], &[folder, "directory"]),
        (&["--anchors", &garbage, "--json", leaf], &["garbage.pem", "no certificate"]),
        (&["--anchors", leaf, "--intermediates", &half, "--json", leaf], &["half.pem", "cut or damaged"]),
        (&["--anchors", leaf, "--crls", leaf, "--json", leaf], &["leaf.pem", "no revocation list"]),
        (&["--anchors", leaf, "--json", &large], &["large.pem", "larger than 4194304 bytes"]),
        (&["--data-dir", folder, leaf], &["--data-dir", "no folder `pki`"]),
    ];
    for (arguments, words) in cases {
        let said = refused(arguments);
        for word in words {
            assert!(said.contains(word), "{arguments:?}: `{word}` is missing in: {said}");
        }
    }
}

#[test]
fn people_read_the_verdict_the_certificate_and_the_question() {
    let place = TempDir::new().unwrap();
    let root = Authority::root("Plant CA", |_| {});
    let leaf = write(place.path(), "leaf.der", &[&root.leaf(|_| {})], false, "CERTIFICATE");
    let anchor = write(place.path(), "root.pem", &[&root.der], true, "CERTIFICATE");
    let ask = |name: &str| {
        let output = onduty()
            .args(["--name", name, "--at", "2026-11-23T12:00:00+01:00", "--anchors"])
            .args([anchor.as_os_str(), "--".as_ref(), leaf.as_os_str()])
            .output()
            .unwrap();
        (output.status.code(), String::from_utf8(output.stdout).unwrap())
    };
    let (code, said) = ask("node-a.plant.local");
    assert_eq!(code, Some(0), "{said}");
    let first = "accepted: it chains to a trusted authority: CN=Plant CA [tls.accepted_chain]\n";
    assert!(said.starts_with(first), "{said}");
    let asked = "trust store, as a server, dialled as `node-a.plant.local`, at 2026-11-23T11:00:00Z";
    assert!(said.contains("CN=node-a") && said.contains(asked), "{said}");
    let (code, said) = ask("plc7");
    assert_eq!(code, Some(1), "{said}");
    assert!(said.starts_with("refused: name `plc7` not in certificate"), "{said}");
    assert!(said.contains("[tls.name_mismatch]"), "{said}");
}
