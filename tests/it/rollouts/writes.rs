//! What it costs: the API server's own count of writes.

use std::collections::BTreeMap;

use serde_json::json;
use tranche::api::rollout::Phase;

use super::stage::Stage;
use crate::support::audit::Call;
use crate::support::controlplane::ControlPlane;
use crate::support::wait::until;

/// Writes by resource, of one namespace.
fn writes(calls: &[Call], namespace: &str) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for call in calls.iter().filter(|call| call.is_write() && call.namespace == namespace) {
        *counts.entry(call.resource.clone()).or_default() += 1;
    }
    counts
}

#[tokio::test(flavor = "multi_thread")]
async fn two_writes_a_device_and_none_once_settled() {
    let plane = ControlPlane::shared();
    let stage = Stage::set("writes", 20, &json!({})).await;
    let begin = plane.mark(&stage.client).await;
    let rollout = stage.push("v2.0.0").await;
    stage.until_phase(&rollout, Phase::Completed).await;
    stage.until_running("v2.0.0", 20).await;
    let end = plane.mark(&stage.client).await;
    let counts = writes(&plane.calls(begin, end), &stage.namespace);
    assert_eq!(counts.get("devices"), Some(&20), "one release a device: {counts:?}");
    assert_eq!(counts.get("devices/status"), Some(&20), "one report a device: {counts:?}");

    // Settled: whole rounds of presence pass, in which devices poll on, and nothing else is written.
    let presence = |calls: &[Call]| writes(calls, &stage.namespace).remove("devicepresences").unwrap_or_default();
    let begin = until("the last texts to be written", async || {
        let from = plane.mark(&stage.client).await;
        let to = until("three rounds of presence", async || {
            let to = plane.mark(&stage.client).await;
            if presence(&plane.calls(from, to)) >= 3 { Ok(to) } else { Err("fewer".into()) }
        })
        .await;
        let mut counts = writes(&plane.calls(from, to), &stage.namespace);
        counts.remove("devicepresences");
        if counts.is_empty() { Ok(to) } else { Err(format!("{counts:?}")) }
    })
    .await;
    let counts = until("ten rounds of presence", async || {
        let to = plane.mark(&stage.client).await;
        let calls = plane.calls(begin, to);
        if presence(&calls) >= 10 { Ok(writes(&calls, &stage.namespace)) } else { Err("fewer".into()) }
    })
    .await;
    assert_eq!(counts.keys().collect::<Vec<_>>(), ["devicepresences"], "{counts:?}");
}
