//! The real controller and the real gateway on an API server in the process, with simulated devices, in virtual time.

use std::time::Duration;

use serde_json::json;
use tokio::time::Instant;

use super::support::world::{World, policy, rollout};

const MINUTE: Duration = Duration::from_secs(60);

#[tokio::test(start_paused = true)]
async fn a_staged_rollout_from_start_to_rest() {
    let world = World::healthy(10).await;
    let strategy = json!({
        "type": "Staged", "batches": [{"size": "10%"}, {"size": "50%"}, {"size": "100%"}], "batchDelay": "10m",
    });
    world.api.create("imageupdatepolicies", &policy(&json!({"strategy": strategy}))).await.unwrap();
    world.stays_settled(30 * MINUTE).await;

    let begin = Instant::now();
    world.api.create("imagerollouts", &rollout("v2", &json!({}))).await.unwrap();
    world.until_phase("web-v2", "Completed").await;
    assert!(begin.elapsed() > 20 * MINUTE, "two soaks of ten minutes: {:?}", begin.elapsed());
    assert!(begin.elapsed() < 25 * MINUTE, "and little else: {:?}", begin.elapsed());
    assert_eq!((world.running("acme/web:v2"), world.offered("acme/web:v2")), (10, 10));
    let status = world.status("web-v2");
    assert_eq!(
        status["totals"],
        json!({
            "devices": 10, "released": 10, "updated": 10, "healthy": 10, "failed": 0, "rolledBack": 0, "deferred": 0,
        })
    );
    let devices: Vec<_> = status["batches"].as_array().unwrap().iter().map(|batch| batch["devices"].clone()).collect();
    assert_eq!(devices, [1, 4, 5]);
    world.check_never();
    world.stays_settled(30 * MINUTE).await;
}
