//! The birth of a cluster.

use minder_proto::v1;
use tonic::Status;

use crate::{core::Core, raft::InitError};

pub async fn init(core: &Core, request: v1::InitRequest) -> Result<v1::InitReply, Status> {
    core.node.init(request.peer_addresses).await.map_err(|error| match error {
        InitError::Usage(_) => Status::invalid_argument(error.to_string()),
        InitError::Exists(_) => Status::failed_precondition(error.to_string()),
        InitError::Failed(_) => Status::unavailable(error.to_string()),
    })
}
