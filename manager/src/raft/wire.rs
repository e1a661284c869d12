//! Raft's messages to the wire and back.

use minder_proto::v1;
use minder_raft_store::{
    CodecError, CommittedLeaderId, Entry, LogId, TypeConfig, Vote, decode_entry, encode_entry, in_place,
};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, StreamAppendError, TransferLeaderRequest, VoteRequest, VoteResponse,
};
use tonic::Status;

/// Entries of so many bytes take some milliseconds to read.
const LARGE_BYTES: usize = 256 * 1_024;
/// What one append comes to.
pub type AppendResult = Result<Option<LogId>, StreamAppendError<TypeConfig>>;

pub fn vote_to_wire(vote: &Vote) -> v1::RaftVote {
    v1::RaftVote { term: vote.leader_id.term, node: vote.leader_id.node_id, committed: vote.committed }
}

pub fn vote_from_wire(vote: Option<v1::RaftVote>) -> Result<Vote, Status> {
    let vote = vote.ok_or_else(|| Status::invalid_argument("vote: is missing"))?;
    Ok(match vote.committed {
        true => Vote::new_committed(vote.term, vote.node),
        false => Vote::new(vote.term, vote.node),
    })
}

pub fn log_id_to_wire(log_id: &LogId) -> v1::LogId {
    v1::LogId { term: log_id.leader_id.term, node: log_id.leader_id.node_id, index: log_id.index }
}

pub fn log_id_from_wire(log_id: v1::LogId) -> LogId {
    LogId::new(CommittedLeaderId { term: log_id.term, node_id: log_id.node }, log_id.index)
}

pub fn append_to_wire(addressing: v1::Addressing, request: &AppendEntriesRequest<TypeConfig>) -> v1::AppendRequest {
    v1::AppendRequest {
        addressing: Some(addressing),
        vote: Some(vote_to_wire(&request.vote)),
        previous: request.prev_log_id.as_ref().map(log_id_to_wire),
        committed: request.leader_commit.as_ref().map(log_id_to_wire),
        entries: request.entries.iter().map(|entry| encode_entry(entry).into()).collect(),
    }
}

pub fn append_from_wire(request: v1::AppendRequest) -> Result<AppendEntriesRequest<TypeConfig>, Status> {
    let decode = || request.entries.iter().map(|bytes| decode_entry(bytes)).collect();
    let bytes: usize = request.entries.iter().map(|entry| entry.len()).sum();
    let entries: Result<Vec<Entry>, _> = if bytes > LARGE_BYTES { in_place(decode) } else { decode() };
    let entries = entries.map_err(|error| entries_refused(&error))?;
    let prev_log_id = request.previous.map(log_id_from_wire);
    check_no_gap(prev_log_id.as_ref(), &entries)?;
    Ok(AppendEntriesRequest {
        vote: vote_from_wire(request.vote)?,
        prev_log_id,
        leader_commit: request.committed.map(log_id_from_wire),
        entries,
    })
}

/// FAILED_PRECONDITION when this program is too old for them.
fn entries_refused(error: &CodecError) -> Status {
    let causes = std::iter::successors(std::error::Error::source(error), |cause| cause.source());
    let text = causes.fold(format!("entries: {error}"), |text, cause| format!("{text}: {cause}"));
    if error.is_newer() { Status::failed_precondition(text) } else { Status::invalid_argument(text) }
}

/// A leader that purges its log while it streams from it can leave entries out. Whoever appended what follows would have
/// a log with a hole; refused, the stream ends, and the leader looks anew at what this manager needs.
fn check_no_gap(previous: Option<&LogId>, entries: &[Entry]) -> Result<(), Status> {
    let first = previous.map_or(0, |previous| previous.index + 1);
    for (expected, entry) in (first..).zip(entries) {
        if entry.log_id.index != expected {
            // Not the code of entries that this program is too old for, which ends it.
            return Err(Status::aborted(format!(
                "entries: {} comes where {expected} should be: entries between were purged",
                entry.log_id.index
            )));
        }
    }
    Ok(())
}

pub fn append_result_to_wire(result: AppendResult) -> v1::AppendReply {
    use v1::append_reply::Result as Wire;
    let result = match result {
        Ok(upto) => Wire::Matched(v1::Matched { upto: upto.as_ref().map(log_id_to_wire) }),
        Err(StreamAppendError::Conflict(log_id)) => Wire::Conflict(log_id_to_wire(&log_id)),
        Err(StreamAppendError::HigherVote(vote)) => Wire::HigherVote(vote_to_wire(&vote)),
    };
    v1::AppendReply { result: Some(result) }
}

