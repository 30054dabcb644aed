//! The duty lease as a record in memory that supervisor and guard share: a renewal wakes nobody.
//!
//! ```text
//!   supervisor ── renews, several times in a lease ──► renewals ──► the guard looks when it would act
//!   supervisor ◄── looks when it has renewed ───────── holds ◄───── what the guard has last seen
//! ```
//!
//! Read and written like a file, so that either side may be stopped at any instruction: each side has two places and
//! writes them in turn, each record with a sum over it. A record that was read half written does not fit its sum, and
//! then the other place holds the one before. A lease begins with a message; the memory only makes it longer.

use std::io;
use std::os::fd::OwnedFd;

use failover_core::BootTime;
use rustix::fs::{MemfdFlags, SealFlags};

/// Epoch, end and sum, eight bytes each.
const RECORD: usize = 24;
const PLACES: usize = 2;

/// Which half of the memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    /// Written by the supervisor.
    Renewals,
    /// Written by the guard.
    Holds,
}

/// One end of the memory.
#[derive(Debug)]
pub(crate) struct LeaseMemory {
    memory: OwnedFd,
    writes: Side,
    next: usize,
}

impl LeaseMemory {
    /// A fresh one, for the supervisor. Its size is fixed: no side can take the other's records away.
    pub(crate) fn create() -> io::Result<Self> {
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let memory = rustix::fs::memfd_create("onduty-lease", flags)?;
        rustix::fs::ftruncate(&memory, (2 * PLACES * RECORD) as u64)?;
        rustix::fs::fcntl_add_seals(&memory, SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL)?;
        Ok(Self { memory, writes: Side::Renewals, next: 0 })
    }

    /// The guard's end, of the descriptor that came from the supervisor.
    pub(crate) const fn of_guard(memory: OwnedFd) -> Self {
        Self { memory, writes: Side::Holds, next: 0 }
    }

    /// A descriptor of the same memory, to be handed over.
    pub(crate) fn share(&self) -> io::Result<OwnedFd> {
        self.memory.try_clone()
    }

    /// A lease that may end earlier than the one before: no older word of this side may be left to lengthen it.
    pub(crate) fn begin(&mut self, epoch: u64, hold_until: BootTime) {
        for _ in 0..PLACES {
            self.write(epoch, hold_until);
        }
    }

    /// Writes what this side has to say of a lease.
    pub(crate) fn write(&mut self, epoch: u64, hold_until: BootTime) {
        let record = encode(epoch, hold_until);
        let at = offset(self.writes) + self.next * RECORD;
        self.next = (self.next + 1) % PLACES;
        // Memory of a fixed size that was made in advance: there is nothing that could fail, and a renewal that is not
        // seen is one that did not happen.
        let _ = rustix::io::pwrite(&self.memory, &record, at as u64);
    }

    /// The latest end that the other side has written for this epoch.
    pub(crate) fn read(&self, epoch: u64) -> Option<BootTime> {
        let theirs = match self.writes {
            Side::Renewals => Side::Holds,
            Side::Holds => Side::Renewals,
        };
        let mut bytes = [0; PLACES * RECORD];
        let read = rustix::io::pread(&self.memory, &mut bytes, offset(theirs) as u64).ok()?;
        let records = bytes.get(..read)?.chunks_exact(RECORD);
        records.filter_map(decode).filter(|(of, _)| *of == epoch).map(|(_, until)| until).max()
    }
}

const fn offset(side: Side) -> usize {
    match side {
        Side::Renewals => 0,
        Side::Holds => PLACES * RECORD,
    }
}

/// No record of zeros fits its sum, which is what the memory begins with.
const fn sum(epoch: u64, nanos: u64) -> u64 {
    !(epoch.rotate_left(32) ^ nanos)
}

fn encode(epoch: u64, hold_until: BootTime) -> [u8; RECORD] {
    let nanos = hold_until.as_nanos();
    let mut record = [0; RECORD];
    for (bytes, word) in record.chunks_exact_mut(8).zip([epoch, nanos, sum(epoch, nanos)]) {
        bytes.copy_from_slice(&word.to_ne_bytes());
    }
    record
}

