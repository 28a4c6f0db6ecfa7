//! What breaks in the middle of it.

use serde_json::{Value, json};
use tranche::api::rollout::Phase;

use super::stage::Stage;
use crate::support::controlplane::{Component, ControlPlane};
use crate::support::process::Tranche;

/// A deadline that outlasts the return of the watches, which come back after growing pauses: a device can't report in time what
/// its gateway hasn't heard of yet.
fn outlasting() -> Value {
    json!({"strategy": {"maxConcurrent": 2}, "updateDeadline": "60s"})
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_in_the_middle_of_a_batch() {
    let mut stage = Stage::set("killed", 20, &json!({"strategy": {"maxConcurrent": 2}})).await;
    let rollout = stage.push("v2.0.0").await;
    stage.until(&rollout, "batch 2 under way", |status| status.current_batch == 2).await;
    stage.tranche.take().expect("it runs").kill();
    let before = stage.released(&rollout).await;
    stage.tranche = Some(Tranche::start(&stage.settings).await);
    let done = stage.until_phase(&rollout, Phase::Completed).await;
    stage.until_running("v2.0.0", 20).await;
    assert_eq!(done.totals.clone().unwrap().failed, 0, "{:?}", done.history);
    let after = stage.released(&rollout).await;
    assert!(before.iter().all(|name| after.contains(name)));
    let started = done.history.iter().filter(|line| line.type_ == "BatchStarted").count();
    assert_eq!(started, 2, "no batch opened twice: {:?}", done.history);
}

/// The API server is there then, and answers that it can't answer.
#[tokio::test(flavor = "multi_thread")]
async fn the_database_dies_in_the_middle_of_a_batch() {
    let plane = ControlPlane::start();
    let stage = Stage::set_on(&plane, "etcd", 20, &outlasting()).await;
    let rollout = stage.push("v2.0.0").await;
    stage.until(&rollout, "batch 2 under way", |status| status.current_batch == 2).await;
    plane.kill(Component::Etcd);
    stage.let_everybody_poll().await;
    plane.restart(Component::Etcd);
    let done = stage.until_phase(&rollout, Phase::Completed).await;
    stage.until_running("v2.0.0", 20).await;
    assert_eq!(done.totals.clone().unwrap().failed, 0, "an outage of ours is nobody's failure: {:?}", done.history);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_api_server_dies_in_the_middle_of_a_batch() {
    let plane = ControlPlane::start();
    let stage = Stage::set_on(&plane, "api-server", 20, &outlasting()).await;
    let rollout = stage.push("v2.0.0").await;
    stage.until(&rollout, "batch 2 under way", |status| status.current_batch == 2).await;
    plane.kill(Component::ApiServer);
    plane.restart(Component::ApiServer);
    let done = stage.until_phase(&rollout, Phase::Completed).await;
    stage.until_running("v2.0.0", 20).await;
    assert_eq!(done.totals.clone().unwrap().failed, 0, "an outage of ours is nobody's failure: {:?}", done.history);
}
