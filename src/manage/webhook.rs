//! The registry webhook: from a request to an answer.
//!
//! First the module `admit` says who is let in; then come parsing, policies, rollouts. 2xx is only said once the rollouts
//! are stored, or when nothing will ever come of the push; everything that may yet work is 429 or 503 with a `Retry-After`.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use http::StatusCode;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout_at};

use super::admit::{Caller, Way};
use super::answer::{self, Made};
use super::cache::PolicyCache;
use super::door::WebhookAuth;
use super::jwks::Jwks;
use super::limits::Limits;
use super::metrics::{Outcome, WebhookMetrics};
use super::receivers::{Count, Receiver, Receivers};
use super::refusal::Refusal;
use super::{HOOKS_PATH, WEBHOOK_PATH};
use crate::clock;
use crate::problem::Problem;
use crate::record::{Recorded, Recorder};
use crate::registry::intake::{Creation, Decision, Ignored, decide};
use crate::registry::{self, Expect, ParseError, PushEvent, Reason};
use crate::server::Peer;
use crate::server::limits::Pace;
use crate::server::source::TrustedProxies;

/// Largest body. Real payloads have 1 to 30 KiB; GitHub's limit is 25 MiB, for events that aren't asked for here.
pub const MAX_BODY: usize = 1024 * 1024;
/// Authentic deliveries that are worked on at once. Bounds the memory to 64 MiB of bodies, with those that are read before
/// their signature is known to 96, and the load on the API server; at a few milliseconds each it is thousands a second.
pub const MAX_DELIVERIES: usize = 64;
/// From the head of a delivery to its answer. Registries give up at about the same time.
pub const DELIVERY_TIMEOUT: Duration = Duration::from_secs(10);

/// The webhook's state, shared by its requests.
#[derive(Debug)]
pub struct Webhook {
    pub(super) auth: WebhookAuth,
    policies: PolicyCache,
    recorder: Recorder,
    metrics: WebhookMetrics,
    pub(super) hooks: Option<Hooks>,
    proxies: TrustedProxies,
    pub(super) limits: Limits,
    /// Of the first URL.
    pub(super) pace: Pace,
    pub(super) room: Semaphore,
}

/// What the paths of receivers need.
#[derive(Clone, Debug)]
pub struct Hooks {
    /// The receivers.
    pub receivers: Receivers,
    /// Keys of those who sign tokens.
    pub jwks: Jwks,
}

impl Webhook {
    /// A webhook that has rollouts made in the namespaces of their policies. The first URL alone.
    #[must_use]
    pub fn new(auth: WebhookAuth, policies: PolicyCache, recorder: Recorder, metrics: WebhookMetrics) -> Arc<Self> {
        Self::with(auth, policies, recorder, metrics, None, TrustedProxies::default())
    }

    /// [`Self::new`], with receivers, behind proxies.
    #[must_use]
    pub fn with(
        auth: WebhookAuth,
        policies: PolicyCache,
        recorder: Recorder,
        metrics: WebhookMetrics,
        hooks: Option<Hooks>,
        proxies: TrustedProxies,
    ) -> Arc<Self> {
        Arc::new(Self {
            auth,
            policies,
            recorder,
            metrics,
            hooks,
            proxies,
            limits: Limits::default(),
            pace: Pace::default(),
            room: Semaphore::new(MAX_DELIVERIES),
        })
    }

    /// Whether a delivery could be taken now.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.policies.is_ready() && self.hooks.as_ref().is_none_or(|hooks| hooks.receivers.is_ready())
    }
}

/// The webhook's routes. `test` and a secret share one route and are told apart by method: a secret is only ever POSTed to.
pub(super) fn routes() -> Router<Arc<Webhook>> {
    Router::new()
        .route(WEBHOOK_PATH, post(deliver))
        .route(&format!("{WEBHOOK_PATH}/{{secret}}"), get(test).post(deliver_by_path))
        .route(&format!("{HOOKS_PATH}/{{token}}"), post(deliver_to_receiver))
}

async fn deliver(State(webhook): State<Arc<Webhook>>, request: Request) -> Response {
    webhook.answer(Way::First(None), request).await
}

async fn deliver_by_path(
    State(webhook): State<Arc<Webhook>>,
    path: Result<Path<String>, PathRejection>,
    request: Request,
) -> Response {
    // A path that isn't text is a wrong secret like any other.
    let secret = path.map(|Path(secret)| secret).unwrap_or_default();
    webhook.answer(Way::First(Some(&secret)), request).await
}

async fn deliver_to_receiver(
    State(webhook): State<Arc<Webhook>>,
    path: Result<Path<String>, PathRejection>,
    request: Request,
) -> Response {
    let token = path.map(|Path(token)| token).unwrap_or_default();
    webhook.answer(Way::Hook(&token), request).await
}

