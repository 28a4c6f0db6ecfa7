//! Who is told the image in this pass, and whose time is up.

use crate::api::device::ImageEntry;
use crate::api::time::whole_seconds;

use super::actions::{Reason, set_entry, store_failure, withdrawn};
use super::advance::{Judged, judge};
use super::classify::previous_image;
use super::observed::{Age, DeviceView, Evidence, Member, Observed, Standing};
use super::progress::{Clock, Progress};
use super::proof::Finding;
use super::subject::Subject;
use super::window::{Opening, opening};
use super::{MAX_ACTIONS, Pass, lifecycle, rollback, status};

/// Releases what open batches hold, within `maxConcurrent`, lowest batch and rank first.
pub(crate) fn open_batches(pass: &mut Pass<'_>, subject: &Subject, judged: &Judged) {
    let open = u8::try_from(pass.status.current_batch).unwrap_or(u8::MAX);
    release(pass, subject, judged, open, Reason::Release);
}

fn release(pass: &mut Pass<'_>, subject: &Subject, judged: &Judged, open: u8, reason: Reason) {
    // Those that went away count until they are withdrawn: they may be back any moment. And those whose time is up count
    // until that is on record: the write may fail, or come after the release that it makes room for.
    let updating: i32 = judged.tallies.iter().map(|tally| tally.updating + tally.unfetched + tally.unrecorded).sum();
    let capacity = subject
        .rules
        .max_concurrent
        .map_or(usize::MAX, |limit| limit.saturating_sub(usize::try_from(updating).unwrap_or_default()))
        .min(MAX_ACTIONS.saturating_sub(pass.actions.len()));
    let mut turn: Vec<(u8, u64, &Member<'_>)> = pass
        .observed
        .members
        .iter()
        .zip(&judged.progress)
        .filter(|(member, (batch, progress))| {
            *progress == Progress::Waiting
                && *batch <= open
                && (reason == Reason::Release || !belongs_to_newer(pass, member.view, &subject.image.repository))
        })
        .map(|(member, (batch, _))| (*batch, member.rank, member))
        .collect();
    if turn.len() > capacity && capacity > 0 {
        turn.select_nth_unstable_by_key(capacity - 1, |(batch, rank, _)| (*batch, *rank));
    }
    turn.truncate(capacity);
    turn.sort_unstable_by_key(|(batch, rank, _)| (*batch, *rank));
    for (batch, _, member) in turn {
        let reason = match judged_until(pass, batch) {
            Some(second) if pass.now.as_second() <= second => {
                pass.requeue_second(second + 1);
                continue;
            }
            Some(_) => Reason::ReleaseLatecomer,
            None => reason,
        };
        let view = member.view;
        let repository = &subject.image.repository;
        let entry = ImageEntry {
            repository: repository.clone(),
            image: Some(subject.image.to_string()),
            previous: previous_image(view, &subject.image, is_unproven(pass, view, repository)),
            declared: view.declared(repository),
            rollout: pass.name().to_owned(),
            batch: i32::from(batch),
            release_time: whole_seconds(pass.now),
            rolled_back: false,
        };
        let action = set_entry(view, &manager(pass), entry, reason);
        pass.actions.push(action);
    }
}

/// The last second, Unix, in which a device that was told is among those by which its batch was judged; `None` until the
/// batch is complete. Stored times are whole seconds, so a latecomer must not be told within that one: it would count as
/// judged with the others.
fn judged_until(pass: &Pass<'_>, batch: u8) -> Option<i64> {
    let batch = pass.status.batches.get(usize::from(batch).checked_sub(1)?)?.completion_time.as_ref()?;
    let ended = pass.status.completion_time.as_ref();
    Some(ended.map_or(batch.0, |ended| ended.0.max(batch.0)).as_second())
}

/// Whether what a device was told last has not passed the checks of the rollout that told it.
fn is_unproven(pass: &Pass<'_>, view: &DeviceView, repository: &str) -> bool {
    let Some(entry) = view.entry(repository).map(|view| &view.entry) else { return false };
    let told_by = pass.observed.siblings.iter().find(|sibling| sibling.name == entry.rollout);
    let bit = u32::try_from(entry.batch).ok().and_then(|batch| 1u32.checked_shl(batch)).unwrap_or_default();
    told_by.is_some_and(|sibling| sibling.unproven & bit != 0)
}

/// Whether a rollout that came after this one told the device what to run. That one may be cancelled or rolled back by
/// now, so that this one is the policy's latest again; but what it did with its devices stands.
fn belongs_to_newer(pass: &Pass<'_>, view: &DeviceView, repository: &str) -> bool {
    let Some(entry) = view.entry(repository).map(|view| &view.entry).filter(|entry| entry.rollout != pass.name())
    else {
        return false;
    };
    match pass.observed.siblings.iter().find(|sibling| sibling.name == entry.rollout) {
        Some(sibling) => sibling.age > Age::of(pass.observed.rollout),
        // It is gone; whatever was written since this one ended was not written by one before it.
        None => pass.status.completion_time.as_ref().is_some_and(|completed| completed.0 <= entry.release_time.0),
    }
}

/// Takes back what was released to devices that went away before they could fetch it, or were held until their time
/// was up and still run what they ran. Else the clock that runs since then would judge them the moment they are back.
pub(crate) fn withdraw(pass: &mut Pass<'_>, subject: &Subject, judged: &Judged, clock: &Clock) {
    let manager = manager(pass);
    for (member, (_, progress)) in pass.observed.members.iter().zip(&judged.progress) {
        let untouched = member.standing == Standing::Released(Evidence::OtherImage);
        let due = match progress {
            Progress::Unfetched => !member.view.hold,
            Progress::Held { released: true } => untouched && clock.is_overdue(member),
            Progress::Held { released: false }
            | Progress::Excluded
            | Progress::Waiting
            | Progress::Missing
            | Progress::Offline
            | Progress::DeclaredAlready
            | Progress::Conflict
            | Progress::Updating(_)
            | Progress::Proving
            | Progress::Doubtful
            | Progress::Healthy
            | Progress::RunsAlready
            | Progress::Failed { .. }
            | Progress::SentBack => false,
        };
        if due
            && pass.actions.len() < MAX_ACTIONS
            && let Some(entry) = member.view.entry(&subject.image.repository)
        {
            let entry = withdrawn(&entry.entry, pass.now);
            pass.actions.push(set_entry(member.view, &manager, entry, Reason::Withdraw));
        }
    }
}

/// Stores the verdict Failed for devices whose time is up.
pub(crate) fn verdicts(pass: &mut Pass<'_>, subject: &Subject, judged: &Judged) {
    for (member, (_, progress)) in pass.observed.members.iter().zip(&judged.progress) {
        if pass.actions.len() >= MAX_ACTIONS {
            return;
        }
        if let Progress::Failed { new: true, sent_back: _ } = progress {
            let (reason, message) = failure(pass.observed, member, subject);
            let repository = &subject.image.repository;
            let action = store_failure(member.view, repository, pass.name(), reason, &message, pass.now);
            pass.actions.push(action);
        }
    }
}

/// Why a device failed: one word and a sentence.
pub(crate) fn failure(observed: &Observed<'_>, member: &Member<'_>, subject: &Subject) -> (&'static str, String) {
    match member.standing {
        Standing::Released(Evidence::Running) => match observed.proofs.of(member) {
            Some(Finding::Failed(why)) => ("HealthCheckFailed", format!("health check {why}")),
            Some(Finding::Passed | Finding::Pending | Finding::Unknown(_)) | None => {
                ("Failed", "its verdict is on record".into())
            }
        },
        Standing::Released(evidence @ Evidence::Restarts { .. }) => {
            ("ContainerRestarts", format!("{evidence} since it was told {}", subject.image))
        }
        Standing::Released(evidence) => (
            "DeadlineExceeded",
            format!("{evidence} {} s or more after it was told {}", subject.rules.deadline, subject.image),
        ),
        Standing::Unreleased
        | Standing::Held
        | Standing::Claimed
        | Standing::DeclaredAlready
        | Standing::RunsAlready
        | Standing::Overridden
        | Standing::SentBack(_) => ("Failed", "its verdict is on record".into()),
    }
}

/// After completion: devices that were offline, held or not there get the image when they turn up, as long as it is
/// still the policy's latest. A latecomer that fails goes back alone. The phase does not change.
pub(crate) fn latecomers(pass: &mut Pass<'_>, subject: &Subject) {
    let resumed = pass.status.resume_time.as_ref().map(|time| time.0);
    let mut clock = Clock::new(&subject.rules, pass.observed.knowledge, resumed, pass.spec().paused);
    clock.judged_since = pass.status.completion_time.as_ref().map_or(i64::MAX, |time| time.0.as_second());
    let judged = judge(pass, &clock);
    for (batch, tally) in pass.status.batches.iter_mut().zip(&judged.tallies) {
        // What was reached stays on record: a device that is switched off next year takes nothing away from it.
        batch.devices = tally.devices;
        batch.deferred = tally.deferred;
        batch.released = batch.released.max(tally.released);
        batch.updated = batch.updated.max(tally.updated);
        batch.healthy = batch.healthy.max(tally.healthy);
        batch.failed = batch.failed.max(tally.failed);
        batch.rolled_back = batch.rolled_back.max(tally.rolled_back);
    }
    pass.conflicts = judged.tallies.iter().map(|tally| tally.conflict).sum();
    pass.status.totals = Some(super::progress::totals(&pass.status.batches));
    status::failed_devices(pass, &judged);
    status::unchecked_devices(pass, &judged);
    verdicts(pass, subject, &judged);
    rollback::single_devices(pass, subject, &judged);
    withdraw(pass, subject, &judged, &clock);
    if let Some(due) = judged.tallies.iter().filter_map(|tally| tally.first_due).min() {
        pass.requeue_second(due);
    }
    // Nobody waits, nothing to look at again for.
    if judged.tallies.iter().all(|tally| tally.waiting == 0) {
        return;
    }
    let shut = match opening(&subject.rules.windows, pass.now) {
        Opening::Shut(opens) => {
            opens.inspect(|opens| pass.requeue(*opens));
            true
        }
        Opening::Always | Opening::Open(_) => false,
    };
    let early = lifecycle::not_before(pass).inspect(|time| pass.requeue(*time)).is_some();
    let suspended = matches!(pass.observed.policy, super::PolicyState::Valid(policy) if policy.spec.suspend);
    let gone = matches!(pass.observed.policy, super::PolicyState::Missing);
    if !shut
        && !early
        && !suspended
        && !gone
        && !pass.spec().paused
        && pass.spec().desired_state == crate::api::rollout::DesiredState::Active
        && pass.gateway_silence().is_none()
        && lifecycle::is_latest(pass)
    {
        release(pass, subject, &judged, u8::MAX, Reason::ReleaseLatecomer);
    }
}

/// Field manager of this rollout's entries.
pub(crate) fn manager(pass: &Pass<'_>) -> String {
    crate::api::policy_manager(&pass.spec().policy_ref.name)
}

#[cfg(test)]
mod tests;
