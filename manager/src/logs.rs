//! Output on its way from slaves to the users who asked for it. The leader orders it over a session; the slave pushes
//! it on a stream of its own; HTTP/2 flow control carries a slow reader's pace back to the slave's file reader.

use std::{collections::BTreeMap, sync::Mutex};

use minder_proto::v1;
use tokio::sync::mpsc;
use tokio_stream::StreamExt;
use tonic::{Status, Streaming};

/// Pieces (64 KiB at most) that wait for one reader; beyond it the slave waits.
const QUEUE: usize = 8;

/// Whoever waits for output, by the order's id.
#[derive(Default)]
pub struct LogBroker {
    waiting: Mutex<BTreeMap<String, mpsc::Sender<v1::LogPush>>>,
}

impl LogBroker {
    /// Draws an order's id and waits for its output.
    pub fn expect(&self) -> (String, mpsc::Receiver<v1::LogPush>) {
        let id = uuid::Uuid::now_v7().to_string();
        let (sender, receiver) = mpsc::channel(QUEUE);
        crate::lock(&self.waiting).insert(id.clone(), sender);
        (id, receiver)
    }

    /// Whether the slave has not begun to push this order's output yet.
    pub fn is_waiting(&self, id: &str) -> bool {
        crate::lock(&self.waiting).contains_key(id)
    }

    /// Nobody waits for this order's output any more.
    pub fn forget(&self, id: &str) {
        crate::lock(&self.waiting).remove(id);
    }

    /// Takes in one slave's output until it ends or nobody reads it.
    pub async fn take_in(&self, mut pushes: Streaming<v1::LogPush>) -> Result<(), Status> {
        let Some(first) = pushes.next().await.transpose()? else { return Ok(()) };
        let reader = crate::lock(&self.waiting).remove(&first.id);
        let Some(reader) = reader else {
            return Err(Status::not_found("nobody waits for this output"));
        };
        let mut next = Some(first);
        while let Some(push) = next {
            if reader.send(push).await.is_err() {
                return Err(Status::cancelled("the reader is gone"));
            }
            next = tokio::select! {
                // Both may be dropped: the stream keeps what it holds, and a closed reader stays closed.
                push = pushes.next() => push.transpose()?,
                () = reader.closed() => return Err(Status::cancelled("the reader is gone")),
            };
        }
        Ok(())
    }
}
