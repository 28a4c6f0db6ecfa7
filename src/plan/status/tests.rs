use serde_json::{Value, json};

use super::*;
use crate::api::Device;
use crate::api::rollout::{Halted, Totals};
use crate::plan::fixture::{apps, at, device, entry, failed, in_batch, reported, running};

fn base() -> ImageRolloutStatus {
    ImageRolloutStatus {
        observed_generation: Some(1),
        phase: Phase::Progressing,
        plan: None,
        current_batch: 1,
        batches: vec![BatchStatus { size: "100%".into(), ..BatchStatus::default() }],
        ..ImageRolloutStatus::default()
    }
}

#[test]
fn what_is_news() {
    type Change = fn(&mut ImageRolloutStatus);
    let changes: [(&str, Change, StatusWrite); 11] = [
        ("nothing", |_| {}, StatusWrite::None),
        ("message", |s| s.message = "x".into(), StatusWrite::Figures),
        ("totals", |s| s.totals = Some(Totals { devices: 1, ..Totals::default() }), StatusWrite::Figures),
        ("phase", |s| s.phase = Phase::Paused, StatusWrite::Transition),
        ("batch", |s| s.current_batch = 2, StatusWrite::Transition),
        ("generation", |s| s.observed_generation = Some(2), StatusWrite::Transition),
        ("batch opened", |s| s.batches[0].start_time = Some(whole_seconds(at(0))), StatusWrite::Transition),
        ("batch done", |s| s.batches[0].completion_time = Some(whole_seconds(at(0))), StatusWrite::Transition),
        ("acknowledged", |s| s.batches[0].acknowledged = 1, StatusWrite::Transition),
        (
            "halt",
            |s| s.halted = Some(Halted { time: whole_seconds(at(0)), batch: 1, failures: 1 }),
            StatusWrite::Transition,
        ),
        ("resumed", |s| s.resume_time = Some(whole_seconds(at(0))), StatusWrite::Transition),
    ];
    for (what, change, write) in changes {
        let mut new = base();
        change(&mut new);
        assert_eq!(compare(&base(), &new), write, "{what}");
    }
    let figures: [fn(&mut BatchStatus) -> &mut i32; 7] = [
        |batch| &mut batch.devices,
        |batch| &mut batch.released,
        |batch| &mut batch.updated,
        |batch| &mut batch.healthy,
        |batch| &mut batch.failed,
        |batch| &mut batch.rolled_back,
        |batch| &mut batch.deferred,
    ];
    for (index, figure) in figures.into_iter().enumerate() {
        let mut new = base();
        *figure(&mut new.batches[0]) = 1;
        assert_eq!(compare(&base(), &new), StatusWrite::Figures, "figure {index}");
    }
    let mut new = base();
    new.failed_devices.push(FailedDevice { name: "d".into(), reason: "X".into(), message: String::new() });
    assert_eq!(compare(&base(), &new), StatusWrite::Figures, "names");
    let mut new = base();
    new.unchecked_devices.push(UncheckedDevice { name: "d".into(), message: String::new() });
    assert_eq!(compare(&base(), &new), StatusWrite::Figures, "names of the unchecked");
    let mut new = base();
    new.history.push(HistoryEntry { time: whole_seconds(at(0)), type_: "X".into(), message: String::new() });
    assert_eq!(compare(&base(), &new), StatusWrite::Figures, "history");
}

#[test]
fn before_the_start_others_go_by_the_reason() {
    let waiting = |reason: &str| ImageRolloutStatus {
        conditions: vec![condition::condition(condition::READY, false, reason, "words", Some(1), at(0))],
        ..base()
    };
    assert_eq!(compare(&waiting("PolicySuspended"), &waiting("OlderRollout")), StatusWrite::Transition);
    let mut reworded = waiting("OlderRollout");
    reworded.conditions[0].message = "other words".into();
    assert_eq!(compare(&waiting("OlderRollout"), &reworded), StatusWrite::Figures);
}

/// What others go by before the start is figures after it.
#[test]
fn after_the_start_reasons_are_no_news() {
    let fixture = running(&json!({}), &json!({}), &[in_batch("d", 1, None)]);
    let old = fixture.plan().status;
    let mut new = old.clone();
    new.conditions[0].reason = "Other".into();
    assert_eq!(compare(&old, &new), StatusWrite::Figures);
}

fn history(plan: &crate::plan::Plan, type_: &str) -> Vec<String> {
    plan.status.history.iter().filter(|line| line.type_ == type_).map(|line| line.message.clone()).collect()
}

