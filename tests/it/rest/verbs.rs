//! Verbs: what they answer, that asking twice is asking once, and where they don't fit.

use kube::Api;
use serde_json::json;
use tranche::api::rollout::Phase;
use tranche::api::{Device, ImageRollout, ImageUpdatePolicy};

use super::Door;
use crate::rollouts::stage::Stage;
use crate::support::controlplane::{ControlPlane, User};
use crate::support::process::{Settings, Tranche};
use crate::support::wait::until;

#[tokio::test(flavor = "multi_thread")]
async fn a_rollout_by_hand() {
    let stage = Stage::set("rest-verbs", 10, &json!({"strategy": {"type": "Manual"}})).await;
    let door = Door::of(ControlPlane::shared(), &stage.tranche().url, User::Admin);

    let start = json!({"image": "iotistic/myapp", "tag": "v2.0.0", "reason": "the fix"});
    let made = door.post("/rollouts", &start).await;
    assert_eq!(made.status, 201, "{made:?}");
    let rollout = made.json()["rollout_id"].as_str().unwrap().to_owned();
    let effect = "its devices are counted and put into batches, each of which waits for approval";
    assert_eq!((&made.json()["effect"], &made.json()["devices"]), (&json!(effect), &json!(null)), "{made:?}");
    let again = door.post("/rollouts", &start).await;
    assert_eq!((again.status, &again.json()["rollout_id"]), (200, &json!(rollout)), "{again:?}");
    // A push of the same tag is the same rollout.
    assert_eq!(stage.push("v2.0.0").await, rollout);
    stage.until_phase(&rollout, Phase::AwaitingApproval).await;
    let path = |verb: &str| format!("/rollouts/{rollout}/{verb}");

    let approved = door.post(&path("approve"), &json!({"batch": 1})).await.ok();
    assert_eq!((&approved["changed"], &approved["state"]), (&json!(true), &json!("AwaitingApproval")), "{approved}");
    let twice = door.post(&path("approve"), &json!({"batch": 1})).await.ok();
    assert_eq!(twice["changed"], false, "{twice}");
    stage.until(&rollout, "batch 1 complete", |status| status.batches[0].completion_time.is_some()).await;

    let details = door.get(&format!("/rollouts/{rollout}")).await;
    let body = details.ok();
    assert_eq!(body["statistics"]["healthy_devices"], 2, "{body}");
    assert_eq!(body["batches"][0]["healthy_devices"], 2, "{body}");
    assert_eq!(body["devices"].as_array().unwrap().len(), 10);
    let healthy = body["devices"].as_array().unwrap().iter().filter(|device| device["status"] == "healthy");
    let healthy: Vec<_> = healthy.map(|device| device["device_uuid"].as_str().unwrap().to_owned()).collect();
    assert_eq!(healthy.len(), 2, "{body}");
    assert_eq!((&body["devices_complete"], &body["devices_error"]), (&json!(true), &json!(null)));
    let all = door.get(&format!("/rollouts/{rollout}/devices")).await.ok();
    assert_eq!(all["batches"]["1"][0]["reason"], "Healthy", "{all}");
    assert_eq!(all["batches"]["2"][0]["reason"], "BatchNotOpen", "{all}");
    let by_uid = door.get(&format!("/rollouts/{}", body["rollout"]["uid"].as_str().unwrap())).await.ok();
    assert_eq!(by_uid["rollout"]["rollout_id"], rollout);

    // An old ETag does nothing.
    let stale = door.header("if-match", &details.etag());
    let paused = door.post(&path("pause"), &json!({"reason": "lunch"})).await;
    assert_eq!(paused.ok()["changed"], true);
    stale.post(&path("resume"), &json!({})).await.problem(412, "changed");
    stage.until_phase(&rollout, Phase::Paused).await;
    let active = door.get("/rollouts/active").await.ok();
    assert_eq!((&active["count"], &active["rollouts"][0]["status"]), (&json!(1), &json!("paused")), "{active}");

    // One device back.
    let back = door.post(&format!("/rollouts/{rollout}/devices/{}/rollback", healthy[0]), &json!({})).await.ok();
    assert_eq!((&back["device_uuid"], &back["devices"]), (&json!(healthy[0]), &json!(1)), "{back}");
    stage.until_running("v2.0.0", 1).await;
    // The gate sends it back before its entry is rewritten.
    until("the device to be shown as sent back", async || {
        let device = door.get(&format!("/devices/{}", healthy[0])).await.ok();
        let standing = &device["repositories"][0]["standing"];
        if standing["status"] == "rolled_back" { Ok(()) } else { Err(standing.to_string()) }
    })
    .await;

    door.post(&path("resume"), &json!({"reason": "back"})).await.ok();
    door.post(&path("retry"), &json!({})).await.problem(409, "state");
    let all = door.post(&path("rollback-all"), &json!({"reason": "no good"})).await.ok();
    assert_eq!((&all["devices_rolled_back"], &all["devices_failed"]), (&json!(1), &json!(0)), "{all}");
    stage.until_phase(&rollout, Phase::RolledBack).await;
    for verb in ["pause", "resume", "cancel", "approve"] {
        let refusal = door.post(&path(verb), &json!({})).await.problem(409, "state");
        assert_eq!((&refusal["state"], &refusal["rollout_status"]), (&json!("RolledBack"), &json!("rolled_back")));
    }
    assert_eq!(door.post(&path("rollback-all"), &json!({})).await.ok()["changed"], false);
    // Starting it anew needs a word of its own.
    door.post("/rollouts", &start).await.problem(409, "state");
    door.header("if-match", "\"1\"").post(&path("retry"), &json!({})).await.problem(412, "changed");
    // The controller may write its status in between.
    let retried = until("the rollout to be retried as it was read", async || {
        let ended = door.get(&format!("/rollouts/{rollout}")).await;
        let conditional = door.header("if-match", &ended.etag());
        let retried = conditional.post(&path("retry"), &json!({"reason": "fixed the bench"})).await;
        if retried.status == 201 { Ok(retried) } else { Err(retried.text) }
    })
    .await;
    assert!(retried.json()["effect"].as_str().unwrap().contains("waits for approval"), "{retried:?}");
    let retried = retried.json()["rollout_id"].as_str().unwrap().to_owned();
    assert_ne!(retried, rollout);
    assert_eq!(door.post(&path("retry"), &json!({})).await.status, 200);

    let events = door.get(&path("events")).await.ok();
    let types: Vec<_> = events["events"].as_array().unwrap().iter().map(|event| event["event_type"].clone()).collect();
    for wanted in
        ["image.rollout_created", "image.rollout_paused", "image.rollout_resumed", "image.rollout_rolled_back"]
    {
        assert!(types.contains(&json!(wanted)), "{wanted}: {events}");
    }
    assert_eq!(events["count"], types.len());
    let two = door.get(&format!("{}?limit=2&offset=1", path("events"))).await.ok();
    assert_eq!(two["events"].as_array().unwrap()[..], events["events"].as_array().unwrap()[1..3]);
}

