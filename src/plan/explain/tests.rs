use serde_json::{Value, json};

use super::*;
use crate::api::Device;
use crate::api::rollout::DesiredState;
use crate::plan::fixture::{Fixture, REPOSITORY, apps, at, device, entry, failed, policy, reported, rollout};
use crate::plan::observed::Evidence;

/// A rollout that has just started, at second 700.
fn started(spec: &Value, devices: &[Device]) -> Fixture {
    let mut fixture = Fixture::new(policy(spec), rollout(&json!({})), devices, at(700));
    let _ = fixture.settle();
    fixture
}

fn explained(fixture: &mut Fixture) -> Vec<DeviceReport> {
    let plan = fixture.settle();
    fixture.look(|observed| devices(observed, &plan, fixture.now))
}

fn told(patch: &Value, image: &str, status: &str) -> Value {
    json!({ "spec": { "images": [entry(patch)] }, "status": { "services": [reported(image, status)] } })
}

type Then = fn(&mut Fixture);

/// One batch of one device: what it has, what happens after the start, and why it stands where it stands.
fn ways() -> Vec<(&'static str, Value, Then, DeviceWait)> {
    let just_now = json!({ "releaseTime": at(690).to_string() });
    let on_its_way = told(&just_now, "acme/web:v1", "running");
    let back = json!({ "image": "docker.io/acme/web:v1", "rolledBack": true });
    let mut known = told(&json!({}), "acme/web:v2", "exited");
    known["status"]["updates"] = failed();
    let mut edited = told(&just_now, "acme/web:v2", "running");
    edited["spec"]["apps"] = apps("acme/web:v3");
    let mut claimed = on_its_way.clone();
    let fields = json!({ "f:spec": { "f:images": { format!("k:{}", json!({ "repository": REPOSITORY })): {} } } });
    let owner = |manager: &str| json!({ "manager": manager, "operation": "Apply", "fieldsType": "FieldsV1", "fieldsV1": fields });
    claimed["metadata"] = json!({ "managedFields": [owner("kubectl"), owner("tranche-policy/web")] });
    let pause: Then = |fixture| fixture.rollout.spec.paused = true;
    let updating = |deadline| DeviceWait::Updating { deadline, evidence: Evidence::OtherImage };
    let failure = |message: &str| DeviceWait::Failed { reason: "DeadlineExceeded".into(), message: message.into() };
    vec![
        ("it is its turn", json!({}), |_| {}, DeviceWait::NextPass),
        ("paused", json!({}), pause, DeviceWait::Stopped { phase: "Paused" }),
        (
            "cancelled",
            json!({}),
            |fixture| fixture.rollout.spec.desired_state = DesiredState::Cancelled,
            DeviceWait::Stopped { phase: "Cancelled" },
        ),
        ("never seen", json!({}), |fixture| fixture.seen.clear(), DeviceWait::NeverSeen),
        (
            "away",
            json!({}),
            |fixture| fixture.seen.values_mut().for_each(|seen| *seen = at(100)),
            DeviceWait::Offline { since: at(100) },
        ),
        ("held", json!({ "spec": { "hold": true } }), |_| {}, DeviceWait::Held),
        ("named", json!({}), |fixture| fixture.rollout.spec.roll_back_devices = vec!["d".into()], DeviceWait::Excluded),
        ("on its way", on_its_way.clone(), |_| {}, updating(Some(at(1290)))),
        ("nobody's time runs out in a pause", on_its_way, pause, updating(None)),
        (
            "away before it could ask",
            told(&json!({}), "acme/web:v1", "running"),
            |fixture| fixture.seen.values_mut().for_each(|seen| *seen = at(0)),
            DeviceWait::Unfetched { since: at(0) },
        ),
        ("failed on record", known, |_| {}, failure("it did not come up")),
        (
            "failed just now",
            told(&json!({}), "acme/web:v2", "exited"),
            |_| {},
            failure(
                "reports the image, but its container is not running 600 s or more after it was told docker.io/acme/web:v2",
            ),
        ),
        (
            "going back",
            told(&back, "acme/web:v2", "running"),
            |_| {},
            DeviceWait::NotBack { evidence: Evidence::OtherImage },
        ),
        ("back", told(&back, "acme/web:v1", "running"), |_| {}, DeviceWait::Back),
        ("well", told(&json!({}), "acme/web:v2", "running"), |_| {}, DeviceWait::Healthy),
        ("claimed", claimed, |_| {}, DeviceWait::Claimed { manager: "kubectl".into() }),
        ("edited", edited, |_| {}, DeviceWait::Overridden { declared: "docker.io/acme/web:v3".into() }),
    ]
}

#[test]
fn why_a_device_stands_where_it_stands() {
    let spec = json!({
        "strategy": { "type": "Auto", "maxConcurrent": 1 }, "failurePolicy": { "maxFailureRate": "100%" },
    });
    for (what, patch, then, wait) in ways() {
        let mut fixture = started(&spec, &[device("d", &patch)]);
        then(&mut fixture);
        assert_eq!(explained(&mut fixture), [DeviceReport { device: "d".into(), batch: 1, wait }], "{what}");
    }
}

