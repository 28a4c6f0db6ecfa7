//! Whom a pass writes to, and why; above all who goes back.

use serde_json::{Value, json};

use super::*;
use crate::api::Device;
use crate::api::rollout::Phase;
use crate::plan::fixture::{device, entry, failed, in_batch, reported, running};
use crate::plan::{Plan, WaitingOn};

fn sent(name: &str, running: &str) -> Device {
    let back = entry(&json!({ "image": "docker.io/acme/web:v1", "rolledBack": true }));
    device(name, &json!({ "spec": { "images": [back] }, "status": { "services": [reported(running, "running")] } }))
}

/// Its time is up, and nobody has said so yet.
fn too_late(name: &str) -> Device {
    let services = [reported("acme/web:v2", "exited")];
    device(name, &json!({ "spec": { "images": [entry(&json!({}))] }, "status": { "services": services } }))
}

fn written(plan: &Plan) -> Vec<(&str, Reason)> {
    plan.actions.iter().map(|action| (action.device.as_str(), action.reason)).collect()
}

#[test]
fn a_rollback_counts_who_is_back_stuck_and_away() {
    let back = json!({ "desiredState": "RolledBack" });
    let mut devices = vec![sent("a", "acme/web:v1"), sent("b", "acme/web:v1"), sent("stuck", "acme/web:v2")];
    devices.extend(["x", "y", "z"].map(|name| sent(name, "acme/web:v2")));
    let mut fixture = running(&json!({}), &back, &devices);
    for name in ["x", "y", "z"] {
        fixture.seen.insert(name.into(), crate::plan::fixture::at(0));
    }
    let plan = fixture.settle();
    assert_eq!(plan.status.phase, Phase::RolledBack);
    assert_eq!(
        plan.status.message,
        "2 of 6 devices are back on their previous image, 1 were sent back but are not seen running it, \
         3 are offline and go back when they turn up"
    );
    // Who has time left is waited for, until then.
    let early = json!({ "image": "docker.io/acme/web:v1", "rolledBack": true, "releaseTime": "2026-06-01T08:05:00Z" });
    for name in ["early", "later"] {
        fixture.views.push(crate::plan::DeviceView::new(&device(
            name,
            &json!({ "spec": { "images": [entry(&early)] },
            "status": { "services": [reported("acme/web:v2", "running")] } }),
        )));
        fixture.seen.insert(name.into(), fixture.now);
    }
    fixture.rollout.status.as_mut().unwrap().phase = Phase::RollingBack;
    let plan = fixture.plan();
    assert_eq!(plan.waiting_on, [WaitingOn::GoingBack { pending: 2, devices: 8 }]);
    assert_eq!((plan.status.phase, plan.requeue_at), (Phase::RollingBack, Some(crate::plan::fixture::at(900))));
}

#[test]
fn a_rollback_of_everything_keeps_the_figures_right() {
    let devices = [in_batch("a", 1, Some(true)), in_batch("b", 1, Some(true)), in_batch("c", 1, Some(true))];
    let mut fixture = running(&json!({}), &json!({}), &devices);
    let before = fixture.plan().status;
    assert_eq!((before.batches[0].updated, before.batches[0].healthy), (3, 3));
    fixture.rollout.status = Some(before);
    fixture.rollout.spec.desired_state = crate::api::rollout::DesiredState::RolledBack;
    for (index, name) in ["a", "b"].into_iter().enumerate() {
        fixture.views[index] = crate::plan::DeviceView::new(&sent(name, "acme/web:v1"));
    }
    let plan = fixture.plan();
    assert_eq!(written(&plan), [("c", Reason::RollBackAll)]);
    assert_eq!(plan.waiting_on, [WaitingOn::GoingBack { pending: 1, devices: 3 }]);
    let batch = &plan.status.batches[0];
    assert_eq!((batch.rolled_back, batch.updated, batch.healthy), (2, 1, 1));
    assert_eq!(plan.status.totals.unwrap().rolled_back, 2);
}

fn halting(action: &str, roll_back_failed: bool) -> Value {
    json!({ "failurePolicy": {
        "maxFailureRate": "0%", "action": action, "rollBackFailedDevices": roll_back_failed,
    } })
}

