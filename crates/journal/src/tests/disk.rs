//! A disk that is full, missing, or does not answer.
#![allow(
    clippy::disallowed_methods,
    reason = "a test of real threads and processes waits and measures in real time"
)]

use std::fs;
use std::process::Command;

use rusqlite::Connection;

use super::*;
use crate::state::Shared;

#[test]
fn without_a_usable_folder_events_are_kept_and_written_when_it_is_there() {
    let folder = tempfile::tempdir().unwrap();
    // A file in the way of the folder: works for root too, whom permissions do not stop.
    let blocked = folder.path().join("data");
    fs::write(&blocked, b"in the way").unwrap();
    let path = blocked.join("journal.db");
    let (handle, thread) = open(&path);
    let mut health = handle.health();
    let Health::Degraded { why, lost } = health.borrow_and_update().clone() else { panic!("not degraded") };
    assert!(why.starts_with(&path.display().to_string()), "{why}");
    assert_eq!(lost, 0);
    handle.record(event("while it was away"));
    let shown = list(&handle, 0, 0);
    assert!(
        shown[0].event.sentence.starts_with("The journal cannot be written; events are kept in memory: ")
    );
    assert_eq!((shown[1].event.sentence.as_str(), shown[1].number), ("while it was away", 0));

    fs::remove_file(&blocked).unwrap();
    wait_for(&mut health, |health| *health == Health::Ok);
    let shown = list(&handle, 0, 0);
    assert_eq!(shown.iter().map(|entry| entry.number).collect::<Vec<_>>(), [1, 2, 3]);
    assert_eq!(shown[2].event.sentence, "The journal can be written again; nothing was lost.");
    assert_eq!(shown[2].event.code, EventCode::JournalRestored);
    assert!(thread.close());
    assert_eq!(verify(&path).unwrap().entries, 3);
}

#[test]
fn when_the_queue_is_full_events_are_shown_without_a_number_and_counted() {
    let folder = tempfile::tempdir().unwrap();
    let blocked = folder.path().join("data");
    fs::write(&blocked, b"in the way").unwrap();
    let path = blocked.join("journal.db");
    let (handle, thread) = open_with(&path, Bounds { queue: 5, ..patient() });
    (0..10).for_each(|n| handle.record(event(&n.to_string())));
    let mut health = handle.health();
    // One place is taken by the journal's own event.
    let degraded = health.borrow_and_update().clone();
    assert!(matches!(degraded, Health::Degraded { lost: 6, .. }), "{degraded:?}");
    assert_eq!(list(&handle, 0, 100).len(), 11);

    fs::remove_file(&blocked).unwrap();
    wait_for(&mut health, |health| *health == Health::Ok);
    let shown = list(&handle, 0, 100);
    assert_eq!(
        shown.last().unwrap().event.sentence,
        "The journal can be written again; 6 events were not journalled."
    );
    assert_eq!(shown.last().unwrap().event.severity, Severity::Warn);
    assert!(thread.close());
    assert_eq!(verify(&path).unwrap().entries, 6);
}

#[test]
fn a_disk_that_does_not_answer_holds_up_nobody_and_is_said() {
    let (_folder, path) = folder();
    // Shorter than SQLite's own waiting, so that the watcher is the first to see it.
    let (handle, thread) = open_with(&path, Bounds { stalled: Duration::from_millis(100), ..patient() });
    handle.record(event("before"));
    while verify(&path).map_or(0, |verified| verified.last) < 1 {
        std::thread::sleep(Duration::from_millis(5));
    }
    // A foreign transaction blocks the writer as a hanging disk would.
    let other = Connection::open(&path).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let mut health = handle.health();
    let number = list(&handle, 0, 1)[0].number;
    handle.record(event("during"));
    // Recording is over, shown and numbered, while the disk still has nothing of it.
    let shown = list(&handle, number, 100);
    assert!(shown.iter().any(|entry| entry.event.sentence == "during" && entry.number > number), "{shown:?}");
    let on_disk = verify(&path).unwrap().last;
    assert!(shown.iter().all(|entry| entry.number > on_disk));
    let degraded = wait_for(&mut health, |health| *health != Health::Ok);
    assert!(matches!(&degraded, Health::Degraded { lost: 0, .. }), "{degraded:?}");
    other.execute_batch("ROLLBACK").unwrap();
    wait_for(&mut health, |health| *health == Health::Ok);
    assert!(thread.close());
    assert_eq!(verify(&path).unwrap().last, list(&handle, 0, 1)[0].number);
}

