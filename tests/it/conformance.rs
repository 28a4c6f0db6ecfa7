//! What the API server in the process has in common with a real one: every fact here is asked of both, so that the one
//! that most tests stand on can't drift from the one that counts.

use std::pin::pin;
use std::time::Duration;

use futures::{StreamExt as _, TryStreamExt as _};
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams, Preconditions, WatchEvent, WatchParams};
use kube::{Api, Client, ResourceExt};
use serde_json::{Value, json};
use tranche::api::{Device, ImageRollout};

use super::support::apiserver::{ApiServer, NAMESPACE};
use super::support::controlplane::{ControlPlane, User};
use super::support::live::clock;

const APP: &str = "docker.io/acme/app";

/// Asks both.
macro_rules! facts {
    ($($fact:ident),* $(,)?) => {
        mod in_process {
            $(#[tokio::test]
            async fn $fact() {
                let api = super::ApiServer::new(super::clock());
                super::$fact(super::Place::new(&api.client("test"), super::NAMESPACE)).await;
            })*
        }
        mod real {
            $(#[tokio::test]
            async fn $fact() {
                let plane = super::ControlPlane::shared();
                let client = plane.client(super::User::Admin).await;
                let namespace = plane.namespace("conformance").await;
                super::$fact(super::Place::new(&client, &namespace)).await;
            })*
        }
    };
}

facts! {
    create_once,
    status_and_spec_are_apart,
    preconditions,
    applies_to_nothing,
    owners_collide_and_force_decides,
    what_is_no_longer_named_goes,
    merged_lists_take_the_order_of_what_is_applied,
    managed_fields_name_the_entry,
    an_edit_takes_over,
    the_same_again_is_no_write,
    finalizers_hold_an_object,
    schemas_prune_default_and_refuse,
    lists_come_in_pages,
    watches_go_on_from_a_list,
    only_metadata,
}

struct Place {
    devices: Api<Device>,
    rollouts: Api<ImageRollout>,
}

impl Place {
    fn new(client: &Client, namespace: &str) -> Self {
        Self {
            devices: Api::namespaced(client.clone(), namespace),
            rollouts: Api::namespaced(client.clone(), namespace),
        }
    }

    async fn device(&self, name: &str) -> Device {
        self.devices.create(&PostParams::default(), &Device::new(name, Default::default())).await.unwrap()
    }

    async fn rollout(&self, name: &str) -> ImageRollout {
        let rollout = json!({
            "metadata": {"name": name},
            "spec": {"policyRef": {"name": "p"}, "image": {"repository": APP, "tag": "v2"}},
        });
        self.rollouts.create(&PostParams::default(), &serde_json::from_value(rollout).unwrap()).await.unwrap()
    }

    async fn apply(&self, manager: &str, force: bool, metadata: Value, images: Value) -> kube::Result<Device> {
        let mut params = PatchParams::apply(manager);
        params.force = force;
        let name = metadata["name"].as_str().unwrap().to_owned();
        let body = json!({
            "apiVersion": "tranche.dev/v1alpha1", "kind": "Device", "metadata": metadata, "spec": {"images": images},
        });
        self.devices.patch(&name, &params, &Patch::Apply(&body)).await
    }

    async fn status(&self, manager: &str, name: &str, status: Value) -> kube::Result<ImageRollout> {
        let body = json!({
            "apiVersion": "tranche.dev/v1alpha1", "kind": "ImageRollout", "metadata": {"name": name}, "status": status,
        });
        self.rollouts.patch_status(name, &PatchParams::apply(manager).force(), &Patch::Apply(&body)).await
    }
}

fn entry(repository: &str, tag: &str) -> Value {
    json!({
        "repository": repository, "image": format!("{repository}:{tag}"), "declared": "", "rollout": "r", "batch": 1,
        "releaseTime": "2026-11-02T09:30:00Z",
    })
}

