//! The one place that reads the wall clock.
//!
//! Everything else takes the time as an argument, so that tests can stop it and the planner stays a pure function.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

/// Now, to the microsecond.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "this is the one place")]
pub fn now() -> Timestamp {
    Timestamp::now()
}

/// `at` as the API server keeps it: whole seconds. A finer time would come back unequal and look like a change.
#[must_use]
pub fn whole_seconds(at: Timestamp) -> Time {
    Time(Timestamp::from_second(at.as_second()).unwrap_or(at))
}
