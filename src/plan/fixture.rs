//! A small world for the tables of this module: one policy, one rollout, some devices, no controller.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use crate::api::rollout::{ImageRolloutStatus, Phase};
use crate::api::time::whole_seconds;
use crate::api::{Device, ImageRollout, ImageUpdatePolicy, ROLLOUT_FINALIZER};

use super::classify::{Target, member};
use super::proof::Proofs;
use super::resolution::Resolution;
use super::subject::Subject;
use super::validated::ValidatedPolicy;
use super::{DeviceView, Knowledge, Member, Observed, Plan, PolicyState, Sibling, plan};

pub(crate) const REPOSITORY: &str = "docker.io/acme/web";

/// Seconds into the story.
pub(crate) fn at(seconds: i64) -> Timestamp {
    let start: Timestamp = "2026-06-01T08:00:00Z".parse().unwrap();
    start + SignedDuration::from_secs(seconds)
}

pub(crate) fn digest(digit: char) -> String {
    format!("sha256:{}", digit.to_string().repeat(64))
}

fn merge(base: &mut Value, patch: &Value) {
    match (base, patch) {
        (Value::Object(base), Value::Object(patch)) => {
            for (key, value) in patch {
                merge(base.entry(key.clone()).or_insert(Value::Null), value);
            }
        }
        (base, patch) => *base = patch.clone(),
    }
}

pub(crate) fn policy(spec: &Value) -> ImageUpdatePolicy {
    let mut object = json!({
        "metadata": { "name": "web", "namespace": "default", "generation": 1 },
        "spec": {
            "image": { "pattern": "acme/web:*" },
            "devices": { "selector": { "matchLabels": { "fleet": "a" } } },
            "updateDeadline": "10m", "offlineAfter": "2m",
        },
    });
    merge(&mut object["spec"], spec);
    serde_json::from_value(object).unwrap()
}

/// The rollout `web-v2` of `acme/web:v2`, seen by the controller before.
pub(crate) fn rollout(spec: &Value) -> ImageRollout {
    let mut object = json!({
        "metadata": {
            "name": "web-v2", "namespace": "default", "uid": "uid", "generation": 1, "resourceVersion": "1",
            "creationTimestamp": at(-60).to_string(), "finalizers": [ROLLOUT_FINALIZER],
        },
        "spec": { "policyRef": { "name": "web" }, "image": { "repository": REPOSITORY, "tag": "v2" } },
    });
    merge(&mut object["spec"], spec);
    serde_json::from_value(object).unwrap()
}

/// A device that declares and runs `acme/web:v1`, with whatever else `patch` says.
pub(crate) fn device(name: &str, patch: &Value) -> Device {
    let mut object = json!({
        "metadata": { "name": name, "uid": name, "resourceVersion": "7", "labels": { "fleet": "a" } },
        "spec": { "apps": apps("acme/web:v1") },
        "status": { "services": [reported("acme/web:v1", "running")] },
    });
    merge(&mut object, patch);
    serde_json::from_value(object).unwrap()
}

pub(crate) fn apps(image: &str) -> Value {
    json!({ "1": { "services": [{ "serviceId": 1, "serviceName": "web", "imageName": image }] } })
}

pub(crate) fn reported(image: &str, status: &str) -> Value {
    json!({ "app": "1", "id": 1, "name": "web", "image": image, "status": status })
}

/// An entry of `web-v2` in batch 1, released at the start of the story.
pub(crate) fn entry(patch: &Value) -> Value {
    let mut entry = json!({
        "repository": REPOSITORY, "image": "docker.io/acme/web:v2", "previous": "docker.io/acme/web:v1",
        "declared": "docker.io/acme/web:v1", "rollout": "web-v2", "batch": 1, "releaseTime": at(0).to_string(),
    });
    merge(&mut entry, patch);
    entry
}

/// The verdict Failed of `web-v2`.
pub(crate) fn failed() -> Value {
    json!([{
        "repository": REPOSITORY, "rollout": "web-v2", "verdict": "Failed", "reason": "DeadlineExceeded",
        "message": "it did not come up", "time": at(600).to_string(),
    }])
}

/// A device of a batch that has its verdict, or none.
pub(crate) fn in_batch(name: &str, batch: i32, verdict: Option<bool>) -> Device {
    let released = if verdict.is_some() { at(0) } else { at(690) };
    let (image, updates) = match verdict {
        Some(true) => ("acme/web:v2", json!([])),
        Some(false) => ("acme/web:v2", failed()),
        None => ("acme/web:v1", json!([])),
    };
    device(
        name,
        &json!({
            "spec": { "images": [entry(&json!({ "batch": batch, "releaseTime": released.to_string() }))] },
            "status": { "services": [reported(image, "running")], "updates": updates },
        }),
    )
}

