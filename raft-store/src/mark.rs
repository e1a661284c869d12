//! The high-water mark beside the log: what has been promised, so that a log which opens shorter is found out.
//!
//! RocksDB's recovery can accept a truncated log in silence (measured: every truncation under tolerate-tail). The mark
//! is a 4 KiB file with two checksummed slots, rewritten in turn after each sync of the log. It may lag behind the log,
//! for its own sync is taken at most every [`SYNC_INTERVAL`], but it never leads: whatever the mark says was synced
//! before. A recovered log or vote below the mark has lost something that somebody was told is safe.

use std::{
    fs::{File, OpenOptions},
    io,
    os::unix::fs::FileExt,
    path::Path,
    time::{Duration, Instant},
};

use minicbor::{CborLen, Decode, Encode};

use crate::{
    codec::{LogIdForm, VoteForm},
    fail_point::fail_point,
};

/// The file is one page, and so is never torn between the slots by a page-wise disk.
const FILE_BYTES: u64 = 4_096;
/// Slots lie in sectors of their own, so that a torn write damages one.
const SLOT_BYTES: usize = 512;
/// Syncing the mark with each commit would double the cost of a write; this bounds what a power cut can hide.
const SYNC_INTERVAL: Duration = Duration::from_millis(100);

/// What has been promised.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Encode, Decode, CborLen)]
#[cbor(map)]
pub(crate) struct Mark {
    /// The vote that is safe.
    #[n(0)]
    pub(crate) vote: Option<VoteForm>,
    /// The last entry that is safe.
    #[n(1)]
    pub(crate) last: Option<LogIdForm>,
}

#[derive(Debug, Encode, Decode, CborLen)]
struct Slot {
    #[n(0)]
    sequence: u64,
    #[n(1)]
    mark: Mark,
}

/// The file.
#[derive(Debug)]
pub(crate) struct MarkFile {
    file: File,
    sequence: u64,
    mark: Mark,
    synced_at: Option<Instant>,
}

impl MarkFile {
    /// Opens the file. `None` when it is not there or says nothing that can be trusted.
    pub(crate) fn open(path: &Path) -> io::Result<Option<Self>> {
        let file = match OpenOptions::new().read(true).write(true).open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        if file.metadata()?.len() < FILE_BYTES {
            return Ok(None);
        }
        let slots = [read_slot(&file, 0)?, read_slot(&file, 1)?];
        let newest = slots.into_iter().flatten().max_by_key(|slot| slot.sequence);
        Ok(newest.map(|slot| Self { file, sequence: slot.sequence, mark: slot.mark, synced_at: None }))
    }

    /// Makes the file with all its blocks, promising nothing yet, durably. It has a whole slot from the beginning, so
    /// that a file without one is known to be damaged.
    pub(crate) fn create(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(path)?;
        file.write_all_at(&[0; FILE_BYTES as usize], 0)?;
        let mut made = Self { file, sequence: 0, mark: Mark::default(), synced_at: None };
        made.write(Mark::default())?;
        fail_point!("mark-created");
        made.file.sync_all()?;
        Ok(made)
    }

    /// What it says.
    pub(crate) fn mark(&self) -> Mark {
        self.mark
    }

    /// Says something else from now on. Whatever it says must be synced in the log already.
    pub(crate) fn set(&mut self, mark: Mark) -> io::Result<()> {
        if mark == self.mark {
            return Ok(());
        }
        // A lowered mark must be down before the entries go, or a power cut in between looks like a loss.
        let due = mark.vote != self.mark.vote
            || mark.last < self.mark.last
            || self.synced_at.is_none_or(|at| at.elapsed() >= SYNC_INTERVAL);
        self.write(mark)?;
        if due {
            fail_point!("mark-sync");
            self.file.sync_data()?;
            fail_point!("mark-synced");
            self.synced_at = Some(Instant::now());
        }
        Ok(())
    }

    fn write(&mut self, mark: Mark) -> io::Result<()> {
        self.sequence += 1;
        let bytes = Slot { sequence: self.sequence, mark }.bytes();
        fail_point!("mark-write");
        self.file.write_all_at(&bytes, (self.sequence % 2) * SLOT_BYTES as u64)?;
        self.mark = mark;
        Ok(())
    }
}

fn read_slot(file: &File, number: u64) -> io::Result<Option<Slot>> {
    let mut bytes = [0; SLOT_BYTES];
    file.read_exact_at(&mut bytes, number * SLOT_BYTES as u64)?;
    Ok(Slot::read(&bytes))
}

impl Slot {
    fn bytes(&self) -> [u8; SLOT_BYTES] {
        let form = minder_model::encode(self);
        let mut bytes = [0; SLOT_BYTES];
        bytes[4..6].copy_from_slice(&(form.len() as u16).to_le_bytes());
        bytes[6..6 + form.len()].copy_from_slice(&form);
        let crc = crc32c::crc32c(&bytes[4..]);
        bytes[..4].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// A slot, if its checksum fits.
    fn read(bytes: &[u8; SLOT_BYTES]) -> Option<Self> {
        let crc = u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
        let length = usize::from(u16::from_le_bytes([bytes[4], bytes[5]]));
        let form = bytes.get(6..6 + length).filter(|_| crc32c::crc32c(&bytes[4..]) == crc && length > 0)?;
        minicbor::decode(form).ok()
    }
}

/// What a slot with these bytes says, and how that is written.
pub(crate) fn slot_again(bytes: &[u8]) -> Option<Vec<u8>> {
    Some(Slot::read(bytes.try_into().ok()?)?.bytes().to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark(index: u64) -> Mark {
        Mark {
            vote: Some(VoteForm { term: index, node: 1, committed: true }),
            last: Some(LogIdForm { term: 1, node: 1, index }),
        }
    }

    #[test]
    fn the_newest_whole_slot_counts() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("mark");
        assert!(MarkFile::open(&path).unwrap().is_none());
        let mut file = MarkFile::create(&path).unwrap();
        let read = || MarkFile::open(&path).unwrap().map(|file| file.mark());
        assert_eq!(read(), Some(Mark::default()));
        for index in 1..=5 {
            file.set(mark(index)).unwrap();
            assert_eq!(read(), Some(mark(index)));
        }
        // The sixth write, the one of 5, is torn: 4 is left.
        let torn = OpenOptions::new().write(true).open(&path).unwrap();
        torn.write_all_at(&[0xff; 3], 7).unwrap();
        assert_eq!(read(), Some(mark(4)));
        torn.write_all_at(&[0xff; 3], SLOT_BYTES as u64 + 7).unwrap();
        assert_eq!(read(), None);
    }
}
