//! Budget, soak, approval, windows: the gates between batches.

use serde_json::{Value, json};

use super::*;
use crate::api::Device;
use crate::plan::fixture::{at, device, entry, failed, in_batch, reported, running};
use crate::plan::{MAX_ACTIONS, Plan, Reason, StatusWrite};

fn first_batch(healthy: usize, failed: usize, open: usize) -> Vec<Device> {
    let verdicts = [(healthy, Some(true)), (failed, Some(false)), (open, None)];
    verdicts
        .iter()
        .enumerate()
        .flat_map(|(kind, (count, verdict))| {
            (0..*count).map(move |index| in_batch(&format!("d{kind}-{index:02}"), 1, *verdict))
        })
        .collect()
}

#[test]
fn the_budget_rounds_down_and_trips_early() {
    for (rate, healthy, failed, open, halts) in [
        ("0%", 9, 0, 1, false),
        ("0%", 0, 1, 9, true), // At once, not when the batch is done.
        ("20%", 0, 2, 8, false),
        ("20%", 0, 3, 7, true),
        ("20%", 3, 1, 0, true), // floor(0.8) is none.
        ("20%", 4, 1, 0, false),
        ("50%", 1, 1, 0, false),
        ("99%", 0, 1, 0, true),
        ("100%", 0, 3, 0, false),
    ] {
        let spec = json!({ "failurePolicy": { "maxFailureRate": rate } });
        let plan = running(&spec, &json!({}), &first_batch(healthy, failed, open)).plan();
        assert_eq!(plan.status.halted.is_some(), halts, "{rate} of {healthy}+{failed}+{open}");
        assert_eq!(plan.status.phase == Phase::Halted, halts);
    }
}

#[test]
fn a_batch_may_have_a_budget_of_its_own() {
    for (rate, halts) in [("50%", false), ("10%", true)] {
        let spec = json!({
            "strategy": { "batches": [{ "size": "50%", "maxFailureRate": rate }, { "size": "100%" }] },
            "failurePolicy": { "maxFailureRate": "20%" },
        });
        let plan = running(&spec, &json!({}), &first_batch(3, 1, 0)).plan();
        assert_eq!(plan.status.halted.is_some(), halts, "{rate}");
        let plan = running(&spec, &json!({}), &first_batch(1, 3, 0)).plan();
        let tolerated = if halts { 0 } else { 2 };
        let line = format!("3 of 4 devices of batch 1 failed, {tolerated} tolerated");
        assert!(plan.status.message.contains(&line), "{}", plan.status.message);
        assert!(plan.status.history.iter().any(|entry| entry.message == line), "{:?}", plan.status.history);
    }
}

#[test]
fn few_verdicts_stop_nothing_half_way() {
    for (sample, healthy, failed, open, halts) in [
        (4, 0, 1, 9, false),
        (4, 2, 1, 7, false),
        (4, 3, 1, 6, true),
        (1, 0, 1, 9, true),
        // All of them have one: what the batch was judged by all along.
        (50, 3, 1, 0, true),
        (50, 4, 0, 0, false),
    ] {
        let spec = json!({ "failurePolicy": { "maxFailureRate": "0%", "minSample": sample } });
        let plan = running(&spec, &json!({}), &first_batch(healthy, failed, open)).plan();
        assert_eq!(plan.status.halted.is_some(), halts, "{sample}: {healthy}+{failed}+{open}");
        assert!(plan.status.current_batch == 1 || !halts && open == 0, "the next batch stays shut");
    }
}

