//! Message, conditions and history; and whether any of it is worth a write.

use crate::api::act::Act;
use crate::api::condition::{self, Condition, truncate};
use crate::api::rollout::{
    BatchStatus, FailedDevice, HistoryEntry, ImageRolloutStatus, Phase, TriggerType, UncheckedDevice,
};
use crate::api::time::whole_seconds;

use super::advance::Judged;
use super::observed::Member;
use super::progress::Progress;
use super::report::WaitingOn;
use super::{FinalizerChange, Pass, StatusWrite, release};

/// Lines of history that are kept; the bound of the CRD.
const MAX_HISTORY: usize = 100;
/// Failed devices that are named; the bound of the CRD.
const MAX_FAILED: usize = 20;
/// Names in one line of history. More would flood it: the figures say the rest.
const MAX_NAMES: usize = 3;
/// Longest line of history; the bound of the CRD.
const MAX_LINE: usize = 512;

/// First line of the history.
pub(crate) fn created(pass: &mut Pass<'_>) {
    let spec = pass.spec();
    let trigger = match &spec.trigger {
        Some(trigger) => match (trigger.type_, &trigger.receiver) {
            (TriggerType::Manual, _) if let Some(act) = Act::of(&pass.observed.rollout.metadata) => act.who_and_why(),
            (TriggerType::Webhook, Some(receiver)) => format!("a push ({receiver})"),
            (TriggerType::Webhook, None) => "a push".into(),
            (TriggerType::Poll, _) => "the registry's list of tags".into(),
            (TriggerType::Manual, _) => "a person".into(),
        },
        None => "a person".into(),
    };
    let image =
        super::subject::rollout_image(spec).map_or_else(|_| spec.image.repository.clone(), |image| image.to_string());
    note(pass, "RolloutCreated", format!("{image} for policy {}, by {trigger}", spec.policy_ref.name));
    // Until it starts, and may know better.
    pass.status.image = Some(image);
}

/// What people's acts are called in the history.
const ACTS: [&str; 6] = [
    "RolloutPaused",
    "RolloutResumed",
    "BatchApproved",
    "CancelRequested",
    "RollbackRequested",
    "DeviceRollbackRequested",
];

/// A line for what a person did since the last pass, where they left word of it.
pub(crate) fn acted(pass: &mut Pass<'_>) {
    let metadata = &pass.observed.rollout.metadata;
    let seen = pass.old.observed_generation.unwrap_or_default();
    let now = metadata.generation.unwrap_or_default();
    // Of a later change that left the annotation as it was, nothing is said.
    let Some(act) = Act::of(metadata).filter(|act| seen < act.generation && act.generation <= now) else { return };
    let Some(type_) = ACTS.into_iter().find(|type_| *type_ == act.verb) else { return };
    let spec = pass.spec();
    let what = match type_ {
        "BatchApproved" => format!("up to batch {}, ", spec.approved_batches.unwrap_or_default()),
        "DeviceRollbackRequested" => spec.roll_back_devices.last().map(|name| format!("{name}, ")).unwrap_or_default(),
        _ => String::new(),
    };
    note(pass, type_, format!("{what}by {}", act.who_and_why()));
    pass.told = Some(type_);
}

/// As [`note`], unless a person's own word on it came in this pass.
fn note_unless_told(pass: &mut Pass<'_>, type_: &str, message: String) {
    if pass.told != Some(type_) {
        note(pass, type_, message);
    }
}

/// Adds a line to the history. Once its status is stored, the controller publishes it as an Event.
pub(crate) fn note(pass: &mut Pass<'_>, type_: &str, message: String) {
    pass.status.history.push(HistoryEntry {
        time: whole_seconds(pass.now),
        type_: type_.to_owned(),
        message: truncate(message, MAX_LINE),
    });
    let surplus = pass.status.history.len().saturating_sub(MAX_HISTORY);
    pass.status.history.drain(..surplus);
}

/// As [`note`], unless a line of that type and beginning is there: a batch that flaps completes once for the record.
pub(crate) fn note_once(pass: &mut Pass<'_>, type_: &str, beginning: String, rest: &str) {
    let known = |line: &HistoryEntry| line.type_ == type_ && line.message.starts_with(&beginning);
    if !pass.status.history.iter().any(known) {
        note(pass, type_, beginning + rest);
    }
}

