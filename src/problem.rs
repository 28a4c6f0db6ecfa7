//! Error answers: RFC 9457 `application/problem+json`, the one shape of every refusal on every route.

use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use serde::Serialize;

/// An error answer. `title` names the kind of problem and never changes; `detail` says what happened this time and
/// what to do, and never carries a secret.
#[derive(Clone, Debug, Serialize)]
pub struct Problem {
    /// Stable identifier of the kind of problem: `https://tranche.dev/problems/<slug>`.
    #[serde(rename = "type")]
    type_: String,
    /// The kind of problem, for people.
    title: &'static str,
    /// HTTP status, again.
    status: u16,
    /// This occurrence.
    detail: String,
    /// Same as `title`, for agents and scripts of the predecessor that read `{error, message}`.
    error: &'static str,
    /// Same as `detail`, for the same readers.
    message: String,
    /// Whatever else a program may want to know.
    #[serde(flatten)]
    more: serde_json::Map<String, serde_json::Value>,
    /// `Retry-After`, seconds.
    #[serde(skip)]
    retry_after: Option<u64>,
}

impl Problem {
    /// A problem with a stable slug, title and this occurrence's detail.
    #[must_use]
    pub fn new(status: StatusCode, slug: &str, title: &'static str, detail: impl Into<String>) -> Self {
        let detail = detail.into();
        Self {
            type_: format!("https://tranche.dev/problems/{slug}"),
            title,
            status: status.as_u16(),
            message: detail.clone(),
            detail,
            error: title,
            more: serde_json::Map::new(),
            retry_after: None,
        }
    }

    /// With a `Retry-After` of so many seconds.
    #[must_use]
    pub fn retry_after(mut self, seconds: u64) -> Self {
        self.retry_after = Some(seconds);
        self
    }

    /// With a member of its own.
    #[must_use]
    pub fn with(mut self, member: &str, value: impl Into<serde_json::Value>) -> Self {
        self.more.insert(member.to_owned(), value.into());
        self
    }

    /// Its status.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        // Serialising strings and numbers can't fail.
        let body = serde_json::to_vec(&self).unwrap_or_default();
        let mut response = (self.status(), body).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if let Some(seconds) = self.retry_after {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}
