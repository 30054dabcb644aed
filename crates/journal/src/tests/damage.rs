//! Files that are damaged, foreign, taken, changed or cut.
#![allow(
    clippy::disallowed_methods,
    reason = "a test of real threads and processes waits and measures in real time"
)]

use std::fs;
use std::path::Path;

use rusqlite::Connection;

use super::*;
use crate::VerifyError;

/// A journal with `n` entries, closed.
fn filled(path: &Path, n: u64) {
    let (handle, thread) = open(path);
    (1..=n).for_each(|n| handle.record(event(&n.to_string())));
    assert!(thread.close());
}

/// Opens what is there and expects it to be kept aside for a reason, and the new journal to work.
fn expect_kept_aside(path: &Path, reason: &str) {
    let (handle, thread) = open(path);
    handle.record(event("goes on"));
    let entries = list(&handle, 0, 0);
    assert_eq!(entries.len(), 2, "{entries:?}");
    let said = &entries[0].event;
    assert_eq!((said.code, said.severity), (EventCode::JournalDegraded, Severity::Error));
    let aside = format!("{}.corrupt-1", path.display());
    assert_eq!(
        said.sentence,
        format!(
            "The journal could not be gone on with ({reason}); it is kept as {aside}, a new one was begun."
        )
    );
    assert!(fs::symlink_metadata(&aside).is_ok());
    assert!(thread.close());
    assert_eq!(verify(path).unwrap().entries, 2);
}

#[test]
fn garbage_is_kept_aside() {
    let (_folder, path) = folder();
    fs::write(
        &path,
        b"this is not a database, but long enough to be taken for one at first sight".repeat(99),
    )
    .unwrap();
    expect_kept_aside(&path, "it is not a database");
}

#[test]
fn a_folder_in_the_place_of_the_file_is_kept_aside() {
    let (_folder, path) = folder();
    fs::create_dir(&path).unwrap();
    expect_kept_aside(&path, "it is not a regular file");
}

#[test]
fn a_foreign_database_is_kept_aside() {
    let (_folder, path) = folder();
    Connection::open(&path).unwrap().execute_batch("CREATE TABLE other (x)").unwrap();
    expect_kept_aside(&path, "it is not a journal of onduty");
}

#[test]
fn a_file_whose_first_start_broke_off_is_an_empty_one() {
    let (_folder, path) = folder();
    // As far as the first start comes before it makes the layout.
    Connection::open(&path).unwrap().execute_batch("PRAGMA journal_mode = WAL").unwrap();
    assert!(fs::metadata(&path).unwrap().len() > 0);
    let (handle, thread) = open(&path);
    handle.record(event("one"));
    assert_eq!(sentences(&list(&handle, 0, 0)), ["one"]);
    assert!(thread.close());
    assert_eq!(verify(&path).unwrap().last, 1);
}

#[test]
fn another_layout_is_kept_aside() {
    let (_folder, path) = folder();
    filled(&path, 3);
    Connection::open(&path).unwrap().execute_batch("PRAGMA user_version = 9").unwrap();
    expect_kept_aside(&path, "it has layout 9, this version writes layout 1");
}

#[test]
fn a_truncated_file_is_kept_aside() {
    let (_folder, path) = folder();
    filled(&path, 200);
    let bytes = fs::read(&path).unwrap();
    fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
    let (handle, thread) = open(&path);
    assert!(list(&handle, 0, 0)[0].event.sentence.contains("a new one was begun"));
    assert!(thread.close());
    assert!(verify(&path).is_ok());
}

#[test]
fn a_file_that_another_writer_has_is_kept_aside_and_the_other_goes_on_in_it() {
    let (_folder, path) = folder();
    let (first, first_thread) = open(&path);
    first.record(event("first"));
    expect_kept_aside(&path, "another process is writing to it");
    first.record(event("first again"));
    assert!(first_thread.close());
    assert_eq!(verify(&path).unwrap().entries, 2);
}

