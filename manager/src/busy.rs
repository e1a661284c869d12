//! Saying no in time. What could grow without a bound is counted here, and the next one is told to come back later, with
//! the time after which to come: a queue that nobody should wait in only hides overload.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use futures::{Stream, StreamExt};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tonic::{Status, metadata::MetadataValue};

use crate::control::Answers;

/// Watches, events and output that are followed at once through this manager: each holds a task, a queue and what it
/// last sent. Far more than people have screens.
pub const STREAMS_MAX_DEFAULT: usize = 1_024;
/// First assignments under way to slaves at once. One may be a megabyte of run specs with its assignment, so this bounds
/// what all of them hold to some 100 MiB; a slave has taken its own in tens of milliseconds.
const FIRST_SYNCS_MAX: usize = 64;
/// What whoever is refused is asked to wait: a few commits, after which there is room again or much more is wrong.
const RETRY_AFTER: Duration = Duration::from_millis(100);
/// The name by which gRPC's own retry design tells it.
const RETRY_AFTER_KEY: &str = "grpc-retry-pushback-ms";

/// Places that can all be taken.
pub struct Places {
    streams: Arc<Semaphore>,
    streams_max: usize,
    first_syncs: Arc<Semaphore>,
    refused: AtomicU64,
}

impl Places {
    /// All free.
    pub fn new(streams_max: usize) -> Self {
        Self {
            streams: Arc::new(Semaphore::new(streams_max)),
            streams_max,
            first_syncs: Arc::new(Semaphore::new(FIRST_SYNCS_MAX)),
            refused: AtomicU64::new(0),
        }
    }

    /// Lets a stream of answers keep a place for as long as it lives, or refuses it.
    pub fn stream<T: Send + 'static>(
        &self,
        opened: Result<impl Stream<Item = Result<T, Status>> + Send + 'static, Status>,
    ) -> Result<Answers<T>, Status> {
        let place = self.streams.clone().try_acquire_owned();
        let place = place.map_err(|_| {
            self.refuse(&format!("{} watches and logs are open on this manager (streams_max)", self.streams_max))
        })?;
        let stream = opened?;
        Ok(Box::pin(stream.map(move |item| {
            let _place = &place;
            item
        })))
    }

    /// Waits for a place to send a slave its first assignment. First come, first served; there are as many in the queue
    /// as slaves have sessions.
    pub async fn first_sync(&self) -> Option<OwnedSemaphorePermit> {
        // Never closed.
        self.first_syncs.clone().acquire_owned().await.ok()
    }

    /// A refusal that says when to come back.
    pub fn refuse(&self, what: &str) -> Status {
        self.refused.fetch_add(1, Ordering::Relaxed);
        let mut status =
            Status::resource_exhausted(format!("too busy: {what}; nothing was changed, try again in a moment"));
        status.metadata_mut().insert(RETRY_AFTER_KEY, MetadataValue::from(RETRY_AFTER.as_millis() as u64));
        status
    }

    /// How many were refused.
    pub fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_have_places_and_give_them_back() {
        let places = Places::new(3);
        let open = || places.stream(Ok(futures::stream::pending::<Result<u8, Status>>()));
        let mut streams: Vec<_> = (0..3).map(|_| open().ok().unwrap()).collect();
        let refused = open().err().unwrap();
        assert_eq!(refused.code(), tonic::Code::ResourceExhausted);
        assert_eq!(refused.metadata().get(RETRY_AFTER_KEY).unwrap(), "100");
        assert_eq!(places.refused(), 1);
        streams.pop();
        assert!(open().is_ok());
    }
}
