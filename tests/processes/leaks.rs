//! The keys of the pair, also while one is exchanged for another, are in their files and nowhere else: not in data directories,
//! journals, logs, process lists, environments or what a core file would have in it, neither as it is written nor as bytes
//! nor in the usual encodings, after everything that could make somebody print it.

use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use test_support::{Node, Pair, Pid, Signal, beside_others, until};

use crate::attacker::{Call, Ends, key_of, local, runtime, stranger};
use crate::keys::{apart, beside, fingerprint_of, key_file};
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
    forms.iter().any(|form| {
        let ends = content.len().saturating_sub(form.len() - 1);
        let begins = content[..ends].iter().enumerate().filter(|(_, byte)| **byte == form[0]);
        begins.map(|(at, _)| &content[at..at + form.len()]).any(|part| part == form)
    })
}

/// Searches every file below a folder but those with keys; gives how many were looked at.
fn search(folder: &Path, but: &[PathBuf], forms: &[Vec<u8>]) -> usize {
    let mut files = 0;
    for entry in fs::read_dir(folder).expect("a folder of the pair").flatten() {
        let (path, kind) = (entry.path(), entry.file_type().expect("its kind"));
        if kind.is_dir() {
            files += search(&path, but, forms);
        } else if kind.is_file() && !but.contains(&path) && path.extension().is_none_or(|end| end != "canary")
        {
            let content = fs::read(&path).unwrap_or_default();
            assert!(!has(&content, forms), "the key is in {}", path.display());
            files += 1;
        }
    }
    files
}

/// Searches what a core file of the node's processes would have in it: everything they have written to. Gives whether a key's fingerprint is
/// there, which was told to people: so the search finds things.
fn search_memory(node: &Node, fingerprint: &str, forms: &[Vec<u8>]) -> bool {
    let (mut known, fingerprint) = (false, fingerprint.as_bytes().to_vec());
    for pid in node.onduty_processes() {
        let maps = fs::read_to_string(format!("/proc/{pid}/maps")).unwrap_or_default();
        let memory = fs::File::open(format!("/proc/{pid}/mem")).expect("the memory of one's own process");
        for line in
            maps.lines().filter(|line| line.split(' ').nth(1).is_some_and(|may| may.starts_with("rw")))
        {
            let range = line.split(' ').next().and_then(|range| range.split_once('-')).expect("a range");
            let number = |text| u64::from_str_radix(text, 16).expect("an address");
            let (from, to) = (number(range.0), number(range.1));
            let mut content = vec![0; usize::try_from(to - from).expect("a length")];
            // What is gone meanwhile, or is no memory, cannot be read.
            if memory.read_exact_at(&mut content, from).is_ok() {
                assert!(!has(&content, forms), "the key is in the memory of process {pid}: {line}");
                known |= has(&content, std::slice::from_ref(&fingerprint));
            }
        }
    }
    known
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

/// A pair in which everything says as much as it can, with a key file for each node.
fn loud() -> Pair {
    let mut pair = apart(Pair::prepare(options()));
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
    pair
}

/// Everything that a person can ask of both nodes.
fn everything_said(pair: &Pair) -> String {
    let mut said = String::new();
    for arguments in [
        &["config", "show"][..],
        &["config", "show", "--json"],
        &["config", "check"],
        &["status", "--json"],
        &["key", "show"],
        &["key", "show", "--json"],
        &["test"],
        &["events"],
    ] {
        for node in [&pair.primary, &pair.secondary] {
            let answer = node.ask(arguments);
            said.push_str(&answer.stdout);
            said.push_str(&answer.stderr);
        }
    }
    said
}

/// Exchanges the key on both nodes; gives what was said.
fn exchanged(pair: &Pair) -> String {
    let next = beside(&pair.primary, "next").display().to_string();
    let prepare = [&["key", "rotate", "prepare"][..], &["key", "rotate", "prepare", "--from", &next]];
    let mut said = String::new();
    for (primary, secondary) in [
        (prepare[0], prepare[1]),
        (&["key", "rotate", "use"][..], &["key", "rotate", "use"][..]),
        // Too early or not, and once more.
        (&["key", "rotate", "finish"], &["key", "rotate", "abort"]),
        (&["key", "rotate", "finish"], &["key", "rotate", "finish"]),
    ] {
        for (node, words) in [(&pair.primary, primary), (&pair.secondary, secondary)] {
            let answer = node.ask(words);
            said.push_str(&answer.stdout);
            said.push_str(&answer.stderr);
        }
    }
    said
}

#[test]
fn after_a_run_the_keys_are_in_their_files_and_nowhere_else() {
    let _turn = beside_others();
    let mut pair = loud();
    fs::remove_file(pair.key_file()).expect("the key of before the copies");
    let own = [&pair.primary, &pair.secondary].map(key_file);
    let old = fs::read_to_string(&own[0]).expect("the key");
    let old_forms = forms(old.trim());
    pair.primary.start();
    pair.secondary.start();
    pair.redundant();
    let keys = key_of(&own[0]);
    runtime().block_on(async {
        let (ends, to) = (Ends::new(), local(pair.port));
        let mut call = Call::open(&ends.connector, to).await.expect("a call");
        call.prove(stranger(7), &keys).await;
        let _why = call.end().await;
    });
    let said = everything_said(&pair) + &exchanged(&pair) + &everything_said(&pair);
    let new = fs::read_to_string(&own[0]).expect("the key");
    assert!(new != old && fs::read_to_string(&own[1]).expect("the key") == new, "{said}");
    let all_forms = [old_forms.clone(), forms(new.trim())].concat();
    assert!(!has(said.as_bytes(), &all_forms), "a command shows the key");
    // Manager, guard and canary of the active one; the other has no plugin.
    let seen = search_processes(&pair.primary, &all_forms) + search_processes(&pair.secondary, &all_forms);
    assert!(seen >= 4, "{seen} processes");
    for node in [&pair.primary, &pair.secondary] {
        let fingerprint = fingerprint_of(node);
        assert!(search_memory(node, &fingerprint, &all_forms), "{fingerprint} is not found");
    }
    let killed = pair.primary.kill_manager();
    runs_again(&pair, &pair.secondary, killed);
    search_processes(&pair.secondary, &all_forms);
    pair.primary.start();
    pair.redundant();
    for node in [&mut pair.secondary, &mut pair.primary] {
        node.signal(Signal::SIGTERM);
        node.ended(PATIENCE);
    }
    until("every process to end", PATIENCE, || pair.primary.everything().is_empty().then_some(()));
    let files = search(pair.folder(), &own, &all_forms);
    assert!(files > 10, "{files} files");
    // What was dropped is nowhere at all.
    let files = search(pair.folder(), &[], &old_forms);
    assert!(files > 12, "{files} files");
}
