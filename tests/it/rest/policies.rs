//! Policies: ours and the predecessor's row, there and back.

use serde_json::json;
use tranche::api::{ImageUpdatePolicy, act::Act};

use super::Door;
use crate::support::controlplane::{ControlPlane, User};
use crate::support::process::{Settings, Tranche};
use crate::support::wait::until;

#[tokio::test(flavor = "multi_thread")]
async fn there_and_back() {
    let plane = ControlPlane::shared();
    let namespace = plane.namespace("rest-policies").await;
    let tranche = Tranche::start(&Settings::new(&plane.kubeconfig(User::Admin), &namespace)).await;
    let door = Door::of(plane, &tranche.url, User::Admin);
    let api: kube::Api<ImageUpdatePolicy> = kube::Api::namespaced(plane.client(User::Admin).await, &namespace);

    // The predecessor's row.
    let row = json!({
        "image_pattern": "iotistic/test-app:*", "update_strategy": "staged", "staged_batches": 3, "batch_delay_minutes": 1,
        "health_check_enabled": true, "auto_rollback_enabled": true, "max_failure_rate": 0.2, "enabled": true,
        "health_check_config": {"type": "tcp", "host": "{device_ip}", "port": 6379, "timeout": 10},
    });
    let made = door.post("/image-policies", &row).await;
    assert_eq!(made.status, 201, "{made:?}");
    let body = made.json();
    for (field, value) in row.as_object().unwrap() {
        if field == "health_check_config" {
            assert_eq!(body[field]["port"], 6379);
        } else {
            assert_eq!(&body[field], value, "{field}");
        }
    }
    let id = body["id"].as_str().unwrap().to_owned();
    assert_eq!(door.post("/image-policies", &row).await.status, 200, "the same again");
    let mut other = row.clone();
    other["batch_delay_minutes"] = json!(2);
    door.post("/image-policies", &other).await.problem(409, "exists");
    let stored = api.get(&id).await.unwrap();
    assert_eq!(stored.spec.health_checks[0].tcp.as_ref().unwrap().port, 6379);
    assert_eq!(Act::of(&stored.metadata).unwrap().by, "admin");

    // A field of the row changes what it speaks of.
    let path = format!("/image-policies/{id}");
    let before = door.get(&path).await;
    let changed = door.put(&path, &json!({"enabled": false, "reason": "freeze"})).await.ok();
    assert_eq!((&changed["enabled"], &changed["batch_delay_minutes"]), (&json!(false), &json!(1)), "{changed}");
    assert_eq!(Act::of(&api.get(&id).await.unwrap().metadata).unwrap().reason.as_deref(), Some("freeze"));
    door.header("if-match", &before.etag()).put(&path, &json!({"enabled": true})).await.problem(412, "changed");

    // Ours replaces.
    let spec = json!({"image": {"pattern": "iotistic/test-app:*"}, "devices": {"names": ["a"]}});
    let replaced = door.put(&path, &json!({"spec": spec})).await.ok();
    assert_eq!(replaced["health_check_enabled"], false, "{replaced}");
    assert_eq!(replaced["spec"]["devices"]["names"], json!(["a"]));

    // What was read is sent back: nothing is written, not even who asked.
    let read = door.get(&path).await.ok();
    let mut again = read.clone();
    again["reason"] = json!("nothing new");
    assert_eq!(door.put(&path, &again).await.ok()["spec"], read["spec"]);
    assert_eq!(Act::of(&api.get(&id).await.unwrap().metadata).unwrap().reason, None, "it is not an act");
    let mut edited = read;
    edited["spec"]["strategy"] = json!({"batches": [{"size": 1, "approval": true}, {"size": "100%"}]});
    door.put(&path, &edited).await.ok();
    let gated = door.get(&path).await;
    let mut row = gated.json();
    row.as_object_mut().unwrap().remove("spec");
    row["enabled"] = json!(false);
    let changed = door.put(&path, &row).await.ok();
    assert_eq!(changed["enabled"], false);
    assert_eq!(changed["spec"]["strategy"], gated.json()["spec"]["strategy"], "a row takes no gate away");
    let labelled = json!({"spec": changed["spec"], "metadata": {"labels": {"line": "3"}}});
    door.put(&path, &labelled).await.ok();
    let stored = api.get(&id).await.unwrap();
    assert_eq!(Some(Act::of(&stored.metadata).unwrap().generation), stored.metadata.generation);
    door.put(&path, &json!({"spec": spec})).await.ok();

    // What makes no sense is said by the API server.
    let mut wrong = spec.clone();
    wrong["strategy"] = json!({"type": "Scheduled"});
    let refusal = door.put(&path, &json!({"spec": wrong})).await.problem(422, "invalid");
    assert!(refusal["detail"].as_str().unwrap().contains("strategy.windows"), "{refusal}");
    let refusal = door.put(&path, &json!({"spec": {"colour": "red"}})).await.problem(422, "invalid");
    assert!(refusal["detail"].as_str().unwrap().contains("colour"), "{refusal}");
    let script = json!({"image_pattern": "a/b", "health_check_config": {"type": "custom"}});
    let refusal = door.post("/image-policies", &script).await.problem(422, "invalid");
    assert!(refusal["detail"].as_str().unwrap().contains("job check"), "{refusal}");
    door.put(&path, &json!({"spec": spec, "enabled": true})).await.problem(400, "bad-body");
    door.put(&path, &json!({"name": "another", "enabled": true})).await.problem(422, "invalid");

    let list = door.get("/image-policies").await.ok();
    assert_eq!((&list["count"], &list["policies"][0]["id"]), (&json!(1), &json!(id)));
    door.header("if-match", &before.etag()).delete(&path).await.problem(412, "changed");
    // The controller may write its status in between.
    until("the policy to be deleted as it was read", async || {
        let read = door.get(&path).await;
        let deleted = door.header("if-match", &read.etag()).delete(&path).await;
        if deleted.status == 200 { Ok(()) } else { Err(deleted.text) }
    })
    .await;
    door.get(&path).await.problem(404, "not-found");
    door.delete(&path).await.problem(404, "not-found");
}