fn condition(type_: &str, status: &str) -> Value {
    json!({
        "type": type_, "status": status, "reason": "Because", "message": "",
        "lastTransitionTime": "2026-11-02T09:30:00Z",
    })
}

#[track_caller]
fn refused<T>(result: kube::Result<T>) -> (u16, String) {
    match result {
        Ok(_) => panic!("it was accepted"),
        Err(kube::Error::Api(status)) => (status.code, status.reason.clone()),
        Err(error) => panic!("no answer: {error}"),
    }
}

async fn create_once(place: Place) {
    let device = place.device("one").await;
    assert_eq!((device.metadata.generation, device.uid().is_some()), (Some(1), true));
    let again = place.devices.create(&PostParams::default(), &Device::new("one", Default::default())).await;
    assert_eq!(refused(again), (409, "AlreadyExists".into()));
    assert_eq!(refused(place.devices.get("two").await), (404, "NotFound".into()));
}

async fn status_and_spec_are_apart(place: Place) {
    place.rollout("one").await;
    let patch = json!({"spec": {"paused": true}, "status": {"phase": "Paused"}});
    let one = place.rollouts.patch("one", &PatchParams::default(), &Patch::Merge(&patch)).await.unwrap();
    assert_eq!((one.spec.paused, one.status.is_none(), one.metadata.generation), (true, true, Some(2)));
    let patch = json!({"spec": {"paused": false}, "status": {"phase": "Paused"}});
    let one = place.rollouts.patch_status("one", &PatchParams::default(), &Patch::Merge(&patch)).await.unwrap();
    assert_eq!((one.spec.paused, one.status.is_some(), one.metadata.generation), (true, true, Some(2)));
    let patch = json!({"metadata": {"labels": {"a": "b"}}});
    let one = place.rollouts.patch("one", &PatchParams::default(), &Patch::Merge(&patch)).await.unwrap();
    assert_eq!((one.labels()["a"].as_str(), one.metadata.generation), ("b", Some(2)));
}

async fn preconditions(place: Place) {
    let old = place.device("one").await;
    let mut new = old.clone();
    new.spec.hold = true;
    place.devices.replace("one", &PostParams::default(), &new).await.unwrap();
    let conflict = (409, "Conflict".to_owned());
    assert_eq!(refused(place.devices.replace("one", &PostParams::default(), &old).await), conflict);
    let stale = json!({"name": "one", "resourceVersion": old.resource_version()});
    assert_eq!(refused(place.apply("a", false, stale.clone(), json!([])).await), conflict);
    let other = json!({"name": "one", "uid": "00000000-0000-4000-8000-00000000dead"});
    assert_eq!(refused(place.apply("a", false, other.clone(), json!([])).await), (422, "Invalid".into()));
    let patch = Patch::Merge(json!({"metadata": other}));
    assert_eq!(refused(place.devices.patch("one", &PatchParams::default(), &patch).await), (422, "Invalid".into()));
    new.metadata.uid = Some("00000000-0000-4000-8000-00000000dead".into());
    new.metadata.resource_version = place.devices.get("one").await.unwrap().resource_version();
    assert_eq!(refused(place.devices.replace("one", &PostParams::default(), &new).await), conflict);
    let both = json!({"name": "one", "uid": new.uid(), "resourceVersion": old.resource_version()});
    assert_eq!(refused(place.apply("a", false, both, json!([])).await), conflict);
    let patch = Patch::Merge(json!({"metadata": stale, "spec": {"hold": false}}));
    assert_eq!(refused(place.devices.patch("one", &PatchParams::default(), &patch).await), conflict);
    let preconditions = Preconditions { resource_version: old.resource_version(), uid: None };
    let params = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default() };
    assert_eq!(refused(place.devices.delete("one", &params).await), conflict);
}