#[test]
fn failures_are_named_a_few_at_a_time() {
    let spec = json!({ "failurePolicy": { "maxFailureRate": "100%", "rollBackFailedDevices": false } });
    let failed = |names: std::ops::Range<usize>| -> Vec<Device> {
        names.map(|index| in_batch(&format!("d{index:02}"), 1, Some(false))).collect()
    };
    let mut fixture = running(&spec, &json!({}), &[in_batch("on-its-way", 1, None)]);
    let mut said = Vec::new();
    for (range, line) in [
        (0..1, "d00: it did not come up"),
        (1..4, "d01, d02, d03: it did not come up"),
        (4..9, "d04, d05, d06 and 2 more: it did not come up"),
        (9..20, "d09, d10, d11 and 8 more: it did not come up"),
        // No more than twenty have a name.
        (20..22, "2 more devices: it did not come up"),
        (22..22, ""),
    ] {
        for device in failed(range) {
            fixture.seen.insert(device.metadata.name.clone().unwrap(), at(700));
            fixture.views.push(crate::plan::DeviceView::new(&device));
        }
        let plan = fixture.settle();
        said.extend((!line.is_empty()).then(|| line.to_owned()));
        assert_eq!(history(&plan, "DeviceFailed"), said);
    }
    let named = &fixture.rollout.status.as_ref().unwrap().failed_devices;
    assert_eq!((named.len(), named[0].reason.as_str()), (20, "DeadlineExceeded"));
}

#[test]
fn who_was_sent_back_is_told_once() {
    let back = |name: &str| {
        let entry = entry(&json!({ "image": "docker.io/acme/web:v1", "rolledBack": true }));
        device(name, &json!({ "spec": { "images": [entry] } }))
    };
    let mut fixture = running(&json!({}), &json!({}), &[in_batch("on-its-way", 1, None), back("a")]);
    let first = "1 devices were sent back to their previous image";
    assert_eq!(history(&fixture.settle(), "DeviceRolledBack"), [first]);
    for name in ["b", "c"] {
        fixture.views.push(crate::plan::DeviceView::new(&back(name)));
        fixture.seen.insert(name.into(), at(700));
    }
    let second = "2 devices were sent back to their previous image";
    assert_eq!(history(&fixture.settle(), "DeviceRolledBack"), [first, second]);
}

#[test]
fn a_batch_that_flaps_is_done_once_for_the_record() {
    let delay = json!({ "strategy": { "batches": [{ "size": "50%", "delay": "10m" }, { "size": "100%" }] } });
    let mut fixture = running(&delay, &json!({}), &[in_batch("d", 1, Some(true))]);
    let done = "batch 1: 1 healthy, 0 failed, 0 deferred";
    assert_eq!(history(&fixture.settle(), "BatchCompleted"), [done]);
    for verdict in [None, Some(true)] {
        fixture.views = vec![crate::plan::DeviceView::new(&in_batch("d", 1, verdict))];
        assert_eq!(history(&fixture.settle(), "BatchCompleted"), [done]);
    }
}

#[test]
fn conflicts_are_said_while_there_are_any() {
    let mut edited = in_batch("edited", 1, Some(true));
    edited.spec.apps = serde_json::from_value(apps("acme/web:v9")).unwrap();
    let conflict = |devices: &[Device]| {
        let status = running(&json!({}), &json!({}), devices).settle().status;
        condition::find(&status.conditions, condition::DEVICES_IN_CONFLICT).map(|it| it.message.clone())
    };
    assert_eq!(conflict(&[in_batch("d", 1, None)]), None);
    let said = conflict(&[in_batch("d", 1, None), edited]).unwrap();
    assert!(said.starts_with("1 devices are left alone"), "{said}");
}

#[test]
fn what_follows_a_stop_is_told_by_its_name() {
    let halted = json!({ "time": at(600).to_string(), "batch": 1, "failures": 1 });
    let cases: [(Phase, Value, Option<&str>); 6] = [
        (Phase::Paused, json!({}), Some("a person resumed it")),
        (Phase::Paused, json!({ "desiredState": "RolledBack" }), None),
        (Phase::Halted, json!({ "acknowledgedFailures": 3 }), Some("a person acknowledged 3 failures")),
        (Phase::Halted, json!({ "desiredState": "RolledBack" }), None),
        (Phase::Soaking, json!({}), None),
        (Phase::Progressing, json!({}), None),
    ];
    for (before, spec, line) in cases {
        let mut fixture = running(&json!({}), &spec, &[in_batch("d", 1, None)]);
        let status = fixture.rollout.status.as_mut().unwrap();
        status.phase = before;
        status.halted = (before == Phase::Halted).then(|| serde_json::from_value(halted.clone()).unwrap());
        assert_eq!(history(&fixture.plan(), "RolloutResumed"), line.into_iter().collect::<Vec<_>>(), "{before} {spec}");
    }
    let mut fixture = running(&json!({}), &json!({}), &[in_batch("d", 1, Some(false))]);
    let status = fixture.rollout.status.as_mut().unwrap();
    status.phase = Phase::Paused;
    status.halted = Some(serde_json::from_value(halted).unwrap());
    let plan = fixture.plan();
    assert_eq!((plan.status.phase, history(&plan, "RolloutResumed")), (Phase::Halted, vec![]), "still halted");
}

