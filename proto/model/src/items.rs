//! The instances of one host, shared between everybody who holds the same ones.

use alloc::{collections::BTreeMap, sync::Arc};
use core::ops::{Deref, DerefMut};

use minicbor::{CborLen, Decode, Decoder, Encode, Encoder, encode::Write};

use crate::{assignment::Item, id::InstanceKey};

/// Instances by their keys. A copy is the same memory until one of the two is changed, and copies that were not changed
/// are found equal without a look at what they hold: a manager's table and its session with a host share one. Stored as
/// the map itself.
#[derive(Debug, Clone, Default, Eq)]
pub struct Items(Arc<BTreeMap<InstanceKey, Item>>);

impl Items {
    /// Whether both are the same memory.
    pub fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// Lays the map out anew without the room that insertions one by one leave in its nodes.
    pub fn compact(&mut self) {
        self.0 = Arc::new(core::mem::take(&mut **self).into_iter().collect());
    }
}

impl PartialEq for Items {
    fn eq(&self, other: &Self) -> bool {
        self.is_same(other) || self.0 == other.0
    }
}

impl Deref for Items {
    type Target = BTreeMap<InstanceKey, Item>;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl DerefMut for Items {
    fn deref_mut(&mut self) -> &mut Self::Target {
        Arc::make_mut(&mut self.0)
    }
}

impl From<BTreeMap<InstanceKey, Item>> for Items {
    fn from(items: BTreeMap<InstanceKey, Item>) -> Self {
        Self(Arc::new(items))
    }
}

impl FromIterator<(InstanceKey, Item)> for Items {
    fn from_iter<I: IntoIterator<Item = (InstanceKey, Item)>>(items: I) -> Self {
        BTreeMap::from_iter(items).into()
    }
}

impl<'a> IntoIterator for &'a Items {
    type Item = (&'a InstanceKey, &'a Item);
    type IntoIter = alloc::collections::btree_map::Iter<'a, InstanceKey, Item>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.iter()
    }
}

impl<C> Encode<C> for Items {
    fn encode<W: Write>(
        &self,
        encoder: &mut Encoder<W>,
        context: &mut C,
    ) -> Result<(), minicbor::encode::Error<W::Error>> {
        self.0.as_ref().encode(encoder, context)
    }
}

impl<'b, C> Decode<'b, C> for Items {
    fn decode(decoder: &mut Decoder<'b>, context: &mut C) -> Result<Self, minicbor::decode::Error> {
        BTreeMap::decode(decoder, context).map(Self::from)
    }
}

impl<C> CborLen<C> for Items {
    fn cbor_len(&self, context: &mut C) -> usize {
        self.0.as_ref().cbor_len(context)
    }
}
