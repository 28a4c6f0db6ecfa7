//! `POST /api/v1/device/{uuid}/rotate-key`: a device has made itself another key. Ours: no agent does it by itself yet.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::response::Response;

use super::super::Gateway;
use super::super::auth::presented;
use super::refusal::Refusal;
use super::{Done, answer, body_of, devices, uuid_in, working};
use crate::enrol::hash::{self, KeyHash};
use crate::enrol::proof::MAX_SIGNATURE;
use crate::enrol::registration::{MAX_KEY, device_key, object, text};
use crate::enrol::rotation::{Rotation, RotationRefusal, rotated};

/// Where the present key is.
const KEY_HEADER: &str = "x-device-api-key";

/// Handles a rotation.
pub(super) async fn rotate(State(gateway): State<Arc<Gateway>>, request: Request) -> Response {
    let key = presented(request.headers(), KEY_HEADER).map(hash::of);
    match gateway.visitor(&request, key) {
        Ok(visitor) => gateway.ended(visitor, settle(&gateway, key, request).await),
        Err(response) => response,
    }
}

async fn settle(gateway: &Gateway, key: Option<KeyHash>, request: Request) -> Result<Done, Refusal> {
    let now = gateway.config.clock.now();
    // Known devices are in the cache, so a stranger costs the API server nothing.
    let claim = key.zip(uuid_in(request.uri().path())).filter(|(key, device)| {
        let record = gateway.cache.by_key(key);
        record.is_some_and(|record| &*record.name == device.as_str() && record.access.admits(key, || now))
    });
    let (key, device) = claim.ok_or(Refusal::Device)?;
    let body = object(&body_of(gateway, request).await?).map_err(Refusal::Malformed)?;
    let new = text(&body, "newKey", MAX_KEY).and_then(|new| device_key(&new.ok_or("newKey is missing")?, "newKey"));
    let new = new.map_err(Refusal::Malformed)?;
    let signature = text(&body, "signature", MAX_SIGNATURE).map_err(Refusal::Malformed)?;
    if gateway.cache.by_key(&new).is_some_and(|record| *record.name != *device) {
        return Err(Refusal::NotNew);
    }
    let overlap = gateway.config.enrol.overlap;
    let rotation = Rotation { uuid: device.clone(), present: key, next: new, signature };
    let written = devices::change(gateway, &device, |auth| {
        rotated(auth, &rotation, now, overlap).map_err(|why| {
            tracing::warn!(device, reason = %why, "a rotation was refused");
            match why {
                RotationRefusal::NotNew => Refusal::NotNew,
                RotationRefusal::Stranger | RotationRefusal::Unsigned | RotationRefusal::BadSignature => {
                    Refusal::Device
                }
            }
        })
    });
    let written = working(gateway, written).await?;
    tracing::info!(device, "a device has changed its key");
    gateway.shown(&device, &new).await;
    Ok(Done("rotated", answer::rotated(&written)))
}
