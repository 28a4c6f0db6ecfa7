//! Fleets for the planner, at three points of a rollout's life.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use serde_json::json;
use tranche::api::device::{ImageEntry, ReportedService};
use tranche::api::time::whole_seconds;
use tranche::api::{FLEET_LABEL, ImageRef, ROLLOUT_FINALIZER};
use tranche::controller::devices::Known;
use tranche::controller::gather::Snapshot;
use tranche::plan::Subject;
use tranche::plan::cohort::batch_of;
use tranche::plan::observed::{DeviceView, EntryView, Knowledge, Member, Observed, PolicyState, ServiceView};

const FLEET: &str = "bench";
const NAMESPACE: &str = "default";
const REPOSITORY: &str = "docker.io/acme/app";
const OLD: &str = "docker.io/acme/app:v1";
const NEW: &str = "docker.io/acme/app:v2";

/// Where a rollout stands.
#[derive(Clone, Copy, Debug)]
pub enum Stage {
    /// Nothing was written yet: the batches are about to be fixed.
    Start,
    /// The first of three batches is done, half of the second is released, and half of that half has reported.
    Middle,
    /// Completed, every device runs the image.
    Settled,
}

/// A rollout and its devices.
pub struct World(Snapshot);

/// A world, classified.
pub struct Look<'a> {
    world: &'a World,
    subject: Subject,
    members: Vec<Member<'a>>,
}

/// When every plan is made.
pub fn now() -> Timestamp {
    Timestamp::from_second(1_800_000_000).unwrap_or(Timestamp::UNIX_EPOCH)
}

impl World {
    /// At the start.
    pub fn new(devices: usize) -> anyhow::Result<Self> {
        let old: ImageRef = OLD.parse()?;
        let seen = now().as_second() - 30;
        let known = |index| Known { view: Arc::new(view(index, &old)), seen };
        let mut devices: Vec<Known> = (0..devices).map(known).collect();
        // A pass goes through devices by name, and names are random: it jumps around in memory as it does in a
        // process that has run for a while.
        devices.sort_by(|a, b| a.view.name.cmp(&b.view.name));
        let policy = serde_json::from_value(json!({
            "metadata": {"name": "app", "namespace": NAMESPACE, "generation": 1},
            "spec": {
                "image": {"pattern": "acme/app:*", "offer": "Tag"},
                "devices": {"selector": {"matchLabels": {FLEET_LABEL: FLEET}}},
                "strategy": {"type": "Staged", "batches": [{"size": "10%"}, {"size": "50%"}, {"size": "100%"}]},
            },
        }))?;
        let rollout = serde_json::from_value(json!({
            "metadata": {"name": "app-v2", "namespace": NAMESPACE, "uid": "5c7b3f52-0000-4000-8000-000000000001",
                         "generation": 1, "finalizers": [ROLLOUT_FINALIZER]},
            "spec": {"policyRef": {"name": "app"}, "image": {"repository": REPOSITORY, "tag": "v2"}},
        }))?;
        let knowledge = Knowledge { as_of: Some(now()), since: None, interval: 30 };
        Ok(Self(Snapshot::new(rollout, Some(Ok(policy)), &[], devices, knowledge)))
    }

    /// On to a stage, which must not lie behind. Its status is the planner's own.
    pub fn advance(&mut self, stage: Stage) -> anyhow::Result<()> {
        match stage {
            Stage::Start => {}
            Stage::Middle => {
                self.store();
                self.update(|batch, nth| match (batch, nth % 4) {
                    (1, _) | (2, 0) => (true, true),
                    (2, 2) => (true, false),
                    _ => (false, false),
                })?;
                self.store();
            }
            Stage::Settled => {
                self.update(|_, _| (true, true))?;
                self.store();
            }
        }
        Ok(())
    }

