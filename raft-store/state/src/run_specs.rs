//! The run specs that instances address, each as long as one does.

use alloc::{sync::Arc, vec::Vec};

use minder_model::Digest;

use crate::by_hash::ByHash;

/// Run specs in their stored form, by digest.
#[derive(Debug, Clone, Default)]
pub(crate) struct RunSpecs {
    by_digest: ByHash<Digest, Stored>,
}

/// A run spec and how many items address it. The count is derived, not stored.
#[derive(Debug, Clone)]
struct Stored {
    /// None before its row is loaded.
    bytes: Option<Arc<[u8]>>,
    uses: u64,
}

impl RunSpecs {
    /// The stored form.
    pub(crate) fn get(&self, digest: &Digest) -> Option<&Arc<[u8]>> {
        self.by_digest.get(digest)?.bytes.as_ref()
    }

    /// Takes in a row. Items that address it may have been counted before.
    pub(crate) fn load(&mut self, digest: Digest, bytes: &[u8]) {
        match self.by_digest.get_mut(&digest) {
            Some(stored) => stored.bytes = Some(bytes.into()),
            None => self.by_digest.insert_mut(digest, Stored { bytes: Some(bytes.into()), uses: 0 }),
        }
    }

    /// Counts an item whose row is loaded, whether or not the run spec's own row is there yet.
    pub(crate) fn count_loaded(&mut self, digest: Digest) {
        if !self.count_one_more(&digest) {
            self.by_digest.insert_mut(digest, Stored { bytes: None, uses: 1 });
        }
    }

    /// Counts one more item that addresses this run spec; `false`, and nothing done, when there is none.
    pub(crate) fn count_one_more(&mut self, digest: &Digest) -> bool {
        self.by_digest.get_mut(digest).map(|stored| stored.uses += 1).is_some()
    }

    /// Takes in a run spec that one item addresses.
    pub(crate) fn insert(&mut self, digest: Digest, bytes: &[u8]) {
        self.by_digest.insert_mut(digest, Stored { bytes: Some(bytes.into()), uses: 1 });
    }

    /// Counts one item less. The last one takes the run spec with it, which is given then.
    pub(crate) fn release(&mut self, digest: &Digest) -> Option<Arc<[u8]>> {
        let stored = self.by_digest.get_mut(digest)?;
        stored.uses = stored.uses.saturating_sub(1);
        if stored.uses > 0 {
            return None;
        }
        let bytes = stored.bytes.take();
        self.by_digest.remove_mut(digest);
        bytes
    }

    /// Everything whose row is there, by digest.
    pub(crate) fn in_order(&self) -> impl Iterator<Item = (&Digest, &Arc<[u8]>)> {
        let stored = self.by_digest.iter().filter_map(|(digest, stored)| Some((digest, stored.bytes.as_ref()?)));
        let mut all: Vec<_> = stored.collect();
        all.sort_unstable_by_key(|(digest, _)| *digest);
        all.into_iter()
    }

    /// The first that items address without its row being there.
    pub(crate) fn missing(&self) -> Option<&Digest> {
        self.by_digest.iter().filter(|(_, stored)| stored.bytes.is_none()).map(|(digest, _)| digest).min()
    }
}
