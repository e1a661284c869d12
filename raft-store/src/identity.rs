//! Who this folder is: given once, kept for ever.

use minicbor::{CborLen, Decode, Encode};

use minder_model::{ClusterId, ManagerId};

/// The cluster and the manager that a folder belongs to.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode, CborLen)]
#[cbor(map)]
pub struct Identity {
    /// The cluster.
    #[n(0)]
    pub cluster: ClusterId,
    /// The manager's node id.
    #[n(1)]
    pub manager: ManagerId,
}