async fn test(State(webhook): State<Arc<Webhook>>, path: Result<Path<String>, PathRejection>) -> Response {
    match path {
        Ok(Path(name)) if name == "test" => {
            answer::standing(&webhook.auth, webhook.hooks.as_ref().map(|hooks| hooks.receivers.count()))
        }
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
    result: Result<Done, Refusal>,
}

/// A delivery that was answered with 2xx.
struct Done {
    outcome: Outcome,
    response: Response,
    /// The registry's own id of it.
    id: Option<String>,
    /// What became of it, in a sentence.
    said: String,
}

impl Webhook {
    async fn answer(&self, way: Way<'_>, request: Request) -> Response {
        let start = Instant::now();
        let Delivered { dialect, result } = self.take(way, request, start + DELIVERY_TIMEOUT).await;
        let (outcome, response) = match result {
            Ok(Done { outcome, response, id: _, said: _ }) => (outcome, response),
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
                    | Outcome::RateLimited
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

    async fn take(&self, way: Way<'_>, request: Request, deadline: Instant) -> Delivered {
        let (head, body) = request.into_parts();
        let peer = head.extensions.get::<Peer>().map(|Peer(address)| address.ip());
        let source = self.proxies.source(peer, &head.headers);
        let path_secret = match way {
            Way::First(secret) => secret,
            Way::Hook(_) => None,
        };
        let receiver = match self.meet(way, source) {
            Ok(receiver) => receiver,
            Err(refusal) => {
                if matches!(refusal, Refusal::NoReceiver) {
                    self.limits.sources.failed(source);
                }
                return Delivered { dialect: None, result: Err(refusal) };
            }
        };
        let caller = Caller { source, headers: &head.headers, path_secret, receiver };
        let (_room, body) = match self.admit(&caller, body, deadline).await {
            Ok(admitted) => admitted,
            Err(refusal) => {
                let outcome = refusal.outcome();
                match &caller.receiver {
                    // Somebody set a secret wrong; hosted registries send for others from the same address.
                    Some(receiver) if outcome == Outcome::Unauthentic => receiver.tally.rejected(),
                    Some(_) => {}
                    // Nobody knows who that was, and it may have held a place.
                    None if matches!(outcome, Outcome::Unauthentic | Outcome::TooLarge | Outcome::Incomplete) => {
                        self.limits.sources.failed(source);
                    }
                    None => {}
                }
                return Delivered { dialect: None, result: Err(refusal) };
            }
        };
        let receiver = caller.receiver.as_deref();
        let delivered = self.work(receiver, &head.headers, &body, deadline).await;
        if let Some(receiver) = receiver {
            count(receiver, &delivered.result);
        }
        delivered
    }

    /// What is made of an authentic delivery.
    async fn work(
        &self,
        receiver: Option<&Receiver>,
        headers: &http::HeaderMap,
        body: &[u8],
        deadline: Instant,
    ) -> Delivered {
        if receiver.is_some_and(|receiver| receiver.terms.suspend) {
            return Delivered { dialect: None, result: Ok(self.ignored(Reason::ReceiverSuspended)) };
        }
        let expect = receiver.map_or_else(Expect::default, |receiver| receiver.terms.expect());
        let (dialect, parsed) = registry::parse(headers, body, &expect);
        let result = match parsed {
            Ok(events) => self.process(receiver, &events, deadline).await,
            Err(ParseError::NotAPush(why)) => Ok(self.ignored(Reason::NotAPush(why))),
            // A 4xx would make the registry send it again, for ever.
            Err(ParseError::Unknown) if receiver.is_some_and(|receiver| receiver.terms.is_of_one_registry()) => {
                Ok(self.ignored(Reason::OtherRegistry))
            }
            // Nor would sending it again help here, until a person has set where the registry is.
            Err(error @ (ParseError::NoHost { .. } | ParseError::Host { .. })) => {
                tracing::warn!(dialect, "delivery ignored: {error}");
                Ok(self.ignored(Reason::HostUnknown(error.to_string())))
            }
            Err(error) => Err(Refusal::NotUnderstood(error)),
        };
        Delivered { dialect, result }
    }

    /// A delivery that no policy is asked about.
    fn ignored(&self, reason: Reason) -> Done {
        self.metrics.ignored(reason.label());
        tracing::debug!(reason = reason.label(), "delivery ignored: {reason}");
        let said = reason.to_string();
        Done { outcome: Outcome::Ignored, response: answer::ignored(reason), id: None, said }
    }

    async fn process(
        &self,
        receiver: Option<&Receiver>,
        events: &[PushEvent],
        deadline: Instant,
    ) -> Result<Done, Refusal> {
        let claims = self.policies.claims().ok_or(Refusal::NotReady)?;
        let received = clock::now();
        let asked = || {
            let asked = claims.iter().filter(|(key, policy)| {
                receiver.is_none_or(|receiver| {
                    key.namespace == receiver.namespace && receiver.terms.speaks_to(&policy.labels)
                })
            });
            asked.map(|(_, policy)| &policy.claim)
        };
        let (mut creations, mut ignored) =
            split(events.iter().flat_map(
                |event| match receiver.and_then(|receiver| receiver.terms.objection(event)) {
                    Some(reason) => vec![Decision::Ignore(Ignored { policy: None, reason })],
                    None => decide(event, received, asked()),
                },
            ));
        if let Some(receiver) = receiver {
            creations.iter_mut().for_each(|creation| name_receiver(creation, receiver));
        }
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
        let first = events.first();
        let said = answer::said(&made, &ignored);
        let response = answer::pushed(first.map(|event| &event.image), made, &ignored);
        Ok(Done { outcome, response, id: first.and_then(|event| event.delivery_id.clone()), said })
    }
}

/// A rollout tells by which receiver its push came; by the first URL, the dialect is all there is to tell.
fn name_receiver(creation: &mut Creation, receiver: &Receiver) {
    if let Some(trigger) = &mut creation.rollout.spec.trigger {
        trigger.receiver = Some(receiver.name.clone());
    }
}

/// Counts an authentic delivery. One that is put off comes again, and counts then.
fn count(receiver: &Receiver, result: &Result<Done, Refusal>) {
    let (count, id, said) = match result {
        Ok(Done { outcome: Outcome::Created | Outcome::Existing, id, said, .. }) => (Count::Accepted, id, said.clone()),
        Ok(Done { id, said, .. }) => (Count::Ignored, id, said.clone()),
        Err(error @ Refusal::NotUnderstood(_)) => (Count::NotUnderstood, &None, error.to_string()),
        Err(_) => return,
    };
    receiver.tally.delivered(count, id.as_deref(), &said, clock::now());
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
