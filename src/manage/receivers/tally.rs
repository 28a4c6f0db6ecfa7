//! What came in by a receiver since its status was last written.

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use parking_lot::Mutex;

use crate::api::condition::truncate;
use crate::api::webhook::LastDelivery;

/// Longest sentence about a delivery; the CRD's own limit.
const MAX_MESSAGE: usize = 1024;
/// Longest id of a delivery; the CRD's own limit.
const MAX_ID: usize = 253;

/// How a delivery counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Count {
    /// It has its rollout.
    Accepted,
    /// It made nothing.
    Ignored,
    /// It was authentic, and not understood.
    NotUnderstood,
}

/// Counts that are not in the status yet.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Delta {
    /// See the status.
    pub accepted: i64,
    /// See the status.
    pub ignored: i64,
    /// See the status.
    pub rejected: i64,
    /// See the status.
    pub last: Option<LastDelivery>,
}

impl Delta {
    /// Whether nothing came in.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    fn add(&mut self, earlier: Self) {
        self.accepted += earlier.accepted;
        self.ignored += earlier.ignored;
        self.rejected += earlier.rejected;
        self.last = self.last.take().or(earlier.last);
    }
}

/// A receiver's counts, shared by its deliveries and whoever writes them down.
#[derive(Debug, Default)]
pub struct Tally(Mutex<Delta>);

impl Tally {
    /// An authentic delivery.
    pub fn delivered(&self, count: Count, id: Option<&str>, message: &str, now: Timestamp) {
        // Whole seconds, which is what a status can hold: anything finer would never compare equal again.
        let time = Timestamp::from_second(now.as_second()).unwrap_or(now);
        let mut delta = self.0.lock();
        match count {
            Count::Accepted => delta.accepted += 1,
            Count::Ignored => delta.ignored += 1,
            Count::NotUnderstood => delta.rejected += 1,
        }
        delta.last = Some(LastDelivery {
            time: Time(time),
            delivery_id: id.map(|id| truncate(id.to_owned(), MAX_ID)),
            message: truncate(message.to_owned(), MAX_MESSAGE),
        });
    }

    /// One that was not authentic. What it says of itself is not worth keeping.
    pub fn rejected(&self) {
        self.0.lock().rejected += 1;
    }

    /// Whether there is something to write down.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.lock().is_empty()
    }
}

/// Counts on their way into the status. They go back when dropped, unless they were written.
#[derive(Debug)]
pub struct Taken {
    tally: Arc<Tally>,
    delta: Delta,
}

impl Taken {
    /// Takes what there is.
    #[must_use]
    pub fn from(tally: &Arc<Tally>) -> Self {
        Self { tally: Arc::clone(tally), delta: std::mem::take(&mut tally.0.lock()) }
    }

    /// What there was.
    #[must_use]
    pub fn delta(&self) -> &Delta {
        &self.delta
    }

    /// They are in the status now.
    pub fn keep_written(mut self) {
        self.delta = Delta::default();
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.tally.0.lock().add(std::mem::take(&mut self.delta));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_lost_by_a_failed_write() {
        let tally = Arc::new(Tally::default());
        assert!(tally.is_empty());
        let at = |second| Timestamp::from_second(second).expect("a time");
        tally.delivered(Count::Accepted, Some("1"), "one", at(1));
        tally.rejected();
        let failing = Taken::from(&tally);
        assert!(tally.is_empty());
        tally.delivered(Count::Ignored, Some(&"2".repeat(300)), "two", at(2));
        drop(failing);
        let taken = Taken::from(&tally);
        let delta = taken.delta();
        assert_eq!((delta.accepted, delta.ignored, delta.rejected), (1, 1, 1));
        let last = delta.last.as_ref().expect("a delivery");
        assert_eq!(last.message, "two");
        assert!(last.delivery_id.as_ref().is_some_and(|id| id.len() <= MAX_ID));
        taken.keep_written();
        assert!(tally.is_empty());
    }
}