fn decode(record: &[u8]) -> Option<(u64, BootTime)> {
    let mut words = record.chunks_exact(8).map(|bytes| bytes.try_into().map(u64::from_ne_bytes));
    let (epoch, nanos, written) = (words.next()?.ok()?, words.next()?.ok()?, words.next()?.ok()?);
    (written == sum(epoch, nanos)).then(|| (epoch, BootTime::from_nanos(nanos)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    const fn at(ms: u64) -> BootTime {
        BootTime::from_millis(ms)
    }

    fn both() -> (LeaseMemory, LeaseMemory) {
        let supervisor = LeaseMemory::create().unwrap();
        let guard = LeaseMemory::of_guard(supervisor.share().unwrap());
        (supervisor, guard)
    }

    #[test]
    fn each_side_reads_what_the_other_has_written_of_the_same_epoch() {
        let (mut supervisor, mut guard) = both();
        assert_eq!((supervisor.read(0), guard.read(0)), (None, None), "fresh memory says nothing");
        for ms in [10, 20, 30, 40, 50] {
            supervisor.write(7, at(ms));
            assert_eq!(guard.read(7), Some(at(ms)));
        }
        assert_eq!(guard.read(6), None);
        assert_eq!(supervisor.read(7), None, "its own words are no answer");
        guard.write(7, at(50));
        assert_eq!(supervisor.read(7), Some(at(50)));
        supervisor.write(9, at(60));
        assert_eq!(guard.read(9), Some(at(60)));
        assert_eq!(guard.read(7), Some(at(50)), "the newest of the epoch before, while it is there");
    }

    #[test]
    fn a_record_cut_anywhere_leaves_the_one_before() {
        for cut in 0..RECORD {
            let (mut supervisor, guard) = both();
            supervisor.write(7, at(1000));
            supervisor.write(7, at(2000));
            supervisor.write(7, at(3000));
            // The fourth goes to the place of the second, and its writer is stopped in the middle.
            let half = encode(8, at(0x1234_5678));
            rustix::io::pwrite(&supervisor.memory, &half[..cut], RECORD as u64).unwrap();
            assert_eq!(guard.read(7), Some(at(3000)), "cut after {cut} bytes");
            // The bytes that are missing may be the ones that were there before: then it is whole.
            let seen = guard.read(8);
            assert!(seen.is_none_or(|until| until == at(0x1234_5678)), "cut after {cut} bytes: {seen:?}");
            assert!(seen.is_none() || cut > RECORD - 8, "cut after {cut} bytes");
        }
    }

    #[test]
    fn a_shorter_lease_leaves_nothing_of_the_longer_one() {
        let (mut supervisor, guard) = both();
        supervisor.write(7, at(1000));
        supervisor.write(7, at(2000));
        supervisor.begin(7, at(500));
        assert_eq!(guard.read(7), Some(at(500)));
    }

    #[test]
    fn its_size_cannot_be_changed() {
        let (_supervisor, guard) = both();
        assert!(rustix::fs::ftruncate(&guard.memory, 0).is_err());
        assert!(rustix::fs::ftruncate(&guard.memory, 1 << 20).is_err());
    }

    #[test]
    fn a_reader_beside_a_writer_never_sees_what_was_not_written() {
        let (mut supervisor, guard) = both();
        let writer = std::thread::spawn(move || {
            for n in 1..=200_000_u64 {
                supervisor.write(n, BootTime::from_nanos(n.wrapping_mul(0x9e37_79b9_7f4a_7c15)));
            }
        });
        let mut seen = 0;
        while !writer.is_finished() {
            let mut bytes = [0; PLACES * RECORD];
            rustix::io::pread(&guard.memory, &mut bytes, 0).unwrap();
            for (epoch, until) in bytes.chunks_exact(RECORD).filter_map(decode) {
                assert_eq!(until.as_nanos(), epoch.wrapping_mul(0x9e37_79b9_7f4a_7c15));
                seen += 1;
            }
        }
        assert!(seen > 0);
    }
}
