//! Provisioning keys in the API server: their terms, and how many devices each has created.
//!
//! The count is written on the revision that was read, and before the device is created. So there are never more devices
//! than a key allows, whatever happens in between, on however many replicas; a crash in between costs a place.

use std::time::Duration;

use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::json;

use super::super::Gateway;
use super::devices::failed;
use super::refusal::Refusal;
use crate::api::ENROLMENT_MANAGER;
use crate::enrol::key::ProvisioningKey;
use crate::enrol::terms::{ENROLLED_ANNOTATION, KeyRefusal, Terms};

/// How often a place is asked for again when another replica has taken one meanwhile.
const ROUNDS: usize = 16;
/// The pause in between, up to three times as long.
const PAUSE: Duration = Duration::from_millis(10);

fn api(gateway: &Gateway) -> Api<Secret> {
    Api::namespaced(gateway.client.clone(), &gateway.config.namespace)
}

async fn read(gateway: &Gateway, key: &ProvisioningKey) -> Result<(Secret, Terms), Refusal> {
    let found = api(gateway).get_opt(&key.name).await.map_err(|error| failed(&error, "a Secret can't be read"))?;
    let secret = found.ok_or(KeyRefusal::Unknown).map_err(|why| refused(key, why))?;
    let terms = Terms::read(&secret).map_err(|why| refused(key, why))?;
    terms.check(&key.hash, gateway.config.clock.now()).map_err(|why| refused(key, why))?;
    Ok((secret, terms))
}

/// What a key is good for.
///
/// # Errors
/// When it opens nothing.
pub(super) async fn terms(gateway: &Gateway, key: &ProvisioningKey) -> Result<Terms, Refusal> {
    Ok(read(gateway, key).await?.1)
}

/// Takes a place among the devices that a key may create.
///
/// # Errors
/// When there is none left.
pub(super) async fn take(gateway: &Gateway, key: &ProvisioningKey) -> Result<Terms, Refusal> {
    count(gateway, key, |terms| terms.one_more().map_err(|why| refused(key, why))).await
}

/// Gives a place back for which surely no device was created. Where that fails, it is lost.
pub(super) async fn give_back(gateway: &Gateway, key: &ProvisioningKey) {
    if count(gateway, key, |terms| Ok(terms.enrolled.saturating_sub(1))).await.is_err() {
        tracing::warn!(provisioning_key = key.name, "a place of this provisioning key is lost");
    }
}

async fn count(
    gateway: &Gateway,
    key: &ProvisioningKey,
    next: impl Fn(&Terms) -> Result<u32, Refusal>,
) -> Result<Terms, Refusal> {
    let _turn = gateway.enrol.counting.of(&key.name).lock().await;
    for _ in 0..ROUNDS {
        let (secret, terms) = read(gateway, key).await?;
        let body = json!({ "metadata": {
            "resourceVersion": secret.metadata.resource_version,
            "annotations": { ENROLLED_ANNOTATION: next(&terms)?.to_string() },
        } });
        let params = PatchParams { field_manager: Some(ENROLMENT_MANAGER.into()), ..PatchParams::default() };
        match api(gateway).patch_metadata(&key.name, &params, &Patch::Merge(&body)).await {
            Ok(_) => return Ok(terms),
            Err(kube::Error::Api(status)) if status.is_conflict() => {}
            Err(error) => return Err(failed(&error, "a Secret can't be written")),
        }
        tokio::time::sleep(gateway.config.clock.jittered(PAUSE, 2.0)).await;
    }
    Err(Refusal::Busy)
}

fn refused(key: &ProvisioningKey, why: KeyRefusal) -> Refusal {
    tracing::warn!(provisioning_key = key.name, reason = %why, "a registration was refused");
    Refusal::ProvisioningKey
}
