//! How much one source, one URL and all strangers together may ask of the webhook.
//!
//! Decides who has to come again, and when. Three things are bounded: requests of a source, before anything else is
//! looked at; failed attempts of a source to prove itself, much harder; and bodies that are read before their signature is
//! known, which have places of their own, so that forged ones that trickle in never take those of deliveries that have
//! shown the secret. Whoever uses a receiver's path was given it: a source that was refused elsewhere is not refused there,
//! since hosted registries send for friend and foe from the same addresses.

use std::time::Duration;

use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::{Instant, timeout_at};

use crate::server::limits::{SourceLimits, TooMuch};
use crate::server::source::Source;

/// Bodies by the first URL that are read at once though nobody knows yet who sends them.
const STRANGERS: usize = 16;
/// Of one source.
const STRANGERS_OF_ONE_SOURCE: usize = 4;
/// Groups of sources that share those places; a power of two, small.
const STRANGER_GROUPS: usize = 1024;
/// Signed bodies by the paths of receivers, which only the registry was told.
const ACQUAINTANCES: usize = 16;
/// How long a delivery waits for one of these places. Bodies are here in milliseconds, so a burst gets through.
const PLACE_TIMEOUT: Duration = Duration::from_secs(2);

/// The limits of one process.
pub struct Limits {
    /// Of sources: their requests, and their failures.
    pub sources: SourceLimits,
    strangers: Semaphore,
    groups: Vec<Semaphore>,
    acquaintances: Semaphore,
}

/// A place among the bodies that are read unverified; given back when dropped.
#[derive(Debug)]
pub struct Place<'a>(#[expect(dead_code, reason = "held, not read")] [Option<SemaphorePermit<'a>>; 2]);

impl Default for Limits {
    fn default() -> Self {
        Self {
            sources: SourceLimits::default(),
            strangers: Semaphore::new(STRANGERS),
            groups: (0..STRANGER_GROUPS).map(|_| Semaphore::new(STRANGERS_OF_ONE_SOURCE)).collect(),
            acquaintances: Semaphore::new(ACQUAINTANCES),
        }
    }
}

impl std::fmt::Debug for Limits {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Limits")
    }
}

impl Limits {
    /// A place for a body that is read before anybody knows who sends it.
    ///
    /// # Errors
    /// When there is none for a while, or none for this source.
    pub async fn stranger(&self, source: Source) -> Result<Place<'_>, TooMuch> {
        let deadline = Instant::now() + PLACE_TIMEOUT;
        let group = usize::try_from(self.sources.bucket(source)).unwrap_or_default() % STRANGER_GROUPS;
        let own = place(&self.groups[group], deadline).await?;
        let any = place(&self.strangers, deadline).await?;
        Ok(Place([Some(own), Some(any)]))
    }

    /// A place for a body that came by a path which only the registry was told.
    ///
    /// # Errors
    /// When there is none for a while.
    pub async fn acquaintance(&self) -> Result<Place<'_>, TooMuch> {
        let place = place(&self.acquaintances, Instant::now() + PLACE_TIMEOUT).await?;
        Ok(Place([Some(place), None]))
    }
}

async fn place(places: &Semaphore, deadline: Instant) -> Result<SemaphorePermit<'_>, TooMuch> {
    match timeout_at(deadline, places.acquire()).await {
        Ok(Ok(place)) => Ok(place),
        // They are never closed.
        Ok(Err(_)) | Err(_) => Err(TooMuch { retry_after: 1 }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(address: &str) -> Source {
        Source::of(address.parse().ok())
    }

    #[tokio::test(start_paused = true)]
    async fn one_source_does_not_have_all_places() {
        let limits = Limits::default();
        let mut held = Vec::new();
        for _ in 0..STRANGERS_OF_ONE_SOURCE {
            held.push(limits.stranger(source("192.0.2.1")).await.expect("a place"));
        }
        assert_eq!(limits.stranger(source("192.0.2.1")).await.err(), Some(TooMuch { retry_after: 1 }));
        let acquaintance = limits.acquaintance().await;
        assert!(acquaintance.is_ok(), "whoever knows a path isn't held up");
        held.pop();
        let (given_back, _) = tokio::join!(limits.stranger(source("192.0.2.1")), async { held.pop() });
        assert!(given_back.is_ok());
    }
}