#[test]
fn acknowledged_failures_stay_with_their_batch() {
    let half = json!({ "failurePolicy": { "maxFailureRate": "50%" } });
    let mut devices = first_batch(0, 2, 0);
    devices.extend((0..4).map(|index| in_batch(&format!("e{index}"), 2, Some(index != 0))));
    let mut fixture = running(&half, &json!({ "acknowledgedFailures": 2 }), &devices[..2]);
    let plan = fixture.settle();
    assert_eq!((plan.status.halted, plan.status.batches[0].acknowledged), (None, 2));
    // One more failure, which the budget of its own batch allows.
    let old = fixture.rollout;
    let mut fixture = running(&half, &json!({}), &devices);
    fixture.rollout = old;
    let status = fixture.rollout.status.as_mut().unwrap();
    status.current_batch = 2;
    // The second batch was empty, so that it was done already.
    status.phase = Phase::Progressing;
    status.completion_time = None;
    status.batches[1].start_time = Some(whole_seconds(at(0)));
    assert_eq!(fixture.plan().status.halted, None);
    // And one more in the first, which nobody has seen.
    let more = in_batch("d9", 1, Some(false));
    fixture.views.push(crate::plan::DeviceView::new(&more));
    fixture.seen.insert("d9".into(), at(700));
    assert_eq!(fixture.plan().status.halted.unwrap().batch, 1);
}

#[test]
fn a_halt_stays_until_a_person_has_seen_it() {
    let spec = json!({ "failurePolicy": { "maxFailureRate": "0%" } });
    let mut fixture = running(&spec, &json!({}), &first_batch(1, 1, 0));
    let halted = fixture.settle().status.halted.unwrap();
    assert_eq!((halted.batch, halted.failures), (1, 1));
    // The device goes away: still halted.
    let gone = fixture.views.pop().unwrap();
    assert_eq!(fixture.settle().status.halted.unwrap().failures, 1);
    // It is back, and another one fails: both are to be seen.
    fixture.views.extend([gone, crate::plan::DeviceView::new(&in_batch("e", 1, Some(false)))]);
    fixture.seen.insert("e".into(), at(700));
    assert_eq!(fixture.settle().status.halted.unwrap().failures, 2);
    fixture.rollout.spec.acknowledged_failures = 1;
    assert!(fixture.settle().status.halted.is_some());
    fixture.rollout.spec.acknowledged_failures = 2;
    let plan = fixture.settle();
    assert_eq!(plan.status.halted, None);
    assert!(plan.status.resume_time.is_some(), "deadlines start again");
}

#[test]
fn nothing_follows_from_a_verdict_that_is_not_stored() {
    let down = device(
        "d",
        &json!({
            "spec": { "images": [entry(&json!({}))] },
            "status": { "services": [reported("acme/web:v2", "exited")] },
        }),
    );
    let spec = json!({ "failurePolicy": { "maxFailureRate": "100%" } });
    let plan = running(&spec, &json!({}), &[down]).plan();
    assert_eq!(plan.actions.len(), 1);
    assert_eq!(plan.actions[0].reason, Reason::Verdict);
    assert_eq!((plan.status.current_batch, plan.status.batches[0].completion_time.clone()), (1, None));
}

fn waits(plan: &Plan) -> Vec<&'static str> {
    plan.waiting_on.iter().map(WaitingOn::reason).collect()
}

#[test]
fn the_soak_is_never_shorter_than_promised() {
    let spec = json!({ "strategy": { "batches": [{ "size": "50%", "delay": "10m" }, { "size": "100%" }] } });
    let mut fixture = running(&spec, &json!({}), &first_batch(2, 0, 0));
    let plan = fixture.settle();
    assert_eq!((plan.status.phase, waits(&plan)), (Phase::Soaking, vec!["Soaking"]));
    assert_eq!(plan.requeue_at, Some(at(1301)));
    for (second, batch) in [(1299, 1), (1300, 1), (1301, 2)] {
        fixture.now = at(second);
        fixture.knowledge.as_of = Some(at(second));
        assert_eq!(fixture.plan().status.current_batch, batch, "{second}");
    }
}

