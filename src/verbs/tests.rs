use serde_json::{Value, json};

use super::*;
use crate::api::rollout::Phase;
use crate::api::{ImageUpdatePolicy, POLICY_LABEL};

fn jane(reason: Option<&str>) -> Person {
    Person { name: "jane".into(), reason: reason.map(Into::into), time: "2026-01-02T03:04:05.678Z".parse().unwrap() }
}

/// Ten devices in batches of one, four and five; the first is done, the second is under way.
fn rollout(spec: &Value, status: &Value) -> ImageRollout {
    let mut rollout = json!({
        "metadata": {"name": "app-1", "namespace": "plant", "uid": "u-1", "generation": 4, "resourceVersion": "77"},
        "spec": {"policyRef": {"name": "app"}, "image": {"repository": "docker.io/acme/app", "tag": "v2"}},
        "status": {
            "phase": "Progressing", "currentBatch": 2,
            "totals": {"devices": 10, "released": 5, "updated": 3, "healthy": 3, "failed": 0, "rolledBack": 0, "deferred": 0},
            "batches": [
                {"size": "10%", "boundary": "0", "devices": 1}, {"size": "50%", "boundary": "1", "devices": 4},
                {"size": "100%", "boundary": "2", "devices": 5},
            ],
            "plan": {
                "startTime": "2026-01-01T00:00:00Z", "devicesAtStart": 10, "devices": {"selector": {}}, "offer": "Tag",
                "strategy": "Staged", "failurePolicy": {}, "updateDeadline": "15m", "offlineAfter": "10m",
            },
        },
    });
    merge(&mut rollout["spec"], spec);
    merge(&mut rollout["status"], status);
    serde_json::from_value(rollout).expect("a rollout")
}

fn merge(into: &mut Value, from: &Value) {
    for (key, value) in from.as_object().expect("an object") {
        if value.is_object() && into[key].is_object() {
            merge(&mut into[key], value);
        } else {
            into[key] = value.clone();
        }
    }
}

fn change(rollout: &ImageRollout, verb: &Verb) -> (Value, Effect) {
    match decide(rollout, verb, &jane(None)).expect("it fits") {
        Decision::Change { patch, effect } => (patch["spec"].clone(), effect),
        Decision::Already { text } => panic!("already: {text}"),
    }
}

fn already(rollout: &ImageRollout, verb: &Verb) -> String {
    match decide(rollout, verb, &jane(None)).expect("it fits") {
        Decision::Change { patch, .. } => panic!("a change: {patch}"),
        Decision::Already { text } => text,
    }
}

fn conflict(rollout: &ImageRollout, verb: &Verb) -> Conflict {
    decide(rollout, verb, &jane(None)).expect_err("a conflict")
}

fn going() -> ImageRollout {
    rollout(&json!({}), &json!({}))
}

/// One that the rollout has told its image.
fn device(name: &str) -> Verb {
    back(name, &json!({}), "other/app:v1", Some("app-1"))
}

fn back(name: &str, labels: &Value, image: &str, told_by: Option<&str>) -> Verb {
    let entry = |rollout: &str| {
        json!({
            "repository": "docker.io/acme/app", "image": "docker.io/acme/app:v2", "declared": "docker.io/acme/app:v1",
            "rollout": rollout, "batch": 1, "releaseTime": "2026-01-01T00:00:00Z",
        })
    };
    let device = json!({
        "metadata": {"name": name, "labels": labels},
        "spec": {
            "apps": {"1": {"services": [{"serviceId": 1, "serviceName": "app", "imageName": image}]}},
            "images": told_by.map(entry).into_iter().collect::<Vec<_>>(),
        },
    });
    let device: crate::api::Device = serde_json::from_value(device).expect("a device");
    Verb::RollBackDevice { device: Candidate::from(&device) }
}

