//! The pages of `docs/errors/`: every code that a person can meet has one, every page has a code, and what each page
//! describes is produced by a test that names the code. The index is written here, too.
//!
//! ```text
//!   codes in the source ─┬─ EventCode, Refusal, service_kit::codes, "tls.…" of certificate-trust
//!                        └─► docs/errors/CODE.md ─ "Shown by:" ─► a function of a test, or a story, that has the code in it
//!   UPDATE_DOCS=1 cargo test -p onduty --test errors   ──►  docs/errors/README.md
//! ```
#![allow(clippy::unwrap_used, reason = "a test may fail by unwrapping")]

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use failover_core::EventCode;
use onduty_api::errors::Refusal;
use service_kit::codes::Code;

/// Events that are plain news, whoever reads them: nobody has to do anything.
const NEWS: [EventCode; 16] = [
    EventCode::NodeStarted,
    EventCode::RedundancyInactive,
    EventCode::PrimaryActive,
    EventCode::PeerConnected,
    EventCode::PathBack,
    EventCode::HandoverBegun,
    EventCode::HandoverDone,
    EventCode::NodeFit,
    EventCode::PeerFit,
    EventCode::MaintenanceCleared,
    EventCode::FlapReleased,
    EventCode::StorageRestored,
    EventCode::JournalRestored,
    EventCode::ModeChanged,
    EventCode::KeyChanged,
    // Its severity is that of plain news but in a conflict, which has a page.
    EventCode::StateChanged,
];

/// Codes of `certificate-trust` that people see under another one: `not_onduty` and `closed_early`.
const TRANSLATED: [&str; 7] = [
    "tls.refused_by_peer",
    "tls.alpn",
    "tls.resumed",
    "tls.handshake",
    "tls.closed",
    "tls.io",
    "tls.stopping",
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn folder() -> PathBuf {
    root().join("docs/errors")
}

/// Every `"tls.…"` in the source of `certificate-trust`.
fn codes_of_trust() -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut folders = vec![root().join("crates/certificate-trust/src")];
    while let Some(path) = folders.pop() {
        for entry in fs::read_dir(&path).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let text = fs::read_to_string(&path).unwrap();
            let starts = text.match_indices("\"tls.").map(|(at, _)| &text[at + 1..]);
            found.extend(starts.map(|rest| rest[..rest.find('"').unwrap()].to_owned()));
        }
    }
    // What was accepted is no error.
    found.retain(|code| !code.starts_with("tls.accepted") && !TRANSLATED.contains(&code.as_str()));
    assert!(found.contains("tls.expired"), "{found:?}");
    found
}

fn codes() -> BTreeSet<String> {
    let events = EventCode::ALL.iter().filter(|code| !NEWS.contains(code)).map(|code| code.as_str());
    let refusals = Refusal::ALL.iter().map(|refusal| refusal.code());
    let others = Code::ALL.iter().map(|code| code.as_str());
    let named = events.chain(refusals).chain(others).map(str::to_owned);
    named.chain(codes_of_trust()).collect()
}

/// The pages by their code.
fn pages() -> BTreeMap<String, String> {
    let files = fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap().path());
    let pages = files.filter(|path| path.file_name().is_some_and(|name| name != "README.md"));
    pages
        .map(|path| {
            let code = path.file_name().unwrap().to_str().unwrap().strip_suffix(".md").unwrap().to_owned();
            (code, fs::read_to_string(&path).unwrap())
        })
        .collect()
}

#[test]
fn every_code_has_a_page_and_every_page_has_a_code() {
    let (codes, pages) = (codes(), pages().into_keys().collect::<BTreeSet<_>>());
    let without: Vec<_> = codes.difference(&pages).collect();
    assert!(without.is_empty(), "codes without a page in docs/errors: {without:?}");
    let left: Vec<_> = pages.difference(&codes).collect();
    assert!(left.is_empty(), "pages without a code in the source: {left:?}");
}

#[test]
fn every_page_shows_the_message_and_says_what_it_means_and_what_to_do() {
    for (code, page) in pages() {
        assert!(page.starts_with(&format!("# `{code}`: ")), "{code}: {page}");
        let example = page.split("```").nth(1).unwrap_or_default();
        assert!(example.contains(&format!("[{code}]")), "{code}: {example}");
        for part in ["**It means:** ", "**What to do:** ", "\nShown by:\n"] {
            assert!(page.contains(part), "{code}: no {part:?}");
        }
    }
}

