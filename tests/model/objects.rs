//! The real objects behind the small numbers of a state, and the facts that judges read from them.
//!
//! A state of the model holds a number for each object's content; here is what the number stands for. Revisions are no
//! part of a content: what matters of them is only whether an object is still the one that somebody looked at, and each
//! view of the state keeps that as one bit per object.

use std::collections::HashMap;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use parking_lot::RwLock;
use serde_json::{Value, json};
use tranche::api::device::{ImageEntry, ReportedService, Verdict};
use tranche::api::rollout::{DesiredState, ImageRolloutStatus, Phase};
use tranche::api::{Device, ImageRollout, ImageUpdatePolicy};
use tranche::plan::observed::DeviceView;
use tranche::registry::intake::first_name;

use crate::build::{self, WEB};

/// Seconds from one instant of the model to the next: longer than deadline, soak and patience with absences.
pub const TICK: i64 = 600;
/// Name of the policy.
pub const POLICY: &str = "fleet";

/// What a device can run. The order is that of the tags.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Image {
    /// Declared by `apps` at first.
    #[default]
    V1,
    /// The first rollout's.
    V2,
    /// The newer rollout's.
    V3,
    /// What a person declares instead.
    V9,
}

impl Image {
    pub const ALL: [Self; 4] = [Self::V1, Self::V2, Self::V3, Self::V9];

    /// Its reference.
    pub fn reference(self) -> String {
        format!("{WEB}:{}", self.tag())
    }

    pub fn tag(self) -> &'static str {
        match self {
            Self::V1 => "v1",
            Self::V2 => "v2",
            Self::V3 => "v3",
            Self::V9 => "v9",
        }
    }

    /// As a set of one.
    pub fn bit(self) -> u8 {
        1 << (self as u8)
    }

    fn named(reference: &str) -> Self {
        *Self::ALL.iter().find(|image| image.reference() == reference).expect("an image of the model")
    }
}

/// Contents of one kind, by number; 0 is an object that is not there.
pub struct Table<T> {
    inner: RwLock<Contents<T>>,
}

struct Contents<T> {
    ids: HashMap<String, u16>,
    all: Vec<Arc<T>>,
}

impl<T> Table<T> {
    pub fn new() -> Self {
        Self { inner: RwLock::new(Contents { ids: HashMap::new(), all: Vec::new() }) }
    }

    /// The number of a content, by a text that tells it from all others.
    pub fn id(&self, key: String, make: impl FnOnce() -> T) -> u16 {
        if let Some(id) = self.inner.read().ids.get(&key) {
            return *id;
        }
        let mut inner = self.inner.write();
        let Contents { ids, all } = &mut *inner;
        *ids.entry(key).or_insert_with(|| {
            all.push(Arc::new(make()));
            u16::try_from(all.len()).expect("fewer contents than that")
        })
    }

    pub fn get(&self, id: u16) -> Arc<T> {
        Arc::clone(&self.inner.read().all[usize::from(id) - 1])
    }
}

/// An instant of the model.
pub fn time(tick: u8) -> Timestamp {
    build::start() + SignedDuration::from_secs(i64::from(tick) * TICK)
}

/// How far a rollout lets devices go: the table of design §4, written apart from the product's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Row {
    Active,
    Stopped,
    Halted,
    RolledBack,
}

/// A rollout, and what judges ask of it.
pub struct RolloutFacts {
    pub object: ImageRollout,
    pub name: String,
    pub image: Image,
    pub status: ImageRolloutStatus,
    pub row: Row,
}

impl RolloutFacts {
    pub fn new(object: ImageRollout) -> Self {
        let status = object.status.clone().unwrap_or_default();
        let by_spec = match object.spec.desired_state {
            DesiredState::RolledBack => Row::RolledBack,
            DesiredState::Cancelled => Row::Stopped,
            DesiredState::Active if object.spec.paused => Row::Stopped,
            DesiredState::Active => Row::Active,
        };
        let by_phase = match status.phase {
            Phase::RollingBack | Phase::RolledBack => Row::RolledBack,
            Phase::Halted => Row::Halted,
            Phase::Paused | Phase::Cancelled | Phase::Superseded => Row::Stopped,
            _ => Row::Active,
        };
        let by_halt = if status.halted.is_some() { Row::Halted } else { Row::Active };
        let tag = object.spec.image.tag.clone().unwrap_or_default();
        Self {
            name: object.metadata.name.clone().unwrap_or_default(),
            image: Image::named(&format!("{WEB}:{tag}")),
            row: by_spec.max(by_phase).max(by_halt),
            status,
            object,
        }
    }

