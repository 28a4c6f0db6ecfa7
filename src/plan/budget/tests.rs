//! What looking found, and what follows: for devices, and for batches.

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::api::rollout::{BatchStatus, ImageRolloutStatus, Phase};
use crate::plan::explain;
use crate::plan::fixture::{Fixture, at, device, entry, policy, reported, rollout};
use crate::plan::proof::{BatchFinding, DeviceFinding, Finding};
use crate::plan::{Change, Plan, ValidatedPolicy};

const SOAK: i64 = 600;

/// Four devices of one batch that is open and runs the image since second 60; it is second 700.
fn running(checks: &Value, rollout_spec: &Value) -> Fixture {
    let policy = policy(&json!({
        "strategy": { "batches": [{ "size": "50%" }, { "size": "100%" }], "batchDelay": "10m" },
        "failurePolicy": { "maxFailureRate": "25%" },
        "healthChecks": checks,
    }));
    let devices: Vec<_> = ["a", "b", "c", "d"]
        .iter()
        .map(|name| {
            let spec = json!({ "images": [entry(&json!({ "releaseTime": at(60).to_string() }))] });
            device(name, &json!({ "spec": spec, "status": { "services": [reported("acme/web:v2", "running")] } }))
        })
        .collect();
    let mut fixture = Fixture::new(policy, rollout(rollout_spec), &devices, at(700));
    let valid = ValidatedPolicy::new(fixture.policy.as_ref().expect("there")).expect("valid");
    let (plan, batches) = valid.resolve(at(0), 4, &[u64::MAX / 2, u64::MAX]);
    let (phase, current_batch) = (Phase::Progressing, 1);
    fixture.rollout.status =
        Some(ImageRolloutStatus { phase, plan: Some(plan), batches, current_batch, ..Default::default() });
    fixture
}

fn checked(name: &str) -> Value {
    json!([{ "name": name, "tcp": { "port": 80 } }])
}

fn find(fixture: &mut Fixture, device: &str, finding: Finding) {
    let release = at(60).as_second();
    fixture.proofs.devices.insert(device.into(), DeviceFinding { release, finding });
}

fn first(plan: &Plan) -> (BatchStatus, String) {
    (plan.status.batches[0].clone(), plan.status.message.clone())
}

#[test]
fn running_is_not_healthy_before_its_checks_have_passed() {
    let mut fixture = running(&checked("web"), &json!({}));
    for name in ["a", "b"] {
        find(&mut fixture, name, Finding::Passed);
    }
    let (batch, message) = first(&fixture.plan());
    assert_eq!((batch.updated, batch.healthy, batch.failed, batch.completion_time), (4, 2, 0, None));
    assert!(message.starts_with("2 of 4 devices of batch 1 have no verdict yet"), "{message}");
    // Long past the deadline: that nobody has looked is nobody's failure.
    fixture.now = at(90_000);
    fixture.knowledge.as_of = Some(fixture.now);
    assert_eq!(first(&fixture.plan()).0.failed, 0);
    for name in ["c", "d"] {
        find(&mut fixture, name, Finding::Passed);
    }
    assert!(first(&fixture.plan()).0.completion_time.is_some());
}

#[test]
fn what_cannot_be_looked_at_is_no_verdict_and_says_so() {
    let mut fixture = running(&checked("web"), &json!({}));
    for name in ["a", "c", "d"] {
        find(&mut fixture, name, Finding::Passed);
    }
    find(&mut fixture, "b", Finding::Unknown("web: no way to 10.0.0.2 (NoRoute)".into()));
    fixture.now = at(90_000);
    fixture.knowledge.as_of = Some(fixture.now);
    let plan = fixture.plan();
    let (batch, message) = first(&plan);
    assert_eq!((batch.healthy, batch.failed, batch.completion_time), (3, 0, None));
    assert_eq!(
        message,
        "1 devices of batch 1 can't be checked, which is no verdict; b: web: no way to 10.0.0.2 (NoRoute)"
    );
    assert_eq!(plan.waiting_on[0].reason(), "HealthUnknown");
    let named: Vec<_> = plan.status.unchecked_devices.iter().map(|device| device.name.as_str()).collect();
    assert_eq!(named, ["b"]);
    assert_eq!(plan.requeue_at, Some(at(90_030)));
    let shown =
        fixture.look(|observed| explain::devices(observed, &crate::plan::plan(observed, fixture.now), fixture.now));
    let b = shown.iter().find(|report| report.device == "b").expect("there");
    assert_eq!(b.wait.to_string(), "runs the image, but can't be checked: web: no way to 10.0.0.2 (NoRoute)");
}

