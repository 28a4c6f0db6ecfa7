//! Why an enrolment is refused, as the device is told. The log says more; never a key.

use axum::response::{IntoResponse, Response};
use http::StatusCode;

use super::super::body::BodyError;
use super::BOUNDS;
use crate::problem::Problem;
use crate::server::limits::TooMuch;

/// Seconds after which a request is worth trying again that the API server could not take.
const RETRY_AFTER: u64 = 5;

/// Seconds after which a gateway knows its devices that has just started.
const READY_AFTER: u64 = 5;

/// What a refusal is held against.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Blame {
    /// A key that proved nothing: it counts as a failed attempt of its source.
    Key,
    /// A request that nobody sends by mistake: it counts so unless its key has proven itself.
    Request,
    /// Nothing: it is no attempt to get in.
    Nobody,
}

/// Why an enrolment is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// The provisioning key opens nothing: unknown, wrong, revoked, expired and used up look the same.
    ProvisioningKey,
    /// The device doesn't prove itself: unknown, revoked, with another key, with a bad signature look the same.
    Device,
    /// The UUID is another's.
    Taken,
    /// There is a challenge already, or none is needed.
    NoChallengeDue,
    /// The new key is no new key.
    NotNew,
    /// The body says too little, or nonsense.
    Malformed(String),
    /// The body can't be taken in.
    Body(BodyError),
    /// The API server refuses what the provisioning key's Secret makes of a device: for a person to mend.
    Unfit,
    /// The source has asked too much.
    TooMany(TooMuch),
    /// The API server could not take it.
    Busy,
    /// The gateway doesn't know its devices yet.
    NotReady(&'static str),
}

impl Refusal {
    /// One word for what is counted (see [`crate::metrics::ENROLMENT_OUTCOMES`]).
    pub(super) fn label(&self) -> &'static str {
        match self {
            Self::ProvisioningKey => "provisioning_key_refused",
            Self::Device => "device_refused",
            Self::Taken => "taken",
            Self::Unfit => "unfit",
            Self::NoChallengeDue | Self::NotNew => "conflict",
            Self::Malformed(_) | Self::Body(_) => "malformed",
            Self::TooMany(_) => "rate_limited",
            Self::Busy => "unavailable",
            Self::NotReady(_) => "not_ready",
        }
    }

    /// What it is held against.
    pub(super) fn blame(&self) -> Blame {
        match self {
            Self::ProvisioningKey | Self::Device => Blame::Key,
            Self::Malformed(_) | Self::Body(_) => Blame::Request,
            Self::Taken
            | Self::NoChallengeDue
            | Self::NotNew
            | Self::Unfit
            | Self::TooMany(_)
            | Self::Busy
            | Self::NotReady(_) => Blame::Nobody,
        }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        match self {
            Self::ProvisioningKey => Problem::new(
                StatusCode::UNAUTHORIZED,
                "provisioning-key",
                "Unauthorized",
                "send a valid provisioning key as Authorization: Bearer or as x-provisioning-key",
            ),
            Self::Device => Problem::new(
                StatusCode::UNAUTHORIZED,
                "device-proof",
                "Unauthorized",
                "the device is not known, or did not prove itself",
            ),
            Self::Taken => Problem::new(
                StatusCode::CONFLICT,
                "already-registered",
                "Already registered",
                "a device with this UUID is registered; only a person can release it",
            ),
            Self::NoChallengeDue => Problem::new(
                StatusCode::CONFLICT,
                "no-challenge-due",
                "No challenge due",
                "a challenge is waiting to be answered, or the registration is complete",
            ),
            Self::NotNew => Problem::new(
                StatusCode::CONFLICT,
                "key-in-use",
                "Key in use",
                "newKey must be a key that was never used",
            ),
            Self::Malformed(why) => Problem::new(StatusCode::BAD_REQUEST, BOUNDS.malformed.0, BOUNDS.malformed.1, why),
            Self::Body(error) => error.problem(&BOUNDS),
            Self::Unfit => Problem::new(
                StatusCode::UNPROCESSABLE_ENTITY,
                "device-unfit",
                "Device unfit",
                "the cluster doesn't accept a device as this provisioning key makes it; a person has to mend the key's Secret",
            ),
            Self::TooMany(TooMuch { retry_after }) => Problem::new(
                StatusCode::TOO_MANY_REQUESTS,
                "too-many-attempts",
                "Too many attempts",
                "too many requests or failed attempts from this address",
            )
            .retry_after(retry_after),
            Self::Busy => Problem::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "not-enrolled",
                "Service unavailable",
                "this could not be done now; try again",
            )
            .retry_after(RETRY_AFTER),
            Self::NotReady(why) => {
                Problem::new(StatusCode::SERVICE_UNAVAILABLE, "not-ready", "Not ready", why).retry_after(READY_AFTER)
            }
        }
        .into_response()
    }
}
