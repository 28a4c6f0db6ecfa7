//! Carries out what the planner decided about devices. Makes no choices: object, value and precondition are given.

use futures::StreamExt as _;
use kube::api::{Patch, PatchParams};
use kube::{Api, Resource as _};
use serde_json::json;

use crate::api::{CONTROLLER_MANAGER, Device};
use crate::plan::{Action, Change};

use super::context::Context;
use super::error::{Class, Error, class_of};

/// Writes to devices at the same time. The API server needs about 2 ms for one, so this keeps it busy without
/// crowding out everybody else.
const CONCURRENCY: usize = 16;

/// Carries out actions. All are tried; whatever fails is planned again by the next pass.
///
/// # Errors
/// The first failure that is more than a stale view, else the first stale one.
pub async fn apply(context: &Context, namespace: &str, actions: Vec<Action>) -> Result<(), Error> {
    let api: Api<Device> = Api::namespaced(context.client.clone(), namespace);
    let failures: Vec<(String, kube::Error)> = futures::stream::iter(actions)
        .map(|action| {
            let api = api.clone();
            async move {
                match one(&api, &action).await {
                    Ok(device) => {
                        context.metrics.wrote(action.reason.as_str());
                        context.devices.apply_own(&device);
                        None
                    }
                    Err(error) => Some((action.device, error)),
                }
            }
        })
        .buffer_unordered(CONCURRENCY)
        .filter_map(std::future::ready)
        .collect()
        .await;
    let others = failures.len().saturating_sub(1);
    let worst = failures.into_iter().min_by_key(|(_, error)| match class_of(error) {
        Class::Transient => 0,
        Class::Invalid => 1,
        Class::Stale => 2,
    });
    match worst {
        None => Ok(()),
        Some((device, source)) => Err(Error::Device { device, others, source: Box::new(source) }),
    }
}

async fn one(api: &Api<Device>, action: &Action) -> Result<Device, kube::Error> {
    let Action { device, uid, resource_version, reason: _, change } = action;
    // The UID, since the revision alone is no precondition on an object that is gone: the apply would create it.
    let mut body = json!({
        "apiVersion": Device::api_version(&()),
        "kind": Device::kind(&()),
        "metadata": { "name": device, "uid": uid, "resourceVersion": resource_version },
    });
    match change {
        // Not forced: an entry that somebody else owns is a conflict for people to see, never overwritten.
        Change::Images { manager, entries } => {
            body["spec"] = json!({ "images": entries });
            api.patch(device, &PatchParams::apply(manager), &Patch::Apply(&body)).await
        }
        Change::Verdicts { updates } => {
            body["status"] = json!({ "updates": updates });
            api.patch_status(device, &PatchParams::apply(CONTROLLER_MANAGER).force(), &Patch::Apply(&body)).await
        }
    }
}
