//! The management side over HTTP: where registries knock, and people who don't live in kubectl ([`rest`]).
//!
//! Decides who is let in and what they are answered; what a push makes is decided by [`crate::registry`], and what
//! becomes of a rollout by the planner. All that is written from here with Tranche's own rights is a new `ImageRollout`,
//! and the status of a `RegistryWebhook`; people write with theirs.
//!
//! Whoever mounts [`router`] must not log request URIs: the last part of a path may be the secret. The matched path
//! (`axum::extract::MatchedPath`) says `{secret}` or `{token}` and is safe.

mod admit;
mod answer;
pub mod cache;
pub mod door;
pub mod jwks;
pub mod limits;
pub mod metrics;
pub mod receivers;
mod refusal;
pub mod rest;
pub mod webhook;

use std::sync::Arc;

pub use cache::PolicyCache;
pub use door::{AuthMode, DoorError, WebhookAuth};
pub use jwks::Jwks;
pub use metrics::WebhookMetrics;
pub use receivers::Receivers;
pub use webhook::{Hooks, Webhook};

pub use crate::server::source::TrustedProxies;

/// Where registries deliver.
pub const WEBHOOK_PATH: &str = "/api/v1/webhooks/docker-registry";

/// Where the paths of receivers begin; their last part is the unguessable one.
pub const HOOKS_PATH: &str = "/hooks";

/// The routes of the management side.
pub fn router(webhook: Arc<Webhook>) -> axum::Router {
    webhook::routes().with_state(webhook)
}
