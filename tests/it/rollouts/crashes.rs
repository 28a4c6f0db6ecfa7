//! The controller's process is killed at every single write of a story, before it and after it, and started again: the
//! end is the same each time, and nothing happens on the way that must not.
//!
//! `tests/it/crash_points.rs` does the same in virtual time; here everything is the real thing. Every request that is
//! not a GET counts as a write, Events included. They are a courtesy, though, and a death between a status and its
//! Events loses them, so what is compared at the end is everything but them.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::StreamExt as _;
use kube::api::{ListParams, Patch, PatchParams};
use kube::{Api, ResourceExt as _};
use serde_json::{Value, json};
use tranche::api::{Device, ImageRollout, ImageUpdatePolicy};
use tranche::simulate::{Personality, Shares};

use super::stage::{OLD, SEED, Stage};
use crate::support::controlplane::{ControlPlane, User};
use crate::support::history::History;
use crate::support::live::never;
use crate::support::process::{Settings, Tranche};
use crate::support::proxy::{Proxy, When, Write};
use crate::support::wait::until;

/// Three are healthy; one can't pull anything new, and is in the first batch.
const DEVICES: u32 = 4;
/// Stories told side by side. They are made of waiting.
const ABREAST: usize = 12;
/// The controller writes nothing for so long: it is done. Figures may wait for a second, and gateways speak each second.
const QUIET: Duration = Duration::from_millis(1500);
/// Of a hundred writes, so many have to come up again when the story is told again. How often a status is written
/// depends on what falls together.
const REACHED: usize = 85;

/// The controller meets three pushes at once: two are superseded, of which one is pruned. The last goes out in two
/// batches; the device that fails goes back alone.
struct Story {
    stage: Stage,
    proxy: Proxy,
    history: History,
    controller: Settings,
    /// In words, what is different about it.
    twist: String,
}

/// How it ended.
struct Told {
    end: BTreeMap<String, Value>,
    writes: Vec<Write>,
    /// The process was killed.
    died: bool,
    broken: Vec<String>,
}

impl Story {
    async fn set(fault: Option<(Write, When)>) -> Self {
        let plane = ControlPlane::shared();
        let namespace = plane.namespace("crash").await;
        let beside = Settings::new(&plane.kubeconfig(User::Admin), &namespace).only(&["gateway", "api"]);
        let first = json!({"matchLabels": {"wave": "first"}});
        let spec = json!({
            "strategy": {"batches": [{"size": "50%", "selector": first}, {"size": "100%"}], "batchDelay": "1s"},
            "failurePolicy": {"action": "RollBackAll", "maxFailureRate": "50%", "rollBackFailedDevices": true},
            "updateDeadline": "8s",
            "historyLimit": 1,
        });
        let shares: Shares = "fails=40%".parse().unwrap();
        let weak: Vec<u32> =
            (0..DEVICES).filter(|index| shares.personality(SEED, *index) != Personality::Healthy).collect();
        let [weak] = weak[..] else { panic!("{weak:?} of {DEVICES} devices are weak") };
        let stage = Stage::build(plane, beside, OLD, DEVICES, shares, &spec).await;
        let devices: Api<Device> = stage.api();
        for index in [weak, (weak + 1) % DEVICES] {
            let device = stage
                .list()
                .await
                .into_iter()
                .find(|device| device.spec.display_name.as_deref() == Some(format!("test-{index:05}").as_str()));
            let wave = json!({"metadata": {"labels": {"wave": "first"}}});
            let name = device.unwrap().name_any();
            devices.patch(&name, &PatchParams::default(), &Patch::Merge(wave)).await.unwrap();
        }
        until("every device to have reported", async || {
            let reported = |device: &Device| device.status.as_ref().is_some_and(|status| status.services.is_some());
            let count = stage.list().await.iter().filter(|device| reported(device)).count();
            if count == DEVICES as usize { Ok(()) } else { Err(format!("{count} have")) }
        })
        .await;
        for tag in ["v1.8.0", "v1.9.0", "v2.0.0"] {
            until("the push to be taken in", async || stage.told_push(tag).await).await;
        }
        // As if a person had written the last one, with nothing in it but what has to be.
        let bare = json!({"metadata": {"labels": null, "ownerReferences": null, "finalizers": null}});
        let last = stage.push("v2.0.0").await;
        stage.api::<ImageRollout>().patch(&last, &PatchParams::default(), &Patch::Merge(bare)).await.unwrap();
        let history = History::follow(&stage.client, &namespace).await;
        let twist = fault.as_ref().map_or("as it is".into(), |(write, when)| format!("death {when:?} {write}"));
        let proxy = Proxy::start(plane.client(User::Admin).await, fault).await;
        let controller = Settings::new(&proxy.kubeconfig(), &namespace).only(&["controller"]);
        Self { stage, proxy, history, controller, twist }
    }

