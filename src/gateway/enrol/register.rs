//! `POST /api/v1/device/register` and `POST /api/v1/agent/register`: a device makes itself known.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::response::Response;

use super::super::Gateway;
use super::super::auth::presented;
use super::refusal::Refusal;
use super::{Done, answer, body_of, devices, places, working};
use crate::api::Device;
use crate::enrol::device::{created, readmitted};
use crate::enrol::key::ProvisioningKey;
use crate::enrol::registration::Registration;
use crate::enrol::terms::Terms;

/// Where agents of the third generation put the provisioning key.
const KEY_HEADER: &str = "x-provisioning-key";
/// How often is looked again when the device came or went in the same moment.
const ROUNDS: usize = 4;

/// Handles a registration.
pub(super) async fn register(State(gateway): State<Arc<Gateway>>, request: Request) -> Response {
    let text = presented(request.headers(), KEY_HEADER).and_then(|key| std::str::from_utf8(key).ok());
    let key = text.and_then(ProvisioningKey::parse);
    match gateway.visitor(&request, key.as_ref().map(|key| key.hash)) {
        Ok(visitor) => gateway.ended(visitor, admit(&gateway, key, request).await),
        Err(response) => response,
    }
}

async fn admit(gateway: &Gateway, key: Option<ProvisioningKey>, request: Request) -> Result<Done, Refusal> {
    let key = key.ok_or(Refusal::ProvisioningKey)?;
    let terms = working(gateway, places::terms(gateway, &key)).await?;
    // Only now: a stranger's body is worth nothing.
    let body = body_of(gateway, request).await?;
    let registration = Registration::read(&body).map_err(Refusal::Malformed)?;
    let other = gateway.cache.by_key(&registration.key_hash).filter(|record| *record.name != *registration.uuid);
    if other.is_some() {
        tracing::warn!(device = registration.uuid, "a registration was refused: its key is another device's");
        return Err(Refusal::Taken);
    }
    let (outcome, device) = working(gateway, settle(gateway, &key, &terms, &registration)).await?;
    // Not before: a key that can be read and has no place left proves nothing.
    gateway.enrol.proven.note(key.hash);
    gateway.enrol.proven.note(registration.key_hash);
    Ok(Done(outcome, answer::registered(&registration, &device, &gateway.config.namespace)))
}

/// The `Device` of a registration, and how it came to be this one's: created, or taken up again.
async fn settle(
    gateway: &Gateway,
    key: &ProvisioningKey,
    terms: &Terms,
    registration: &Registration,
) -> Result<(&'static str, Device), Refusal> {
    let uuid = &registration.uuid;
    for _ in 0..ROUNDS {
        let enrolment = devices::fresh(gateway)?;
        let Some(found) = devices::find(gateway, uuid).await? else {
            let terms = places::take(gateway, key).await?;
            match devices::create(gateway, &created(registration, &key.name, &terms, enrolment)).await {
                Ok(Some(device)) => {
                    tracing::info!(device = uuid, provisioning_key = key.name, "a device has registered");
                    return Ok(("registered", device));
                }
                Ok(None) => places::give_back(gateway, key).await,
                Err(error) => {
                    // After anything but a plain no, the device may be there after all.
                    if matches!(&error, kube::Error::Api(status) if (400..500).contains(&status.code)) {
                        places::give_back(gateway, key).await;
                    }
                    return Err(match &error {
                        kube::Error::Api(status) if status.code == 422 => {
                            tracing::error!(
                                provisioning_key = key.name,
                                reason = status.message,
                                "the API server refuses the devices that this provisioning key makes: mend its Secret"
                            );
                            Refusal::Unfit
                        }
                        error => devices::failed(error, "a device can't be created"),
                    });
                }
            }
            continue;
        };
        let now = gateway.config.clock.now();
        let next = readmitted(&found, registration, &key.name, terms, enrolment, now).map_err(|why| {
            tracing::warn!(device = uuid, provisioning_key = key.name, reason = %why, "a registration was refused");
            Refusal::Taken
        })?;
        if let Some(device) = devices::write(gateway, uuid, &found, &next).await? {
            let before = found.spec.auth.as_ref().and_then(|auth| auth.key_hash.as_ref());
            let released = before != next.key_hash.as_ref();
            tracing::info!(device = uuid, provisioning_key = key.name, released, "a device has registered again");
            return Ok((if released { "taken_over" } else { "registered_again" }, device));
        }
    }
    Err(Refusal::Busy)
}
