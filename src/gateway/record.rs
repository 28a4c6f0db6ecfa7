//! One device as the gateway keeps it: projected, with everything that many devices share interned.
//!
//! Decides which overlay entries apply and what the last report proves, once per revision of the object, so that a poll
//! only reads. Never decides which image a device gets: that is [`crate::plan::gate`], and depends on the moment.

use std::collections::BTreeMap;
use std::sync::Arc;

use http::HeaderValue;
use parking_lot::Mutex;
use serde_json::Value;

use super::etag::{self, Asked, ImagePart};
use super::identity::Access;
use super::rollouts::{Rollouts, Slot};
use super::shared::{Interner, Reported, Shared, json};
use super::target;
use crate::api::device::{ReportedService, Verdict};
use crate::api::{Device, ImageRef};
use crate::plan::gate::{self, Evidence, Offer, Row};
use crate::plan::services::{Declared, declared_among, declared_services, runs};

/// More entries than this on one device are ignored; the CRD allows no more. They are counted by the bits of a `u32`.
const MAX_ENTRIES: usize = 32;

/// An overlay entry that applies.
#[derive(Clone, Debug)]
pub struct Entry {
    slot: Arc<Slot>,
    /// Canonical reference; absent: what `apps` declares.
    image: Option<Arc<str>>,
    previous: Option<Arc<str>>,
    /// What a tag says of a device that holds `image`, and of one that holds `previous`.
    image_part: ImagePart,
    previous_part: ImagePart,
    evidence: Evidence,
}

/// What the gate says of each of a device's entries, as sets of their indexes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offers {
    /// These get their rollout's image.
    image: u32,
    /// These get it if the device holds it already.
    if_held: u32,
    /// These get it unless the device holds the previous one.
    unless_back: u32,
}

/// Which of a device's entries give their rollout's image; the others give the previous one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Choice(u32);

/// The tag of one choice, kept, so that an unchanged poll hashes nothing.
#[derive(Clone, Debug)]
struct Answer {
    choice: Choice,
    etag: HeaderValue,
}

/// One revision of one device.
#[derive(Debug)]
pub struct Record {
    /// Its name: its UUID in lower case.
    pub name: Arc<str>,
    /// What lets it in.
    pub access: Access,
    /// `metadata.generation`.
    pub generation: i64,
    /// When it was created, Unix seconds.
    pub created: i64,
    /// When the latest of its entries was released, Unix seconds.
    pub released: Option<i64>,
    /// What it reported last.
    pub reported: Reported,
    /// What outlives this revision.
    pub shared: Arc<Shared>,
    hold: bool,
    apps: Arc<str>,
    config: Arc<str>,
    entries: Box<[Entry]>,
    answer: Mutex<Option<Arc<Answer>>>,
}

impl Record {
    /// Keeps of an object what the gateway needs. `before` is the device's previous revision.
    #[must_use]
    pub fn project(device: &Device, before: Option<&Self>, interner: &Interner, rollouts: &Rollouts) -> Self {
        let spec = &device.spec;
        let name = device.metadata.name.as_deref().unwrap_or_default();
        let name = before.map_or_else(|| name.into(), |before| before.name.clone());
        let status = device.status.clone().unwrap_or_default();
        let declared = declared_services(&spec.apps);
        let reported_services = status.services.as_deref().unwrap_or_default();
        let reference = |text: &Option<String>, repository: &str| -> Option<ImageRef> {
            text.as_deref()?.parse().ok().filter(|image: &ImageRef| image.repository == repository)
        };
        let entries = spec
            .images
            .iter()
            .take(MAX_ENTRIES)
            .filter(|entry| declared_among(&declared, &entry.repository).as_deref() == Some(entry.declared.as_str()))
            .map(|entry| {
                let image = reference(&entry.image, &entry.repository);
                let previous = reference(&entry.previous, &entry.repository);
                let intern = |image: &ImageRef| interner.intern(&image.to_string());
                let part = |image: Option<&ImageRef>| {
                    ImagePart::of(&entry.repository, image.map(ToString::to_string).as_deref())
                };
                let failed = status.updates.iter().any(|update| {
                    update.repository == entry.repository
                        && update.rollout == entry.rollout
                        && update.verdict == Verdict::Failed
                });
                Entry {
                    slot: rollouts.slot(&entry.rollout),
                    evidence: Evidence {
                        running: image.as_ref().is_some_and(|image| runs(&declared, reported_services, image)),
                        failed,
                    },
                    image_part: part(image.as_ref()),
                    previous_part: part(previous.as_ref()),
                    image: image.as_ref().map(intern),
                    previous: previous.as_ref().map(intern),
                }
            })
            .collect();
        let record = Self {
            name,
            access: spec.auth.as_ref().map(Access::of).unwrap_or_default(),
            generation: device.metadata.generation.unwrap_or(1),
            created: device.metadata.creation_timestamp.as_ref().map_or(i64::MAX, |time| time.0.as_second()),
            released: spec.images.iter().map(|entry| entry.release_time.0.as_second()).max(),
            reported: Reported::of(status, interner),
            shared: before.map(|before| before.shared.clone()).unwrap_or_default(),
            hold: spec.hold,
            apps: interner.intern(&json(&spec.apps)),
            config: interner.intern(&json(&target::config(spec.config.clone()))),
            entries,
            answer: Mutex::new(None),
        };
        if let Some(before) = before {
            // A write of status alone must not cost the next poll a hash.
            if record.told_like(before) {
                *record.answer.lock() = before.answer.lock().clone();
            }
            record.shared.catch_up(device.metadata.resource_version.as_deref());
        }
        record
    }

