//! The Never list of design §8, judged by code that is not the planner.
//!
//! Sees every write and everything that devices are told, and looks at objects alone: no type of `tranche::plan` is
//! used here, ranks and budgets are computed a second time. What it finds it panics about at once, so that the story
//! ends where the harm was done.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use sha2::{Digest as _, Sha256};
use tranche::api::device::{ImageEntry, Verdict};
use tranche::api::policy::Offer;
use tranche::api::rollout::{ImageRollout, ImageRolloutStatus, Phase};
use tranche::api::{Device, policy_manager};

use crate::plan_support::gate::{self, Images, Row, canonical, declared, declared_text, name, repository, row};
use crate::plan_support::world::{World, owners};

/// What has been seen so far, as far as judging what comes needs it.
#[derive(Debug, Default)]
pub struct Invariants {
    /// Since when a device reports that it runs an image well, by device and image.
    running: BTreeMap<String, BTreeMap<String, Timestamp>>,
    /// Every image that a device was ever seen running well, or declared.
    known: BTreeMap<String, BTreeSet<String>>,
    /// How many things were looked at; a check that never ran proves nothing.
    pub looked: usize,
}

/// The image that a rollout tells devices.
pub fn image_of(rollout: &ImageRollout) -> String {
    let image = &rollout.spec.image;
    let offer = status(rollout).plan.as_ref().map_or(Offer::Digest, |plan| plan.offer);
    let repository = repository(&image.repository);
    match (offer, &image.tag, &image.digest) {
        (Offer::Digest, _, Some(digest)) | (Offer::Tag, None, Some(digest)) => format!("{repository}@{digest}"),
        (_, Some(tag), _) => format!("{repository}:{tag}"),
        (_, None, None) => repository,
    }
}

fn status(rollout: &ImageRollout) -> ImageRolloutStatus {
    rollout.status.clone().unwrap_or_default()
}

fn rollout_name(rollout: &ImageRollout) -> String {
    rollout.metadata.name.clone().unwrap_or_default()
}

fn entry_of<'a>(device: &'a Device, rollout: &str) -> Option<&'a ImageEntry> {
    device.spec.images.iter().find(|entry| entry.rollout == rollout)
}

fn has_failed(device: &Device, rollout: &str) -> bool {
    let updates = device.status.iter().flat_map(|status| &status.updates);
    updates.into_iter().any(|update| update.rollout == rollout && update.verdict == Verdict::Failed)
}

/// Every service of the image's repository is reported running it.
fn runs(world: &World, device: &Device, image: &str) -> bool {
    let services: Vec<_> =
        declared(device).into_iter().filter(|(_, declared)| repository(declared) == repository(image)).collect();
    services.iter().all(|(key, _)| {
        world.reported(device, key).is_some_and(|(running, status)| running == image && status == "running")
    })
}

/// First 8 bytes of SHA-256 over UID and name.
fn rank(uid: &str, device: &str) -> u64 {
    let digest = Sha256::digest(format!("{uid}{device}").as_bytes());
    digest.iter().take(8).fold(0, |rank, byte| rank << 8 | u64::from(*byte))
}

impl Invariants {
    /// A device polled, holding `held`, and is told `told`.
    pub fn told(&mut self, world: &World, device: &Device, held: &Images, told: &Images) {
        self.looked += 1;
        let who = name(device);
        let known = self.known.entry(who.clone()).or_default();
        known.extend(declared(device).into_values());
        for (key, image) in told {
            if held.get(key) == Some(image) {
                continue;
            }
            let now_declared = declared(device).get(key).cloned();
            let entry = device.spec.images.iter().find(|entry| entry.repository == repository(image));
            let Some(entry) = entry.filter(|entry| entry.declared == declared_text(device, &entry.repository)) else {
                assert_eq!(Some(image), now_declared.as_ref(), "{who} is told an image that nobody declared");
                continue;
            };
            let canon = |image: &Option<String>| image.as_ref().map(|image| canonical(image)).or(now_declared.clone());
            if Some(image) == canon(&entry.previous).as_ref() {
                // 6. Back to its own previous image, or still on it.
                continue;
            }
            assert_eq!(Some(image), canon(&entry.image).as_ref(), "{who} is told neither its image nor its previous");
            // 1 and 4. Forward: the rollout must allow it at this very moment.
            let Some(rollout) = world.rollouts.get(&entry.rollout) else { continue };
            let status = status(rollout);
            assert_eq!(*image, image_of(rollout), "{who} is told another image than that of {}", entry.rollout);
            assert_eq!(row(Some(rollout)), Row::Active, "{who} moves forward though {} says stop", entry.rollout);
            assert!(!device.spec.hold, "{who} is held and moves");
            assert!(
                status.phase == Phase::Completed || entry.batch <= status.current_batch,
                "{who} is told {image} before batch {} is open",
                entry.batch
            );
        }
    }

