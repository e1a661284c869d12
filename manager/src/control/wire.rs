//! What the control calls share at the rim: from refusals and errors to statuses, from wire selections to parsed ones.

use minder_model::{HostName, InstanceKey, ProcessName, Selection};
use minder_proto::{TOO_LARGE_METADATA, v1};
use minder_state::Refusal;
use tonic::{Status, metadata::MetadataValue};

use crate::{
    core::Core,
    forward::no_leader,
    raft::{ProposeError, ReadError, TransferError},
};

/// The status for a refusal. Its kind sets the client's exit code.
pub fn refusal(refusal: &Refusal) -> Status {
    let text = refusal.to_string();
    match refusal {
        Refusal::Conflict(..) => Status::aborted(text),
        Refusal::NoSuchProcess(_) | Refusal::NoSuchHost(_) | Refusal::NothingMatched(_) => Status::not_found(text),
        Refusal::LimitExceeded(_) | Refusal::ClusterExists(_) | Refusal::HostInUse(..) | Refusal::NeedsVersion(..) => {
            Status::failed_precondition(text)
        }
        Refusal::Invalid(_) => Status::invalid_argument(text),
    }
}

/// The status for a request that has to be split, and says so to programs as well.
pub fn too_large(text: String) -> Status {
    let mut status = Status::failed_precondition(text);
    status.metadata_mut().insert(TOO_LARGE_METADATA, MetadataValue::from_static("1"));
    status
}

/// The status for a proposal that has no answer.
pub fn propose_error(core: &Core, error: &ProposeError) -> Status {
    match error {
        ProposeError::NoCluster => no_leader(core),
        ProposeError::NotLeader | ProposeError::Stopped => Status::unavailable(error.to_string()),
        ProposeError::TooBusy { .. } => core.places.refuse(&error.to_string()),
        ProposeError::Unknown(_) => Status::deadline_exceeded(format!(
            "{error}; whether the write happened is unknown, repeating it with its request id is safe"
        )),
    }
}

/// The status for a read without a confirmed leader.
pub fn read_error(core: &Core, error: &ReadError) -> Status {
    match error {
        ReadError::NoCluster => no_leader(core),
        ReadError::NotLeader | ReadError::NoQuorum(_) | ReadError::Stopped => Status::unavailable(error.to_string()),
    }
}

/// The status for a transfer that did not happen.
pub fn transfer_error(error: &TransferError) -> Status {
    match error {
        TransferError::NotLeader | TransferError::NotInTime(_) => Status::unavailable(error.to_string()),
        TransferError::NoSuchManager(_) => Status::not_found(error.to_string()),
        TransferError::Refused(_) => Status::failed_precondition(error.to_string()),
    }
}

/// Adds where the refusal comes from, so that a client knows whom to ask next.
pub fn with_position(core: &Core, mut status: Status) -> Status {
    let applied = core.node.applied();
    let position = core.position(applied);
    let metadata = status.metadata_mut();
    metadata.insert("minder-revision", MetadataValue::from(position.revision));
    metadata.insert("minder-term", MetadataValue::from(position.term));
    metadata.insert("minder-leader-id", MetadataValue::from(position.leader_id));
    if let Ok(address) = MetadataValue::try_from(position.leader_address) {
        metadata.insert("minder-leader-address", address);
    }
    status
}

/// The selection of a request. None at all selects everything where `none_is_all`.
pub fn selection(wire: Option<v1::Selection>, none_is_all: bool) -> Result<Selection, Status> {
    let wire = wire.unwrap_or_default();
    if wire.all {
        return Ok(Selection::all());
    }
    let parsed = Selection::parse(&wire.terms, &wire.labels)
        .map_err(|error| Status::invalid_argument(format!("selection: {error}")))?;
    match parsed.is_empty() {
        true if none_is_all => Ok(Selection::all()),
        true => Err(Status::invalid_argument("selection: names nothing; write names, labels, or say all")),
        false => Ok(parsed),
    }
}

/// A host name in a request.
pub fn host_name(field: &str, text: String) -> Result<HostName, Status> {
    HostName::new(text).map_err(|error| Status::invalid_argument(format!("{field}: {error}")))
}

/// A process name in a request.
pub fn process_name(field: &str, text: String) -> Result<ProcessName, Status> {
    ProcessName::new(text).map_err(|error| Status::invalid_argument(format!("{field}: {error}")))
}

/// An instance on the wire.
pub fn instance_name(host: &HostName, key: &InstanceKey) -> v1::InstanceName {
    v1::InstanceName { host: host.to_string(), process: key.process.to_string(), index: key.index }
}
