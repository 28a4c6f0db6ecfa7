//! One pass over one policy: its status, and finished rollouts that are too many.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use kube::api::{DeleteParams, ObjectMeta, Patch, PatchParams, Preconditions};
use kube::core::DeserializeGuard;
use kube::runtime::controller::{Action, Error as RuntimeError};
use kube::runtime::watcher;
use kube::{Api, Resource as _, ResourceExt as _};
use parking_lot::Mutex;
use serde_json::json;

use crate::api::{CONTROLLER_MANAGER, ImageRollout, ImageUpdatePolicy};
use crate::plan::policy::{Beside, plan_policy};
use crate::plan::rivals::{self, Rival};
use crate::plan::validated::ValidatedPolicy;

use super::backoff::jittered;
use super::context::{Context, PolicyRef};
use super::devices::is_older;
use super::error::{Class, Error};
use super::{RECONCILE_TIMEOUT, RESYNC, unreadable};

/// Until the store of rollouts is looked at again that is behind the policies' own watch of them.
const BEHIND_PAUSE: Duration = Duration::from_secs(1);

/// Which rollouts the policies' own watch has shown in which revision, by policy. The passes read the store of the rollouts'
/// controller, which another watch feeds: what woke a policy may not be there yet, and nothing would wake it again.
#[derive(Debug, Default)]
pub struct Ahead(Mutex<HashMap<PolicyRef, BTreeMap<String, String>>>);

impl Ahead {
    /// The policies' own watch shows a rollout.
    pub(crate) fn shown(&self, policy: PolicyRef, rollout: &ObjectMeta) {
        let (Some(name), Some(revision)) = (&rollout.name, &rollout.resource_version) else { return };
        self.0.lock().entry(policy).or_default().insert(name.clone(), revision.clone());
    }

    /// Whether some of these rollouts are older than what was shown. One that is not among them is gone, or new and about
    /// to change.
    fn is_ahead(&self, policy: &PolicyRef, rollouts: &[&ImageRollout]) -> bool {
        let mut all = self.0.lock();
        let Some(shown) = all.get_mut(policy) else { return false };
        let revision = |name: &str| rollouts.iter().find(|rollout| rollout.name_any() == name)?.resource_version();
        shown.retain(|name, shown| revision(name).is_some_and(|stored| is_older(&stored, shown)));
        if shown.is_empty() {
            all.remove(policy);
            return false;
        }
        true
    }
}

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
    let pause = tokio::time::timeout(RECONCILE_TIMEOUT, pass(policy, &context))
        .await
        .map_err(|_| Error::Timeout(format!("policy {name}")))??;
    context.policy_backoff.succeeded(&key(&guard));
    context.metrics.passed("ImageUpdatePolicy");
    Ok(Action::requeue(jittered(&context.clock, pause)))
}

/// Until when nothing new is to be expected.
async fn pass(policy: &ImageUpdatePolicy, context: &Context) -> Result<Duration, Error> {
    if policy.metadata.deletion_timestamp.is_some() {
        return Ok(RESYNC);
    }
    let name = policy.name_any();
    let namespace = policy.namespace().unwrap_or_default();
    let all = context.rollouts(Some(&namespace));
    let rollouts: Vec<&ImageRollout> = all.iter().filter(|rollout| rollout.spec.policy_ref.name == name).collect();
    let valid = ValidatedPolicy::new(policy);
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
    let is_behind = context.ahead.is_ahead(&PolicyRef::new(&name).within(&namespace), &rollouts);
    Ok(if is_behind { BEHIND_PAUSE } else { RESYNC })
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_that_is_behind_is_looked_at_again() {
        let rollout = |revision: &str| -> ImageRollout {
            serde_json::from_value(json!({
                "metadata": {"name": "r", "resourceVersion": revision},
                "spec": {"policyRef": {"name": "p"}, "image": {"repository": "docker.io/acme/web", "tag": "v2"}},
            }))
            .unwrap()
        };
        let (ahead, policy) = (Ahead::default(), PolicyRef::new("p").within("n"));
        assert!(!ahead.is_ahead(&policy, &[&rollout("7")]));
        ahead.shown(policy.clone(), &rollout("9").metadata);
        assert!(ahead.is_ahead(&policy, &[&rollout("7")]));
        assert!(!ahead.is_ahead(&policy, &[&rollout("10")]));
        assert!(!ahead.is_ahead(&policy, &[&rollout("7")]), "it was there, and is not asked for again");
        ahead.shown(policy.clone(), &rollout("9").metadata);
        assert!(!ahead.is_ahead(&policy, &[]), "it is gone");
        assert!(ahead.0.lock().is_empty());
    }
}
