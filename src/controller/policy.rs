//! One pass over one policy: its status, and finished rollouts that are too many.

use std::collections::BTreeMap;
use std::sync::Arc;

use kube::api::{DeleteParams, Patch, PatchParams, Preconditions};
use kube::core::DeserializeGuard;
use kube::runtime::controller::{Action, Error as RuntimeError};
use kube::runtime::watcher;
use kube::{Api, Resource as _, ResourceExt as _};
use serde_json::json;

use crate::api::{CONTROLLER_MANAGER, ImageRollout, ImageUpdatePolicy};
use crate::plan::policy::{Beside, plan_policy};
use crate::plan::rivals::{self, Rival};
use crate::plan::validated::Invalid;
use crate::probe::job::{JobCheck, refused};

use super::backoff::jittered;
use super::context::{Context, PolicyRef};
use super::error::{Class, Error};
use super::gather::{made_ready, validate};
use super::{RECONCILE_TIMEOUT, RESYNC, unreadable};

/// One pass, bounded in time.
///
/// # Errors
/// Whatever kept it from being finished.
pub async fn reconcile(
    guard: Arc<DeserializeGuard<ImageUpdatePolicy>>,
    context: Arc<Context>,
) -> Result<Action, Error> {
    context.stores_ready().await;
    let name = guard.name_any();
    let policy = match &guard.0 {
        Ok(policy) => policy,
        Err(invalid) => {
            unreadable::tell::<ImageUpdatePolicy>(&context, &invalid.metadata, &invalid.error).await?;
            return Err(Error::Unreadable { kind: "ImageUpdatePolicy", name, why: invalid.error.clone() });
        }
    };
    tokio::time::timeout(RECONCILE_TIMEOUT, pass(policy, &context))
        .await
        .map_err(|_| Error::Timeout(format!("policy {name}")))??;
    context.policy_backoff.succeeded(&key(&guard));
    context.metrics.passed("ImageUpdatePolicy");
    Ok(Action::requeue(jittered(&context.clock, RESYNC)))
}

async fn pass(policy: &ImageUpdatePolicy, context: &Context) -> Result<(), Error> {
    if policy.metadata.deletion_timestamp.is_some() {
        return Ok(());
    }
    let name = policy.name_any();
    let namespace = policy.namespace().unwrap_or_default();
    let all = context.rollouts(Some(&namespace));
    let rollouts: Vec<&ImageRollout> = all.iter().filter(|rollout| rollout.spec.policy_ref.name == name).collect();
    let valid = match validate(policy) {
        // Asked once for each generation: rollouts that go on bring a pass a second.
        Ok(valid) if made_ready(policy).is_ok() => Ok(valid),
        Ok(valid) => possible(policy, context, &namespace).await.map(|()| valid),
        Err(invalid) => Err(invalid),
    };
    let beside = Beside { overlaps: overlaps(policy, &namespace, context), polled: context.polls.of(policy) };
    let plan = plan_policy(policy, valid.as_ref(), &rollouts, &beside, context.clock.now());
    if plan.changed {
        let api: Api<ImageUpdatePolicy> = Api::namespaced(context.client.clone(), &namespace);
        let body = json!({
            "apiVersion": ImageUpdatePolicy::api_version(&()),
            "kind": ImageUpdatePolicy::kind(&()),
            "metadata": { "name": name, "uid": policy.uid(), "resourceVersion": policy.resource_version() },
            "status": plan.status,
        });
        api.patch_status(&name, &PatchParams::apply(CONTROLLER_MANAGER).force(), &Patch::Apply(&body))
            .await
            .map_err(|error| Error::Status(format!("policy {name}"), Box::new(error)))?;
        context.metrics.wrote("PolicyStatus");
    }
    let api: Api<ImageRollout> = Api::namespaced(context.client.clone(), &namespace);
    for old in plan.prune {
        let Some(rollout) = rollouts.iter().find(|rollout| rollout.name_any() == old) else { continue };
        // Only the finished rollout that was looked at, never one of the same name made since.
        let preconditions = Preconditions { uid: rollout.uid(), resource_version: rollout.resource_version() };
        let params = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default() };
        match api.delete(&old, &params).await {
            Ok(_) => context.metrics.wrote("Prune"),
            Err(kube::Error::Api(status)) if status.is_not_found() => {}
            Err(error) => return Err(Error::Prune(old, Box::new(error))),
        }
    }
    Ok(())
}

/// Whether the API server would take the Jobs that a policy's checks are. When it can't say now, they are tried then.
async fn possible(policy: &ImageUpdatePolicy, context: &Context, namespace: &str) -> Result<(), Invalid> {
    for check in &policy.spec.health_checks {
        let Some(job) = &check.job else { continue };
        let invalid = |why: String| Invalid::Check { name: check.name.clone(), why };
        let job = JobCheck::parse(&job.template).map_err(|error| invalid(error.sentence()))?;
        match refused(&context.client, namespace, &job).await {
            Ok(None) => {}
            Ok(Some(why)) => return Err(invalid(format!("the API server refuses its Job: {why}"))),
            Err(error) => {
                tracing::warn!(policy = policy.name_any(), check = check.name, %error, "it is not known whether its Job can be made");
            }
        }
    }
    Ok(())
}

/// Devices that it selects and that are a more specific policy's.
fn overlaps(policy: &ImageUpdatePolicy, namespace: &str, context: &Context) -> BTreeMap<String, usize> {
    let Some(own) = Rival::of(policy) else { return BTreeMap::new() };
    let others = context.policies(namespace);
    let others = others.iter().filter_map(|other| other.0.as_ref().ok());
    let devices = context.devices.devices(namespace);
    rivals::overlaps(&policy.name_any(), &own, others, devices.iter().map(|known| known.view.as_ref()))
}

fn key(guard: &DeserializeGuard<ImageUpdatePolicy>) -> PolicyRef {
    PolicyRef::new(&guard.name_any()).within(&guard.namespace().unwrap_or_default())
}

/// What follows from a failed pass.
#[expect(clippy::needless_pass_by_value, reason = "the runtime's signature")]
pub fn on_error(guard: Arc<DeserializeGuard<ImageUpdatePolicy>>, error: &Error, context: Arc<Context>) -> Action {
    context.metrics.failed(error.label());
    match error.class() {
        Class::Stale | Class::Transient => {
            Action::requeue(jittered(&context.clock, context.policy_backoff.failed(key(&guard))))
        }
        Class::Invalid => Action::await_change(),
    }
}

/// Logs the end of a pass.
pub fn finished(context: &Context, result: Result<(PolicyRef, Action), RuntimeError<Error, watcher::Error>>) {
    super::rollout::log_end(context, "policy", result.map(|(key, _)| key.name));
}
