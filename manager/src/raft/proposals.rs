//! Proposals on their way to a decision: how many there may be, and how those that come together go together.
//!
//! A few go to the core as they come, so that one's sync overlaps the other's messages. Where many write, they gather while
//! a round is undecided, and then all of them are the next one: one append, one sync, one message a follower, one step of the
//! state. The cost of a round is then shared by everybody who came during the one before, as in a database's group commit.

use std::time::Duration;

use futures::{FutureExt, Stream, StreamExt, stream::FuturesUnordered};
use minder_raft_store::{Raft, SharedProposal, TypeConfig};
use minder_state::Reply;
use openraft::{
    errors::{ClientWriteError, Fatal, RaftError},
    raft::WriteResult,
};
use tokio::sync::{Semaphore, SemaphorePermit, mpsc, oneshot};

use super::error::ProposeError;

/// Proposals in flight: at 20,000 a second and 20 ms each there are 400; ten times that is a queue nobody should wait
/// in, so the next one is told so at once.
pub(super) const PROPOSALS_MAX: usize = 4_096;
/// With so many undecided, the new ones included, nothing gathers: four and sixteen writers are 15 % slower in rounds, from
/// 64 on they are as much faster.
const FREELY_MAX: usize = 16;
/// A round has no more bytes than this, unless its first proposal alone has them: the core does nothing else meanwhile.
const ROUND_BYTES_MAX: usize = 1024 * 1024;
/// Where no quorum decides, rounds hold each other up for no longer than this.
const ROUND_PATIENCE: Duration = Duration::from_millis(100);

/// What has become of a proposal.
pub(super) type Written = Result<Option<Reply>, RaftError<TypeConfig, ClientWriteError<TypeConfig>>>;

/// A proposal and whoever waits for its answer.
struct Waiting {
    proposal: SharedProposal,
    answer: oneshot::Sender<Written>,
}

/// The proposals of one manager.
pub(super) struct Proposals {
    places: Semaphore,
    /// And KiB of them.
    kib: Semaphore,
    mib_max: usize,
    waiting: mpsc::UnboundedSender<Waiting>,
}

/// The other end of [`Proposals`].
pub(super) struct Queue {
    waiting: mpsc::UnboundedReceiver<Waiting>,
}

impl Proposals {
    /// Takes so many MiB at once. What is written waits until the queue is handed to [`Queue::propose`].
    pub(super) fn new(mib_max: usize) -> (Self, Queue) {
        let (waiting, queue) = mpsc::unbounded_channel();
        let (places, kib) = (Semaphore::new(PROPOSALS_MAX), Semaphore::new(mib_max * 1_024));
        (Self { places, kib, mib_max, waiting }, Queue { waiting: queue })
    }

    /// Room for a proposal of so many bytes, until it is dropped.
    pub(super) fn admit(&self, bytes: usize) -> Result<[SemaphorePermit<'_>; 2], ProposeError> {
        let too_busy = || ProposeError::TooBusy { mib: self.mib_max };
        let kib = u32::try_from(bytes / 1_024 + 1).map_err(|_| too_busy())?;
        let place = self.places.try_acquire().map_err(|_| too_busy())?;
        let room = self.kib.try_acquire_many(kib).map_err(|_| too_busy())?;
        Ok([place, room])
    }

    /// Those without an answer yet.
    pub(super) fn in_flight(&self) -> usize {
        PROPOSALS_MAX.saturating_sub(self.places.available_permits())
    }

    /// Proposes and waits for the answer. A caller who goes away before it was proposed takes it with him.
    pub(super) async fn write(&self, proposal: SharedProposal) -> Written {
        let (answer, written) = oneshot::channel();
        // When nobody takes it the answer is dropped with it.
        drop(self.waiting.send(Waiting { proposal, answer }));
        written.await.unwrap_or(Err(RaftError::Fatal(Fatal::Stopped)))
    }
}

impl Queue {
    /// Proposes what comes, until its [`Proposals`] are gone.
    pub(super) async fn propose(mut self, raft: Raft) {
        let mut gathered = Vec::new();
        let (mut rounds, mut undecided) = (FuturesUnordered::new(), 0);
        loop {
            // Both may be dropped at their await.
            tokio::select! {
                biased;
                Some(decided) = rounds.next() => undecided -= decided,
                more = self.waiting.recv_many(&mut gathered, PROPOSALS_MAX) => if more == 0 { return },
            }
            if may_go(undecided, gathered.len()) {
                // The others were given up before they were proposed.
                gathered.retain(|waiting| !waiting.answer.is_closed());
            }
            while may_go(undecided, gathered.len()) {
                let (proposals, answers) = take_round(&mut gathered);
                let count = answers.len();
                match raft.client_write_many(proposals).await {
                    Ok(written) => {
                        let answered = tokio::spawn(answer(written, answers));
                        undecided += count;
                        // One that is not decided in time goes on without being waited for.
                        rounds.push(tokio::time::timeout(ROUND_PATIENCE, answered).map(move |_| count));
                    }
                    Err(fatal) => {
                        answers.into_iter().for_each(|answer| tell(answer, Err(RaftError::Fatal(fatal.clone()))))
                    }
                }
            }
        }
    }
}

