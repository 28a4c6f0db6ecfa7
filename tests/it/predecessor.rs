//! What users of the predecessor run, as its documents have it: each request with the same path and body, and what their
//! `jq` or PowerShell would read of the answer. Nothing but the token is added.

use http::Method;
use serde_json::{Value, json};
use tranche::api::rollout::Phase;

use crate::rest::Door;
use crate::rollouts::stage::Stage;
use crate::support::controlplane::{ControlPlane, User};
use crate::support::process::SECRET;

/// A push, as a registry tells it: with the secret, not with a person's token.
async fn push(url: &str, body: &Value) -> Value {
    let door = Door::with(url, Some(SECRET.into()));
    door.header("content-type", "application/json").post("/webhooks/docker-registry", body).await.ok()
}

#[tokio::test(flavor = "multi_thread")]
async fn their_scripts_run() {
    let checks = json!({"image": {"pattern": "*"}, "strategy": {"type": "Manual"}});
    let stage = Stage::set("predecessor", 5, &checks).await;
    let url = &stage.tranche().url;
    let door = Door::of(ControlPlane::shared(), url, User::Admin);

    // Pushes: Docker Hub's and GitHub's.
    let hub = json!({"repository": {"repo_name": "iotistic/myapp"}, "push_data": {"tag": "v2.0.1"}});
    let answer = push(url, &hub).await;
    for (field, value) in [
        ("message", "Webhook processed successfully"),
        ("strategy", "manual"),
        ("image", "iotistic/myapp"),
        ("tag", "v2.0.1"),
    ] {
        assert_eq!(answer[field], value, "{answer}");
    }
    let id = answer["rollout_id"].as_str().unwrap().to_owned();
    for (repository, tag) in [("iotistic/test-app", "v1.0.0"), ("redis", "7.5-alpine"), ("nginx", "latest")] {
        let other = push(url, &json!({"repository": {"repo_name": repository}, "push_data": {"tag": tag}})).await;
        assert_eq!((&other["image"], &other["tag"]), (&json!(repository), &json!(tag)), "{other}");
    }
    let package = json!({
        "package": {"name": "myorg/myapp"},
        "package_version": {"container_metadata": {"tag": {"name": "v2.0.1"}}},
    });
    assert_eq!(push(url, &package).await["tag"], "v2.0.1");
    let standing = Door::with(url, None).get("/webhooks/docker-registry/test").await.ok();
    assert_eq!(standing["config"]["has_secret"], true, "{standing}");

    stage.until_phase(&id, Phase::AwaitingApproval).await;
    door.post(&format!("/rollouts/{id}/approve"), &json!({})).await.ok();
    stage.until(&id, "batch 1 complete", |status| status.batches[0].completion_time.is_some()).await;

    // Monitoring.
    let active = door.get("/rollouts/active").await.ok();
    assert_eq!(active["count"], active["rollouts"].as_array().unwrap().len());
    assert!(active["rollouts"].as_array().unwrap().iter().any(|rollout| rollout["rollout_id"] == id), "{active}");
    let list = door.get("/rollouts?status=in_progress&image_name=myapp&limit=50&offset=0").await.ok();
    let row = &list["rollouts"][0];
    assert_eq!(
        (&row["rollout_id"], &row["image_name"], &row["new_tag"]),
        (&json!(id), &json!("iotistic/myapp"), &json!("v2.0.1"))
    );
    for number in ["total", "limit", "offset"] {
        assert!(list["pagination"][number].is_u64(), "{list}");
    }
    let one = door.get(&format!("/rollouts/{id}")).await.ok();
    assert_eq!(one["rollout"]["current_batch"], 1, "{one}");
    assert_eq!(one["rollout"]["status"], "in_progress");
    for number in [
        "total_devices",
        "updated_devices",
        "failed_devices",
        "healthy_devices",
        "rolled_back_devices",
        "progress_percentage",
        "failure_rate",
    ] {
        assert!(one["statistics"][number].is_number(), "{number}: {one}");
    }
    assert!(one["events"][0]["event_type"].as_str().unwrap().starts_with("image."), "{one}");
    let devices = door.get(&format!("/rollouts/{id}/devices")).await.ok();
    assert_eq!((&devices["rollout_id"], &devices["total_devices"]), (&json!(id), &json!(5)));
    let updated = &devices["batches"]["1"][0];
    assert_eq!(updated["status"], "healthy", "{devices}");
    let row =
        devices["devices"].as_array().unwrap().iter().find(|row| row["device_uuid"] == updated["device_uuid"]).unwrap();
    assert_eq!(
        (&row["batch_number"], &row["new_image_tag"], &row["old_image_tag"]),
        (&json!(1), &json!("v2.0.1"), &json!("v1.0.0"))
    );
    let events = door.get(&format!("/rollouts/{id}/events?limit=100&offset=0")).await.ok();
    assert_eq!(
        (&events["rollout_id"], &events["count"]),
        (&json!(id), &json!(events["events"].as_array().unwrap().len()))
    );

    // Controls, with their headers and without a body where they have none.
    let typed = door.header("content-type", "application/json");
    let paused = typed.post(&format!("/rollouts/{id}/pause"), &json!({"reason": "Testing pause"})).await.ok();
    assert_eq!((&paused["rollout_id"], &paused["reason"]), (&json!(id), &json!("Testing pause")));
    let resumed = door.send(Method::POST, &format!("/rollouts/{id}/resume"), None).await.ok();
    assert_eq!(resumed["rollout_id"], id);
    let device = updated["device_uuid"].as_str().unwrap();
    let back = typed.post(&format!("/rollouts/{id}/devices/{device}/rollback"), &json!({"reason": "one"})).await.ok();
    assert_eq!(back["device_uuid"], device);
    stage.until_running("v2.0.1", 0).await;
    let all = typed.post(&format!("/rollouts/{id}/rollback-all"), &json!({"reason": "Testing rollback"})).await.ok();
    assert!(all["devices_rolled_back"].is_i64() && all["devices_failed"] == 0 && all["message"].is_string(), "{all}");
    stage.until_phase(&id, Phase::RolledBack).await;
    assert_eq!(door.get(&format!("/rollouts/{id}")).await.ok()["rollout"]["status"], "rolled_back");
    let refused = typed.post(&format!("/rollouts/{id}/cancel"), &json!({"reason": "late"})).await;
    assert!(refused.problem(409, "state")["error"].is_string());
    assert_eq!(door.get("/rollouts/unknown").await.problem(404, "not-found")["error"], "Not found");
}