#[test]
fn gates_in_their_order() {
    let strategy = |patch: &Value| {
        let mut base = json!({ "batches": [{ "size": "50%" }, { "size": "100%" }] });
        base.as_object_mut().unwrap().extend(patch.as_object().unwrap().clone());
        json!({ "strategy": base })
    };
    let shut = strategy(&json!({ "windows": [{ "start": "22:00", "end": "23:00" }] }));
    let manual = strategy(&json!({ "type": "Manual" }));
    let flagged = strategy(&json!({ "batches": [{ "size": "50%" }, { "size": "100%", "approval": true }] }));
    let first_asks = strategy(&json!({ "batches": [{ "size": "50%", "approval": true }, { "size": "100%" }] }));
    let paused = json!({ "paused": true });
    let later = json!({ "notBefore": at(5000).to_string() });
    for (what, spec, rollout_spec, phase, reasons) in [
        ("paused", json!({}), paused.clone(), Phase::Paused, vec!["Paused"]),
        ("paused before all else", shut.clone(), paused, Phase::Paused, vec!["Paused"]),
        ("too early", json!({}), later, Phase::Progressing, vec!["NotBefore"]),
        ("window", shut, json!({}), Phase::Progressing, vec!["WindowShut"]),
        ("nobody approved", manual, json!({}), Phase::AwaitingApproval, vec!["AwaitingApproval"]),
        (
            "only the first",
            json!({}),
            json!({ "approvedBatches": 1 }),
            Phase::AwaitingApproval,
            vec!["AwaitingApproval"],
        ),
        ("this batch needs it", flagged.clone(), json!({}), Phase::AwaitingApproval, vec!["AwaitingApproval"]),
        ("and has it", flagged, json!({ "approvedBatches": 2 }), Phase::Completed, vec![]),
        ("and those after it go on", first_asks, json!({ "approvedBatches": 1 }), Phase::Completed, vec![]),
        ("just now", json!({}), json!({ "notBefore": at(700).to_string() }), Phase::Completed, vec![]),
        ("nothing in the way", json!({}), json!({}), Phase::Completed, vec![]),
    ] {
        let mut fixture = running(&spec, &rollout_spec, &first_batch(2, 0, 0));
        let plan = fixture.settle();
        assert_eq!((plan.status.phase, waits(&plan)), (phase, reasons), "{what}: {}", plan.status.message);
        assert_eq!(plan.write, StatusWrite::None);
        assert!(plan.actions.is_empty() && plan.requeue_at.is_none_or(|at| at > fixture.now), "{what}");
    }
}

#[test]
fn open_batches_wait_for_the_time_that_a_person_set() {
    let waiting = device("d", &json!({}));
    let mut fixture = running(&json!({}), &json!({ "notBefore": at(5000).to_string() }), &[waiting]);
    fixture.rollout.status.as_mut().unwrap().current_batch = 2;
    let plan = fixture.plan();
    assert!(plan.actions.is_empty());
    assert_eq!((waits(&plan)[0], plan.requeue_at), ("NotBefore", Some(at(5000))));
}

#[test]
fn a_place_is_free_once_the_verdict_is_on_record() {
    let spec = json!({
        "strategy": { "batches": [{ "size": "50%" }, { "size": "100%" }], "maxConcurrent": 1 },
        "failurePolicy": { "maxFailureRate": "100%", "rollBackFailedDevices": false },
        "updateDeadline": "60s",
    });
    let told = |updates: Value| {
        let patch = json!({ "spec": { "images": [entry(&json!({}))] }, "status": { "updates": updates } });
        let mut fixture = running(&spec, &json!({}), &[device("overdue", &patch), device("next", &json!({}))]);
        fixture.rollout.status.as_mut().unwrap().batches[0].boundary = "f".repeat(16);
        fixture.plan().actions.iter().map(|action| action.reason.as_str()).collect::<Vec<_>>()
    };
    assert_eq!(told(json!([])), ["Verdict"]);
    assert_eq!(told(failed()), ["Release"]);
}

