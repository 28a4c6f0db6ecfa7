//! Answers in the words of the real one.

use axum::body::Body;
use http::{Response, StatusCode};
use serde_json::{Value, json};

/// An answer that isn't the object that was asked for.
#[derive(Debug)]
pub struct Refusal {
    pub code: StatusCode,
    reason: &'static str,
    message: String,
    causes: Vec<Value>,
}

impl Refusal {
    pub fn new(code: StatusCode, message: impl Into<String>) -> Self {
        let reason = match code {
            StatusCode::NOT_FOUND => "NotFound",
            StatusCode::CONFLICT => "Conflict",
            StatusCode::GONE => "Expired",
            StatusCode::UNPROCESSABLE_ENTITY => "Invalid",
            StatusCode::TOO_MANY_REQUESTS => "TooManyRequests",
            StatusCode::SERVICE_UNAVAILABLE => "ServiceUnavailable",
            StatusCode::FORBIDDEN => "Forbidden",
            StatusCode::BAD_REQUEST => "BadRequest",
            _ => "InternalError",
        };
        Self { code, reason, message: message.into(), causes: Vec::new() }
    }

    pub fn not_found(name: &str) -> Self {
        Self::new(StatusCode::NOT_FOUND, format!("{name} not found"))
    }

    pub fn already_exists(name: &str) -> Self {
        Self { reason: "AlreadyExists", ..Self::new(StatusCode::CONFLICT, format!("{name} already exists")) }
    }

    pub fn conflict(name: &str, why: &str) -> Self {
        Self::new(StatusCode::CONFLICT, format!("Operation cannot be fulfilled on {name}: {why}"))
    }

    /// Other managers own what was to be applied.
    pub fn owned(conflicts: &[(String, String)]) -> Self {
        let cause = |(manager, field): &(String, String)| json!({"reason": "FieldManagerConflict", "message": format!("conflict with {manager:?}"), "field": field});
        let message = format!("Apply failed with {} conflicts", conflicts.len());
        Self { causes: conflicts.iter().map(cause).collect(), ..Self::new(StatusCode::CONFLICT, message) }
    }

    pub fn json(&self) -> Value {
        let Self { code, reason, message, causes } = self;
        json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "code": code.as_u16(),
            "reason": reason, "message": message, "details": {"causes": causes},
        })
    }
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

pub fn respond(result: &Result<(StatusCode, Value), Refusal>) -> Response<Body> {
    let (code, body) = match result {
        Ok((code, body)) => (*code, body.to_string()),
        Err(refusal) => (refusal.code, refusal.json().to_string()),
    };
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = code;
    response.headers_mut().insert(http::header::CONTENT_TYPE, http::HeaderValue::from_static("application/json"));
    response
}
