//! The file: SQLite in WAL mode, every commit synced. Only the writer thread writes; readers open their own
//! connection and read a snapshot.
//!
//! The file is locked for the whole life of the writer with a lock of its own (`flock`), because SQLite's locks only
//! last as long as a transaction and two writers would number their entries alike.

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use failover_core::{Event, EventCode, Severity};
use rusqlite::{Connection, OpenFlags, OptionalExtension as _, Transaction, TransactionBehavior, params};
use thiserror::Error;

use crate::Entry;
use crate::chain::Link;
use crate::state::{Bounds, Head, Waiting};

/// "ondu": tells our files from other SQLite files.
const APPLICATION: i32 = 0x6f6e_6475;
/// The layout below.
const VERSION: i32 = 1;
/// Larger files are only looked at where it matters for going on; `verify` looks at everything.
const CHECKED_WHOLE: u64 = 16 << 20;
/// How long another process may hold SQLite's lock.
const BUSY: Duration = Duration::from_secs(1);
/// Names for damaged files; with all of them used, the newest damaged file replaces the last.
const MOST_KEPT: u32 = 100;

const LAYOUT: &str = "
    CREATE TABLE events (
        number INTEGER PRIMARY KEY,
        unix_ms INTEGER NOT NULL,
        node TEXT NOT NULL,
        event TEXT NOT NULL,
        chain BLOB NOT NULL
    ) STRICT;
    CREATE TABLE marks (name TEXT PRIMARY KEY, number INTEGER NOT NULL, chain BLOB NOT NULL) STRICT;
    PRAGMA application_id = 1869505653;
    PRAGMA user_version = 1;";
/// Both marks of a file that goes on after this number, as if everything up to it had been trimmed.
const FIRST_MARKS: &str = "INSERT INTO marks VALUES ('anchor', ?1, zeroblob(32)), ('head', ?1, zeroblob(32))";
/// A larger number in a damaged file is damage itself.
const MOST_PLAUSIBLE: i64 = 1 << 48;

/// Why the file cannot be used as it is.
#[derive(Debug, Error)]
pub(crate) enum StoreError {
    /// The disk or the operating system says no; may pass by itself.
    #[error("{0}")]
    Disk(String),
    /// Another process holds SQLite's lock; may pass by itself, unless that process is frozen.
    #[error("another process holds the file locked")]
    Busy,
    /// The file is not, or no longer, a journal.
    #[error("{0}")]
    Damaged(String),
}

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        use rusqlite::ErrorCode as Code;
        let text = describe(&error);
        match error.sqlite_error_code() {
            Some(Code::DatabaseCorrupt | Code::NotADatabase | Code::SchemaChanged | Code::TypeMismatch) => {
                Self::Damaged(text)
            }
            Some(Code::DatabaseBusy | Code::DatabaseLocked) => Self::Busy,
            Some(Code::ConstraintViolation) => Self::Damaged("somebody else has written to it".to_owned()),
            // "no such table" and wrong column types have no code of their own.
            Some(Code::Unknown) => Self::Damaged(text),
            None => Self::Damaged(text),
            Some(_) => Self::Disk(text),
        }
    }
}

fn describe(error: &rusqlite::Error) -> String {
    use rusqlite::ErrorCode as Code;
    match error.sqlite_error_code() {
        Some(Code::DiskFull) => "the disk is full".to_owned(),
        Some(Code::ReadOnly) => "the file or its folder is read-only".to_owned(),
        Some(Code::SystemIoFailure) => format!("the disk reports an error ({error})"),
        Some(Code::CannotOpen) => "the file cannot be opened or made".to_owned(),
        Some(Code::NotADatabase) => "it is not a database".to_owned(),
        Some(_) | None => error.to_string(),
    }
}

/// The open file. Fields are dropped in this order: closing the lock's descriptor first would release SQLite's locks.
pub(crate) struct Store {
    connection: Connection,
    _lock: File,
}

/// A file that had to be kept aside.
pub(crate) struct KeptAside {
    pub(crate) path: PathBuf,
    pub(crate) why: String,
}

impl Store {
    /// Opens or makes the file; a damaged or foreign one is kept aside first. A new file goes on after the number `written`,
    /// or, where this process does not know one, after the last of the file that is kept aside: whoever has seen that number
    /// asks for what came after it.
    pub(crate) fn open(
        path: &Path,
        written: Option<u64>,
    ) -> Result<(Self, Head, Option<KeptAside>), StoreError> {
        let why = match Self::open_as_it_is(path, written.unwrap_or(0)) {
            Ok((store, head)) => return Ok((store, head, None)),
            Err(StoreError::Disk(why)) => return Err(StoreError::Disk(why)),
            // Waiting does not help at the start: who holds the file may be frozen.
            Err(StoreError::Busy) => StoreError::Busy.to_string(),
            Err(StoreError::Damaged(why)) => why,
        };
        let aside = keep_aside(path)
            .map_err(|e| StoreError::Disk(format!("the damaged file ({why}) cannot be renamed: {e}")))?;
        let written = written.or_else(|| last_number(&aside)).unwrap_or(0);
        let (store, head) = Self::open_as_it_is(path, written)?;
        Ok((store, head, Some(KeptAside { path: aside, why })))
    }