#[test]
fn only_a_device_of_the_rollout_is_sent_back() {
    let of_line = rollout(&json!({}), &json!({"plan": {"devices": {"selector": {"matchLabels": {"line": "3"}}}}}));
    let third = json!({"line": "3"});
    let told = change(&of_line, &back("d1", &json!({}), "acme/app:v1", Some("app-1"))).0;
    assert_eq!(told, json!({"rollBackDevices": ["d1"]}), "whatever it is selected by");
    // Not released yet: then it never is.
    change(&of_line, &back("d1", &third, "acme/app:v1", None));
    change(&of_line, &back("d1", &third, "acme/app:v1", Some("app-0")));
    let refused = conflict(&of_line, &back("d1", &json!({}), "acme/app:v1", None)).text;
    assert_eq!(refused, "device d1 is not one of rollout app-1: its policy selects other devices");
    let refused = conflict(&of_line, &back("d1", &third, "acme/other:v1", Some("app-0"))).text;
    assert_eq!(refused, "device d1 is not one of rollout app-1: it has no service of docker.io/acme/app");
    // Once it was named it goes back already, whatever became of what it was told.
    let named = rollout(&json!({"rollBackDevices": ["d1"]}), &json!({}));
    already(&named, &back("d1", &json!({}), "acme/other:v1", None));
}

#[test]
fn what_each_changes_and_for_how_many() {
    let effect = |devices, text: &str| Effect { devices: Some(devices), text: text.into() };
    for (verb, spec, expected) in [
        (Verb::Pause, json!({"paused": true}), effect(7, "7 devices wait; 3 devices that run it keep it")),
        (
            Verb::Cancel,
            json!({"desiredState": "Cancelled"}),
            effect(7, "7 devices never get it; 3 devices that run it keep it"),
        ),
        (
            Verb::RollBack,
            json!({"desiredState": "RolledBack"}),
            effect(5, "5 devices go back, each to its own previous image"),
        ),
        (device("d1"), json!({"rollBackDevices": ["d1"]}), effect(1, "device d1 goes back to its own previous image")),
    ] {
        assert_eq!(change(&going(), &verb), (spec, expected), "{verb:?}");
    }
    let two = rollout(&json!({"rollBackDevices": ["d0"]}), &json!({}));
    assert_eq!(change(&two, &device("d1")).0, json!({"rollBackDevices": ["d0", "d1"]}));
    let unstarted = rollout(&json!({}), &json!({"phase": "Pending", "totals": null, "plan": null, "batches": []}));
    assert_eq!(change(&unstarted, &Verb::Pause).1.devices, None);
}

#[test]
fn on_what_it_was_decided_and_by_whom() {
    let decision = decide(&going(), &Verb::Pause, &jane(Some("too slow"))).unwrap();
    let Decision::Change { patch, .. } = decision else { panic!("{decision:?}") };
    assert_eq!(patch["metadata"]["resourceVersion"], "77");
    let act: Act =
        serde_json::from_str(patch["metadata"]["annotations"]["tranche.dev/last-act"].as_str().unwrap()).unwrap();
    assert_eq!(
        (act.verb.as_str(), act.by.as_str(), act.reason.as_deref()),
        ("RolloutPaused", "jane", Some("too slow"))
    );
    assert_eq!((act.generation, act.time.0.to_string()), (5, "2026-01-02T03:04:05Z".into()));
}

#[test]
fn a_second_time_changes_nothing() {
    for (spec, status, verb) in [
        (json!({"paused": true}), json!({}), Verb::Pause),
        (json!({}), json!({}), Verb::Resume),
        (
            json!({"acknowledgedFailures": 2}),
            json!({"halted": {"time": "2026-01-01T00:00:00Z", "batch": 1, "failures": 2}}),
            Verb::Resume,
        ),
        (json!({"desiredState": "Cancelled"}), json!({}), Verb::Cancel),
        (json!({"desiredState": "Cancelled"}), json!({"phase": "Cancelled"}), Verb::Cancel),
        (json!({"desiredState": "RolledBack"}), json!({}), Verb::RollBack),
        (json!({}), json!({"phase": "RollingBack"}), Verb::RollBack),
        (json!({"rollBackDevices": ["d1"]}), json!({}), device("d1")),
        (json!({"desiredState": "RolledBack"}), json!({}), device("d1")),
        (json!({}), json!({}), Verb::Approve { batch: Some(2) }),
        (json!({"approvedBatches": 3}), json!({}), Verb::Approve { batch: Some(3) }),
    ] {
        already(&rollout(&spec, &status), &verb);
    }
}

