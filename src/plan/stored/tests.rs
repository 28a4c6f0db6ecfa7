use serde_json::{Value, json};

use super::*;
use crate::api::Device;
use crate::plan::explain;
use crate::plan::fixture::{Fixture, at, device, entry, failed, policy, reported, rollout};
use crate::plan::report::DeviceWait;

fn fleet() -> Vec<Device> {
    let told = |patch: &Value, image: &str| json!({ "spec": { "images": [entry(patch)] }, "status": { "services": [reported(image, "running")] } });
    // What is older than the start is not this rollout's.
    let now = json!({ "releaseTime": at(700).to_string() });
    let mut judged = told(&now, "acme/web:v2");
    judged["status"]["updates"] = failed();
    judged["status"]["updates"][0]["time"] = json!(at(700).to_string());
    let mut fleet: Vec<Device> = (0..20).map(|number| device(&format!("d{number}"), &json!({}))).collect();
    fleet.push(device("told", &told(&now, "acme/web:v1")));
    fleet.push(device("well", &told(&now, "acme/web:v2")));
    fleet.push(device("judged", &judged));
    fleet.push(device("held", &json!({ "spec": { "hold": true } })));
    fleet
}

/// A running rollout with its status stored, and what the planner itself says of its devices.
fn planned(spec: &Value, rollout_spec: &Value) -> (Fixture, Vec<DeviceReport>) {
    // It starts before anything is told: what was written in the second of the start is a namesake's, and waited out.
    let untold: Vec<Device> = fleet().iter().map(|told| device(&told.name_any(), &json!({}))).collect();
    let mut fixture = Fixture::new(policy(spec), rollout(rollout_spec), &untold, at(600));
    let _ = fixture.settle();
    fixture.views = fleet().iter().map(DeviceView::new).collect();
    (fixture.now, fixture.knowledge.as_of) = (at(700), Some(at(700)));
    fixture.seen = fixture.views.iter().map(|view| (view.name.clone(), at(700))).collect();
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
        (json!({ "strategy": { "type": "Manual" } }), json!({ "approvedBatches": 0 })),
        (json!({ "strategy": { "type": "Auto", "maxConcurrent": 1 } }), json!({})),
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