    /// A device's report was stored.
    pub fn reported(&mut self, world: &World, device: &Device) {
        let who = name(device);
        let mut now: BTreeMap<String, Timestamp> = BTreeMap::new();
        let before = self.running.remove(&who).unwrap_or_default();
        for key in declared(device).keys() {
            if let Some((image, status)) = world.reported(device, key)
                && status == "running"
                && runs(world, device, &image)
            {
                self.known.entry(who.clone()).or_default().insert(image.clone());
                now.insert(image.clone(), before.get(&image).copied().unwrap_or(world.now));
            }
        }
        self.running.insert(who, now);
    }

    /// The controller wrote a device's entries.
    pub fn images_written(&mut self, world: &World, before: &Device, after: &Device, manager: &str) {
        self.looked += 1;
        let who = name(after);
        assert_ne!(before.spec.images, after.spec.images, "8. {who}: a write that changes nothing");
        assert_eq!(before.spec.apps, after.spec.apps, "{who}: apps belong to people");
        for new in &after.spec.images {
            let old = before.spec.images.iter().find(|old| old.repository == new.repository);
            if old == Some(new) {
                continue;
            }
            if let Some(others) = owners(before).get(&new.repository) {
                assert!(others.iter().all(|owner| owner == manager), "7. {who}: {others:?} own what {manager} writes");
            }
            let rollout = world.rollouts.get(&new.rollout).unwrap_or_else(|| panic!("{who}: {} is gone", new.rollout));
            assert_eq!(manager, policy_manager(&rollout.spec.policy_ref.name));
            let forward = new.image.as_deref() == Some(&*image_of(rollout));
            assert!(!(after.spec.hold && forward), "{who} is held and moves forward");
            match old.filter(|old| old.rollout == new.rollout) {
                Some(old) if old.image.as_deref() == Some(&*image_of(rollout)) => self.went_back(&who, old, new),
                Some(_) | None => self.released(world, after, new, rollout),
            }
        }
    }

    /// 6. Only ever to its own previous image.
    fn went_back(&self, who: &str, old: &ImageEntry, new: &ImageEntry) {
        // Where people's word applies, only a rollout that goes away may write, so that nothing it says comes back.
        assert_eq!(old.declared, new.declared, "{who}: its entry forgets what it was for");
        assert_eq!(new.image, old.previous, "6. {who} is sent anywhere but to its own previous image");
        assert_eq!(
            (&new.previous, new.batch),
            (&old.previous, old.batch),
            "{who}: its entry forgets where it came from"
        );
    }

    /// 1 to 4. A release, judged by the rollout as it is stored at this moment.
    fn released(&self, world: &World, device: &Device, new: &ImageEntry, rollout: &ImageRollout) {
        let who = name(device);
        let status = status(rollout);
        let image = image_of(rollout);
        assert_eq!(new.image.as_deref(), Some(&*image), "{who} is released to something else");
        assert!(!new.rolled_back);
        assert_eq!(new.declared, declared_text(device, &new.repository), "7. {who}: people declared something else");
        assert!(rollout.metadata.deletion_timestamp.is_none(), "{who} is released by a rollout that goes away");
        assert_eq!(gate::row(Some(rollout)), Row::Active, "4. {who} is released by a rollout that has stopped");
        assert!(
            status.phase == Phase::Completed || new.batch <= status.current_batch,
            "2. {who} is released in batch {} of {:?}",
            new.batch,
            status.progress
        );
        assert!(!rollout.spec.roll_back_devices.contains(&who), "{who} was named to go back");
        assert!(!has_failed(device, &new.rollout), "{who} failed and is released again");
        if let Some(previous) = &new.previous {
            assert_ne!(*previous, image, "6. {who} could not go back");
            let known = self.known.get(&who).is_some_and(|known| known.contains(previous));
            assert!(known, "6. {who} never ran {previous}");
        }
        let plan = status.plan.as_ref().expect("a rollout that releases has a plan");
        if let Some(limit) = plan.max_concurrent {
            let updating = world.devices.values().filter(|device| self.is_updating(world, device, rollout)).count();
            assert!(updating <= usize::try_from(limit).unwrap(), "2. {updating} devices at once, {limit} allowed");
        }
    }