async fn applies_to_nothing(place: Place) {
    let seen = place.device("one").await;
    place.devices.delete("one", &DeleteParams::default()).await.unwrap();
    let uid = json!({"name": "one", "uid": seen.uid(), "resourceVersion": seen.resource_version()});
    assert_eq!(refused(place.apply("a", false, uid, json!([entry(APP, "v1")])).await), (409, "Conflict".into()));
    assert_eq!(refused(place.status("a", "one", json!({"phase": "Paused"})).await), (404, "NotFound".into()));
    let revision = json!({"name": "one", "resourceVersion": seen.resource_version()});
    let ghost = place.apply("a", false, revision, json!([entry(APP, "v1")])).await.unwrap();
    assert_eq!((ghost.spec.images.len(), ghost.metadata.generation), (1, Some(1)));
}

async fn owners_collide_and_force_decides(place: Place) {
    place.device("one").await;
    let named = || json!({"name": "one"});
    place.apply("a", false, named(), json!([entry(APP, "v1")])).await.unwrap();
    // The same value is no conflict, and both own it then.
    place.apply("b", false, named(), json!([entry(APP, "v1")])).await.unwrap();
    let refusal = place.apply("b", false, named(), json!([entry(APP, "v2")])).await;
    let Err(kube::Error::Api(status)) = refusal else { panic!("{refusal:?}") };
    let causes = status.details.unwrap().causes;
    assert_eq!((status.code, causes.len(), causes[0].reason.as_str()), (409, 1, "FieldManagerConflict"));
    assert!(causes[0].message.contains("\"a\""), "{}", causes[0].message);
    let device = place.apply("b", true, named(), json!([entry(APP, "v2")])).await.unwrap();
    assert_eq!(device.spec.images[0].image.as_deref(), Some("docker.io/acme/app:v2"));
    let device = place.apply("a", false, named(), json!([])).await.unwrap();
    assert_eq!(device.spec.images.len(), 1, "what somebody else owns stays");
    let device = place.apply("b", false, named(), json!([])).await.unwrap();
    assert!(device.spec.images.is_empty());
}

async fn what_is_no_longer_named_goes(place: Place) {
    place.rollout("one").await;
    let halted = json!({"time": "2026-11-02T09:30:00Z", "batch": 1, "failures": 1});
    let conditions = json!([condition("Ready", "False"), condition("Reconciling", "True")]);
    let full = json!({"phase": "Halted", "message": "m", "halted": halted, "conditions": conditions});
    place.status("a", "one", full).await.unwrap();
    place.status("b", "one", json!({"conditions": [condition("Other", "True")]})).await.unwrap();
    let less = json!({"phase": "Paused", "message": "", "conditions": [condition("Ready", "False")]});
    let status = place.status("a", "one", less).await.unwrap().status.unwrap();
    assert_eq!((status.halted, status.message.as_str()), (None, ""));
    let mut types: Vec<_> = status.conditions.iter().map(|condition| condition.type_.clone()).collect();
    types.sort();
    assert_eq!(types, ["Other", "Ready"]);
}

async fn merged_lists_take_the_order_of_what_is_applied(place: Place) {
    let device = place.device("ordered").await;
    let types = |device: &Device| -> Vec<String> {
        device.status.iter().flat_map(|status| &status.conditions).map(|condition| condition.type_.clone()).collect()
    };
    let mut stored = device;
    // Each manager's list, and what is there then.
    for (manager, applied, expected) in [
        ("a", "B D", "B D"),
        ("a", "A B C D", "A B C D"),
        ("a", "D A B", "D A B"),
        ("b", "X", "D A B X"),
        ("a", "B E D", "B X E D"),
        ("b", "Y X", "B Y X E D"),
        ("c", "X B", "Y X E D B"),
        ("b", "Z", "X E D B Z"),
        ("a", "D", "X D B Z"),
    ] {
        let conditions: Vec<Value> = applied.split(' ').map(|type_| condition(type_, "True")).collect();
        let body = json!({
            "apiVersion": "tranche.dev/v1alpha1", "kind": "Device", "metadata": {"name": "ordered"},
            "status": {"conditions": conditions},
        });
        let params = PatchParams::apply(manager).force();
        stored = place.devices.patch_status("ordered", &params, &Patch::Apply(&body)).await.unwrap();
        assert_eq!(types(&stored).join(" "), expected, "after {manager} applied {applied}");
    }
    assert_eq!(stored.name_any(), "ordered");
}

