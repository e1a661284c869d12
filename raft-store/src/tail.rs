//! The latest entries, decoded, so that replication and apply of what was just written never touch RocksDB.

use std::collections::VecDeque;

use crate::types::Entry;

/// Entries kept: what a follower that is not quite in step asks for.
const ENTRIES_MAX: usize = 4_096;
/// And at most so many bytes of them, by their stored form.
const BYTES_MAX: usize = 16 * 1024 * 1024;

/// A contiguous run of the log's end.
#[derive(Default)]
pub(crate) struct Tail {
    entries: VecDeque<(Entry, usize)>,
    bytes: usize,
}

impl Tail {
    /// Adds the entry after the last one. A gap empties what was there.
    pub(crate) fn push(&mut self, entry: Entry, bytes: usize) {
        if self.entries.back().is_some_and(|(last, _)| last.log_id.index + 1 != entry.log_id.index) {
            self.clear();
        }
        self.bytes += bytes;
        self.entries.push_back((entry, bytes));
        while self.entries.len() > ENTRIES_MAX || self.bytes > BYTES_MAX {
            self.pop_front();
        }
    }

    /// Forgets entries after `index`.
    pub(crate) fn truncate_after(&mut self, index: Option<u64>) {
        while self.entries.back().is_some_and(|(last, _)| index.is_none_or(|index| last.log_id.index > index)) {
            if let Some((_, bytes)) = self.entries.pop_back() {
                self.bytes -= bytes;
            }
        }
    }

    /// Forgets entries up to `index`.
    pub(crate) fn purge(&mut self, index: u64) {
        while self.entries.front().is_some_and(|(first, _)| first.log_id.index <= index) {
            self.pop_front();
        }
    }

    /// The entries from `begin` to before `end`, with the bytes of each, if all of them are here.
    pub(crate) fn range(&self, begin: u64, end: u64) -> Option<impl Iterator<Item = &(Entry, usize)>> {
        let first = self.entries.front()?.0.log_id.index;
        let last = self.entries.back()?.0.log_id.index;
        let here = first <= begin && begin < end && end <= last + 1;
        here.then(|| self.entries.range((begin - first) as usize..(end - first) as usize))
    }

    fn clear(&mut self) {
        self.entries.clear();
        self.bytes = 0;
    }

    fn pop_front(&mut self) {
        if let Some((_, bytes)) = self.entries.pop_front() {
            self.bytes -= bytes;
        }
    }
}
