//! A device and a template, for tests of this module.

use serde_json::{Value, json};

use super::job::JobCheck;
use super::template::{Values, address};

/// A device in a rollout of `acme/app:v2`.
pub(super) fn values(ip: &str) -> Values {
    Values {
        device_ip: address(ip),
        device_name: "line 3".into(),
        device_uuid: "0b9f".into(),
        namespace: "plant-a".into(),
        image: "docker.io/acme/app:v2".into(),
        tag: "v2".into(),
    }
}

/// As a policy has it.
pub(super) fn pod() -> Value {
    json!({"spec": {"containers": [{"name": "main"}]}})
}

/// That runs this pod.
pub(super) fn job_check(template: &Value) -> JobCheck {
    JobCheck::parse(template.as_object().expect("an object")).expect("a good template")
}