/// The named failures, and a line of history for those that are new.
pub(crate) fn failed_devices(pass: &mut Pass<'_>, judged: &Judged) {
    let Ok(subject) = pass.observed.subject else { return };
    let mut members: Vec<(&Member<'_>, bool)> = Vec::new();
    for (member, (_, progress)) in pass.observed.members.iter().zip(&judged.progress) {
        if let Progress::Failed { new, sent_back: _ } = progress {
            members.push((member, *new));
        }
    }
    // Which of more than twenty are named must not depend on who is looked at first.
    members.sort_unstable_by(|(a, _), (b, _)| a.view.name.cmp(&b.view.name));
    members.truncate(MAX_FAILED);
    let failed: Vec<FailedDevice> = members
        .into_iter()
        .map(|(member, new)| {
            let (reason, message) = match member.view.verdict(&subject.image.repository, pass.name()) {
                Some(update) if !new => (update.reason.clone(), update.message.clone()),
                Some(_) | None => {
                    let (reason, message) = release::failure(pass.observed, member, subject);
                    (reason.to_owned(), message)
                }
            };
            FailedDevice { name: member.view.name.clone(), reason, message: truncate(message, MAX_LINE) }
        })
        .collect();
    let old = pass.old.totals.clone().unwrap_or_default();
    let now = pass.status.totals.clone().unwrap_or_default();
    if now.failed > old.failed {
        let known = |name: &str| pass.old.failed_devices.iter().any(|before| before.name == name);
        let fresh: Vec<&FailedDevice> = failed.iter().filter(|device| !known(&device.name)).take(MAX_NAMES).collect();
        let names: Vec<&str> = fresh.iter().map(|device| device.name.as_str()).collect();
        let count = now.failed - old.failed;
        let more = count - i32::try_from(names.len()).unwrap_or_default();
        let who = match (names.is_empty(), more > 0) {
            (false, false) => names.join(", "),
            (false, true) => format!("{} and {more} more", names.join(", ")),
            (true, _) => format!("{count} more devices"),
        };
        let why = fresh.first().copied().or(failed.first()).map(|device| device.message.clone()).unwrap_or_default();
        note(pass, "DeviceFailed", format!("{who}: {why}"));
    }
    pass.status.failed_devices = failed;
}

/// The named devices that can't be checked.
pub(crate) fn unchecked_devices(pass: &mut Pass<'_>, judged: &Judged) {
    let mut members: Vec<&Member<'_>> = pass
        .observed
        .members
        .iter()
        .zip(&judged.progress)
        .filter_map(|(member, (_, progress))| (*progress == Progress::Doubtful).then_some(member))
        .collect();
    members.sort_unstable_by(|a, b| a.view.name.cmp(&b.view.name));
    let unchecked = |member: &&Member<'_>| UncheckedDevice {
        name: member.view.name.clone(),
        message: truncate(pass.observed.doubt(member).to_owned(), MAX_LINE),
    };
    pass.status.unchecked_devices = members.iter().take(MAX_FAILED).map(unchecked).collect();
}

/// Message, progress, conditions, and the lines of history that follow from a change of phase.
pub(crate) fn finish(pass: &mut Pass<'_>) {
    if pass.finalizer != FinalizerChange::Keep {
        return;
    }
    if pass.observed.rollout.metadata.deletion_timestamp.is_some() {
        // Nothing else is true of it any more; but a deletion that takes long must say why.
        if let Some(why) = pass.waiting_on.first() {
            pass.status.message = truncate(format!("being deleted: {why}"), 1024);
        }
        return;
    }
    let phase = pass.status.phase;
    if !phase.is_terminal() {
        let text = pass.waiting_on.first().map_or_else(|| "releasing".to_owned(), ToString::to_string);
        pass.status.message = truncate(text, 1024);
    }
    let old = pass.old.totals.clone().unwrap_or_default();
    let new = pass.status.totals.clone().unwrap_or_default();
    if new.rolled_back > old.rolled_back {
        let count = new.rolled_back - old.rolled_back;
        note(pass, "DeviceRolledBack", format!("{count} devices were sent back to their previous image"));
    }
    if phase != pass.old.phase {
        changed_phase(pass, pass.old.phase, phase);
    }
    if !pass.status.batches.is_empty() {
        pass.status.progress = Some(format!("{}/{}", pass.status.current_batch, pass.status.batches.len()));
    }
    pass.status.conditions = condition::merge(&pass.old.conditions, conditions(pass));
}

