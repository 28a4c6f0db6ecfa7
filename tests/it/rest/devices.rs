//! Devices: pages, filters, holding; never what proves who they are.

use kube::ResourceExt as _;
use serde_json::json;
use tranche::api::Device;

use super::Door;
use crate::rollouts::stage::Stage;
use crate::support::controlplane::{ControlPlane, User};

#[tokio::test(flavor = "multi_thread")]
async fn pages_and_holding() {
    let stage = Stage::set("rest-devices", 7, &json!({})).await;
    let door = Door::of(ControlPlane::shared(), &stage.tranche().url, User::Admin);
    let mut names = Vec::new();
    let mut path = "/devices?limit=3".to_owned();
    loop {
        let page = door.get(&path).await.ok();
        let devices = page["devices"].as_array().unwrap();
        assert!(devices.len() <= 3);
        names.extend(devices.iter().map(|device| device["device_uuid"].as_str().unwrap().to_owned()));
        match page["pagination"]["continue"].as_str() {
            Some(token) => path = format!("/devices?limit=3&continue={token}"),
            None => break,
        }
    }
    let mut wanted: Vec<_> = stage.list().await.iter().map(|device| device.name_any()).collect();
    wanted.sort();
    assert_eq!(names, wanted);
    let count = |page: serde_json::Value| page["devices"].as_array().unwrap().len();
    assert_eq!(count(door.get("/devices?fleet=test&connected=true").await.ok()), 7);
    assert_eq!(count(door.get("/devices?fleet=none").await.ok()), 0);
    assert_eq!(count(door.get("/devices?connected=false").await.ok()), 0);
    door.get("/devices?continue=AAAA").await.problem(400, "bad-parameter");

    let device = format!("/devices/{}", names[0]);
    let one = door.get(&device.to_uppercase().replace("/DEVICES", "/devices")).await;
    let hash = stage.api::<Device>().get(&names[0]).await.unwrap().spec.auth.unwrap().key_hash.unwrap();
    assert!(!one.text.contains(&hash) && !door.get("/devices").await.text.contains("sha256:"), "a key's hash is shown");
    assert_eq!(one.ok()["repositories"][0]["declared"], "docker.io/iotistic/myapp:v1.0.0", "{one:?}");

    let hold = format!("{device}/hold");
    let held = door.post(&hold, &json!({"hold": true, "reason": "on the bench"})).await.ok();
    assert_eq!((&held["changed"], &held["hold"]), (&json!(true), &json!(true)));
    let effect = "no rollout moves it until it is let go; it keeps what it runs";
    assert_eq!((&held["effect"], &held["devices"]), (&json!(effect), &json!(1)), "{held}");
    assert_eq!(door.post(&hold, &json!({})).await.ok()["changed"], false, "hold is what it is asked for by default");
    assert!(stage.api::<Device>().get(&names[0]).await.unwrap().spec.hold);
    door.header("if-match", "\"1\"").post(&hold, &json!({"hold": false})).await.problem(412, "changed");
    assert_eq!(door.post(&hold, &json!({"hold": false})).await.ok()["changed"], true);
    door.post("/devices/unknown/hold", &json!({})).await.problem(404, "not-found");
}

/// Each page of the API server is a request; one of ours makes few of them.
#[tokio::test(flavor = "multi_thread")]
async fn a_filter_that_fits_few_ends_in_time() {
    let stage = Stage::set("rest-few", 2, &json!({})).await;
    let plane = ControlPlane::shared();
    let door = Door::of(plane, &stage.tranche().url, User::Operator);
    crate::rest::bind(plane, &stage.namespace, User::Operator, &["rbac-viewer.yaml"]).await;
    crate::support::wait::until("the operator to be let in", async || {
        let answer = door.get("/devices").await;
        if answer.status == 200 { Ok(()) } else { Err(answer.text) }
    })
    .await;
    let mut connected: Vec<_> = stage.list().await.iter().map(|device| device.name_any()).collect();
    connected.sort();
    for number in 0..25 {
        let device =
            serde_json::from_value(json!({"metadata": {"name": format!("0-{number:02}")}, "spec": {}})).unwrap();
        stage.api::<Device>().create(&Default::default(), &device).await.unwrap();
    }
    let from = plane.mark(&stage.client).await;
    let (mut names, mut requests, mut empty) = (Vec::new(), 0, 0);
    let mut path = "/devices?connected=true&limit=1".to_owned();
    loop {
        let page = door.get(&path).await.ok();
        requests += 1;
        let devices = page["devices"].as_array().unwrap();
        empty += usize::from(devices.is_empty());
        names.extend(devices.iter().map(|device| device["device_uuid"].as_str().unwrap().to_owned()));
        let Some(token) = page["pagination"]["continue"].as_str() else { break };
        path = format!("/devices?connected=true&limit=1&continue={token}");
    }
    assert_eq!(names, connected);
    assert!(empty > 0, "ten of the 25 in a row were looked at, and the answer came");
    let to = plane.mark(&stage.client).await;
    let calls = plane.calls(from, to);
    let lists =
        calls.iter().filter(|call| call.user == "operator" && call.verb == "list" && call.namespace == stage.namespace);
    assert!(lists.count() <= 10 * requests, "{requests} requests");
}