#[test]
fn a_clock_that_is_behind_releases_nothing_twice() {
    let mut fixture = running(&json!({}), &json!({}), &[device("next", &json!({}))]);
    let status = fixture.rollout.status.as_mut().unwrap();
    status.batches[0].boundary = "f".repeat(16);
    let start = status.plan.as_ref().unwrap().start_time.0;
    fixture.now = start - jiff::SignedDuration::from_secs(5);
    let plan = fixture.plan();
    let [crate::plan::Action { change: crate::plan::Change::Images { entries, .. }, .. }] = plan.actions.as_slice()
    else {
        panic!("{:?}", plan.actions)
    };
    assert!(entries[0].release_time.0 >= start, "it would be taken for another rollout's");
}

fn reasons(plan: &Plan) -> Vec<Reason> {
    plan.actions.iter().map(|action| action.reason).collect()
}

/// So that a stop that comes in meanwhile is seen soon.
#[test]
fn a_pass_writes_to_so_many_devices_and_no_more() {
    let spec = json!({ "failurePolicy": { "maxFailureRate": "100%" } });
    let told = |image: &str, status: &str, updates: &Value| {
        json!({
            "spec": { "images": [entry(&json!({}))] },
            "status": { "services": [reported(image, status)], "updates": updates },
        })
    };
    let none = json!([]);
    for (what, patch, seen, reason) in [
        ("to be released", json!({}), 700, Reason::Release),
        ("away before they could ask", told("acme/web:v1", "running", &none), 0, Reason::Withdraw),
        ("too late", told("acme/web:v2", "exited", &none), 700, Reason::Verdict),
        ("failed", told("acme/web:v2", "exited", &failed()), 700, Reason::RollBackFailed),
    ] {
        // Of those without an entry, half are in the first batch.
        let devices: Vec<Device> = (0..3 * MAX_ACTIONS).map(|index| device(&format!("d{index}"), &patch)).collect();
        let mut fixture = running(&spec, &json!({}), &devices);
        fixture.seen.values_mut().for_each(|time| *time = at(seen));
        let reasons = reasons(&fixture.plan());
        assert_eq!(reasons.len(), MAX_ACTIONS, "{what}");
        assert!(reasons.iter().all(|written| *written == reason), "{what}: {:?}", reasons[0]);
    }
}

#[test]
fn those_that_went_away_keep_their_place_until_they_are_withdrawn() {
    let waiting = device("d", &json!({}));
    let spec = json!({ "strategy": { "maxConcurrent": 2 } });
    let mut fixture = running(&spec, &json!({}), &[in_batch("gone", 1, None), in_batch("here", 1, None), waiting]);
    fixture.rollout.status.as_mut().unwrap().batches[0].boundary = format!("{:x}", u64::MAX);
    assert_eq!(reasons(&fixture.plan()), [], "both are on their way");
    fixture.seen.insert("gone".into(), at(500));
    assert_eq!(reasons(&fixture.plan()), [Reason::Withdraw], "it may be back any moment");
    // Nothing moves while the rollout is stopped, by whomever.
    fixture.rollout.spec.paused = true;
    assert_eq!(reasons(&fixture.plan()), []);
    fixture.rollout.spec.paused = false;
    let halted = json!({ "time": at(600).to_string(), "batch": 1, "failures": 1 });
    fixture.rollout.status.as_mut().unwrap().halted = Some(serde_json::from_value(halted).unwrap());
    assert_eq!(reasons(&fixture.plan()), []);
}

#[test]
fn only_what_was_approved_goes_on_without_anybody() {
    let away = [in_batch("d", 1, None)];
    for (approved, nobody) in [(json!(null), true), (json!(1), true), (json!(2), false)] {
        let mut fixture = running(&json!({}), &json!({ "approvedBatches": approved }), &away);
        fixture.seen.insert("d".into(), at(0));
        let plan = fixture.settle();
        assert_eq!(plan.waiting_on.iter().any(|on| on.reason() == "NobodyThere"), nobody, "{approved}");
        assert_eq!(plan.status.current_batch > 1, !nobody, "{approved}");
    }
}

