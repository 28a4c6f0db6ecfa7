//! Device by device: its batch and why it stands where it stands. For people; nothing is decided here.

use jiff::Timestamp;

use crate::api::rollout::{ImageRolloutStatus, Phase};

use super::cohort;
use super::observed::{Observed, Standing};
use super::progress::{Clock, Progress};
use super::report::DeviceWait;
use super::rollback::Return;
use super::status;
use super::window::{Opening, opening};
use super::{Action, Plan, release, rollback};

/// One device of a rollout.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceReport {
    /// Name of the device.
    pub device: String,
    /// Its batch, from 1; 0 while the batches are not fixed.
    pub batch: usize,
    /// Why it stands where it stands.
    pub wait: DeviceWait,
}

/// Every member, in the order of batches and ranks, as the world is after `plan`'s status is stored.
#[must_use]
pub fn devices(observed: &Observed<'_>, plan: &Plan, now: Timestamp) -> Vec<DeviceReport> {
    explain(observed, &plan.status, Some(&plan.actions), now)
}

/// The same, by a status; `actions` are what is about to be done, where that is known.
pub(super) fn explain(
    observed: &Observed<'_>,
    status: &ImageRolloutStatus,
    actions: Option<&[Action]>,
    now: Timestamp,
) -> Vec<DeviceReport> {
    let Ok(subject) = observed.subject else { return Vec::new() };
    let stopped = observed.rollout.spec.paused || status.halted.is_some();
    let resumed = status.resume_time.as_ref().map(|time| time.0);
    let mut clock = Clock::new(&subject.rules, observed.knowledge, resumed, stopped);
    if status.phase == Phase::Completed {
        clock.judged_since = status.completion_time.as_ref().map_or(i64::MAX, |time| time.0.as_second());
    }
    let back = rollback::clock(observed, subject);
    let excluded = observed.rollout.spec.roll_back_devices.iter().map(String::as_str).collect();
    let boundaries: Vec<u64> =
        status.batches.iter().map(|batch| u64::from_str_radix(&batch.boundary, 16).unwrap_or(u64::MAX)).collect();
    let current = usize::try_from(status.current_batch).unwrap_or_default();
    let mut reports: Vec<(usize, u64, DeviceReport)> = observed
        .members
        .iter()
        .map(|member| {
            let batch = if boundaries.is_empty() { 0 } else { cohort::batch_of(member, &boundaries) };
            let wait = match Progress::of(member, &clock, &excluded) {
                Progress::Waiting if batch == 0 => DeviceWait::NotStarted,
                Progress::Waiting if batch > current => DeviceWait::BatchNotOpen { batch },
                Progress::Waiting if actions.is_some_and(|actions| concerns(actions, member)) => DeviceWait::NextPass,
                Progress::Waiting if stopped || (status.phase.is_terminal() && status.phase != Phase::Completed) => {
                    DeviceWait::Stopped { phase: status.phase.as_str() }
                }
                Progress::Waiting if matches!(opening(&subject.rules.windows, now), Opening::Shut(_)) => {
                    DeviceWait::WindowShut
                }
                Progress::Waiting => match subject.rules.max_concurrent {
                    Some(limit) => DeviceWait::Turn { limit },
                    None if actions.is_none() => DeviceWait::NextPass,
                    None => DeviceWait::Stopped { phase: status.phase.as_str() },
                },
                Progress::Missing => DeviceWait::Missing,
                Progress::Offline if member.seen == i64::MIN => DeviceWait::NeverSeen,
                Progress::Offline => DeviceWait::Offline { since: second(member.seen) },
                Progress::Unfetched => DeviceWait::Unfetched { since: second(member.since) },
                Progress::Held { released: _ } => DeviceWait::Held,
                Progress::Excluded => DeviceWait::Excluded,
                Progress::DeclaredAlready => DeviceWait::DeclaredElsewhere,
                Progress::Conflict => conflict(member, &subject.image.repository, observed),
                Progress::Updating(evidence) => {
                    DeviceWait::Updating { deadline: clock.due(member).map(second), evidence }
                }
                Progress::Proving => proving(member, observed),
                Progress::Doubtful => DeviceWait::Unproven { why: observed.doubt(member).to_owned() },
                Progress::Healthy => DeviceWait::Healthy,
                Progress::RunsAlready => DeviceWait::RunsAlready,
                Progress::Failed { .. } => {
                    let name = observed.rollout.metadata.name.as_deref().unwrap_or_default();
                    let (reason, message) = match member.view.verdict(&subject.image.repository, name) {
                        Some(update) => (update.reason.clone(), update.message.clone()),
                        None => {
                            let (reason, message) = release::failure(observed, member, subject);
                            (reason.to_owned(), message)
                        }
                    };
                    DeviceWait::Failed { reason, message }
                }
                Progress::SentBack => DeviceWait::NextPass,
            };
            // Of one that failed, that it did is on record; where it is now is the news.
            let wait = match (Return::of(member, &back), wait) {
                (None, wait) => wait,
                (Some(Return::Arrived), DeviceWait::Failed { reason, message }) => {
                    DeviceWait::FailedAndBack { reason, message }
                }
                (Some(way), _) => on_its_way_back(way, member),
            };
            (batch, member.rank, DeviceReport { device: member.view.name.clone(), batch, wait })
        })
        .collect();
    reports.sort_by(|a, b| (a.0, a.1, &a.2.device).cmp(&(b.0, b.1, &b.2.device)));
    reports.into_iter().map(|(_, _, report)| report).collect()
}

