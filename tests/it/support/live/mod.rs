//! A whole Tranche in one process and in virtual time: API server, controller, gateway and devices.
//!
//! Time stands still while anything can go on, and then jumps to whatever is due next. So an hour of soaking takes
//! milliseconds, and what happens at one moment happens in the same order each time.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use jiff::Timestamp;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, sleep};
use tranche::clock::Clock;
use tranche::controller::metrics::ControllerMetrics;
use tranche::controller::probes::Probes;
use tranche::controller::{self, Context};
use tranche::gateway::{self, Gateway, GatewayConfig};
use tranche::metrics::Metrics;
use tranche::oci::{AddressRules, Registries};
use tranche::shutdown::Shutdown;
use tranche::simulate::agent::Agent;
use tranche::simulate::engine::Event;
use tranche::simulate::provision::{ImageSource, device};
use tranche::simulate::{Identity, Pace, Personality, World as Images};

use super::apiserver::faults::Seen;
use super::apiserver::{ApiServer, NAMESPACE};

pub mod devices;
pub mod never;

use devices::{Door, Doorway, Sighting, live};

/// What names, keys and chance of the devices are derived from.
pub const SEED: u64 = 20_261_102;
pub const FLEET: &str = "sim";
/// How often devices poll. What a gateway tells of them is at most [`PRESENCE`] older.
pub const POLL: Duration = Duration::from_secs(20);
pub const PRESENCE: Duration = Duration::from_secs(10);
/// Nothing in these tests takes so long.
const PATIENCE: Duration = Duration::from_secs(2 * 3600);

/// Virtual time: it begins on a Monday morning and passes as tokio's does.
pub fn clock() -> Clock {
    let begin: Timestamp = "2026-11-02T08:00:00Z".parse().unwrap();
    let start = Instant::now();
    Clock::new(move || begin + jiff::SignedDuration::try_from(start.elapsed()).unwrap())
}

pub struct World {
    pub api: Arc<ApiServer>,
    pub clock: Clock,
    pub identities: Vec<Identity>,
    pub sightings: Arc<Mutex<Vec<Sighting>>>,
    start: Instant,
    controller: Mutex<Option<Controller>>,
    gateway: (JoinHandle<()>, Shutdown),
    door: Door,
    devices: JoinSet<()>,
}

struct Controller {
    task: JoinHandle<Result<(), controller::Error>>,
    shutdown: Shutdown,
    metrics: ControllerMetrics,
}

impl World {
    /// As many devices as personalities, all of which have reported that they run v1.
    pub async fn new(personalities: &[Personality]) -> Self {
        println!("seed {SEED}");
        let clock = clock();
        let api = ApiServer::new(clock.clone());
        let images = images();
        let identities: Vec<Identity> = (0..personalities.len())
            .map(|index| Identity::derive(SEED, FLEET, u32::try_from(index).unwrap()))
            .collect();
        let source = ImageSource { written: "acme/web:v1", parsed: &images.base };
        for identity in &identities {
            api.put("devices", &serde_json::to_value(device(identity, FLEET, &source)).unwrap());
        }
        let (gateway, router) = gateway(&api, &clock);
        let mut world = Self {
            start: Instant::now(),
            controller: Mutex::new(None),
            gateway,
            door: door_to(router),
            devices: JoinSet::new(),
            sightings: Arc::default(),
            identities,
            clock,
            api,
        };
        world.start_controller();
        let images = Arc::new(images);
        for (identity, personality) in world.identities.iter().zip(personalities) {
            let rng = Identity::rng(SEED, identity.index);
            let agent = Agent::new(Duration::ZERO, identity.clone(), *personality, images.clone(), rng);
            world.devices.spawn(live(agent, world.start, world.door.clone(), world.sightings.clone()));
        }
        let silent = personalities.iter().filter(|personality| **personality == Personality::Dead).count();
        let there = world.identities.len() - silent;
        world.until("the devices report v1", |world| world.running("acme/web:v1") == there).await;
        sleep(Duration::from_secs(30)).await;
        world
    }

    pub async fn healthy(devices: usize) -> Self {
        Self::new(&vec![Personality::Healthy; devices]).await
    }

    pub fn start_controller(&self) {
        let shutdown = Shutdown::new();
        let metrics = ControllerMetrics::default();
        let client = self.api.client("controller");
        let context = Context::new(
            client,
            Some(NAMESPACE.into()),
            metrics.clone(),
            self.clock.clone(),
            registries(),
            Probes::default(),
        );
        let task = tokio::spawn(controller::run(context, shutdown.clone()));
        *self.controller.lock() = Some(Controller { task, shutdown, metrics });
    }

    /// One more, which nobody will miss.
    pub fn second_controller(&self) -> JoinHandle<Result<(), controller::Error>> {
        let (client, metrics) = (self.api.client("other controller"), ControllerMetrics::default());
        let context =
            Context::new(client, Some(NAMESPACE.into()), metrics, self.clock.clone(), registries(), Probes::default());
        tokio::spawn(controller::run(context, Shutdown::new()))
    }

