//! An object that can't be read is told so: condition Ready turns False, and everything else of it is left alone.
//!
//! Such an object was stored under another version of its CRD. What its status says can't be read either, so there is
//! nothing to compare with before writing. Instead the write is the same each time, down to the transition time: the API
//! server takes that for no write at all.

use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use kube::api::{PartialObjectMeta, Patch, PatchParams};
use kube::{Api, Client, Resource as _};
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::api::RegistryWebhook;
use crate::api::condition::{READY, condition};

/// Field manager of this one condition: under the usual one, server-side apply would take the rest of the status away.
/// Once the object can be read again, the usual one takes the condition over.
const MANAGER: &str = "tranche-unreadable";
/// For the write.
const WRITE_TIMEOUT: Duration = Duration::from_secs(5);

/// Says on the object why it can't be read. Whether that is done, or can't ever be.
pub(super) async fn tell(client: &Client, namespace: &str, metadata: &ObjectMeta, why: &str) -> bool {
    let name = metadata.name.as_deref().unwrap_or_default();
    // Only the metadata of the answer is read: the rest is what can't be.
    let api: Api<PartialObjectMeta<RegistryWebhook>> = Api::namespaced(client.clone(), namespace);
    let (params, body) = (PatchParams::apply(MANAGER).force(), body(metadata, why));
    match timeout(WRITE_TIMEOUT, api.patch_status(name, &params, &Patch::Apply(&body))).await {
        Ok(Ok(_)) => true,
        Ok(Err(kube::Error::Api(status))) if (400..500).contains(&status.code) && status.code != 429 => {
            tracing::warn!(registry_webhook = name, error = status.message, "it can't be told that it can't be read");
            true
        }
        Ok(Err(_)) | Err(_) => false,
    }
}

fn body(metadata: &ObjectMeta, why: &str) -> Value {
    let message = format!("this object can't be read, and its deliveries are not taken until it can: {why}");
    let ready = condition(READY, false, "Unreadable", message, metadata.generation, changed(metadata).0);
    json!({
        "apiVersion": RegistryWebhook::api_version(&()),
        "kind": RegistryWebhook::kind(&()),
        "metadata": { "name": metadata.name, "uid": metadata.uid },
        "status": { "conditions": [ready] },
    })
}

/// When somebody else last wrote it.
fn changed(metadata: &ObjectMeta) -> Time {
    let writes = metadata.managed_fields.iter().flatten().filter(|entry| entry.manager.as_deref() != Some(MANAGER));
    let latest = writes.filter_map(|entry| entry.time.clone()).max();
    latest.or_else(|| metadata.creation_timestamp.clone()).unwrap_or(Time(jiff::Timestamp::UNIX_EPOCH))
}
