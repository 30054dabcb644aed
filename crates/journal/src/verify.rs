//! Walks the chain and tells trimmed from cut, and cut from changed.

use std::path::Path;

use thiserror::Error;

use crate::chain;
use crate::store::{StoreError, mark, reader};

/// A journal that is whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verified {
    /// The entries that were walked.
    pub entries: u64,
    /// The last number that was trimmed to keep the file small, or that came before the file was begun in the place of a
    /// damaged one; 0: none.
    pub trimmed_up_to: u64,
    /// The last number.
    pub last: u64,
}

/// What is wrong with a journal.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum VerifyError {
    /// The file cannot be read.
    #[error("the journal cannot be read: {0}")]
    Unreadable(String),
    /// An entry was changed after it was written.
    #[error("entry {number} was changed after it was written")]
    Changed {
        /// Which.
        number: u64,
    },
    /// Entries are missing.
    #[error("entries {from} to {to} are missing, and were not trimmed by onduty")]
    Missing {
        /// The first.
        from: u64,
        /// The last.
        to: u64,
    },
}

impl From<StoreError> for VerifyError {
    fn from(error: StoreError) -> Self {
        Self::Unreadable(error.to_string())
    }
}

impl From<rusqlite::Error> for VerifyError {
    fn from(error: rusqlite::Error) -> Self {
        StoreError::from(error).into()
    }
}

/// Walks the chain of a file; the node may be running.
///
/// # Errors
///
/// When the file cannot be read, or was changed or cut.
pub fn verify(path: &Path) -> Result<Verified, VerifyError> {
    let mut connection = reader(path)?;
    // One transaction: the marks and the entries belong to the same moment.
    let snapshot = connection.transaction()?;
    let (anchor, head) = (mark(&snapshot, "anchor")?, mark(&snapshot, "head")?);
    let mut select =
        snapshot.prepare("SELECT number, unix_ms, node, event, chain FROM events ORDER BY number")?;
    let mut rows = select.query([])?;
    let (mut link, mut last, mut entries) = (anchor.link, anchor.number, 0);
    while let Some(row) = rows.next()? {
        let number = row.get::<_, i64>(0)?.unsigned_abs();
        if number <= last {
            return Err(VerifyError::Changed { number });
        }
        if number != last + 1 {
            return Err(VerifyError::Missing { from: last + 1, to: number - 1 });
        }
        let (unix_ms, node, event): (i64, String, String) = (row.get(1)?, row.get(2)?, row.get(3)?);
        let expected = chain::next(&link, number, unix_ms.unsigned_abs(), &node, &event);
        if row.get::<_, chain::Link>(4)? != expected {
            return Err(VerifyError::Changed { number });
        }
        (link, last, entries) = (expected, number, entries + 1);
    }
    if last < head.number {
        return Err(VerifyError::Missing { from: last + 1, to: head.number });
    }
    if last > head.number || link != head.link {
        return Err(VerifyError::Changed { number: last });
    }
    Ok(Verified { entries, trimmed_up_to: anchor.number, last })
}
