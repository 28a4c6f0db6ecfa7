//! Where each device stands at this moment, and the sums a batch is judged by.
//!
//! The only place where the clock meets a device. Two clocks matter: `now`, and how far knowledge of the devices
//! reaches. A deadline or an absence only counts where gateways spoke all the while, so that a gateway that is down is
//! never mistaken for devices that are: whoever was cut off gets its full time again.

use std::collections::HashSet;

use jiff::Timestamp;

use crate::api::rollout::{BatchStatus, Totals};

use super::observed::{Evidence, Knowledge, Member, Standing};
use super::proof::Proof;
use super::validated::Rules;

/// What is needed to tell a device's progress.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    /// How far knowledge of the devices reaches, Unix seconds; `None` if no gateway ever spoke.
    pub known: Option<i64>,
    /// Since when there is no gap in it.
    pub unbroken: i64,
    /// Deadlines count from here at the earliest.
    pub resumed: i64,
    /// Release to verdict, seconds; `None` while nothing is offered, so that nobody's time runs out.
    pub deadline: Option<i64>,
    /// Unseen for longer: offline. Seconds.
    pub offline_after: i64,
    /// Devices released before are not judged any more: the rollout completed then.
    pub judged_since: i64,
}

impl Clock {
    /// For a rollout that goes by `rules`.
    #[must_use]
    pub fn new(rules: &Rules, knowledge: Knowledge, resumed: Option<Timestamp>, stopped: bool) -> Self {
        Self {
            known: knowledge.as_of.map(Timestamp::as_second),
            unbroken: knowledge.since.map_or(i64::MIN, Timestamp::as_second),
            resumed: resumed.map_or(i64::MIN, Timestamp::as_second),
            deadline: (!stopped).then_some(rules.deadline),
            // A gateway's word is up to an interval old, and two of them may speak in turn.
            offline_after: rules.offline_after.max(2 * knowledge.interval),
            judged_since: i64::MIN,
        }
    }

    fn start_of(&self, member: &Member<'_>) -> i64 {
        member.since.max(self.resumed)
    }

    /// When the time of a released device is up, Unix seconds.
    #[must_use]
    pub fn due(&self, member: &Member<'_>) -> Option<i64> {
        self.deadline.map(|deadline| self.start_of(member).max(self.unbroken).saturating_add(deadline))
    }

    /// Whether the time of a released device is up, as far as is known.
    #[must_use]
    pub fn is_overdue(&self, member: &Member<'_>) -> bool {
        self.due(member).zip(self.known).is_some_and(|(due, known)| known >= due)
    }

    /// Whether a device was not seen for long enough to be called offline.
    #[must_use]
    pub fn is_offline(&self, member: &Member<'_>) -> bool {
        self.unseen_since(member.seen.max(self.unbroken))
    }

    /// Whether a device was not seen for that long, but may have had nobody to be seen by.
    #[must_use]
    pub fn is_missing(&self, member: &Member<'_>) -> bool {
        self.unseen_since(member.seen) && !self.is_offline(member)
    }

    fn unseen_since(&self, second: i64) -> bool {
        self.known.is_some_and(|known| known.saturating_sub(second) > self.offline_after)
    }
}

/// Where a device stands at this moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// May be released as soon as the rollout's gates allow it.
    Waiting,
    /// Not seen since gateways are back: waited for, until it turns up or counts as offline.
    Missing,
    /// Offline before it was told anything.
    Offline,
    /// Released, but it went away before it could fetch that.
    Unfetched,
    /// Held by a person.
    Held {
        /// After it had been released, and before it ran the image.
        released: bool,
    },
    /// A person named it to go back before it was released.
    Excluded,
    /// Its `apps` declare the image by themselves.
    DeclaredAlready,
    /// Somebody else decides over its image.
    Conflict,
    /// Told the image, no verdict yet.
    Updating(Evidence),
    /// Runs the image, and is being looked at.
    Proving,
    /// Runs the image, and could not be looked at. No deadline makes a verdict of that.
    Doubtful,
    /// Runs the image well.
    Healthy,
    /// Ran the image before it was told to.
    RunsAlready,
    /// Its time is up.
    Failed {
        /// Not stored yet.
        new: bool,
        /// It was sent back.
        sent_back: bool,
    },
    /// Sent back without having failed. Whether it has arrived is [`super::rollback`]'s to say.
    SentBack,
}

impl Progress {
    /// Of a device. `excluded`: devices that a person named to go back, whatever the rollout does.
    #[must_use]
    pub fn of(member: &Member<'_>, clock: &Clock, excluded: &HashSet<&str>) -> Self {
        match member.standing {
            Standing::Claimed | Standing::Overridden => Self::Conflict,
            Standing::DeclaredAlready => Self::DeclaredAlready,
            Standing::RunsAlready => Self::RunsAlready,
            Standing::SentBack(_) if member.failed => Self::Failed { new: false, sent_back: true },
            Standing::SentBack(_) => Self::SentBack,
            Standing::Held => Self::Held { released: false },
            Standing::Unreleased if member.failed => Self::Failed { new: false, sent_back: false },
            Standing::Unreleased if clock.is_offline(member) => Self::Offline,
            Standing::Unreleased if !excluded.is_empty() && excluded.contains(member.view.name.as_str()) => {
                Self::Excluded
            }
            Standing::Unreleased if clock.is_missing(member) => Self::Missing,
            Standing::Unreleased => Self::Waiting,
            Standing::Released(_) if member.failed => Self::Failed { new: false, sent_back: false },
            Standing::Released(Evidence::Running) => Self::running(member, clock),
            // The gate moves it neither way, so its silence on the image says nothing about the image.
            Standing::Released(_) if member.view.hold => Self::Held { released: true },
            Standing::Released(evidence) => Self::updating(member, evidence, clock),
        }
    }

