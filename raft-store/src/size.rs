//! How many bytes lie in the log after an index, to about a chunk: large writes fill a disk long before their number does.

use std::collections::VecDeque;

/// Entries are summed up to about this size, so that a log of a few hundred MiB costs a few kilobytes of memory.
const CHUNK_BYTES: u64 = 1024 * 1024;

/// The sizes of the log's entries as stored, summed in chunks.
#[derive(Debug, Clone, Default)]
pub(crate) struct LogSizes {
    /// Each with its last index, in order.
    chunks: VecDeque<Chunk>,
    total: u64,
}

#[derive(Debug, Clone, Copy)]
struct Chunk {
    last: u64,
    bytes: u64,
}

impl LogSizes {
    /// Notes the next entry.
    pub(crate) fn push(&mut self, index: u64, bytes: usize) {
        let bytes = bytes as u64;
        self.total += bytes;
        match self.chunks.back_mut().filter(|chunk| chunk.bytes < CHUNK_BYTES) {
            Some(chunk) => *chunk = Chunk { last: index, bytes: chunk.bytes + bytes },
            None => self.chunks.push_back(Chunk { last: index, bytes }),
        }
    }

    /// Notes that entries after `index` are gone. A chunk that is cut counts whole until it is gone.
    pub(crate) fn truncate_after(&mut self, index: Option<u64>) {
        let kept = index.map_or(0, |index| self.chunks.partition_point(|chunk| chunk.last < index) + 1);
        for chunk in self.chunks.drain(kept.min(self.chunks.len())..) {
            self.total -= chunk.bytes;
        }
        if let (Some(index), Some(chunk)) = (index, self.chunks.back_mut()) {
            chunk.last = chunk.last.min(index);
        }
    }

    /// Notes that entries up to `index` are gone. A chunk that is cut counts whole until it is gone.
    pub(crate) fn purge(&mut self, index: u64) {
        while let Some(chunk) = self.chunks.front().filter(|chunk| chunk.last <= index) {
            self.total -= chunk.bytes;
            self.chunks.pop_front();
        }
    }

    /// Bytes of the whole log.
    pub(crate) fn total(&self) -> u64 {
        self.total
    }

    /// Bytes of the entries after `index`.
    pub(crate) fn after(&self, index: u64) -> u64 {
        self.chunks.iter().rev().take_while(|chunk| chunk.last > index).map(|chunk| chunk.bytes).sum()
    }

    /// The last index that may go so that at most `bytes` stay, if any must.
    pub(crate) fn excess(&self, bytes: u64) -> Option<u64> {
        let mut kept = 0;
        let over = |chunk: &&Chunk| {
            kept += chunk.bytes;
            kept > bytes
        };
        self.chunks.iter().rev().find(over).map(|chunk| chunk.last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(entries: u64, bytes: usize) -> LogSizes {
        let mut sizes = LogSizes::default();
        (1..=entries).for_each(|index| sizes.push(index, bytes));
        sizes
    }

    #[test]
    fn large_entries_are_counted_one_by_one_and_small_ones_together() {
        let large = filled(10, 2 * 1024 * 1024);
        assert_eq!((large.chunks.len(), large.total(), large.after(7)), (10, 20 << 20, 6 << 20));
        assert_eq!((large.excess(20 << 20), large.excess(5 << 20), large.excess(0)), (None, Some(8), Some(10)));
        let small = filled(100_000, 100);
        assert_eq!((small.chunks.len(), small.total()), (10, 10_000_000));
        assert!(small.after(50_000).abs_diff(5_000_000) <= CHUNK_BYTES + 100);
    }

    #[test]
    fn what_is_gone_is_not_counted() {
        let mut sizes = filled(10, 2 * 1024 * 1024);
        sizes.purge(4);
        assert_eq!((sizes.total(), sizes.after(0)), (12 << 20, 12 << 20));
        sizes.truncate_after(Some(7));
        assert_eq!((sizes.total(), sizes.after(6)), (6 << 20, 2 << 20));
        sizes.push(8, 100);
        sizes.truncate_after(None);
        assert_eq!((sizes.total(), sizes.excess(0)), (0, None));
        let mut small = filled(10, 100);
        small.truncate_after(Some(3));
        small.push(4, 100);
        small.purge(3);
        assert_eq!((small.total(), small.excess(0)), (1_100, Some(4)));
        small.purge(4);
        assert_eq!(small.total(), 0);
    }
}