    /// Released, and neither running it, failed, held, away nor overridden.
    fn is_updating(&self, world: &World, device: &Device, rollout: &ImageRollout) -> bool {
        let image = image_of(rollout);
        let status = status(rollout);
        let completed = status.completion_time.as_ref().map(|time| time.0);
        entry_of(device, &rollout_name(rollout)).is_some_and(|entry| {
            entry.image.as_deref() == Some(&*image)
                && entry.declared == declared_text(device, &entry.repository)
                && completed.is_none_or(|completed| entry.release_time.0 > completed)
                && !device.spec.hold
                && !has_failed(device, &entry.rollout)
                && !runs(world, device, &image)
        })
    }

    /// The controller wrote a rollout's status.
    pub fn status_written(&mut self, world: &World, before: &ImageRollout, after: &ImageRollout) {
        self.looked += 1;
        let (old, new) = (status(before), status(after));
        let who = rollout_name(after);
        assert_ne!(before.status, after.status, "8. {who}: a status that says nothing new");
        assert!(!new.message.is_empty(), "{who} does not say what it waits for");
        assert!(new.history.len() <= 100 && new.failed_devices.len() <= 20 && new.conditions.len() <= 16);
        if old.phase.is_terminal() && old.phase != new.phase {
            // 10.
            assert_ne!(old.observed_generation, after.metadata.generation, "10. {who}: {} ends", old.phase);
        }
        if old.plan.is_some() {
            assert_eq!(old.plan, new.plan, "{who}: its plan changes while it runs");
            let fixed = |status: &ImageRolloutStatus| -> Vec<(String, String)> {
                status.batches.iter().map(|batch| (batch.size.clone(), batch.boundary.clone())).collect()
            };
            assert_eq!(fixed(&old), fixed(&new), "{who}: its batches change while it runs");
        }
        assert!(new.current_batch >= old.current_batch, "{who}: a batch shuts again");
        if new.phase == Phase::Completed && old.phase != Phase::Completed {
            assert_eq!(usize::try_from(new.current_batch).unwrap(), new.batches.len());
            (1..=new.batches.len()).for_each(|batch| self.is_decided(world, after, batch));
        }
        for opened in old.current_batch + 1..=new.current_batch {
            assert!(!after.spec.paused, "{who}: opens batch {opened} while paused");
            if let Some(approved) = after.spec.approved_batches {
                assert!(opened <= approved, "{who}: opens batch {opened} of {approved} approved");
            }
            for passed in 1..opened {
                self.has_passed(world, after, usize::try_from(passed).unwrap());
            }
        }
    }

    /// 3. Verdicts, budget and soak of a batch, when the next one opens.
    fn has_passed(&self, world: &World, rollout: &ImageRollout, number: usize) {
        let who = rollout_name(rollout);
        let status = status(rollout);
        let image = image_of(rollout);
        let batch = &status.batches[number - 1];
        if usize::try_from(status.current_batch).unwrap() > number + 1 {
            // Judged when its own successor opened; latecomers since then hold nobody up.
            return;
        }
        self.is_decided(world, rollout, number);
        let soak = batch.delay.map(|delay| SignedDuration::try_from(std::time::Duration::from(delay)).unwrap());
        let soak = soak.unwrap_or_default();
        let mine =
            || world.devices.values().filter(|device| entry_of(device, &who).is_some_and(|e| e.batch == number as i32));
        for device in mine().filter(|device| runs(world, device, &image) && !has_failed(device, &who)) {
            let since = self.running.get(&name(device)).and_then(|running| running.get(&image));
            let Some(since) = since else { continue };
            assert!(
                world.now.duration_since(*since) >= soak,
                "3. {who}: {} of batch {number} soaked too short",
                name(device)
            );
        }
        let failed = mine().filter(|device| has_failed(device, &who)).count();
        let of_plan = status.plan.as_ref().map(|plan| &plan.failure_policy.max_failure_rate);
        let rate = batch.max_failure_rate.as_ref().or(of_plan).unwrap();
        let rate: usize = rate.strip_suffix('%').unwrap().parse().unwrap();
        let tolerated = usize::try_from(batch.devices).unwrap() * rate / 100;
        let seen = usize::try_from(rollout.spec.acknowledged_failures).unwrap();
        assert!(failed <= tolerated || failed <= seen, "3. {who}: batch {number} has {failed} failures");
    }