#[test]
fn what_does_not_fit_says_where_it_stands() {
    let forward = [Verb::Pause, Verb::Resume, Verb::Approve { batch: None }, Verb::Cancel];
    for phase in ["Completed", "RolledBack", "Superseded", "Failed", "RollingBack"] {
        let rollout = rollout(&json!({}), &json!({"phase": phase}));
        for verb in &forward {
            let Conflict { phase: at, text } = conflict(&rollout, verb);
            assert_eq!(at.as_str(), phase);
            assert!(text.contains(phase) && text.contains("app-1"), "{text}");
        }
    }
    let cancelled = rollout(&json!({"desiredState": "Cancelled"}), &json!({}));
    assert!(conflict(&cancelled, &Verb::Pause).text.contains("cancelled"));
    let never = rollout(&json!({}), &json!({"phase": "Failed", "plan": null}));
    assert!(conflict(&never, &Verb::RollBack).text.contains("before anything was released"));
    conflict(&never, &device("d1"));
    let full: Vec<String> = (0..1000).map(|number| format!("d{number}")).collect();
    conflict(&rollout(&json!({"rollBackDevices": full}), &json!({})), &device("other"));
    // What ended well, or was stopped, can still be taken back.
    for phase in ["Completed", "Superseded", "Cancelled"] {
        change(&rollout(&json!({}), &json!({"phase": phase})), &Verb::RollBack);
    }
}

#[test]
fn resuming_ends_a_pause_and_a_halt() {
    let halted = json!({"phase": "Halted", "halted": {"time": "2026-01-01T00:00:00Z", "batch": 2, "failures": 2}});
    let resumed = |spec: Value, status: &Value| change(&rollout(&spec, status), &Verb::Resume).0;
    assert_eq!(resumed(json!({"paused": true}), &json!({})), json!({"paused": false}));
    assert_eq!(resumed(json!({}), &halted), json!({"acknowledgedFailures": 2}));
    assert_eq!(resumed(json!({"paused": true}), &halted), json!({"acknowledgedFailures": 2, "paused": false}));
}

#[test]
fn approving_opens_the_next_batch_and_holds_no_other_back() {
    let next = Verb::Approve { batch: None };
    let manual = |open: i32, approved: i32| {
        rollout(&json!({"approvedBatches": approved}), &json!({"currentBatch": open, "plan": {"strategy": "Manual"}}))
    };
    let (spec, effect) = change(&manual(0, 0), &next);
    assert_eq!((spec, effect.devices), (json!({"approvedBatches": 1}), Some(1)));
    already(&manual(0, 1), &next);
    assert_eq!(change(&manual(1, 1), &next).1.text, "batch 2 (50%) may open: 4 devices");
    assert_eq!(change(&manual(1, 1), &Verb::Approve { batch: Some(3) }).1.devices, Some(9));
    already(&manual(3, 3), &next);
    conflict(&manual(1, 1), &Verb::Approve { batch: Some(4) });
    conflict(&manual(1, 1), &Verb::Approve { batch: Some(0) });

    let asks = |open: i32, which: usize| {
        let mut status = json!({"currentBatch": open, "batches": rollout_batches()});
        status["batches"][which - 1]["approval"] = json!(true);
        rollout(&json!({}), &status)
    };
    already(&asks(0, 2), &Verb::Approve { batch: Some(1) });
    // The planner lets the third follow, which waits for nobody; a 3 would let it follow a second of which nobody is there.
    assert_eq!(change(&asks(1, 2), &next).0, json!({"approvedBatches": 2}));
    assert_eq!(change(&asks(1, 2), &next).1.text, "batch 2 (50%) may open: 4 devices");
    assert_eq!(change(&asks(2, 3), &next).0, json!({"approvedBatches": 3}));
    already(&going(), &next);
}

