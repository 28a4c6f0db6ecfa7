use serde_json::{Value, json};

use super::*;
use crate::plan::fixture::{at, policy, rollout};

fn named(name: &str, created: i64, phase: &str, status: &Value) -> ImageRollout {
    let mut rollout = rollout(&json!({ "image": { "tag": name } }));
    rollout.metadata.name = Some(name.into());
    rollout.metadata.creation_timestamp = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(at(created)));
    let mut object = json!({ "phase": phase });
    object.as_object_mut().unwrap().extend(status.as_object().unwrap().clone());
    rollout.status = Some(serde_json::from_value(object).unwrap());
    rollout
}

fn plan(policy: &ImageUpdatePolicy, rollouts: &[ImageRollout]) -> PolicyPlan {
    let rollouts: Vec<&ImageRollout> = rollouts.iter().collect();
    let plan = plan_policy(policy, ValidatedPolicy::new(policy).as_ref(), &rollouts, &Beside::default(), at(100));
    // Stored, it says nothing new, also later.
    let stored = ImageUpdatePolicy { status: Some(plan.status.clone()), ..policy.clone() };
    let second = plan_policy(&stored, ValidatedPolicy::new(policy).as_ref(), &rollouts, &Beside::default(), at(200));
    assert!(!second.changed, "{:?}\n{:?}", plan.status, second.status);
    plan
}

#[test]
fn latest_active_and_pruned() {
    let policy = policy(&json!({ "historyLimit": 2 }));
    let none = json!({});
    // Not in the order of their age.
    let rollouts = [
        named("e", 50, "Progressing", &none),
        named("a", 10, "Completed", &none),
        named("c", 30, "Cancelled", &none),
        named("b", 20, "Superseded", &none),
        named("d", 40, "Completed", &none),
    ];
    let result = plan(&policy, &rollouts);
    assert_eq!(result.status.latest.unwrap().rollout, "e");
    assert_eq!(result.status.active_rollout.as_deref(), Some("e"));
    assert_eq!(result.prune, ["a", "b"]);
    let result = plan(&policy, &rollouts[1..]);
    assert_eq!(result.status.latest.unwrap().rollout, "d");
    assert_eq!(
        (result.status.active_rollout, result.prune),
        (None, vec!["a".to_owned()]),
        "the latest is never pruned"
    );
}

#[test]
fn rejected_images_stay_on_the_list() {
    let mut policy = policy(&json!({}));
    let back = json!({ "rollbackTime": at(5).to_string() });
    let result = plan(&policy, &[named("a", 10, "RolledBack", &back), named("b", 20, "RollingBack", &back)]);
    let names = |status: &ImageUpdatePolicyStatus| -> Vec<String> {
        status.rejected.iter().map(|entry| entry.image.clone()).collect()
    };
    assert_eq!(names(&result.status), ["docker.io/acme/web:a", "docker.io/acme/web:b"]);
    policy.status = Some(result.status);
    let result = plan(&policy, &[]);
    assert_eq!(names(&result.status).len(), 2, "after their rollouts are gone");
    // More than the list holds: the newest are kept.
    let many: Vec<ImageRollout> = (0..30).map(|i| named(&format!("r{i:02}"), i, "RolledBack", &back)).collect();
    let refs: Vec<&ImageRollout> = many.iter().collect();
    let result = plan_policy(&policy, ValidatedPolicy::new(&policy).as_ref(), &refs, &Beside::default(), at(0));
    assert_eq!(result.status.rejected.len(), 20);
    assert_eq!(result.status.rejected.last().unwrap().rollout, "r29");
}

#[test]
fn forgiven_images_may_come_back_once() {
    let forgiving =
        |image: &str, time: i64| policy(&json!({ "forgiven": [{ "image": image, "time": at(time).to_string() }] }));
    let back = |time: i64| json!({ "rollbackTime": at(time).to_string(), "completionTime": at(time + 1).to_string() });
    let image = "docker.io/acme/web:a";
    for (policy, rolled_back, rejected, pruned) in [
        (forgiving(image, 50), 50, 0, 1),
        // It went back once more.
        (forgiving(image, 50), 51, 1, 0),
        (forgiving("docker.io/acme/web:b", 50), 50, 1, 0),
    ] {
        let mut policy = policy;
        let entry = json!({ "image": image, "rollout": "a", "time": at(rolled_back).to_string() });
        policy.status = Some(serde_json::from_value(json!({ "rejected": [entry] })).unwrap());
        assert_eq!(ValidatedPolicy::new(&policy).unwrap().rejected.len(), rejected);
        let result = plan(&policy, &[named("a", 10, "RolledBack", &back(rolled_back))]);
        assert_eq!(
            (result.status.rejected.len(), result.prune.len()),
            (rejected, pruned),
            "{:?}",
            policy.spec.forgiven
        );
    }
    // The same bits under another name never began because of it.
    let bits = |tag: &str| format!("docker.io/acme/web:{tag}@sha256:{}", "a".repeat(64));
    let policy = forgiving(&bits("a"), 50);
    let mut again = named("again", 10, "Failed", &json!({ "completionTime": at(20).to_string() }));
    again.status.as_mut().unwrap().digest = Some(format!("sha256:{}", "a".repeat(64)));
    assert_eq!(plan(&policy, &[again]).prune, ["again"]);
    let failed = named("a", 10, "Cancelled", &back(10));
    assert!(plan(&forgiving(image, 50), &[failed]).prune.is_empty(), "others are history");
}

#[test]
fn what_it_says_of_itself() {
    let reason = |spec: &Value| -> (String, String, bool) {
        let policy = policy(spec);
        let status = plan(&policy, &[]).status;
        let ready = condition::find(&status.conditions, condition::READY).unwrap().clone();
        (ready.status, ready.reason, condition::is_true(&status.conditions, condition::STALLED))
    };
    let is = |status: &str, reason: &str, stalled| (status.to_owned(), reason.to_owned(), stalled);
    assert_eq!(reason(&json!({})), is("True", "Valid", false));
    assert_eq!(reason(&json!({ "suspend": true })), is("True", "Suspended", false));
    for spec in [
        json!({ "image": { "pattern": "acme/[" } }),
        json!({ "tags": { "semver": "not a range" } }),
        json!({ "devices": { "names": ["a"] } }),
        json!({ "failurePolicy": { "maxFailureRate": "20.5%" } }),
        json!({ "strategy": { "type": "Scheduled" } }),
        json!({ "strategy": { "batches": [{ "size": "50%" }] } }),
        json!({ "strategy": { "batches": [{ "size": "0%" }, { "size": "100%" }] } }),
        json!({ "strategy": { "batches": [{ "size": "50%" }, { "size": "20%" }, { "size": "100%" }] } }),
        json!({ "strategy": { "windows": [{ "start": "25:00", "end": "01:00" }] } }),
    ] {
        assert_eq!(reason(&spec), is("False", "Invalid", true), "{spec}");
    }
}
