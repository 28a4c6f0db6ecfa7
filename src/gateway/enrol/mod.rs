//! Enrolment: the routes by which a device registers, proves itself, and changes its key.
//!
//! What may be is decided by [`crate::enrol`]; here it is asked for, written and told. Everything is read from the API
//! server and written on the revision that was read, so replicas need nothing of each other, and an agent that repeats a
//! request, to whichever of them, gets the same answer.
//!
//! # Limits
//!
//! Whole factories enrol from behind one address, so good requests of a source are only held to a generous pace. Failed
//! ones are counted hard, and after too many of them the source has to wait. A key that has proven itself here lately, or
//! is a known device's, has a pace of its own, so it is not held up by what others behind the same address do.
//!
//! Nothing is taken up for a stranger: first the source's limits are asked, then the key is judged by what is on record,
//! and only then a body is waited for, in places that nothing else needs. Places for work at the API server are held
//! for that work alone.

use std::collections::HashMap;
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use bytes::Bytes;
use jiff::SignedDuration;
use parking_lot::Mutex as SyncMutex;
use tokio::sync::{Mutex, Semaphore};
use tokio::time::{Instant, timeout};

use self::refusal::{Blame, Refusal};
use super::Gateway;
use super::body::{self, Bounds};
use super::cache::name_hash;
use crate::enrol::hash::KeyHash;
use crate::enrol::rotation::OVERLAP;
use crate::server::Peer;
use crate::server::limits::SourceLimits;
use crate::server::source::{Source, TrustedProxies, UnheardProxy};

mod answer;
mod devices;
mod exchange;
mod places;
mod refusal;
mod register;
mod rotate;

/// A registration with a long name and a public key has 2 KiB.
const BOUNDS: Bounds = Bounds {
    compressed: 16 << 10,
    plain: 16 << 10,
    what: "request",
    malformed: ("malformed-request", "Malformed request"),
    says: "a request of an enrolment may have 16 KiB",
};
/// Work at the API server, waiting for its turn included, takes no longer; agents give up after 30 s.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Requests that are worked on at once. Each is a handful of small requests to the API server.
const AT_ONCE: usize = 32;
/// Bodies that are waited for at once: 4 MiB with [`BOUNDS`]. Only holders of good keys have one.
const MAX_BODIES: usize = 256;
/// A body, waiting for a place and for its end, may take so long each.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a key that proved itself is not held up by the failures of others.
const PROVEN_FOR: Duration = Duration::from_secs(15 * 60);
/// Keys that are remembered so: some 5 MiB at most.
const MAX_PROVEN: usize = 65_536;
/// Locks of [`Counting`]: that two keys of one namespace share one is rare, and only slow.
const COUNTING_STRIPES: usize = 256;
/// How long an answer waits for this replica's watch to show what was written, so that a device which comes back at once
/// is known.
const SHOWN_WITHIN: Duration = Duration::from_secs(2);
/// How often it looks.
const SHOWN_INTERVAL: Duration = Duration::from_millis(20);

/// How enrolment is set up.
#[derive(Clone, Debug)]
pub struct EnrolConfig {
    /// Whether devices may enrol by themselves, and change their keys.
    pub enabled: bool,
    /// How long the previous key counts after a rotation.
    pub overlap: SignedDuration,
    /// Whose word about addresses counts, for limits by source.
    pub proxies: TrustedProxies,
}

impl Default for EnrolConfig {
    fn default() -> Self {
        Self { enabled: true, overlap: OVERLAP, proxies: TrustedProxies::default() }
    }
}

/// What bounds enrolments in this process.
#[derive(Debug)]
pub struct Enrolments {
    limits: SourceLimits,
    proven: Proven,
    counting: Counting,
    at_once: Semaphore,
    bodies: Semaphore,
    unheard: UnheardProxy,
}

impl Enrolments {
    /// All free.
    #[must_use]
    pub fn new() -> Self {
        Self {
            limits: SourceLimits::default(),
            proven: Proven::default(),
            counting: Counting::default(),
            at_once: Semaphore::new(AT_ONCE),
            bodies: Semaphore::new(MAX_BODIES),
            unheard: UnheardProxy::default(),
        }
    }
}

