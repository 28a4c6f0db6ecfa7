//! A rollout that goes away: no device's answer may hang on it any more.
//!
//! The gate answers from the rollout's own spec and status. Once the rollout is gone, an entry that names it is simply
//! offered. So before the finalizer is let go, every entry that the gate holds back is rewritten to what the device
//! is really told: its previous image. Devices that run the image keep it, unless the rollout went back.

use crate::api::rollout::DesiredState;
use crate::api::rollout::Phase;

use super::actions::{Reason, sent_back, set_entry};
use super::observed::{Evidence, Member, Standing};
use super::report::WaitingOn;
use super::{FinalizerChange, MAX_ACTIONS, Pass, release};

/// What becomes of entries that still carry the image.
enum Row {
    /// They stay: the image is offered.
    Keep,
    /// They stay where the image runs.
    KeepRunning,
    /// They stay where the image runs and has not failed.
    KeepHealthy,
    /// None stays.
    SendBack,
}

fn row(pass: &Pass<'_>) -> Row {
    let status = &pass.old;
    let going_back = status.rollback_time.is_some() || pass.spec().desired_state == DesiredState::RolledBack;
    match status.phase {
        Phase::RollingBack | Phase::RolledBack => Row::SendBack,
        _ if going_back => Row::SendBack,
        _ if status.halted.is_some() => Row::KeepHealthy,
        Phase::Halted => Row::KeepHealthy,
        Phase::Paused | Phase::Cancelled | Phase::Superseded => Row::KeepRunning,
        _ if pass.spec().paused || pass.spec().desired_state == DesiredState::Cancelled => Row::KeepRunning,
        Phase::Pending
        | Phase::AwaitingApproval
        | Phase::Progressing
        | Phase::Soaking
        | Phase::Completed
        | Phase::Failed => Row::Keep,
    }
}

pub(crate) fn run(pass: &mut Pass<'_>) {
    let manager = release::manager(pass);
    let row = row(pass);
    // Without a subject (its own image does not parse) nothing was ever released.
    let repository = pass.observed.subject.map(|subject| subject.image.repository.as_str()).unwrap_or_default();
    let members = pass.observed.members;
    let sends_failed_back = pass.observed.subject.is_ok_and(|subject| subject.rules.roll_back_failed);
    let named = &pass.spec().roll_back_devices;
    let keeps = |member: &Member<'_>| {
        let runs = member.standing == Standing::Released(Evidence::Running);
        // Told its previous image by itself, whatever the others are told.
        let goes_back = (member.failed && sends_failed_back) || named.contains(&member.view.name);
        match row {
            Row::Keep | Row::KeepRunning | Row::KeepHealthy if goes_back => runs && member.view.hold,
            Row::Keep => true,
            Row::KeepRunning => runs,
            Row::KeepHealthy => runs && !member.failed,
            Row::SendBack => runs && member.view.hold,
        }
    };
    let rewrite: Vec<&Member<'_>> = members
        .iter()
        .filter(|member| matches!(member.standing, Standing::Released(_)) && !member.view.deleting && !keeps(member))
        .collect();
    if rewrite.is_empty() {
        pass.finalizer = FinalizerChange::Remove;
        return;
    }
    pass.wait(WaitingOn::Rewriting { devices: rewrite.len() });
    for member in rewrite.into_iter().take(MAX_ACTIONS) {
        if let Some(entry) = member.view.entry(repository) {
            let entry = sent_back(&entry.entry, pass.now);
            pass.actions.push(set_entry(member.view, &manager, entry, Reason::Rewrite));
        }
    }
}