#[test]
fn what_is_open_or_approved_is_named_by_its_number() {
    let approve = |batch| Verb::Approve { batch };
    assert_eq!(already(&going(), &approve(Some(1))), "batch 1 of rollout app-1 is open already");
    assert_eq!(already(&going(), &approve(Some(2))), "batch 2 of rollout app-1 is open already");
    assert_eq!(already(&going(), &approve(Some(3))), "batch 3 of rollout app-1 is approved already");
    let all = rollout(&json!({}), &json!({"currentBatch": 3}));
    assert_eq!(already(&all, &approve(None)), "every batch of rollout app-1 is open already");
}

/// As the rollout's own message asks: "set spec.approvedBatches to 2 to go on without them".
#[test]
fn approving_goes_on_after_a_batch_of_which_nobody_is_there() {
    let deserted = |open: usize, approved: Value| {
        let mut status = json!({"currentBatch": open, "batches": rollout_batches()});
        let batch = &mut status["batches"][open - 1];
        batch["startTime"] = json!("2026-01-01T00:00:00Z");
        batch["deferred"] = batch["devices"].clone();
        rollout(&json!({"approvedBatches": approved}), &status)
    };
    let next = Verb::Approve { batch: None };
    let (spec, effect) = change(&deserted(1, Value::Null), &next);
    assert_eq!((spec, effect.devices), (json!({"approvedBatches": 2}), Some(4)));
    let text = "batch 2 (50%) may open: 4 devices, though nobody of batch 1 is there; \
                each one after it waits for approval, too";
    assert_eq!(effect.text, text);
    assert_eq!(change(&deserted(1, Value::Null), &Verb::Approve { batch: Some(2) }).0, json!({"approvedBatches": 2}));
    assert_eq!(change(&deserted(1, json!(1)), &next).0, json!({"approvedBatches": 2}));
    already(&deserted(1, json!(2)), &next);
    already(&deserted(1, Value::Null), &Verb::Approve { batch: Some(1) });
    // After the last one comes the end.
    let (spec, effect) = change(&deserted(3, Value::Null), &next);
    assert_eq!((spec, effect.devices), (json!({"approvedBatches": 4}), Some(0)));
    assert_eq!(effect.text, "it may end, though nobody of batch 3 is there");
    already(&deserted(3, json!(4)), &next);
    conflict(&deserted(3, Value::Null), &Verb::Approve { batch: Some(5) });
}

fn rollout_batches() -> Value {
    json!(going().status.expect("a status").batches)
}

fn policy(strategy: &str) -> ImageUpdatePolicy {
    serde_json::from_value(json!({
        "metadata": {"name": "app", "namespace": "plant", "uid": "u-2"},
        "spec": {"image": {"pattern": "acme/app:*"}, "devices": {"selector": {}}, "strategy": {"type": strategy}},
    }))
    .expect("a policy")
}

#[test]
fn starting_is_what_a_push_would_do() {
    let image = "acme/app:v2".parse().unwrap();
    let started = start(&policy("Staged"), &image, &jane(Some("by hand")));
    assert_eq!(started.metadata.name, Some(crate::registry::intake::first_name("app", &image)));
    assert_eq!(started.metadata.namespace.as_deref(), Some("plant"));
    assert_eq!(started.metadata.labels.as_ref().unwrap()[POLICY_LABEL], "app");
    assert_eq!(started.spec.approved_batches, None);
    let trigger = started.spec.trigger.as_ref().unwrap();
    assert_eq!((trigger.type_, trigger.actor.as_deref()), (crate::api::rollout::TriggerType::Manual, Some("jane")));
    assert_eq!(Act::of(&started.metadata).unwrap().who_and_why(), "jane: by hand");
    assert_eq!(start(&policy("Manual"), &image, &jane(None)).spec.approved_batches, Some(0));
    let digest = |digit: char| format!("acme/app@sha256:{}", digit.to_string().repeat(64)).parse().unwrap();
    let named = |digit: char| start(&policy("Staged"), &digest(digit), &jane(None)).metadata.name.unwrap();
    assert_ne!(named('1'), named('2'), "without a tag the digest names it");
}