/// Whether those that wait go now.
fn may_go(undecided: usize, waiting: usize) -> bool {
    waiting > 0 && (undecided == 0 || undecided + waiting <= FREELY_MAX)
}

/// The first of those that wait, as many as one round may have.
fn take_round(gathered: &mut Vec<Waiting>) -> (Vec<SharedProposal>, Vec<oneshot::Sender<Written>>) {
    let mut bytes = 0;
    let mut fits = |waiting: &Waiting| {
        let first = bytes == 0;
        bytes += waiting.proposal.bytes().len();
        first || bytes <= ROUND_BYTES_MAX
    };
    let count = gathered.iter().take_while(|waiting| fits(waiting)).count();
    gathered.drain(..count).map(|waiting| (waiting.proposal, waiting.answer)).unzip()
}

/// Passes the answers of one round on.
async fn answer(
    written: impl Stream<Item = Result<WriteResult<TypeConfig>, Fatal<TypeConfig>>> + Unpin,
    answers: Vec<oneshot::Sender<Written>>,
) {
    // It ends with the core, however many still wait, and must not be asked once more then.
    let mut written = written.fuse();
    for answer in answers {
        let written = match written.next().await {
            Some(Ok(written)) => written.map(|written| written.response).map_err(RaftError::APIError),
            Some(Err(fatal)) => Err(RaftError::Fatal(fatal)),
            None => Err(RaftError::Fatal(Fatal::Stopped)),
        };
        tell(answer, written);
    }
}

/// Whoever has gone meanwhile said that the outcome is unknown.
fn tell(answer: oneshot::Sender<Written>, written: Written) {
    drop(answer.send(written));
}

#[cfg(test)]
mod tests {
    use minder_model::RequestId;
    use minder_state::{Command, Expect, Proposal};

    use super::*;

    fn waiting(actor_bytes: usize) -> Waiting {
        let request = RequestId::new("request").unwrap();
        let actor = "a".repeat(actor_bytes);
        let proposal =
            Proposal { request, time_ms: 0, actor, expect: Expect::Anything, command: Command::Delete(Vec::new()) };
        Waiting { proposal: proposal.into(), answer: oneshot::channel().0 }
    }

    #[test]
    fn a_few_go_at_once_and_many_wait_for_the_round_before_them() {
        let cases = [
            ((0, 0), false),
            ((0, 1), true),
            ((0, 1_000), true),
            ((15, 1), true),
            ((15, 2), false),
            ((1, 1_000), false),
            ((1_000, 1), false),
        ];
        for ((undecided, waiting), expected) in cases {
            assert_eq!(may_go(undecided, waiting), expected, "{undecided} undecided, {waiting} waiting");
        }
    }

    #[test]
    fn a_round_ends_before_it_has_too_many_bytes_and_is_never_empty() {
        let half = ROUND_BYTES_MAX / 2;
        for (sizes, expected) in [
            (vec![1, 1, 1], 3),
            (vec![half, half / 2, half], 2),
            (vec![2 * ROUND_BYTES_MAX, 1], 1),
            (vec![1, 2 * ROUND_BYTES_MAX], 1),
        ] {
            let mut gathered: Vec<Waiting> = sizes.iter().map(|bytes| waiting(*bytes)).collect();
            let (proposals, answers) = take_round(&mut gathered);
            assert_eq!((proposals.len(), answers.len(), gathered.len()), (expected, expected, sizes.len() - expected));
        }
    }

    #[tokio::test]
    async fn too_many_bytes_are_refused_and_room_comes_back() {
        let (proposals, _queue) = Proposals::new(5);
        let room = proposals.admit(4 << 20).unwrap();
        assert!(matches!(proposals.admit(1 << 20), Err(ProposeError::TooBusy { mib: 5 })));
        assert_eq!(proposals.in_flight(), 1);
        drop(room);
        assert!(proposals.admit(1 << 20).is_ok());
    }

    /// A manager that stopped with a round under way panicked in the task of its answers.
    #[tokio::test]
    async fn everybody_is_told_when_the_core_ends_in_a_round() {
        let (answers, told): (Vec<_>, Vec<_>) = (0..3).map(|_| oneshot::channel()).unzip();
        let ends = futures::stream::unfold(Some(()), |left| async move { left.map(|()| (Err(Fatal::Stopped), None)) });
        answer(Box::pin(ends), answers).await;
        for told in told {
            assert!(matches!(told.await, Ok(Err(RaftError::Fatal(Fatal::Stopped)))));
        }
    }

    #[tokio::test]
    async fn a_write_whose_queue_is_gone_is_told_so() {
        let (proposals, queue) = Proposals::new(5);
        drop(queue);
        assert!(matches!(proposals.write(waiting(1).proposal).await, Err(RaftError::Fatal(Fatal::Stopped))));
    }
}
