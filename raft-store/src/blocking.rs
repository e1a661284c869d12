//! Work that takes a disk's time, kept off the threads that answer.

use std::io;

use tokio::runtime::{Handle, RuntimeFlavor};

/// Runs `work` where it holds nobody up. A runtime of one thread does it in place: it is a test's or a simulation's, and
/// a second thread would make the order of things a matter of chance.
pub async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    match Handle::current().runtime_flavor() {
        RuntimeFlavor::CurrentThread => work(),
        _ => tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?,
    }
}

/// Runs `work`, which takes a few milliseconds of a processor, where it is, and lets everything else of this thread's go
/// on at another one.
pub fn in_place<T>(work: impl FnOnce() -> T) -> T {
    match Handle::try_current().map(|runtime| runtime.runtime_flavor()) {
        Ok(RuntimeFlavor::MultiThread) => tokio::task::block_in_place(work),
        Ok(_) | Err(_) => work(),
    }
}
