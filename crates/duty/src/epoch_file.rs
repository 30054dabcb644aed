//! The durable reserve of epochs: a file of two slots, written in turn.
//!
//! ```text
//!   slot 0: magic 8 │ sequence u64 │ reserved up to u64 │ zeros … │ CRC-32 of the first 508 bytes     512 bytes
//!   slot 1: the same                                                                                 512 bytes
//! ```
//!
//! The slots are written in full when the file is made, so that a later write needs no new block of a full disk, and
//! a write that was cut in half leaves the other slot. The valid slot with the larger sequence counts.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use failover_core::Epoch;

const MAGIC: &[u8; 8] = b"ODEPOCH1";
const SLOT: usize = 512;
const BODY: usize = SLOT - 4;

/// What the file said.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Loaded {
    /// There is none.
    Missing,
    /// The reserve; `damaged` is true when one slot is neither valid nor empty.
    Reserved { up_to: Epoch, sequence: u64, damaged: bool },
    /// Made, but nothing was reserved yet.
    Empty,
    /// No slot is valid.
    Corrupt,
}

/// The file's place and what it holds.
#[derive(Debug)]
pub(crate) struct EpochFile {
    path: PathBuf,
    sequence: u64,
    file: Option<File>,
}

impl EpochFile {
    /// Nothing is opened yet; `sequence` is that of the newest slot, 0 for a file that is to be made.
    pub(crate) const fn new(path: PathBuf, sequence: u64) -> Self {
        Self { path, sequence, file: None }
    }

    /// Writes the reserve durably into the older slot.
    ///
    /// # Errors
    ///
    /// When the file cannot be made, written or synchronised. It can be tried again.
    pub(crate) fn reserve(&mut self, up_to: Epoch) -> io::Result<()> {
        let file = match self.file.take() {
            Some(file) => file,
            None => open_or_make(&self.path)?,
        };
        let sequence = self.sequence + 1;
        let offset = if sequence.is_multiple_of(2) { 0 } else { SLOT as u64 };
        file.write_all_at(&slot(sequence, up_to), offset)?;
        file.sync_data()?;
        // Only a write that succeeded keeps the file open: after an error it is opened afresh.
        self.sequence = sequence;
        self.file = Some(file);
        Ok(())
    }
}

/// Reads the file.
///
/// # Errors
///
/// When it is there and cannot be read.
pub(crate) fn load(path: &Path) -> io::Result<Loaded> {
    let bytes = match std::fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Loaded::Missing),
        Err(error) => return Err(error),
    };
    let Some((first, second)) = (bytes.len() == 2 * SLOT).then(|| bytes.split_at(SLOT)) else {
        return Ok(Loaded::Corrupt);
    };
    let slots = [first, second];
    let empty = slots.iter().filter(|slot| slot.iter().all(|byte| *byte == 0)).count();
    let newest = slots.iter().filter_map(|slot| parse(slot)).max();
    let valid = slots.iter().filter(|slot| parse(slot).is_some()).count();
    Ok(match newest {
        Some((sequence, up_to)) => Loaded::Reserved { up_to, sequence, damaged: valid + empty < 2 },
        None if empty == 2 => Loaded::Empty,
        None => Loaded::Corrupt,
    })
}

fn open_or_make(path: &Path) -> io::Result<File> {
    match OpenOptions::new().write(true).open(path) {
        Ok(file) if file.metadata()?.len() == 2 * SLOT as u64 => return Ok(file),
        Ok(_shorter) => {} // cut short by a full disk when it was made
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    file.write_all_at(&[0; 2 * SLOT], 0)?;
    file.sync_all()?;
    if let Some(folder) = path.parent() {
        File::open(folder)?.sync_all()?;
    }
    Ok(file)
}

fn slot(sequence: u64, up_to: Epoch) -> [u8; SLOT] {
    let mut slot = [0; SLOT];
    slot[..8].copy_from_slice(MAGIC);
    slot[8..16].copy_from_slice(&sequence.to_be_bytes());
    slot[16..24].copy_from_slice(&up_to.0.to_be_bytes());
    let crc = crc32fast::hash(&slot[..BODY]);
    slot[BODY..].copy_from_slice(&crc.to_be_bytes());
    slot
}

fn parse(slot: &[u8]) -> Option<(u64, Epoch)> {
    let number = |at: usize| slot.get(at..at + 8)?.try_into().ok().map(u64::from_be_bytes);
    let crc = slot.get(BODY..)?.try_into().ok().map(u32::from_be_bytes)?;
    let whole = slot.starts_with(MAGIC) && crc32fast::hash(slot.get(..BODY)?) == crc;
    whole.then_some((number(8)?, Epoch(number(16)?)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn reserved(up_to: u64, sequence: u64, damaged: bool) -> Loaded {
        Loaded::Reserved { up_to: Epoch(up_to), sequence, damaged }
    }

    #[test]
    fn the_newest_reserve_is_read_back_over_many_writes_and_restarts() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("epochs");
        assert_eq!(load(&path).unwrap(), Loaded::Missing);
        let mut sequence = 0;
        for round in 1..=5_u64 {
            let mut file = EpochFile::new(path.clone(), sequence);
            file.reserve(Epoch(round * 32)).unwrap();
            file.reserve(Epoch(round * 32 + 16)).unwrap();
            sequence += 2;
            assert_eq!(load(&path).unwrap(), reserved(round * 32 + 16, sequence, false));
        }
    }

    #[test]
    fn a_write_cut_in_half_leaves_the_one_before() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("epochs");
        let mut file = EpochFile::new(path.clone(), 0);
        file.reserve(Epoch(32)).unwrap();
        file.reserve(Epoch(64)).unwrap(); // sequence 2: slot 0
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[20..400].fill(0xA5);
        std::fs::write(&path, bytes).unwrap();
        assert_eq!(load(&path).unwrap(), reserved(32, 1, true));
    }

    #[test]
    fn every_flipped_bit_of_both_slots_and_every_wrong_length_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("epochs");
        let mut file = EpochFile::new(path.clone(), 0);
        file.reserve(Epoch(32)).unwrap();
        let good = std::fs::read(&path).unwrap();
        for at in SLOT..2 * SLOT {
            let mut bytes = good.clone();
            bytes[at] ^= 0x10;
            std::fs::write(&path, bytes).unwrap();
            assert_eq!(load(&path).unwrap(), Loaded::Corrupt, "byte {at}");
        }
        for length in [0, 1, SLOT, 2 * SLOT - 1] {
            std::fs::write(&path, &good[..length]).unwrap();
            assert_eq!(load(&path).unwrap(), Loaded::Corrupt, "length {length}");
        }
    }
}
