//! How much one source, one URL and all strangers together may ask of the webhook.
//!
//! Decides who has to come again, and when. Three things are bounded: requests of a source, before anything else is
//! looked at; failed attempts of a source to prove itself, much harder; and bodies that are read before their signature is
//! known, which have places of their own, so that forged ones that trickle in never take those of deliveries that have
//! shown the secret. Whoever uses a receiver's path was given it: a source that was refused elsewhere is not refused there,
//! since hosted registries send for friend and foe from the same addresses.
//!
//! Sources fall into a fixed number of buckets by a hash that is another one in each process. So the memory is bounded
//! whatever is sent, and nobody can aim at another's bucket.

use std::hash::{BuildHasher as _, RandomState};
use std::num::NonZeroU32;
use std::time::Duration;

use governor::clock::{Clock, DefaultClock, Reference};
use governor::state::keyed::HashMapStateStore;
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use parking_lot::Mutex;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::{Instant, timeout_at};

use super::source::Source;

/// Requests of one source. A push of a hundred images of ten tags each passes at once; what is refused costs microseconds.
const SOURCE_RATE: Quota = Quota::per_second(of(100)).allow_burst(of(1200));
/// Deliveries of one URL that have proven themselves: the same, since one registry mostly is one source.
const URL_RATE: Quota = Quota::per_second(of(100)).allow_burst(of(1200));
/// Failed attempts of one source: a wrong setting shows in the first few, and half a guess a second finds no secret.
const FAILURE_RATE: Quota = Quota::per_minute(of(30)).allow_burst(of(30));
/// Buckets of sources: some 2 MiB when all are in use.
const BUCKETS: u64 = 65_536;

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

const fn of(number: u32) -> NonZeroU32 {
    match NonZeroU32::new(number) {
        Some(number) => number,
        None => NonZeroU32::MIN,
    }
}

/// Too much: seconds until it is worth trying again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooMuch {
    /// For `Retry-After`.
    pub retry_after: u64,
}

/// The limits of one process.
pub struct Limits {
    hasher: RandomState,
    requests: Keyed,
    failures: Failures,
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
            hasher: RandomState::new(),
            requests: Keyed::new(SOURCE_RATE, DefaultClock::default()),
            failures: Failures::new(DefaultClock::default()),
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
    /// A request came in.
    ///
    /// # Errors
    /// When the source has sent too many.
    pub fn request(&self, source: Source) -> Result<(), TooMuch> {
        self.requests.check(self.bucket(source))
    }

    /// Whether a source may try to prove itself now.
    ///
    /// # Errors
    /// When it has failed too often.
    pub fn attempt(&self, source: Source) -> Result<(), TooMuch> {
        self.failures.check(self.bucket(source))
    }

    /// It tried, and proved nothing.
    pub fn failed(&self, source: Source) {
        self.failures.count(self.bucket(source));
    }

    /// A place for a body that is read before anybody knows who sends it.
    ///
    /// # Errors
    /// When there is none for a while, or none for this source.
    pub async fn stranger(&self, source: Source) -> Result<Place<'_>, TooMuch> {
        let deadline = Instant::now() + PLACE_TIMEOUT;
        let group = usize::try_from(self.bucket(source)).unwrap_or_default() % STRANGER_GROUPS;
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

    fn bucket(&self, source: Source) -> u64 {
        self.hasher.hash_one(source) % BUCKETS
    }
}

async fn place(places: &Semaphore, deadline: Instant) -> Result<SemaphorePermit<'_>, TooMuch> {
    match timeout_at(deadline, places.acquire()).await {
        Ok(Ok(place)) => Ok(place),
        // They are never closed.
        Ok(Err(_)) | Err(_) => Err(TooMuch { retry_after: 1 }),
    }
}

/// The pace of one URL.
pub struct Pace(DefaultDirectRateLimiter);

impl Default for Pace {
    fn default() -> Self {
        Self(RateLimiter::direct(URL_RATE))
    }
}

impl std::fmt::Debug for Pace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Pace")
    }
}