/// The function's text, from its name to its end.
fn body<'a>(text: &'a str, function: &str) -> Option<&'a str> {
    let begin = text.find(&format!("fn {function}("))?;
    let end = text[begin..].find("\n}\n").map_or(text.len(), |length| begin + length);
    Some(&text[begin..end])
}

/// Whether the text names the code, as itself or as a value of one of the enums.
fn names(text: &str, code: &str) -> bool {
    let whole = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '.';
    let alone = |(at, _): (usize, &str)| {
        !text[..at].chars().next_back().is_some_and(whole)
            && !text[at + code.len()..].chars().next().is_some_and(whole)
    };
    text.match_indices(code).any(alone)
}

#[test]
fn every_page_is_shown_by_a_test_that_names_its_code() {
    let mut told = String::new();
    for (code, page) in pages() {
        let shown = page.split("\nShown by:\n").nth(1).unwrap();
        let mut count = 0;
        for line in shown.lines().filter(|line| line.starts_with("- ")) {
            let words: Vec<&str> = line.split('`').collect();
            let (file, function) = (words[1], words.get(3));
            let text =
                fs::read_to_string(root().join(file)).unwrap_or_else(|e| panic!("{code}: {file}: {e}"));
            let scope = match function {
                None => Some(text.as_str()),
                Some(function) => body(&text, function),
            };
            match scope {
                None => writeln!(told, "{code}: {file} has no {function:?}").unwrap(),
                Some(scope) if !names(scope, &code) => {
                    writeln!(told, "{code}: {file} {function:?} does not name it").unwrap();
                }
                Some(_) => count += 1,
            }
        }
        if count == 0 {
            writeln!(told, "{code}: no test shows it").unwrap();
        }
    }
    assert!(told.is_empty(), "{told}");
}

/// Where the page of a code belongs, for the index.
fn part(code: &str) -> &'static str {
    if code.starts_with("tls.") {
        return "TLS and certificates";
    }
    if EventCode::ALL.iter().any(|event| event.as_str() == code) {
        return "Events and warnings of a running node";
    }
    let of_link = Code::ALL.iter().skip_while(|known| **known != Code::NoAddress);
    if Refusal::ALL.iter().any(|refusal| refusal.code() == code)
        || of_link.into_iter().any(|known| known.as_str() == code)
    {
        return "The link, and its test";
    }
    "Settings, commands and the start of a node"
}

fn index() -> String {
    let mut text = "<!-- Generated from the pages of this folder; do not edit. `UPDATE_DOCS=1 cargo test -p onduty --test errors` \
        writes it anew. -->\n\n# What onduty says when something is wrong\n\nEvery message of this kind ends with a code in \
        square brackets: what a command complains of, a step of `onduty test`, a warning in\n`onduty status` and \
        `onduty config check`, an event from the severity `warn` on. With `--json` it is the field `code`. A code names a \
        situation\nin which a person may have to act; it stays the same when the sentence changes. Each has a page here: \
        what it means, what to do, when it is over.\n\nA command line that cannot be understood has no code: the message \
        shows how it is written. Exit codes are in\n[the settings](../configuration.md).\n"
        .to_owned();
    let mut parts: BTreeMap<&str, Vec<(String, String)>> = BTreeMap::new();
    for (code, page) in pages() {
        let title = page.lines().next().unwrap().split_once("`: ").unwrap().1.to_owned();
        parts.entry(part(&code)).or_default().push((code, title));
    }
    for (part, pages) in parts {
        write!(text, "\n## {part}\n\n| code | |\n| --- | --- |\n").unwrap();
        for (code, title) in pages {
            writeln!(text, "| [`{code}`]({code}.md) | {title} |").unwrap();
        }
    }
    text
}

#[test]
fn the_index_lists_every_page() {
    let path = folder().join("README.md");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::write(&path, index()).unwrap();
    }
    let found = fs::read_to_string(&path).unwrap_or_default();
    assert!(found == index(), "docs/errors/README.md is not up to date: run `cargo xtask docs`");
}

#[test]
fn bytes_that_are_no_certificate_are_a_bad_certificate() {
    for bytes in [&b""[..], b"not a certificate", &[0x30; 100]] {
        let invalid = certificate_trust::CertificateFacts::read(bytes).unwrap_err();
        assert_eq!(certificate_trust::Refusal::Invalid(invalid).code(), "tls.bad_certificate");
    }
}
