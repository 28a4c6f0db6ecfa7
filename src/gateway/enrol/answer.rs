//! What a device is told that enrols. Each generation of agents reads its own part of one answer.

use axum::Json;
use axum::response::{IntoResponse as _, Response};
use serde_json::{Value, json};

use super::super::cache::name_hash;
use crate::api::auth::Enrolment;
use crate::api::{Device, FLEET_LABEL};
use crate::enrol::registration::Registration;

/// A device's number: agents want one, and keep it. It follows from the UUID, so every replica says the same.
fn id(device: &Device) -> u64 {
    // 31 bits, and never 0: some agents keep it in a signed column.
    (name_hash(device.metadata.name.as_deref().unwrap_or_default()) >> 33).max(1)
}

/// The answer to a registration.
pub(super) fn registered(registration: &Registration, device: &Device, namespace: &str) -> Response {
    let Registration { spelled, name, type_, application, uuid: _, key_hash: _, public_key: _ } = registration;
    let label = |name: &str| device.metadata.labels.as_ref().and_then(|labels| labels.get(name));
    let enrolment = device.spec.auth.as_ref().and_then(|auth| auth.enrolment.as_ref());
    let name = device.spec.display_name.as_ref().or(name.as_ref()).unwrap_or(spelled);
    let type_ = type_.as_deref().unwrap_or("generic");
    let created = device.metadata.creation_timestamp.as_ref();
    let mut body = json!({
        "id": id(device),
        "uuid": spelled,
        "name": name,
        "deviceName": name,
        "type": type_,
        "deviceType": type_,
        "fleetId": label(FLEET_LABEL),
        "tenantId": namespace,
        "challenge": enrolment.map(|Enrolment { challenge, .. }| challenge),
        "expiresAt": enrolment.map(|Enrolment { expires, .. }| expires),
        // Without a brokerConfig agents stay with HTTP.
        "mqtt": {"username": "", "password": "", "broker": "", "topics": {"publish": [], "subscribe": []}},
        "createdAt": created,
    });
    if let Some(application) = application {
        body["applicationId"] = Value::from(*application);
    }
    Json(body).into_response()
}

/// The answer to a key exchange.
pub(super) fn exchanged(device: &Device, spelled: &str) -> Response {
    let name = device.spec.display_name.as_deref().unwrap_or(spelled);
    Json(json!({
        "status": "ok",
        "message": "key exchange successful",
        "device": {"id": id(device), "uuid": spelled, "deviceName": name},
    }))
    .into_response()
}

/// The answer to the question for another challenge.
pub(super) fn challenged(device: &Device) -> Response {
    let enrolment = device.spec.auth.as_ref().and_then(|auth| auth.enrolment.as_ref());
    Json(json!({
        "challenge": enrolment.map(|Enrolment { challenge, .. }| challenge),
        "expiresAt": enrolment.map(|Enrolment { expires, .. }| expires),
    }))
    .into_response()
}

/// The answer to a rotation.
pub(super) fn rotated(device: &Device) -> Response {
    let until = device.spec.auth.as_ref().and_then(|auth| auth.previous_key_expires.as_ref());
    Json(json!({"status": "ok", "previousKeyExpiresAt": until})).into_response()
}
