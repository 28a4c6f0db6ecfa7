//! The one place that reads the wall clock.
//!
//! Everything else takes the time as an argument, or a [`Clock`] where it runs by itself, so that tests can stop it and
//! the planner stays a pure function.

use std::fmt;
use std::sync::Arc;

use jiff::Timestamp;

/// Tells the time to whatever runs by itself. The default one is on the wall.
#[derive(Clone)]
pub struct Clock(Arc<dyn Fn() -> Timestamp + Send + Sync>);

impl Clock {
    /// A clock of one's own: for tests, in which an hour passes in a millisecond.
    pub fn new(now: impl Fn() -> Timestamp + Send + Sync + 'static) -> Self {
        Self(Arc::new(now))
    }

    /// What it says now.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        (self.0)()
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
