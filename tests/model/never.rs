//! The Never list of design §8, judged at each step by what is stored and what devices are told. No type of
//! `tranche::plan` is used here: ranks, budgets and the gate's table are worked out a second time.

use jiff::SignedDuration;
use sha2::{Digest as _, Sha256};
use tranche::api::rollout::Phase;

use crate::objects::{DeviceFacts, EntryFacts, Image, RolloutFacts, Row, time};
use crate::state::{Agent, DEVICES};

/// A promise, as a bit of `State::broken`.
pub mod promise {
    /// 1. An image is offered that its rollout does not allow at that moment.
    pub const OFFER: u16 = 1 << 1;
    /// 2. More without verdict than `maxConcurrent`, or more released than the open batches hold.
    pub const LIMIT: u16 = 1 << 2;
    /// 3. A batch opens before the one before has its verdicts, its soak and its budget.
    pub const ORDER: u16 = 1 << 3;
    /// 4. After a stop is acknowledged, a device moves forward.
    pub const STOP: u16 = 1 << 4;
    /// 5. One push makes two rollouts.
    pub const PUSH: u16 = 1 << 5;
    /// 6. A device is sent back to anything but its own previous image.
    pub const BACK: u16 = 1 << 6;
    /// 7. What somebody else changed is overwritten.
    pub const FOREIGN: u16 = 1 << 7;
    /// 8. A write changes nothing.
    pub const IDLE: u16 = 1 << 8;
    /// 10. A terminal phase changes without a change of spec.
    pub const END: u16 = 1 << 10;
    /// A status does not say what it waits for.
    pub const REASON: u16 = 1 << 11;
    /// Unknown is not a verdict: a device is judged against what it is seen running.
    pub const VERDICT: u16 = 1 << 12;
}

/// The terms of the policy, as the judge was told them.
#[derive(Clone, Copy, Debug)]
pub struct Terms {
    /// Failures tolerated, percent of a batch.
    pub rate: usize,
    pub max_concurrent: Option<usize>,
    pub soak: SignedDuration,
    pub rolls_back_failed: bool,
}

/// Everything there is at a step.
pub struct Scene<'a> {
    pub terms: Terms,
    pub tick: u8,
    pub devices: &'a [Option<std::sync::Arc<DeviceFacts>>; DEVICES],
    pub agents: &'a [Agent; DEVICES],
}

/// A rollout's status was written.
pub fn status_written(scene: &Scene<'_>, before: &RolloutFacts, after: &RolloutFacts) -> u16 {
    let (old, new) = (&before.status, &after.status);
    let mut broken = 0;
    if before.object == after.object {
        broken |= promise::IDLE;
    }
    if before.object.status == after.object.status {
        // The finalizer.
        return broken;
    }
    if new.message.is_empty() {
        broken |= promise::REASON;
    }
    if before.is_terminal() && old.phase != new.phase && old.observed_generation == after.object.metadata.generation {
        broken |= promise::END;
    }
    if new.current_batch < old.current_batch || (old.plan.is_some() && old.plan != new.plan) {
        broken |= promise::ORDER;
    }
    let opened = new.current_batch > old.current_batch;
    if opened && after.object.spec.paused {
        broken |= promise::STOP;
    }
    if opened && after.object.spec.approved_batches.is_some_and(|approved| new.current_batch > approved) {
        broken |= promise::OFFER;
    }
    let completed = new.phase == Phase::Completed && old.phase != Phase::Completed;
    let passed = if completed { new.batches.len() } else { usize::try_from(new.current_batch - 1).unwrap_or(0) };
    for number in 1..=passed {
        if opened || completed {
            broken |= passed_batch(scene, after, number, completed);
        }
    }
    broken
}

/// Whether a batch has its verdicts, its soak and its budget.
fn passed_batch(scene: &Scene<'_>, rollout: &RolloutFacts, number: usize, at_the_end: bool) -> u16 {
    let status = &rollout.status;
    let mut failed = 0;
    let mut size = 0;
    let mut excused = 0;
    for (device, agent) in members(scene) {
        if batch_of(rollout, device) != number {
            continue;
        }
        size += 1;
        let has_failed = device.failed(&rollout.name);
        failed += usize::from(has_failed);
        excused += usize::from(agent.excused);
        let has_verdict = has_failed || agent.known & rollout.image.bit() != 0;
        if !has_verdict && !agent.excused {
            return promise::ORDER;
        }
    }
    let acknowledged = usize::try_from(rollout.object.spec.acknowledged_failures).unwrap();
    if failed > size * scene.terms.rate / 100 && failed > acknowledged {
        return promise::ORDER;
    }
    let is_last = number == status.batches.len();
    if at_the_end || is_last || excused == size {
        return 0;
    }
    let soaked = |time_: &k8s_openapi::apimachinery::pkg::apis::meta::v1::Time| {
        time(scene.tick).duration_since(time_.0) >= scene.terms.soak
    };
    if status.batches[number - 1].completion_time.as_ref().is_some_and(soaked) { 0 } else { promise::ORDER }
}

fn members<'a>(scene: &'a Scene<'_>) -> impl Iterator<Item = (&'a DeviceFacts, &'a Agent)> {
    scene.devices.iter().zip(scene.agents).filter_map(|(device, agent)| Some((device.as_deref()?, agent)))
}

