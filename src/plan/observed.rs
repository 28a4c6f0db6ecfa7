//! What the planner looks at: devices, projected to the few fields it reads, and the rollout among its siblings.
//!
//! Decides nothing. A [`DeviceView`] is made once per change of a device; a [`Member`] is that device as one rollout
//! sees it, 56 bytes, so that planning a million devices is one pass over flat memory.

use std::collections::BTreeMap;

use jiff::Timestamp;
use kube::ResourceExt as _;

use crate::api::ImageRef;
use crate::api::device::{Device, ImageEntry, ReportedService, UpdateVerdict};
use crate::api::rollout::ImageRollout;

use super::proof::{Finding, Proof, Proofs};
use super::report::WaitingOn;
use super::resolution::Resolution;
use super::services::{declared_services, declared_text, is_of};
pub use super::sibling::{Age, Sibling, is_by_person};
use super::subject::Subject;
use super::validated::ValidatedPolicy;

/// A device, projected.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DeviceView {
    /// Its name, the UUID.
    pub name: String,
    /// Its name for people, if it has another.
    pub display_name: Option<String>,
    /// The address that it reports as its own.
    pub address: Option<String>,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// For preconditions.
    pub resource_version: String,
    /// `metadata.uid`: tells it from one of the same name that was deleted.
    pub uid: String,
    /// Nobody moves it.
    pub hold: bool,
    /// It is being deleted.
    pub deleting: bool,
    /// What people declared, service by service. Services whose image does not parse are left out.
    pub services: Vec<ServiceView>,
    /// The controller's entries, each with the field manager that owns it besides the policy's own.
    pub images: Vec<EntryView>,
    /// What it reported last; `None` if it never did.
    pub reported: Option<Vec<ReportedService>>,
    /// Final verdicts.
    pub updates: Vec<UpdateVerdict>,
    /// When its status says it was seen.
    pub last_seen: Option<Timestamp>,
    /// Its condition Connected, if it has one.
    pub connected: Option<bool>,
}

/// A declared service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceView {
    /// Id of the application.
    pub app: String,
    /// Id of the service in the application.
    pub id: Option<i64>,
    /// Name of the service.
    pub name: String,
    /// Its image.
    pub image: ImageRef,
}

/// An entry of `spec.images` with its owners.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EntryView {
    /// The entry.
    pub entry: ImageEntry,
    /// Every field manager that owns a part of it.
    pub managers: Vec<String>,
}

impl DeviceView {
    /// The projection of a device.
    #[must_use]
    pub fn new(device: &Device) -> Self {
        let status = device.status.as_ref();
        let services = declared_services(&device.spec.apps)
            .into_iter()
            .map(|service| ServiceView {
                app: service.app.to_owned(),
                id: service.id,
                name: service.name.to_owned(),
                image: service.image,
            })
            .collect();
        let images = device
            .spec
            .images
            .iter()
            .map(|entry| EntryView { entry: entry.clone(), managers: entry_managers(device, &entry.repository) })
            .collect();
        Self {
            name: device.name_any(),
            display_name: device.spec.display_name.clone(),
            address: status.and_then(|status| status.address.clone()),
            labels: crate::api::policy::labels_of(&device.metadata),
            resource_version: device.resource_version().unwrap_or_default(),
            uid: device.uid().unwrap_or_default(),
            hold: device.spec.hold,
            deleting: device.metadata.deletion_timestamp.is_some(),
            services,
            images,
            reported: status.and_then(|status| status.services.clone()),
            updates: status.map(|status| status.updates.clone()).unwrap_or_default(),
            last_seen: status.and_then(|status| status.last_seen_time.as_ref()).map(|time| time.0),
            connected: status.and_then(|status| {
                crate::api::condition::find(&status.conditions, crate::api::condition::CONNECTED)
                    .map(|condition| condition.status == "True")
            }),
        }
    }

    /// The entry for a repository.
    #[must_use]
    pub fn entry(&self, repository: &str) -> Option<&EntryView> {
        self.images.iter().find(|view| view.entry.repository == repository)
    }