/// Whoever lets a batch open has not said what is to be if nobody of it is there.
#[test]
fn approving_a_batch_is_no_word_on_its_devices() {
    let asks = json!({ "strategy": { "batches": [{ "size": "50%", "approval": true }, { "size": "100%" }] } });
    let mut fixture = running(&asks, &json!({ "approvedBatches": 1 }), &[in_batch("d", 1, None)]);
    fixture.seen.insert("d".into(), at(0));
    let plan = fixture.settle();
    assert!(plan.waiting_on.iter().any(|on| on.reason() == "NobodyThere"), "{}", plan.status.message);
    assert_eq!(plan.status.current_batch, 1);
    let status = fixture.rollout.status.as_ref().unwrap();
    assert!(crate::plan::approval::nobody_is_there(&status.batches[0]), "as the verbs see it");
}

/// Each by itself keeps everybody where they are.
#[test]
fn what_keeps_an_open_batch_from_being_released() {
    let window = json!({ "strategy": { "type": "Auto", "windows": [{ "start": "22:00", "end": "23:00" }] } });
    let auto = json!({ "strategy": { "type": "Auto" } });
    let halted = || serde_json::from_value(json!({ "time": at(600).to_string(), "batch": 1, "failures": 1 })).unwrap();
    type Then = fn(&mut crate::plan::fixture::Fixture);
    let silent: Then = |fixture| fixture.knowledge.as_of = Some(at(600));
    for (what, spec, rollout_spec, halt, then, released) in [
        ("nothing", &auto, json!({}), false, (|_| {}) as Then, true),
        ("a pause", &auto, json!({ "paused": true }), false, |_| {}, false),
        ("a halt", &auto, json!({}), true, |_| {}, false),
        ("the time", &auto, json!({ "notBefore": at(5000).to_string() }), false, |_| {}, false),
        ("no word of who is there", &auto, json!({}), false, silent, false),
        ("a window", &window, json!({}), false, |_| {}, false),
    ] {
        let mut fixture = running(spec, &rollout_spec, &[device("d", &json!({}))]);
        fixture.rollout.status.as_mut().unwrap().halted = halt.then(halted);
        then(&mut fixture);
        assert_eq!(reasons(&fixture.plan()) == [Reason::Release], released, "{what}");
    }
}

#[test]
fn the_first_in_rank_go_first() {
    let fleet: Vec<Device> = (0..40).map(|index| device(&format!("d{index}"), &json!({}))).collect();
    let plan = running(&json!({ "strategy": { "maxConcurrent": 3 } }), &json!({}), &fleet).plan();
    let mut turns: Vec<String> = (0..40).map(|index| format!("d{index}")).collect();
    turns.sort_by_key(|name| cohort::rank("uid", name));
    let released: Vec<&str> = plan.actions.iter().map(|action| action.device.as_str()).collect();
    assert_eq!(released, turns[..3]);
}

/// Who waits for nothing but verdicts isn't told of gates that hold up nobody.
#[test]
fn gates_that_hold_up_nobody_are_not_named() {
    let on_its_way = [in_batch("d", 1, None)];
    let windows = json!({ "batches": [{ "size": "100%" }], "windows": [{ "start": "22:00", "end": "23:00" }] });
    for (spec, rollout_spec) in [
        (json!({ "strategy": { "maxConcurrent": 1 } }), json!({})),
        (json!({ "strategy": windows }), json!({})),
        (json!({}), json!({ "notBefore": at(5000).to_string() })),
    ] {
        let plan = running(&spec, &rollout_spec, &on_its_way).plan();
        assert_eq!(waits(&plan), ["AwaitingVerdicts"], "{spec}");
        assert_eq!(plan.requeue_at, Some(at(1290)), "its deadline");
    }
}