/// Batch of a device, from 1: what its entry says, else by rank.
fn batch_of(rollout: &RolloutFacts, device: &DeviceFacts) -> usize {
    if let Some(entry) = device.entry.as_ref().filter(|entry| entry.rollout == rollout.name) {
        return usize::try_from(entry.batch).unwrap();
    }
    let uid = rollout.object.metadata.uid.as_deref().unwrap_or_default();
    let digest = Sha256::digest(format!("{uid}{}", device.name).as_bytes());
    let rank = digest.iter().take(8).fold(0, |rank: u64, byte| rank << 8 | u64::from(*byte));
    let batches = &rollout.status.batches;
    let fits = |boundary: &str| rank <= u64::from_str_radix(boundary, 16).unwrap();
    batches.iter().position(|batch| fits(&batch.boundary)).map_or(batches.len(), |index| index + 1)
}

/// A device was written by a controller. `rollout` is the one that its new entry names, as it is stored.
pub fn device_written(
    scene: &Scene<'_>,
    rollout: Option<&RolloutFacts>,
    before: &DeviceFacts,
    after: &DeviceFacts,
    agent: &Agent,
) -> u16 {
    if before.object == after.object {
        return promise::IDLE;
    }
    let mut broken = 0;
    if before.object.spec.apps != after.object.spec.apps {
        broken |= promise::FOREIGN;
    }
    let (Some(new), Some(rollout)) = (&after.entry, rollout) else { return broken };
    if before.object.spec.images == after.object.spec.images {
        let judged = new.failed && !before.entry.as_ref().is_some_and(|entry| entry.failed);
        if judged && before.runs(new.image) && new.image == rollout.image {
            broken |= promise::VERDICT;
        }
        return broken;
    }
    let old = before.entry.as_ref().filter(|old| old.rollout == new.rollout);
    let was_forward = old.filter(|old| old.image == rollout.image);
    match was_forward {
        Some(old) => broken | sent_back(old, new),
        None => broken | released(scene, rollout, after, new, agent),
    }
}

fn sent_back(old: &EntryFacts, new: &EntryFacts) -> u16 {
    let mut broken = 0;
    if new.raw.image != old.raw.previous || new.raw.previous != old.raw.previous || new.batch != old.batch {
        broken |= promise::BACK;
    }
    if !old.applies || new.raw.declared != old.raw.declared {
        broken |= promise::FOREIGN;
    }
    broken
}

fn released(scene: &Scene<'_>, rollout: &RolloutFacts, after: &DeviceFacts, new: &EntryFacts, agent: &Agent) -> u16 {
    let status = &rollout.status;
    let mut broken = 0;
    if new.image != rollout.image || after.object.spec.hold {
        broken |= promise::OFFER;
    }
    if !new.applies {
        broken |= promise::FOREIGN;
    }
    if new.previous == new.image || (agent.known | after.declared.bit()) & new.previous.bit() == 0 {
        broken |= promise::BACK;
    }
    if status.phase != Phase::Completed && new.batch > status.current_batch {
        broken |= promise::LIMIT;
    }
    if let Some(limit) = scene.terms.max_concurrent {
        // Not those that were away or held: `main.rs` says why.
        let others = members(scene)
            .filter(|(device, agent)| device.name != after.name && !agent.excused && updates(rollout, device));
        if !agent.excused && others.count() + 1 > limit {
            broken |= promise::LIMIT;
        }
    }
    broken
}

/// Released, and without verdict.
fn updates(rollout: &RolloutFacts, device: &DeviceFacts) -> bool {
    let completed = rollout.status.completion_time.as_ref().map(|time| time.0);
    device.entry.as_ref().is_some_and(|entry| {
        entry.rollout == rollout.name
            && entry.image == rollout.image
            && entry.applies
            && completed.is_none_or(|completed| entry.raw.release_time.0 > completed)
            && !device.object.spec.hold
            && !entry.failed
            && !device.runs(entry.image)
    })
}

/// A device polled, had been told `held`, and is told `told`. `device` and `rollout` (the one that the device's entry
/// names) are what the gateway had seen by then; `stored` is that rollout as it is.
pub fn told(
    terms: Terms,
    device: &DeviceFacts,
    rollout: Option<&RolloutFacts>,
    stored: Option<&RolloutFacts>,
    held: Image,
    told: Image,
) -> u16 {
    if told == held {
        return 0;
    }
    let Some(entry) = device.entry.as_ref().filter(|entry| entry.applies) else {
        return if told == device.declared { 0 } else { promise::OFFER };
    };
    if told == entry.previous {
        return 0;
    }
    if told != entry.image {
        return promise::BACK;
    }
    let (Some(seen), Some(stored)) = (rollout, stored) else { return promise::OFFER };
    let mut broken = 0;
    // Acknowledged is a stop that this gateway has seen. Who is seen running the image keeps it (the gate's table), unless
    // it was sent back since.
    let keeps = seen.row < Row::RolledBack && device.runs(told) && held != entry.previous;
    if seen.row != Row::Active && !keeps {
        broken |= promise::STOP;
    }
    let opened = stored.status.phase == Phase::Completed || entry.batch <= stored.status.current_batch;
    if (device.object.spec.hold && !keeps)
        || !opened
        || told != stored.image
        || (entry.failed && terms.rolls_back_failed)
    {
        broken |= promise::OFFER;
    }
    broken
}