    /// The services of a repository.
    pub fn services_of<'a>(&'a self, repository: &'a str) -> impl Iterator<Item = &'a ServiceView> {
        self.services.iter().filter(move |service| service.image.repository == repository)
    }

    /// What `apps` declares for a repository now, in the form that entries remember.
    #[must_use]
    pub fn declared(&self, repository: &str) -> String {
        declared_text(self.services_of(repository).map(|service| &service.image))
    }

    /// The reported container of a declared service: by ids where the report has them, else by name.
    #[must_use]
    pub fn reported_service(&self, service: &ServiceView) -> Option<&ReportedService> {
        self.reported.as_deref()?.iter().find(|reported| is_of(reported, &service.app, service.id, &service.name))
    }

    /// The final verdict of a rollout on this device.
    #[must_use]
    pub fn verdict(&self, repository: &str, rollout: &str) -> Option<&UpdateVerdict> {
        self.updates.iter().find(|update| update.repository == repository && update.rollout == rollout)
    }
}

/// Field managers that own anything in one entry of `spec.images`, read from `managedFields`.
fn entry_managers(device: &Device, repository: &str) -> Vec<String> {
    let key = format!("k:{}", serde_json::json!({ "repository": repository }));
    let mut managers: Vec<String> = device
        .managed_fields()
        .iter()
        .filter(|entry| {
            entry.fields_v1.as_ref().is_some_and(|fields| {
                fields
                    .0
                    .pointer("/f:spec/f:images")
                    .and_then(|images| images.as_object())
                    .is_some_and(|images| images.contains_key(&key))
            })
        })
        .filter_map(|entry| entry.manager.clone())
        .collect();
    managers.sort();
    managers.dedup();
    managers
}

/// How much is known of which devices are there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Knowledge {
    /// Presence is complete up to here. `None`: no gateway has ever said anything.
    pub as_of: Option<Timestamp>,
    /// And without a gap from here on. Deadlines count from here at the earliest.
    pub since: Option<Timestamp>,
    /// How often gateways speak, seconds.
    pub interval: i64,
}

/// A gateway that has not spoken for so many intervals says nothing about who is there.
const SILENT_INTERVALS: i64 = 6;
/// And is not called silent before so many seconds.
const SILENT_AFTER: i64 = 60;

impl Knowledge {
    /// From the shards in which gateways say whom they saw: the name and the knowledge of each.
    ///
    /// Knowledge reaches as far as the oldest shard of the newest sharding: a number of shards that is no longer in use
    /// lingers for a while and must not hold it back.
    #[must_use]
    pub fn of_shards<'a>(shards: impl Iterator<Item = (&'a str, Self)>) -> Self {
        let shards: Vec<_> = shards.collect();
        let newest = shards.iter().max_by_key(|(_, shard)| shard.as_of).map(|(name, _)| sharding(name));
        let current = || shards.iter().filter(|(name, _)| Some(sharding(name)) == newest).map(|(_, shard)| shard);
        Self {
            as_of: current().filter_map(|shard| shard.as_of).min(),
            since: current().filter_map(|shard| shard.since).max(),
            interval: current().map(|shard| shard.interval).max().unwrap_or_default(),
        }
    }

    /// Of one shard.
    #[must_use]
    pub fn of_shard(shard: &crate::api::presence::DevicePresenceSpec) -> Self {
        Self {
            as_of: Some(shard.as_of.0),
            since: shard.since.as_ref().map(|since| since.0),
            interval: i64::try_from(std::time::Duration::from(shard.interval).as_secs()).unwrap_or(60).max(1),
        }
    }

    /// For how long gateways may say nothing, seconds, before that is a gap.
    #[must_use]
    pub fn silent_after(&self) -> i64 {
        SILENT_AFTER.max(SILENT_INTERVALS * self.interval)
    }
}

/// `presence-4` of `presence-4-2`: which sharding a shard belongs to.
fn sharding(name: &str) -> &str {
    name.rsplit_once('-').map_or(name, |(sharding, _)| sharding)
}

