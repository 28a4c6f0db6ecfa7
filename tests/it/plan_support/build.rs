//! Builders of objects, from the YAML that people write: what is left out gets the defaults of the kinds.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::{Value, json};
use tranche::api::{Device, ImageRollout, ImageUpdatePolicy};

/// Repository of most tests, canonical.
pub const WEB: &str = "docker.io/acme/web";

/// When every story begins: a Monday, so that windows are easy to read.
pub fn start() -> Timestamp {
    "2026-06-01T08:00:00Z".parse().unwrap()
}

/// A digest made of one digit.
pub fn digest(digit: char) -> String {
    format!("sha256:{}", digit.to_string().repeat(64))
}

/// Merges `patch` into `base`, key by key; null removes.
pub fn merge(base: &mut Value, patch: &Value) {
    match (base, patch) {
        (Value::Object(base), Value::Object(patch)) => {
            for (key, value) in patch {
                if value.is_null() {
                    base.remove(key);
                } else {
                    merge(base.entry(key.clone()).or_insert(Value::Null), value);
                }
            }
        }
        (base, patch) => *base = patch.clone(),
    }
}

/// A policy for `acme/web` on the fleet `a`, with short times: a deadline of 10 minutes, offline after 2.
pub fn policy(name: &str, spec: &Value) -> ImageUpdatePolicy {
    let mut object = json!({
        "metadata": { "name": name, "namespace": "default", "uid": format!("uid-{name}"), "generation": 1, "resourceVersion": "1" },
        "spec": {
            "image": { "pattern": "acme/web:*" },
            "devices": { "selector": { "matchLabels": { "fleet": "a" } } },
            "updateDeadline": "10m",
            "offlineAfter": "2m",
        },
    });
    merge(&mut object["spec"], spec);
    serde_json::from_value(object).unwrap()
}

/// A rollout of `acme/web:<tag>` for `policy`, created at `at`.
pub fn rollout(name: &str, policy: &str, tag: &str, at: Timestamp, spec: &Value) -> ImageRollout {
    let mut object = json!({
        "metadata": {
            "name": name, "namespace": "default", "uid": format!("uid-{name}"), "generation": 1,
            "resourceVersion": "1", "creationTimestamp": Time(at),
        },
        "spec": { "policyRef": { "name": policy }, "image": { "repository": WEB, "tag": tag } },
    });
    merge(&mut object["spec"], spec);
    serde_json::from_value(object).unwrap()
}

/// A device of the fleet `a` whose `apps` declare these services of application 1001, as `(name, image)`.
pub fn device(name: &str, services: &[(&str, &str)]) -> Device {
    let services: Vec<Value> = services
        .iter()
        .enumerate()
        .map(|(index, (name, image))| {
            json!({ "serviceId": index + 1, "serviceName": name, "imageName": image, "config": { "image": image } })
        })
        .collect();
    device_with(name, &json!({ "1001": { "appName": "app", "services": services } }))
}

/// A device of the fleet `a` with these `apps`.
pub fn device_with(name: &str, apps: &Value) -> Device {
    serde_json::from_value(json!({
        "metadata": {
            "name": name, "namespace": "default", "uid": format!("uid-{name}"), "generation": 1,
            "resourceVersion": "1", "labels": { "fleet": "a" },
        },
        "spec": { "apps": apps },
    }))
    .unwrap()
}
