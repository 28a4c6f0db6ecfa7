//! How much one source may ask: its requests, and much harder its failed attempts to prove itself.
//!
//! Sources fall into a fixed number of buckets by a hash that is another one in each process. So the memory is bounded
//! whatever is sent, and nobody can aim at another's bucket.

use std::hash::{BuildHasher as _, Hash, RandomState};
use std::num::NonZeroU32;
use std::time::Duration;

use governor::clock::{Clock, DefaultClock, Reference};
use governor::state::keyed::HashMapStateStore;
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use parking_lot::Mutex;

use super::source::Source;

/// Requests of one source. A push of a hundred images of ten tags each passes at once, and so does a line of devices that
/// enrol; what is refused costs microseconds.
const SOURCE_RATE: Quota = Quota::per_second(of(100)).allow_burst(of(1200));
/// Deliveries of one URL that have proven themselves: the same, since one registry mostly is one source.
const URL_RATE: Quota = SOURCE_RATE;
/// Requests by one key that has proven itself: a provisioning key is a whole factory's, and has what a source has.
const KEY_RATE: Quota = SOURCE_RATE;
/// Failed attempts of one source: a wrong setting shows in the first few, and half a guess a second finds no secret.
const FAILURE_RATE: Quota = Quota::per_minute(of(30)).allow_burst(of(30));
/// Buckets of sources: some 2 MiB when all are in use.
const BUCKETS: u64 = 65_536;

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
pub struct SourceLimits {
    hasher: RandomState,
    requests: Keyed,
    by_key: Keyed,
    failures: Failures,
}

impl Default for SourceLimits {
    fn default() -> Self {
        Self {
            hasher: RandomState::new(),
            requests: Keyed::new(SOURCE_RATE, DefaultClock::default()),
            by_key: Keyed::new(KEY_RATE, DefaultClock::default()),
            failures: Failures::new(DefaultClock::default()),
        }
    }
}

impl std::fmt::Debug for SourceLimits {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SourceLimits")
    }
}

impl SourceLimits {
    /// A request came in.
    ///
    /// # Errors
    /// When the source has sent too many.
    pub fn request(&self, source: Source) -> Result<(), TooMuch> {
        self.requests.check(self.bucket(source))
    }

    /// A request came in by a key that has proven itself, from wherever: a proxy that nobody has named makes all senders one
    /// source.
    ///
    /// # Errors
    /// When there were too many by this key.
    pub fn by_key(&self, key: &impl Hash) -> Result<(), TooMuch> {
        self.by_key.check(self.hasher.hash_one(key) % BUCKETS)
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

    /// The bucket that a source falls into.
    #[must_use]
    pub fn bucket(&self, source: Source) -> u64 {
        self.hasher.hash_one(source) % BUCKETS
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

    #[test]
    fn whole_seconds_and_never_none() {
        for (millis, seconds) in [(0, 1), (1, 1), (1000, 1), (1001, 2), (12_000, 12)] {
            assert_eq!(wait(Duration::from_millis(millis)).retry_after, seconds, "{millis} ms");
        }
    }
}