#[test]
fn what_could_not_be_looked_at_is_known_to_whoever_only_reads_the_status() {
    let mut fixture = running(&checked("web"), &json!({}));
    let unchecked = serde_json::from_value(json!([{ "name": "b", "message": "web: no way to it" }])).expect("a list");
    fixture.rollout.status.as_mut().expect("there").unchecked_devices = unchecked;
    let stored = fixture.rollout.status.clone().expect("there");
    let plan = Plan { status: stored, ..fixture.plan() };
    let shown = fixture.look(|observed| explain::devices(observed, &plan, fixture.now));
    let reason = |name: &str| shown.iter().find(|report| report.device == name).map(|report| report.wait.reason());
    assert_eq!(
        [reason("a"), reason("b"), reason("c")],
        [Some("CheckingHealth"), Some("HealthUnknown"), Some("CheckingHealth")]
    );
}

#[test]
fn after_the_end_nobody_is_looked_at_again() {
    let mut fixture = running(&checked("web"), &json!({}));
    let status = fixture.rollout.status.as_mut().expect("there");
    let end = crate::api::time::whole_seconds(at(500));
    (status.phase, status.completion_time) = (Phase::Completed, Some(end));
    let plan = fixture.plan();
    let shown = fixture.look(|observed| explain::devices(observed, &plan, fixture.now));
    let reasons: Vec<&str> = shown.iter().map(|report| report.wait.reason()).collect();
    assert_eq!(reasons, ["Healthy"; 4]);
}

#[test]
fn of_one_that_has_its_verdict_no_look_is_waited_for() {
    let mut fixture = running(&checked("web"), &json!({}));
    let failed = fixture.views.iter_mut().find(|view| view.name == "b").expect("there");
    failed.updates = serde_json::from_value(crate::plan::fixture::failed()).expect("verdicts");
    find(&mut fixture, "b", Finding::Unknown("web: no way to 10.0.0.2 (NoRoute)".into()));
    let reasons: Vec<&str> = fixture.plan().waiting_on.iter().map(|on| on.reason()).collect();
    assert_eq!(reasons, ["AwaitingVerdicts"]);
}

#[test]
fn a_failed_check_is_a_verdict_and_counts() {
    let mut fixture = running(&checked("web"), &json!({}));
    for (name, finding) in [
        ("a", Finding::Passed),
        ("b", Finding::Failed("web failed: status 500, not 200 (Status)".into())),
        ("c", Finding::Failed("web failed: refused (Refused)".into())),
        ("d", Finding::Pending),
    ] {
        find(&mut fixture, name, finding);
    }
    let plan = fixture.plan();
    assert_eq!((plan.status.phase, plan.status.batches[0].failed), (Phase::Halted, 2));
    let verdicts: Vec<(&str, &str, &str)> = plan
        .actions
        .iter()
        .filter_map(|action| match &action.change {
            Change::Verdicts { updates } => Some((&*action.device, &*updates[0].reason, &*updates[0].message)),
            Change::Images { .. } => None,
        })
        .collect();
    assert_eq!(
        verdicts,
        [
            ("b", "HealthCheckFailed", "health check web failed: status 500, not 200 (Status)"),
            ("c", "HealthCheckFailed", "health check web failed: refused (Refused)"),
        ]
    );
}