/// Two writes to one device can't both carry the revision that was looked at.
#[test]
fn a_verdict_and_the_way_back_are_two_writes() {
    let devices = [in_batch("good", 1, Some(true)), in_batch("known", 1, Some(false)), too_late("new")];
    let verdict = ("new", Reason::Verdict);
    for (action, back, expected) in [
        ("RollBackAll", true, vec![verdict, ("good", Reason::RollBackAll), ("known", Reason::RollBackAll)]),
        ("RollBackBatch", true, vec![verdict, ("good", Reason::RollBackBatch), ("known", Reason::RollBackBatch)]),
        ("Pause", true, vec![verdict, ("known", Reason::RollBackFailed)]),
        ("Pause", false, vec![verdict]),
    ] {
        let plan = running(&halting(action, back), &json!({}), &devices).plan();
        assert_eq!(written(&plan), expected, "{action} {back}");
        if action == "RollBackAll" {
            assert_eq!(plan.waiting_on, [WaitingOn::GoingBack { pending: 3, devices: 3 }]);
        }
    }
    // Only the batch that broke its budget goes back.
    let mut devices = devices.to_vec();
    devices.push(in_batch("elsewhere", 2, Some(true)));
    let mut fixture = running(&halting("RollBackBatch", true), &json!({}), &devices);
    fixture.rollout.status.as_mut().unwrap().current_batch = 2;
    assert!(!written(&fixture.plan()).contains(&("elsewhere", Reason::RollBackBatch)));
}

#[test]
fn whom_a_person_names_goes_back_also_after_the_end() {
    let devices = [in_batch("named", 1, Some(true)), in_batch("other", 1, Some(true)), device("never", &json!({}))];
    let spec = json!({ "rollBackDevices": ["named", "never"] });
    for phase in [Phase::Cancelled, Phase::Superseded, Phase::Completed, Phase::Progressing] {
        let mut fixture = running(&json!({}), &spec, &devices);
        let status = fixture.rollout.status.as_mut().unwrap();
        status.phase = phase;
        status.completion_time = Some(whole_seconds(fixture.now));
        assert_eq!(written(&fixture.plan()), [("named", Reason::RollBackRequested)], "{phase}");
    }
    let known =
        device("known", &json!({ "spec": { "images": [entry(&json!({}))] }, "status": { "updates": failed() } }));
    let plan = running(&halting("Pause", true), &json!({}), &[known]).plan();
    assert_eq!(written(&plan), [("known", Reason::RollBackFailed)]);
}

/// Server-side apply removes what a manager no longer names, and takes what it names.
#[test]
fn a_write_repeats_what_its_manager_owns_and_nothing_else() {
    let of = |name: &str| entry(&json!({ "repository": format!("docker.io/acme/{name}") }));
    let owner = |manager: &str, name: &str| {
        let key = format!("k:{}", json!({ "repository": format!("docker.io/acme/{name}") }));
        json!({ "manager": manager, "operation": "Apply", "fieldsType": "FieldsV1",
                "fieldsV1": { "f:spec": { "f:images": { key: {} } } } })
    };
    let (ours, theirs) = ("tranche-policy/web", "tranche-policy/db");
    let view = DeviceView::new(&device(
        "d",
        &json!({
            "metadata": { "managedFields": [owner(ours, "a"), owner(theirs, "b"), owner(ours, "web")] },
            "spec": { "images": [of("web"), of("nobodys"), of("b"), of("a")] },
        }),
    ));
    let told = serde_json::from_value(of("web")).unwrap();
    let action = set_entry(&view, ours, told, Reason::Release);
    let Change::Images { manager, entries } = action.change else { panic!() };
    let names: Vec<&str> = entries.iter().map(|entry| entry.repository.as_str()).collect();
    assert_eq!(names, ["docker.io/acme/a", "docker.io/acme/nobodys", "docker.io/acme/web"]);
    assert_eq!((manager.as_str(), action.uid.as_str(), action.resource_version.as_str()), (ours, "d", "7"));
}

#[test]
fn the_way_back_starts_now() {
    let told: ImageEntry = serde_json::from_value(entry(&json!({}))).unwrap();
    let now = crate::plan::fixture::at(500);
    let previous = ImageEntry { image: told.previous.clone(), release_time: whole_seconds(now), ..told.clone() };
    assert_eq!(withdrawn(&told, now), previous);
    assert_eq!(sent_back(&told, now), ImageEntry { rolled_back: true, ..previous });
}

#[test]
fn a_verdict_replaces_the_one_before_it() {
    let mut updates = failed();
    updates.as_array_mut().unwrap().insert(0, {
        let mut other = failed()[0].clone();
        other["repository"] = json!("docker.io/acme/zoo");
        other
    });
    let view = DeviceView::new(&device("d", &json!({ "status": { "updates": updates } })));
    let action = store_failure(&view, "docker.io/acme/web", "web-v3", "Reason", "words", crate::plan::fixture::at(0));
    let Change::Verdicts { updates } = action.change else { panic!() };
    let kept: Vec<_> = updates.iter().map(|update| (update.repository.as_str(), update.rollout.as_str())).collect();
    assert_eq!(kept, [("docker.io/acme/web", "web-v3"), ("docker.io/acme/zoo", "web-v2")]);
    assert_eq!(action.reason.as_str(), "Verdict");
}
