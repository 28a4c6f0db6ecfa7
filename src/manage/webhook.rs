//! The registry webhook: from a request to an answer.
//!
//! Order matters: door, credential, room, body, signature, parsing, policies, rollouts. What a stranger can make happen
//! ends at the first step that he fails: without a credential not even the body is read. 2xx is only said once the
//! rollouts are stored, or when nothing will ever come of the push; everything that may yet work is 429 or 503 with a
//! `Retry-After`.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, HttpBody as _};
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::{Instant, timeout_at};

use super::WEBHOOK_PATH;
use super::answer::{self, Made};
use super::cache::PolicyCache;
use super::door::WebhookAuth;
use super::metrics::{Outcome, WebhookMetrics};
use super::refusal::Refusal;
use crate::clock;
use crate::problem::Problem;
use crate::record::{Recorded, Recorder};
use crate::registry::intake::{Creation, Decision, Ignored, decide};
use crate::registry::signature::{self, Proof};
use crate::registry::{self, Expect, ParseError, PushEvent};

/// Largest body. Real payloads have 1 to 30 KiB; GitHub's limit is 25 MiB, for events that aren't asked for here.
pub const MAX_BODY: usize = 1024 * 1024;
/// Deliveries with a credential that are worked on at once. Bounds the memory to 64 MiB of bodies and the load on the API
/// server; at a few milliseconds each it is thousands of deliveries a second.
pub const MAX_DELIVERIES: usize = 64;
/// From the head of a delivery to its answer. Registries give up at about the same time.
pub const DELIVERY_TIMEOUT: Duration = Duration::from_secs(10);

/// The webhook's state, shared by its requests.
#[derive(Debug)]
pub struct Webhook {
    auth: WebhookAuth,
    policies: PolicyCache,
    recorder: Recorder,
    metrics: WebhookMetrics,
    room: Semaphore,
}

impl Webhook {
    /// A webhook that has rollouts made in the namespaces of their policies.
    #[must_use]
    pub fn new(auth: WebhookAuth, policies: PolicyCache, recorder: Recorder, metrics: WebhookMetrics) -> Arc<Self> {
        Arc::new(Self { auth, policies, recorder, metrics, room: Semaphore::new(MAX_DELIVERIES) })
    }

    /// Whether a delivery could be taken now.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.policies.is_ready()
    }
}

/// The webhook's routes. `test` and a secret share one route and are told apart by method: a secret is only ever POSTed to.
pub(super) fn routes() -> Router<Arc<Webhook>> {
    Router::new()
        .route(WEBHOOK_PATH, post(deliver))
        .route(&format!("{WEBHOOK_PATH}/{{secret}}"), get(test).post(deliver_by_path))
}

async fn deliver(State(webhook): State<Arc<Webhook>>, request: Request) -> Response {
    webhook.answer(None, request).await
}

async fn deliver_by_path(
    State(webhook): State<Arc<Webhook>>,
    path: Result<Path<String>, PathRejection>,
    request: Request,
) -> Response {
    // A path that isn't text is a wrong secret like any other.
    let secret = path.map(|Path(secret)| secret).unwrap_or_default();
    webhook.answer(Some(&secret), request).await
}

async fn test(State(webhook): State<Arc<Webhook>>, path: Result<Path<String>, PathRejection>) -> Response {
    match path {
        Ok(Path(name)) if name == "test" => answer::standing(&webhook.auth),
        Ok(_) | Err(_) => {
            let detail = format!(
                "there is nothing to read here: deliveries are POSTed, and {WEBHOOK_PATH}/test says how the webhook stands"
            );
            Problem::new(StatusCode::NOT_FOUND, "not-found", "Not found", detail).into_response()
        }
    }
}

/// How far a delivery came.
struct Delivered {
    dialect: Option<&'static str>,
    result: Result<(Outcome, Response), Refusal>,
}

impl Webhook {
    async fn answer(&self, path_secret: Option<&str>, request: Request) -> Response {
        let start = Instant::now();
        let Delivered { dialect, result } = self.take(path_secret, request, start + DELIVERY_TIMEOUT).await;
        let (outcome, response) = match result {
            Ok((outcome, response)) => (outcome, response),
            Err(refusal) => {
                let outcome = refusal.outcome();
                match outcome {
                    Outcome::Unavailable => {
                        tracing::warn!(error = &refusal as &dyn std::error::Error, dialect, "delivery put off");
                    }
                    // Anyone can cause these: they are counted, and not written down one by one.
                    Outcome::Created
                    | Outcome::Existing
                    | Outcome::Ignored
                    | Outcome::Shut
                    | Outcome::Unauthentic
                    | Outcome::TooLarge
                    | Outcome::Incomplete
                    | Outcome::Throttled
                    | Outcome::NotUnderstood => {
                        tracing::debug!(error = &refusal as &dyn std::error::Error, dialect, "delivery refused");
                    }
                }
                (outcome, refusal.into_response())
            }
        };
        self.metrics.delivery(dialect, outcome, start.elapsed());
        response
    }

