//! Who is let in: from a request to the body of an authentic delivery.
//!
//! Order matters: the source's rate, the path, the proof in the headers, a place, the body, its signature, the URL's rate.
//! What a stranger can make happen ends at the first step that he fails, and nothing is parsed here.

use std::sync::Arc;

use axum::body::{Body, HttpBody as _};
use bytes::Bytes;
use http::HeaderMap;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use tokio::sync::SemaphorePermit;
use tokio::time::{Instant, timeout_at};

use super::door::WebhookAuth;
use super::receivers::Receiver;
use super::refusal::Refusal;
use super::webhook::{DELIVERY_TIMEOUT, MAX_BODY, Webhook};
use crate::clock;
use crate::registry::oidc::{self, TokenError};
use crate::registry::signature::{Proof, Rule, Secrets, Unauthentic, knock, verify_body};
use crate::server::source::Source;

/// By which URL a delivery comes.
#[derive(Clone, Copy)]
pub(super) enum Way<'a> {
    /// The first one, with what follows its path.
    First(Option<&'a str>),
    /// A receiver's, by the last part of its path.
    Hook(&'a str),
}

/// A request, as far as it matters who sends it.
pub(super) struct Caller<'a> {
    pub(super) source: Source,
    pub(super) headers: &'a HeaderMap,
    /// Of the first URL.
    pub(super) path_secret: Option<&'a str>,
    /// Whose path it came by.
    pub(super) receiver: Option<Arc<Receiver>>,
}

/// An authentic delivery's body, and its place among those that are worked on.
pub(super) type Admitted<'a> = (SemaphorePermit<'a>, Bytes);

impl Webhook {
    /// Whether a request goes on at all, and whose path it came by.
    pub(super) fn meet(&self, way: Way<'_>, source: Source) -> Result<Option<Arc<Receiver>>, Refusal> {
        self.limits.sources.request(source).map_err(Refusal::RateLimited)?;
        match way {
            Way::First(_) => match self.auth {
                WebhookAuth::Secret(_) => self.limits.sources.attempt(source).map_err(Refusal::RateLimited)?,
                WebhookAuth::Open | WebhookAuth::Shut => {}
            },
            Way::Hook(token) => {
                let hooks = self.hooks.as_ref().ok_or(Refusal::NoReceiver)?;
                let found = hooks.receivers.find(token);
                // Known paths are no guesses, so only unknown ones are held back.
                if found.is_some() {
                    return Ok(found);
                }
                if !hooks.receivers.knows_every_path() {
                    return Err(Refusal::NotReady);
                }
                self.limits.sources.attempt(source).map_err(Refusal::RateLimited)?;
                return Err(Refusal::NoReceiver);
            }
        }
        Ok(None)
    }

    /// Lets a delivery in, or not.
    pub(super) async fn admit(
        &self,
        caller: &Caller<'_>,
        body: Body,
        deadline: Instant,
    ) -> Result<Admitted<'_>, Refusal> {
        let Caller { source, headers, path_secret, receiver } = caller;
        let (secrets, rule) = match (receiver, &self.auth) {
            (Some(receiver), _) => (&receiver.secrets, receiver.terms.rule),
            (None, WebhookAuth::Shut) => return Err(Refusal::Shut),
            // A page that a browser shows may POST to its own machine's loopback; browsers say so.
            (None, WebhookAuth::Open) if headers.contains_key(http::header::ORIGIN) => return Err(Refusal::Browser),
            (None, WebhookAuth::Open) => return self.read_at_work(None, body, deadline).await,
            (None, WebhookAuth::Secret(secrets)) => (secrets, Rule::Secret),
        };
        let receiver = receiver.as_deref();
        let path_secret = path_secret.map(str::as_bytes);
        match self.twice(receiver, secrets, |secrets| knock(secrets, rule, headers, path_secret)).await? {
            Proof::Shown => self.read_at_work(receiver, body, deadline).await,
            Proof::Token(token) => {
                self.verify_token(receiver, token).await?;
                self.read_at_work(receiver, body, deadline).await
            }
            Proof::Signed => {
                let place = match receiver {
                    Some(_) => self.limits.acquaintance().await,
                    None => self.limits.stranger(*source).await,
                };
                let place = place.map_err(Refusal::RateLimited)?;
                let body = read(body, deadline).await?;
                self.twice(receiver, secrets, |secrets| verify_body(secrets, headers, &body)).await?;
                drop(place);
                self.pace(receiver)?;
                Ok((self.room()?, body))
            }
        }
    }

    async fn read_at_work(
        &self,
        receiver: Option<&Receiver>,
        body: Body,
        deadline: Instant,
    ) -> Result<Admitted<'_>, Refusal> {
        self.pace(receiver)?;
        let room = self.room()?;
        Ok((room, read(body, deadline).await?))
    }

    /// With the secrets as they are known, and again with those that the receiver's Secret has by now: a secret that was
    /// exchanged a moment ago costs no delivery.
    async fn twice<T>(
        &self,
        receiver: Option<&Receiver>,
        secrets: &Secrets,
        attempt: impl Fn(&Secrets) -> Result<T, Unauthentic>,
    ) -> Result<T, Unauthentic> {
        let failure = match attempt(secrets) {
            Ok(proof) => return Ok(proof),
            Err(failure @ (Unauthentic::Secret | Unauthentic::Signature(_))) => failure,
            Err(failure @ (Unauthentic::NoCredential | Unauthentic::NotSigned(_) | Unauthentic::NoToken)) => {
                return Err(failure);
            }
        };
        let (Some(receiver), Some(hooks)) = (receiver, &self.hooks) else { return Err(failure) };
        match hooks.receivers.again(receiver).await {
            Some(fresh) => attempt(&fresh.secrets),
            None => Err(failure),
        }
    }

    async fn verify_token(&self, receiver: Option<&Receiver>, token: &str) -> Result<(), Refusal> {
        let rule = receiver.and_then(|receiver| receiver.terms.oidc.as_ref());
        // Without a rule none is asked for.
        let (Some(rule), Some(hooks)) = (rule, &self.hooks) else { return Err(TokenError::UnknownKey.into()) };
        let keys = hooks.jwks.keys(&rule.jwks_url, &oidc::key_id(token)?).await?;
        Ok(oidc::verify(token, &keys, rule, clock::now())?)
    }

    fn pace(&self, receiver: Option<&Receiver>) -> Result<(), Refusal> {
        receiver.map_or(&self.pace, |receiver| &receiver.pace).delivery().map_err(Refusal::RateLimited)
    }

    fn room(&self) -> Result<SemaphorePermit<'_>, Refusal> {
        self.room.try_acquire().map_err(|_| Refusal::Throttled)
    }
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
