//! Writes to the rollout itself: its status and its finalizer. Each carries the revision that it was decided on.

use kube::api::{Patch, PatchParams};
use kube::{Api, Resource as _, ResourceExt as _};
use serde_json::json;

use crate::api::rollout::ImageRolloutStatus;
use crate::api::{CONTROLLER_MANAGER, ImageRollout, ImageUpdatePolicy, POLICY_LABEL, ROLLOUT_FINALIZER};
use crate::plan::FinalizerChange;

use super::context::Context;
use super::error::Error;

/// Stores the status; the rollout as it is then.
///
/// # Errors
/// When the rollout is no longer the one that was looked at, or the API server refuses or can't be reached.
pub async fn store(
    context: &Context,
    rollout: &ImageRollout,
    status: &ImageRolloutStatus,
) -> Result<ImageRollout, Error> {
    let name = rollout.name_any();
    let api: Api<ImageRollout> = Api::namespaced(context.client.clone(), &rollout.namespace().unwrap_or_default());
    let body = json!({
        "apiVersion": ImageRollout::api_version(&()),
        "kind": ImageRollout::kind(&()),
        "metadata": { "name": name, "uid": rollout.uid(), "resourceVersion": rollout.resource_version() },
        "status": status,
    });
    let params = PatchParams::apply(CONTROLLER_MANAGER).force();
    let stored = api
        .patch_status(&name, &params, &Patch::Apply(&body))
        .await
        .map_err(|error| Error::Status(format!("rollout {name}"), Box::new(error)))?;
    context.metrics.wrote("RolloutStatus");
    context.wrote(&stored);
    Ok(stored)
}

/// Adds or removes the finalizer; along with adding it, label and owner are put right on rollouts made by hand.
///
/// # Errors
/// As [`store`].
pub async fn change_finalizer(
    context: &Context,
    rollout: &ImageRollout,
    policy: Option<&ImageUpdatePolicy>,
    change: FinalizerChange,
) -> Result<(), Error> {
    let name = rollout.name_any();
    let mut finalizers: Vec<String> = rollout.finalizers().to_vec();
    finalizers.retain(|finalizer| finalizer != ROLLOUT_FINALIZER);
    let mut metadata = json!({ "uid": rollout.uid(), "resourceVersion": rollout.resource_version() });
    match change {
        FinalizerChange::Keep => return Ok(()),
        FinalizerChange::Remove => {}
        FinalizerChange::Add => {
            finalizers.push(ROLLOUT_FINALIZER.into());
            metadata["labels"] = json!({ POLICY_LABEL: rollout.spec.policy_ref.name });
            if let Some(owner) = policy.and_then(|policy| policy.controller_owner_ref(&()))
                && rollout.owner_references().is_empty()
            {
                metadata["ownerReferences"] = json!([owner]);
            }
        }
    }
    metadata["finalizers"] = json!(finalizers);
    let api: Api<ImageRollout> = Api::namespaced(context.client.clone(), &rollout.namespace().unwrap_or_default());
    let params = PatchParams { field_manager: Some(CONTROLLER_MANAGER.into()), ..PatchParams::default() };
    let result = api.patch(&name, &params, &Patch::Merge(json!({ "metadata": metadata }))).await;
    context.metrics.wrote("Finalizer");
    match (result, change) {
        (Ok(_), FinalizerChange::Remove) => Ok(()),
        (Ok(stored), FinalizerChange::Add | FinalizerChange::Keep) => {
            context.wrote(&stored);
            Ok(())
        }
        // Somebody else finished the same removal.
        (Err(kube::Error::Api(status)), FinalizerChange::Remove) if status.is_not_found() => Ok(()),
        (Err(error), _) => Err(Error::Finalizer(format!("rollout {name}"), Box::new(error))),
    }
}
