//! From looks to a result: how often, how long, and when it is enough. Pure.

use std::time::Duration;

use super::verdict::Outcome;

/// As the API has it for a policy that says nothing.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(30);
/// Three looks in all.
const DEFAULT_RETRIES: u32 = 2;
/// Long enough for a container to come up between two looks; short enough that a dead device (3 looks of 30 s) is known
/// to be dead within 100 s.
const DEFAULT_INTERVAL: Duration = Duration::from_secs(2);
/// No look waits longer: one that hangs holds one of a few hundred places.
const MAX_TIMEOUT: Duration = Duration::from_secs(300);
/// No pause is longer. A day is more than any rollout's deadline.
const MAX_PAUSE: Duration = Duration::from_secs(24 * 60 * 60);
/// As in the API.
const MAX_RETRIES: u32 = 20;
/// As many looks in a row as anybody needs to believe a device.
const MAX_SUCCESSES: u32 = 20;

/// When a check looks, as it was validated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schedule {
    initial_delay: Duration,
    interval: Duration,
    timeout: Duration,
    retries: u32,
    success_threshold: u32,
}

/// A schedule that no check can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ScheduleError {
    /// Its timeout.
    #[error("the timeout must be more than 0 and at most {} s", MAX_TIMEOUT.as_secs())]
    Timeout,
    /// One of its pauses.
    #[error("initialDelay and interval must be at most {} h", MAX_PAUSE.as_secs() / 3600)]
    Pause,
    /// Its attempts.
    #[error("retries must be at most {MAX_RETRIES}")]
    Retries,
    /// Its successes.
    #[error("successThreshold must be from 1 to {MAX_SUCCESSES}")]
    Successes,
}

/// What to do after a look.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// Look again, after this pause.
    After(Duration),
    /// This is the result.
    Done(Outcome),
}

/// What a check's looks came to so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// In a row.
    passed: u8,
    failed: u8,
    unknown: u8,
}

impl Default for Schedule {
    fn default() -> Self {
        Self {
            initial_delay: Duration::ZERO,
            interval: DEFAULT_INTERVAL,
            timeout: DEFAULT_TIMEOUT,
            retries: DEFAULT_RETRIES,
            success_threshold: 1,
        }
    }
}

impl Schedule {
    /// `retries`: looks that may fail without the check having failed; `success_threshold`: looks in a row that must pass.
    ///
    /// # Errors
    /// Where a bound is not kept.
    pub fn new(
        initial_delay: Duration,
        interval: Duration,
        timeout: Duration,
        retries: u32,
        success_threshold: u32,
    ) -> Result<Self, ScheduleError> {
        if timeout.is_zero() || timeout > MAX_TIMEOUT {
            return Err(ScheduleError::Timeout);
        }
        if initial_delay > MAX_PAUSE || interval > MAX_PAUSE {
            return Err(ScheduleError::Pause);
        }
        if retries > MAX_RETRIES {
            return Err(ScheduleError::Retries);
        }
        if !(1..=MAX_SUCCESSES).contains(&success_threshold) {
            return Err(ScheduleError::Successes);
        }
        Ok(Self { initial_delay, interval, timeout, retries, success_threshold })
    }

    /// Before the first look.
    #[must_use]
    pub fn initial_delay(&self) -> Duration {
        self.initial_delay
    }

    /// Between the end of a look and the next.
    #[must_use]
    pub fn interval(&self) -> Duration {
        self.interval
    }

    /// For one look, from finding the address to the last byte.
    #[must_use]
    pub fn timeout(&self) -> Duration {
        self.timeout
    }

    /// The most that a check of a silent device takes, jitter and waiting for a place aside.
    #[must_use]
    pub fn longest(&self) -> Duration {
        self.initial_delay + self.timeout * (self.retries + 1) + self.interval * self.retries
    }
}

