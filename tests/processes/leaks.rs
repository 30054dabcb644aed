//! The key is in its file and nowhere else: not in data directories, journals, logs, process lists or environments,
//! neither as it is written nor as bytes nor in the usual encodings, after everything that could make somebody print it.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use test_support::{Node, Pair, Pid, Signal, beside_others, until};

use crate::attacker::{Call, Ends, key_of, local, runtime, stranger};
use crate::{PATIENCE, options, runs_again};

/// The 32 bytes behind `odk1_`.
fn decoded(text: &str) -> Vec<u8> {
    let value = |c: u8| match c {
        b'A'..=b'Z' => c - b'A',
        b'a'..=b'z' => c - b'a' + 26,
        b'0'..=b'9' => c - b'0' + 52,
        b'-' => 62,
        b'_' => 63,
        other => panic!("{other} in a key"),
    };
    let bits = text.bytes().map(value).fold((Vec::new(), 0_u32, 0), |(mut out, sum, have), six| {
        let (sum, have) = ((sum << 6) | u32::from(six), have + 6);
        if have < 8 {
            return (out, sum, have);
        }
        out.push(u8::try_from(sum >> (have - 8) & 0xff).expect("a byte"));
        (out, sum & ((1 << (have - 8)) - 1), have - 8)
    });
    bits.0
}

/// Base64 with padding, in the common alphabet.
fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for three in bytes.chunks(3) {
        let sum = three.iter().fold(0_usize, |sum, byte| (sum << 8) | usize::from(*byte))
            << (8 * (3 - three.len()));
        for place in 0..=three.len() {
            text.push(char::from(ALPHABET[sum >> (18 - 6 * place) & 63]));
        }
    }
    text
}

/// Every form in which a key could stand somewhere.
fn forms(key: &str) -> Vec<Vec<u8>> {
    let body = key.strip_prefix("odk1_").expect("a generated key");
    let bytes = decoded(body);
    assert_eq!(bytes.len(), 32, "a generated key has 32 bytes");
    let hex = bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("a string");
        text
    });
    // Without the ends, which depend on what stands beside it and on padding.
    let inner = |text: String| text.as_bytes()[..text.len() - 4].to_vec();
    vec![
        body.as_bytes().to_vec(),
        inner(base64(&bytes)),
        inner(base64(key.as_bytes())),
        hex.into_bytes(),
        bytes,
    ]
}

fn has(content: &[u8], forms: &[Vec<u8>]) -> bool {
    forms.iter().any(|form| content.windows(form.len()).any(|part| part == form))
}

/// Searches every file below a folder; gives how many were looked at.
fn search(folder: &Path, key_file: &Path, forms: &[Vec<u8>]) -> usize {
    let mut files = 0;
    for entry in fs::read_dir(folder).expect("a folder of the pair").flatten() {
        let (path, kind) = (entry.path(), entry.file_type().expect("its kind"));
        if kind.is_dir() {
            files += search(&path, key_file, forms);
        } else if kind.is_file() && path != key_file && path.extension().is_none_or(|end| end != "canary") {
            let content = fs::read(&path).unwrap_or_default();
            assert!(!has(&content, forms), "the key is in {}", path.display());
            files += 1;
        }
    }
    files
}

/// Searches what everybody can see of the processes of a node; gives how many there are.
fn search_processes(node: &Node, forms: &[Vec<u8>]) -> usize {
    let all: Vec<Pid> = node.everything();
    for pid in &all {
        for what in ["cmdline", "environ"] {
            let content = fs::read(format!("/proc/{pid}/{what}")).unwrap_or_default();
            assert!(!has(&content, forms), "the key is in {what} of process {pid}");
        }
    }
    all.len()
}

#[test]
fn the_search_finds_every_form_of_a_key() {
    let key = "odk1_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8";
    let bytes: Vec<u8> = (0..32).collect();
    let forms = forms(key);
    let hex = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";
    for said in [key, "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=", hex, &base64(key.as_bytes())] {
        assert!(has(format!("key={said}\n").as_bytes(), &forms), "{said} is not found");
    }
    assert!(has(&bytes, &forms) && !has(b"odk1_ and nothing more", &forms));
}

#[test]
fn after_a_run_the_key_is_in_its_file_and_nowhere_else() {
    let _turn = beside_others();
    let mut pair = Pair::prepare(options());
    for node in [&mut pair.primary, &mut pair.secondary] {
        // Everything that our own crates can be made to say.
        let loud = node.settings().replace(
            "level = \"info,duty=debug,heartbeat_client=debug,heartbeat_server=debug\"",
            "level = \"debug,duty=trace,heartbeat_client=trace,heartbeat_server=trace,certificate_trust=trace,\
             plugin_supervisor=trace,service_kit=trace,management=trace,journal=trace\"",
        );
        assert_ne!(loud, node.settings(), "the level was found");
        node.settle(&loud);
    }
    let key = fs::read_to_string(pair.key_file()).expect("the key");
    let forms = forms(key.trim());
    pair.primary.start();
    pair.secondary.start();
    pair.redundant();
    let keys = key_of(&pair.key_file());
    runtime().block_on(async {
        let (ends, to) = (Ends::new(), local(pair.port));
        let mut call = Call::open(&ends.connector, to).await.expect("a call");
        call.prove(stranger(7), &keys).await;
        let _why = call.end().await;
    });
    let mut said = String::new();
    for arguments in [
        &["config", "show"][..],
        &["config", "show", "--json"],
        &["config", "check"],
        &["status", "--json"],
        &["test"],
        &["events"],
    ] {
        for node in [&pair.primary, &pair.secondary] {
            let answer = node.ask(arguments);
            said.push_str(&answer.stdout);
            said.push_str(&answer.stderr);
        }
    }
    assert!(!has(said.as_bytes(), &forms), "a command shows the key");
    // Manager, guard and canary of the active one; the other has no plugin.
    let seen = search_processes(&pair.primary, &forms) + search_processes(&pair.secondary, &forms);
    assert!(seen >= 4, "{seen} processes");
    let killed = pair.primary.kill_manager();
    runs_again(&pair, &pair.secondary, killed);
    search_processes(&pair.secondary, &forms);
    pair.primary.start();
    pair.redundant();
    for node in [&mut pair.secondary, &mut pair.primary] {
        node.signal(Signal::SIGTERM);
        node.ended(PATIENCE);
    }
    until("every process to end", PATIENCE, || pair.primary.everything().is_empty().then_some(()));
    let files = search(pair.folder(), &pair.key_file(), &forms);
    assert!(files > 10, "{files} files");
}
