//! Answers to authentic deliveries: shapes that scripts of the predecessor read, with more beside.

use axum::Json;
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use super::door::{HOW_TO_OPEN, WebhookAuth};
use crate::api::ImageRef;
use crate::api::policy::StrategyType;
use crate::registry::intake::{Creation, Ignored};
use crate::registry::{Reason, familiar};

/// A push that has its rollouts. `rollout_id`, `strategy` are those of the first policy, in order of namespace and name.
#[derive(Debug, Serialize)]
pub(super) struct Processed {
    message: &'static str,
    rollout_id: String,
    strategy: &'static str,
    image: String,
    tag: Option<String>,
    rollouts: Vec<Made>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    ignored_by: Vec<IgnoredBy>,
}

/// One rollout of a push.
#[derive(Debug, Serialize)]
pub(super) struct Made {
    rollout_id: String,
    namespace: String,
    policy: String,
    strategy: &'static str,
    /// False when it was there already.
    created: bool,
}

impl Made {
    /// Of a creation that was recorded.
    pub(super) fn of(Creation { policy, terms, rollout: _ }: &Creation, name: String, created: bool) -> Self {
        Self {
            rollout_id: name,
            namespace: policy.namespace.clone(),
            policy: policy.name.clone(),
            strategy: strategy_word(terms.strategy),
            created,
        }
    }

    /// Whether this delivery made it.
    pub(super) fn is_new(&self) -> bool {
        self.created
    }
}

/// A push that made nothing.
#[derive(Debug, Serialize)]
struct Nothing {
    message: &'static str,
    /// Why, in a sentence.
    ignored: String,
    /// Why, in a word.
    reason: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    image: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tag: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    ignored_by: Vec<IgnoredBy>,
}

/// A policy that had a word against it.
#[derive(Debug, Serialize)]
struct IgnoredBy {
    namespace: String,
    policy: String,
    ignored: String,
    reason: &'static str,
}

/// The answer to a push: `image` is the first one pushed, if the delivery tells of any.
pub(super) fn pushed(image: Option<&ImageRef>, made: Vec<Made>, ignored: &[Ignored]) -> Response {
    let tag = image.and_then(|image| image.tag.clone());
    let image = image.map(|image| familiar(&image.repository).to_owned());
    let ignored_by = ignored
        .iter()
        .filter_map(|Ignored { policy, reason }| {
            let policy = policy.as_ref()?;
            Some(IgnoredBy {
                namespace: policy.namespace.clone(),
                policy: policy.name.clone(),
                ignored: reason.to_string(),
                reason: reason.label(),
            })
        })
        .collect();
    if let Some(first) = made.first() {
        return Json(Processed {
            message: "Webhook processed successfully",
            rollout_id: first.rollout_id.clone(),
            strategy: first.strategy,
            image: image.unwrap_or_default(),
            tag,
            rollouts: made,
            ignored_by,
        })
        .into_response();
    }
    let (ignored, reason) = match ignored.first() {
        Some(Ignored { policy: Some(policy), reason }) => (format!("{}: {reason}", policy.name), reason.label()),
        Some(Ignored { policy: None, reason }) => (reason.to_string(), reason.label()),
        None => ("the delivery tells of no image".into(), "NotAPush"),
    };
    // The predecessor's words where it had some.
    let message = if reason == "NoPolicyMatches" { "No matching policy" } else { "Webhook ignored" };
    Json(Nothing { message, ignored, reason, image, tag, ignored_by }).into_response()
}

/// The answer to a delivery that no policy was asked about.
pub(super) fn ignored(reason: Reason) -> Response {
    pushed(None, Vec::new(), &[Ignored { policy: None, reason }])
}

/// What became of a push, in a sentence.
pub(super) fn said(made: &[Made], ignored: &[Ignored]) -> String {
    let made = made.iter().map(|Made { rollout_id, created, .. }| {
        if *created { format!("made {rollout_id}") } else { format!("{rollout_id} was there already") }
    });
    let ignored = ignored.iter().map(|Ignored { policy, reason }| match policy {
        Some(policy) => format!("{}: {reason}", policy.name),
        None => reason.to_string(),
    });
    let said: Vec<_> = made.chain(ignored).collect();
    if said.is_empty() { "it tells of no image".into() } else { said.join("; ") }
}

/// The answer to "is the webhook there, and how does it stand?". Says nothing that a stranger may not know.
/// `receivers` is how many of how many are ready.
pub(super) fn standing(auth: &WebhookAuth, receivers: Option<(usize, usize)>) -> Response {
    #[derive(Serialize)]
    struct Standing {
        message: &'static str,
        config: Config,
        #[serde(skip_serializing_if = "Option::is_none")]
        how_to_open: Option<&'static str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        receivers: Option<Receivers>,
    }
    #[derive(Serialize)]
    struct Receivers {
        ready: usize,
        all: usize,
    }
    #[derive(Serialize)]
    struct Config {
        signature_verification: bool,
        has_secret: bool,
    }
    let (message, protected, how_to_open) = match auth {
        WebhookAuth::Secret(_) => ("Webhook endpoint is working", true, None),
        WebhookAuth::Open => ("Webhook endpoint is working and takes every delivery: for trials only", false, None),
        WebhookAuth::Shut => ("Webhook endpoint is shut: no delivery is taken", false, Some(HOW_TO_OPEN)),
    };
    let config = Config { signature_verification: protected, has_secret: protected };
    let receivers = receivers.map(|(ready, all)| Receivers { ready, all });
    Json(Standing { message, config, how_to_open, receivers }).into_response()
}

/// As the predecessor spelled it.
pub(super) fn strategy_word(strategy: StrategyType) -> &'static str {
    match strategy {
        StrategyType::Auto => "auto",
        StrategyType::Staged => "staged",
        StrategyType::Manual => "manual",
        StrategyType::Scheduled => "scheduled",
    }
}
