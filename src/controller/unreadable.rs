//! An object that does not even parse is told so: condition Ready turns False, and everything else of it is left alone.
//!
//! Such an object was stored under another version of its CRD, or fits the schema and still makes no sense. Its old status
//! can't be read either, so there is nothing to compare with before writing. Instead the write is the same each time,
//! down to the transition time: the API server takes that for no write at all.

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use kube::api::{PartialObjectMeta, Patch, PatchParams};
use kube::{Api, Resource};
use serde_json::json;

use crate::api::condition::{READY, condition};

use super::context::Context;
use super::error::Error;

/// Field manager of this one condition: under the usual one, server-side apply would take the rest of the status away.
/// Once the object can be read again, the usual one takes the condition over.
const MANAGER: &str = "tranche-unreadable";

/// Says on the object why it can't be read.
///
/// # Errors
/// When that can't be written now. What the API server will never accept is logged and let go.
pub async fn tell<K>(context: &Context, metadata: &ObjectMeta, why: &str) -> Result<(), Error>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
{
    let kind = K::kind(&());
    let name = metadata.name.as_deref().unwrap_or_default();
    let Some(uid) = &metadata.uid else { return Ok(()) };
    if context.is_told(uid, metadata.generation) {
        return Ok(());
    }
    let message = format!("this object can't be read and is left alone until it can: {why}");
    let ready = condition(READY, false, "Unreadable", message, metadata.generation, changed(metadata).0);
    let body = json!({
        "apiVersion": K::api_version(&()),
        "kind": kind,
        "metadata": { "name": name, "uid": uid },
        "status": { "conditions": [ready] },
    });
    // Only the metadata of the answer is read: the rest is what can't be.
    let api: Api<PartialObjectMeta<K>> =
        Api::namespaced(context.client.clone(), metadata.namespace.as_deref().unwrap_or_default());
    match api.patch_status(name, &PatchParams::apply(MANAGER).force(), &Patch::Apply(&body)).await {
        Ok(_) => context.metrics.wrote("Unreadable"),
        Err(kube::Error::Api(status)) if (400..500).contains(&status.code) && status.code != 429 => {
            tracing::warn!(%kind, name, error = status.message, "it can't be told that it can't be read");
        }
        Err(error) => return Err(Error::Status(format!("{kind} {name}"), Box::new(error))),
    }
    context.told(uid, metadata.generation);
    Ok(())
}

/// When somebody else last wrote it.
fn changed(metadata: &ObjectMeta) -> Time {
    let writes = metadata.managed_fields.iter().flatten().filter(|entry| entry.manager.as_deref() != Some(MANAGER));
    let latest = writes.filter_map(|entry| entry.time.clone()).max();
    latest.or_else(|| metadata.creation_timestamp.clone()).unwrap_or(Time(jiff::Timestamp::UNIX_EPOCH))
}