    /// Tells it up to its end, which is `expected` if that is known.
    async fn tell(fault: Option<(Write, When)>, expected: Option<&BTreeMap<String, Value>>) -> Told {
        let story = Self::set(fault).await;
        let live = async {
            let _controller = Tranche::start(&story.controller).await;
            story.until_over(expected).await
        };
        // Dropping a process kills it as `kill -9` does.
        let over = tokio::select! {
            biased;
            () = story.proxy.until_cut() => None,
            end = live => Some(end),
        };
        let died = over.is_none();
        let end = match over {
            Some(end) => end,
            None => {
                story.proxy.mend();
                let _controller = Tranche::start(&story.controller).await;
                story.until_over(expected).await
            }
        };
        // Registries tell a push again when in doubt.
        story.stage.push("v2.0.0").await;
        let rollouts = story.stage.api::<ImageRollout>().list(&ListParams::default()).await.unwrap().items;
        assert_eq!(rollouts.len(), 2, "a push that is told again is no other push");
        Told { end, writes: story.proxy.writes(), died, broken: never::check(&story.history.log().await) }
    }

    async fn until_over(&self, expected: Option<&BTreeMap<String, Value>>) -> BTreeMap<String, Value> {
        until(&format!("the story to be over, {}", self.twist), async || {
            let end = self.end().await;
            let quiet = self.proxy.last_write().elapsed();
            if quiet < QUIET {
                return Err(format!("the last write was {quiet:?} ago"));
            }
            match expected {
                Some(expected) if *expected != end => Err(difference(expected, &end)),
                None if !format!("{end:?}").contains("RolloutCompleted") => Err(format!("it is not: {end:#?}")),
                Some(_) | None => Ok(end),
            }
        })
        .await
    }

    /// What has to be the same, and none of what depends on when.
    async fn end(&self) -> BTreeMap<String, Value> {
        let mut end = BTreeMap::new();
        let list = self.stage.api::<ImageRollout>().list(&ListParams::default()).await.unwrap();
        for rollout in list {
            let status = json!(rollout.status);
            let mut batches = status["batches"].clone();
            for batch in batches.as_array_mut().into_iter().flatten() {
                drop_fields(batch, &["boundary", "startTime", "completionTime"]);
            }
            let history = status["history"].as_array().into_iter().flatten();
            // A device that is back and the next batch come in either order.
            let mut types: Vec<&str> = history.filter_map(|line| line["type"].as_str()).collect();
            types.sort_unstable();
            let figures = json!([batches, status["totals"], status["currentBatch"], status["failedDevices"]]);
            let marks = json!([rollout.finalizers(), rollout.owner_references().len()]);
            end.insert(rollout.name_any(), json!([status["phase"], figures, types, marks]));
        }
        for device in self.stage.list().await {
            let (spec, status) = (json!(device.spec), json!(device.status));
            let (mut images, mut updates) = (spec["images"].clone(), status["updates"].clone());
            let lists = [&mut images, &mut updates].into_iter().filter_map(Value::as_array_mut);
            lists.flatten().for_each(|item| drop_fields(item, &["releaseTime", "time"]));
            // A container's id tells how often the device tried.
            let services = status["services"].as_array().into_iter().flatten();
            let services: Vec<Value> =
                services.map(|service| json!([service["name"], service["image"], service["status"]])).collect();
            end.insert(device.name_any(), json!([images, updates, services, states(&status)]));
        }
        let policy = self.stage.api::<ImageUpdatePolicy>().get("myapp").await.unwrap();
        let status = json!(policy.status);
        let known = [&status["latest"], &status["activeRollout"], &status["rejected"], &states(&status)];
        end.insert("policy".into(), json!(known));
        let told = ["v1.0.0", "v1.8.0", "v1.9.0", "v2.0.0"].map(|tag| self.stage.ever_told(tag));
        end.insert("devices that were ever told each image".into(), json!(told));
        end
    }
}

fn drop_fields(item: &mut Value, fields: &[&str]) {
    fields.iter().for_each(|field| drop(item.as_object_mut().unwrap().remove(*field)));
}

/// Conditions, apart from texts and times.
fn states(status: &Value) -> Value {
    let conditions = status["conditions"].as_array().into_iter().flatten();
    conditions.map(|condition| json!([condition["type"], condition["status"], condition["reason"]])).collect()
}

fn difference(expected: &BTreeMap<String, Value>, end: &BTreeMap<String, Value>) -> String {
    let names = expected.keys().chain(end.keys()).filter(|name| expected.get(*name) != end.get(*name));
    names.map(|name| format!("{name}: {:?} instead of {:?}\n", end.get(name), expected.get(name))).collect()
}

async fn walk(when: When) {
    let reference = Story::tell(None, None).await;
    assert_eq!(reference.broken, Vec::<String>::new());
    for write in &reference.writes {
        println!("{write}");
    }
    let count = reference.writes.len();
    let told = futures::stream::iter(&reference.writes).map(async |write| {
        let told = Story::tell(Some((write.clone(), when)), Some(&reference.end)).await;
        (write, told)
    });
    let told: Vec<(&Write, Told)> = told.buffer_unordered(ABREAST).collect().await;
    let mut missed = Vec::new();
    for (write, told) in told {
        assert_eq!(told.broken, Vec::<String>::new(), "{when:?} {write}");
        if !told.died {
            missed.push(write.to_string());
        }
    }
    println!("{when:?}: died at {} of {count} writes; these did not come up again: {missed:?}", count - missed.len());
    assert!((count - missed.len()) * 100 >= count * REACHED, "{when:?}: too few of {count} came up again: {missed:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_is_the_same_though_it_dies_before_any_write() {
    walk(When::Before).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_is_the_same_though_it_dies_after_any_write() {
    walk(When::After).await;
}
