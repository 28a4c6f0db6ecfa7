//! Devices in the API server, as enrolment reads and writes them.

use kube::Api;
use kube::api::{Patch, PatchParams, PostParams};
use ring::rand::{SecureRandom as _, SystemRandom};
use serde_json::{Value, json};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::super::Gateway;
use super::refusal::Refusal;
use crate::api::auth::{DeviceAuth, Enrolment};
use crate::api::{Device, ENROLMENT_MANAGER};
use crate::enrol::device::{self, challenge};

/// How often a write is tried again when somebody else has written the device meanwhile.
const ROUNDS: usize = 4;

fn api(gateway: &Gateway) -> Api<Device> {
    Api::namespaced(gateway.client.clone(), &gateway.config.namespace)
}

/// The device, if there is one.
pub(super) async fn find(gateway: &Gateway, name: &str) -> Result<Option<Device>, Refusal> {
    api(gateway).get_opt(name).await.map_err(|error| failed(&error, "a device can't be read"))
}

/// Creates a device; `None` where one of its name is there.
pub(super) async fn create(gateway: &Gateway, device: &Device) -> Result<Option<Device>, kube::Error> {
    let params = PostParams { field_manager: Some(ENROLMENT_MANAGER.into()), ..PostParams::default() };
    match api(gateway).create(&params, device).await {
        Ok(created) => Ok(Some(created)),
        Err(kube::Error::Api(status)) if status.is_already_exists() => Ok(None),
        Err(error) => Err(error),
    }
}

/// Changes `spec.auth` of a device as `decide` says of what is there; `Ok(None)` of it leaves it as it is. A device that
/// is not there is none that may do anything.
///
/// # Errors
/// As `decide` says, or when it can't be written.
pub(super) async fn change(
    gateway: &Gateway,
    name: &str,
    decide: impl Fn(&DeviceAuth) -> Result<Option<DeviceAuth>, Refusal>,
) -> Result<Device, Refusal> {
    for _ in 0..ROUNDS {
        let Some(found) = find(gateway, name).await? else { return Err(Refusal::Device) };
        let auth = found.spec.auth.clone().unwrap_or_default();
        let Some(next) = decide(&auth)? else { return Ok(found) };
        if let Some(written) = write(gateway, name, &found, &next).await? {
            return Ok(written);
        }
    }
    Err(Refusal::Busy)
}

/// Writes `spec.auth` on the revision that was read; `None` where there is another one meanwhile.
pub(super) async fn write(
    gateway: &Gateway,
    name: &str,
    read: &Device,
    auth: &DeviceAuth,
) -> Result<Option<Device>, Refusal> {
    let body: Value = json!({
        "metadata": { "resourceVersion": read.metadata.resource_version, "uid": read.metadata.uid },
        "spec": { "auth": device::patch(auth) },
    });
    let params = PatchParams { field_manager: Some(ENROLMENT_MANAGER.into()), ..PatchParams::default() };
    match api(gateway).patch(name, &params, &Patch::Merge(&body)).await {
        Ok(written) => Ok(Some(written)),
        Err(kube::Error::Api(status)) if status.is_conflict() || status.is_not_found() => Ok(None),
        Err(error) => Err(failed(&error, "a device can't be written")),
    }
}

/// A fresh challenge.
pub(super) fn fresh(gateway: &Gateway) -> Result<Enrolment, Refusal> {
    let mut chance = [0; 32];
    SystemRandom::new().fill(&mut chance).map_err(|_| Refusal::Busy)?;
    Ok(challenge(URL_SAFE_NO_PAD.encode(chance), gateway.config.clock.now()))
}

/// The API server did not do it. That it refuses for want of rights is the one thing that a person has to mend.
pub(super) fn failed(error: &kube::Error, what: &'static str) -> Refusal {
    match error {
        kube::Error::Api(status) if status.code == 403 => {
            tracing::error!(%error, "{what}: the gateway lacks the rights that enrolment needs (the chart's enrolment.enabled)");
        }
        error => tracing::warn!(%error, "{what}"),
    }
    Refusal::Busy
}