pub fn append_result_from_wire(reply: v1::AppendReply) -> Result<AppendResult, Status> {
    use v1::append_reply::Result as Wire;
    match reply.result {
        Some(Wire::Matched(matched)) => Ok(Ok(matched.upto.map(log_id_from_wire))),
        Some(Wire::Conflict(log_id)) => Ok(Err(StreamAppendError::Conflict(log_id_from_wire(log_id)))),
        Some(Wire::HigherVote(vote)) => Ok(Err(StreamAppendError::HigherVote(vote_from_wire(Some(vote))?))),
        None => Err(Status::invalid_argument("result: is missing")),
    }
}

/// The unary form of an append's result.
pub fn append_response(result: AppendResult) -> AppendEntriesResponse<TypeConfig> {
    match result {
        Ok(upto) => AppendEntriesResponse::PartialSuccess(upto),
        Err(StreamAppendError::Conflict(_)) => AppendEntriesResponse::Conflict,
        Err(StreamAppendError::HigherVote(vote)) => AppendEntriesResponse::HigherVote(vote),
    }
}

pub fn vote_request_to_wire(addressing: v1::Addressing, request: &VoteRequest<TypeConfig>) -> v1::VoteRequest {
    v1::VoteRequest {
        addressing: Some(addressing),
        vote: Some(vote_to_wire(&request.vote)),
        last_log: request.last_log_id.as_ref().map(log_id_to_wire),
        leadership_transfer: request.leadership_transfer,
    }
}

pub fn vote_request_from_wire(request: v1::VoteRequest) -> Result<VoteRequest<TypeConfig>, Status> {
    Ok(VoteRequest {
        vote: vote_from_wire(request.vote)?,
        last_log_id: request.last_log.map(log_id_from_wire),
        leadership_transfer: request.leadership_transfer,
    })
}

pub fn vote_response_to_wire(response: &VoteResponse<TypeConfig>) -> v1::VoteReply {
    v1::VoteReply {
        vote: Some(vote_to_wire(&response.vote)),
        granted: response.vote_granted,
        last_log: response.last_log_id.as_ref().map(log_id_to_wire),
    }
}

pub fn vote_response_from_wire(reply: v1::VoteReply) -> Result<VoteResponse<TypeConfig>, Status> {
    Ok(VoteResponse {
        vote: vote_from_wire(reply.vote)?,
        vote_granted: reply.granted,
        last_log_id: reply.last_log.map(log_id_from_wire),
    })
}

pub fn transfer_to_wire(
    addressing: v1::Addressing,
    request: &TransferLeaderRequest<TypeConfig>,
) -> v1::TransferRequest {
    v1::TransferRequest {
        addressing: Some(addressing),
        from_vote: Some(vote_to_wire(request.from_leader())),
        to: *request.to_node_id(),
        last_log: request.last_log_id().map(log_id_to_wire),
    }
}

pub fn transfer_from_wire(request: v1::TransferRequest) -> Result<TransferLeaderRequest<TypeConfig>, Status> {
    let last_log = request.last_log.map(log_id_from_wire);
    Ok(TransferLeaderRequest::new(vote_from_wire(request.from_vote)?, request.to, last_log))
}

#[cfg(test)]
mod tests {
    use openraft::EntryPayload;

    use super::*;

    #[test]
    fn entries_with_a_gap_are_refused() {
        let id = |index| log_id_from_wire(v1::LogId { term: 1, node: 1, index });
        let entries = |indices: &[u64]| -> Vec<Entry> {
            indices.iter().map(|index| Entry { log_id: id(*index), payload: EntryPayload::Blank }).collect()
        };
        let check = |previous: Option<u64>, indices: &[u64]| {
            check_no_gap(previous.map(id).as_ref(), &entries(indices)).map_err(|status| {
                assert_eq!(status.code(), tonic::Code::Aborted, "a follower goes on");
                status.message().to_owned()
            })
        };
        assert_eq!(check(None, &[0, 1]), Ok(()));
        assert_eq!(check(Some(265), &[]), Ok(()));
        assert_eq!(check(Some(265), &[266, 267]), Ok(()));
        assert!(check(Some(265), &[300]).unwrap_err().contains("300 comes where 266"));
        assert!(check(Some(265), &[266, 268]).unwrap_err().contains("268 comes where 267"));
    }
}