impl Default for Enrolments {
    fn default() -> Self {
        Self::new()
    }
}

/// Turns at the Secrets of provisioning keys. Of one key, one place is taken at a time: they would only be in each other's
/// way there. Locks are shared by hash of the name, so that there are never more of them.
#[derive(Debug)]
struct Counting(Box<[Mutex<()>]>);

impl Default for Counting {
    fn default() -> Self {
        Self(std::iter::repeat_with(Mutex::default).take(COUNTING_STRIPES).collect())
    }
}

impl Counting {
    fn of(&self, key: &str) -> &Mutex<()> {
        // The remainder is below COUNTING_STRIPES.
        &self.0[(name_hash(key) % COUNTING_STRIPES as u64) as usize]
    }
}

/// Keys that proved themselves lately, by their hashes.
#[derive(Debug, Default)]
struct Proven(SyncMutex<HashMap<KeyHash, Instant>>);

impl Proven {
    fn holds(&self, key: &KeyHash) -> bool {
        self.0.lock().get(key).is_some_and(|since| since.elapsed() < PROVEN_FOR)
    }

    fn note(&self, key: KeyHash) {
        let mut keys = self.0.lock();
        if keys.len() >= MAX_PROVEN {
            keys.retain(|_, since| since.elapsed() < PROVEN_FOR);
        }
        if keys.len() < MAX_PROVEN {
            keys.insert(key, Instant::now());
        }
    }

    fn forget(&self, key: &KeyHash) {
        self.0.lock().remove(key);
    }
}

/// The routes.
pub fn routes() -> Router<std::sync::Arc<Gateway>> {
    Router::new()
        .route("/api/v1/device/register", post(register::register))
        .route("/api/v1/agent/register", post(register::register))
        .route("/api/v1/device/{uuid}/key-exchange", post(exchange::exchange))
        .route("/api/v1/device/{uuid}/challenge", post(exchange::challenge))
        .route("/api/v1/device/{uuid}/rotate-key", post(rotate::rotate))
}

/// Who sends a request, and the key that it presents: what its limits go by.
#[derive(Clone, Copy, Debug)]
struct Visitor {
    source: Source,
    key: Option<KeyHash>,
}