    /// A device that was never switched on is.
    pub fn wake_up(&mut self, index: usize) {
        let identity = self.identities[index].clone();
        let rng = Identity::rng(SEED, identity.index);
        let agent = Agent::new(self.start.elapsed(), identity, Personality::Healthy, images().into(), rng);
        self.devices.spawn(live(agent, self.start, self.door.clone(), self.sightings.clone()));
    }

    /// As SIGKILL would.
    pub async fn kill_controller(&self) {
        let controller = self.controller.lock().take();
        if let Some(Controller { task, .. }) = controller {
            task.abort();
            assert!(task.await.unwrap_err().is_cancelled(), "the controller ended by itself");
        }
    }

    /// As SIGTERM would.
    pub async fn stop_controller(&self) {
        let controller = self.controller.lock().take();
        if let Some(Controller { task, shutdown, .. }) = controller {
            shutdown.request();
            tokio::time::timeout(Duration::from_secs(60), task).await.unwrap().unwrap().unwrap();
        }
    }

    /// Another gateway takes over, with nothing but what the API server has.
    pub fn restart_gateway(&mut self) {
        self.gateway.0.abort();
        let (gateway, router) = gateway(&self.api, &self.clock);
        self.gateway = gateway;
        *self.door.routers.lock() = vec![("gateway", router)];
    }

    /// Passes over rollouts and policies so far, of the controller that runs now.
    pub fn passes(&self) -> u64 {
        let mut registry = prometheus_client::registry::Registry::default();
        self.controller.lock().as_ref().unwrap().metrics.register(&mut registry);
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        let counters = text.lines().filter(|line| line.starts_with("tranche_reconcile"));
        counters.filter_map(|line| line.rsplit_once(' ')?.1.parse::<u64>().ok()).sum()
    }

    /// Virtual time passes until it is so.
    pub async fn until(&self, what: &str, so: impl Fn(&Self) -> bool) {
        let end = Instant::now() + PATIENCE;
        while !so(self) {
            if Instant::now() > end {
                panic!("waited in vain until {what}\n{}", self.dump());
            }
            sleep(Duration::from_millis(250)).await;
        }
    }

    pub async fn until_phase(&self, rollout: &str, phase: &str) {
        self.until(&format!("{rollout} is {phase}"), |world| world.phase(rollout) == phase).await;
    }

    pub fn status(&self, rollout: &str) -> Value {
        self.api.get("imagerollouts", rollout).map(|rollout| rollout["status"].clone()).unwrap_or_default()
    }

    pub fn phase(&self, rollout: &str) -> String {
        self.status(rollout)["phase"].as_str().unwrap_or_default().to_owned()
    }

    /// How many devices reported that they run that image.
    pub fn running(&self, image: &str) -> usize {
        let runs = |device: &Arc<Value>| {
            device["status"]["services"].as_array().is_some_and(|services| {
                !services.is_empty()
                    && services.iter().all(|service| service["image"] == image && service["status"] == "running")
            })
        };
        self.api.list("devices").iter().filter(|device| runs(device)).count()
    }

    /// What the devices' entries say: device, image, batch, whether it was sent back.
    pub fn entries(&self) -> Vec<(String, String, i64, bool)> {
        let devices = self.api.list("devices");
        let of = |device: &Arc<Value>| {
            let name = device["metadata"]["name"].as_str().unwrap().to_owned();
            let entries = device["spec"]["images"].as_array().cloned().unwrap_or_default();
            entries.into_iter().map(move |entry| {
                let image = entry["image"].as_str().unwrap_or_default().to_owned();
                (name.clone(), image, entry["batch"].as_i64().unwrap(), entry["rolledBack"] == true)
            })
        };
        devices.iter().flat_map(of).collect()
    }

    /// Devices that were ever told an image.
    pub fn offered(&self, image: &str) -> usize {
        let sightings = self.sightings.lock();
        let offered = |sighting: &&Sighting| matches!(&sighting.event, Event::Offered(offered) if **offered == *image);
        let devices: std::collections::BTreeSet<_> =
            sightings.iter().filter(offered).map(|sighting| sighting.device.clone()).collect();
        devices.len()
    }

    /// Writes by controller and gateway since a moment, presence apart.
    pub fn writes_since(&self, since: Instant) -> Vec<Seen> {
        let requests = self.api.requests().into_iter();
        requests
            .filter(|seen| seen.at >= since && seen.is_write() && seen.actor != "person")
            .filter(|seen| !seen.is_of("devicepresences"))
            .collect()
    }

    /// For so long, nobody writes anything but presence, and the controller hardly looks.
    pub async fn stays_settled(&self, time: Duration) {
        sleep(Duration::from_secs(60)).await;
        let (since, passes) = (Instant::now(), self.passes());
        sleep(time).await;
        let writes: Vec<_> = self
            .writes_since(since)
            .into_iter()
            .map(|seen| (seen.at - since, seen.actor, seen.path, seen.body))
            .collect();
        assert!(writes.is_empty(), "a settled system wrote: {writes:#?}");
        // Presence brings a look at each rollout that is not over, once an interval; and then there is the resync.
        let intervals = time.as_secs() / PRESENCE.as_secs() + 20;
        let objects = self.api.list("imagerollouts").len() + self.api.list("imageupdatepolicies").len();
        let most = intervals * objects as u64;
        let looked = self.passes() - passes;
        assert!(looked <= most, "{looked} passes over {objects} objects in {time:?}");
    }