/// What is recorded wakes the writer and the watcher at once, and either may be the first.
#[test]
fn a_watcher_that_was_awake_before_the_writer_sees_that_the_disk_does_not_answer() {
    let (_folder, path) = folder();
    let bounds = Bounds { stalled: Duration::from_millis(10), ..patient() };
    let shared = Arc::new(Shared::new(options(&path), bounds));
    shared.record(event("wakes both"));
    let watched = Arc::clone(&shared);
    let watcher = std::thread::spawn(move || writer::watch(&watched));
    // It looks, finds nothing in hand and sleeps again. Were it slower than this, the test would only see less.
    std::thread::sleep(Duration::from_millis(100));
    // The writer takes what waits, and its disk never answers.
    assert_eq!(writer::take(&shared, true).unwrap().0.len(), 1);
    let degraded = wait_for(&mut shared.health.subscribe(), |health| *health != Health::Ok);
    assert!(
        matches!(&degraded, Health::Degraded { why, .. } if why.contains("has not answered")),
        "{degraded:?}"
    );
    shared.lock().closed = true;
    shared.changed.notify_all();
    watcher.join().unwrap();
}

#[test]
fn a_file_that_goes_bad_while_it_is_written_is_kept_aside_and_the_numbers_go_on() {
    let (_folder, path) = folder();
    let (handle, thread) = open(&path);
    (1..=3).for_each(|n| handle.record(event(&format!("before {n}"))));
    while verify(&path).map_or(0, |verified| verified.last) < 3 {
        std::thread::sleep(Duration::from_millis(5));
    }
    let mut news = handle.subscribe();
    Connection::open(&path).unwrap().execute_batch("DROP TABLE events").unwrap();
    handle.record(event("after"));
    let begun = Instant::now();
    while verify(&path).map_or(0, |verified| verified.entries) < 2 {
        assert!(begun.elapsed() < Duration::from_secs(60), "{:?}", list(&handle, 0, 0));
        std::thread::sleep(Duration::from_millis(5));
    }
    assert!(fs::symlink_metadata(format!("{}.corrupt-1", path.display())).is_ok());
    assert!(thread.close());
    let listed = list(&handle, 0, 0);
    let numbers: Vec<u64> = listed.iter().map(|entry| entry.number).collect();
    assert_eq!(numbers, [1, 2, 3, 4, 5], "{listed:?}");
    assert_eq!(listed[3].event.sentence, "after");
    assert!(listed[4].event.sentence.contains("a new one was begun"), "{listed:?}");
    // Who has seen number 3 is told and listed what came after it.
    let told: Vec<u64> = std::iter::from_fn(|| news.try_recv().ok()).map(|entry| entry.number).collect();
    assert_eq!(told, [4, 5]);
    assert_eq!(list(&handle, 3, 0).len(), 2);
    assert_eq!(verify(&path), Ok(Verified { entries: 2, trimmed_up_to: 3, last: 5 }));
}

#[test]
fn a_file_that_is_gone_when_the_disk_is_back_is_begun_with_the_number_that_comes_next() {
    let (_folder, path) = folder();
    let (handle, thread) = open(&path);
    handle.record(event("before"));
    while verify(&path).map_or(0, |verified| verified.last) < 1 {
        std::thread::sleep(Duration::from_millis(5));
    }
    let other = Connection::open(&path).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let mut health = handle.health();
    handle.record(event("during"));
    wait_for(&mut health, |health| *health != Health::Ok);
    for suffix in ["", "-wal", "-shm"] {
        let _ = fs::remove_file(format!("{}{suffix}", path.display()));
    }
    drop(other);
    wait_for(&mut health, |health| *health == Health::Ok);
    assert!(thread.close());
    let numbers: Vec<u64> = list(&handle, 0, 0).iter().map(|entry| entry.number).collect();
    assert_eq!(numbers, (1..=numbers.len() as u64).collect::<Vec<_>>());
    assert_eq!(verify(&path).unwrap().last, numbers.len() as u64);
}