/// What was done, in one of [`crate::metrics::ENROLMENT_OUTCOMES`], and what the device is told.
struct Done(&'static str, Response);

impl Gateway {
    /// Lets somebody in, as far as limits go.
    ///
    /// # Errors
    /// With the answer, when the gateway doesn't know its devices yet, or there were too many requests.
    fn visitor(&self, request: &Request, key: Option<KeyHash>) -> Result<Visitor, Response> {
        self.let_in(request, key).map_err(|refusal| {
            self.metrics.gateway.enrolment(refusal.label());
            refusal.into_response()
        })
    }

    fn let_in(&self, request: &Request, key: Option<KeyHash>) -> Result<Visitor, Refusal> {
        self.is_ready().map_err(Refusal::NotReady)?;
        let limits = &self.enrol.limits;
        let peer = request.extensions().get::<Peer>().map(|peer| peer.0.ip());
        let proxies = &self.config.enrol.proxies;
        self.enrol.unheard.notice(proxies, peer, request.headers(), "devices");
        let source = proxies.source(peer, request.headers());
        let within = match key.filter(|key| self.is_proven(key)) {
            Some(key) => limits.by_key(&key),
            None => limits.request(source).and_then(|()| limits.attempt(source)),
        };
        within.map_err(Refusal::TooMany)?;
        Ok(Visitor { source, key })
    }

    /// Whether a key has proven itself: here, lately, or it is the key of a device that is known.
    fn is_proven(&self, key: &KeyHash) -> bool {
        let is_devices = || {
            let record = self.cache.by_key(key);
            record.is_some_and(|record| record.access.admits(key, || self.config.clock.now()))
        };
        self.enrol.proven.holds(key) || is_devices()
    }

    /// How a visit ended, as it is told. The one place in which failures are counted, and each once: otherwise what is
    /// told apart by counting more would be seen from when the limits begin to hold.
    fn ended(&self, visitor: Visitor, result: Result<Done, Refusal>) -> Response {
        let Visitor { source, key } = visitor;
        let is_proven = || key.is_some_and(|key| self.is_proven(&key));
        if let Err(refusal) = &result {
            match refusal.blame() {
                Blame::Key => {
                    self.enrol.limits.failed(source);
                    // Whatever it proved before is over: a key that is used up, or whose Secret is gone, is no pass.
                    if let Some(key) = key {
                        self.enrol.proven.forget(&key);
                    }
                }
                Blame::Request if !is_proven() => self.enrol.limits.failed(source),
                Blame::Request | Blame::Nobody => {}
            }
        }
        let (outcome, response) = match result {
            Ok(Done(outcome, response)) => (outcome, response),
            Err(refusal) => (refusal.label(), refusal.into_response()),
        };
        self.metrics.gateway.enrolment(outcome);
        response
    }

    /// Waits until this replica knows a device's key, for a while.
    async fn shown(&self, device: &str, key: &KeyHash) {
        let known = || {
            let found = self.cache.by_key(key);
            found.is_some_and(|record| &*record.name == device && !record.access.incomplete)
        };
        let wait = async {
            while !known() {
                tokio::time::sleep(SHOWN_INTERVAL).await;
            }
        };
        let _ = timeout(SHOWN_WITHIN, wait).await;
    }
}

/// Does work at the API server within its time, and among so much at once.
async fn working<T>(gateway: &Gateway, work: impl Future<Output = Result<T, Refusal>>) -> Result<T, Refusal> {
    let worked = timeout(TIMEOUT, async {
        // Never closed.
        let _place = gateway.enrol.at_once.acquire().await;
        work.await
    });
    worked.await.unwrap_or(Err(Refusal::Busy))
}

/// The body of somebody whose key is good.
async fn body_of(gateway: &Gateway, request: Request) -> Result<Bytes, Refusal> {
    // That there is no place is not the sender's fault. Never closed.
    let _place = timeout(BODY_TIMEOUT, gateway.enrol.bodies.acquire()).await.map_err(|_| Refusal::Busy)?;
    body::arrive(request, &BOUNDS, BODY_TIMEOUT).await.map_err(Refusal::Body)
}

/// The UUID in `/api/v1/device/{uuid}/…`.
fn uuid_in(path: &str) -> Option<String> {
    crate::enrol::registration::uuid(path.rsplit('/').nth(1)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_is_proven_is_forgotten_in_time() {
        let proven = Proven::default();
        proven.note([1; 32]);
        assert!(proven.holds(&[1; 32]) && !proven.holds(&[2; 32]));
        proven.note([3; 32]);
        proven.forget(&[3; 32]);
        assert!(!proven.holds(&[3; 32]));
        tokio::time::advance(PROVEN_FOR).await;
        assert!(!proven.holds(&[1; 32]));
    }

    #[test]
    fn what_is_counted_is_there_from_the_start() {
        use crate::metrics::ENROLMENT_OUTCOMES;
        use crate::server::limits::TooMuch;
        for refusal in [
            Refusal::ProvisioningKey,
            Refusal::Device,
            Refusal::Taken,
            Refusal::NoChallengeDue,
            Refusal::NotNew,
            Refusal::Unfit,
            Refusal::Malformed(String::new()),
            Refusal::Body(body::BodyError::Slow),
            Refusal::TooMany(TooMuch { retry_after: 1 }),
            Refusal::Busy,
            Refusal::NotReady(""),
        ] {
            assert!(ENROLMENT_OUTCOMES.contains(&refusal.label()), "{refusal:?}");
        }
    }

    #[test]
    fn keys_wait_for_their_own_secret_alone() {
        let counting = Counting::default();
        assert!(std::ptr::eq(counting.of("plant-a"), counting.of("plant-a")));
        assert!(!std::ptr::eq(counting.of("plant-a"), counting.of("plant-b")));
    }

    #[test]
    fn the_uuid_of_a_path() {
        let uuid = "7f0c0000-0000-4000-8000-00000000000a";
        assert_eq!(uuid_in(&format!("/api/v1/device/{}/challenge", uuid.to_uppercase())).as_deref(), Some(uuid));
        assert_eq!(uuid_in("/api/v1/device/../challenge"), None);
        assert_eq!(uuid_in(""), None);
    }
}
