//! `POST /api/v1/device/{uuid}/rotate-key`: a device has made itself another key. Ours: no agent does it by itself yet.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::response::Response;

use super::super::Gateway;
use super::super::auth::presented;
use super::refusal::Refusal;
use super::{answer, body_of, devices, uuid_in, within};
use crate::enrol::hash;
use crate::enrol::registration::{MAX_KEY, device_key, object, text};
use crate::enrol::rotation::{RotationRefusal, rotated};
use crate::server::Peer;

/// Where the present key is.
const KEY_HEADER: &str = "x-device-api-key";

/// Handles a rotation.
pub(super) async fn rotate(State(gateway): State<Arc<Gateway>>, request: Request) -> Response {
    within(&gateway, settle(&gateway, request)).await
}

async fn settle(gateway: &Gateway, request: Request) -> Result<Response, Refusal> {
    let source = gateway.source(request.headers(), request.extensions().get::<Peer>())?;
    let now = gateway.config.clock.now();
    // Known devices are in the cache, so a stranger costs the API server nothing.
    let presented = presented(request.headers(), KEY_HEADER).map(hash::of);
    let claim = presented.zip(uuid_in(request.uri().path())).filter(|(key, device)| {
        let record = gateway.cache.by_key(key);
        record.is_some_and(|record| &*record.name == device.as_str() && record.access.admits(key, || now))
    });
    let Some((key, device)) = claim else {
        gateway.enrol.limits.attempt(source).map_err(Refusal::TooMany)?;
        gateway.enrol.limits.failed(source);
        return Err(Refusal::Device);
    };
    let body = object(&body_of(gateway, request).await?).map_err(Refusal::Malformed)?;
    let new = text(&body, "newKey", MAX_KEY).and_then(|new| device_key(&new.ok_or("newKey is missing")?, "newKey"));
    let new = new.map_err(Refusal::Malformed)?;
    if gateway.cache.by_key(&new).is_some_and(|record| *record.name != *device) {
        return Err(Refusal::NotNew);
    }
    let overlap = gateway.config.enrol.overlap;
    let written = devices::change(gateway, &device, |auth| {
        rotated(auth, &key, &new, now, overlap).map_err(|why| match why {
            RotationRefusal::Stranger => Refusal::Device,
            RotationRefusal::NotNew => Refusal::NotNew,
        })
    });
    let written = written.await?;
    tracing::info!(device, "a device has changed its key");
    gateway.shown(&device, &new).await;
    Ok(answer::rotated(&written))
}