fn concerns(actions: &[Action], member: &super::Member<'_>) -> bool {
    actions.iter().any(|action| action.device == member.view.name)
}

fn conflict(member: &super::Member<'_>, repository: &str, observed: &Observed<'_>) -> DeviceWait {
    match member.standing {
        Standing::Claimed => {
            let ours = crate::api::policy_manager(&observed.rollout.spec.policy_ref.name);
            let owner = member
                .view
                .entry(repository)
                .and_then(|entry| entry.managers.iter().find(|manager| **manager != ours).cloned());
            DeviceWait::Claimed { manager: owner.unwrap_or_default() }
        }
        Standing::Overridden
        | Standing::Unreleased
        | Standing::Held
        | Standing::DeclaredAlready
        | Standing::RunsAlready
        | Standing::Released(_)
        | Standing::SentBack(_) => DeviceWait::Overridden { declared: member.view.declared(repository) },
    }
}

/// Of a device that is being looked at elsewhere: what was found is in the stored status.
fn proving(member: &super::Member<'_>, observed: &Observed<'_>) -> DeviceWait {
    let stored = observed.rollout.status.iter().flat_map(|status| &status.unchecked_devices);
    match stored.into_iter().find(|unchecked| unchecked.name == member.view.name) {
        Some(unchecked) => DeviceWait::Unproven { why: unchecked.message.clone() },
        None => DeviceWait::Proving,
    }
}

fn on_its_way_back(way: Return, member: &super::Member<'_>) -> DeviceWait {
    match way {
        Return::Arrived => DeviceWait::Back,
        Return::OnTheWay { due } => DeviceWait::GoingBack { deadline: due.map(second) },
        Return::Stuck(evidence) => DeviceWait::NotBack { evidence },
        Return::Unreachable => DeviceWait::OutOfReach { since: second(member.seen) },
    }
}

fn second(seconds: i64) -> Timestamp {
    Timestamp::from_second(seconds).unwrap_or(Timestamp::MIN)
}

/// Whether a status differs from another in more than figures; for tools that show it.
#[must_use]
pub fn is_transition(old: &ImageRolloutStatus, new: &ImageRolloutStatus) -> bool {
    status::compare(old, new) == super::StatusWrite::Transition
}

#[cfg(test)]
mod tests;
