//! What people do in the middle of it.

use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams};
use serde_json::json;
use tranche::api::condition::{DEVICES_IN_CONFLICT, is_true};
use tranche::api::rollout::Phase;
use tranche::api::{Device, ImageRollout};

use super::stage::Stage;
use crate::support::wait::until;

#[tokio::test(flavor = "multi_thread")]
async fn a_pause_holds_until_it_is_lifted() {
    let stage = Stage::set("pause", 10, &json!({"strategy": {"batchDelay": "1s"}})).await;
    let rollout = stage.push("v2.0.0").await;
    stage
        .until(&rollout, "batch 1 complete", |status| status.batches.iter().any(|b| b.completion_time.is_some()))
        .await;
    stage.edit(&rollout, json!({"paused": true})).await;
    let paused = stage.until_phase(&rollout, Phase::Paused).await;
    let told = stage.ever_told("v2.0.0");
    assert!(paused.message.contains("spec.paused"), "{}", paused.message);
    stage.let_everybody_poll().await;
    assert_eq!(stage.ever_told("v2.0.0"), told);
    stage.edit(&rollout, json!({"paused": false})).await;
    let done = stage.until_phase(&rollout, Phase::Completed).await;
    assert!(Stage::types(&done).contains(&"RolloutResumed"));
    stage.until_running("v2.0.0", 10).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_rollout_keeps_what_runs() {
    let stage = Stage::set("cancel", 10, &json!({"strategy": {"batchDelay": "10m"}})).await;
    let rollout = stage.push("v2.0.0").await;
    stage.until_phase(&rollout, Phase::Soaking).await;
    stage.edit(&rollout, json!({"desiredState": "Cancelled"})).await;
    stage.until_phase(&rollout, Phase::Cancelled).await;
    stage.let_everybody_poll().await;
    assert_eq!(stage.running("v2.0.0"), 2);
    assert_eq!(stage.running("v1.0.0"), 8);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rollback_in_the_middle_brings_everybody_back() {
    let stage = Stage::set("rollback", 10, &json!({"strategy": {"batchDelay": "10m"}})).await;
    let rollout = stage.push("v2.0.0").await;
    stage.until_phase(&rollout, Phase::Soaking).await;
    stage.edit(&rollout, json!({"desiredState": "RolledBack"})).await;
    stage.until_phase(&rollout, Phase::RolledBack).await;
    stage.until_running("v1.0.0", 10).await;
    for device in stage.list().await {
        for entry in &device.spec.images {
            assert_eq!(entry.image, entry.previous, "a rollback leads to the device's own previous image");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_device_is_sent_back_alone() {
    let stage = Stage::set("one", 5, &json!({"strategy": {"type": "Auto", "batches": null}})).await;
    let rollout = stage.push("v2.0.0").await;
    stage.until_phase(&rollout, Phase::Completed).await;
    stage.until_running("v2.0.0", 5).await;
    let one = stage.released(&rollout).await.remove(0);
    stage.edit(&rollout, json!({"rollBackDevices": [one]})).await;
    stage.until_running("v1.0.0", 1).await;
    until("its entry to be rewritten", async || {
        let released = stage.released(&rollout).await;
        if released.len() == 4 && !released.contains(&one) { Ok(()) } else { Err(format!("{released:?}")) }
    })
    .await;
    assert_eq!(stage.status(&rollout).await.phase, Phase::Completed, "the rollout itself has ended");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_person_declares_wins() {
    let stage = Stage::set("declare", 10, &json!({"strategy": {"batchDelay": "10m"}})).await;
    let rollout = stage.push("v2.0.0").await;
    stage.until_phase(&rollout, Phase::Soaking).await;
    let one = stage.released(&rollout).await.remove(0);
    let api: Api<Device> = stage.api();
    let device = api.get(&one).await.unwrap();
    let mut apps = json!(device.spec.apps);
    let service = apps.as_object_mut().unwrap().values_mut().next().unwrap().pointer_mut("/services/0").unwrap();
    service["imageName"] = json!("iotistic/myapp:v1.5.0");
    service["config"]["image"] = json!("iotistic/myapp:v1.5.0");
    api.patch(&one, &PatchParams::default(), &Patch::Merge(json!({"spec": {"apps": apps}}))).await.unwrap();
    stage.until_running("v1.5.0", 1).await;
    let status = stage
        .until(&rollout, "the conflict to be reported", |status| is_true(&status.conditions, DEVICES_IN_CONFLICT))
        .await;
    assert_eq!(status.batches[0].deferred, 1, "{:?}", status.batches[0]);
    let entry = api.get(&one).await.unwrap().spec.images.remove(0);
    assert_eq!(entry.image.as_deref(), Some("docker.io/iotistic/myapp:v2.0.0"), "the entry is left as it was");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rollout_deleted_in_the_middle_leaves_no_device_hanging() {
    let stage = Stage::set("delete", 10, &json!({"strategy": {"batchDelay": "10m"}})).await;
    let rollout = stage.push("v2.0.0").await;
    stage.until_phase(&rollout, Phase::Soaking).await;
    let api: Api<ImageRollout> = stage.api();
    api.delete(&rollout, &DeleteParams::default()).await.unwrap();
    until("the rollout to be gone", async || match api.get_opt(&rollout).await {
        Ok(None) => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
    stage.let_everybody_poll().await;
    // It was active: whoever runs the image keeps it, nobody else gets it.
    assert_eq!((stage.running("v2.0.0"), stage.running("v1.0.0")), (2, 8));

    // A rollout that went back leaves entries that say so by themselves.
    let rollout = stage.push("v3.0.0").await;
    stage.until_phase(&rollout, Phase::Soaking).await;
    stage.edit(&rollout, json!({"desiredState": "RolledBack"})).await;
    api.delete(&rollout, &DeleteParams::default()).await.unwrap();
    until("the rollout to be gone", async || match api.get_opt(&rollout).await {
        Ok(None) => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
    for device in stage.list().await {
        for entry in device.spec.images.iter().filter(|entry| entry.rollout == rollout) {
            assert_eq!(entry.image, entry.previous);
        }
    }
    assert_eq!(stage.released(&rollout).await, Vec::<String>::new());
}
