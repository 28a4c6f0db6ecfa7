//! Deliveries that are turned away, and how they are told.
//!
//! Decides status and text. No text repeats what was sent beyond the name of an image, and none holds a secret.

use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};

use super::door::HOW_TO_OPEN;
use super::jwks::JwksError;
use super::metrics::Outcome;
use crate::problem::Problem;
use crate::record::RecordError;
use crate::registry::ParseError;
use crate::registry::oidc::TokenError;
use crate::registry::signature::Unauthentic;
use crate::server::limits::TooMuch;

/// Seconds after which a throttled delivery may come again: the deliveries in front take milliseconds.
const THROTTLED_RETRY: u64 = 1;
/// Seconds after which a delivery may come again when the API server is out of reach.
const UNAVAILABLE_RETRY: u64 = 5;

/// Why a delivery was turned away.
#[derive(Debug, thiserror::Error)]
pub(super) enum Refusal {
    /// No secret is set.
    #[error("the webhook is shut: {HOW_TO_OPEN}")]
    Shut,
    /// A page in somebody's browser, trying a trial's open door.
    #[error("with --webhook-auth=none deliveries from browsers are not taken: any page could send one")]
    Browser,
    /// Not authentic.
    #[error(transparent)]
    Unauthentic(#[from] Unauthentic),
    /// The platform's token proves nothing.
    #[error("{0}")]
    Token(#[from] TokenError),
    /// Whether it does can't be told.
    #[error("{0}: try again")]
    NoKeys(#[from] JwksError),
    /// No receiver has that path, or none has it any more.
    #[error("there is nothing here: status.path of the RegistryWebhook says where its deliveries go")]
    NoReceiver,
    /// Over the limit.
    #[error("the body is larger than {limit} bytes")]
    TooLarge {
        /// In bytes.
        limit: usize,
    },
    /// Not here in time.
    #[error("the body did not arrive within {seconds} s")]
    Slow {
        /// The limit.
        seconds: u64,
    },
    /// The connection broke, or the framing was wrong.
    #[error("the body could not be read to its end")]
    Broken,
    /// Too many at once.
    #[error("too many deliveries at once: try again")]
    Throttled,
    /// Too many in a time.
    #[error("too many deliveries: try again in {} s", .0.retry_after)]
    RateLimited(TooMuch),
    /// Authentic and not understood.
    #[error(transparent)]
    NotUnderstood(ParseError),
    /// The policies aren't known yet.
    #[error("the policies are not read yet: try again")]
    NotReady,
    /// Out of time while recording.
    #[error("the rollout could not be stored in time: try again")]
    Late,
    /// The API server, or a registry that has to be asked first.
    #[error("{0}: try again")]
    NotRecorded(#[from] RecordError),
}

impl Refusal {
    /// For metrics.
    pub(super) fn outcome(&self) -> Outcome {
        match self {
            Self::Shut | Self::Browser => Outcome::Shut,
            Self::Unauthentic(_) | Self::Token(_) | Self::NoReceiver => Outcome::Unauthentic,
            Self::TooLarge { .. } => Outcome::TooLarge,
            Self::Slow { .. } | Self::Broken => Outcome::Incomplete,
            Self::Throttled => Outcome::Throttled,
            Self::RateLimited(_) => Outcome::RateLimited,
            Self::NotUnderstood(_) => Outcome::NotUnderstood,
            Self::NotReady | Self::Late | Self::NotRecorded(_) | Self::NoKeys(_) => Outcome::Unavailable,
        }
    }

    fn problem(&self) -> Problem {
        let (status, slug, title) = match self {
            // Not 503: waiting doesn't help, a person has to do something.
            Self::Shut => (StatusCode::FORBIDDEN, "webhook-shut", "The webhook is shut"),
            Self::Browser => (StatusCode::FORBIDDEN, "webhook-browser", "Not for browsers"),
            // The predecessor's word for the same.
            Self::Unauthentic(Unauthentic::Signature(_)) => {
                (StatusCode::UNAUTHORIZED, "webhook-signature", "Invalid signature")
            }
            Self::Unauthentic(
                Unauthentic::NoCredential | Unauthentic::NotSigned(_) | Unauthentic::Secret | Unauthentic::NoToken,
            )
            | Self::Token(_) => (StatusCode::UNAUTHORIZED, "webhook-unauthentic", "Not authentic"),
            Self::NoReceiver => (StatusCode::NOT_FOUND, "webhook-unknown", "No such webhook"),
            Self::TooLarge { .. } => (StatusCode::PAYLOAD_TOO_LARGE, "body-too-large", "Body too large"),
            Self::Slow { .. } => (StatusCode::REQUEST_TIMEOUT, "body-too-slow", "Body too slow"),
            Self::Broken => (StatusCode::BAD_REQUEST, "body-incomplete", "Body incomplete"),
            Self::Throttled | Self::RateLimited(_) => {
                (StatusCode::TOO_MANY_REQUESTS, "too-many-deliveries", "Too many deliveries")
            }
            // The predecessor's word, too.
            Self::NotUnderstood(_) => (StatusCode::BAD_REQUEST, "webhook-payload", "Invalid payload format"),
            Self::NotRecorded(RecordError::BeingDeleted(_)) => {
                (StatusCode::SERVICE_UNAVAILABLE, "being-deleted", "Being deleted")
            }
            Self::NotRecorded(RecordError::Registry { .. }) => {
                (StatusCode::SERVICE_UNAVAILABLE, "registry-unavailable", "Registry out of reach")
            }
            Self::NoKeys(_) => (StatusCode::SERVICE_UNAVAILABLE, "keys-unavailable", "Keys out of reach"),
            Self::NotReady
            | Self::Late
            | Self::NotRecorded(RecordError::Timeout(_) | RecordError::Create(_) | RecordError::Read(_)) => {
                (StatusCode::SERVICE_UNAVAILABLE, "api-server-unavailable", "API server out of reach")
            }
        };
        let problem = Problem::new(status, slug, title, self.to_string());
        if let Self::RateLimited(TooMuch { retry_after }) = self {
            return problem.retry_after(*retry_after);
        }
        match self.outcome() {
            Outcome::Throttled | Outcome::RateLimited => problem.retry_after(THROTTLED_RETRY),
            Outcome::Unavailable => problem.retry_after(UNAVAILABLE_RETRY),
            Outcome::Created
            | Outcome::Existing
            | Outcome::Ignored
            | Outcome::Shut
            | Outcome::Unauthentic
            | Outcome::TooLarge
            | Outcome::Incomplete
            | Outcome::NotUnderstood => problem,
        }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let mut response = self.problem().into_response();
        if response.status() == StatusCode::UNAUTHORIZED {
            // RFC 9110 §11.6.1: a 401 names a scheme.
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}
