//! The one place that reads the wall clock, and where chance comes from.
//!
//! Everything else takes the time as an argument, or a [`Clock`] where it runs by itself, so that tests can stop it and
//! the planner stays a pure function.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

/// Tells the time to whatever runs by itself, and draws the chance by which its pauses are spread. The default one is on
/// the wall and draws anew in each process.
#[derive(Clone)]
pub struct Clock {
    now: Arc<dyn Fn() -> Timestamp + Send + Sync>,
    chance: Arc<dyn Fn() -> f64 + Send + Sync>,
}

impl Clock {
    /// A clock of one's own: for tests, in which an hour passes in a millisecond.
    pub fn new(now: impl Fn() -> Timestamp + Send + Sync + 'static) -> Self {
        Self { now: Arc::new(now), chance: Arc::new(|| rand::random_range(0.0..1.0)) }
    }

    /// With chance of one's own, from 0 to below 1: for tests that are to go the same way each time.
    #[must_use]
    pub fn with_chance(self, chance: impl Fn() -> f64 + Send + Sync + 'static) -> Self {
        Self { chance: Arc::new(chance), ..self }
    }

    /// What it says now.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        (self.now)()
    }

    /// A pause, longer by up to that share of it, so that those who failed together don't come back together.
    #[must_use]
    pub fn jittered(&self, pause: Duration, share: f64) -> Duration {
        pause + pause.mul_f64(share * (self.chance)())
    }

    /// Some moment of a time.
    #[must_use]
    pub fn within(&self, time: Duration) -> Duration {
        time.mul_f64((self.chance)())
    }
}

impl Default for Clock {
    fn default() -> Self {
        Self::new(now)
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Clock").field(&self.now()).finish()
    }
}

/// Now, to the microsecond.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "this is the one place")]
pub fn now() -> Timestamp {
    Timestamp::now()
}