/// A rollout whose first batch is open, with these devices, at second 700.
pub(crate) fn running(spec: &Value, rollout_spec: &Value, devices: &[Device]) -> Fixture {
    let mut policy_spec = json!({ "strategy": { "batches": [{ "size": "50%" }, { "size": "100%" }] } });
    for (key, value) in spec.as_object().unwrap() {
        policy_spec[key] = value.clone();
    }
    let policy = policy(&policy_spec);
    let mut fixture = Fixture::new(policy, rollout(rollout_spec), devices, at(700));
    let valid = ValidatedPolicy::new(fixture.policy.as_ref().unwrap()).unwrap();
    let (plan, mut batches) = valid.resolve(at(0), devices.len(), &[u64::MAX / 2, u64::MAX]);
    batches[0].start_time = Some(whole_seconds(at(0)));
    fixture.rollout.status = Some(ImageRolloutStatus {
        observed_generation: Some(1),
        phase: Phase::Progressing,
        plan: Some(plan),
        batches,
        current_batch: 1,
        ..Default::default()
    });
    fixture
}

/// Everything that one pass looks at.
pub(crate) struct Fixture {
    pub(crate) policy: Option<ImageUpdatePolicy>,
    pub(crate) rollout: ImageRollout,
    pub(crate) siblings: Vec<ImageRollout>,
    pub(crate) views: Vec<DeviceView>,
    pub(crate) seen: BTreeMap<String, Timestamp>,
    pub(crate) knowledge: Knowledge,
    pub(crate) resolution: Resolution,
    pub(crate) proofs: Proofs,
    pub(crate) living: Option<std::collections::BTreeSet<String>>,
    pub(crate) now: Timestamp,
}

impl Fixture {
    /// Everybody was seen at `now`, and gateways speak.
    pub(crate) fn new(policy: ImageUpdatePolicy, rollout: ImageRollout, devices: &[Device], now: Timestamp) -> Self {
        let views: Vec<DeviceView> = devices.iter().map(DeviceView::new).collect();
        let seen = views.iter().map(|view| (view.name.clone(), now)).collect();
        let knowledge = Knowledge { as_of: Some(now), since: None, interval: 10 };
        Self {
            policy: Some(policy),
            rollout,
            siblings: Vec::new(),
            views,
            seen,
            knowledge,
            resolution: Resolution::Unasked,
            proofs: Proofs::default(),
            living: None,
            now,
        }
    }

    /// One pass.
    pub(crate) fn plan(&self) -> Plan {
        self.look(|observed| plan(observed, self.now))
    }

    /// One pass, its status stored, and so on until there is nothing more to store. Actions are not carried out.
    pub(crate) fn settle(&mut self) -> Plan {
        for _ in 0..10 {
            let plan = self.plan();
            if plan.write == super::StatusWrite::None {
                return plan;
            }
            self.rollout.status = Some(plan.status);
        }
        panic!("the status never settles: {:?}", self.rollout.status);
    }

    pub(crate) fn look<T>(&self, look: impl FnOnce(&Observed<'_>) -> T) -> T {
        let valid = self.policy.as_ref().map(|policy| ValidatedPolicy::new(policy).map_err(|error| error.to_string()));
        let policy = match &valid {
            None => PolicyState::Missing,
            Some(Err(why)) => PolicyState::Invalid(why),
            Some(Ok(policy)) => PolicyState::Valid(policy),
        };
        let subject = Subject::new(&self.rollout, policy, &self.resolution);
        let members: Vec<Member<'_>> = subject.as_ref().map(|subject| self.members(subject)).unwrap_or_default();
        let siblings: Vec<Sibling> = self.siblings.iter().map(Sibling::new).collect();
        look(&Observed {
            rollout: &self.rollout,
            policy,
            subject: subject.as_ref(),
            siblings: &siblings,
            resolution: &self.resolution,
            members: &members,
            left: None,
            proofs: &self.proofs,
            knowledge: self.knowledge,
        })
    }

    fn members(&self, subject: &Subject) -> Vec<Member<'_>> {
        let target = Target {
            rollout: "web-v2",
            uid: "uid",
            began: Some(at(0)),
            image: &subject.image,
            manager: "tranche-policy/web",
            rules: &subject.rules,
            rivals: &[],
            living: self.living.as_ref(),
            others: &std::collections::BTreeSet::new(),
            proofs: &self.proofs,
            status: self.rollout.status.as_ref(),
            now: self.now,
        };
        self.views.iter().filter_map(|view| member(view, self.seen.get(&view.name).copied(), &target)).collect()
    }
}
