//! What agents send besides reports, and Tranche doesn't keep: logs and metrics. Read away as it comes, since an agent that
//! is refused backs off and comes again with more.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Request, State};
use axum::response::{IntoResponse as _, Response};
use http::StatusCode;
use serde_json::json;

use super::Gateway;
use super::auth::{Refused, authenticate};
use super::body::{self, BodyError, Bounds};

/// Agents send what half a minute brings, and up to some thousand lines after an outage.
const BOUNDS: Bounds = Bounds {
    compressed: 1 << 20,
    plain: 4 << 20,
    what: "batch",
    malformed: ("malformed-batch", "Malformed batch"),
    says: "a batch may have 4 MiB, and 1 MiB when it is sent compressed",
};
/// By which an agent knows its batch again.
const BATCH_HEADER: &str = "x-batch-id";
/// Longer ones are nobody's.
const MAX_BATCH: usize = 256;

/// Handles a batch of log lines: agents of the third generation look for its id in the answer, and send it again
/// otherwise; older ones are told how many lines there were.
pub async fn logs(State(gateway): State<Arc<Gateway>>, request: Request) -> Response {
    let batch = request.headers().get(BATCH_HEADER).and_then(|id| id.to_str().ok());
    let batch = batch.filter(|id| id.len() <= MAX_BATCH).map(str::to_owned);
    match take_in(&gateway, request).await {
        Ok(lines) => {
            let mut body = json!({"status": "ok", "received": lines, "accepted": true});
            if let Some(batch) = batch {
                body["batchId"] = batch.into();
            }
            Json(body).into_response()
        }
        Err(response) => response,
    }
}

/// Handles metrics.
pub async fn metrics(State(gateway): State<Arc<Gateway>>, request: Request) -> Response {
    match take_in(&gateway, request).await {
        Ok(_) => StatusCode::NO_CONTENT.into_response(),
        Err(response) => response,
    }
}

/// How many lines a device of ours sent.
async fn take_in(gateway: &Gateway, request: Request) -> Result<usize, Response> {
    if let Err(why) = gateway.is_ready() {
        return Err(gateway.not_ready(why));
    }
    let now = gateway.config.clock.now();
    let record =
        authenticate(&gateway.cache, &gateway.config.device_uris, request.headers(), request.extensions(), || now)
            .map_err(axum::response::IntoResponse::into_response)?;
    let path = request.uri().path();
    if path.rsplit('/').nth(1).is_none_or(|uuid| !record.name.eq_ignore_ascii_case(uuid)) {
        return Err(Refused::Stranger.into_response());
    }
    gateway.presence.see(&record, now);
    let counted = match record.shared.besides.begin() {
        Some(_one) => body::count_lines(&gateway.reports.besides, request, &BOUNDS).await,
        None => Err(BodyError::TooMany),
    };
    counted.map_err(|error| error.problem(&BOUNDS).into_response())
}

/// Says that somebody is there. Whether everything is well is the ops port's to say.
pub async fn health() -> Response {
    Json(json!({"status": "ok"})).into_response()
}
