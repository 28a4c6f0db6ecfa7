//! How much is asked of one host: few requests at once, and none before it said.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use super::access::Id;

/// Requests at once to one host, of all policies. Registries count requests by address; a thousand policies that poll at
/// once would spend the quota of a whole site.
const AT_ONCE: usize = 4;
/// Hosts and waits that are remembered. Names come from policies and answers; nobody has so many registries.
const MAX_KEPT: usize = 4096;

/// What is known of the hosts.
#[derive(Debug, Default)]
pub(super) struct Hosts {
    slots: Mutex<HashMap<String, Arc<Semaphore>>>,
    /// Not before, for whom: a limit is one of an account or of everybody without one. Of one account it must not hold up
    /// another.
    waits: Mutex<HashMap<(String, Id), Instant>>,
}

impl Hosts {
    /// How long requests to a host must wait still.
    pub(super) fn wait(&self, host: &str, who: Id) -> Option<Duration> {
        let mut waits = self.waits.lock();
        let key = (host.to_owned(), who);
        let left = waits.get(&key)?.saturating_duration_since(Instant::now());
        if left.is_zero() {
            waits.remove(&key);
            return None;
        }
        Some(left)
    }

    /// Keeps requests to a host back for so long.
    pub(super) fn set_wait(&self, host: &str, who: Id, wait: Duration) {
        let now = Instant::now();
        let mut waits = self.waits.lock();
        if waits.len() >= MAX_KEPT {
            waits.retain(|_, until| *until > now);
        }
        if waits.len() < MAX_KEPT {
            waits.insert((host.to_owned(), who), now + wait);
        }
    }

    /// A place among the requests to a host; waits for one.
    pub(super) async fn slot(&self, host: &str) -> OwnedSemaphorePermit {
        let slots = {
            let mut all = self.slots.lock();
            if all.len() >= MAX_KEPT {
                // Whoever holds a place holds its semaphore, too.
                all.retain(|_, slots| Arc::strong_count(slots) > 1);
            }
            Arc::clone(all.entry(host.to_owned()).or_insert_with(|| Arc::new(Semaphore::new(AT_ONCE))))
        };
        // Never closed, hence never an error.
        slots.acquire_owned().await.expect("the semaphore is never closed")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ME: Id = [1; 32];
    const YOU: Id = [2; 32];

    #[tokio::test(start_paused = true)]
    async fn waits() {
        let hosts = Hosts::default();
        assert_eq!(hosts.wait("a", ME), None);
        hosts.set_wait("a", ME, Duration::from_secs(30));
        assert_eq!(hosts.wait("a", ME), Some(Duration::from_secs(30)));
        assert_eq!(hosts.wait("a", YOU), None, "another account's");
        assert_eq!(hosts.wait("b", ME), None, "another host");
        tokio::time::advance(Duration::from_secs(29)).await;
        assert_eq!(hosts.wait("a", ME), Some(Duration::from_secs(1)));
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(hosts.wait("a", ME), None);
        hosts.set_wait("a", ME, Duration::ZERO);
        assert_eq!(hosts.wait("a", ME), None);
    }

    #[tokio::test(start_paused = true)]
    async fn few_at_once() {
        let hosts = Hosts::default();
        let mut held = Vec::new();
        for _ in 0..AT_ONCE {
            held.push(hosts.slot("a").await);
        }
        let more = tokio::time::timeout(Duration::from_secs(1), hosts.slot("a")).await;
        assert!(more.is_err(), "no more than {AT_ONCE} at once");
        drop(hosts.slot("b").await);
        held.pop();
        drop(hosts.slot("a").await);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_kept_is_bounded() {
        let hosts = Hosts::default();
        let held = hosts.slot("held").await;
        for n in 0..2 * MAX_KEPT {
            drop(hosts.slot(&n.to_string()).await);
            hosts.set_wait(&n.to_string(), ME, Duration::from_secs(30));
        }
        assert!(hosts.slots.lock().len() <= MAX_KEPT && hosts.waits.lock().len() <= MAX_KEPT);
        assert!(hosts.slots.lock().contains_key("held"));
        drop(held);
    }
}