/// A rollout of generation 5, which the controller saw last at `seen`, with an act that made generation `made`.
fn acted(verb: &str, made: i64, seen: Option<i64>, spec: &Value) -> Vec<(String, String)> {
    let mut fixture = running(&json!({}), spec, &[in_batch("d", 1, None)]);
    let act =
        json!({ "verb": verb, "by": "jane", "reason": "too slow", "time": at(0).to_string(), "generation": made });
    let metadata = &mut fixture.rollout.metadata;
    metadata.generation = Some(5);
    metadata.annotations = Some([(crate::api::act::LAST_ACT.to_owned(), act.to_string())].into());
    fixture.rollout.status.as_mut().unwrap().observed_generation = seen;
    let history = fixture.plan().status.history;
    history.into_iter().map(|line| (line.type_, line.message)).filter(|(_, text)| text.contains("jane")).collect()
}

#[test]
fn who_did_it_and_why_is_told_once() {
    let line = |type_: &str, message: &str| vec![(type_.to_owned(), message.to_owned())];
    let told = line("RolloutPaused", "by jane: too slow");
    assert_eq!(acted("RolloutPaused", 5, Some(4), &json!({ "paused": true })), told);
    assert_eq!(acted("RolloutPaused", 4, Some(3), &json!({ "paused": true })), told, "something else changed since");
    assert_eq!(acted("RolloutPaused", 5, Some(5), &json!({ "paused": true })), [], "seen before");
    assert_eq!(acted("RolloutPaused", 6, Some(4), &json!({ "paused": true })), [], "nobody's");
    assert_eq!(acted("Whatever", 5, Some(4), &json!({})), [], "not a word of ours");
    let approved = line("BatchApproved", "up to batch 2, by jane: too slow");
    assert_eq!(acted("BatchApproved", 5, Some(4), &json!({ "approvedBatches": 2 })), approved);
    let back = line("DeviceRollbackRequested", "d, by jane: too slow");
    assert_eq!(acted("DeviceRollbackRequested", 5, Some(4), &json!({ "rollBackDevices": ["d"] })), back);

    let mut fixture = running(&json!({}), &json!({ "paused": true }), &[in_batch("d", 1, None)]);
    assert_eq!(history(&fixture.settle(), "RolloutPaused"), ["a person paused it"], "who left no word is a person");
}

#[test]
fn how_far_it_has_come() {
    let plan = running(&json!({}), &json!({}), &[in_batch("d", 1, None)]).plan();
    assert_eq!(plan.status.progress.as_deref(), Some("1/2"));
}

#[test]
fn a_namesakes_verdict_is_not_this_ones() {
    let mut before = failed();
    before[0]["time"] = json!(at(-100).to_string());
    let down = device(
        "d",
        &json!({
            "spec": { "images": [entry(&json!({}))] },
            "status": { "services": [reported("acme/web:v2", "exited")], "updates": before },
        }),
    );
    let named = running(&json!({}), &json!({}), &[down]).plan().status.failed_devices;
    assert_eq!(named.len(), 1);
    assert_ne!(named[0].message, "it did not come up");
}

#[test]
fn what_others_write_beside_it_is_no_news() {
    let mut fixture = running(&json!({}), &json!({}), &[in_batch("d", 1, None)]);
    fixture.rollout.status = Some(fixture.settle().status);
    let theirs = condition::condition("Blessed", true, "Why", "by others", None, at(0));
    fixture.rollout.status.as_mut().unwrap().conditions.insert(0, theirs);
    let plan = fixture.plan();
    assert_eq!(plan.write, StatusWrite::None, "{:?}", plan.status.conditions);
}

#[test]
fn ready_stalled_and_reconciling() {
    let halt = json!({ "failurePolicy": { "maxFailureRate": "0%" } });
    for (what, spec, rollout_spec, verdict, expected) in [
        ("on its way", json!({}), json!({}), None, [false, false, true]),
        ("paused", json!({}), json!({ "paused": true }), None, [false, false, true]),
        ("only a person can go on", halt, json!({}), Some(false), [false, true, false]),
        ("cancelled", json!({}), json!({ "desiredState": "Cancelled" }), None, [false, true, false]),
        ("done", json!({}), json!({}), Some(true), [true, false, false]),
    ] {
        let status = running(&spec, &rollout_spec, &[in_batch("d", 1, verdict)]).settle().status;
        let is = [condition::READY, condition::STALLED, condition::RECONCILING]
            .map(|type_| condition::is_true(&status.conditions, type_));
        assert_eq!(is, expected, "{what}: {}", status.message);
    }
}