    /// Of a device that runs the image.
    fn running(member: &Member<'_>, clock: &Clock) -> Self {
        match member.proof {
            Proof::Passed => Self::Healthy,
            Proof::Pending | Proof::Unknown | Proof::Failed if member.since <= clock.judged_since => Self::Healthy,
            Proof::Pending => Self::Proving,
            Proof::Unknown => Self::Doubtful,
            Proof::Failed => Self::Failed { new: true, sent_back: false },
        }
    }

    fn updating(member: &Member<'_>, evidence: Evidence, clock: &Clock) -> Self {
        // Seen after the release: it has been told, so silence from then on counts against the image.
        let fetched = member.seen > clock.start_of(member);
        if !fetched && clock.is_offline(member) {
            return Self::Unfetched;
        }
        if member.since <= clock.judged_since {
            return Self::Healthy;
        }
        if (fetched && clock.is_overdue(member)) || matches!(evidence, Evidence::Restarts { .. }) {
            Self::Failed { new: true, sent_back: false }
        } else {
            Self::Updating(evidence)
        }
    }
}

/// Sums over the devices of one batch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)] // The names are those of `BatchStatus`, which says what they mean.
pub struct Tally {
    pub devices: i32,
    pub released: i32,
    pub updated: i32,
    pub healthy: i32,
    pub failed: i32,
    pub rolled_back: i32,
    pub deferred: i32,
    /// Of the deferred, those in conflict.
    pub conflict: i32,
    /// Sent back without having failed.
    pub excused: i32,
    /// May be released.
    pub waiting: i32,
    /// May be released once they turn up, and may yet turn out to be offline.
    pub missing: i32,
    /// Of the failed, those whose verdict is not stored yet.
    pub unrecorded: i32,
    /// Released, no verdict.
    pub updating: i32,
    /// Of these, those that could not be looked at.
    pub doubtful: i32,
    /// Released and away before they could fetch it.
    pub unfetched: i32,
    /// When the first of those that are updating runs out of time, Unix seconds.
    pub first_due: Option<i64>,
}

impl Tally {
    /// Counts one device in.
    pub fn add(&mut self, member: &Member<'_>, progress: Progress, clock: &Clock) {
        self.devices += 1;
        match progress {
            Progress::Waiting => self.waiting += 1,
            Progress::Missing => self.missing += 1,
            Progress::Offline | Progress::Held { released: false } | Progress::Excluded | Progress::DeclaredAlready => {
                self.deferred += 1;
            }
            Progress::Held { released: true } => {
                self.released += 1;
                self.deferred += 1;
            }
            Progress::Conflict => {
                self.deferred += 1;
                self.conflict += 1;
            }
            Progress::Unfetched => {
                self.released += 1;
                self.deferred += 1;
                self.unfetched += 1;
            }
            Progress::Updating(_) => {
                self.released += 1;
                self.updating += 1;
                let due = clock.due(member);
                self.first_due = match (self.first_due, due) {
                    (Some(first), Some(due)) => Some(first.min(due)),
                    (first, due) => first.or(due),
                };
            }
            Progress::Proving | Progress::Doubtful => {
                self.released += 1;
                self.updated += 1;
                self.updating += 1;
                self.doubtful += i32::from(progress == Progress::Doubtful);
            }
            Progress::Healthy => {
                self.released += 1;
                self.updated += 1;
                self.healthy += 1;
            }
            Progress::RunsAlready => {
                self.updated += 1;
                self.healthy += 1;
            }
            Progress::Failed { new, sent_back } => {
                self.released += 1;
                self.failed += 1;
                self.unrecorded += i32::from(new);
                self.rolled_back += i32::from(sent_back);
            }
            Progress::SentBack => {
                self.released += 1;
                self.rolled_back += 1;
                self.excused += 1;
            }
        }
    }

    /// How many devices the batch is judged by. Those that were sent back without having failed stay among them: else
    /// sending a batch back would make its failures look like more.
    #[must_use]
    pub fn judged(&self) -> i32 {
        self.devices - self.deferred
    }

    /// How many devices that are there have no verdict, or one that is not stored yet: what follows from a verdict must
    /// not be on record before the verdict is, or a crash in between would lose it.
    #[must_use]
    pub fn pending(&self) -> i32 {
        self.waiting + self.missing + self.updating + self.unrecorded
    }

    /// Whether every device that is there has its verdict.
    #[must_use]
    pub fn is_decided(&self) -> bool {
        self.pending() == 0
    }

    /// Writes the sums into a batch's status.
    pub fn store(&self, batch: &mut BatchStatus) {
        let Self { devices, released, updated, healthy, failed, rolled_back, deferred, .. } = *self;
        batch.devices = devices;
        batch.released = released;
        batch.updated = updated;
        batch.healthy = healthy;
        batch.failed = failed;
        batch.rolled_back = rolled_back;
        batch.deferred = deferred;
    }
}

/// Sums over batches.
#[must_use]
pub fn totals(batches: &[BatchStatus]) -> Totals {
    let sum = |field: fn(&BatchStatus) -> i32| batches.iter().map(field).sum();
    Totals {
        devices: sum(|batch| batch.devices),
        released: sum(|batch| batch.released),
        updated: sum(|batch| batch.updated),
        healthy: sum(|batch| batch.healthy),
        failed: sum(|batch| batch.failed),
        rolled_back: sum(|batch| batch.rolled_back),
        deferred: sum(|batch| batch.deferred),
    }
}

#[cfg(test)]
mod tests;
