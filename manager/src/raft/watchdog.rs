//! Whether an entry stream's requests are answered. openraft itself waits for replies for ever, and a follower that
//! hangs with its connection open would otherwise hold its place in the leader's books.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use futures::{Stream, StreamExt};
use minder_proto::v1;
use minder_raft_store::TypeConfig;
use openraft::{
    errors::{RPCError, Unreachable},
    raft::StreamAppendResult,
};

use super::{network::failed, wire};

/// A request that stays unanswered for between one and two of these ends the stream. A healthy peer answers when its
/// disk has synced; a slow disk takes tens of milliseconds.
const PATIENCE: Duration = Duration::from_secs(1);

/// How many requests were sent, and whether that is all there can be.
#[derive(Debug, Clone, Default)]
pub struct Sent {
    requests: Arc<AtomicU64>,
    gap: Arc<AtomicBool>,
}

impl Sent {
    /// Counts each call of `convert`.
    pub fn count<A, B, F: Fn(A) -> B>(&self, convert: F) -> impl Fn(A) -> B + use<A, B, F> {
        let sent = self.requests.clone();
        move |request| {
            sent.fetch_add(1, Ordering::Relaxed);
            convert(request)
        }
    }

    /// The requests end because what comes next is not in the log any more.
    pub fn note_gap(&self) {
        self.gap.store(true, Ordering::Relaxed);
    }

    /// Whether they ended so.
    pub fn has_gap(&self) -> bool {
        self.gap.load(Ordering::Relaxed)
    }
}

type Item = Result<StreamAppendResult<TypeConfig>, RPCError<TypeConfig>>;

/// The replies, ended by an error when they stay away.
pub fn watch(replies: tonic::Streaming<v1::AppendReply>, sent: Sent) -> impl Stream<Item = Item> + Send {
    futures::stream::unfold(Some(Watched { replies, sent, received: 0, overdue: false }), Watched::next)
}

struct Watched {
    replies: tonic::Streaming<v1::AppendReply>,
    sent: Sent,
    received: u64,
    /// At the last look something was unanswered, and nothing has been answered since.
    overdue: bool,
}

impl Watched {
    async fn next(watched: Option<Self>) -> Option<(Item, Option<Self>)> {
        let mut watched = watched?;
        loop {
            match tokio::time::timeout(PATIENCE, watched.replies.next()).await {
                Ok(Some(Ok(reply))) => {
                    watched.received += 1;
                    watched.overdue = false;
                    return match wire::append_result_from_wire(reply) {
                        Ok(result) => Some((Ok(result), Some(watched))),
                        Err(status) => Some((Err(failed(&status)), None)),
                    };
                }
                Ok(Some(Err(status))) => return Some((Err(failed(&status)), None)),
                Ok(None) if watched.sent.has_gap() => {
                    let error = Unreachable::from_string("the entries that it needs next were purged");
                    return Some((Err(error.into()), None));
                }
                Ok(None) => return None,
                Err(_) => {
                    let unanswered = watched.sent.requests.load(Ordering::Relaxed) > watched.received;
                    if unanswered && watched.overdue {
                        let error = Unreachable::from_string("entries stay unanswered");
                        return Some((Err(error.into()), None));
                    }
                    watched.overdue = unanswered;
                }
            }
        }
    }
}
