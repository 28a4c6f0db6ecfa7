//! The Kubernetes Job of a `job` check. Pure: makes it from the policy's pod template, asks nobody.
//!
//! The template stays the JSON that its author wrote, so that what a newer API server knows isn't lost on the way.

use std::time::Duration;

use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};

use super::Rollout;
use super::invalid::InvalidCheck;
use super::template::Values;

/// How long a Job stays after it has ended: for its log to be read, and for a controller that was restarted to find it.
const KEPT: i64 = 600;
/// The longest template. Each device has a Job with all of it.
const MAX_TEMPLATE: usize = 64 << 10;
/// Of a value of a label, and of what is made into one: names of Jobs.
const MAX_LABEL: usize = 63;
/// Of a rollout's name in that of a Job.
const MAX_READABLE: usize = 40;
/// Bytes of a hash in names: that two of a million Jobs have the same is less likely than any other fault.
const HASH: usize = 10;
/// By convention: what can't be run (126), isn't there (127), or was never started (128). That is about the check.
const NOT_RUN: [u8; 3] = [126, 127, 128];
/// The rule about these, as the message of a Job that has failed by it ends.
pub(super) const NOT_RUN_RULE: &str = "rule at index 1";

/// A `job` check that can work, as far as can be seen without the API server.
#[derive(Clone, Debug)]
pub struct JobCheck {
    /// With `restartPolicy`; every container is an object, and `env` a list.
    template: Map<String, Value>,
    restarts: bool,
}

/// What a Job is made for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Order<'a> {
    pub(super) check: &'a str,
    pub(super) values: &'a Values,
    pub(super) since: i64,
    pub(super) rollout: &'a Rollout,
    /// From 1.
    pub(super) attempt: u32,
    pub(super) timeout: Duration,
}

impl JobCheck {
    /// Reads a pod template.
    ///
    /// # Errors
    /// What is wrong with it, whatever the device and the API server.
    pub fn parse(template: &Map<String, Value>) -> Result<Self, InvalidCheck> {
        if serde_json::to_vec(template).map_or(true, |json| json.len() > MAX_TEMPLATE) {
            return Err(InvalidCheck::Job("the template must have at most 64 KiB"));
        }
        let mut template = template.clone();
        template.retain(|_, value| !value.is_null());
        if template.get("metadata").is_some_and(|metadata| !metadata.is_object()) {
            return Err(InvalidCheck::Job("metadata of the template must be an object"));
        }
        let Some(Value::Object(spec)) = template.get_mut("spec") else {
            return Err(InvalidCheck::Job("the template needs a spec with containers, as that of a pod"));
        };
        if containers(spec, "containers")? == 0 {
            return Err(InvalidCheck::Job("the template needs at least one container"));
        }
        containers(spec, "initContainers")?;
        let restarts = match spec.get("restartPolicy").and_then(Value::as_str).unwrap_or("Never") {
            "Never" => false,
            "OnFailure" => true,
            _ => return Err(InvalidCheck::Job("restartPolicy of a Job must be Never or OnFailure")),
        };
        spec.insert("restartPolicy".into(), if restarts { "OnFailure" } else { "Never" }.into());
        Ok(Self { template, restarts })
    }

    /// The Job.
    pub(super) fn job(&self, order: &Order<'_>) -> Value {
        let Order { check, values, since: _, rollout, attempt: _, timeout } = *order;
        let Rollout { name, uid } = rollout;
        let mut template = self.template.clone();
        if let Some(Value::Object(spec)) = template.get_mut("spec") {
            let environment = environment(check, values, name);
            for list in ["initContainers", "containers"] {
                let containers = spec.get_mut(list).and_then(Value::as_array_mut);
                for container in containers.into_iter().flatten().filter_map(Value::as_object_mut) {
                    add(container, &environment);
                }
            }
        }
        let mut spec = json!({
            "backoffLimit": 0,
            "activeDeadlineSeconds": seconds(timeout),
            "ttlSecondsAfterFinished": KEPT,
            "template": template,
        });
        if !self.restarts {
            // Only how a container ends is a verdict. A pod that was evicted is tried again, within the deadline; one that
            // has failed by none of these rules never got as far as to end by itself.
            spec["podFailurePolicy"] = json!({ "rules": [
                { "action": "Ignore", "onPodConditions": [{ "type": "DisruptionTarget", "status": "True" }] },
                { "action": "FailJob", "onExitCodes": { "operator": "In", "values": NOT_RUN } },
                { "action": "FailJob", "onExitCodes": { "operator": "NotIn", "values": [0] } },
            ] });
        }
        json!({
            "apiVersion": "batch/v1",
            "kind": "Job",
            "metadata": {
                "name": order.name(),
                "namespace": &*values.namespace,
                "labels": {
                    "app.kubernetes.io/managed-by": "tranche",
                    "tranche.dev/rollout": label(name),
                    "tranche.dev/device": label(&values.device_uuid),
                    "tranche.dev/check": label(check),
                },
                // It goes away with its rollout. That it doesn't hold the rollout up needs no right to its finalizers.
                "ownerReferences": [{
                    "apiVersion": "tranche.dev/v1alpha1", "kind": "ImageRollout", "name": &**name, "uid": &**uid,
                    "controller": true, "blockOwnerDeletion": false,
                }],
            },
            "spec": spec,
        })
    }
}

