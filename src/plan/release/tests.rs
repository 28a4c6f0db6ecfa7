//! Latecomers, and what is taken back.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::json;

use super::*;
use crate::api::ImageRollout;
use crate::api::rollout::{DesiredState, Phase};
use crate::plan::fixture::{Fixture, at, device, entry, in_batch, policy, reported, rollout, running};
use crate::plan::{Change, DeviceView, Plan, ValidatedPolicy};

fn reasons(plan: &Plan) -> Vec<Reason> {
    plan.actions.iter().map(|action| action.reason).collect()
}

/// A rollout of one batch that has completed, and a device that turned up since: a second later.
fn completed() -> Fixture {
    let mut fixture = running(&json!({}), &json!({}), &[in_batch("there", 1, Some(true))]);
    assert_eq!(fixture.settle().status.phase, Phase::Completed);
    fixture.views.push(DeviceView::new(&device("late", &json!({}))));
    fixture.seen.insert("late".into(), at(701));
    fixture.now = at(701);
    fixture
}

fn sibling(name: &str, created: i64) -> ImageRollout {
    let mut sibling = rollout(&json!({}));
    sibling.metadata.name = Some(name.into());
    sibling.metadata.creation_timestamp = Some(Time(at(created)));
    sibling
}

/// Each by itself keeps a latecomer where it is.
#[test]
fn latecomers_wait_for_every_gate() {
    type Then = fn(&mut Fixture);
    let window: Then = |fixture| {
        let window = json!({ "start": "22:00", "end": "23:00" });
        let plan = fixture.rollout.status.as_mut().unwrap().plan.as_mut().unwrap();
        plan.windows.push(serde_json::from_value(window).unwrap());
    };
    let ways: [(&str, Then, Option<Timestamp>, bool); 9] = [
        ("nothing", |_| {}, None, true),
        ("a window", window, Some(at(14 * 60 * 60)), false),
        ("the time", |fixture| fixture.rollout.spec.not_before = Some(whole_seconds(at(900))), Some(at(900)), false),
        ("the policy is suspended", |fixture| fixture.policy.as_mut().unwrap().spec.suspend = true, None, false),
        ("the policy is gone", |fixture| fixture.policy = None, None, false),
        ("paused", |fixture| fixture.rollout.spec.paused = true, None, false),
        ("cancelled", |fixture| fixture.rollout.spec.desired_state = DesiredState::Cancelled, None, false),
        ("no word of who is there", |fixture| fixture.knowledge.as_of = Some(at(600)), None, false),
        ("a newer one", |fixture| fixture.siblings.push(sibling("web-v3", 650)), None, false),
    ];
    for (what, then, again, released) in ways {
        let mut fixture = completed();
        then(&mut fixture);
        let plan = fixture.plan();
        assert_eq!(reasons(&plan) == [Reason::ReleaseLatecomer], released, "{what}: {:?}", plan.actions);
        assert_eq!((plan.status.phase, plan.requeue_at), (Phase::Completed, again), "{what}");
    }
}

#[test]
fn latecomers_are_the_latest_images() {
    for (what, phase, spec, latest) in [
        ("it runs", "Progressing", json!({}), false),
        ("it is done", "Completed", json!({}), false),
        ("it goes back: where to is not known yet", "RollingBack", json!({ "desiredState": "RolledBack" }), false),
        ("it went back", "RolledBack", json!({ "desiredState": "RolledBack" }), true),
        ("it was cancelled", "Cancelled", json!({ "desiredState": "Cancelled" }), true),
        ("it is to be cancelled", "Progressing", json!({ "desiredState": "Cancelled" }), true),
    ] {
        let mut fixture = completed();
        let mut newer = sibling("web-v3", 650);
        newer.spec.desired_state = rollout(&spec).spec.desired_state;
        newer.status = serde_json::from_value(json!({ "phase": phase })).unwrap();
        fixture.siblings.push(newer);
        assert_eq!(!reasons(&fixture.plan()).is_empty(), latest, "{what}");
    }
}

#[test]
fn a_latecomer_of_a_batch_that_is_done_is_called_so() {
    let spec = json!({ "strategy": { "batches": [{ "size": "50%" }, { "size": "100%" }] } });
    let late = device(
        "late",
        &json!({ "spec": { "images": [
        entry(&json!({ "image": "docker.io/acme/web:v1", "batch": 1 })) ] } }),
    );
    for (done, reason) in [(false, Reason::Release), (true, Reason::ReleaseLatecomer)] {
        let mut fixture = running(&spec, &json!({}), &[late.clone(), in_batch("two", 2, None)]);
        let status = fixture.rollout.status.as_mut().unwrap();
        status.current_batch = 2;
        status.batches[0].completion_time = done.then(|| whole_seconds(at(300)));
        assert_eq!(reasons(&fixture.plan()), [reason]);
    }
}

