//! Waiting for what happens elsewhere: with a deadline, and with words for what did not happen.

use std::time::Duration;

/// Nothing that is waited for here takes more than seconds; this is for machines with far too much to do.
pub const PATIENCE: Duration = Duration::from_secs(90);
/// How often is looked. Short, since tests are made of waiting; a look is one local request.
const INTERVAL: Duration = Duration::from_millis(50);

/// Looks until there is something to return. `look` says what it saw instead, which is what the test fails with.
pub async fn until<T>(what: &str, look: impl AsyncFnMut() -> Result<T, String>) -> T {
    within(PATIENCE, what, look).await
}

/// [`until`], with a deadline of its own.
pub async fn within<T>(patience: Duration, what: &str, mut look: impl AsyncFnMut() -> Result<T, String>) -> T {
    let begun = tokio::time::Instant::now();
    loop {
        match look().await {
            Ok(seen) => return seen,
            Err(instead) if begun.elapsed() > patience => {
                panic!("waited {patience:?} for {what}; at last: {instead}")
            }
            Err(_) => tokio::time::sleep(INTERVAL).await,
        }
    }
}
