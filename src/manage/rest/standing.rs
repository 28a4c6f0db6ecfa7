//! Where devices stand with a rollout: what the planner says of them by the rollout's stored status, a page at a time.

use std::collections::{BTreeSet, HashMap};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use jiff::Timestamp;
use kube::ResourceExt as _;
use schemars::JsonSchema;
use serde::Serialize;

use super::caller::Caller;
use super::index::{Kept, Whose};
use super::page::Pages;
use super::problems::Refusal;
use super::row::time;
use super::words::{self, DeviceStatus};
use crate::api::{Device, DevicePresence, ImageRef, ImageRollout, ImageUpdatePolicy};
use crate::plan::explain::DeviceReport;
use crate::plan::observed::{DeviceView, Knowledge};
use crate::plan::stored::Stored;

/// Shards of presence in one page: a shard tells of about a thousand devices.
const SHARDS: u32 = 20;

/// A device of a rollout.
#[derive(JsonSchema, Clone, Debug, Serialize)]
pub(super) struct DeviceRow {
    /// Its UUID: the name of its `Device`.
    pub(super) device_uuid: String,
    /// Its name for people.
    device_name: String,
    /// Its batch, from 1; 0 until the rollout has started.
    pub(super) batch_number: usize,
    /// Where it stands, in the predecessor's word.
    pub(super) status: DeviceStatus,
    /// Why, in one word of ours.
    pub(super) reason: &'static str,
    /// Why, in a sentence.
    pub(super) message: String,
    /// The tag that it would go back to, where it has one.
    old_image_tag: Option<String>,
    /// The tag that it was told.
    new_image_tag: Option<String>,
    /// When it was told.
    scheduled_at: Option<String>,
}

/// When devices were last seen, as far as gateways have said so.
#[derive(Debug, Default)]
pub(super) struct Sightings {
    /// By the hash of the device's name: there are many devices, and a name is long.
    seen: HashMap<u64, i64>,
    pub(super) knowledge: Knowledge,
}

impl Sightings {
    /// As gateways have written them down. Whoever may not read that gets what the devices' own status says.
    pub(super) async fn read(caller: &Caller) -> Result<Self, Refusal> {
        let mut pages = Pages::<DevicePresence>::of::<DevicePresence>(caller, &[]).from(SHARDS, None);
        let mut seen = HashMap::new();
        let mut shards: Vec<(String, Knowledge)> = Vec::new();
        loop {
            let page = match pages.next().await {
                Ok(Some(page)) => page,
                Ok(None) => break,
                Err(refusal) if refusal.is_forbidden() => return Ok(Self::default()),
                Err(refusal) => return Err(refusal),
            };
            for shard in page.into_iter().filter_map(super::page::Listed::read) {
                shards.push((shard.name_any(), Knowledge::of_shard(&shard.spec)));
                for (device, at) in &shard.spec.seen {
                    let latest = seen.entry(key(device)).or_insert(*at);
                    *latest = (*latest).max(*at);
                }
            }
        }
        let knowledge = Knowledge::of_shards(shards.iter().map(|(name, shard)| (name.as_str(), *shard)));
        Ok(Self { seen, knowledge })
    }

    /// When a device was last seen.
    pub(super) fn of(&self, device: &str) -> Option<Timestamp> {
        Timestamp::from_second(*self.seen.get(&key(device))?).ok()
    }
}

fn key(device: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    device.hash(&mut hasher);
    hasher.finish()
}

/// A rollout among everything that a device's place in it depends on.
pub(super) struct Standing {
    /// `None` while it can't be said which devices it is for.
    stored: Option<Stored>,
    sightings: Sightings,
}

impl Standing {
    /// Of a rollout.
    pub(super) async fn read(kept: &Kept, caller: &Caller, rollout: ImageRollout) -> Result<Self, Refusal> {
        let own = rollout.spec.policy_ref.name.clone();
        let (policies, others, sightings) = futures::join!(
            Pages::<ImageUpdatePolicy>::of::<ImageUpdatePolicy>(caller, &[]).all(),
            kept.index(caller, Whose::NotOf(&own)),
            Sightings::read(caller),
        );
        let others: BTreeSet<String> = allowed(others)?.into_iter().map(|other| other.name).collect();
        let stored = Stored::new(rollout, &allowed(policies)?, others).ok();
        Ok(Self { stored, sightings: sightings? })
    }

    /// Of a rollout by itself.
    pub(super) fn alone(rollout: ImageRollout, sightings: Sightings) -> Self {
        Self { stored: Stored::new(rollout, &[], BTreeSet::new()).ok(), sightings }
    }

    /// What was seen of devices, for the next rollout.
    pub(super) fn into_sightings(self) -> Sightings {
        self.sightings
    }

    /// Those of some devices that it is for.
    pub(super) fn rows(&self, devices: &[Device], now: Timestamp) -> Vec<DeviceRow> {
        let Some(stored) = &self.stored else { return Vec::new() };
        let views: Vec<(DeviceView, Option<Timestamp>)> = devices
            .iter()
            .map(|device| {
                let view = DeviceView::new(device);
                let seen = self.sightings.of(&view.name);
                (view, seen)
            })
            .collect();
        let by_name: HashMap<&str, &DeviceView> = views.iter().map(|(view, _)| (view.name.as_str(), view)).collect();
        let reports = stored.explain(&views, self.sightings.knowledge, now);
        let known = |report: DeviceReport| {
            let view = by_name.get(report.device.as_str()).copied()?;
            Some(row(report, view, stored))
        };
        reports.into_iter().filter_map(known).collect()
    }
}

fn row(report: DeviceReport, view: &DeviceView, stored: &Stored) -> DeviceRow {
    let entry =
        view.entry(stored.repository()).map(|entry| &entry.entry).filter(|entry| entry.rollout == stored.name());
    let tag = |image: Option<&String>| image?.parse::<ImageRef>().ok()?.tag;
    DeviceRow {
        device_name: view.display_name.clone().unwrap_or_else(|| report.device.clone()),
        batch_number: report.batch,
        status: words::device(&report.wait),
        reason: report.wait.reason(),
        message: report.wait.to_string(),
        old_image_tag: tag(entry.and_then(|entry| entry.previous.as_ref().or(Some(&entry.declared)))),
        new_image_tag: stored.tag().map(str::to_owned),
        scheduled_at: entry.map(|entry| time(&entry.release_time)),
        device_uuid: report.device,
    }
}

/// What a list holds for a caller: nothing where they may not read it.
fn allowed<T>(listed: Result<Vec<T>, Refusal>) -> Result<Vec<T>, Refusal> {
    match listed {
        Err(refusal) if refusal.is_forbidden() => Ok(Vec::new()),
        other => other,
    }
}