/// One word and one sentence for each, and no two share them.
#[test]
fn no_two_reasons_look_alike() {
    let ways = ways();
    let kind = |wait: &DeviceWait| std::mem::discriminant(wait);
    for (a, .., one) in &ways {
        for (b, .., other) in ways.iter().filter(|(.., other)| kind(other) != kind(one)) {
            assert_ne!(one.reason(), other.reason(), "{a}, {b}");
            assert_ne!(one.to_string(), other.to_string(), "{a}, {b}");
        }
    }
}

fn waits(fixture: &mut Fixture) -> Vec<DeviceWait> {
    explained(fixture).into_iter().map(|report| report.wait).collect()
}

#[test]
fn what_the_rollout_waits_for_is_the_devices_reason_too() {
    let one = [device("d", &json!({}))];
    let suspended = json!({ "suspend": true });
    let not_started = [DeviceReport { device: "d".into(), batch: 0, wait: DeviceWait::NotStarted }];
    assert_eq!(explained(&mut started(&suspended, &one)), not_started);

    // The story begins at 08:00; the window shuts at 08:15.
    let window = json!({ "strategy": { "type": "Auto", "windows": [{ "start": "08:00", "end": "08:15" }] } });
    let mut fixture = started(&window, &one);
    let later = |fixture: &mut Fixture| {
        fixture.now = at(1000);
        fixture.knowledge.as_of = Some(at(1000));
        fixture.seen.values_mut().for_each(|seen| *seen = at(1000));
    };
    later(&mut fixture);
    assert_eq!(waits(&mut fixture), [DeviceWait::WindowShut]);
    // A latecomer waits for it, too.
    let well = device("well", &told(&json!({}), "acme/web:v2", "running"));
    let mut fixture = started(&window, std::slice::from_ref(&well));
    assert_eq!(fixture.settle().status.phase, Phase::Completed);
    fixture.views.push(crate::plan::DeviceView::new(&one[0]));
    fixture.seen.insert("d".into(), at(700));
    later(&mut fixture);
    assert_eq!(waits(&mut fixture), [DeviceWait::Healthy, DeviceWait::WindowShut]);
    fixture.now = at(1100);
    fixture.policy = Some(policy(&json!({ "suspend": true })));
    fixture.rollout.status.as_mut().unwrap().plan.as_mut().unwrap().windows.clear();
    assert_eq!(waits(&mut fixture), [DeviceWait::Healthy, DeviceWait::Stopped { phase: "Completed" }]);

    let on_its_way = told(&json!({ "releaseTime": at(690).to_string() }), "acme/web:v1", "running");
    let two = [device("a", &on_its_way), device("b", &json!({}))];
    let mut fixture = started(&json!({ "strategy": { "type": "Auto", "maxConcurrent": 1 } }), &two);
    assert_eq!(waits(&mut fixture)[1], DeviceWait::Turn { limit: 1 });
}

#[test]
fn nobody_is_judged_any_more_after_the_end() {
    let spec = json!({ "strategy": { "type": "Auto" } });
    let mut fixture = started(&spec, &[device("d", &told(&json!({}), "acme/web:v2", "running"))]);
    assert_eq!(fixture.settle().status.phase, Phase::Completed);
    let down = device("d", &told(&json!({}), "acme/web:v2", "exited"));
    fixture.views = vec![crate::plan::DeviceView::new(&down)];
    assert_eq!(waits(&mut fixture), [DeviceWait::Healthy]);
}

#[test]
fn in_the_order_of_their_turns() {
    let spec = json!({ "strategy": { "batches": [{ "size": "50%" }, { "size": "100%" }] } });
    let names: Vec<String> = (0..10).map(|index| format!("d{index}")).collect();
    let fleet: Vec<Device> = names.iter().map(|name| device(name, &json!({}))).collect();
    let reports = explained(&mut started(&spec, &fleet));
    let mut turns = names;
    turns.sort_by_key(|name| cohort::rank("uid", name));
    assert_eq!(reports.iter().map(|report| report.device.clone()).collect::<Vec<_>>(), turns);
    for (index, report) in reports.iter().enumerate() {
        let expected = if index < 5 { (1, DeviceWait::NextPass) } else { (2, DeviceWait::BatchNotOpen { batch: 2 }) };
        assert_eq!((report.batch, report.wait.clone()), expected, "{}", report.device);
    }
}

#[test]
fn a_transition_is_more_than_figures() {
    let fixture = started(&json!({}), &[device("d", &json!({}))]);
    let old = fixture.rollout.status.unwrap();
    assert!(!is_transition(&old, &old));
    let mut new = old.clone();
    new.message = "other words".into();
    assert!(!is_transition(&old, &new));
    new.phase = Phase::Paused;
    assert!(is_transition(&old, &new));
}
