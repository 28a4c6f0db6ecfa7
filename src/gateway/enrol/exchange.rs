//! `POST /api/v1/device/{uuid}/key-exchange`: a device that has registered proves itself. And
//! `POST /api/v1/device/{uuid}/challenge`: it needs something else to sign, since the first challenge's time is over.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::response::Response;
use http::HeaderMap;
use serde_json::{Map, Value};

use super::super::Gateway;
use super::super::auth::presented;
use super::refusal::Refusal;
use super::{Done, answer, body_of, devices, uuid_in, working};
use crate::api::auth::{DeviceAuth, Enrolment};
use crate::enrol::device::is_key;
use crate::enrol::exchange::{ExchangeRefusal, Outcome, Proof, judge, may_ask};
use crate::enrol::hash::{self, KeyHash};
use crate::enrol::proof::MAX_SIGNATURE;
use crate::enrol::registration::{MAX_KEY, object, text, uuid};

/// Where agents of the third generation put their key until they are enrolled.
const AGENT_KEY_HEADER: &str = "x-agent-key";
/// And from then on.
const DEVICE_KEY_HEADER: &str = "x-device-api-key";

/// Handles a key exchange.
pub(super) async fn exchange(State(gateway): State<Arc<Gateway>>, request: Request) -> Response {
    let key = key_of(request.headers());
    match gateway.visitor(&request, key) {
        Ok(visitor) => gateway.ended(visitor, settle(&gateway, key, request).await),
        Err(response) => response,
    }
}

/// Handles the question for another challenge.
pub(super) async fn challenge(State(gateway): State<Arc<Gateway>>, request: Request) -> Response {
    let key = key_of(request.headers());
    match gateway.visitor(&request, key) {
        Ok(visitor) => gateway.ended(visitor, ask(&gateway, Claim::of(key, &request)).await),
        Err(response) => response,
    }
}

/// The key that the head presents.
fn key_of(headers: &HeaderMap) -> Option<KeyHash> {
    let header = if headers.contains_key(AGENT_KEY_HEADER) { AGENT_KEY_HEADER } else { DEVICE_KEY_HEADER };
    presented(headers, header).map(hash::of)
}

/// Who claims to be which device.
struct Claim {
    device: String,
    key: KeyHash,
}

impl Claim {
    fn of(key: Option<KeyHash>, request: &Request) -> Result<Self, Refusal> {
        let (key, device) = key.zip(uuid_in(request.uri().path())).ok_or(Refusal::Device)?;
        Ok(Self { device, key })
    }

    /// Notes a refusal for people.
    fn refused(&self, why: ExchangeRefusal) -> Refusal {
        tracing::warn!(device = self.device, reason = %why, "a key exchange was refused");
        Refusal::Device
    }

    /// Whether the key is this device's, before anything else is taken in. A device that isn't there looks the same.
    async fn check(&self, gateway: &Gateway) -> Result<(), Refusal> {
        if gateway.cache.by_key(&self.key).is_some_and(|record| *record.name == *self.device) {
            return Ok(());
        }
        // Another replica may have registered it a moment ago.
        let found = working(gateway, devices::find(gateway, &self.device)).await?;
        let stored = found.and_then(|device| device.spec.auth?.key_hash);
        if is_key(stored.as_deref(), &self.key) { Ok(()) } else { Err(self.refused(ExchangeRefusal::Stranger)) }
    }
}

async fn settle(gateway: &Gateway, key: Option<KeyHash>, request: Request) -> Result<Done, Refusal> {
    let claim = Claim::of(key, &request)?;
    claim.check(gateway).await?;
    let body = object(&body_of(gateway, request).await?).map_err(Refusal::Malformed)?;
    let (spelled, proof) = read(&body).map_err(Refusal::Malformed)?;
    if uuid(&spelled).as_deref() != Some(claim.device.as_str()) {
        return Err(claim.refused(ExchangeRefusal::Stranger));
    }
    let now = gateway.config.clock.now();
    let exchanged = devices::change(gateway, &claim.device, |auth| match judge(auth, &claim.key, &proof, now) {
        Ok(Outcome::Complete) => Ok(None),
        Ok(Outcome::Completes) => Ok(Some(completed(auth))),
        Err(why) => Err(claim.refused(why)),
    });
    let device = working(gateway, exchanged).await?;
    tracing::info!(device = claim.device, "a device has enrolled");
    gateway.shown(&claim.device, &claim.key).await;
    Ok(Done("enrolled", answer::exchanged(&device, &spelled)))
}

/// The device's spelling of its UUID, and what it proves itself with.
fn read(body: &Map<String, Value>) -> Result<(String, Proof), String> {
    let spelled = text(body, "uuid", 64)?.ok_or("uuid is missing")?;
    if let Some(signature) = text(body, "signature", MAX_SIGNATURE)? {
        return Ok((spelled.clone(), Proof::Signature { uuid: spelled, signature }));
    }
    let key = text(body, "deviceApiKey", MAX_KEY)?.ok_or("signature or deviceApiKey is missing")?;
    Ok((spelled, Proof::Key(hash::of(key))))
}

fn completed(auth: &DeviceAuth) -> DeviceAuth {
    let enrolment = auth.enrolment.clone().map(|enrolment| Enrolment { completed: true, ..enrolment });
    DeviceAuth { enrolment, ..auth.clone() }
}

/// `spec.auth` with another challenge; since when the device has its UUID is another matter.
fn asked_again(auth: &DeviceAuth, fresh: &Enrolment) -> DeviceAuth {
    let since = auth.enrolment.as_ref().and_then(|enrolment| enrolment.since.clone());
    DeviceAuth { enrolment: Some(Enrolment { since, ..fresh.clone() }), ..auth.clone() }
}

async fn ask(gateway: &Gateway, claim: Result<Claim, Refusal>) -> Result<Done, Refusal> {
    let claim = claim?;
    let now = gateway.config.clock.now();
    let fresh = devices::fresh(gateway)?;
    let asked = devices::change(gateway, &claim.device, |auth| match may_ask(auth, &claim.key, now) {
        Ok(true) => Ok(Some(asked_again(auth, &fresh))),
        Ok(false) => Err(Refusal::NoChallengeDue),
        Err(why) => Err(claim.refused(why)),
    });
    let device = working(gateway, asked).await?;
    Ok(Done("challenged", answer::challenged(&device)))
}
