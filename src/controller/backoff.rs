//! Pauses after failures, per object: kube's runtime is never told of a success, so it can't do this for us.

use std::collections::HashMap;
use std::hash::Hash;
use std::time::Duration;

use parking_lot::Mutex;

use crate::clock::Clock;

/// First pause.
const MIN: Duration = Duration::from_millis(200);
/// Longest pause: an API server that is back finds its objects looked at within a minute.
const MAX: Duration = Duration::from_secs(60);

/// Failures in a row, by object.
#[derive(Debug)]
pub struct Backoff<K> {
    failures: Mutex<HashMap<K, u32>>,
}

impl<K: Eq + Hash> Default for Backoff<K> {
    fn default() -> Self {
        Self { failures: Mutex::default() }
    }
}

impl<K: Eq + Hash> Backoff<K> {
    /// Counts a failure; the pause before the next try, without jitter.
    pub fn failed(&self, key: K) -> Duration {
        let mut failures = self.failures.lock();
        let count = failures.entry(key).or_default();
        let pause = MIN.saturating_mul(1 << (*count).min(16)).min(MAX);
        *count = count.saturating_add(1);
        pause
    }

    /// Forgets the failures of an object that went well, or that is gone.
    pub fn succeeded(&self, key: &K) {
        self.failures.lock().remove(key);
    }
}

/// `pause`, up to a fifth longer, so that objects which failed together don't come back together.
#[must_use]
pub fn jittered(clock: &Clock, pause: Duration) -> Duration {
    clock.jittered(pause, 0.2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grows_and_forgets() {
        let backoff = Backoff::default();
        let pauses: Vec<u64> = (0..10).map(|_| backoff.failed("a").as_millis() as u64).collect();
        assert_eq!(pauses, [200, 400, 800, 1600, 3200, 6400, 12800, 25600, 51200, 60000]);
        assert_eq!(backoff.failed("b"), MIN, "objects don't share their failures");
        backoff.succeeded(&"a");
        assert_eq!(backoff.failed("a"), MIN);
    }
}