#[test]
fn a_file_that_a_foreign_process_holds_locked_is_kept_aside() {
    let (_folder, path) = folder();
    filled(&path, 1);
    let other = Connection::open(&path).unwrap();
    other.execute_batch("PRAGMA locking_mode = EXCLUSIVE; BEGIN EXCLUSIVE").unwrap();
    expect_kept_aside(&path, "another process holds the file locked");
}

#[test]
fn damaged_files_do_not_replace_each_other() {
    let (_folder, path) = folder();
    for n in 1..=3 {
        fs::write(&path, format!("garbage {n}")).unwrap();
        let (_handle, thread) = open(&path);
        assert!(thread.close());
    }
    for n in 1..=3 {
        let aside = format!("{}.corrupt-{n}", path.display());
        assert_eq!(fs::read_to_string(aside).unwrap(), format!("garbage {n}"));
    }
}

#[test]
fn a_changed_entry_is_found() {
    let (_folder, path) = folder();
    filled(&path, 5);
    let change = "UPDATE events SET event = replace(event, '3s', '4s') WHERE number = 3";
    Connection::open(&path).unwrap().execute_batch(change).unwrap();
    assert_eq!(verify(&path), Err(VerifyError::Changed { number: 3 }));
    assert_eq!(verify(&path).unwrap_err().to_string(), "entry 3 was changed after it was written");
}

#[test]
fn a_changed_time_is_found() {
    let (_folder, path) = folder();
    filled(&path, 5);
    Connection::open(&path).unwrap().execute_batch("UPDATE events SET unix_ms = 1 WHERE number = 5").unwrap();
    assert_eq!(verify(&path), Err(VerifyError::Changed { number: 5 }));
}

#[test]
fn entries_cut_out_anywhere_are_found() {
    for (cut, from, to) in [("number = 1", 1, 1), ("number IN (3, 4)", 3, 4), ("number > 3", 4, 5)] {
        let (_folder, path) = folder();
        filled(&path, 5);
        Connection::open(&path).unwrap().execute(&format!("DELETE FROM events WHERE {cut}"), []).unwrap();
        assert_eq!(verify(&path), Err(VerifyError::Missing { from, to }), "{cut}");
    }
    let text = VerifyError::Missing { from: 3, to: 4 }.to_string();
    assert_eq!(text, "entries 3 to 4 are missing, and were not trimmed by onduty");
}

#[test]
fn entries_that_changed_places_are_found() {
    let (_folder, path) = folder();
    filled(&path, 5);
    let swap =
        "UPDATE events SET number = 99 WHERE number = 2; UPDATE events SET number = 2 WHERE number = 3;
                UPDATE events SET number = 3 WHERE number = 99";
    Connection::open(&path).unwrap().execute_batch(swap).unwrap();
    assert_eq!(verify(&path), Err(VerifyError::Changed { number: 2 }));
}

#[test]
fn a_journal_without_its_newest_entries_is_not_gone_on_with_but_its_numbers_are() {
    let (_folder, path) = folder();
    filled(&path, 5);
    Connection::open(&path).unwrap().execute_batch("DELETE FROM events WHERE number = 5").unwrap();
    expect_kept_aside(&path, "its newest entries are missing");
    assert_eq!(verify(&path), Ok(Verified { entries: 2, trimmed_up_to: 5, last: 7 }));
    // And so they are over the next start.
    filled(&path, 1);
    assert_eq!(verify(&path), Ok(Verified { entries: 3, trimmed_up_to: 5, last: 8 }));
}

#[test]
fn a_missing_file_cannot_be_verified() {
    let (_folder, path) = folder();
    let error = verify(&path).unwrap_err();
    assert_eq!(error.to_string(), "the journal cannot be read: the file cannot be opened or made");
}

#[test]
fn an_entry_of_a_newer_version_is_shown_as_far_as_it_can_be() {
    let (_folder, path) = folder();
    filled(&path, 1);
    let newer = r#"UPDATE events SET event = '{"code":"teleported","sentence":"The duty was teleported."}'"#;
    Connection::open(&path).unwrap().execute_batch(newer).unwrap();
    let (handle, _thread) = open(&path);
    let listed = list(&handle, 0, 0);
    assert_eq!(sentences(&listed), ["Entry 1 was written by another version: The duty was teleported."]);
}

