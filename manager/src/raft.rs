//! Consensus: openraft driven over gRPC, behind one handle. Nothing outside this module and `minder-raft-store` names
//! an openraft type but the node itself.

mod init;
mod network;
mod node;
mod service;
mod settings;
mod wire;

pub use minder_raft_store::Hooks;

pub use init::InitError;
pub use node::{Addresses, Leadership, Member, Node, ProposeError, ReadError, TransferError};
pub use service::PeerService;
pub use settings::RaftSettings;
