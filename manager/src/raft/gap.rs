//! A stream of entries that can send no more, for the log begins behind what it should send next, is given up.
//!
//! openraft goes on to ask such a stream, and does not look meanwhile whether there is something else to send: a manager
//! that has had a snapshot since would stay where it is for as long as the leader leads.

use futures::{Stream, StreamExt, future::ready};
use minder_raft_store::TypeConfig;
use openraft::raft::AppendEntriesRequest;

use super::watchdog::Sent;

/// `requests` of one stream, up to the first that has no entries although committed ones come next, which `sent` is told of.
pub fn until<S>(requests: S, sent: Sent) -> impl Stream<Item = AppendEntriesRequest<TypeConfig>> + Unpin + Send
where
    S: Stream<Item = AppendEntriesRequest<TypeConfig>> + Unpin + Send,
{
    let mut is_first = true;
    requests.take_while(move |request| {
        // The first one may be a question (does the log match?), which needs no entries.
        let is_question = std::mem::take(&mut is_first);
        let gap = !is_question && lacks_entries(request);
        if gap {
            sent.note_gap();
        }
        ready(!gap)
    })
}

/// Whoever has all there is gets a request without entries for news of a commit, which then is not beyond what it has.
fn lacks_entries(request: &AppendEntriesRequest<TypeConfig>) -> bool {
    let has = request.prev_log_id.map(|log_id| log_id.index);
    let committed = request.leader_commit.map(|log_id| log_id.index);
    request.entries.is_empty() && has < committed
}

#[cfg(test)]
mod tests {
    use minder_proto::v1;
    use minder_raft_store::{Entry, LogId, Vote};
    use openraft::EntryPayload;

    use super::{super::wire, *};

    fn id(index: u64) -> LogId {
        wire::log_id_from_wire(v1::LogId { term: 1, node: 1, index })
    }

    /// Entries after `previous` up to `last`, with word that everything up to `commit` is committed.
    fn request((previous, last, commit): (u64, u64, u64)) -> AppendEntriesRequest<TypeConfig> {
        let entry = |index| Entry { log_id: id(index), payload: EntryPayload::Blank };
        AppendEntriesRequest {
            vote: Vote::new_committed(1, 1),
            prev_log_id: Some(id(previous)),
            leader_commit: Some(id(commit)),
            entries: (previous + 1..=last).map(entry).collect(),
        }
    }

    /// How many of these requests go out, and whether the stream was given up.
    async fn sent(requests: &[(u64, u64, u64)]) -> (usize, bool) {
        let sent = Sent::default();
        let out = until(futures::stream::iter(requests.iter().copied().map(request)), sent.clone()).count().await;
        (out, sent.has_gap())
    }

    /// A manager that was left behind, and got a snapshot, never got another entry: the leader said again and again that
    /// it had nothing to send after what was purged.
    #[tokio::test]
    async fn a_stream_that_stands_before_a_gap_is_given_up() {
        assert_eq!(sent(&[(602, 602, 727), (602, 602, 727), (602, 602, 728)]).await, (1, true));
        assert_eq!(sent(&[(4, 6, 6), (6, 6, 6), (6, 6, 9), (6, 9, 9)]).await, (2, true));
    }

    #[tokio::test]
    async fn a_stream_that_has_sent_everything_goes_on() {
        assert_eq!(sent(&[(4, 4, 9), (4, 9, 9), (9, 9, 9), (9, 10, 9), (10, 10, 10)]).await, (5, false));
    }
}
