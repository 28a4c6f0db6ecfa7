//! What operators ask: alive, ready, how much of what.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::{StatusCode, header};

use crate::metrics::Metrics;

type Check = dyn Fn() -> Result<(), String> + Send + Sync;

/// Whether one component is ready, and what it waits for if not.
#[derive(Clone)]
pub struct Readiness {
    component: &'static str,
    check: Arc<Check>,
}

impl Readiness {
    /// Of a component.
    pub fn new(component: &'static str, check: impl Fn() -> Result<(), String> + Send + Sync + 'static) -> Self {
        Self { component, check: Arc::new(check) }
    }
}

#[derive(Clone)]
struct Ops {
    readiness: Arc<[Readiness]>,
    metrics: Arc<Metrics>,
}

/// `/livez`, `/readyz` and `/metrics`.
pub fn router(readiness: Vec<Readiness>, metrics: Arc<Metrics>) -> Router {
    Router::new()
        // It answers, so it is alive. Anything more would have it restarted for somebody else's outage.
        .route("/livez", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics_text))
        .with_state(Ops { readiness: readiness.into(), metrics })
}

async fn ready(State(ops): State<Ops>) -> Response {
    let mut status = StatusCode::OK;
    let mut text = String::new();
    for Readiness { component, check } in ops.readiness.iter() {
        match check() {
            Ok(()) => text.push_str(&format!("{component}: ready\n")),
            Err(why) => {
                status = StatusCode::SERVICE_UNAVAILABLE;
                text.push_str(&format!("{component}: {why}\n"));
            }
        }
    }
    (status, text).into_response()
}

async fn metrics_text(State(ops): State<Ops>) -> Response {
    let content_type = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, content_type)], ops.metrics.encode()).into_response()
}