/// The policy of a rollout, as far as it can be used.
#[derive(Clone, Copy, Debug)]
pub enum PolicyState<'a> {
    /// No such policy.
    Missing,
    /// There, but what it says makes no sense; the text says what.
    Invalid(&'a str),
    /// Usable.
    Valid(&'a ValidatedPolicy),
}

/// Everything that one pass over one rollout looks at.
#[derive(Debug)]
pub struct Observed<'a> {
    /// The rollout as the API server has it.
    pub rollout: &'a ImageRollout,
    /// Its policy.
    pub policy: PolicyState<'a>,
    /// What it rolls out and by which rules, or why that can't be said.
    pub subject: Result<&'a Subject, &'a WaitingOn>,
    /// The other rollouts of the same policy and repository.
    pub siblings: &'a [Sibling],
    /// What the registry says of its tag; of no matter once it has started.
    pub resolution: &'a Resolution,
    /// Its devices: the cohort, and whoever carries an entry of this rollout.
    pub members: &'a [Member<'a>],
    /// Devices that it leaves to a more specific policy, and one such policy.
    pub left: Option<(&'a str, usize)>,
    /// What was found of its devices by looking at them.
    pub proofs: &'a Proofs,
    /// How much is known of which devices are there.
    pub knowledge: Knowledge,
}

impl Observed<'_> {
    /// Why a device could not be looked at.
    #[must_use]
    pub fn doubt(&self, member: &Member<'_>) -> &str {
        match self.proofs.of(member) {
            Some(Finding::Unknown(why)) => why,
            Some(Finding::Passed | Finding::Pending | Finding::Failed(_)) | None => "",
        }
    }
}

/// A device as one rollout sees it, apart from the clock.
#[derive(Clone, Copy, Debug)]
pub struct Member<'a> {
    /// The device.
    pub view: &'a DeviceView,
    /// Its rank in this rollout.
    pub rank: u64,
    /// When it was last seen, Unix seconds; `i64::MIN` if never.
    pub seen: i64,
    /// When its entry was written, Unix seconds; 0 without entry.
    pub since: i64,
    /// Bit `i` is set when it matches the selector of batch `i` (or that batch has none).
    pub selected: u32,
    /// The batch its entry names, from 1; 0 without entry of this rollout.
    pub batch: u8,
    /// The rollout's final verdict on it, already stored, is Failed.
    pub failed: bool,
    /// What its health checks say, beside its reports.
    pub proof: Proof,
    /// Where it stands.
    pub standing: Standing,
}

/// Where a device stands with one rollout, read from spec and reports alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Nothing was written to it yet, and nothing but the rollout's own gates speaks against it.
    Unreleased,
    /// Somebody holds it; nothing was written to it.
    Held,
    /// Another field manager owns its entry for this repository.
    Claimed,
    /// `apps` itself declares the image; it does not run it yet. Nothing to release.
    DeclaredAlready,
    /// It ran the image before anything was released to it.
    RunsAlready,
    /// `apps` declares something else since the release: people's word wins.
    Overridden,
    /// It was told the image.
    Released(Evidence),
    /// It was sent back; what it reports of the image that it had before.
    SentBack(Evidence),
}

/// What a device's reports say about the image it was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Evidence {
    /// Every service of the repository runs it.
    Running,
    /// It never reported.
    NoReport,
    /// A service is not among the reported containers.
    Missing,
    /// A service runs from another image.
    OtherImage,
    /// A service has the right image but its container is not running.
    NotRunning,
    /// Its container runs, and the image's own health check hasn't passed yet.
    Starting,
    /// Its container runs, and the image's own health check fails.
    Unhealthy,
    /// Its container was started again more often than its check allows. It has failed.
    Restarts {
        /// It runs at this moment.
        running: bool,
    },
}

impl Evidence {
    /// Whether the device runs the image, well or not. That is all that the gate asks.
    #[must_use]
    pub fn runs(self) -> bool {
        match self {
            Self::Running | Self::Starting | Self::Unhealthy => true,
            Self::Restarts { running } => running,
            Self::NoReport | Self::Missing | Self::OtherImage | Self::NotRunning => false,
        }
    }
}

#[cfg(test)]
mod tests;