async fn managed_fields_name_the_entry(place: Place) {
    place.device("one").await;
    let device =
        place.apply("tranche-policy/p", false, json!({"name": "one"}), json!([entry(APP, "v1")])).await.unwrap();
    let mine = device.managed_fields().iter().find(|fields| fields.manager.as_deref() == Some("tranche-policy/p"));
    let mine = mine.unwrap();
    assert_eq!((mine.operation.as_deref(), mine.subresource.as_deref()), (Some("Apply"), None));
    let fields = &mine.fields_v1.as_ref().unwrap().0["f:spec"]["f:images"][format!("k:{{\"repository\":\"{APP}\"}}")];
    let mut names: Vec<&str> = fields.as_object().unwrap().keys().map(String::as_str).collect();
    names.sort_unstable();
    assert_eq!(names, [".", "f:batch", "f:declared", "f:image", "f:releaseTime", "f:repository", "f:rollout"]);
    place.rollout("one").await;
    let rollout = place.status("a", "one", json!({"phase": "Paused"})).await.unwrap();
    let mine = rollout.managed_fields().iter().find(|fields| fields.manager.as_deref() == Some("a")).unwrap();
    assert_eq!(mine.subresource.as_deref(), Some("status"));
    assert_eq!(mine.fields_v1.as_ref().unwrap().0, json!({"f:status": {"f:phase": {}}}));
}

async fn an_edit_takes_over(place: Place) {
    place.device("one").await;
    place.apply("a", false, json!({"name": "one"}), json!([entry(APP, "v1")])).await.unwrap();
    let params = PatchParams { field_manager: Some("kubectl-edit".into()), ..PatchParams::default() };
    let edited = json!({"spec": {"images": [entry(APP, "v9")]}});
    place.devices.patch("one", &params, &Patch::Merge(&edited)).await.unwrap();
    let refusal = place.apply("a", false, json!({"name": "one"}), json!([entry(APP, "v2")])).await;
    assert_eq!(refused(refusal), (409, "Conflict".into()));
}

async fn the_same_again_is_no_write(place: Place) {
    place.device("one").await;
    let apply = || place.apply("a", false, json!({"name": "one"}), json!([entry(APP, "v1")]));
    let first = apply().await.unwrap();
    // Past the second that times are kept to.
    tokio::time::sleep(Duration::from_millis(1100)).await;
    assert_eq!(apply().await.unwrap().metadata, first.metadata);
    let patch = json!({"spec": {"hold": false}});
    let same = place.devices.patch("one", &PatchParams::default(), &Patch::Merge(&patch)).await.unwrap();
    assert_eq!(same.resource_version(), first.resource_version());
}

async fn finalizers_hold_an_object(place: Place) {
    place.rollout("one").await;
    let finalizers = |list: Value| Patch::Merge(json!({"metadata": {"finalizers": list}}));
    let held = place.rollouts.patch("one", &PatchParams::default(), &finalizers(json!(["tranche.dev/rollout"]))).await;
    assert_eq!(held.unwrap().metadata.generation, Some(1));
    place.rollouts.delete("one", &DeleteParams::default()).await.unwrap().left().expect("it is still there");
    let marked = place.rollouts.get("one").await.unwrap();
    assert_eq!((marked.metadata.deletion_timestamp.is_some(), marked.metadata.generation), (true, Some(2)));
    place.rollouts.delete("one", &DeleteParams::default()).await.unwrap();
    let still = place.rollouts.get("one").await.unwrap();
    assert_eq!(still.resource_version(), marked.resource_version(), "twice is once");
    place.rollouts.patch("one", &PatchParams::default(), &finalizers(json!([]))).await.unwrap();
    assert!(place.rollouts.get_opt("one").await.unwrap().is_none());
    place.device("two").await;
    place.devices.delete("two", &DeleteParams::default()).await.unwrap().right().expect("it is gone");
}