    /// Nobody of a batch who is there is without verdict.
    fn is_decided(&self, world: &World, rollout: &ImageRollout, number: usize) {
        let who = rollout_name(rollout);
        let status = status(rollout);
        let image = image_of(rollout);
        let repository_ = repository(&image);
        let offline = status.plan.as_ref().map(|plan| std::time::Duration::from(plan.offline_after).as_secs()).unwrap();
        for device in world.devices.values() {
            let at = name(device);
            let is_there = world.published(&at).is_some_and(|seen| {
                // Presence is known up to a point, and coarsely.
                world.known() - seen <= i64::try_from(offline).unwrap()
            });
            let batch = match entry_of(device, &who) {
                Some(entry) => usize::try_from(entry.batch).unwrap(),
                None => batch_of(&status, rollout.metadata.uid.as_deref().unwrap_or_default(), device),
            };
            let of_it = declared(device).values().any(|image| repository(image) == repository_)
                && device.metadata.labels.as_ref().is_some_and(|labels| labels.get("fleet").is_some_and(|f| f == "a"));
            let of_another = owners(device).get(&repository_).is_some_and(|owners| {
                owners.iter().any(|owner| *owner != policy_manager(&rollout.spec.policy_ref.name))
            });
            let overridden = entry_of(device, &who).is_some_and(|e| e.declared != declared_text(device, &repository_));
            let sent_back = entry_of(device, &who).is_some_and(|entry| entry.rolled_back);
            let excused = !is_there
                || device.spec.hold
                || of_another
                || overridden
                || sent_back
                || rollout.spec.roll_back_devices.contains(&at)
                || declared(device).values().filter(|i| repository(i) == repository_).all(|i| *i == image);
            if batch == number && of_it && !excused {
                assert!(
                    has_failed(device, &who) || runs(world, device, &image),
                    "3. {who} goes on from batch {number}, but {at} has no verdict"
                );
            }
        }
    }

    /// A rollout's finalizer is let go: from now on every entry that names it is simply offered.
    pub fn rollout_gone(&mut self, world: &World, rollout: &ImageRollout) {
        self.looked += 1;
        let who = rollout_name(rollout);
        for device in world.devices.values().filter(|device| !device.spec.hold) {
            let Some(entry) = entry_of(device, &who).filter(|entry| entry.image != entry.previous) else { continue };
            if entry.declared != declared_text(device, &entry.repository) {
                continue;
            }
            let Some(agent) = world.agents.get(&name(device)) else { continue };
            let told = gate::told(world, device, &agent.held);
            let image = canonical(entry.image.as_deref().unwrap_or_default());
            for (key, given) in told.iter().filter(|(_, given)| repository(given) == entry.repository) {
                let has = agent.held.get(key) == Some(&image);
                assert!(*given == image || has, "{} would be told {image} once {who} is gone", name(device));
            }
        }
    }
}

/// Batch by rank and label, from 1.
fn batch_of(status: &ImageRolloutStatus, uid: &str, device: &Device) -> usize {
    let rank = rank(uid, &name(device));
    let labels = device.metadata.labels.clone().unwrap_or_default();
    let fits = |batch: &tranche::api::rollout::BatchStatus| {
        let boundary = u64::from_str_radix(&batch.boundary, 16).unwrap();
        let wanted = batch.selector.iter().filter_map(|selector| selector.match_labels.as_ref()).flatten();
        rank <= boundary && wanted.into_iter().all(|(key, value)| labels.get(key) == Some(value))
    };
    status.batches.iter().position(fits).map_or(status.batches.len(), |index| index + 1)
}
