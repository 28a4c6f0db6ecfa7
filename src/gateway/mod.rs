//! The device gateway: tells each device which images to run, and takes in what it reports.
//!
//! Holds no truth. Everything it says follows from the objects and the request alone, so replicas are
//! interchangeable, and it answers on from its cache when the API server is away, though it lets nobody move forward
//! then.
//!
//! # The gate
//!
//! Even when `spec.images` of a device names the image of a rollout, the device is offered it only while the rollout's
//! own spec and status allow it. A stop is therefore one write for a fleet of any size, obeyed at each device's next
//! poll.
//!
//! | the rollout is | device seen running its image | device that only holds it (its `If-None-Match` names a state with it) | any other released device |
//! | --- | --- | --- | --- |
//! | active, completed, or gone | keeps it | keeps it | is offered it |
//! | paused, cancelled, superseded | keeps it | keeps it | gets `previous` |
//! | halted | keeps it, unless its own verdict is Failed | gets `previous` | gets `previous` |
//! | rolled back | gets `previous` | gets `previous` | gets `previous` |
//!
//! - A device that is held, and every device while the watches are stale, is treated like a paused rollout's.
//! - A device whose own verdict is Failed gets `previous` when the plan rolls failed devices back.
//! - A device listed in the rollout's `rollBackDevices` gets `previous`.
//! - A device whose `If-None-Match` names a state with `previous` was sent back already: while the rollout is stopped it
//!   goes on getting `previous`, whatever a report says that was under way meanwhile.
//! - Where several rows apply, the strictest does.
//! - A rollout that was never seen counts as paused until the API server says that it doesn't exist.
//!
//! # The parts
//!
//! [`enrol`] is how devices become known; [`watch`] feeds [`cache`] and [`rollouts`]; [`crate::plan::gate`] (shared with the planner), [`target`] and [`etag`] are pure; [`poll`] and [`report`] are
//! the two requests, and [`logs`] what agents send besides, all through [`auth`]; [`presence`] tells the controller who was seen when.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, patch, post};
use http::StatusCode;
use kube::Client;
use tokio::task::{JoinHandle, JoinSet};

use self::cache::Cache;
use self::watch::Liveness;
use crate::clock::Clock;
use crate::metrics::Metrics;
use crate::problem::Problem;

pub mod auth;
pub mod body;
pub mod cache;
pub mod enrol;
pub mod etag;
pub mod identity;
pub mod logs;
pub mod poll;
pub mod presence;
pub mod record;
pub mod report;
pub mod rollouts;
pub mod shared;
pub mod target;
pub mod watch;

/// How the gateway is set up.
#[derive(Clone, Debug)]
pub struct GatewayConfig {
    /// Where the objects are.
    pub namespace: String,
    /// After this long without a live watch, active counts as paused.
    pub stale_after: Duration,
    /// How often each presence object is written; by default a second for each object, from 5 s to 60 s.
    pub presence_interval: Option<Duration>,
    /// How devices enrol.
    pub enrol: enrol::EnrolConfig,
    /// Which URIs on client certificates name devices.
    pub device_uris: auth::DeviceUris,
    /// What time it is.
    pub clock: Clock,
}

impl GatewayConfig {
    /// The defaults, in that namespace.
    #[must_use]
    pub fn new(namespace: impl Into<String>) -> Self {
        Self {
            namespace: namespace.into(),
            stale_after: Duration::from_secs(120),
            presence_interval: None,
            enrol: enrol::EnrolConfig::default(),
            device_uris: auth::DeviceUris::default(),
            clock: Clock::default(),
        }
    }
}

/// The gateway.
pub struct Gateway {
    pub(crate) config: GatewayConfig,
    pub(crate) client: Client,
    pub(crate) cache: Arc<Cache>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) presence: presence::Presence,
    pub(crate) reports: report::Limits,
    pub(crate) enrol: enrol::Enrolments,
    pub(crate) progress: tokio::sync::watch::Sender<Progress>,
    pub(crate) rollouts_alive: Arc<Liveness>,
    pub(crate) devices_alive: Arc<Liveness>,
}

