//! News of a commit wait a little for entries to travel with. openraft tells each peer of every commit at once, by a
//! request of its own when there are no entries to send; under a single writer that is as many messages, and as many
//! wake-ups on both sides, as the writes themselves, just when the next write comes in.
//!
//! Nobody waits for a follower to apply: answers come from the leader, and a follower's own readers ask it for an index.

use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use futures::{Stream, StreamExt};
use minder_raft_store::{LogId, TypeConfig};
use openraft::raft::AppendEntriesRequest;
use tokio::time::{Instant, Sleep, sleep};

/// How long news of a commit wait for entries. Longer than a single writer's pause between two writes on any disk that
/// serves, shorter than anybody notices who watches through a follower.
const PATIENCE: Duration = Duration::from_millis(5);

type Request = AppendEntriesRequest<TypeConfig>;

/// `requests` of one stream of entries, with fewer that say nothing but what is committed.
pub struct Companions<S> {
    requests: S,
    /// The last entry that was sent, once a first request was.
    sent: Option<Option<LogId>>,
    waiting: Option<Request>,
    until: Pin<Box<Sleep>>,
    /// `requests` have ended. openraft's must not be asked again then.
    ended: bool,
}

impl<S> Companions<S> {
    /// Lets news of commits wait.
    pub fn new(requests: S) -> Self {
        Self { requests, sent: None, waiting: None, until: Box::pin(sleep(Duration::ZERO)), ended: false }
    }

    /// The first request of a stream may be a question (does the log match?); a later one without entries that begins
    /// where the last one ended has no news but the commit.
    fn is_only_commit(&self, request: &Request) -> bool {
        request.entries.is_empty() && self.sent.is_some_and(|sent| sent == request.prev_log_id)
    }

    fn send(&mut self, request: Request) -> Poll<Option<Request>> {
        // What waited told of an earlier commit than this one does, and is acknowledged with it.
        self.waiting = None;
        self.sent = Some(request.entries.last().map(|entry| entry.log_id).or(request.prev_log_id));
        Poll::Ready(Some(request))
    }
}

impl<S: Stream<Item = Request> + Unpin> Stream for Companions<S> {
    type Item = Request;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Request>> {
        let this = self.get_mut();
        while !this.ended {
            match this.requests.poll_next_unpin(context) {
                Poll::Ready(Some(request)) if this.is_only_commit(&request) => {
                    if this.waiting.replace(request).is_none() {
                        this.until.as_mut().reset(Instant::now() + PATIENCE);
                    }
                }
                Poll::Ready(Some(request)) => return this.send(request),
                Poll::Ready(None) => this.ended = true,
                Poll::Pending => break,
            }
        }
        if this.ended {
            return Poll::Ready(this.waiting.take());
        }
        match this.waiting.take() {
            Some(request) if this.until.as_mut().poll(context).is_ready() => this.send(request),
            waiting => {
                this.waiting = waiting;
                Poll::Pending
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::{FutureExt, SinkExt, channel::mpsc};
    use minder_proto::v1;
    use minder_raft_store::{Entry, Vote};
    use openraft::EntryPayload;

    use super::{super::wire, *};

    fn id(index: u64) -> LogId {
        wire::log_id_from_wire(v1::LogId { term: 1, node: 1, index })
    }

    /// Entries after `previous` up to `last`, with word that everything up to `commit` is committed.
    fn request(previous: u64, last: u64, commit: u64) -> Request {
        let entry = |index| Entry { log_id: id(index), payload: EntryPayload::Blank };
        Request {
            vote: Vote::new_committed(1, 1),
            prev_log_id: Some(id(previous)),
            leader_commit: Some(id(commit)),
            entries: (previous + 1..=last).map(entry).collect(),
        }
    }

    fn told(request: Option<Request>) -> Option<(usize, u64)> {
        request.map(|request| (request.entries.len(), request.leader_commit.map_or(0, |commit| commit.index)))
    }

    #[tokio::test]
    async fn a_commit_travels_with_the_next_entries_or_alone_after_a_while() {
        let (mut requests, received) = mpsc::channel(8);
        let mut companions = Companions::new(received);
        requests.send(request(4, 4, 3)).await.unwrap();
        assert_eq!(told(companions.next().await), Some((0, 3)), "a stream's first request is a question");
        requests.send(request(4, 6, 4)).await.unwrap();
        assert_eq!(told(companions.next().await), Some((2, 4)));
        requests.send(request(6, 6, 5)).await.unwrap();
        assert!(companions.next().now_or_never().is_none(), "news of a commit wait");
        requests.send(request(6, 7, 6)).await.unwrap();
        assert_eq!(told(companions.next().await), Some((1, 6)), "and travel with entries");
        requests.send(request(7, 7, 7)).await.unwrap();
        assert_eq!(told(companions.next().await), Some((0, 7)), "or alone");
        requests.send(request(7, 7, 7)).await.unwrap();
        drop(requests);
        assert_eq!(told(companions.next().await), Some((0, 7)), "nothing is left behind");
        assert!(companions.next().await.is_none());
    }

    /// openraft's streams panic when they are asked after their end, which ended the task of a whole connection when a
    /// manager was removed.
    #[tokio::test]
    async fn a_stream_that_has_ended_is_not_asked_again() {
        let requests =
            futures::stream::unfold(1, |next| async move { (next < 3).then(|| (request(4, 4, next), next + 1)) });
        let mut companions = Companions::new(Box::pin(requests));
        assert_eq!(told(companions.next().await), Some((0, 1)));
        assert_eq!(told(companions.next().await), Some((0, 2)), "what waited comes at the end");
        assert!(companions.next().await.is_none());
    }
}
