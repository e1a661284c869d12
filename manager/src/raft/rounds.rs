//! Rounds that everybody shares who waits for one: of ten thousand sessions that must confirm leadership at once, each gets
//! a round that began after it asked, and there are a few of them.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::{runtime::Handle, sync::oneshot, time::timeout};

/// Whoever waits longer than this for the round before to end goes by itself: its answer may have been lost, and the next
/// one need not be.
const PATIENCE: Duration = Duration::from_millis(200);

/// At most one round under way, but for those whose patience is over, and who waits for the next one.
pub struct Rounds<T>(Arc<Mutex<Turns<T>>>);

struct Turns<T> {
    under_way: bool,
    next: Vec<oneshot::Sender<T>>,
}

impl<T> Default for Rounds<T> {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(Turns { under_way: false, next: Vec::new() })))
    }
}

impl<T: Clone + Send + 'static> Rounds<T> {
    /// The answer of a round that begins after this call. Who is alone waits for nobody.
    pub async fn join<F>(&self, round: impl Fn() -> F + Clone + Send + 'static) -> T
    where
        F: Future<Output = T> + Send + 'static,
    {
        let next = {
            let mut turns = crate::lock(&self.0);
            match std::mem::replace(&mut turns.under_way, true) {
                false => None,
                true => {
                    let (answer, answered) = oneshot::channel();
                    turns.next.push(answer);
                    Some(answered)
                }
            }
        };
        match next {
            None => {
                let _turn = Turn { turns: self.0.clone(), round: round.clone() };
                round().await
            }
            Some(answered) => match timeout(PATIENCE, answered).await {
                Ok(Ok(answer)) => answer,
                Ok(Err(_)) | Err(_) => round().await,
            },
        }
    }
}

/// A round is under way. When this is dropped, be it because nobody wants its answer any more, the next one begins.
struct Turn<T, R, F>
where
    T: Clone + Send + 'static,
    R: Fn() -> F + Clone + Send + 'static,
    F: Future<Output = T> + Send + 'static,
{
    turns: Arc<Mutex<Turns<T>>>,
    round: R,
}

impl<T, R, F> Drop for Turn<T, R, F>
where
    T: Clone + Send + 'static,
    R: Fn() -> F + Clone + Send + 'static,
    F: Future<Output = T> + Send + 'static,
{
    fn drop(&mut self) {
        let waiting = {
            let mut turns = crate::lock(&self.turns);
            turns.under_way = !turns.next.is_empty();
            std::mem::take(&mut turns.next)
        };
        // Without a runtime the program is about to end.
        if let (false, Ok(runtime)) = (waiting.is_empty(), Handle::try_current()) {
            let turn = Turn { turns: self.turns.clone(), round: self.round.clone() };
            runtime.spawn(async move {
                let answer = (turn.round)().await;
                // Whoever has gone needs no answer.
                waiting.into_iter().for_each(|waits| drop(waits.send(answer.clone())));
                drop(turn);
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use futures::future::join_all;
    use tokio::sync::{Notify, watch};

    use super::*;

    /// Rounds that begin and end as the test says.
    #[derive(Clone)]
    struct Counted {
        begun: Arc<AtomicU64>,
        end: watch::Sender<u64>,
    }

    impl Counted {
        fn new() -> Self {
            Self { begun: Arc::default(), end: watch::channel(0).0 }
        }

        async fn round(self) -> u64 {
            let number = self.begun.fetch_add(1, Ordering::SeqCst) + 1;
            let _ = self.end.subscribe().wait_for(|ended| *ended >= number).await;
            number
        }
    }

    #[tokio::test]
    async fn ten_thousand_who_wait_share_the_round_after_the_one_under_way() {
        let (rounds, counted) = (Arc::new(Rounds::default()), Counted::new());
        let join = |_| {
            let (rounds, counted) = (rounds.clone(), counted.clone());
            tokio::spawn(async move { rounds.join(move || counted.clone().round()).await })
        };
        let first = join(0);
        while counted.begun.load(Ordering::SeqCst) == 0 {
            tokio::task::yield_now().await;
        }
        let others: Vec<_> = (0..10_000).map(join).collect();
        while crate::lock(&rounds.0).next.len() < 10_000 {
            tokio::task::yield_now().await;
        }
        counted.end.send_replace(2);
        assert_eq!(first.await.unwrap(), 1);
        let answers = join_all(others).await;
        assert!(answers.into_iter().all(|answer| answer.unwrap() == 2), "a round that began after they asked");
        assert_eq!(counted.begun.load(Ordering::SeqCst), 2);
    }

    #[tokio::test]
    async fn a_round_that_is_given_up_holds_up_nobody() {
        let (rounds, counted, asked) = (Arc::new(Rounds::default()), Counted::new(), Arc::new(Notify::new()));
        let first = {
            let (rounds, counted, asked) = (rounds.clone(), counted.clone(), asked.clone());
            tokio::spawn(async move {
                asked.notify_one();
                rounds.join(move || counted.clone().round()).await
            })
        };
        asked.notified().await;
        while counted.begun.load(Ordering::SeqCst) == 0 {
            tokio::task::yield_now().await;
        }
        first.abort();
        counted.end.send_replace(2);
        assert_eq!(rounds.join(move || counted.clone().round()).await, 2);
    }
}