#[test]
fn trying_again_is_one_rollout_however_often_it_is_asked_for() {
    for phase in ["RolledBack", "Cancelled", "Superseded", "Failed"] {
        let ended = rollout(&json!({"approvedBatches": 2}), &json!({"phase": phase}));
        let (once, twice) = (retry(&ended, &jane(None)).unwrap(), retry(&ended, &jane(Some("again"))).unwrap());
        assert_eq!(once.metadata.name, twice.metadata.name);
        assert_ne!(once.metadata.name, ended.metadata.name);
        assert_eq!((&once.spec.image, &once.spec.policy_ref), (&ended.spec.image, &ended.spec.policy_ref));
        assert_eq!(once.spec.approved_batches, None, "batches that ask nobody go on by themselves");
        let manual = json!({"phase": phase, "plan": {"strategy": "Manual"}});
        let again = retry(&rollout(&json!({"approvedBatches": 2}), &manual), &jane(None)).unwrap();
        assert_eq!(again.spec.approved_batches, Some(0), "what was approved then is not approved now");
    }
    for phase in [Phase::Completed, Phase::Progressing, Phase::Halted, Phase::RollingBack] {
        let text = retry(&rollout(&json!({}), &json!({"phase": phase})), &jane(None)).unwrap_err().text;
        assert!(text.contains(phase.as_str()), "{text}");
    }
}

#[test]
fn what_a_rollout_is_to_whoever_asks_for_one_of_its_name() {
    let image =
        |digest: Option<&str>| json!({"image": {"repository": "docker.io/acme/app", "tag": "v2", "digest": digest}});
    let there = |phase: &str, digest| rollout(&image(digest), &json!({"phase": phase}));
    let (one, other) = (format!("sha256:{}", "1".repeat(64)), format!("sha256:{}", "2".repeat(64)));
    let wanted = |digest| rollout(&image(digest), &json!({}));
    for phase in ["Progressing", "Paused", "Completed"] {
        assert_eq!(already_there(&there(phase, None), &wanted(None)), There::Same, "{phase}");
    }
    for (phase, ended) in
        [("Failed", Phase::Failed), ("RolledBack", Phase::RolledBack), ("Cancelled", Phase::Cancelled)]
    {
        assert_eq!(already_there(&there(phase, None), &wanted(None)), There::Ended(ended));
    }
    assert_eq!(already_there(&there("Completed", Some(&one)), &wanted(Some(&one))), There::Same);
    assert_eq!(already_there(&there("Completed", Some(&one)), &wanted(None)), There::Same);
    assert_eq!(already_there(&there("Completed", Some(&one)), &wanted(Some(&other))), There::OtherImage);
    assert_eq!(already_there(&there("Completed", None), &wanted(Some(&other))), There::OtherImage);
    let another = rollout(&json!({"image": {"tag": "v3"}}), &json!({}));
    assert_eq!(already_there(&there("Failed", None), &another), There::OtherImage);
}

#[test]
fn what_becomes_of_what_was_started() {
    let image = "acme/app:v2".parse().unwrap();
    let mut started = start(&policy("Staged"), &image, &jane(None));
    assert_eq!(course(&started).devices, None, "nobody has counted them");
    assert!(course(&started).text.contains("the first batch opens"));
    started.spec.not_before = Some(whole_seconds("2026-12-01T22:00:00Z".parse().unwrap()));
    assert_eq!(course(&started).text, "nothing is released before 2026-12-01T22:00:00Z");
    started.spec.paused = true;
    assert!(course(&started).text.starts_with("it is paused"));
    assert!(course(&start(&policy("Manual"), &image, &jane(None))).text.ends_with("each of which waits for approval"));
    assert_eq!(course(&going()), Effect { devices: Some(10), text: "it is Progressing".into() });
}
