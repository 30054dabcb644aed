//! Keys as operators give them: forms, lengths, files and their permissions.
#![allow(clippy::unwrap_used, reason = "a test may fail by unwrapping")]

mod support;

use std::error::Error;
use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use certificate_trust::proof::{Transcript, client_proofs};
use certificate_trust::{KeyError, KeySources, PairKey, PairKeys, write_key_file};
use proptest::prelude::{any, proptest};
use secrecy::SecretString;
use tempfile::TempDir;

const PASSPHRASE: &str = "correct horse battery stäple";

fn file(folder: &TempDir, name: &str, mode: u32, content: &[u8]) -> PathBuf {
    let path = folder.path().join(name);
    fs::write(&path, content).unwrap();
    fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
    path
}

fn load(path: &Path) -> Result<PairKeys, KeyError> {
    PairKeys::load(KeySources { key_file: Some(path), ..KeySources::default() })
}

fn refused(path: &Path) -> (&'static str, String) {
    let error = load(path).expect_err("this key must be refused");
    (error.code(), error.to_string())
}

/// Equal proofs say equal keys.
fn proof(keys: &PairKeys) -> [u8; 32] {
    let transcript = Transcript {
        binding: &[7; 32],
        channel_bound: true,
        hello: b"hello",
        challenge: b"challenge",
        offered: keys.count(),
    };
    client_proofs(&transcript, keys).proofs[0]
}

#[test]
fn a_generated_key_is_strong_and_new_each_time() {
    let (one, two) = (PairKey::generate().unwrap(), PairKey::generate().unwrap());
    assert_ne!(*one, *two);
    assert!(one.starts_with("odk1_") && one.len() == 5 + 43, "{} characters", one.len());
    assert!(PairKey::parse(&one).unwrap().is_generated());
}

#[test]
fn a_key_file_is_written_for_its_owner_alone_and_never_overwritten() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("pair.key");
    let text = PairKey::generate().unwrap();
    write_key_file(&path, &text).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o600);
    assert!(load(&path).unwrap().are_generated());
    assert!(write_key_file(&path, "another").is_err());
    assert_eq!(fs::read_to_string(&path).unwrap(), format!("{}\n", *text));
}

/// The value was computed with another implementation (Python's `cryptography`): both nodes, and all versions, must
/// derive the same key from the same words.
#[test]
fn a_passphrase_gives_the_same_key_everywhere() {
    let folder = TempDir::new().unwrap();
    let keys = load(&file(&folder, "key", 0o600, PASSPHRASE.as_bytes())).unwrap();
    let hex: String = proof(&keys).iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(hex, "a6dcc76661708584d127e63dfc425100bdc40db43475bbe014541c76683c234f");
    assert!(!keys.are_generated(), "words can be guessed: trust `all` must refuse them");
}

#[test]
fn line_ends_around_a_key_do_not_matter() {
    let folder = TempDir::new().unwrap();
    let text = PairKey::generate().unwrap();
    let plain = proof(&load(&file(&folder, "plain", 0o600, text.as_bytes())).unwrap());
    for (number, end) in ["\n", "\r\n", "\n\n", " \n"].into_iter().enumerate() {
        let path = file(&folder, &number.to_string(), 0o600, format!("{}{end}", *text).as_bytes());
        assert_eq!(proof(&load(&path).unwrap()), plain, "{end:?}");
    }
}

#[test]
fn what_is_no_key_is_refused_with_the_reason() {
    let folder = TempDir::new().unwrap();
    let cut = &PairKey::generate().unwrap()[..30];
    let long = "x".repeat(1025);
    let huge = vec![b'x'; 1 << 20];
    let cases: [(&[u8], &str, &str); 11] = [
        (b"", "key.empty", "an empty key is invalid"),
        (b" \r\n\n", "key.empty", "an empty key is invalid"),
        (b"secret", "key.too_short", "has 6 bytes: at least 16"),
        (b"123456789012345", "key.too_short", "has 15 bytes"),
        (b"odk1_", "key.malformed", "cut or changed"),
        (cut.as_bytes(), "key.malformed", "cut or changed"),
        (b"odk1_!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!", "key.malformed", "base64url"),
        (b"first line of a file\nsecond line", "key.several_lines", "more than one line"),
        (b"\xff\xfe\x00\x01 sixteen bytes and more", "key.not_utf8", "not UTF-8"),
        (long.as_bytes(), "key.too_long", "longer than 1024"),
        (&huge, "key.too_long", "larger than"),
    ];
    for (number, (content, code, words)) in cases.into_iter().enumerate() {
        let path = file(&folder, &number.to_string(), 0o600, content);
        let (got, said) = refused(&path);
        assert_eq!(got, code, "{said}");
        assert!(said.contains(words), "{said}");
        assert!(said.contains(path.to_str().unwrap()) && said.contains("redundancy.key_file"), "{said}");
        assert!(!said.contains("second line"), "a key is never printed: {said}");
    }
}

#[test]
fn a_file_that_others_may_read_or_write_is_refused() {
    let folder = TempDir::new().unwrap();
    let text = PairKey::generate().unwrap();
    for mode in [0o604, 0o602, 0o644, 0o666] {
        let (code, words) = refused(&file(&folder, &format!("{mode:o}"), mode, text.as_bytes()));
        assert_eq!(code, "key.permissions");
        assert!(words.contains(&format!("mode {mode:04o}")), "{words}");
    }
    // The new file's group is one of ours: the habit of Kubernetes' fsGroup.
    for mode in [0o600, 0o400, 0o440, 0o640] {
        assert!(load(&file(&folder, &format!("{mode:o}"), mode, text.as_bytes())).is_ok(), "{mode:o}");
    }
}