/// The controller writes the status all the while, so the revision that was read is often old.
#[tokio::test(flavor = "multi_thread")]
async fn many_people_at_once() {
    let stage = Stage::set("rest-crowd", 4, &json!({})).await;
    let door = Door::of(ControlPlane::shared(), &stage.tranche().url, User::Admin);
    let rollout = stage.push("v2.0.0").await;
    let (pause, resume) = (format!("/rollouts/{rollout}/pause"), json!({}));
    let answers = futures::future::join_all((0..8).map(|_| door.post(&pause, &resume))).await;
    let changed = answers.iter().filter(|answer| answer.status == 200 && answer.json()["changed"] == true).count();
    let ended = answers.iter().filter(|answer| answer.status == 409).count();
    assert!(changed == 1 || ended == 8, "{answers:#?}");
    let paused = stage.api::<ImageRollout>().get(&rollout).await.unwrap().spec.paused;
    assert_eq!(paused, changed == 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rollout_that_is_to_wait() {
    let stage = Stage::set("rest-wait", 1, &json!({})).await;
    let door = Door::of(ControlPlane::shared(), &stage.tranche().url, User::Admin);
    let image = "iotistic/myapp:v2.0.0";
    let later = "2126-12-01T22:00:00Z";
    for wrong in ["tonight", "2126-13-01T00:00:00Z"] {
        let refusal = door.post("/rollouts", &json!({"image": image, "not_before": wrong})).await;
        assert!(
            refusal.problem(400, "bad-body")["detail"].as_str().unwrap().starts_with("not_before: "),
            "{refusal:?}"
        );
    }
    let made = door.post("/rollouts", &json!({"image": image, "paused": true, "not_before": later})).await.ok();
    assert!(made["effect"].as_str().unwrap().starts_with("it is paused"), "{made}");
    let name = made["rollout_id"].as_str().unwrap();
    let spec = stage.api::<ImageRollout>().get(name).await.unwrap().spec;
    assert_eq!((spec.paused, spec.not_before.map(|time| time.0.to_string()).as_deref()), (true, Some(later)));
}

/// As the rollout's own message asks, without kubectl.
#[tokio::test(flavor = "multi_thread")]
async fn a_rollout_goes_on_though_nobody_is_there() {
    let plane = ControlPlane::shared();
    let namespace = plane.namespace("rest-nobody").await;
    let client = plane.client(User::Admin).await;
    let devices: Api<Device> = Api::namespaced(client.clone(), &namespace);
    for name in ["a", "b", "c"] {
        let apps = json!({"1": {"services": [{"serviceId": 1, "serviceName": "web", "imageName": "acme/web:v1"}]}});
        let device = json!({"metadata": {"name": name}, "spec": {"apps": apps}});
        devices.create(&Default::default(), &serde_json::from_value(device).unwrap()).await.unwrap();
    }
    let policies: Api<ImageUpdatePolicy> = Api::namespaced(client.clone(), &namespace);
    let policy = json!({
        "metadata": {"name": "web"},
        "spec": {
            "image": {"pattern": "acme/web:*", "offer": "Tag"}, "devices": {"selector": {}}, "offlineAfter": "1s",
            "strategy": {"batches": [{"size": 1}, {"size": "100%"}]},
        },
    });
    policies.create(&Default::default(), &serde_json::from_value(policy).unwrap()).await.unwrap();
    let tranche = Tranche::start(&Settings::new(&plane.kubeconfig(User::Admin), &namespace)).await;
    let door = Door::of(plane, &tranche.url, User::Admin);
    let made = door.post("/rollouts", &json!({"image": "acme/web:v2"})).await.ok();
    let rollout = made["rollout_id"].as_str().unwrap();
    let until_it_says = async |words: &str| {
        until(words, async || {
            let message = door.get(&format!("/rollouts/{rollout}")).await.ok()["rollout"]["message"].to_string();
            if message.contains(words) { Ok(()) } else { Err(message) }
        })
        .await;
    };
    let approve = format!("/rollouts/{rollout}/approve");
    for (words, wanted, effect) in [
        ("set spec.approvedBatches to 2 to go on without them", 2, "batch 2 (100%) may open: 2 devices"),
        ("set spec.approvedBatches to 3 to go on without them", 3, "it may end, though nobody of batch 2 is there"),
    ] {
        until_it_says(words).await;
        let approved = door.post(&approve, &json!({"batch": wanted})).await.ok();
        assert_eq!(approved["changed"], true, "{approved}");
        assert!(approved["effect"].as_str().unwrap().starts_with(effect), "{approved}");
    }
    until_it_says("3 deferred until they turn up").await;
}
