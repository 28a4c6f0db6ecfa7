//! A device as one rollout sees it: from spec and reports to a [`Member`], apart from the clock.
//!
//! Unknown is not a verdict: what a report does not say is evidence of nothing. The agent's `version` is not looked
//! at, because it only proves a poll.

use std::collections::BTreeSet;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::api::rollout::ImageRolloutStatus;
use crate::api::{ImageRef, policy_of_manager};

use super::cohort::rank;
use super::container;
use super::observed::{DeviceView, EntryView, Evidence, Member, ServiceView, Standing};
use super::proof::{Proof, Proofs};
use super::rivals::Rival;
use super::validated::Rules;

/// One rollout, as far as a device's place in it depends on it.
#[derive(Clone, Debug)]
pub struct Target<'a> {
    /// Name of the rollout.
    pub rollout: &'a str,
    /// Its UID, for ranks.
    pub uid: &'a str,
    /// When it started, if it has. What is older was another rollout's that had its name.
    pub began: Option<jiff::Timestamp>,
    /// The image that devices are told.
    pub image: &'a ImageRef,
    /// Field manager of the policy's entries.
    pub manager: &'a str,
    /// What the rollout goes by.
    pub rules: &'a Rules,
    /// Policies that go before its own; their devices are theirs.
    pub rivals: &'a [Rival],
    /// Policies that are there, or have rollouts left. `None`: not known, so all may be.
    pub living: Option<&'a BTreeSet<String>>,
    /// Rollouts of other policies.
    pub others: &'a BTreeSet<String>,
    /// What was found by looking at its devices.
    pub proofs: &'a Proofs,
    /// How far it has come.
    pub status: Option<&'a ImageRolloutStatus>,
    /// For how long latecomers are there.
    pub now: jiff::Timestamp,
}

impl Target<'_> {
    /// Whether somebody else's word stands in an entry. What a policy left behind that is gone, with all its rollouts, is
    /// nobody's: whoever has the devices now takes it over (a policy that is renamed is such a case).
    fn is_foreign(&self, manager: &str) -> bool {
        let is_dead = |policy| self.living.is_some_and(|living| !living.contains(policy));
        manager != self.manager && !policy_of_manager(manager).is_some_and(is_dead)
    }

    /// Whether this very rollout wrote something, and not one before it of the same name: names are made from policy
    /// and image, so a rollout that is deleted and made again has the same. By the controller's clock alone: when it was
    /// created is the API server's word.
    fn wrote(&self, rollout: &str, at: &Time) -> bool {
        rollout == self.rollout && self.began.is_some_and(|began| at.0 >= began)
    }
}

/// The device as a member of the rollout, or `None` when the rollout is not for it.
#[must_use]
pub fn member<'a>(view: &'a DeviceView, seen: Option<jiff::Timestamp>, target: &Target<'_>) -> Option<Member<'a>> {
    let repository = target.image.repository.as_str();
    let entry = view.entry(repository).filter(|entry| target.wrote(&entry.entry.rollout, &entry.entry.release_time));
    let in_cohort = !view.deleting
        && view.services_of(repository).next().is_some()
        && target.rules.claims(&view.name, &view.labels)
        && !target.rivals.iter().any(|rival| rival.claims(&view.name, &view.labels));
    if entry.is_none() && !in_cohort {
        return None;
    }
    let selected = target
        .rules
        .batch_selectors
        .iter()
        .enumerate()
        .filter(|(_, selector)| selector.matches(&view.labels))
        .fold(0, |mask, (index, _)| mask | 1 << index);
    let mut member = Member {
        view,
        // A device that carries its batch needs no rank any more; hashing is most of the cost of a pass.
        rank: if entry.is_some() { 0 } else { rank(target.uid, &view.name) },
        seen: seen.max(view.last_seen).map_or(i64::MIN, jiff::Timestamp::as_second),
        since: entry.map_or(0, |entry| entry.entry.release_time.0.as_second()),
        selected,
        batch: entry.map_or(0, |entry| u8::try_from(entry.entry.batch).unwrap_or(u8::MAX)),
        proof: Proof::Passed,
        failed: view
            .verdict(repository, target.rollout)
            .filter(|update| target.wrote(&update.rollout, &update.time))
            .is_some_and(|update| update.verdict == crate::api::device::Verdict::Failed),
        standing: standing(view, target),
    };
    member.proof = target.proofs.proof(&member, target.rules, target.status, target.now);
    Some(member)
}