async fn schemas_prune_default_and_refuse(place: Place) {
    let rollout = place.rollout("one").await;
    let patch = json!({"spec": {"nobodyKnowsThis": 1}});
    let pruned = place.rollouts.patch("one", &PatchParams::default(), &Patch::Merge(&patch)).await.unwrap();
    assert_eq!(pruned.resource_version(), rollout.resource_version());
    let status = place.status("a", "one", json!({"observedGeneration": 1})).await.unwrap().status.unwrap();
    assert_eq!(status.phase.as_str(), "Pending");
    for patch in [json!({"spec": {"paused": "yes"}}), json!({"spec": {"approvedBatches": 22}})] {
        let result = place.rollouts.patch("one", &PatchParams::default(), &Patch::Merge(&patch)).await;
        assert_eq!(refused(result), (422, "Invalid".into()), "{patch}");
    }
    let long = json!({"phase": "Paused", "message": "x".repeat(1025)});
    assert_eq!(refused(place.status("a", "one", long).await), (422, "Invalid".into()));
}

async fn lists_come_in_pages(place: Place) {
    for index in 0..5 {
        place.device(&format!("d{index}")).await;
    }
    let mut params = ListParams::default().limit(2);
    let mut names = Vec::new();
    let mut versions = Vec::new();
    loop {
        let page = place.devices.list(&params).await.unwrap();
        names.extend(page.items.iter().map(ResourceExt::name_any));
        versions.push(page.metadata.resource_version.clone());
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => params = params.continue_token(&token),
            None => break,
        }
    }
    assert_eq!(names, ["d0", "d1", "d2", "d3", "d4"]);
    versions.dedup();
    assert_eq!(versions.len(), 1, "all pages are of one moment: {versions:?}");
}

async fn watches_go_on_from_a_list(place: Place) {
    place.device("before").await;
    let version = place.devices.list(&ListParams::default()).await.unwrap().metadata.resource_version.unwrap();
    place.device("one").await;
    place.apply("a", false, json!({"name": "one"}), json!([entry(APP, "v1")])).await.unwrap();
    place.rollout("none-of-its-business").await;
    place.devices.delete("one", &DeleteParams::default()).await.unwrap();
    let events = place.devices.watch(&WatchParams::default().timeout(20), &version).await.unwrap();
    let mut events = pin!(events);
    let mut seen = Vec::new();
    while seen.len() < 3
        && let Some(event) = events.try_next().await.unwrap()
    {
        seen.push(match event {
            WatchEvent::Added(device) => format!("added {}", device.name_any()),
            WatchEvent::Modified(device) => format!("modified {}", device.name_any()),
            WatchEvent::Deleted(device) => format!("deleted {}", device.name_any()),
            WatchEvent::Bookmark(_) => continue,
            WatchEvent::Error(status) => panic!("{status:?}"),
        });
    }
    assert_eq!(seen, ["added one", "modified one", "deleted one"]);
    let soon = place.devices.watch(&WatchParams::default().timeout(1), &version).await.unwrap();
    let all = tokio::time::timeout(Duration::from_secs(20), soon.collect::<Vec<_>>()).await.expect("it ends in time");
    assert!(all.len() >= 3);
}

async fn only_metadata(place: Place) {
    let device = place.device("one").await;
    let metadata = place.devices.get_metadata("one").await.unwrap();
    assert_eq!(metadata.metadata, device.metadata);
    assert!(place.devices.get_metadata_opt("two").await.unwrap().is_none());
    assert_eq!(place.devices.list_metadata(&ListParams::default()).await.unwrap().items.len(), 1);
}