impl std::fmt::Debug for Gateway {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // A million devices are no use in a log, and the client has no form to show.
        f.debug_struct("Gateway")
            .field("config", &self.config)
            .field("devices", &self.cache.len())
            .finish_non_exhaustive()
    }
}

/// How far the cache has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Progress {
    pub(crate) rollouts_listed: bool,
    pub(crate) devices_listed: bool,
    pub(crate) names_settled: bool,
}

impl Gateway {
    /// Starts watching and publishing. The task ends when `shutdown` completes; if it ends earlier, a part of the
    /// gateway has failed and the process should end too.
    pub fn start(
        client: Client,
        config: GatewayConfig,
        metrics: Arc<Metrics>,
        shutdown: impl Future<Output = ()> + Send + 'static,
    ) -> (Arc<Self>, JoinHandle<()>) {
        let cache = Arc::new(Cache::new(Arc::default()));
        let gateway = Arc::new(Self::new(client, config, metrics, cache));
        let mut parts = JoinSet::new();
        parts.spawn(watch::rollouts(gateway.clone()));
        parts.spawn(watch::devices(gateway.clone()));
        parts.spawn(watch::lookups(gateway.clone()));
        parts.spawn(presence::publish(gateway.clone()));
        let task = tokio::spawn(async move {
            tokio::select! {
                () = shutdown => {}
                ended = parts.join_next() => tracing::error!(?ended, "a part of the gateway ended"),
            }
        });
        (gateway, task)
    }

    /// A gateway over a cache that somebody else feeds: complete and live from the start, and without any task of its
    /// own. For tests and measurements.
    #[must_use]
    pub fn with_cache(client: Client, config: GatewayConfig, metrics: Arc<Metrics>, cache: Arc<Cache>) -> Self {
        let gateway = Self::new(client, config, metrics, cache);
        gateway.progress.send_replace(Progress { rollouts_listed: true, devices_listed: true, names_settled: true });
        gateway.note_alive();
        gateway
    }

    fn new(client: Client, config: GatewayConfig, metrics: Arc<Metrics>, cache: Arc<Cache>) -> Self {
        Self {
            presence: presence::Presence::new(config.presence_interval),
            reports: report::Limits::new(),
            enrol: enrol::Enrolments::new(),
            progress: tokio::sync::watch::Sender::default(),
            rollouts_alive: Arc::default(),
            devices_alive: Arc::default(),
            config,
            client,
            cache,
            metrics,
        }
    }

    /// Both watches are alive now.
    pub fn note_alive(&self) {
        self.rollouts_alive.note();
        self.devices_alive.note();
    }

    /// Whether both watches were alive lately. While they weren't, nobody moves forward.
    #[must_use]
    pub fn is_live(&self) -> bool {
        let window = self.config.stale_after;
        self.rollouts_alive.within(window) && self.devices_alive.within(window)
    }

    /// Whether the cache has been complete once.
    ///
    /// # Errors
    /// With what is missing, in words.
    pub fn is_ready(&self) -> Result<(), &'static str> {
        let Progress { rollouts_listed, devices_listed, names_settled } = *self.progress.borrow();
        if !rollouts_listed {
            Err("the rollouts have not been listed yet")
        } else if !devices_listed {
            Err("the devices have not been listed yet")
        } else if !names_settled {
            Err("some rollouts that devices name have not been looked up yet")
        } else if !(self.rollouts_alive.ever() && self.devices_alive.ever()) {
            Err("the watches have not been established yet")
        } else {
            Ok(())
        }
    }

    pub(crate) fn not_ready(&self, why: &str) -> Response {
        Problem::new(StatusCode::SERVICE_UNAVAILABLE, "not-ready", "Not ready", why).retry_after(5).into_response()
    }
}

/// The device-facing routes.
pub fn router(gateway: Arc<Gateway>) -> Router {
    let routes = Router::new()
        .route("/health", get(logs::health))
        .route("/api/v1/device/{uuid}/state", get(poll::poll))
        .route("/api/v1/device/state", patch(report::report))
        .route("/api/v1/device/{uuid}/logs", post(logs::logs))
        .route("/api/v1/device/{uuid}/metrics", post(logs::metrics));
    let enrolment = if gateway.config.enrol.enabled { enrol::routes() } else { Router::new() };
    routes.merge(enrolment).with_state(gateway)
}