    pub fn is_terminal(&self) -> bool {
        self.status.phase.is_terminal()
    }
}

/// A device, and what judges and the gate ask of it.
pub struct DeviceFacts {
    pub object: Device,
    pub view: Arc<DeviceView>,
    pub name: String,
    pub declared: Image,
    pub reported: Option<(Image, bool)>,
    pub entry: Option<EntryFacts>,
}

/// The entry of `spec.images`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EntryFacts {
    pub image: Image,
    pub previous: Image,
    pub rollout: String,
    pub batch: i32,
    pub rolled_back: bool,
    /// What it was written for is still what `apps` declares.
    pub applies: bool,
    /// Its own rollout's verdict is Failed.
    pub failed: bool,
    pub raw: ImageEntry,
}

impl DeviceFacts {
    pub fn new(object: Device) -> Self {
        let app = &object.spec.apps["1001"]["services"][0]["imageName"];
        let declared = Image::named(&format!("docker.io/{}", app.as_str().expect("an image")));
        let view = DeviceView::new(&object);
        let status = object.status.clone().unwrap_or_default();
        let reported = status.services.as_ref().and_then(|services| services.first());
        let of = |text: &Option<String>| text.as_deref().map_or(declared, Image::named);
        let entry = object.spec.images.first().map(|entry| EntryFacts {
            image: of(&entry.image),
            previous: of(&entry.previous),
            rollout: entry.rollout.clone(),
            batch: entry.batch,
            rolled_back: entry.rolled_back,
            applies: entry.declared == declared.reference(),
            failed: status
                .updates
                .iter()
                .any(|update| update.rollout == entry.rollout && update.verdict == Verdict::Failed),
            raw: entry.clone(),
        });
        Self {
            name: object.metadata.name.clone().unwrap_or_default(),
            view: Arc::new(view),
            declared,
            reported: reported.map(|service| (Image::named(&service.image), service.status == "running")),
            entry,
            object,
        }
    }

    pub fn runs(&self, image: Image) -> bool {
        self.reported == Some((image, true))
    }

    pub fn failed(&self, rollout: &str) -> bool {
        let updates = self.object.status.iter().flat_map(|status| &status.updates);
        updates.into_iter().any(|update| update.rollout == rollout && update.verdict == Verdict::Failed)
    }
}

/// The text that stands for an object.
pub fn key<T: serde::Serialize>(object: &T) -> String {
    serde_json::to_string(object).expect("JSON")
}

/// A policy with short times; `spec` adds to it.
pub fn policy(spec: &Value) -> ImageUpdatePolicy {
    let mut all =
        json!({ "updateDeadline": "5m", "offlineAfter": "2m", "strategy": { "type": "Staged", "batchDelay": "5m" } });
    build::merge(&mut all, spec);
    build::policy(POLICY, &all)
}

/// The rollout that a push makes. `delivery`: how a name is made that is not deterministic.
pub fn rollout(image: Image, tick: u8, delivery: Option<u8>) -> ImageRollout {
    let reference = image.reference().parse().expect("a reference");
    let suffix = delivery.map(|delivery| format!("-{delivery}")).unwrap_or_default();
    let name = first_name(POLICY, &reference) + &suffix;
    build::rollout(&name, POLICY, image.tag(), time(tick), &json!({ "trigger": { "type": "Webhook" } }))
}

/// A device that runs what it declares, and said so.
pub fn device(index: usize) -> Device {
    let mut device = build::device(&format!("d{index}"), &[("web", "acme/web:v1")]);
    report(&mut device, Image::V1, true);
    device
}

/// A report is stored.
pub fn report(device: &mut Device, image: Image, ok: bool) {
    let status = if ok { "running" } else { "exited" };
    device.status.get_or_insert_default().services = Some(vec![ReportedService {
        app: "1001".into(),
        id: Some(1),
        name: "web".into(),
        image: image.reference(),
        status: status.into(),
        ..ReportedService::default()
    }]);
}

/// A person declares another image.
pub fn declare(device: &mut Device, image: Image) {
    let written = format!("acme/web:{}", image.tag());
    let app = device.spec.apps.get_mut("1001").expect("the application");
    app["services"][0]["imageName"] = json!(written);
    app["services"][0]["config"]["image"] = json!(written);
    *device.metadata.generation.get_or_insert(1) += 1;
}

/// What is stored of a status: without history, which nothing but people read, and without the times at which
/// conditions changed.
pub fn canonical(mut status: ImageRolloutStatus) -> ImageRolloutStatus {
    status.history.clear();
    for condition in &mut status.conditions {
        condition.last_transition_time = Time(build::start());
    }
    status
}
