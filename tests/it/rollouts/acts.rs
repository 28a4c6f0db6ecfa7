//! What happens by itself: a good image, a bad image, a second push.

use kube::Api;
use kube::api::ListParams;
use serde_json::json;
use tranche::api::rollout::Phase;
use tranche::api::{ImageRollout, ImageUpdatePolicy};

use super::stage::Stage;

#[tokio::test(flavor = "multi_thread")]
async fn a_good_image_reaches_everybody_batch_by_batch() {
    let stage = Stage::set("good", 10, &json!({"strategy": {"batchDelay": "1s"}})).await;
    let rollout = stage.push("v2.0.0").await;
    let soaking = stage.until_phase(&rollout, Phase::Soaking).await;
    assert_eq!(soaking.current_batch, 1);
    assert_eq!(stage.ever_told("v2.0.0"), 2, "only the first batch knows of it: {}", soaking.message);
    let done = stage.until_phase(&rollout, Phase::Completed).await;
    stage.until_running("v2.0.0", 10).await;
    assert_eq!(done.totals.clone().unwrap().healthy, 10);
    assert_eq!(
        Stage::types(&done),
        [
            "RolloutCreated",
            "RolloutStarted",
            "BatchStarted",
            "BatchCompleted",
            "BatchStarted",
            "BatchCompleted",
            "RolloutCompleted"
        ]
    );

    // The same push again, however often, makes nothing new.
    for _ in 0..3 {
        assert_eq!(stage.push("v2.0.0").await, rollout);
    }
    let api: Api<ImageRollout> = stage.api();
    assert_eq!(api.list(&ListParams::default()).await.unwrap().items.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_image_stops_in_the_first_batch_and_goes_back() {
    let stage = Stage::set("bad", 10, &json!({})).await;
    let rollout = stage.push("v9.9.9").await;
    let done = stage.until_phase(&rollout, Phase::RolledBack).await;
    assert!(Stage::types(&done).contains(&"RolloutHalted"), "{:?}", done.history);
    assert_eq!(done.current_batch, 1);
    stage.until_running("v1.0.0", 10).await;
    assert_eq!(stage.ever_told("v9.9.9"), 2, "eight devices never saw it");
    let policy = crate::support::wait::until("the image to be remembered", async || {
        let policy = stage.api::<ImageUpdatePolicy>().get("myapp").await.unwrap();
        let rejected = policy.status.unwrap_or_default().rejected;
        if rejected.len() == 1 { Ok(rejected) } else { Err(format!("{rejected:?}")) }
    })
    .await;
    assert_eq!(policy[0].image, "docker.io/iotistic/myapp:v9.9.9");

    // Not by itself, but once a person has forgiven it.
    let again = stage.deliver("v9.9.9").await;
    assert!(again.to_string().contains("rolled back"), "{again}");
    let said = stage.says(&["policies", "forgive", "myapp", "docker.io/iotistic/myapp:v9.9.8"]);
    assert!(said.contains("has not rejected docker.io/iotistic/myapp:v9.9.8; it has rejected"), "{said}");
    let said = stage.says(&["policies", "forgive", "myapp"]);
    assert_eq!(said, "policy myapp forgives docker.io/iotistic/myapp:v9.9.9: the next push of it is rolled out\n");
    crate::support::wait::until("the old rollout to be gone", async || {
        match stage.api::<ImageRollout>().get_opt(&rollout).await.unwrap() {
            None => Ok(()),
            Some(there) => Err(format!("{:?}", there.metadata)),
        }
    })
    .await;
    let rollout = stage.push("v9.9.9").await;
    // It went back once more, and stays back.
    stage.until_phase(&rollout, Phase::RolledBack).await;
    crate::support::wait::until("the image to be remembered again", async || {
        let answer = stage.deliver("v9.9.9").await.to_string();
        if answer.contains("rolled back") { Ok(()) } else { Err(answer) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_halt_waits_for_a_person_who_has_seen_it() {
    let spec = json!({"failurePolicy": {"action": "Pause", "rollBackFailedDevices": true}});
    let stage = Stage::set("halt", 10, &spec).await;
    let rollout = stage.push("v9.9.9").await;
    let halted = stage.until_phase(&rollout, Phase::Halted).await;
    let failures = halted.halted.clone().unwrap().failures;
    assert!(halted.message.contains(&format!("spec.acknowledgedFailures to {failures}")), "{}", halted.message);
    // Failed devices go back one by one, and whoever has not failed is told nothing more.
    stage.until_running("v1.0.0", 10).await;
    stage.edit(&rollout, json!({"desiredState": "Cancelled"})).await;
    stage.until_phase(&rollout, Phase::Cancelled).await;
    assert_eq!(stage.ever_told("v9.9.9"), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_newer_image_takes_over() {
    let stage = Stage::set("newer", 10, &json!({"strategy": {"batchDelay": "10m"}})).await;
    let first = stage.push("v2.0.0").await;
    stage.until_phase(&first, Phase::Soaking).await;
    let second = stage.push("v3.0.0").await;
    stage.until_phase(&first, Phase::Superseded).await;
    stage.until_phase(&second, Phase::Soaking).await;
    assert_eq!(stage.ever_told("v2.0.0"), 2);
    stage.edit(&second, json!({"desiredState": "RolledBack"})).await;
    let back = stage.until_phase(&second, Phase::RolledBack).await;
    assert!(back.message.contains("2 of 2"), "{}", back.message);
}