impl Tally {
    /// Counts a look.
    ///
    /// Failures are counted over the whole check, successes in a row. Unknown has a count of its own: it neither fails a
    /// device nor breaks a row, and when as many looks are Unknown as may fail, that is the result. So every check ends.
    pub fn count(&mut self, schedule: &Schedule, outcome: Outcome) -> Next {
        let spent = match &outcome {
            Outcome::Passed => {
                self.passed += 1;
                u32::from(self.passed) >= schedule.success_threshold
            }
            Outcome::Failed { .. } => {
                self.passed = 0;
                self.failed += 1;
                u32::from(self.failed) > schedule.retries
            }
            Outcome::Unknown { .. } => {
                self.unknown += 1;
                u32::from(self.unknown) > schedule.retries
            }
        };
        if spent { Next::Done(outcome) } else { Next::After(schedule.interval) }
    }
}

#[cfg(test)]
mod tests {
    use super::super::verdict::{Doubt, Failure};
    use super::*;

    fn schedule(retries: u32, successes: u32) -> Schedule {
        let second = Duration::from_secs(1);
        Schedule::new(Duration::ZERO, second, second, retries, successes).expect("a good one")
    }

    #[test]
    fn folding() {
        for (retries, successes, looks, expected) in [
            (0, 1, "P", "P"),
            (0, 1, "F", "F"),
            (0, 1, "U", "U"),
            (2, 1, "FFP", "..P"),
            (2, 1, "FFF", "..F"),
            (2, 1, "UUU", "..U"),
            (2, 1, "UUP", "..P"),
            (2, 1, "FUFUF", "....F"),
            (2, 1, "UFUFU", "....U"),
            (1, 3, "PPP", "..P"),
            (1, 3, "PPFPPP", ".....P"),
            (1, 3, "PFPPF", "....F"),
            (1, 3, "PPUP", "...P"),
            (0, 2, "PF", ".F"),
            (0, 2, "PU", ".U"),
            (20, 1, "FFFFFFFFFFFFFFFFFFFFF", "....................F"),
        ] {
            let schedule = schedule(retries, successes);
            let mut tally = Tally::default();
            let seen: String = looks
                .chars()
                .map(|look| {
                    let outcome = match look {
                        'P' => Outcome::Passed,
                        'F' => Outcome::failed(Failure::Refused, ""),
                        _ => Outcome::unknown(Doubt::Dns, ""),
                    };
                    match tally.count(&schedule, outcome) {
                        Next::After(pause) => {
                            assert_eq!(pause, schedule.interval());
                            '.'
                        }
                        Next::Done(Outcome::Passed) => 'P',
                        Next::Done(Outcome::Failed { .. }) => 'F',
                        Next::Done(Outcome::Unknown { .. }) => 'U',
                    }
                })
                .collect();
            assert_eq!(seen, expected, "retries {retries}, successes {successes}: {looks}");
        }
    }

    #[test]
    fn bounds() {
        let (zero, second, day) = (Duration::ZERO, Duration::from_secs(1), Duration::from_secs(86_400));
        let more = day + second;
        for (made, expected) in [
            (Schedule::new(zero, zero, second, 0, 1), None),
            (Schedule::new(day, day, 300 * second, 20, 20), None),
            (Schedule::new(zero, zero, zero, 0, 1), Some(ScheduleError::Timeout)),
            (Schedule::new(zero, zero, 301 * second, 0, 1), Some(ScheduleError::Timeout)),
            (Schedule::new(more, zero, second, 0, 1), Some(ScheduleError::Pause)),
            (Schedule::new(zero, more, second, 0, 1), Some(ScheduleError::Pause)),
            (Schedule::new(zero, zero, second, 21, 1), Some(ScheduleError::Retries)),
            (Schedule::new(zero, zero, second, 0, 0), Some(ScheduleError::Successes)),
            (Schedule::new(zero, zero, second, 0, 21), Some(ScheduleError::Successes)),
        ] {
            assert_eq!(made.err(), expected);
        }
        assert_eq!(Schedule::default().longest(), Duration::from_secs(94));
    }
}
