//! Requests that are turned away, and how they are told.
//!
//! Decides status and text. What the API server refuses is passed on in its own words: they name the person, the verb and
//! the resource. No text holds a token.

use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use kube::core::Status;

use crate::api::rollout::Phase;
use crate::problem::Problem;
use crate::server::limits::TooMuch;
use crate::verbs::Conflict;

use super::words;

/// Seconds after which to come again when the API server is out of reach.
const UNAVAILABLE_RETRY: u64 = 5;
/// Seconds after which to come again when there is too much to do.
const BUSY_RETRY: u64 = 1;
/// Longest text of the API server that is passed on, bytes.
const MAX_TEXT: usize = 2000;

/// Why a request was turned away.
#[derive(Debug, thiserror::Error)]
pub(super) enum Refusal {
    /// Nobody asks.
    #[error("send your own Kubernetes token: `Authorization: Bearer $(kubectl create token …)`")]
    NoToken,
    /// The API server said no.
    #[error("{}", .0.message)]
    Server(Box<Status>),
    /// The API server said nothing.
    #[error("the API server can't be asked")]
    Unreachable,
    /// What it said can't be read.
    #[error("{0} is there, and can't be read: it isn't what its kind says")]
    Unreadable(String),
    /// There is none of that name.
    #[error("there is no {kind} {id} in namespace {namespace}")]
    NotFound {
        /// Of what.
        kind: &'static str,
        /// Which.
        id: String,
        /// Where.
        namespace: String,
    },
    /// A part of the query.
    #[error("{name}: {why}")]
    Query {
        /// Which.
        name: String,
        /// What is wrong with it.
        why: String,
    },
    /// The body.
    #[error("{0}")]
    Body(String),
    /// A body that can't be.
    #[error("the body is larger than {0} bytes")]
    TooLarge(usize),
    /// A body that doesn't come.
    #[error("the body did not arrive in time")]
    Slow,
    /// The verb doesn't fit.
    #[error("{}", .0.text)]
    Conflict(Conflict),
    /// It is there, and is another one.
    #[error("{0}")]
    Exists(String),
    /// The caller knows an older one.
    #[error("it has changed since: its ETag is {current} now")]
    Precondition {
        /// What it is now.
        current: String,
    },
    /// Others keep changing it.
    #[error("it keeps changing while it is being written: try again")]
    Contended,
    /// It makes no sense to Tranche.
    #[error("{0}")]
    Invalid(String),
    /// Too much at once.
    #[error("too many requests at once: try again")]
    Busy,
    /// Too much of one source.
    #[error("too many requests, or too many with tokens that are none: try again in {} s", .0.retry_after)]
    RateLimited(TooMuch),
}

impl From<kube::Error> for Refusal {
    fn from(error: kube::Error) -> Self {
        match error {
            kube::Error::Api(status) => Self::Server(status),
            kube::Error::SerdeError(_) => Self::Unreadable("the object".into()),
            error => {
                tracing::warn!(%error, "a request of the REST API did not reach the API server");
                Self::Unreachable
            }
        }
    }
}

impl From<Conflict> for Refusal {
    fn from(conflict: Conflict) -> Self {
        Self::Conflict(conflict)
    }
}

impl Refusal {
    /// Whether the API server refused because somebody else wrote meanwhile.
    pub(super) fn is_stale(&self) -> bool {
        matches!(self, Self::Server(status) if status.is_conflict() && !status.is_already_exists())
    }

    /// Whether the API server refused because there is no such object.
    pub(super) fn is_missing(&self) -> bool {
        matches!(self, Self::Server(status) if status.is_not_found())
    }

    /// Whether the API server refused because the person may not.
    pub(super) fn is_forbidden(&self) -> bool {
        matches!(self, Self::Server(status) if status.is_forbidden())
    }

    /// Whether nobody knows who asks.
    pub(super) fn is_unauthenticated(&self) -> bool {
        matches!(self, Self::NoToken) || matches!(self, Self::Server(status) if status.code == 401)
    }

