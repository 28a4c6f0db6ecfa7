//! A rollout's checks, ready to run, with what their Secrets hold.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use k8s_openapi::api::core::v1::Secret;
use kube::{Api, Client, ResourceExt as _};
use tokio::time::{Instant, timeout};

use super::devices::RETRY;
use crate::api::ImageRollout;
use crate::api::check::{HealthCheck, SecretKeyRef};
use crate::probe::Check;
use crate::probe::policy::{Secrets, secrets_of};

/// Secrets are read anew after so long: they are rotated.
const READ_AGAIN: Duration = Duration::from_secs(300);
/// Reading one Secret.
const SECRET_TIMEOUT: Duration = Duration::from_secs(5);

/// A check that is ready, or isn't.
pub(super) type Ready = Result<Arc<Check>, Unready>;

/// A check that can't be run as things are: a Secret that it names isn't there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Unready {
    /// Its name.
    pub(super) name: String,
    /// What is missing.
    pub(super) why: String,
}

/// A rollout's checks, in the order of its plan.
#[derive(Debug)]
pub(super) struct Checks {
    read: Instant,
    /// Of each device.
    pub(super) devices: Vec<Ready>,
    /// Of each batch.
    pub(super) batches: Vec<Ready>,
}

impl Checks {
    /// Of a rollout, by the plan in its status.
    pub(super) async fn read(client: &Client, rollout: &ImageRollout, allowed: &[IpNet]) -> Self {
        let plan = rollout.status.as_ref().and_then(|status| status.plan.as_ref());
        let specs = plan.map(|plan| plan.health_checks.as_slice()).unwrap_or_default();
        let secrets = secrets(client, &rollout.namespace().unwrap_or_default(), specs).await;
        let ready = |spec: &HealthCheck| {
            let check = Check::of(spec, allowed, Some(&secrets)).transpose()?;
            Some(check.map(Arc::new).map_err(|error| Unready { name: spec.name.clone(), why: error.sentence() }))
        };
        let (batches, devices): (Vec<&HealthCheck>, Vec<&HealthCheck>) =
            specs.iter().partition(|spec| spec.analysis.is_some());
        Self {
            read: Instant::now(),
            devices: devices.into_iter().filter_map(ready).collect(),
            batches: batches.into_iter().filter_map(ready).collect(),
        }
    }

    /// Whether what the Secrets held may still be gone by.
    pub(super) fn is_fresh(&self) -> bool {
        let complete = self.devices.iter().chain(&self.batches).all(Result::is_ok);
        self.read.elapsed() < if complete { READ_AGAIN } else { RETRY }
    }
}

/// What checks name of Secrets, as far as it can be read. What can't be is missing, and the check says so.
async fn secrets(client: &Client, namespace: &str, checks: &[HealthCheck]) -> Secrets {
    let api: Api<Secret> = Api::namespaced(client.clone(), namespace);
    let mut found = Secrets::new();
    let mut read: HashMap<String, Option<Secret>> = HashMap::new();
    for key in secrets_of(checks) {
        let SecretKeyRef { name, key: entry } = &key;
        if !read.contains_key(name) {
            let secret = match timeout(SECRET_TIMEOUT, api.get_opt(name)).await {
                Ok(Ok(secret)) => secret,
                Ok(Err(error)) => {
                    tracing::warn!(secret = name, namespace, %error, "a health check's Secret can't be read");
                    None
                }
                Err(_) => {
                    tracing::warn!(secret = name, namespace, "a health check's Secret was not read in time");
                    None
                }
            };
            read.insert(name.clone(), secret);
        }
        let secret = read.get(name).and_then(Option::as_ref);
        if let Some(value) = secret.and_then(|secret| secret.data.as_ref()?.get(entry)) {
            found.insert(key, value.0.clone());
        }
    }
    found
}
