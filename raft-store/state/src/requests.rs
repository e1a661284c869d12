//! The answers to the latest requests, so that repeating one is safe.
//!
//! Found by a hash and not by order: ids of one moment are alike in their first half, and every level of a tree would
//! compare two of them.

use alloc::{collections::BTreeMap, sync::Arc};

use minder_model::{RequestId, Revision};
use rpds::RedBlackTreeMapSync;

use crate::{by_hash::ByHash, hash::RowHash, state::Hashed};

/// Requests follow each other, so their order is kept in stretches of so many revisions: one node of a persistent tree
/// for all of a stretch, which is copied whole when it changes after somebody took a copy.
const STRETCH_REVISIONS: u64 = 128;

/// Answers in their stored form, by request, and the order in which they are forgotten.
#[derive(Debug, Clone, Default)]
pub(crate) struct Requests {
    by_id: ByHash<RequestId, Hashed<[u8]>>,
    /// By number of the stretch, none of them empty.
    order: RedBlackTreeMapSync<u64, BTreeMap<Revision, RequestId>>,
}

impl Requests {
    /// The stored answer to a request.
    pub(crate) fn get(&self, request: &RequestId) -> Option<&Arc<[u8]>> {
        self.by_id.get(request).map(|answer| &answer.record)
    }

    /// Whether there is an answer that was given at this revision.
    pub(crate) fn has_at(&self, revision: Revision) -> bool {
        let requests = self.order.get(&(revision.0 / STRETCH_REVISIONS));
        requests.is_some_and(|requests| requests.contains_key(&revision))
    }

    /// Takes in an answer given at this revision.
    pub(crate) fn insert(&mut self, request: RequestId, revision: Revision, answer: Hashed<[u8]>) {
        let stretch = revision.0 / STRETCH_REVISIONS;
        match self.order.get_mut(&stretch) {
            Some(requests) => {
                requests.insert(revision, request.clone());
            }
            None => self.order.insert_mut(stretch, [(revision, request.clone())].into()),
        }
        self.by_id.insert_mut(request, answer);
    }

    /// Forgets the oldest request; gives it with the hash of its row.
    pub(crate) fn forget_oldest(&mut self) -> Option<(RequestId, RowHash)> {
        let stretch = *self.order.first()?.0;
        let requests = self.order.get_mut(&stretch)?;
        let (_, request) = requests.pop_first()?;
        if requests.is_empty() {
            self.order.remove_mut(&stretch);
        }
        let hash = self.by_id.get(&request)?.hash;
        self.by_id.remove_mut(&request);
        Some((request, hash))
    }

    pub(crate) fn len(&self) -> usize {
        self.by_id.size()
    }

    /// Every request with its stored answer, oldest first.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&RequestId, &Arc<[u8]>)> {
        self.order.values().flat_map(BTreeMap::values).filter_map(|request| Some((request, self.get(request)?)))
    }
}
