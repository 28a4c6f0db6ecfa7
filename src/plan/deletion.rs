//! A rollout that goes away: no device's answer may hang on it any more.
//!
//! The gate answers from the rollout's own spec and status. Once the rollout is gone, an entry that names it is simply
//! offered. So before the finalizer is let go, every entry that the gate holds back is rewritten to what the device
//! is really told: its previous image. Devices that run the image keep it, unless the rollout went back. The table
//! is the gateway's own, [`super::gate`].

use super::actions::{Reason, sent_back, set_entry};
use super::gate::{Evidence as Told, Facts, Offer, gate};
use super::observed::{Member, Standing};
use super::report::WaitingOn;
use super::{FinalizerChange, MAX_ACTIONS, Pass, release};

pub(crate) fn run(pass: &mut Pass<'_>) {
    let manager = release::manager(pass);
    let facts = Facts::of(pass.observed.rollout);
    if let Err(why) = pass.observed.subject
        && pass.old.plan.is_some()
    {
        // Something was released, and what becomes of it can't be said.
        return pass.wait(why.clone());
    }
    // Without a subject nothing was ever released.
    let repository = pass.observed.subject.map(|subject| subject.image.repository.as_str()).unwrap_or_default();
    let members = pass.observed.members;
    // Who only holds the image is not known here; the way back is the safe one.
    let keeps = |member: &Member<'_>| {
        let running = matches!(member.standing, Standing::Released(evidence) if evidence.runs());
        let mut row = facts.row_for(&member.view.name);
        if member.view.hold {
            row = row.max(super::gate::Row::Held);
        }
        match gate(row, facts.rolls_back_failed, Told { running, failed: member.failed }) {
            Offer::Image | Offer::ImageUnlessBack => true,
            Offer::Previous | Offer::ImageIfHeld => false,
        }
    };
    // Also an entry that does not apply now: once `apps` says again what it said then, it would. One that somebody else
    // has taken over can't be rewritten, and the rollout stays for as long as it stands there.
    let names_image = |member: &&Member<'_>| match member.standing {
        Standing::Released(_) => true,
        Standing::Overridden | Standing::Claimed => member
            .view
            .entry(repository)
            .is_some_and(|view| view.entry.rollout == pass.name() && view.entry.image != view.entry.previous),
        Standing::Unreleased
        | Standing::Held
        | Standing::DeclaredAlready
        | Standing::RunsAlready
        | Standing::SentBack(_) => false,
    };
    let rewrite: Vec<&Member<'_>> =
        members.iter().filter(names_image).filter(|member| !member.view.deleting && !keeps(member)).collect();
    if rewrite.is_empty() {
        pass.finalizer = FinalizerChange::Remove;
        return;
    }
    pass.wait(WaitingOn::Rewriting { devices: rewrite.len() });
    for member in rewrite.into_iter().filter(|member| member.standing != Standing::Claimed).take(MAX_ACTIONS) {
        if let Some(entry) = member.view.entry(repository) {
            let entry = sent_back(&entry.entry, pass.now);
            pass.actions.push(set_entry(member.view, &manager, entry, Reason::Rewrite));
        }
    }
}

#[cfg(test)]
mod tests;