impl Order<'_> {
    /// The same for the same look, so that whoever takes it again finds its Job: the rollout's name as far as there is room,
    /// and a hash of everything that the Job is about.
    pub(super) fn name(&self) -> String {
        let Self { check, values, since, rollout, attempt, timeout: _ } = self;
        // A device that has moved is another one to a Job that speaks to it.
        let rest = format!("{since} {attempt} {:?}", values.device_ip);
        let mut hash = Sha256::new();
        for part in [&*rollout.uid, &*values.device_uuid, check, &rest] {
            // Lengths, so that no two lists of parts are the same text.
            hash.update(part.len().to_be_bytes());
            hash.update(part);
        }
        let readable: String =
            rollout.name.chars().take(MAX_READABLE).map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
        format!("{}-{}", readable.trim_matches('-'), hex(&hash.finalize()))
    }
}

/// Whole seconds, as the API has them, not fewer than there are.
fn seconds(timeout: Duration) -> u64 {
    timeout.as_secs() + u64::from(timeout.subsec_nanos() > 0)
}

/// How many containers there are in a list.
fn containers(spec: &Map<String, Value>, list: &str) -> Result<usize, InvalidCheck> {
    let containers = match spec.get(list) {
        None | Some(Value::Null) => return Ok(0),
        Some(Value::Array(containers)) => containers,
        Some(_) => return Err(InvalidCheck::Job("containers and initContainers of the template must be lists")),
    };
    for container in containers {
        let Value::Object(container) = container else {
            return Err(InvalidCheck::Job("every container of the template must be an object"));
        };
        if !matches!(container.get("env"), None | Some(Value::Null | Value::Array(_))) {
            return Err(InvalidCheck::Job("env of a container must be a list"));
        }
    }
    Ok(containers.len())
}

fn environment(check: &str, values: &Values, rollout: &str) -> [(&'static str, String); 8] {
    let Values { device_ip, device_name, device_uuid, namespace, image, tag } = values;
    [
        ("DEVICE_NAME", literal(device_name)),
        ("DEVICE_UUID", literal(device_uuid)),
        ("DEVICE_IP", device_ip.map(|address| address.to_canonical().to_string()).unwrap_or_default()),
        ("ROLLOUT", literal(rollout)),
        ("NAMESPACE", literal(namespace)),
        ("IMAGE", literal(image)),
        ("TAG", literal(tag)),
        ("CHECK", literal(check)),
    ]
}

/// A text that stays what it is: in the environment, `$(NAME)` would be replaced, maybe by a secret. NUL ends a variable.
fn literal(text: &str) -> String {
    text.replace('\0', "").replace('$', "$$")
}

/// Adds what the author hasn't set, before what the author has, which may refer to it: `$(DEVICE_IP)`.
fn add(container: &mut Map<String, Value>, environment: &[(&str, String)]) {
    let theirs = match container.remove("env") {
        Some(Value::Array(theirs)) => theirs,
        Some(_) | None => Vec::new(),
    };
    let set = |name: &str| theirs.iter().any(|variable| variable["name"] == name);
    let ours = environment.iter().filter(|(name, _)| !set(name));
    let mut all: Vec<Value> = ours.map(|(name, value)| json!({ "name": name, "value": value })).collect();
    all.extend(theirs);
    container.insert("env".into(), all.into());
}

/// As a value of a label: as it is where that is one, else a hash of it.
fn label(text: &str) -> String {
    let ends = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
    let good = text.len() <= MAX_LABEL
        && ends(text.chars().next())
        && ends(text.chars().last())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
    if good { text.to_owned() } else { hex(&Sha256::digest(text)) }
}

fn hex(hash: &[u8]) -> String {
    hash.iter().take(HASH).map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
#[path = "manifest_tests.rs"]
mod tests;
