use serde_json::{Value, json};

use super::*;
use crate::plan::fixture::{REPOSITORY, at, device, failed, rollout};

#[test]
fn silence_is_some_intervals_and_a_minute_at_least() {
    let silent_after = |interval| Knowledge { as_of: None, since: None, interval }.silent_after();
    assert_eq!([0, 5, 10, 11, 60].map(silent_after), [60, 60, 60, 66, 360]);
}

fn sibling(spec: &Value, status: &Value) -> Sibling {
    let mut rollout = rollout(spec);
    rollout.status = serde_json::from_value(status.clone()).unwrap();
    Sibling::new(&rollout)
}

fn says(type_: &str, reason: &str) -> Value {
    json!([{
        "type": type_, "status": "True", "reason": reason, "message": "", "lastTransitionTime": at(0).to_string(),
    }])
}

#[test]
fn who_does_not_start_by_itself_is_stuck() {
    let plan = json!({
        "startTime": at(0).to_string(), "devicesAtStart": 1, "devices": {}, "offer": "Tag", "strategy": "Auto",
        "failurePolicy": {}, "updateDeadline": "15m", "offlineAfter": "10m",
    });
    for (status, stuck) in [
        (json!({ "phase": "Pending" }), false),
        (json!({ "phase": "Pending", "conditions": says("Stalled", "ImageNotMatched") }), true),
        (json!({ "phase": "Pending", "conditions": says("Ready", "PolicySuspended") }), true),
        (json!({ "phase": "Pending", "conditions": says("Ready", "NotBefore") }), true),
        (json!({ "phase": "Pending", "conditions": says("Ready", "AwaitingRegistry") }), true),
        (json!({ "phase": "Pending", "conditions": says("Ready", "DigestMismatch") }), true),
        (json!({ "phase": "Pending", "conditions": says("Ready", "OlderRollout") }), false),
        (json!({ "phase": "Pending", "conditions": says("Reconciling", "NotBefore") }), false),
        (json!({ "phase": "Cancelled", "conditions": says("Stalled", "Cancelled") }), false),
        (json!({ "phase": "Halted", "plan": plan, "conditions": says("Stalled", "Halted") }), false),
    ] {
        assert_eq!(sibling(&json!({}), &status).is_stuck, stuck, "{status}");
    }
}

#[test]
fn whoever_makes_a_rollout_by_hand_is_a_person() {
    for (spec, by_person) in [
        (json!({}), true),
        (json!({ "trigger": { "type": "Manual" } }), true),
        (json!({ "trigger": { "type": "Webhook" } }), false),
        (json!({ "trigger": { "type": "Poll" } }), false),
    ] {
        assert_eq!(sibling(&spec, &json!(null)).by_person, by_person, "{spec}");
    }
}

#[test]
fn a_verdict_is_of_one_rollout_on_one_repository() {
    let view = DeviceView::new(&device("d", &json!({ "status": { "updates": failed() } })));
    for (repository, rollout, known) in
        [(REPOSITORY, "web-v2", true), (REPOSITORY, "web-v1", false), ("docker.io/acme/db", "web-v2", false)]
    {
        assert_eq!(view.verdict(repository, rollout).is_some(), known, "{repository} {rollout}");
    }
}

/// Until a batch is complete, nobody can say that its devices run the image well, if checks of theirs decide it.
#[test]
fn what_is_not_proven_yet() {
    let batch = |complete: bool| {
        let mut batch = json!({ "size": "50%", "boundary": "f".repeat(16) });
        if complete {
            batch["completionTime"] = json!(at(0).to_string());
        }
        batch
    };
    let plan = |checks: Value| {
        json!({
            "startTime": at(0).to_string(), "devicesAtStart": 2, "devices": { "selector": {} }, "offer": "Tag",
            "strategy": "Staged", "failurePolicy": {}, "updateDeadline": "10m", "offlineAfter": "2m",
            "healthChecks": checks,
        })
    };
    let analysis = json!({ "name": "a", "analysis": { "url": "http://prometheus", "query": "up", "min": "1" } });
    for (checks, unproven) in [
        (json!([]), 0),
        (json!([{ "name": "c", "container": {} }, analysis]), 0),
        (json!([{ "name": "c", "container": {} }, { "name": "t", "tcp": { "port": 22 } }]), 0b100),
    ] {
        let status = json!({ "plan": plan(checks.clone()), "batches": [batch(true), batch(false)], "currentBatch": 2 });
        assert_eq!(sibling(&json!({}), &status).unproven, unproven, "{checks}");
    }
}