fn standing(view: &DeviceView, target: &Target<'_>) -> Standing {
    let repository = target.image.repository.as_str();
    let owner = view.entry(repository);
    // An heir writes on under the dead policy's name; should that policy come back, the entry is not its own.
    let is_foreign = |owner: &EntryView| {
        target.others.contains(&owner.entry.rollout) || owner.managers.iter().any(|manager| target.is_foreign(manager))
    };
    if owner.is_some_and(is_foreign) {
        return Standing::Claimed;
    }
    match owner.map(|owner| &owner.entry).filter(|entry| target.wrote(&entry.rollout, &entry.release_time)) {
        Some(entry) if entry.declared != view.declared(repository) => {
            // Whoever writes the rollout's own image into `apps` agrees with it.
            if declares(view, target.image) { unaided(view, target) } else { Standing::Overridden }
        }
        Some(entry) if entry.rolled_back => Standing::SentBack(of_previous(view, repository, entry)),
        Some(entry) if entry.image.as_deref().is_some_and(|image| names(image, target.image)) => {
            Standing::Released(evidence(view, target))
        }
        // Withdrawn: it keeps its batch, and is released again like one that never was.
        Some(_) if view.hold => Standing::Held,
        Some(_) => Standing::Unreleased,
        None => {
            // An entry of an older rollout still overrides what `apps` declares.
            let overlaid = owner
                .is_some_and(|owner| owner.entry.image.is_some() && owner.entry.declared == view.declared(repository));
            if declares(view, target.image) && !overlaid {
                unaided(view, target)
            } else if view.hold {
                Standing::Held
            } else {
                Standing::Unreleased
            }
        }
    }
}

/// Whether `apps` itself gives every service of the repository this image.
fn declares(view: &DeviceView, image: &ImageRef) -> bool {
    let mut services = view.services_of(&image.repository).peekable();
    services.peek().is_some() && services.all(|service| service.image.same_image(image))
}

/// Of a device that gets the image from its `apps`.
fn unaided(view: &DeviceView, target: &Target<'_>) -> Standing {
    match evidence(view, target) {
        Evidence::Running => Standing::RunsAlready,
        Evidence::NoReport
        | Evidence::Missing
        | Evidence::OtherImage
        | Evidence::NotRunning
        | Evidence::Starting
        | Evidence::Unhealthy
        | Evidence::Restarts { .. } => Standing::DeclaredAlready,
    }
}

/// What the device's last report says about the image it was told.
fn evidence(view: &DeviceView, target: &Target<'_>) -> Evidence {
    let found = reports(view, &target.image.repository, |_| target.image);
    match found {
        Evidence::NoReport | Evidence::Missing | Evidence::OtherImage => found,
        Evidence::Running
        | Evidence::NotRunning
        | Evidence::Starting
        | Evidence::Unhealthy
        | Evidence::Restarts { .. } => {
            container::worse(found, container::evidence(view, &target.image.repository, &target.rules.containers))
        }
    }
}

/// What it says about the image that the device had before the release.
fn of_previous(view: &DeviceView, repository: &str, entry: &crate::api::device::ImageEntry) -> Evidence {
    let previous = entry.previous.as_deref().and_then(|text| text.parse::<ImageRef>().ok());
    reports(view, repository, |service| previous.as_ref().unwrap_or(&service.image))
}

/// Whether every service of a repository is reported running the image that it is to have.
fn reports<'a>(
    view: &'a DeviceView,
    repository: &'a str,
    wanted: impl Fn(&'a ServiceView) -> &'a ImageRef,
) -> Evidence {
    if view.reported.is_none() {
        return Evidence::NoReport;
    }
    let mut worst = Evidence::Running;
    for service in view.services_of(repository) {
        let Some(reported) = view.reported_service(service) else { return Evidence::Missing };
        if !reported.image.parse::<ImageRef>().is_ok_and(|image| image.same_image(wanted(service))) {
            return Evidence::OtherImage;
        }
        if !reported.is_running() {
            worst = Evidence::NotRunning;
        }
    }
    worst
}

/// Where a rollback of this device would go: the image that it was last seen running well.
///
/// - It runs one image of the repository now, and no rollout has judged that image a failure on it: that image. Not if it
///   is `unproven`: told by a rollout whose checks it has not passed.
/// - Else what its present entry would go back to.
/// - Else (`None`) what `apps` declares. That is also the answer when its services run different images, because one
///   reference could not bring all of them back.
///
/// Never the image that is about to be released: a rollback must lead somewhere else.
#[must_use]
pub fn previous_image(view: &DeviceView, target: &ImageRef, unproven: bool) -> Option<String> {
    let repository = target.repository.as_str();
    let entry = view
        .entry(repository)
        .map(|entry| &entry.entry)
        .filter(|entry| entry.image.is_some() && entry.declared == view.declared(repository));
    let fallback = entry.and_then(|entry| entry.previous.clone()).filter(|text| !names(text, target));
    let mut running: Option<ImageRef> = None;
    for service in view.services_of(repository) {
        let Some(image) = view
            .reported_service(service)
            .filter(|reported| reported.is_running())
            .and_then(|reported| reported.image.parse::<ImageRef>().ok())
            .filter(|image| image.repository == repository)
        else {
            return fallback;
        };
        match &running {
            Some(first) if !first.same_image(&image) => return fallback,
            Some(_) => {}
            None => running = Some(image),
        }
    }
    let failed_on_it =
        entry.is_some_and(|entry| !entry.rolled_back && view.verdict(repository, &entry.rollout).is_some());
    running
        .filter(|image| !failed_on_it && !unproven && !image.same_image(target))
        .map(|image| image.to_string())
        .or(fallback)
}

fn names(text: &str, image: &ImageRef) -> bool {
    text.parse::<ImageRef>().is_ok_and(|parsed| parsed.same_image(image))
}

#[cfg(test)]
mod tests;