    async fn take(&self, path_secret: Option<&str>, request: Request, deadline: Instant) -> Delivered {
        let (head, body) = request.into_parts();
        let (_room, body) = match self.admit(&head.headers, path_secret, body, deadline).await {
            Ok(admitted) => admitted,
            Err(refusal) => return Delivered { dialect: None, result: Err(refusal) },
        };
        let (dialect, parsed) = registry::parse(&head.headers, &body, &Expect::default());
        // The bytes have said what they have to say; what follows waits for the API server.
        drop(body);
        let result = match parsed {
            Ok(events) => self.process(&events, deadline).await,
            Err(ParseError::NotAPush(why)) => {
                self.metrics.ignored("NotAPush");
                tracing::debug!(dialect, why, "delivery ignored");
                Ok((Outcome::Ignored, answer::not_a_push(why)))
            }
            Err(error) => Err(Refusal::NotUnderstood(error)),
        };
        Delivered { dialect, result }
    }

    /// The body of an authentic delivery, and its place among those that are worked on. Nothing is parsed here.
    async fn admit(
        &self,
        headers: &HeaderMap,
        path_secret: Option<&str>,
        body: Body,
        deadline: Instant,
    ) -> Result<(SemaphorePermit<'_>, Bytes), Refusal> {
        let secret = match &self.auth {
            WebhookAuth::Shut => return Err(Refusal::Shut),
            // A page that a browser shows may POST to its own machine's loopback; browsers say so.
            WebhookAuth::Open if headers.contains_key(http::header::ORIGIN) => return Err(Refusal::Browser),
            WebhookAuth::Open => None,
            WebhookAuth::Secret(secret) => {
                Some((secret, signature::knock(secret, headers, path_secret.map(str::as_bytes))?))
            }
        };
        let room = self.room.try_acquire().map_err(|_| Refusal::Throttled)?;
        let body = read(body, deadline).await?;
        match secret {
            Some((secret, Proof::Signed)) => signature::verify_body(secret, headers, &body)?,
            Some((_, Proof::Shown)) | None => {}
        }
        Ok((room, body))
    }

    async fn process(&self, events: &[PushEvent], deadline: Instant) -> Result<(Outcome, Response), Refusal> {
        let claims = self.policies.claims().ok_or(Refusal::NotReady)?;
        let received = clock::now();
        let (creations, mut ignored) =
            split(events.iter().flat_map(|event| decide(event, received, claims.values().map(AsRef::as_ref))));
        let recorded =
            timeout_at(deadline, self.recorder.record_all(&creations)).await.map_err(|_| Refusal::Late)??;
        let mut made = Vec::new();
        for (creation, recorded) in creations.iter().zip(recorded) {
            match recorded {
                Recorded::Created(name) => made.push(Made::of(creation, name, true)),
                Recorded::Existed(name) => made.push(Made::of(creation, name, false)),
                Recorded::Ignored(reason) => ignored.push(Ignored { policy: Some(creation.policy.clone()), reason }),
            }
        }
        for Ignored { policy, reason } in &ignored {
            self.metrics.ignored(reason.label());
            let policy = policy.as_ref().map(tracing::field::display);
            tracing::info!(policy, reason = reason.label(), "push ignored: {reason}");
        }
        let outcome = if made.iter().any(Made::is_new) {
            Outcome::Created
        } else if made.is_empty() {
            Outcome::Ignored
        } else {
            Outcome::Existing
        };
        Ok((outcome, answer::pushed(events.first().map(|event| &event.image), made, &ignored)))
    }
}

fn split(decisions: impl Iterator<Item = Decision>) -> (Vec<Creation>, Vec<Ignored>) {
    let (mut creations, mut ignored) = (Vec::new(), Vec::new());
    for decision in decisions {
        match decision {
            Decision::Create(creation) => creations.push(*creation),
            Decision::Ignore(reason) => ignored.push(reason),
        }
    }
    (creations, ignored)
}

/// The body, if it is within the limit and here in time. What goes beyond the limit is never held.
async fn read(body: Body, deadline: Instant) -> Result<Bytes, Refusal> {
    if body.size_hint().lower() > MAX_BODY as u64 {
        return Err(Refusal::TooLarge { limit: MAX_BODY });
    }
    match timeout_at(deadline, Limited::new(body, MAX_BODY).collect()).await {
        Ok(Ok(collected)) => Ok(collected.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(Refusal::TooLarge { limit: MAX_BODY }),
        Ok(Err(_)) => Err(Refusal::Broken),
        Err(_) => Err(Refusal::Slow { seconds: DELIVERY_TIMEOUT.as_secs() }),
    }
}
