use serde_json::{Value, json};

use super::*;
use crate::api::Device;
use crate::plan::explain;
use crate::plan::fixture::{Fixture, at, device, entry, failed, reported, rollout, running};
use crate::plan::report::DeviceWait;

fn fleet() -> Vec<Device> {
    let told = |patch: &Value, image: &str| json!({ "spec": { "images": [entry(patch)] }, "status": { "services": [reported(image, "running")] } });
    let now = json!({ "releaseTime": at(690).to_string() });
    let mut judged = told(&now, "acme/web:v2");
    judged["status"]["updates"] = failed();
    let mut fleet: Vec<Device> = (0..20).map(|number| device(&format!("d{number}"), &json!({}))).collect();
    fleet.push(device("told", &told(&now, "acme/web:v1")));
    fleet.push(device("well", &told(&now, "acme/web:v2")));
    fleet.push(device("judged", &judged));
    fleet.push(device("held", &json!({ "spec": { "hold": true } })));
    fleet
}

/// A running rollout with its status stored, and what the planner itself says of its devices.
fn planned(spec: &Value, rollout_spec: &Value) -> (Fixture, Vec<DeviceReport>) {
    let mut fixture = running(spec, rollout_spec, &fleet());
    let plan = fixture.settle();
    let reports = fixture.look(|observed| explain::devices(observed, &plan, fixture.now));
    (fixture, reports)
}

fn stored(fixture: &Fixture, devices: &[Device]) -> Vec<DeviceReport> {
    let policies: Vec<ImageUpdatePolicy> = fixture.policy.iter().cloned().collect();
    let stored = Stored::new(fixture.rollout.clone(), &policies, BTreeSet::new()).expect("it has started");
    let devices: Vec<_> = devices.iter().map(|device| (DeviceView::new(device), Some(fixture.now))).collect();
    stored.explain(&devices, fixture.knowledge, fixture.now)
}

#[test]
fn it_says_what_the_planner_says_a_page_at_a_time() {
    for (spec, rollout_spec) in [
        (json!({}), json!({})),
        (json!({ "strategy": { "batches": [{ "size": "50%" }, { "size": "100%" }], "maxConcurrent": 1 } }), json!({})),
        (json!({}), json!({ "paused": true })),
    ] {
        let (fixture, mut wanted) = planned(&spec, &rollout_spec);
        let mut found: Vec<DeviceReport> = fleet().chunks(7).flat_map(|page| stored(&fixture, page)).collect();
        // What a pass is about to release it knows by itself.
        let next = |report: &&mut DeviceReport| report.wait == DeviceWait::NextPass;
        for report in wanted.iter_mut().filter(next) {
            if let Some(limit) = fixture.policy.as_ref().and_then(|policy| policy.spec.strategy.max_concurrent) {
                report.wait = DeviceWait::Turn { limit: usize::try_from(limit).unwrap() };
            }
        }
        for reports in [&mut wanted, &mut found] {
            reports.sort_by(|a, b| a.device.cmp(&b.device));
        }
        assert_eq!(found, wanted, "{spec} {rollout_spec}");
        assert_eq!(found.len(), 24);
    }
}

#[test]
fn without_a_plan_and_a_policy_nobody_can_say() {
    let (mut fixture, _) = planned(&json!({}), &json!({}));
    fixture.policy = None;
    assert_eq!(stored(&fixture, &fleet()).len(), 24, "the plan in the status is enough");
    let fresh = rollout(&json!({}));
    let missing = Stored::new(fresh, &[], BTreeSet::new()).map(drop).unwrap_err();
    assert_eq!(missing.reason(), "PolicyMissing");
}
