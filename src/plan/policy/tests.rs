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
    // Stored, it says nothing new, also later, and whatever others write beside it.
    let mut stored = ImageUpdatePolicy { status: Some(plan.status.clone()), ..policy.clone() };
    let theirs = condition::condition("Blessed", true, "Why", "by others", None, at(0));
    stored.status.as_mut().unwrap().conditions.insert(0, theirs);
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

#[test]
fn what_is_on_its_way_out_is_not_pruned_again() {
    let policy = policy(&json!({ "historyLimit": 1 }));
    let none = json!({});
    let mut rollouts = [1, 2, 3].map(|age| named(&format!("r{age}"), age, "Cancelled", &none)).to_vec();
    assert_eq!(plan(&policy, &rollouts).prune, ["r1", "r2"]);
    rollouts[0].metadata.deletion_timestamp = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(at(0)));
    assert_eq!(plan(&policy, &rollouts).prune, ["r2"]);
}

#[test]
fn what_goes_back_is_rejected_from_the_first_moment() {
    let rejected =
        |phase: &str, status: &Value| plan(&policy(&json!({})), &[named("a", 10, phase, status)]).status.rejected;
    let back = json!({ "rollbackTime": at(5).to_string() });
    assert_eq!(rejected("RollingBack", &back)[0].time, whole_seconds(at(5)));
    assert_eq!(rejected("RolledBack", &json!({}))[0].time, whole_seconds(at(100)), "before anything was released");
    for phase in ["Completed", "Halted", "Cancelled"] {
        assert!(rejected(phase, &json!({})).is_empty(), "{phase}");
    }
}

#[test]
fn the_latest_is_shown_as_devices_are_told_it() {
    let image =
        |status: &Value| plan(&policy(&json!({})), &[named("v2", 10, "Pending", status)]).status.latest.unwrap().image;
    assert_eq!(image(&json!({})), "docker.io/acme/web:v2");
    assert_eq!(image(&json!({ "image": "docker.io/acme/web@sha256:00" })), "docker.io/acme/web@sha256:00");
    let mut odd = named("v2", 10, "Pending", &json!({}));
    odd.spec.image.tag = Some("-".into());
    let latest = plan(&policy(&json!({})), &[odd]).status.latest.unwrap();
    assert_eq!(latest.image, "docker.io/acme/web", "its repository at least");
}

#[test]
fn what_is_beside_it() {
    let polls = policy(&json!({ "image": { "pattern": "acme/web:latest", "pollInterval": "1m" } }));
    let said = |policy: &ImageUpdatePolicy, beside: &Beside, type_: &str| {
        let valid = ValidatedPolicy::new(policy);
        let status = plan_policy(policy, valid.as_ref(), &[], beside, at(100)).status;
        condition::find(&status.conditions, type_).map(|it| (it.status.clone(), it.message.clone()))
    };
    let is = |status: &str, message: &str| Some((status.to_owned(), message.to_owned()));
    let beside = |polled| Beside { polled, ..Beside::default() };
    let failing = Polled::Failing { reason: "Down", why: "it is down".into() };
    assert_eq!(said(&polls, &Beside::default(), condition::POLLED), None);
    let good = is("True", "the registry is asked for new images, and answers");
    assert_eq!(said(&polls, &beside(Some(Polled::Good)), condition::POLLED), good);
    assert_eq!(said(&polls, &beside(Some(failing)), condition::POLLED), is("False", "it is down"));
    // After a restart nothing is known; what was said stands while it polls.
    let mut before = polls.clone();
    let status =
        plan_policy(&polls, ValidatedPolicy::new(&polls).as_ref(), &[], &beside(Some(Polled::Good)), at(0)).status;
    before.status = Some(status);
    assert_eq!(said(&before, &Beside::default(), condition::POLLED), good);
    before.spec.image.poll_interval = None;
    assert_eq!(said(&before, &Beside::default(), condition::POLLED), None);
    for (overlaps, message) in [
        (vec![("a", 2)], "2 of its devices belong to a: more specific for the same images"),
        (vec![("a", 2), ("b", 5)], "7 of its devices belong to 2 others, such as b: more specific for the same images"),
    ] {
        let overlaps = overlaps.into_iter().map(|(name, devices)| (name.to_owned(), devices)).collect();
        let beside = Beside { overlaps, ..Beside::default() };
        assert_eq!(said(&polls, &beside, condition::OVERLAPPED), is("True", message));
    }
}

#[test]
fn only_another_kind_of_failure_is_news() {
    let failing = |reason, why: &str| Polled::Failing { reason, why: why.into() };
    assert!(Polled::Good.is_same(&Polled::Good));
    assert!(failing("Down", "a").is_same(&failing("Down", "b")));
    assert!(!failing("Down", "a").is_same(&failing("Denied", "a")));
    assert!(!Polled::Good.is_same(&failing("Down", "a")) && !failing("Down", "a").is_same(&Polled::Good));
}

#[test]
fn finalizers_of_others_are_not_ours() {
    let mut rollout = rollout(&json!({}));
    assert!(has_finalizer(&rollout));
    rollout.metadata.finalizers = Some(vec!["example.com/other".into()]);
    assert!(!has_finalizer(&rollout));
}
