//! The corpora of the fuzzers as plain tests: every file, and for two seconds mutations of them from a fixed seed.
//!
//! What a fuzzer has found and what was mended lies in `fuzz/corpus`; this keeps it mended without a fuzzer. A failure
//! names the bytes, and keeps them in a file for `cargo fuzz run`.

use std::fs;
use std::panic::catch_unwind;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use fuzzing::{Dice, TARGETS, mutated};

/// The most mutations of one corpus, and the time after which there are no more.
const MOST: usize = 20_000;
const LONGEST: Duration = Duration::from_secs(2);
/// What a corpus may have: it is looked through in each run of the tests, by people too.
const LARGEST_FILE: usize = 16 * 1024;
const LARGEST_CORPUS: usize = 160 * 1024;

fn fuzz() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz")
}

/// The files of a corpus with their names, in the order of these.
fn corpus(target: &str) -> Vec<(String, Vec<u8>)> {
    let folder = fuzz().join("corpus").join(target);
    let entries = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut files: Vec<_> = entries
        .map(|entry| {
            let path = entry.expect("an entry").path();
            let bytes = fs::read(&path).expect("a file of the corpus");
            (path.file_name().expect("a name").to_string_lossy().into_owned(), bytes)
        })
        .collect();
    files.sort();
    files
}

/// Runs a target on bytes; a failure is told with how to see it again.
fn run(target: &str, name: &str, bytes: &[u8]) {
    let (_, check) = TARGETS.iter().find(|(known, _)| *known == target).expect("a target");
    if catch_unwind(|| check(bytes)).is_err() {
        let kept = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{target}-{name}"));
        fs::write(&kept, bytes).expect("a file of this test");
        panic!("{target}: {name} breaks a promise; the bytes are in {}", kept.display());
    }
}

fn replay(target: &str) {
    let files = corpus(target);
    for (name, bytes) in &files {
        run(target, name, bytes);
    }
    #[allow(clippy::disallowed_methods, reason = "measures this test's own patience")]
    let begun = Instant::now();
    let mut dice = Dice(0x0FF1_C1A1);
    for number in 0..MOST {
        if begun.elapsed() > LONGEST {
            break;
        }
        let (_, bytes) = &files[dice.below(files.len())];
        let (_, other) = &files[dice.below(files.len())];
        run(target, &format!("mutation-{number}"), &mutated(bytes, other, &mut dice));
    }
}

#[test]
fn handshake() {
    replay("handshake");
}

#[test]
fn heartbeat() {
    replay("heartbeat");
}

#[test]
fn tombstone() {
    replay("tombstone");
}

#[test]
fn certificates() {
    replay("certificates");
}

#[test]
fn settings() {
    replay("settings");
}

#[test]
fn every_target_is_thin_and_has_a_corpus_that_stays_small() {
    let manifest = fs::read_to_string(fuzz().join("Cargo.toml")).expect("the manifest");
    for (target, _) in TARGETS {
        assert!(manifest.contains(&format!("name = \"{target}\"\n")), "{target} is in the manifest");
        let source = fs::read_to_string(fuzz().join(format!("fuzz_targets/{target}.rs"))).expect("a target");
        assert!(source.contains(&format!("fuzzing::{target}(bytes)")), "{target}: {source}");
        let files = corpus(target);
        assert!(files.len() >= 20, "{target} has {} files", files.len());
        let sizes = files.iter().map(|(_, bytes)| bytes.len());
        assert!(sizes.clone().all(|size| size <= LARGEST_FILE), "{target} has a large file");
        let all: usize = sizes.sum();
        assert!(all <= LARGEST_CORPUS, "{target} has {all} bytes: CONTRIBUTING.md says how to choose");
    }
}