/// Only root can give a file to a group it is not in; the rule itself is tested for everybody in `secret_file`.
#[test]
fn a_file_of_a_foreign_group_is_refused() {
    let folder = TempDir::new().unwrap();
    let path = file(&folder, "key", 0o440, PairKey::generate().unwrap().as_bytes());
    if std::os::unix::fs::chown(&path, None, Some(54_321)).is_ok() {
        let (code, words) = refused(&path);
        assert_eq!(code, "key.permissions");
        assert!(words.contains("group 54321"), "{words}");
        fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        assert!(load(&path).is_ok(), "the group has no access");
    }
}

#[test]
fn a_link_is_followed_and_its_target_judged() {
    let folder = TempDir::new().unwrap();
    let text = PairKey::generate().unwrap();
    fs::create_dir(folder.path().join("..data")).unwrap();
    let target = file(&folder, "..data/key", 0o400, text.as_bytes());
    let link = folder.path().join("key");
    symlink("..data/key", &link).unwrap();
    assert!(load(&link).is_ok());
    fs::set_permissions(&target, Permissions::from_mode(0o444)).unwrap();
    assert_eq!(refused(&link).0, "key.permissions");
}

#[test]
fn what_is_no_file_is_refused_at_once() {
    let folder = TempDir::new().unwrap();
    assert_eq!(refused(folder.path()).0, "key.not_a_file");
    let missing = load(&folder.path().join("none")).unwrap_err();
    assert_eq!(missing.code(), "key.unreadable");
    assert!(missing.source().unwrap().to_string().contains("No such file"), "the cause is the source");
    assert!(!missing.to_string().contains("No such file"), "and is not said twice");
    let pipe = folder.path().join("pipe");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    assert_eq!(refused(&pipe).0, "key.not_a_file", "a pipe that nobody writes to does not hold the start");
}

#[test]
fn exactly_one_source_is_needed() {
    let text = SecretString::from(PairKey::generate().unwrap().to_string());
    let code = |sources| PairKeys::load(sources).unwrap_err().code();
    assert_eq!(code(KeySources::default()), "key.missing");
    let path = Path::new("/nowhere");
    assert_eq!(
        code(KeySources { key: Some(&text), key_file: Some(path), previous_key_file: None }),
        "key.two_sources"
    );
    let empty = SecretString::from(String::new());
    assert_eq!(code(KeySources { key: Some(&empty), ..KeySources::default() }), "key.empty");
    assert!(PairKeys::load(KeySources { key: Some(&text), ..KeySources::default() }).is_ok());
}

#[test]
fn a_rotation_has_two_keys_and_a_bad_previous_one_is_named() {
    let folder = TempDir::new().unwrap();
    let (old, new) = (PairKey::generate().unwrap(), PairKey::generate().unwrap());
    let (old_file, new_file) =
        (file(&folder, "old", 0o600, old.as_bytes()), file(&folder, "new", 0o600, new.as_bytes()));
    let with = |previous: &Path| {
        PairKeys::load(KeySources { key: None, key_file: Some(&new_file), previous_key_file: Some(previous) })
    };
    assert_eq!(with(&old_file).unwrap().count(), 2);
    assert_eq!(with(&new_file).unwrap().count(), 1, "the same key twice is no rotation");
    let none = folder.path().join("none");
    assert_eq!(with(&none).unwrap().count(), 1, "whose file is removed is dropped");
    let sources = KeySources { key: None, key_file: Some(&new_file), previous_key_file: Some(&none) };
    let words = PairKeys::load_all(sources).unwrap().1[0].to_string();
    assert!(words.contains("redundancy.previous_key_file"), "{words}");
    let open = file(&folder, "open", 0o644, old.as_bytes());
    let words = with(&open).unwrap_err().to_string();
    assert!(words.contains("redundancy.previous_key_file"), "{words}");
    let typed = file(&folder, "typed", 0o600, PASSPHRASE.as_bytes());
    assert!(
        !with(&typed).unwrap().are_generated(),
        "one passphrase of the two is enough to be refused with `all`"
    );
}

#[test]
fn a_key_is_never_shown() {
    let text = PairKey::generate().unwrap();
    let keys = support::keys(&text, None);
    let shown = format!("{keys:?}");
    assert_eq!(shown, "PairKeys { current: PairKey { generated: true, .. }, previous: None }");
}

proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig { cases: 512, ..Default::default() })]

    /// Any text that claims to be a generated key is one of 32 bytes or refused; it is never taken for a passphrase.
    #[test]
    fn generated_keys_are_parsed_without_panic(rest in "\\PC{0,80}") {
        let parsed = PairKey::parse(&format!("odk1_{rest}"));
        assert!(parsed.is_err() || parsed.unwrap().is_generated());
    }

    #[test]
    fn short_bytes_in_a_file_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..16)) {
        let folder = TempDir::new().unwrap();
        let path = file(&folder, "key", 0o600, &bytes);
        assert!(load(&path).is_err());
    }

    #[test]
    fn thirty_two_bytes_round_trip(bytes in any::<[u8; 32]>()) {
        use base64::Engine;
        let encoded = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(bytes);
        assert!(PairKey::parse(&format!("odk1_{encoded}")).unwrap().is_generated());
        assert!(PairKey::parse(&format!("odk1_{encoded}=")).is_err(), "one form only");
    }
}
