//! The assignment: everything one host should run, whole, with its revision; and the delta between two of them,
//! so that one changed process on a host with a thousand costs a few hundred bytes on the wire.

use alloc::{string::String, vec::Vec};
use core::fmt;

use minicbor::{CborLen, Decode, Encode};

use crate::{
    digest::Digest,
    id::{Generation, HostName, InstanceKey, Revision},
    items::Items,
    signal::Signal,
    stored::is_default,
    utc::Utc,
};

/// What should be true of an instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Encode, Decode, CborLen)]
#[cbor(index_only)]
pub enum Wanted {
    /// It runs, as far as its restart policy goes.
    #[n(0)]
    Running,
    /// It does not run; its definition stays.
    #[n(1)]
    Stopped,
}

/// A one-off signal or reload. Its revision makes it execute at most once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Encode, Decode, CborLen)]
#[cbor(map)]
pub struct SignalOrder {
    /// The write that asked for it.
    #[n(0)]
    pub revision: Revision,
    /// The signal for the main process.
    #[n(1)]
    pub signal: Signal,
    /// It is a reload order: what the running spec's `reload` says is done in place of the signal.
    #[cbor(n(2), default, skip_if = "is_default")]
    pub reload: bool,
}

/// One instance as a host should have it. Its key stands beside it in the [`Assignment`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Encode, Decode, CborLen)]
#[cbor(map)]
pub struct Item {
    /// Version of the process's spec.
    #[n(0)]
    pub generation: Generation,
    /// Addresses the [`crate::RunSpec`] to run.
    #[n(1)]
    pub spec: Digest,
    /// Running or stopped.
    #[n(2)]
    pub wanted: Wanted,
    /// An incarnation that began under an older value is to be restarted.
    #[n(3)]
    pub restart_at: Revision,
    /// Restart counters and FATAL from before this write are forgotten.
    #[n(4)]
    pub retry_at: Revision,
    /// The latest one-off signal, if any.
    #[n(5)]
    pub signal: Option<SignalOrder>,
    /// The latest start or restart order. It ends what was stopped locally before it. Left out where there was none: a
    /// slave of the version before takes the assignment's digest over what it knows.
    #[cbor(n(40), default, skip_if = "is_default")]
    pub start_at: Revision,
}

impl Item {
    /// What is to be true of the instance on its machine: what is assigned, unless somebody there has stopped it and
    /// no later order says otherwise.
    pub fn wanted_beside(&self, local_stop: Option<&LocalStop>) -> Wanted {
        match local_stop {
            Some(stop) if self.start_at <= stop.start_at => Wanted::Stopped,
            Some(_) | None => self.wanted,
        }
    }
}

/// An instance was stopped on its machine, past the managers.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Encode, Decode, CborLen)]
#[cbor(map)]
pub struct LocalStop {
    /// The user who did it, at most [`crate::USER_NAME_BYTES_MAX`] bytes.
    #[n(0)]
    pub by: String,
    /// When, host's wall clock, milliseconds since 1970.
    #[n(1)]
    pub at_ms: u64,
    /// [`Item::start_at`] as the slave held it then: a later one ends the local stop.
    #[n(2)]
    pub start_at: Revision,
}

impl fmt::Display for LocalStop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "stopped locally by {} at {}", self.by, Utc(self.at_ms))
    }
}

/// Everything one host should run.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode, CborLen)]
#[cbor(map)]
pub struct Assignment {
    /// The host it is for. A slave refuses another host's.
    #[n(0)]
    pub host: HostName,
    /// Log index at which this host's slice last changed. A slave refuses an older one.
    #[n(1)]
    pub revision: Revision,
    /// The instances, in order of their keys.
    #[n(2)]
    pub items: Items,
}

/// How to get from one assignment to the next.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode, CborLen)]
#[cbor(map)]
pub struct AssignmentDelta {
    /// Digest of the assignment this one starts from; `None` starts from nothing.
    #[n(0)]
    pub base: Option<Digest>,
    /// Revision of the result.
    #[n(1)]
    pub revision: Revision,
    /// Digest of the result.
    #[n(2)]
    pub digest: Digest,
    /// Instances added or changed.
    #[n(3)]
    pub upserts: Vec<(InstanceKey, Item)>,
    /// Instances gone.
    #[n(4)]
    pub removes: Vec<InstanceKey>,
}

/// Why a slave does not take an assignment. It keeps the one it has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DeltaError {
    /// It is older than the one held: a deposed leader is speaking.
    Older {
        /// The revision held.
        held: Revision,
        /// The revision offered.
        offered: Revision,
    },
    /// The same revision with other content: the managers disagree with themselves.
    SameRevisionOtherContent {
        /// The revision both have.
        revision: Revision,
    },
    /// It starts from an assignment that is not the one held; the whole one is needed.
    OtherBase,
    /// The result does not have the digest it should have; the whole one is needed.
    DigestMismatch,
}

impl fmt::Display for DeltaError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Older { held, offered } => write!(f, "revision {offered} is older than the held revision {held}"),
            Self::SameRevisionOtherContent { revision } => {
                write!(f, "revision {revision} came with other content than the held revision {revision}")
            }
            Self::OtherBase => f.write_str("the change starts from an assignment that is not held"),
            Self::DigestMismatch => f.write_str("the result of the change does not have the promised digest"),
        }
    }
}

impl core::error::Error for DeltaError {}

