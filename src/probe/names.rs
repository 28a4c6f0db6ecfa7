//! Names to addresses: one resolver for all checks. Decides nothing about the addresses.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use parking_lot::Mutex;
use tokio::sync::Semaphore;
use tokio::time::Instant;

/// Lookups at once. The system's resolver blocks a thread for each, for many seconds where a server is silent.
const LOOKUPS_AT_ONCE: usize = 32;
/// A thousand devices behind one name are one lookup, and a name that moves is followed within seconds.
const KEPT_FOR: Duration = Duration::from_secs(5);
/// Names that are kept. Beyond, all are asked for anew.
const MAX_KEPT: usize = 4096;

type Lookup = dyn Fn(String) -> BoxFuture<'static, io::Result<Vec<IpAddr>>> + Send + Sync;

/// A resolver. Clones share it.
#[derive(Clone)]
pub struct Names(Arc<Inner>);

struct Kept {
    until: Instant,
    addresses: Vec<IpAddr>,
}

struct Inner {
    lookup: Box<Lookup>,
    slots: Semaphore,
    kept: Mutex<HashMap<Box<str>, Kept>>,
}

impl fmt::Debug for Names {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Names").finish_non_exhaustive()
    }
}

impl Names {
    /// As the system resolves them.
    #[must_use]
    pub fn system() -> Self {
        Self::by(|name| {
            Box::pin(async move {
                Ok(tokio::net::lookup_host((name.as_str(), 0)).await?.map(|address| address.ip()).collect())
            })
        })
    }

    /// In a way of one's own, for tests.
    pub fn by(lookup: impl Fn(String) -> BoxFuture<'static, io::Result<Vec<IpAddr>>> + Send + Sync + 'static) -> Self {
        Self(Arc::new(Inner {
            lookup: Box::new(lookup),
            slots: Semaphore::new(LOOKUPS_AT_ONCE),
            kept: Mutex::default(),
        }))
    }

    /// The addresses of a name, as they were at most 5 s ago.
    ///
    /// # Errors
    /// As the system has them. They are not kept.
    pub async fn resolve(&self, name: &str) -> io::Result<Vec<IpAddr>> {
        let kept = || match self.0.kept.lock().get(name) {
            Some(kept) if kept.until > Instant::now() => Some(kept.addresses.clone()),
            Some(_) | None => None,
        };
        if let Some(addresses) = kept() {
            return Ok(addresses);
        }
        let _slot = self.0.slots.acquire().await.map_err(io::Error::other)?;
        // Those before in the queue may have asked for the same.
        if let Some(addresses) = kept() {
            return Ok(addresses);
        }
        let addresses = (self.0.lookup)(name.to_owned()).await?;
        let mut all = self.0.kept.lock();
        if all.len() >= MAX_KEPT {
            all.clear();
        }
        all.insert(name.into(), Kept { until: Instant::now() + KEPT_FOR, addresses: addresses.clone() });
        Ok(addresses)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn kept_for_a_while() {
        let asked = Arc::new(AtomicUsize::new(0));
        let names = Names::by({
            let asked = Arc::clone(&asked);
            move |name| {
                asked.fetch_add(1, Ordering::SeqCst);
                Box::pin(async move {
                    if name == "bad" { Err(io::Error::other("no such name")) } else { Ok(vec![[10, 0, 0, 1].into()]) }
                })
            }
        });
        for (name, wait, expected) in
            [("a", 0, 1), ("a", 0, 1), ("b", 0, 2), ("a", 4, 2), ("a", 1, 3), ("bad", 0, 4), ("bad", 0, 5)]
        {
            tokio::time::advance(Duration::from_secs(wait)).await;
            assert_eq!(names.resolve(name).await.is_ok(), name != "bad");
            assert_eq!(asked.load(Ordering::SeqCst), expected, "{name}");
        }
    }
}
