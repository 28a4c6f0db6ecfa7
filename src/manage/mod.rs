//! The management side over HTTP: where registries knock.
//!
//! Decides who is let in and what they are answered; what a push makes is decided by [`crate::registry`], and what
//! becomes of a rollout by the planner. The only thing written from here is a new `ImageRollout`.
//!
//! Whoever mounts [`router`] must not log request URIs: the last part of a path may be the secret. The matched path
//! (`axum::extract::MatchedPath`) says `{secret}` and is safe.

mod answer;
pub mod cache;
pub mod door;
pub mod metrics;
mod refusal;
pub mod webhook;

use std::sync::Arc;

pub use cache::PolicyCache;
pub use door::{AuthMode, DoorError, WebhookAuth};
pub use metrics::WebhookMetrics;
pub use webhook::Webhook;

/// Where registries deliver.
pub const WEBHOOK_PATH: &str = "/api/v1/webhooks/docker-registry";

/// The routes of the management side.
pub fn router(webhook: Arc<Webhook>) -> axum::Router {
    webhook::routes().with_state(webhook)
}
