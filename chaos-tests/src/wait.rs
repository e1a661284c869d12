//! Waiting for a condition with a deadline, never sleeping and hoping.

use std::time::{Duration, Instant};

/// A condition that does not come true within this has failed.
const DEADLINE: Duration = Duration::from_secs(30);
/// It is looked at this often.
const LOOK: Duration = Duration::from_millis(10);

/// Waits until `condition` gives something.
pub async fn eventually<T, F: Future<Output = Option<T>>>(what: &str, condition: impl FnMut() -> F) -> T {
    eventually_within(DEADLINE, what, condition).await
}

/// Waits until `condition` gives something, at most this long.
pub async fn eventually_within<T, F: Future<Output = Option<T>>>(
    deadline: Duration,
    what: &str,
    mut condition: impl FnMut() -> F,
) -> T {
    let begin = Instant::now();
    loop {
        if let Some(found) = condition().await {
            return found;
        }
        assert!(begin.elapsed() < deadline, "not within {deadline:?}: {what}");
        tokio::time::sleep(LOOK).await;
    }
}