/// Times are stored in whole seconds: who is told in the second of the completion counts as judged by then.
#[test]
fn a_latecomer_is_told_in_a_later_second() {
    let mut fixture = completed();
    fixture.now = at(700) + jiff::SignedDuration::from_millis(900);
    let plan = fixture.plan();
    assert_eq!((reasons(&plan), plan.requeue_at), (vec![], Some(at(701))));
    let mut fixture = running(
        &json!({ "strategy": { "batches": [{ "size": "50%" }, { "size": "100%" }] } }),
        &json!({}),
        &[device("late", &json!({ "spec": { "images": [entry(&json!({ "image": "docker.io/acme/web:v1" }))] } }))],
    );
    let status = fixture.rollout.status.as_mut().unwrap();
    status.current_batch = 2;
    status.batches[0].completion_time = Some(whole_seconds(fixture.now));
    let plan = fixture.plan();
    assert_eq!((reasons(&plan), plan.requeue_at), (vec![], Some(at(701))));
    fixture.now = at(701);
    assert_eq!(reasons(&fixture.plan()), [Reason::ReleaseLatecomer]);
}

/// What a rollout that came later did with a device stands, though it was cancelled since.
#[test]
fn latecomers_are_not_taken_from_a_newer_rollout() {
    let of = |rollout: &str, released: i64| {
        let image =
            json!({ "rollout": rollout, "image": "docker.io/acme/web:v9", "releaseTime": at(released).to_string() });
        device("late", &json!({ "spec": { "images": [entry(&image)] } }))
    };
    for (what, rollout_name, created, released, taken) in [
        ("an older one", "web-v1", Some(-900), 500, true),
        ("a newer one", "web-v3", Some(500), 600, false),
        ("an older one that is gone", "web-v1", None, 500, true),
        ("a newer one that is gone", "web-v3", None, 700, false),
        ("one after it that is gone", "web-v3", None, 900, false),
    ] {
        let mut fixture = completed();
        fixture.now = at(1000);
        fixture.knowledge.as_of = Some(at(1000));
        fixture.seen.values_mut().for_each(|seen| *seen = at(1000));
        fixture.views[1] = DeviceView::new(&of(rollout_name, released));
        if let Some(created) = created {
            // By the first of them nothing is decided.
            fixture.siblings = vec![sibling("web-v0", -9000), sibling(rollout_name, created)];
            fixture.siblings[1].status = serde_json::from_value(json!({ "phase": "Cancelled" })).unwrap();
        }
        assert_eq!(!reasons(&fixture.plan()).is_empty(), taken, "{what}");
    }
}

/// What was never proven on a device is not what it goes back to.
#[test]
fn previous_is_what_has_passed_the_checks_of_whoever_told_it() {
    let checked = policy(&json!({ "healthChecks": [{ "name": "web", "tcp": { "port": 80 } }] }));
    let (plan, mut batches) = ValidatedPolicy::new(&checked).unwrap().resolve(at(0), 2, &[u64::MAX / 2, u64::MAX]);
    batches[1].completion_time = Some(whole_seconds(at(400)));
    let previous = |batch: i32| {
        let told = json!({ "rollout": "web-old", "image": "docker.io/acme/web:v1b", "batch": batch });
        let patch = json!({
            "spec": { "images": [entry(&told)] }, "status": { "services": [reported("acme/web:v1b", "running")] },
        });
        let mut fixture = completed();
        fixture.views[1] = DeviceView::new(&device("late", &patch));
        fixture.siblings = vec![sibling("web-other", -9000), sibling("web-old", -900)];
        let status = fixture.siblings[1].status.insert(Default::default());
        (status.phase, status.plan, status.batches) = (Phase::Superseded, Some(plan.clone()), batches.clone());
        let plan = fixture.plan();
        match &plan.actions[0].change {
            Change::Images { entries, .. } => entries[0].previous.clone(),
            Change::Verdicts { .. } => panic!("{:?}", plan.actions),
        }
    };
    assert_eq!(previous(1).as_deref(), Some("docker.io/acme/web:v1"), "its batch never completed");
    assert_eq!(previous(2).as_deref(), Some("docker.io/acme/web:v1b"));
}

#[test]
fn who_is_held_for_too_long_is_taken_back_unless_it_moved() {
    let held = |image: &str, released: i64| {
        device(
            "d",
            &json!({
                "spec": { "hold": true, "images": [entry(&json!({ "releaseTime": at(released).to_string() }))] },
                "status": { "services": [reported(image, "exited")] },
            }),
        )
    };
    for (what, image, released, withdrawn) in [
        ("its time is not up", "acme/web:v1", 690, false),
        ("it never moved", "acme/web:v1", 0, true),
        ("it has moved", "acme/web:v2", 0, false),
    ] {
        let plan = running(&json!({}), &json!({}), &[held(image, released)]).plan();
        assert_eq!(reasons(&plan) == [Reason::Withdraw], withdrawn, "{what}: {:?}", plan.actions);
    }
    // One that went away is not taken back while it is held: nobody moves it.
    let mut fixture = running(&json!({}), &json!({}), &[held("acme/web:v1", 650)]);
    fixture.seen.insert("d".into(), at(0));
    assert_eq!(reasons(&fixture.plan()), []);
}
