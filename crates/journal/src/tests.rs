//! The journal as its users see it, with a disk that misbehaves.
#![allow(
    clippy::disallowed_methods,
    reason = "a test of real threads and processes waits and measures in real time"
)]
#![allow(clippy::unwrap_used)]

mod damage;
mod disk;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use failover_core::{Epoch, Event, EventCode, Measures, Severity, State};
use tokio::sync::watch;

use crate::state::Bounds;
use crate::{
    Entry, Health, Journal, JournalHandle, JournalThread, ListError, Options, Verified, verify, writer,
};

pub(super) fn options(path: &Path) -> Options {
    let now = AtomicU64::new(1_700_000_000_000);
    Options {
        path: path.to_owned(),
        node: "line1-a".to_owned(),
        clock: Arc::new(move || now.fetch_add(1, Ordering::Relaxed)),
    }
}

/// Bounds for a machine under load: a slow disk is not what most tests are about.
pub(super) fn patient() -> Bounds {
    let long = Duration::from_secs(60);
    Bounds { stalled: long, last_write: long, ..Bounds::default() }
}

pub(super) fn open(path: &Path) -> (JournalHandle, JournalThread) {
    open_with(path, patient())
}

pub(super) fn open_with(path: &Path, bounds: Bounds) -> (JournalHandle, JournalThread) {
    writer::open(options(path), bounds).unwrap()
}

pub(super) fn event(sentence: &str) -> Event {
    Event {
        code: EventCode::RedundancyActive,
        severity: Severity::Warn,
        sentence: sentence.to_owned(),
        cause: "no heartbeat for 3s".to_owned(),
        epoch: Some(Epoch(7)),
        transition: Some((State::Standby, State::TakingOver)),
        request: None,
        measures: Measures { detected_ms: Some(3001), ..Measures::default() },
    }
}

pub(super) fn sentences(entries: &[Arc<Entry>]) -> Vec<&str> {
    entries.iter().map(|entry| entry.event.sentence.as_str()).collect()
}

/// Waits for a state of health; the limit only ends a test that has failed already.
pub(super) fn wait_for(health: &mut watch::Receiver<Health>, wanted: impl Fn(&Health) -> bool) -> Health {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(async {
        let seen = tokio::time::timeout(Duration::from_secs(60), health.wait_for(wanted)).await;
        seen.expect("the health asked for never came").unwrap().clone()
    })
}

pub(super) fn list(handle: &JournalHandle, after: u64, limit: u32) -> Vec<Arc<Entry>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(handle.list(after, limit)).unwrap()
}

fn folder() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal.db");
    (folder, path)
}

#[test]
fn the_public_way_in_works_too() {
    let (_folder, path) = folder();
    let (handle, thread) = Journal::open(options(&path)).unwrap();
    handle.record(event("one"));
    assert_eq!(sentences(&list(&handle, 0, 0))[0], "one");
    drop(thread);
}

#[test]
fn what_is_recorded_is_listed_at_once_and_on_the_disk_after_the_end() {
    let (_folder, path) = folder();
    let (handle, thread) = open(&path);
    let mut news = handle.subscribe();
    handle.record(event("one"));
    handle.record(event("two"));
    let entries = list(&handle, 0, 0);
    assert_eq!(sentences(&entries), ["one", "two"]);
    assert_eq!(*entries[0], *news.try_recv().unwrap());
    assert_eq!(
        (entries[0].number, entries[0].unix_ms, entries[0].node.as_str()),
        (1, 1_700_000_000_000, "line1-a")
    );
    assert_eq!(entries[1].event, event("two"));
    assert!(thread.close());
    assert_eq!(verify(&path), Ok(Verified { entries: 2, trimmed_up_to: 0, last: 2 }));
}

#[test]
fn numbers_and_chain_go_on_after_a_restart() {
    let (_folder, path) = folder();
    for round in 1..=3_u64 {
        let (handle, thread) = open(&path);
        handle.record(event(&format!("round {round}")));
        let entries = list(&handle, 0, 0);
        assert_eq!(entries.len() as u64, round);
        assert_eq!(entries.last().unwrap().number, round);
        assert!(thread.close());
    }
    assert_eq!(verify(&path).unwrap().entries, 3);
}

