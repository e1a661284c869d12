//! A persistent map that is asked and never walked. It finds in three or four steps what a tree of a million finds in
//! twenty, each of them a comparison and a miss of the cache. Nothing replicated may depend on the order of a hash, so whoever
//! gives what is in here away puts it in order first.

use core::hash::BuildHasherDefault;

use rpds::HashTrieMapSync;
use siphasher::sip::SipHasher13;

/// Values by the hash of their keys, which is the same on every manager.
pub(crate) type ByHash<K, V> = HashTrieMapSync<K, V, BuildHasherDefault<SipHasher13>>;