    /// As it is told.
    pub(super) fn problem(&self) -> Problem {
        let text = crate::api::condition::truncate(self.to_string(), MAX_TEXT);
        let (status, slug, title) = match self {
            Self::NoToken => (StatusCode::UNAUTHORIZED, "unauthenticated", "Not authenticated"),
            Self::Server(status) => of_server(status),
            Self::Unreachable => (StatusCode::SERVICE_UNAVAILABLE, "api-server-unavailable", "API server out of reach"),
            Self::Unreadable(_) => (StatusCode::INTERNAL_SERVER_ERROR, "unreadable", "Unreadable object"),
            Self::NotFound { .. } => (StatusCode::NOT_FOUND, "not-found", "Not found"),
            Self::Query { .. } => (StatusCode::BAD_REQUEST, "bad-parameter", "Bad parameter"),
            Self::Body(_) => (StatusCode::BAD_REQUEST, "bad-body", "Bad body"),
            Self::TooLarge(_) => (StatusCode::PAYLOAD_TOO_LARGE, "body-too-large", "Body too large"),
            Self::Slow => (StatusCode::REQUEST_TIMEOUT, "body-too-slow", "Body too slow"),
            Self::Conflict(_) => (StatusCode::CONFLICT, "state", "Not in this state"),
            Self::Exists(_) => (StatusCode::CONFLICT, "exists", "There already"),
            Self::Precondition { .. } => (StatusCode::PRECONDITION_FAILED, "changed", "Changed meanwhile"),
            Self::Contended => (StatusCode::SERVICE_UNAVAILABLE, "contended", "Changing too fast"),
            Self::Invalid(_) => (StatusCode::UNPROCESSABLE_ENTITY, "invalid", "Invalid"),
            Self::Busy | Self::RateLimited(_) => (StatusCode::TOO_MANY_REQUESTS, "busy", "Too many requests"),
        };
        let problem = Problem::new(status, slug, title, text);
        match self {
            Self::Query { name, .. } => problem.with("parameter", name.as_str()),
            Self::Conflict(Conflict { phase, .. }) => with_state(problem, *phase),
            Self::Busy | Self::Contended => problem.retry_after(BUSY_RETRY),
            Self::RateLimited(TooMuch { retry_after }) => problem.retry_after(*retry_after),
            Self::Unreachable => problem.retry_after(UNAVAILABLE_RETRY),
            Self::Server(_) if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS => {
                problem.retry_after(UNAVAILABLE_RETRY)
            }
            Self::NoToken
            | Self::Server(_)
            | Self::Unreadable(_)
            | Self::NotFound { .. }
            | Self::Body(_)
            | Self::TooLarge(_)
            | Self::Slow
            | Self::Exists(_)
            | Self::Precondition { .. }
            | Self::Invalid(_) => problem,
        }
    }
}

fn with_state(problem: Problem, phase: Phase) -> Problem {
    problem.with("state", phase.as_str()).with("rollout_status", words::rollout(phase, false).as_str())
}

/// What the API server's refusals are called here.
fn of_server(status: &Status) -> (StatusCode, &'static str, &'static str) {
    match status.code {
        401 => (StatusCode::UNAUTHORIZED, "unauthenticated", "Not authenticated"),
        403 => (StatusCode::FORBIDDEN, "forbidden", "Forbidden"),
        404 => (StatusCode::NOT_FOUND, "not-found", "Not found"),
        409 if status.is_already_exists() => (StatusCode::CONFLICT, "exists", "There already"),
        409 => (StatusCode::CONFLICT, "changed", "Changed meanwhile"),
        400 => (StatusCode::BAD_REQUEST, "bad-body", "Bad body"),
        413 => (StatusCode::PAYLOAD_TOO_LARGE, "body-too-large", "Body too large"),
        422 => (StatusCode::UNPROCESSABLE_ENTITY, "invalid", "Invalid"),
        429 => (StatusCode::TOO_MANY_REQUESTS, "busy", "Too many requests"),
        _ => (StatusCode::SERVICE_UNAVAILABLE, "api-server-unavailable", "API server out of reach"),
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