    fn open_as_it_is(path: &Path, written: u64) -> Result<(Self, Head), StoreError> {
        let disk = |e: std::io::Error| StoreError::Disk(e.to_string());
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).map_err(disk)?;
        }
        // A link to another disk is followed, as every program would.
        if std::fs::metadata(path).is_ok_and(|metadata| !metadata.is_file()) {
            return Err(StoreError::Damaged("it is not a regular file".to_owned()));
        }
        let lock =
            File::options().read(true).write(true).create(true).truncate(false).open(path).map_err(disk)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(StoreError::Damaged("another process is writing to it".to_owned()));
            }
            Err(TryLockError::Error(e)) => return Err(disk(e)),
        }
        let size = lock.metadata().map_err(disk)?.len();
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(path, flags)?;
        connection.busy_timeout(BUSY)?;
        connection.execute_batch(
            "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA journal_size_limit = 4194304;",
        )?;
        let store = Self { connection, _lock: lock };
        let begun = store.is_empty()?;
        if begun {
            store.lay_out(written)?;
        }
        let head = store.check(size)?;
        if begun && let Some(folder) = path.parent() {
            // So that the new file's name is on the disk too.
            File::open(folder).and_then(|folder| folder.sync_all()).map_err(disk)?;
        }
        Ok((store, head))
    }

    /// Whether there is nothing in it yet. A first start that broke off may have left a page without anything of ours.
    fn is_empty(&self) -> Result<bool, StoreError> {
        let things = "SELECT count(*) FROM sqlite_schema";
        let things: i64 = self.connection.query_row(things, [], |row| row.get(0))?;
        Ok(things == 0 && self.pragma("application_id")? == 0)
    }

    /// Makes the layout, all or nothing.
    fn lay_out(&self, written: u64) -> Result<(), StoreError> {
        let transaction = Transaction::new_unchecked(&self.connection, TransactionBehavior::Immediate)?;
        transaction.execute_batch(LAYOUT)?;
        transaction.execute(FIRST_MARKS, [signed(written)])?;
        transaction.commit()?;
        Ok(())
    }

    fn pragma(&self, name: &str) -> Result<i32, StoreError> {
        Ok(self.connection.pragma_query_value(None, name, |row| row.get(0))?)
    }

    /// Looks whether this is a journal that can be gone on with.
    fn check(&self, size: u64) -> Result<Head, StoreError> {
        let (application, version) = (self.pragma("application_id")?, self.pragma("user_version")?);
        if application != APPLICATION {
            return Err(StoreError::Damaged("it is not a journal of onduty".to_owned()));
        }
        if version != VERSION {
            return Err(StoreError::Damaged(format!(
                "it has layout {version}, this version writes layout {VERSION}"
            )));
        }
        if size <= CHECKED_WHOLE {
            let verdict: String = self.connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
            if verdict != "ok" {
                return Err(StoreError::Damaged(verdict));
            }
        }
        let head = mark(&self.connection, "head")?;
        let last = self
            .connection
            .query_row("SELECT number, chain FROM events ORDER BY number DESC LIMIT 1", [], head_of)
            .optional()?;
        let anchor = mark(&self.connection, "anchor")?;
        if last.unwrap_or(anchor) == head {
            Ok(head)
        } else {
            Err(StoreError::Damaged("its newest entries are missing".to_owned()))
        }
    }

    /// Appends entries in one synced transaction, and trims the oldest beyond the bound.
    pub(crate) fn append(&mut self, entries: &[Waiting], bounds: &Bounds) -> Result<(), StoreError> {
        let transaction = self.connection.transaction()?;
        {
            let mut insert = transaction.prepare_cached(
                "INSERT INTO events (number, unix_ms, node, event, chain) VALUES (?1, ?2, ?3, ?4, ?5)",
            )?;
            for Waiting { json, entry, .. } in entries {
                let (number, unix_ms) = (signed(entry.number), signed(entry.unix_ms));
                insert.execute(params![number, unix_ms, entry.node, &**json, &entry.chain[..]])?;
            }
        }
        if let Some(Waiting { entry, .. }) = entries.last() {
            let set = "UPDATE marks SET number = ?1, chain = ?2 WHERE name = 'head'";
            transaction.execute(set, params![signed(entry.number), &entry.chain[..]])?;
            let anchor = mark(&transaction, "anchor")?;
            if entry.number.saturating_sub(anchor.number) > bounds.retained + bounds.trim_step {
                trim(&transaction, entry.number - bounds.retained)?;
            }
        }
        transaction.commit()?;
        Ok(())
    }

    /// The newest entries, oldest of them first.
    pub(crate) fn newest(&self, after: u64, limit: u32) -> Result<Vec<Arc<Entry>>, StoreError> {
        newest(&self.connection, after, limit)
    }
}

