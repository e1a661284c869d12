//! The rows of the table as types.

use alloc::{collections::BTreeMap, string::String, sync::Arc};
use core::ops::Deref;

use minder_model::{ClusterId, CommandVersion, Generation, Revision, Spec, Wanted};
use minicbor::{CborLen, Decode, Decoder, Encode, Encoder, encode::Write};

/// The cluster itself.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode, CborLen)]
#[cbor(map)]
pub struct ClusterRecord {
    /// Its identity.
    #[n(0)]
    pub id: ClusterId,
    /// When it was created, milliseconds since 1970.
    #[n(1)]
    pub created_at_ms: u64,
    /// Where it comes from, when it was rebuilt.
    #[n(40)]
    pub rebuilt: Option<Rebuilt>,
    /// The version of commands that it takes. It never falls.
    #[cbor(n(70), default, skip_if = "CommandVersion::is_first")]
    pub version: CommandVersion,
}

/// A cluster that was rebuilt from a backup or from one surviving manager of another one.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode, CborLen)]
#[cbor(map)]
pub struct Rebuilt {
    /// The cluster before.
    #[n(0)]
    pub predecessor: ClusterId,
    /// The last of its writes that this cluster has.
    #[n(1)]
    pub revision: Revision,
    /// Every revision that this cluster gives lies above this one, and every one that its predecessor can have given
    /// lies below it. What a host holds from there is older than what this cluster assigns, whatever that is.
    #[n(2)]
    pub since: Revision,
}

/// A machine that announced itself.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode, CborLen)]
#[cbor(map)]
pub struct HostRecord {
    /// Address its slave announced, `host:port`.
    #[n(0)]
    pub address: String,
    /// Labels its slave announced.
    #[n(1)]
    pub own_labels: BTreeMap<String, String>,
    /// Labels given centrally; they win over the slave's.
    #[n(2)]
    pub central_labels: BTreeMap<String, String>,
    /// Write that last changed this record.
    #[n(3)]
    pub revision: Revision,
    /// When it first announced itself, milliseconds since 1970.
    #[n(4)]
    pub registered_at_ms: u64,
}

impl HostRecord {
    /// The label of this key that counts.
    pub fn label(&self, key: &str) -> Option<&String> {
        self.central_labels.get(key).or_else(|| self.own_labels.get(key))
    }

    /// The labels that count.
    pub fn labels(&self) -> BTreeMap<String, String> {
        let mut labels = self.own_labels.clone();
        labels.extend(self.central_labels.clone());
        labels
    }

    /// Whether every one of these labels counts here.
    pub fn has_labels(&self, wanted: &BTreeMap<String, String>) -> bool {
        wanted
            .iter()
            .all(|(key, value)| self.central_labels.get(key).or_else(|| self.own_labels.get(key)) == Some(value))
    }
}

/// A process as its users declared it.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode, CborLen)]
#[cbor(map)]
pub struct ProcessRecord {
    /// How and where it is to run.
    #[n(0)]
    pub spec: SharedSpec,
    /// Version of the spec, from 1.
    #[n(1)]
    pub generation: Generation,
    /// Write that last changed the spec or an order to the whole process.
    #[n(2)]
    pub revision: Revision,
    /// What instances on hosts yet to come will be told.
    #[n(3)]
    pub wanted: Wanted,
    /// When it was first declared, milliseconds since 1970.
    #[n(4)]
    pub created_at_ms: u64,
    /// When its spec last changed, milliseconds since 1970.
    #[n(5)]
    pub changed_at_ms: u64,
    /// Who changed it last.
    #[n(6)]
    pub changed_by: String,
}

/// A spec, which is large, as log entry, table and history share it. Stored as the spec itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SharedSpec(Arc<Spec>);

impl From<Spec> for SharedSpec {
    fn from(spec: Spec) -> Self {
        Self(Arc::new(spec))
    }
}

impl Deref for SharedSpec {
    type Target = Spec;

    fn deref(&self) -> &Spec {
        &self.0
    }
}

impl<C> Encode<C> for SharedSpec {
    fn encode<W: Write>(
        &self,
        encoder: &mut Encoder<W>,
        context: &mut C,
    ) -> Result<(), minicbor::encode::Error<W::Error>> {
        self.0.encode(encoder, context)
    }
}

impl<'b, C> Decode<'b, C> for SharedSpec {
    fn decode(decoder: &mut Decoder<'b>, context: &mut C) -> Result<Self, minicbor::decode::Error> {
        Spec::decode(decoder, context).map(Self::from)
    }
}

impl<C> CborLen<C> for SharedSpec {
    fn cbor_len(&self, context: &mut C) -> usize {
        self.0.cbor_len(context)
    }
}