/// Lists that reach into a file whose disk does not answer: a pipe without a writer, which nobody can open.
#[test]
fn lists_on_a_disk_that_does_not_answer_leave_threads_to_others() {
    let (_folder, path) = folder();
    let (handle, thread) = open_with(&path, Bounds { ring: 2, ..patient() });
    (1..=10).for_each(|n| handle.record(event(&n.to_string())));
    assert!(thread.close());
    fs::rename(&path, path.with_extension("away")).unwrap();
    assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = runtime.worker_threads(1).max_blocking_threads(3).enable_all().build().unwrap();
    let (listed, other) = runtime.block_on(async {
        let lists: Vec<_> = (0..5)
            .map(|_| {
                let handle = handle.clone();
                tokio::spawn(async move { handle.list(0, 5).await })
            })
            .collect();
        let mut listed = Vec::new();
        for list in lists {
            listed.push(list.await.unwrap().unwrap());
        }
        (listed, tokio::time::timeout(Duration::from_secs(20), tokio::task::spawn_blocking(|| ())).await)
    });
    // Lets go of the readers.
    let _writer = fs::File::options().read(true).write(true).open(&path).unwrap();
    runtime.shutdown_timeout(Duration::from_secs(60));
    assert!(other.is_ok(), "no thread is left");
    for list in listed {
        assert_eq!(sentences(&list), ["9", "10"], "memory has to do");
    }
}

/// A file system of its own that is small enough to fill; `None` without the rights to mount one.
fn small_disk(at: &Path) -> Option<Mounted> {
    let mount = Command::new("mount").args(["-t", "tmpfs", "-o", "size=256k", "tmpfs"]).arg(at).output();
    mount.is_ok_and(|output| output.status.success()).then(|| Mounted(at.to_owned()))
}

struct Mounted(PathBuf);

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).output();
    }
}

#[test]
fn a_full_disk_degrades_and_a_freed_one_restores() {
    let folder = tempfile::tempdir().unwrap();
    let Some(disk) = small_disk(folder.path()) else {
        // Said where a person sees it, because a test that skips in silence proves nothing.
        tracing::warn!("SKIPPED: mounting a small disk needs root");
        use std::io::Write as _;
        let _ =
            writeln!(std::io::stderr(), "SKIPPED a_full_disk_degrades_and_a_freed_one_restores: needs root");
        return;
    };
    let path = folder.path().join("journal.db");
    let (handle, thread) = open(&path);
    handle.record(event("before"));
    let ballast = folder.path().join("ballast");
    // Until nothing fits any more.
    let mut size = 1 << 20;
    let mut file = fs::File::create(&ballast).unwrap();
    while size > 0 {
        use std::io::Write as _;
        if file.write_all(&vec![0; size]).is_err() {
            size /= 2;
        }
    }
    let mut health = handle.health();
    for n in 0..400 {
        handle.record(event(&n.to_string()));
    }
    let degraded = wait_for(&mut health, |health| *health != Health::Ok);
    assert!(
        matches!(&degraded, Health::Degraded { why, .. } if why.ends_with("the disk is full")),
        "{degraded:?}"
    );
    assert_eq!(sentences(&list(&handle, 0, 500)).iter().filter(|text| text.len() < 4).count(), 400);
    drop(file);
    fs::remove_file(&ballast).unwrap();
    wait_for(&mut health, |health| *health == Health::Ok);
    assert!(thread.close());
    let last = list(&handle, 0, 1)[0].clone();
    assert_eq!(last.event.sentence, "The journal can be written again; nothing was lost.");
    assert_eq!(
        verify(&path).unwrap(),
        Verified { entries: last.number, trimmed_up_to: 0, last: last.number }
    );
    drop(disk);
}
