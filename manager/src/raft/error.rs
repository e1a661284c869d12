//! What can go wrong at the handle, one enum per operation, and what ends the process.

use super::{proposals::PROPOSALS_MAX, transfer::TRANSFER_DEADLINE};

/// Why a proposal has no answer.
#[derive(Debug, thiserror::Error)]
pub enum ProposeError {
    /// There is no cluster yet.
    #[error("this manager belongs to no cluster yet")]
    NoCluster,
    /// It was not appended; another manager leads, or nobody does, or no quorum answers this one.
    #[error("this manager does not lead, or no quorum confirms that it does; nothing was written")]
    NotLeader,
    /// Too many proposals are in flight; it was not appended.
    #[error("{PROPOSALS_MAX} writes, or {mib} MiB of them, are in flight")]
    TooBusy {
        /// The other bound.
        mib: usize,
    },
    /// It may or may not happen.
    #[error("no answer: {0}")]
    Unknown(String),
    /// This manager is stopping.
    #[error("this manager is stopping")]
    Stopped,
}

/// Why leadership was not confirmed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ReadError {
    /// There is no cluster yet.
    #[error("this manager belongs to no cluster yet")]
    NoCluster,
    /// Another manager leads, or nobody does.
    #[error("this manager does not lead")]
    NotLeader,
    /// Fewer than half of the managers answered.
    #[error("no quorum: {0}")]
    NoQuorum(String),
    /// This manager is stopping.
    #[error("this manager is stopping")]
    Stopped,
}

/// Why leadership was not transferred.
#[derive(Debug, thiserror::Error)]
pub enum TransferError {
    /// Only the leader can.
    #[error("this manager does not lead")]
    NotLeader,
    /// The target is unknown.
    #[error("there is no manager {0}")]
    NoSuchManager(u64),
    /// The target cannot lead.
    #[error("{0}")]
    Refused(String),
    /// It did not happen in time; whoever has the votes leads.
    #[error("manager {0} did not take over within {TRANSFER_DEADLINE:?}; is it up and in step?")]
    NotInTime(u64),
}

/// Why the managers were not changed, or not wholly.
#[derive(Debug, thiserror::Error)]
pub enum MembershipError {
    /// Only the leader can.
    #[error("this manager does not lead any more; say it again, what is done already stays done")]
    NotLeader,
    /// The manager that is to go leads; somebody else must lead first.
    #[error("manager {0} leads; it must hand over first")]
    Leads(u64),
    /// It is unknown.
    #[error("{0}")]
    NoSuchManager(String),
    /// It would do harm, or cannot be done now.
    #[error("{0}")]
    Refused(String),
    /// Two processes are one manager.
    #[error("{0}")]
    TwoOfOne(String),
    /// It may or may not happen.
    #[error("{0}; say it again, what is done already stays done")]
    Unsure(String),
}

/// Why the process must end.
#[derive(Debug, Clone)]
pub struct Fatal {
    /// What it exits with.
    pub exit_code: u8,
    /// What happened and what to do.
    pub message: String,
}
