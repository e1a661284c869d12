//! Consensus: openraft driven over gRPC, behind one handle. Nothing outside this module and `minder-raft-store` names
//! an openraft type but the node itself.

mod belonging;
mod companions;
mod confirm;
mod emptied;
mod error;
mod gap;
mod gone;
mod init;
mod leadership;
mod log_bound;
mod membership;
mod network;
mod node;
mod proposals;
mod rebuilt;
mod rounds;
mod service;
mod settings;
mod snapshot;
mod status;
mod stuck;
mod transfer;
mod version;
mod watchdog;
mod wire;

pub use minder_raft_store::Hooks;

pub use error::{MembershipError, ProposeError, ReadError, TransferError};
pub use init::InitError;
pub use leadership::{Leadership, Member};
pub use membership::{Changed, Step};
pub use node::{Addresses, Node};
pub use service::PeerService;
pub use settings::RaftSettings;
pub use version::{Knows, RaiseError, in_the_way};
