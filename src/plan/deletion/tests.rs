//! Entries that do not apply at this moment, and may later.

use serde_json::{Value, json};

use super::*;
use crate::api::Device;
use crate::plan::Plan;
use crate::plan::fixture::{apps, at, device, entry, in_batch, running};

/// A rollout that was cancelled and is being deleted.
fn deleted(device: Device) -> Plan {
    let mut fixture = running(&json!({}), &json!({ "desiredState": "Cancelled" }), &[device]);
    fixture.rollout.status.as_mut().unwrap().phase = crate::api::rollout::Phase::Cancelled;
    fixture.rollout.metadata.deletion_timestamp = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(at(690)));
    fixture.plan()
}

fn with_entry(patch: &Value, declares: &str) -> Value {
    json!({ "spec": { "apps": apps(declares), "images": [entry(patch)] } })
}

#[test]
fn what_would_apply_again_is_rewritten() {
    let withdrawn = json!({ "image": "docker.io/acme/web:v1" });
    for (what, patch, rewritten) in [
        ("apps declare something else now", with_entry(&json!({}), "acme/web:v9"), true),
        ("it means the same either way", with_entry(&withdrawn, "acme/web:v9"), false),
        ("another rollout's", with_entry(&json!({ "rollout": "web-v3" }), "acme/web:v9"), false),
    ] {
        let plan = deleted(device("d", &patch));
        assert_eq!(plan.finalizer == FinalizerChange::Remove, !rewritten, "{what}");
        assert_eq!(
            plan.actions.iter().map(|action| action.reason).collect::<Vec<_>>(),
            if rewritten { vec![Reason::Rewrite] } else { vec![] },
            "{what}"
        );
    }
    let mut leaving = with_entry(&json!({}), "acme/web:v1");
    leaving["metadata"] = json!({ "deletionTimestamp": at(0).to_string() });
    assert_eq!(deleted(device("d", &leaving)).finalizer, FinalizerChange::Remove, "the device goes away, too");
}

#[test]
fn what_somebody_else_has_taken_over_is_waited_for() {
    let mut claimed = with_entry(&json!({}), "acme/web:v1");
    let key = format!("k:{}", json!({ "repository": "docker.io/acme/web" }));
    claimed["metadata"] = json!({ "managedFields": [{ "manager": "kubectl", "operation": "Apply",
        "fieldsType": "FieldsV1", "fieldsV1": { "f:spec": { "f:images": { key: {} } } } }] });
    let plan = deleted(device("d", &claimed));
    assert_eq!((plan.actions.len(), plan.finalizer), (0, FinalizerChange::Keep));
    assert_eq!(plan.waiting_on, [WaitingOn::Rewriting { devices: 1 }]);
    assert_eq!(
        plan.status.message,
        "being deleted: 1 devices are being told what they are to run once this rollout is gone"
    );
}

#[test]
fn what_cannot_be_understood_is_not_let_go() {
    let mut fixture = running(&json!({}), &json!({}), &[in_batch("d", 1, Some(true))]);
    fixture.rollout.metadata.deletion_timestamp = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(at(690)));
    fixture.rollout.status.as_mut().unwrap().batches.clear();
    let plan = fixture.plan();
    assert_eq!((plan.finalizer, plan.waiting_on[0].reason()), (FinalizerChange::Keep, "PlanInvalid"));
}