/// Not a test by itself: the process that the next test kills. Records until it dies.
#[test]
fn victim() {
    let Some(path) = std::env::var_os("JOURNAL_VICTIM") else { return };
    let (handle, _thread) = open(Path::new(&path));
    for n in 0_u64.. {
        handle.record(event(&n.to_string()));
        std::thread::sleep(Duration::from_micros(200));
    }
}

#[test]
fn a_writer_that_was_killed_leaves_a_whole_journal_that_is_gone_on_with() {
    let (_folder, path) = folder();
    let mut victim = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["tests::damage::victim", "--exact"])
        .env("JOURNAL_VICTIM", &path)
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let begun = Instant::now();
    while verify(&path).map_or(0, |verified| verified.last) < 100 {
        assert!(begun.elapsed() < Duration::from_secs(60), "the victim does not record");
        std::thread::sleep(Duration::from_millis(2));
    }
    victim.kill().unwrap();
    victim.wait().unwrap();
    let left = verify(&path).unwrap();
    assert!(left.entries >= 100);
    let (handle, thread) = open(&path);
    handle.record(event("goes on"));
    assert_eq!(list(&handle, 0, 1)[0].number, left.last + 1);
    assert!(thread.close());
    assert_eq!(verify(&path).unwrap().last, left.last + 1);
}

#[test]
fn a_torn_end_of_the_write_ahead_log_costs_only_the_torn_transaction() {
    let (_folder, path) = folder();
    filled(&path, 10);
    // What a kill in the middle of a transaction leaves: a write-ahead log with a torn end.
    let other = Connection::open(&path).unwrap();
    other
        .execute_batch("PRAGMA wal_autocheckpoint = 0; UPDATE marks SET number = 11 WHERE name = 'head'")
        .unwrap();
    let wal = format!("{}-wal", path.display());
    let torn = fs::read(&wal).unwrap();
    let copy = path.with_file_name("copy.db");
    fs::copy(&path, &copy).unwrap();
    fs::write(copy.with_file_name("copy.db-wal"), &torn[..torn.len() - 100]).unwrap();
    let (handle, thread) = open(&copy);
    handle.record(event("goes on"));
    assert_eq!(list(&handle, 0, 1)[0].number, 11);
    assert!(thread.close());
    assert_eq!(verify(&copy).unwrap().entries, 11);
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(24))]

    #[test]
    fn no_single_change_goes_unnoticed(number in 1_i64..=5, column in 0_usize..5, byte in 0_usize..32, bit in 0_u8..8) {
        let (_folder, path) = folder();
        filled(&path, 5);
        let connection = Connection::open(&path).unwrap();
        let name = ["number", "unix_ms", "node", "event", "chain"][column];
        let of = format!("SELECT {name} FROM events WHERE number = ?1");
        let set = format!("UPDATE events SET {name} = ?2 WHERE number = ?1");
        let flip = |bytes: &mut [u8]| {
            let at = byte % bytes.len();
            bytes[at] ^= 1 << bit;
        };
        match column {
            0 => connection.execute(&set, (number, number + 100)),
            1 => {
                let value: i64 = connection.query_row(&of, [number], |row| row.get(0)).unwrap();
                connection.execute(&set, (number, value ^ (1 << bit)))
            }
            2 | 3 => {
                let mut text: String = connection.query_row(&of, [number], |row| row.get(0)).unwrap();
                text.insert(byte % text.len(), 'x');
                connection.execute(&set, (number, text))
            }
            _ => {
                let mut link: Vec<u8> = connection.query_row(&of, [number], |row| row.get(0)).unwrap();
                flip(&mut link);
                connection.execute(&set, (number, link))
            }
        }
        .unwrap();
        drop(connection);
        proptest::prop_assert!(verify(&path).is_err());
    }
}
