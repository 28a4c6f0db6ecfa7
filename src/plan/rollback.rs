//! The way back: single devices, a batch, everything.
//!
//! Each device goes to its own `previous` and nowhere else. A rollback of everything is on record (`rollbackTime`)
//! before the first device is rewritten; from that write on the gate sends every device back at its next poll, and
//! the rewriting only makes that last. Windows, approval, pause and hold don't hold it up: they stop
//! devices from moving forward.

use std::collections::HashSet;

use crate::api::policy::FailureAction;
use crate::api::rollout::Phase;
use crate::api::time::whole_seconds;

use super::actions::{Reason, sent_back, set_entry};
use super::advance::Judged;
use super::observed::{Member, Standing};
use super::progress::{Clock, Progress};
use super::report::WaitingOn;
use super::subject::Subject;
use super::{MAX_ACTIONS, Pass, lifecycle, release, status};

/// Puts the rollback on record.
pub(crate) fn begin(pass: &mut Pass<'_>, why: &str) {
    pass.status.rollback_time = Some(whole_seconds(pass.now));
    pass.status.completion_time = None;
    pass.enter(Phase::RollingBack);
    status::note(pass, "RollbackStarted", format!("every device goes back to its previous image: {why}"));
}

/// Rewrites every entry and waits for the devices to arrive.
pub(crate) fn everything(pass: &mut Pass<'_>, subject: &Subject) {
    let clock = Clock::new(&subject.rules, pass.observed.knowledge, None, false);
    // Two writes to one device can't both carry the revision that was looked at; the second comes with the next pass.
    let written: HashSet<String> = pass.actions.iter().map(|action| action.device.clone()).collect();
    let (mut carrying, mut back, mut on_the_way, mut stuck, mut offline) = (0, 0, 0, 0, 0);
    for member in pass.observed.members {
        match member.standing {
            Standing::Released(_) if written.contains(&member.view.name) => {
                carrying += 1;
                on_the_way += 1;
            }
            Standing::Released(_) => {
                carrying += 1;
                on_the_way += 1;
                send_back(pass, member, Reason::RollBackAll);
            }
            Standing::SentBack { arrived: true } => {
                carrying += 1;
                back += 1;
            }
            Standing::SentBack { arrived: false } => {
                carrying += 1;
                if clock.is_offline(member) {
                    offline += 1;
                } else if clock.is_overdue(member) {
                    stuck += 1;
                } else {
                    on_the_way += 1;
                    clock.due(member).inspect(|due| pass.requeue_second(*due));
                }
            }
            Standing::Unreleased
            | Standing::Held
            | Standing::Claimed
            | Standing::DeclaredAlready
            | Standing::RunsAlready
            | Standing::Overridden => {}
        }
    }
    record_sent_back(pass);
    if on_the_way > 0 {
        pass.enter(Phase::RollingBack);
        return pass.wait(WaitingOn::GoingBack { pending: on_the_way, devices: carrying });
    }
    let mut message = format!("{back} of {carrying} devices are back on their previous image");
    for (count, what) in
        [(stuck, "were sent back but are not seen running it"), (offline, "are offline and go back when they turn up")]
    {
        if count > 0 {
            message.push_str(&format!(", {count} {what}"));
        }
    }
    lifecycle::end(pass, Phase::RolledBack, &message);
}

/// Devices that a person named, in a rollout that has ended otherwise.
pub(crate) fn requested(pass: &mut Pass<'_>) {
    let members = pass.observed.members;
    for member in members {
        if pass.spec().roll_back_devices.contains(&member.view.name) && matches!(member.standing, Standing::Released(_))
        {
            send_back(pass, member, Reason::RollBackRequested);
        }
    }
}

/// Failed devices, the batch that broke the budget, devices that a person named.
pub(crate) fn single_devices(pass: &mut Pass<'_>, subject: &Subject, judged: &Judged) {
    let rules = &subject.rules;
    let bad_batch = match (&pass.status.halted, rules.action) {
        (Some(halted), FailureAction::RollBackBatch) => u8::try_from(halted.batch).ok(),
        (Some(_) | None, FailureAction::Pause | FailureAction::RollBackBatch | FailureAction::RollBackAll) => None,
    };
    let members = pass.observed.members;
    for (member, (batch, progress)) in members.iter().zip(&judged.progress) {
        if !matches!(member.standing, Standing::Released(_)) {
            continue;
        }
        let failed = matches!(progress, Progress::Failed { new: false, sent_back: false });
        let reason = if pass.spec().roll_back_devices.contains(&member.view.name) {
            Reason::RollBackRequested
        } else if bad_batch == Some(*batch) && !matches!(progress, Progress::Failed { new: true, .. }) {
            Reason::RollBackBatch
        } else if failed && rules.roll_back_failed {
            Reason::RollBackFailed
        } else {
            continue;
        };
        send_back(pass, member, reason);
    }
}

fn send_back(pass: &mut Pass<'_>, member: &Member<'_>, reason: Reason) {
    let manager = release::manager(pass);
    let repository = pass.observed.subject.map(|subject| subject.image.repository.as_str()).unwrap_or_default();
    if pass.actions.len() < MAX_ACTIONS
        && let Some(entry) = member.view.entry(repository)
    {
        pass.actions.push(set_entry(member.view, &manager, sent_back(&entry.entry, pass.now), reason));
    }
}

/// Keeps the figures of the batches while everything goes back.
fn record_sent_back(pass: &mut Pass<'_>) {
    let mut per_batch = vec![0; pass.status.batches.len()];
    for member in pass.observed.members {
        if let Standing::SentBack { .. } = member.standing
            && let Some(count) = usize::from(member.batch).checked_sub(1).and_then(|index| per_batch.get_mut(index))
        {
            *count += 1;
        }
    }
    for (batch, count) in pass.status.batches.iter_mut().zip(per_batch) {
        batch.rolled_back = count;
        batch.updated = batch.updated.min(batch.devices - count);
        batch.healthy = batch.healthy.min(batch.devices - count);
    }
    pass.status.totals = Some(super::progress::totals(&pass.status.batches));
}
