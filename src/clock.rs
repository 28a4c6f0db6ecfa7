//! The one place that reads the wall clock.
//!
//! Everything else takes the time as an argument, so that tests can stop it and the planner stays a pure function.

use jiff::Timestamp;

/// Now, to the microsecond.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "this is the one place")]
pub fn now() -> Timestamp {
    Timestamp::now()
}
