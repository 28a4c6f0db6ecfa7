//! What must have been seen, by the API server and by the devices, for the demo to be a success.

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::sync::Arc;

use kube::ResourceExt as _;
use tranche::api::rollout::Phase;
use tranche::api::{Device, ImageRef, ImageUpdatePolicy};

use crate::follow::Record;
use crate::stage::Stage;
use crate::story::DEVICES;
use crate::testimony::Testimony;
use crate::view::tag;

/// Devices in the open batches after each opening: 10%, 50% and 100% of 20.
const OPENED: [i32; 3] = [2, 10, 20];

/// `seen`, in words, if it is `expected`.
pub fn equal<T: PartialEq + Debug>(expected: &T, seen: &T, words: impl Fn(&T) -> String) -> Result<String, String> {
    if expected == seen {
        Ok(words(seen))
    } else {
        Err(format!("seen: {}; expected: {}", words(seen), words(expected)))
    }
}

fn holds(holds: bool, seen: String, expected: &str) -> Result<String, String> {
    if holds { Ok(seen) } else { Err(format!("seen: {seen}; expected: {expected}")) }
}

/// How many devices are known to run `image`.
pub fn reported(devices: &[Device], image: &str) -> usize {
    let Ok(image) = image.parse::<ImageRef>() else { return 0 };
    let runs = |device: &&Device| {
        device.status.iter().flat_map(|status| status.services.iter().flatten()).any(|service| {
            service.is_running() && service.image.parse::<ImageRef>().is_ok_and(|running| running.same_image(&image))
        })
    };
    devices.iter().filter(runs).count()
}

/// The devices that carry a word of `rollout`.
pub fn told_by(devices: &[Device], rollout: &str) -> BTreeSet<Arc<str>> {
    let told = devices.iter().filter(|device| device.spec.images.iter().any(|entry| entry.rollout == rollout));
    told.map(|device| device.name_any().into()).collect()
}

/// A rollout that went from batch to batch and completed.
pub fn staged(stage: &mut Stage, record: &Record, told: &Testimony, image: &str) {
    let path =
        [Phase::Progressing, Phase::Soaking, Phase::Progressing, Phase::Soaking, Phase::Progressing, Phase::Completed];
    stage.check(
        "batch after batch, each watched before the next, to the end",
        holds(
            record.went_through(&path) && record.status.phase == Phase::Completed,
            record.path(),
            "Progressing and Soaking in turn, then Completed",
        ),
    );
    stage.check(
        "batches opened for 2, 10 and 20 devices",
        equal(&OPENED.to_vec(), &record.opened, |counts| format!("{counts:?}")),
    );
    stage.check("never more devices released than open batches hold", never(record));
    let started = |batch: usize| record.status.batches.get(batch).and_then(|batch| batch.start_time.clone());
    let before = |batch: usize| started(batch).map(|start| told.offered_before(image, start.0));
    stage.check(
        "the devices agree: offered to 2 before batch 2 opened, to 10 before batch 3",
        equal(&(Some(2), Some(10)), &(before(1), before(2)), |(second, third)| {
            [second, third].map(|count| count.map_or_else(|| "nobody".into(), |count| count.to_string())).join(" and ")
        }),
    );
    stage.check(
        &format!("all {DEVICES} devices run {} in their own words", tag(image)),
        equal(&DEVICES, &told.running(image), |n| format!("{n} of {DEVICES}")),
    );
}

/// A rollout that stopped itself in its first batch and went back.
pub fn halted(
    stage: &mut Stage,
    record: &Record,
    told: &Testimony,
    released: &BTreeSet<Arc<str>>,
    good: &str,
    bad: &str,
) {
    let halt = record.history("RolloutHalted");
    stage.check(
        "the failure budget tripped in the first batch",
        match halt {
            Some(message) => Ok(format!("RolloutHalted: {message}")),
            None => Err(format!("no RolloutHalted in its history; phases: {}", record.path())),
        },
    );
    stage.check(
        "no other batch ever opened",
        equal(&OPENED[..1].to_vec(), &record.opened, |counts| format!("{counts:?}")),
    );
    stage.check("never more devices released than open batches hold", never(record));
    stage.check(
        "it went back by itself",
        holds(record.status.phase == Phase::RolledBack, record.path(), "RolledBack at the end"),
    );
    let offered = told.offered(bad);
    stage.check(
        "offered to exactly the 2 devices of that batch, and they say so themselves",
        holds(
            offered.len() == 2 && offered == *released,
            format!("{} said so, {} were told by the rollout", offered.len(), released.len()),
            "the same 2",
        ),
    );
    stage.check(
        &format!("{} of {DEVICES} devices never saw {}", DEVICES - 2, tag(bad)),
        equal(&(DEVICES - 2), &(DEVICES - offered.len()), |n| format!("{n} never did")),
    );
    stage.check(
        &format!("at least {} ran {} all the while", DEVICES - 2, tag(good)),
        holds(told.fewest(good) + 2 >= DEVICES, format!("{} at the worst moment", told.fewest(good)), "18 or more"),
    );
    stage.check(
        &format!("the 2 run {} again, and so do all {DEVICES}", tag(good)),
        equal(&(2, DEVICES), &(told.running_of(&offered, good), told.running(good)), |(two, all)| {
            format!("{two} of the 2, {all} in all")
        }),
    );
}

/// An image that was taken back does not come again by itself.
pub fn remembered(stage: &mut Stage, policy: &ImageUpdatePolicy, bad: &str) {
    let rejected: Vec<&str> =
        policy.status.iter().flat_map(|status| &status.rejected).map(|rejected| rejected.image.as_str()).collect();
    let known = bad.parse::<ImageRef>().is_ok_and(|bad| {
        rejected.iter().any(|image| image.parse::<ImageRef>().is_ok_and(|image| image.same_image(&bad)))
    });
    stage.check("the policy remembers the image as rejected", holds(known, format!("{rejected:?}"), bad));
}

fn never(record: &Record) -> Result<String, String> {
    match record.violations.first() {
        None => Ok("at every status that the API server published".into()),
        Some(violation) => Err(violation.clone()),
    }
}