    /// Whether the same choice renders to the same state in both revisions.
    fn told_like(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.apps, &other.apps)
            && Arc::ptr_eq(&self.config, &other.config)
            && self.entries.len() == other.entries.len()
            && self
                .entries
                .iter()
                .zip(&other.entries)
                .all(|(a, b)| a.image_part == b.image_part && a.previous_part == b.previous_part)
    }

    /// What the gate says now. `live` is whether the watches are.
    #[must_use]
    pub fn offers(&self, live: bool) -> Offers {
        self.offers_given(live, |entry| entry.evidence)
    }

    fn offers_given(&self, live: bool, evidence: impl Fn(&Entry) -> Evidence) -> Offers {
        let floor = if self.hold || !live { Row::Held } else { Row::Active };
        let mut offers = Offers { image: 0, if_held: 0, unless_back: 0 };
        for (index, entry) in self.entries.iter().enumerate() {
            let offer = if entry.image_part == entry.previous_part {
                // Both mean the same, so there is nothing to hold back.
                Offer::Image
            } else {
                let (row, rolls_back_failed) = entry.slot.row_for(&self.name);
                gate::gate(row.max(floor), rolls_back_failed, evidence(entry))
            };
            match offer {
                Offer::Previous => {}
                Offer::Image => offers.image |= 1 << index,
                Offer::ImageIfHeld => offers.if_held |= 1 << index,
                Offer::ImageUnlessBack => offers.unless_back |= 1 << index,
            }
        }
        offers
    }

    /// What a device is told that asks so; without a tag, it holds nothing.
    #[must_use]
    pub fn choose(&self, offers: Offers, asked: Option<Asked<'_>>) -> Choice {
        let Offers { mut image, if_held, unless_back } = offers;
        image |= unless_back;
        if let Some(asked) = asked.filter(|_| if_held | unless_back != 0) {
            for (index, entry) in self.entries.iter().enumerate() {
                if if_held >> index & 1 == 1 && asked.holds(entry.image_part) {
                    image |= 1 << index;
                }
                if unless_back >> index & 1 == 1 && asked.holds(entry.previous_part) {
                    image &= !(1 << index);
                }
            }
        }
        Choice(image)
    }

    /// The tag of what a device is told by this choice.
    #[must_use]
    pub fn etag(&self, choice: Choice) -> HeaderValue {
        if let Some(answer) = &*self.answer.lock()
            && answer.choice == choice
        {
            return answer.etag.clone();
        }
        let parts = self
            .entries
            .iter()
            .enumerate()
            .map(|(index, entry)| if choice.gives_image(index) { entry.image_part } else { entry.previous_part });
        let etag = etag::etag(&self.name, &self.apps_told(choice), &self.config, parts);
        *self.answer.lock() = Some(Arc::new(Answer { choice, etag: etag.clone() }));
        etag
    }

    /// The reference each overlaid repository gets.
    fn images(&self, choice: Choice) -> Vec<ImageRef> {
        let image = |(index, entry): (usize, &Entry)| {
            let image = if choice.gives_image(index) { &entry.image } else { &entry.previous };
            image.as_deref()?.parse().ok()
        };
        self.entries.iter().enumerate().filter_map(image).collect()
    }

    /// `apps` as the device is told it, as JSON with sorted keys.
    #[must_use]
    pub fn apps_told(&self, choice: Choice) -> String {
        let mut apps = self.apps();
        target::overlay(&mut apps, &self.images(choice));
        json(&apps)
    }

    /// The body of a 200.
    #[must_use]
    pub fn body(&self, uuid: &str, choice: Choice) -> String {
        target::body(uuid, &self.apps_told(choice), &self.config, self.generation)
    }

    /// `apps` as the device would be told it if it had just reported these services.
    #[must_use]
    pub fn apps_told_given(&self, live: bool, services: &[ReportedService]) -> BTreeMap<String, Value> {
        let apps = self.apps();
        let declared: Vec<Declared<'_>> = declared_services(&apps);
        let offers = self.offers_given(live, |entry| Evidence {
            running: entry
                .image
                .as_deref()
                .and_then(|image| image.parse::<ImageRef>().ok())
                .is_some_and(|image| runs(&declared, services, &image)),
            ..entry.evidence
        });
        let images = self.images(self.choose(offers, None));
        drop(declared);
        let mut apps = apps;
        target::overlay(&mut apps, &images);
        apps
    }

    fn apps(&self) -> BTreeMap<String, Value> {
        // It was made by `json` below.
        serde_json::from_str(&self.apps).unwrap_or_default()
    }
}

impl Choice {
    fn gives_image(self, index: usize) -> bool {
        self.0 >> index & 1 == 1
    }
}

#[cfg(test)]
mod tests;