impl Assignment {
    /// Nothing at all, at revision 0.
    pub fn empty(host: HostName) -> Self {
        Self { host, revision: Revision::ZERO, items: Items::default() }
    }

    /// Digest of the content. The revision is not part of it: the same content at a later revision asks for nothing.
    pub fn digest(&self) -> Digest {
        Digest::of_encoded(&self.items)
    }

    /// The change from `base` to `self`; from nothing when there is no base.
    pub fn delta_from(&self, base: Option<&Assignment>) -> AssignmentDelta {
        self.delta_between(self.digest(), base.map(|base| (base, base.digest())))
    }

    /// The same for whoever has taken the digests of both already.
    pub fn delta_between(&self, own: Digest, base: Option<(&Assignment, Digest)>) -> AssignmentDelta {
        let (mut upserts, mut removes) = (Vec::new(), Vec::new());
        // Both are in the order of their keys, so one walk over the two finds what differs.
        let mut before = base.iter().flat_map(|(base, _)| base.items.iter()).peekable();
        for (key, item) in &self.items {
            while let Some((gone, _)) = before.next_if(|(other, _)| *other < key) {
                removes.push(gone.clone());
            }
            if before.next_if(|(other, _)| *other == key).is_none_or(|(_, other)| other != item) {
                upserts.push((key.clone(), *item));
            }
        }
        removes.extend(before.map(|(gone, _)| gone.clone()));
        AssignmentDelta { base: base.map(|(_, digest)| digest), revision: self.revision, digest: own, upserts, removes }
    }

    /// The assignment after `delta`, fenced: never older, never the same revision with other content, never a guess.
    pub fn after(&self, delta: &AssignmentDelta) -> Result<Assignment, DeltaError> {
        if delta.revision < self.revision {
            return Err(DeltaError::Older { held: self.revision, offered: delta.revision });
        }
        let own = self.digest();
        if delta.revision == self.revision && self.revision > Revision::ZERO && delta.digest != own {
            return Err(DeltaError::SameRevisionOtherContent { revision: self.revision });
        }
        let mut items = match delta.base {
            None => Items::default(),
            Some(base) if base == own => self.items.clone(),
            Some(_) => return Err(DeltaError::OtherBase),
        };
        for key in &delta.removes {
            items.remove(key);
        }
        items.extend(delta.upserts.iter().cloned());
        let next = Assignment { host: self.host.clone(), revision: delta.revision, items };
        if next.digest() != delta.digest {
            return Err(DeltaError::DigestMismatch);
        }
        Ok(next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ProcessName;

    fn assignment(revision: u64, names: &[(&str, u64)]) -> Assignment {
        let items = names
            .iter()
            .map(|(name, generation)| {
                let item = Item {
                    generation: Generation(*generation),
                    spec: Digest::of(name.as_bytes()),
                    wanted: Wanted::Running,
                    restart_at: Revision::ZERO,
                    retry_at: Revision::ZERO,
                    signal: None,
                    start_at: Revision::ZERO,
                };
                (InstanceKey::new(ProcessName::new(*name).unwrap(), 1), item)
            })
            .collect();
        Assignment { host: HostName::new("h").unwrap(), revision: Revision(revision), items }
    }

    #[test]
    fn a_delta_leads_from_one_to_the_other_and_is_small() {
        let many: Vec<_> = (0..1000).map(|n| alloc::format!("p{n}")).collect();
        let before = assignment(5, &many.iter().map(|n| (n.as_str(), 1)).collect::<Vec<_>>());
        let mut after = before.clone();
        after.revision = Revision(9);
        after.items.pop_first();
        after.items.values_mut().next().unwrap().generation = Generation(2);
        let delta = after.delta_from(Some(&before));
        assert_eq!((delta.upserts.len(), delta.removes.len()), (1, 1));
        assert_eq!(before.after(&delta).unwrap(), after);
        assert!(crate::encode(&delta).len() < 1_000);
    }

    #[test]
    fn an_item_is_stored_as_the_version_before_knows_it_until_it_says_more() {
        let item = Item {
            generation: Generation(1),
            spec: Digest::default(),
            wanted: Wanted::Running,
            restart_at: Revision::ZERO,
            retry_at: Revision::ZERO,
            signal: None,
            start_at: Revision::ZERO,
        };
        let (before, more) = (crate::encode(&item), crate::encode(&Item { start_at: Revision(7), ..item }));
        // A map's key above 23 takes two bytes and its value one more.
        assert_eq!(more.len(), before.len() + 3);
        assert_eq!(minicbor::decode::<Item>(&before).unwrap(), item);
    }

    #[test]
    fn the_past_and_the_contradictory_are_refused() {
        let held = assignment(5, &[("a", 1)]);
        let older = assignment(4, &[("a", 1)]).delta_from(None);
        assert!(matches!(held.after(&older), Err(DeltaError::Older { .. })));
        let other = assignment(5, &[("a", 2)]).delta_from(None);
        assert!(matches!(held.after(&other), Err(DeltaError::SameRevisionOtherContent { .. })));
        let unrelated = assignment(6, &[("a", 2)]).delta_from(Some(&assignment(3, &[])));
        assert_eq!(held.after(&unrelated), Err(DeltaError::OtherBase));
        let mut lying = assignment(6, &[("a", 2)]).delta_from(None);
        lying.digest = Digest::default();
        assert_eq!(held.after(&lying), Err(DeltaError::DigestMismatch));
        assert_eq!(held.after(&held.delta_from(None)).unwrap(), held);
    }
}
