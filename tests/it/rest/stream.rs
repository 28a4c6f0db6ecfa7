//! The devices of a rollout, thousands of them.

use futures::{StreamExt as _, stream};
use http::Method;
use kube::Api;
use serde_json::{Value, json};
use tranche::api::{Device, ImageRollout, ImageUpdatePolicy};

use super::Door;
use crate::support::controlplane::{ControlPlane, User};
use crate::support::process::{Settings, Tranche};
use crate::support::wait::until;

const DEVICES: usize = 6000;

async fn make_devices(api: &Api<Device>, count: usize) {
    let device = |index: usize| -> Device {
        serde_json::from_value(json!({
            "apiVersion": "tranche.dev/v1alpha1", "kind": "Device",
            "metadata": {"name": format!("{index:08x}-0000-4000-8000-000000000000")},
            "spec": {"apps": {"1": {"services": [{"serviceId": 1, "serviceName": "web", "imageName": "acme/web:v1"}]}}},
        }))
        .unwrap()
    };
    let params = Default::default();
    let made = stream::iter(0..count).map(|index| {
        let device = device(index);
        let params = &params;
        async move { api.create(params, &device).await.map(drop) }
    });
    made.buffer_unordered(16).for_each(|result| async { result.unwrap() }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn thousands_of_devices_are_written_as_they_are_read() {
    let plane = ControlPlane::shared();
    let namespace = plane.namespace("rest-stream").await;
    let client = plane.client(User::Admin).await;
    make_devices(&Api::namespaced(client.clone(), &namespace), DEVICES).await;
    let settings = Settings::new(&plane.kubeconfig(User::Admin), &namespace);
    let tranche = Tranche::start(&settings).await;
    let policies: Api<ImageUpdatePolicy> = Api::namespaced(client.clone(), &namespace);
    let policy = json!({
        "apiVersion": "tranche.dev/v1alpha1", "kind": "ImageUpdatePolicy", "metadata": {"name": "web"},
        "spec": {"image": {"pattern": "acme/web:*", "offer": "Tag"}, "devices": {"selector": {}}, "strategy": {"type": "Manual"}},
    });
    policies.create(&Default::default(), &serde_json::from_value(policy).unwrap()).await.unwrap();
    let door = Door::of(plane, &tranche.url, User::Admin);
    let made = door.post("/rollouts", &json!({"image": "acme/web:v2"})).await.ok();
    let rollout = made["rollout_id"].as_str().unwrap();
    let rollouts: Api<ImageRollout> = Api::namespaced(client.clone(), &namespace);
    until("the batches to be fixed", async || {
        let status = rollouts.get(rollout).await.unwrap().status.unwrap_or_default();
        if status.batches.len() == 3 { Ok(()) } else { Err(status.message) }
    })
    .await;

    let from = plane.mark(&client).await;
    let path = format!("/rollouts/{rollout}/devices");
    let mut response = door.request(Method::GET, &path).send().await.unwrap();
    let head = response.chunk().await.unwrap().unwrap();
    assert!(head.starts_with(br#"{"rollout_id":"#), "{head:?}");
    let mut text = head.to_vec();
    let mut pieces = 1;
    while let Some(piece) = response.chunk().await.unwrap() {
        pieces += 1;
        text.extend(&piece);
    }
    let body: Value = serde_json::from_slice(&text).unwrap();
    assert_eq!((&body["complete"], &body["total_devices"]), (&json!(true), &json!(DEVICES)), "{}", body["error"]);
    let devices = body["devices"].as_array().unwrap();
    assert_eq!(devices.len(), DEVICES);
    assert!(devices.is_sorted_by_key(|device| device["device_uuid"].as_str().unwrap()));
    let sizes: Vec<usize> = (1..=3).map(|batch| body["batches"][batch.to_string()].as_array().unwrap().len()).collect();
    assert_eq!(sizes, [DEVICES / 10, DEVICES * 4 / 10, DEVICES / 2]);
    let in_batch = |batch: u64| devices.iter().filter(|device| device["batch_number"] == batch).count();
    assert_eq!([in_batch(1), in_batch(2), in_batch(3)][..], sizes[..]);
    // In pages: a small first one, then 1,000 at a time, each of them asked for once.
    let to = plane.mark(&client).await;
    let asked = plane.calls(from, to).into_iter().filter(|call| {
        call.namespace == namespace && call.resource == "devices" && call.verb == "list" && call.user == "admin"
    });
    assert_eq!(asked.count(), 1 + (DEVICES - 50).div_ceil(1000));
    assert!(pieces > 5, "it came in {pieces} pieces");

    let details = door.get(&format!("/rollouts/{rollout}")).await.ok();
    assert_eq!(details["devices"].as_array().unwrap().len(), 100);
    assert_eq!(
        (&details["devices_complete"], &details["devices_next"]),
        (&json!(false), &json!(format!("/api/v1{path}")))
    );

    // Whoever stops reading stops the reading: what is written ahead is a page or so.
    let from = plane.mark(&client).await;
    let mut response = door.request(Method::GET, &path).send().await.unwrap();
    drop(response.chunk().await.unwrap().unwrap());
    drop(response);
    until("the stream's place to be free again", async || {
        let to = plane.mark(&client).await;
        let lists = plane.calls(from, to).into_iter().filter(|call| call.resource == "devices" && call.verb == "list");
        let lists = lists.filter(|call| call.namespace == namespace).count();
        if lists < 7 { Ok(()) } else { Err(format!("{lists} pages were read for nobody")) }
    })
    .await;
}