    /// The devices as the planner sees them.
    pub fn look(&self) -> anyhow::Result<Look<'_>> {
        let subject =
            Subject::new(&self.0.rollout, self.policy(), &self.0.resolution).map_err(|why| anyhow::anyhow!("{why}"))?;
        Ok(Look { world: self, members: self.0.members(&subject, now()), subject })
    }

    fn policy(&self) -> PolicyState<'_> {
        match &self.0.policy {
            Some(Ok(policy)) => PolicyState::Valid(policy),
            Some(Err(why)) => PolicyState::Invalid(why),
            None => PolicyState::Missing,
        }
    }

    /// The rollout's status becomes what the planner says.
    fn store(&mut self) {
        let (plan, ()) = self.0.plan(now(), |_, _| ());
        self.0.rollout.status = Some(plan.status);
    }

    /// Has devices released and reporting, by their batch and place in the list.
    fn update(&mut self, what: impl Fn(usize, usize) -> (bool, bool)) -> anyhow::Result<()> {
        let batches = self.0.rollout.status.iter().flat_map(|status| &status.batches);
        let boundaries =
            batches.map(|batch| u64::from_str_radix(&batch.boundary, 16)).collect::<Result<Vec<u64>, _>>()?;
        let batches: Vec<usize> = self.look()?.members.iter().map(|member| batch_of(member, &boundaries)).collect();
        let rollout = self.0.rollout.metadata.name.clone().unwrap_or_default();
        for (nth, (known, batch)) in self.0.devices.iter_mut().zip(batches).enumerate() {
            let (released, reported) = what(batch, nth);
            let view = Arc::make_mut(&mut known.view);
            if released && view.images.is_empty() {
                view.images.push(entry(batch, &rollout));
            }
            if reported {
                view.reported = Some(vec![service(NEW)]);
            }
        }
        Ok(())
    }
}

impl Look<'_> {
    /// What a pass gives the planner.
    pub fn observed(&self) -> Observed<'_> {
        let Self { world, subject, members } = self;
        Observed {
            rollout: &world.0.rollout,
            policy: world.policy(),
            subject: Ok(subject),
            siblings: &world.0.siblings,
            resolution: &world.0.resolution,
            members,
            left: None,
            proofs: &world.0.proofs,
            knowledge: world.0.knowledge,
        }
    }

    /// What a pass does before the planner: copies the list of devices, and looks at each.
    pub fn gather(&self) -> impl Sized + '_ {
        let Snapshot { devices, .. } = &self.world.0;
        (devices.clone(), self.world.0.members(&self.subject, now()))
    }
}

fn view(index: usize, image: &ImageRef) -> DeviceView {
    // Any permutation will do; this one leaves no two names alike and no order in them.
    let scattered = (index as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    DeviceView {
        name: format!("{:08x}-{:04x}-4000-8000-{index:012x}", scattered >> 32, scattered & 0xffff),
        labels: BTreeMap::from([(FLEET_LABEL.to_owned(), FLEET.to_owned())]),
        resource_version: index.to_string(),
        services: vec![ServiceView { app: "1001".into(), id: Some(1), name: "app".into(), image: image.clone() }],
        reported: Some(vec![service(OLD)]),
        connected: Some(true),
        ..DeviceView::default()
    }
}

fn service(image: &str) -> ReportedService {
    ReportedService {
        app: "1001".into(),
        id: Some(1),
        name: "app".into(),
        image: image.into(),
        status: "running".into(),
        ..ReportedService::default()
    }
}

fn entry(batch: usize, rollout: &str) -> EntryView {
    let entry = ImageEntry {
        repository: REPOSITORY.into(),
        image: Some(NEW.into()),
        previous: Some(OLD.into()),
        declared: OLD.into(),
        rollout: rollout.into(),
        batch: i32::try_from(batch).unwrap_or(i32::MAX),
        release_time: whole_seconds(now()),
        rolled_back: false,
    };
    EntryView { entry, managers: vec![tranche::api::policy_manager("app")] }
}