/// All devices pass at second 700, so that the soak is over at 1301; the analysis says this, found then.
fn analysed(found: Option<(i64, Finding)>, rollout_spec: &Value, now: i64) -> Plan {
    let analysis =
        json!([{ "name": "errors", "analysis": { "url": "http://prometheus", "query": "errors", "max": "0" } }]);
    let mut fixture = running(&analysis, rollout_spec);
    let _ = fixture.settle();
    fixture.now = at(now);
    fixture.knowledge.as_of = Some(fixture.now);
    if let Some((seconds, finding)) = found {
        let found = BatchFinding { analysis: "errors".into(), at: at(seconds), finding };
        fixture.proofs.batches.insert(1, vec![found]);
    }
    fixture.settle()
}

#[test]
fn a_batch_waits_for_what_its_analysis_says_after_the_soak() {
    let over = 701 + SOAK;
    let unknown = || Finding::Unknown("errors: no samples (NotJudged)".into());
    let waits = "analysis errors is asked about batch 1";
    for (found, now, expected) in [
        (Some((over - 1, Finding::Passed)), over - 1, "batch 1 is being watched until"),
        (None, over, waits),
        (Some((over - 1, Finding::Passed)), over, waits),
        (Some((over, Finding::Pending)), over, waits),
        (Some((over, unknown())), over, "batch 1 can't be analysed, which is no verdict; errors: no samples"),
        (Some((over, Finding::Passed)), over, "2 of"),
    ] {
        let shown = format!("{found:?} at {now}");
        let plan = analysed(found, &json!({}), now);
        assert_eq!(plan.status.current_batch == 2, expected == "2 of", "{shown}");
        if plan.status.current_batch == 1 {
            assert!(plan.status.message.starts_with(expected), "{shown}: {}", plan.status.message);
            assert_eq!(plan.status.phase, Phase::Soaking, "{shown}");
            assert!(plan.requeue_at > Some(at(now)), "{shown}");
        }
    }
}

#[test]
fn an_analysis_that_failed_stays_on_record_whatever_is_found_later() {
    let analysis =
        json!([{ "name": "errors", "analysis": { "url": "http://prometheus", "query": "errors", "max": "0" } }]);
    let mut fixture = running(&analysis, &json!({}));
    let found = |seconds: i64, finding| vec![BatchFinding { analysis: "errors".into(), at: at(seconds), finding }];
    fixture.proofs.batches.insert(1, found(700, Finding::Failed("errors: before all ran it".into())));
    assert_eq!(fixture.plan().status.batches[0].failed_analysis, None, "the batch is not complete yet");
    fixture.proofs.batches.clear();
    let _ = fixture.settle();
    fixture.proofs.batches.insert(1, found(710, Finding::Failed("errors failed".into())));
    let failed = fixture.settle().status.batches[0].failed_analysis.clone();
    assert!(failed.is_some());
    fixture.proofs.batches.insert(1, found(720, Finding::Passed));
    fixture.now = at(720);
    assert_eq!(fixture.settle().status.batches[0].failed_analysis, failed);
}

#[test]
fn a_failed_analysis_halts_until_a_person_has_seen_it() {
    let why = "errors failed: 3 is more than 0 (Judged)";
    let bad = || Some((720, Finding::Failed(why.into())));
    let plan = analysed(bad(), &json!({}), 720);
    assert_eq!(plan.status.phase, Phase::Halted);
    assert_eq!(
        plan.status.message,
        format!(
            "halted: an analysis of batch 1 failed, {why}; set spec.acknowledgedFailures to 1 to go on, or \
             spec.desiredState to RolledBack"
        )
    );
    let told: Vec<Timestamp> =
        plan.status.batches.iter().filter_map(|b| Some(b.failed_analysis.as_ref()?.time.0)).collect();
    assert_eq!(told, [at(720)]);
    // Seen: the soak goes on, and the analysis has no more to say.
    let plan = analysed(bad(), &json!({ "acknowledgedFailures": 1 }), 720);
    assert_eq!((plan.status.phase, plan.status.halted), (Phase::Soaking, None));
    assert!(plan.status.batches[0].failed_analysis.as_ref().is_some_and(|failed| failed.acknowledged));
    let plan = analysed(bad(), &json!({ "acknowledgedFailures": 1 }), 701 + SOAK);
    assert_eq!(plan.status.current_batch, 2);
}
