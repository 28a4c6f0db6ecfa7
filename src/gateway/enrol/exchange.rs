//! `POST /api/v1/device/{uuid}/key-exchange`: a device that has registered proves itself. And
//! `POST /api/v1/device/{uuid}/challenge`: it needs something else to sign, since the first challenge's time is over.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::response::Response;
use serde_json::{Map, Value};

use super::super::Gateway;
use super::super::auth::presented;
use super::refusal::Refusal;
use super::{answer, body_of, devices, uuid_in, within};
use crate::api::auth::{DeviceAuth, Enrolment};
use crate::enrol::exchange::{ExchangeRefusal, Outcome, Proof, judge, may_ask};
use crate::enrol::hash::{self, KeyHash};
use crate::enrol::registration::{MAX_KEY, object, text, uuid};
use crate::server::Peer;
use crate::server::source::Source;

/// Where agents of the third generation put their key until they are enrolled.
const AGENT_KEY_HEADER: &str = "x-agent-key";
/// And from then on.
const DEVICE_KEY_HEADER: &str = "x-device-api-key";
/// A P-256 signature in base64 has 96 characters at most.
const MAX_SIGNATURE: usize = 256;

/// Handles a key exchange.
pub(super) async fn exchange(State(gateway): State<Arc<Gateway>>, request: Request) -> Response {
    within(&gateway, settle(&gateway, request)).await
}

/// Handles the question for another challenge.
pub(super) async fn challenge(State(gateway): State<Arc<Gateway>>, request: Request) -> Response {
    within(&gateway, ask(&gateway, request)).await
}

/// Who claims to be which device.
struct Claim {
    source: Source,
    device: String,
    key: KeyHash,
}

impl Claim {
    fn of(gateway: &Gateway, request: &Request) -> Result<Self, Refusal> {
        let headers = request.headers();
        let source = gateway.source(headers, request.extensions().get::<Peer>())?;
        let header = if headers.contains_key(AGENT_KEY_HEADER) { AGENT_KEY_HEADER } else { DEVICE_KEY_HEADER };
        let key = presented(headers, header).map(hash::of);
        let Some((key, device)) = key.zip(uuid_in(request.uri().path())) else {
            gateway.enrol.limits.attempt(source).map_err(Refusal::TooMany)?;
            gateway.enrol.limits.failed(source);
            return Err(Refusal::Device);
        };
        gateway.attempt(source, &key)?;
        Ok(Self { source, device, key })
    }

    /// Notes a refusal: for the source's limit, and for people.
    fn refused(&self, gateway: &Gateway, why: ExchangeRefusal) -> Refusal {
        gateway.enrol.limits.failed(self.source);
        tracing::warn!(device = self.device, reason = %why, "a key exchange was refused");
        Refusal::Device
    }
}

async fn settle(gateway: &Gateway, request: Request) -> Result<Response, Refusal> {
    let claim = Claim::of(gateway, &request)?;
    let body = object(&body_of(gateway, request).await?).map_err(Refusal::Malformed)?;
    let (spelled, proof) = read(&body).map_err(Refusal::Malformed)?;
    if uuid(&spelled).as_deref() != Some(claim.device.as_str()) {
        return Err(claim.refused(gateway, ExchangeRefusal::Stranger));
    }
    let now = gateway.config.clock.now();
    let exchanged = devices::change(gateway, &claim.device, |auth| match judge(auth, &claim.key, &proof, now) {
        Ok(Outcome::Complete) => Ok(None),
        Ok(Outcome::Completes) => Ok(Some(completed(auth))),
        Err(why) => Err(claim.refused(gateway, why)),
    });
    let device = exchanged.await.inspect_err(|refusal| unknown(gateway, &claim, refusal))?;
    tracing::info!(device = claim.device, "a device has enrolled");
    gateway.shown(&claim.device, &claim.key).await;
    Ok(answer::exchanged(&device, &spelled))
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

/// A device that isn't there is refused before anything can be judged.
fn unknown(gateway: &Gateway, claim: &Claim, refusal: &Refusal) {
    if *refusal == Refusal::Device {
        gateway.enrol.limits.failed(claim.source);
    }
}

async fn ask(gateway: &Gateway, request: Request) -> Result<Response, Refusal> {
    let claim = Claim::of(gateway, &request)?;
    let now = gateway.config.clock.now();
    let fresh = devices::fresh(gateway)?;
    let asked = devices::change(gateway, &claim.device, |auth| match may_ask(auth, &claim.key, now) {
        Ok(true) => Ok(Some(asked_again(auth, &fresh))),
        Ok(false) => Err(Refusal::NoChallengeDue),
        Err(why) => Err(claim.refused(gateway, why)),
    });
    let device = asked.await.inspect_err(|refusal| unknown(gateway, &claim, refusal))?;
    Ok(answer::challenged(&device))
}