fn changed_phase(pass: &mut Pass<'_>, before: Phase, after: Phase) {
    let message = pass.status.message.clone();
    match after {
        Phase::Paused => note_unless_told(pass, "RolloutPaused", "a person paused it".into()),
        Phase::Completed => note(pass, "RolloutCompleted", message),
        Phase::RolledBack => note(pass, "RolloutRolledBack", message),
        Phase::Cancelled => note(pass, "RolloutCancelled", message),
        Phase::Superseded => note(pass, "RolloutSuperseded", message),
        Phase::Failed => note(pass, "RolloutFailed", message),
        Phase::Pending
        | Phase::AwaitingApproval
        | Phase::Progressing
        | Phase::Soaking
        | Phase::Halted
        | Phase::RollingBack => match before {
            Phase::Paused if !matches!(after, Phase::RollingBack | Phase::Halted) => {
                note_unless_told(pass, "RolloutResumed", "a person resumed it".into());
            }
            Phase::Halted if !matches!(after, Phase::RollingBack | Phase::Halted) => {
                let seen = pass.spec().acknowledged_failures;
                note_unless_told(pass, "RolloutResumed", format!("a person acknowledged {seen} failures"));
            }
            _ => {}
        },
    }
}

fn conditions(pass: &Pass<'_>) -> Vec<Condition> {
    let generation = pass.status.observed_generation;
    let phase = pass.status.phase;
    let message = pass.status.message.clone();
    let make = |type_: &str, status: bool, reason: &str, message: String| {
        condition::condition(type_, status, reason, message, generation, whole_seconds(pass.now).0)
    };
    let first = pass.waiting_on.first();
    let reason = first.map_or(phase.as_str(), WaitingOn::reason);
    let mut conditions = vec![make(condition::READY, phase == Phase::Completed, reason, message.clone())];
    let stalled = match phase {
        Phase::Completed => false,
        // They will never be Ready, and whoever waits for them should know.
        Phase::RolledBack | Phase::Cancelled | Phase::Superseded | Phase::Failed => true,
        Phase::Pending
        | Phase::AwaitingApproval
        | Phase::Progressing
        | Phase::Soaking
        | Phase::Paused
        | Phase::Halted
        | Phase::RollingBack => first.is_some_and(WaitingOn::needs_a_person),
    };
    if stalled {
        conditions.push(make(condition::STALLED, true, reason, message));
    } else if phase != Phase::Completed {
        conditions.push(make(condition::RECONCILING, true, reason, message));
    }
    if pass.conflicts > 0 {
        let text = format!(
            "{} devices are left alone: somebody else decides over their image of this repository; \
             `tranche plan` and the devices' spec.images say who",
            pass.conflicts
        );
        conditions.push(make(condition::DEVICES_IN_CONFLICT, true, "Conflict", text));
    }
    if let Some(text) = &pass.not_back {
        conditions.push(make(condition::DEVICES_NOT_BACK, true, "NotBack", text.clone()));
    }
    conditions
}

/// How much of `new` is news.
#[must_use]
pub fn compare(old: &ImageRolloutStatus, new: &ImageRolloutStatus) -> StatusWrite {
    if old == new {
        StatusWrite::None
    } else if gates(old) == gates(new) {
        StatusWrite::Figures
    } else {
        StatusWrite::Transition
    }
}

/// The status without figures, texts and history: what gates and people act on. Before the start the reason why it
/// waits counts too, because other rollouts go by it.
fn gates(status: &ImageRolloutStatus) -> ImageRolloutStatus {
    ImageRolloutStatus {
        message: String::new(),
        totals: None,
        failed_devices: Vec::new(),
        unchecked_devices: Vec::new(),
        history: Vec::new(),
        conditions: if status.plan.is_some() { Vec::new() } else { reasons(&status.conditions) },
        batches: status
            .batches
            .iter()
            .map(|batch| BatchStatus {
                devices: 0,
                released: 0,
                updated: 0,
                healthy: 0,
                failed: 0,
                rolled_back: 0,
                deferred: 0,
                ..batch.clone()
            })
            .collect(),
        ..status.clone()
    }
}

fn reasons(conditions: &[Condition]) -> Vec<Condition> {
    conditions.iter().map(|condition| Condition { message: String::new(), ..condition.clone() }).collect()
}

#[cfg(test)]
mod tests;