impl Pace {
    /// A delivery proved itself.
    ///
    /// # Errors
    /// When the URL has taken too many.
    pub fn delivery(&self) -> Result<(), TooMuch> {
        let clock = DefaultClock::default();
        self.0.check().map_err(|until| wait(until.wait_time_from(clock.now())))
    }
}

/// One limit for each bucket.
struct Keyed<C: Clock = DefaultClock> {
    limiter: RateLimiter<u64, HashMapStateStore<u64>, C, governor::middleware::NoOpMiddleware<C::Instant>>,
    clock: C,
}

impl<C: Clock + Clone> Keyed<C> {
    fn new(quota: Quota, clock: C) -> Self {
        Self { limiter: RateLimiter::hashmap_with_clock(quota, clock.clone()), clock }
    }

    fn check(&self, bucket: u64) -> Result<(), TooMuch> {
        self.limiter.check_key(&bucket).map_err(|until| wait(until.wait_time_from(self.clock.now())))
    }
}

/// Failures, which are counted after the fact: once there were too many, the bucket is closed for a while.
struct Failures<C: Clock = DefaultClock> {
    counted: Keyed<C>,
    closed: Mutex<std::collections::HashMap<u64, C::Instant>>,
}

impl<C: Clock + Clone> Failures<C> {
    fn new(clock: C) -> Self {
        Self { counted: Keyed::new(FAILURE_RATE, clock), closed: Mutex::default() }
    }

    fn count(&self, bucket: u64) {
        if let Err(until) = self.counted.limiter.check_key(&bucket) {
            self.closed.lock().insert(bucket, until.earliest_possible());
        }
    }

    fn check(&self, bucket: u64) -> Result<(), TooMuch> {
        let mut closed = self.closed.lock();
        let Some(until) = closed.get(&bucket).copied() else { return Ok(()) };
        let left: Duration = until.duration_since(self.counted.clock.now()).into();
        if left.is_zero() {
            closed.remove(&bucket);
            return Ok(());
        }
        Err(wait(left))
    }
}

/// In whole seconds, at least one.
fn wait(left: Duration) -> TooMuch {
    TooMuch { retry_after: left.as_secs() + u64::from(left.subsec_nanos() > 0).max(u64::from(left.is_zero())) }
}

#[cfg(test)]
mod tests {
    use governor::clock::FakeRelativeClock;

    use super::*;

    fn source(address: &str) -> Source {
        Source::of(address.parse().ok())
    }

    #[test]
    fn a_burst_and_then_a_pace() {
        let clock = FakeRelativeClock::default();
        let requests = Keyed::new(SOURCE_RATE, clock.clone());
        assert!((0..1200).all(|_| requests.check(1).is_ok()));
        assert_eq!(requests.check(1), Err(TooMuch { retry_after: 1 }));
        assert_eq!(requests.check(2), Ok(()), "another source");
        clock.advance(Duration::from_millis(100));
        assert_eq!((0..20).filter(|_| requests.check(1).is_ok()).count(), 10);
    }

    #[test]
    fn failures_close_and_time_opens() {
        let clock = FakeRelativeClock::default();
        let failures = Failures::new(clock.clone());
        for _ in 0..30 {
            failures.count(1);
            assert_eq!(failures.check(1), Ok(()));
        }
        failures.count(1);
        assert_eq!(failures.check(1), Err(TooMuch { retry_after: 2 }));
        assert_eq!(failures.check(2), Ok(()));
        clock.advance(Duration::from_secs(2));
        assert_eq!(failures.check(1), Ok(()), "one attempt in two seconds");
        failures.count(1);
        failures.count(1);
        assert!(failures.check(1).is_err());
        assert!(failures.closed.lock().len() == 1);
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

    #[test]
    fn whole_seconds_and_never_none() {
        for (millis, seconds) in [(0, 1), (1, 1), (1000, 1), (1001, 2), (12_000, 12)] {
            assert_eq!(wait(Duration::from_millis(millis)).retry_after, seconds, "{millis} ms");
        }
    }
}