#[test]
fn lists_give_the_newest_after_a_number_oldest_first() {
    let (_folder, path) = folder();
    // A small ring, so that the file has to answer too.
    let (handle, thread) = open_with(&path, Bounds { ring: 4, ..patient() });
    for n in 1..=20 {
        handle.record(event(&n.to_string()));
    }
    assert_eq!(sentences(&list(&handle, 0, 3)), ["18", "19", "20"]);
    assert_eq!(sentences(&list(&handle, 18, 10)), ["19", "20"]);
    assert!(list(&handle, 20, 10).is_empty());
    assert!(thread.close());
    // Closed, so that the file has everything.
    assert_eq!(sentences(&list(&handle, 0, 6)), ["15", "16", "17", "18", "19", "20"]);
    assert_eq!(sentences(&list(&handle, 12, 100)), ["13", "14", "15", "16", "17", "18", "19", "20"]);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let refused = runtime.block_on(handle.list(0, 10_001)).unwrap_err();
    assert_eq!(refused, ListError::TooMany(10_001));
    assert_eq!(refused.to_string(), "at most 10000 events are listed at once, not 10001");
}

#[test]
fn the_file_keeps_its_bound_and_verify_tells_trimmed_from_cut() {
    let (_folder, path) = folder();
    let bounds = Bounds { retained: 100, trim_step: 10, ..patient() };
    let (handle, thread) = open_with(&path, bounds);
    for n in 0..1000 {
        handle.record(event(&n.to_string()));
    }
    assert!(thread.close());
    let whole = verify(&path).unwrap();
    assert_eq!(whole.last, 1000);
    assert!((100..=110 + 512).contains(&whole.entries), "{whole:?}");
    assert_eq!(whole.trimmed_up_to + whole.entries, 1000);
    let (handle, thread) = open_with(&path, bounds);
    handle.record(event("after"));
    assert_eq!(list(&handle, 0, 1)[0].number, 1001);
    assert!(thread.close());
    assert!(verify(&path).is_ok());
}

#[test]
fn a_hundred_thousand_events_are_recorded_and_whole() {
    let (_folder, path) = folder();
    let bounds = Bounds { queue: 200_000, retained: 200_000, ..patient() };
    let (handle, thread) = open_with(&path, bounds);
    let begun = Instant::now();
    for _ in 0..100_000 {
        handle.record(event("many"));
    }
    let recorded = begun.elapsed();
    while verify(&path).map_or(0, |verified| verified.last) < 100_000 {
        assert!(begun.elapsed() < Duration::from_secs(300), "the writer does not get on");
        std::thread::sleep(Duration::from_millis(20));
    }
    // For people; a loaded machine is no reason to fail.
    let per_event = recorded / 100_000;
    tracing::info!("recorded in {recorded:?} ({per_event:?} each), on the disk after {:?}", begun.elapsed());
    assert!(thread.close());
    assert_eq!(verify(&path), Ok(Verified { entries: 100_000, trimmed_up_to: 0, last: 100_000 }));
}

#[test]
fn many_threads_record_without_a_gap() {
    let (_folder, path) = folder();
    let (handle, thread) = open(&path);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| (0..50).for_each(|n| handle.record(event(&n.to_string()))));
        }
    });
    let numbers: Vec<u64> = list(&handle, 0, 400).iter().map(|entry| entry.number).collect();
    assert_eq!(numbers, (1..=400).collect::<Vec<u64>>());
    assert!(thread.close());
    assert_eq!(verify(&path).unwrap().entries, 400);
}

#[test]
fn after_the_end_events_are_still_shown_but_have_no_number() {
    let (_folder, path) = folder();
    let (handle, thread) = open(&path);
    assert!(thread.close());
    handle.record(event("late"));
    let entries = list(&handle, 0, 0);
    assert_eq!((sentences(&entries), entries[0].number), (vec!["late"], 0));
}

#[test]
fn a_slow_subscriber_is_told_that_it_lagged() {
    let (_folder, path) = folder();
    let (handle, _thread) = open(&path);
    let mut news = handle.subscribe();
    (0..2000).for_each(|n| handle.record(event(&n.to_string())));
    assert!(matches!(news.try_recv(), Err(tokio::sync::broadcast::error::TryRecvError::Lagged(_))));
}
