//! What people and registries do.

use std::cell::RefCell;
use std::sync::Arc;
use std::time::Duration;

use http::Request;
use serde_json::{Value, json};
use tokio::time::sleep;
use tower::ServiceExt as _;
use tranche::api::ImageUpdatePolicy;
use tranche::clock::Clock;
use tranche::record::Recorder;
use tranche::registry::PushEvent;
use tranche::registry::claim::Claim;
use tranche::registry::intake::{Decision, decide};
use tranche::resolver::Resolver;

use super::drive::Stage;
use super::scenario::{Act, Push};
use crate::support::apiserver::ApiServer;
use crate::support::live::{policy, registries, rollout};

/// A registry tries a delivery again so often.
const TRIES: u32 = 5;

/// One device that tried to pass for another.
#[derive(Clone, Debug)]
pub struct Trespass {
    pub what: &'static str,
    pub status: u16,
}

thread_local! {
    /// Of the run on this thread.
    pub static TRESPASSES: RefCell<Vec<Trespass>> = const { RefCell::new(Vec::new()) };
}

pub async fn declare_policy(api: &Arc<ApiServer>, spec: &Value) {
    let mut object = policy(&json!({}));
    for (field, value) in spec.as_object().unwrap() {
        object["spec"][field] = value.clone();
    }
    api.create("imageupdatepolicies", &object).await.unwrap();
}

/// A person makes a rollout.
pub async fn create(api: &Arc<ApiServer>, push: &Push) {
    let _ = api.create("imagerollouts", &rollout(&push.tag, &json!({}))).await;
}

/// A registry tells of a push, again and again until it is taken.
pub fn deliver(api: &Arc<ApiServer>, clock: Clock, push: Push, time: usize) {
    let api = api.clone();
    drop(tokio::spawn(async move {
        let client = api.client("registry");
        let recorder = Recorder::new(client.clone(), Resolver::new(client, registries()));
        let image = format!("acme/web:{}", push.tag).parse().unwrap();
        let event =
            PushEvent { image, actor: None, delivery_id: Some(format!("{}-{time}", push.tag)), receiver: "dockerhub" };
        for _ in 0..TRIES {
            let Some(policy) = api.get("imageupdatepolicies", "web") else { return };
            let policy: ImageUpdatePolicy = serde_json::from_value(Value::clone(&policy)).unwrap();
            let decisions = decide(&event, clock.now(), [&Claim::of(&policy)]);
            let creations: Vec<_> = decisions
                .into_iter()
                .filter_map(|decision| match decision {
                    Decision::Create(creation) => Some(*creation),
                    Decision::Ignore(_) => None,
                })
                .collect();
            if recorder.record_all(&creations).await.is_ok() {
                return;
            }
            sleep(Duration::from_secs(7)).await;
        }
    }));
}

pub async fn resume_all(api: &Arc<ApiServer>) {
    for rollout in api.list("imagerollouts") {
        if rollout["spec"]["paused"] == true {
            let name = rollout["metadata"]["name"].as_str().unwrap();
            let _ = api.edit("imagerollouts", name, &json!({"spec": {"paused": false}})).await;
        }
    }
}

/// What the API server would refuse by its CEL rules is not tried: this one has none.
pub async fn act(stage: &Stage, act: &Act) {
    let api = &stage.api;
    let rollouts = stage.rollouts();
    let chosen = |which: &usize| (!rollouts.is_empty()).then(|| rollouts[which % rollouts.len()].clone());
    let device = |which: &usize| stage.identities[which % stage.identities.len()].uuid.to_string();
    let edit = async |which: &usize, spec: &dyn Fn(&Value) -> Option<Value>| {
        let Some(rollout) = chosen(which) else { return };
        if let Some(spec) = spec(&rollout) {
            let name = rollout["metadata"]["name"].as_str().unwrap();
            // It may be gone by then.
            let _ = api.edit("imagerollouts", name, &json!({"spec": spec})).await;
        }
    };
    match act {
        Act::Pause(which) => edit(which, &|_| Some(json!({"paused": true}))).await,
        Act::Resume(which) => edit(which, &|_| Some(json!({"paused": false}))).await,
        Act::Acknowledge(which) => {
            edit(which, &|rollout| {
                let failures = rollout["status"]["halted"]["failures"].as_i64()?;
                Some(json!({"acknowledgedFailures": failures}))
            })
            .await;
        }
        Act::Approve(which) => {
            edit(which, &|rollout| {
                let open = rollout["status"]["currentBatch"].as_i64().unwrap_or_default();
                Some(json!({"approvedBatches": (open + 1).min(20)}))
            })
            .await;
        }
        Act::Cancel(which) => {
            edit(which, &|rollout| {
                (rollout["spec"]["desiredState"] == "Active").then(|| json!({"desiredState": "Cancelled"}))
            })
            .await;
        }
        Act::RollBack(which) => edit(which, &|_| Some(json!({"desiredState": "RolledBack"}))).await,
        Act::RollBackDevice(which, other) => {
            let device = device(other);
            edit(which, &|_| Some(json!({"rollBackDevices": [device]}))).await;
        }
        Act::Delete(which) => {
            if let Some(rollout) = chosen(which) {
                api.delete("imagerollouts", rollout["metadata"]["name"].as_str().unwrap());
            }
        }
        Act::Hold(which, hold) => {
            let _ = api.edit("devices", &device(which), &json!({"spec": {"hold": hold}})).await;
        }
        Act::Declare(which, image) => {
            let name = device(which);
            let Some(object) = api.get("devices", &name) else { return };
            let mut apps = object["spec"]["apps"].clone();
            for app in apps.as_object_mut().into_iter().flat_map(|apps| apps.values_mut()) {
                for service in app["services"].as_array_mut().into_iter().flatten() {
                    service["imageName"] = json!(image);
                    service["config"]["image"] = json!(image);
                }
            }
            let _ = api.edit("devices", &name, &json!({"spec": {"apps": apps}})).await;
        }
        Act::Trespass(one, other) => trespass(stage, *one, *other).await,
    }
}

async fn trespass(stage: &Stage, one: usize, other: usize) {
    let count = stage.identities.len();
    let (one, other) = (one % count, other % count);
    let Some((_, router)) = stage.door.routers.lock().first().cloned() else { return };
    if one == other {
        return;
    }
    let (key, name) = (stage.identities[one].key.expose(), &stage.identities[other].uuid);
    let ask = Request::get(format!("/api/v1/device/{name}/state")).header("x-device-api-key", key);
    let body = json!({&**name: {"apps": {}, "version": 9999}}).to_string();
    let tell = Request::patch("/api/v1/device/state").header("x-device-api-key", key);
    for (what, request) in [("asked", ask.body(axum::body::Body::empty())), ("told", tell.body(body.into()))] {
        let status = router.clone().oneshot(request.unwrap()).await.unwrap().status().as_u16();
        TRESPASSES.with_borrow_mut(|all| all.push(Trespass { what, status }));
    }
}