/// Deletes everything up to and with `number`, and remembers its link so that `verify` can begin there.
fn trim(connection: &Connection, number: u64) -> Result<(), StoreError> {
    let number = signed(number);
    connection.execute(
        "UPDATE marks SET number = ?1, chain = (SELECT chain FROM events WHERE number = ?1) WHERE name = 'anchor'",
        [number],
    )?;
    connection.execute("DELETE FROM events WHERE number <= ?1", [number])?;
    Ok(())
}

/// A connection that only reads, for lists beyond memory and for `verify`.
pub(crate) fn reader(path: &Path) -> Result<Connection, StoreError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(BUSY)?;
    Ok(connection)
}

/// The last number in a file that is kept aside, as far as it can be read. Who holds it locked is not waited for.
fn last_number(path: &Path) -> Option<u64> {
    let connection = reader(path).ok()?;
    connection.busy_timeout(Duration::ZERO).ok()?;
    let of = |query| connection.query_row(query, [], |row| row.get::<_, i64>(0)).ok();
    let numbers = [of("SELECT number FROM marks WHERE name = 'head'"), of("SELECT max(number) FROM events")];
    let last = numbers.into_iter().flatten().filter(|number| (1..=MOST_PLAUSIBLE).contains(number)).max()?;
    u64::try_from(last).ok()
}

/// The newest `limit` entries after `after`, oldest of them first.
pub(crate) fn newest(connection: &Connection, after: u64, limit: u32) -> Result<Vec<Arc<Entry>>, StoreError> {
    let mut select = connection.prepare(
        "SELECT number, unix_ms, node, event, chain FROM events WHERE number > ?1 ORDER BY number DESC LIMIT ?2",
    )?;
    let rows = select.query_map(params![signed(after), limit], |row| {
        let number = row.get::<_, i64>(0)?.unsigned_abs();
        let json: String = row.get(3)?;
        Ok(Arc::new(Entry {
            number,
            unix_ms: row.get::<_, i64>(1)?.unsigned_abs(),
            node: row.get(2)?,
            event: serde_json::from_str(&json).unwrap_or_else(|_| unknown(number, &json)),
            chain: row.get(4)?,
        }))
    })?;
    let mut entries = rows.collect::<Result<Vec<_>, _>>()?;
    entries.reverse();
    Ok(entries)
}

/// An entry that a newer version wrote: its sentence is shown as far as it can be found.
fn unknown(number: u64, json: &str) -> Event {
    let value = serde_json::from_str::<serde_json::Value>(json).unwrap_or_default();
    let sentence = value.get("sentence").and_then(serde_json::Value::as_str).unwrap_or("it cannot be read");
    let sentence = format!("Entry {number} was written by another version: {sentence}");
    Event::plain(EventCode::JournalDegraded, Severity::Warn, sentence)
}

/// One of the two marks of the file.
pub(crate) fn mark(connection: &Connection, name: &str) -> Result<Head, StoreError> {
    Ok(connection.query_row("SELECT number, chain FROM marks WHERE name = ?1", [name], head_of)?)
}

fn head_of(row: &rusqlite::Row<'_>) -> rusqlite::Result<Head> {
    Ok(Head { number: row.get::<_, i64>(0)?.unsigned_abs(), link: row.get::<_, Link>(1)? })
}

/// SQLite's numbers are signed.
fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// Renames the file and SQLite's files beside it to the first free `.corrupt-N`.
fn keep_aside(path: &Path) -> std::io::Result<PathBuf> {
    let with = |suffix: &str| {
        let mut name = path.as_os_str().to_owned();
        name.push(suffix);
        PathBuf::from(name)
    };
    let free = |n: &u32| std::fs::symlink_metadata(with(&format!(".corrupt-{n}"))).is_err();
    let n = (1..MOST_KEPT).find(free).unwrap_or(MOST_KEPT);
    let aside = with(&format!(".corrupt-{n}"));
    for beside in ["-wal", "-shm"] {
        // Without them the new file could be taken for the old one's; one that is missing is no error.
        match std::fs::rename(with(beside), with(&format!(".corrupt-{n}{beside}"))) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(e),
            Ok(()) | Err(_) => {}
        }
    }
    std::fs::rename(path, &aside)?;
    Ok(aside)
}