    /// Every line of every history is one Event, in the same words.
    pub fn check_events(&self) {
        let sorted = |mut lines: Vec<[String; 3]>| {
            lines.sort();
            lines
        };
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let events = self.api.list("events");
        let told = events.iter().map(|event| [&event["regarding"]["name"], &event["reason"], &event["note"]].map(text));
        let rollouts = self.api.list("imagerollouts");
        let lines = rollouts.iter().flat_map(|rollout| {
            let history = rollout["status"]["history"].as_array().into_iter().flatten();
            history.map(|line| [&rollout["metadata"]["name"], &line["type"], &line["message"]].map(text))
        });
        assert_eq!(sorted(told.collect()), sorted(lines.collect()));
        assert!(events.iter().all(|event| event["series"].is_null()), "two lines were taken for one");
    }

    /// Nothing ever happened that must not.
    pub fn check_never(&self) {
        let broken = never::check(&self.api.log());
        assert!(broken.is_empty(), "{broken:#?}");
    }
}

fn door_to(router: Router) -> Door {
    Arc::new(Doorway { routers: Mutex::new(vec![("gateway", router)]), ..Doorway::default() })
}

/// Nobody is to be asked here: policies offer tags.
pub fn registries() -> Registries {
    Registries::new(AddressRules::default(), Clock::default())
}

/// v1 is what the fleet was started with, and nobody can pull `bad`.
pub fn images() -> Images {
    Images {
        pace: Pace { poll: POLL, pull: Duration::from_secs(1) },
        base: "acme/web:v1".parse().unwrap(),
        bad: vec!["bad".parse().unwrap()],
    }
}

fn gateway(api: &Arc<ApiServer>, clock: &Clock) -> ((JoinHandle<()>, Shutdown), Router) {
    gateway_named(api, clock, "gateway", PRESENCE)
}

/// A gateway whose requests go on record under that name, and which tells who is there so often.
pub fn gateway_named(
    api: &Arc<ApiServer>,
    clock: &Clock,
    name: &'static str,
    presence: Duration,
) -> ((JoinHandle<()>, Shutdown), Router) {
    let shutdown = Shutdown::new();
    let config =
        GatewayConfig { clock: clock.clone(), presence_interval: Some(presence), ..GatewayConfig::new(NAMESPACE) };
    let metrics = Arc::new(Metrics::new());
    let (gateway, task) = Gateway::start(api.client(name), config, metrics, shutdown.clone().wait());
    ((task, shutdown), gateway::router(gateway))
}

/// A policy `web` for every device, with more of a spec laid over it.
pub fn policy(more: &Value) -> Value {
    let mut spec = json!({
        "image": {"pattern": "acme/web:*", "offer": "Tag"},
        "devices": {"selector": {"matchLabels": {tranche::api::FLEET_LABEL: FLEET}}},
        "strategy": {"type": "Staged", "batches": [{"size": "50%"}, {"size": "100%"}], "batchDelay": "0s"},
        "updateDeadline": "5m",
    });
    spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    json!({
        "apiVersion": "tranche.dev/v1alpha1", "kind": "ImageUpdatePolicy", "metadata": {"name": "web"}, "spec": spec,
    })
}

/// A rollout of `acme/web:<tag>` under that policy, as a person makes it, named `web-<tag>`.
pub fn rollout(tag: &str, more: &Value) -> Value {
    let mut spec = json!({"policyRef": {"name": "web"}, "image": {"repository": "docker.io/acme/web", "tag": tag}});
    spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    json!({
        "apiVersion": "tranche.dev/v1alpha1", "kind": "ImageRollout", "metadata": {"name": format!("web-{tag}")},
        "spec": spec,
    })
}
impl World {
    /// What everybody is up to, for a test that waits in vain.
    pub fn dump(&self) -> String {
        let mut text = String::new();
        for rollout in self.api.list("imagerollouts") {
            text.push_str(&format!("{}\n", rollout["status"]));
        }
        for device in self.api.list("devices") {
            let (name, spec) = (&device["metadata"]["name"], &device["spec"]);
            text.push_str(&format!(
                "{name} hold {} images {} status {}\n",
                spec["hold"], spec["images"], device["status"]
            ));
        }
        for presence in self.api.list("devicepresences") {
            text.push_str(&format!("{}\n", presence["spec"]));
        }
        for seen in self.api.requests().iter().rev().take(20).rev() {
            let at = seen.at - self.start;
            text.push_str(&format!(
                "{at:?} {} {} {}?{} {:?} {}\n",
                seen.actor, seen.method, seen.path, seen.query, seen.answer, seen.refusal
            ));
        }
        text.push_str(&format!("now {:?} {:?}, passes {}\n", self.start.elapsed(), self.clock, self.passes()));
        text
    }
}
