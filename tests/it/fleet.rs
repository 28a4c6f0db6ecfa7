//! A simulated fleet against a small server that keeps the device contract: what goes over the wire, for real.

use std::collections::{HashMap, HashSet};
use std::io::Read as _;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, patch};
use http::{HeaderMap, StatusCode, header};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::task::JoinHandle;
use tranche::simulate::{Fleet, FleetConfig, Observation, Pace, Personality, Shares, Tally, What, World};

/// Nothing here takes a second; this is only so that a broken fleet fails instead of hanging.
const PATIENCE: Duration = Duration::from_secs(60);
const SEED: u64 = 7;
const V1: &str = "acme/app:v1";
const V2: &str = "acme/app:v2";
const BAD: &str = "acme/app:bad";

/// What the server tells everyone, and what it heard.
#[derive(Default)]
struct Server {
    image: Mutex<&'static str>,
    keys: Mutex<HashMap<String, String>>,
    polled: Notify,
    reports: Mutex<Vec<(String, Value, bool)>>,
    polls: Mutex<Vec<(String, Option<String>, u16)>>,
}

impl Server {
    fn authentic(&self, uuid: &str, headers: &HeaderMap) -> bool {
        let key = headers.get("x-device-api-key").and_then(|key| key.to_str().ok());
        key.is_some() && key == self.keys.lock().get(uuid).map(String::as_str)
    }

    fn answer(&self, uuid: &str, headers: &HeaderMap) -> Response {
        if !self.authentic(uuid, headers) {
            return StatusCode::UNAUTHORIZED.into_response();
        }
        let image = *self.image.lock();
        let etag = format!("\"{image}\"");
        if headers.get(header::IF_NONE_MATCH).is_some_and(|sent| sent.as_bytes() == etag.as_bytes()) {
            return StatusCode::NOT_MODIFIED.into_response();
        }
        let service = json!({ "serviceId": 1, "serviceName": "app", "imageName": image, "config": { "image": image } });
        let apps = json!({ "1001": { "appId": 1001, "appName": "app", "services": [service] } });
        ([(header::ETAG, etag)], json!({ uuid: { "apps": apps, "config": {}, "version": 2 } }).to_string())
            .into_response()
    }
}

async fn poll(State(server): State<Arc<Server>>, Path(uuid): Path<String>, headers: HeaderMap) -> Response {
    let response = server.answer(&uuid, &headers);
    let etag = headers.get(header::IF_NONE_MATCH).and_then(|etag| etag.to_str().ok()).map(Into::into);
    server.polls.lock().push((uuid, etag, response.status().as_u16()));
    server.polled.notify_waiters();
    response
}

async fn report(State(server): State<Arc<Server>>, headers: HeaderMap, body: Bytes) -> Response {
    let gzip = headers.get(header::CONTENT_ENCODING).is_some_and(|encoding| encoding == "gzip");
    let mut json = body.to_vec();
    if gzip {
        json.clear();
        flate2::read::GzDecoder::new(&*body).read_to_end(&mut json).expect("gzip");
    }
    let body: Value = serde_json::from_slice(&json).expect("JSON");
    let (uuid, state) = body.as_object().and_then(|object| object.iter().next()).expect("one device");
    if !server.authentic(uuid, &headers) {
        return StatusCode::UNAUTHORIZED.into_response();
    }
    assert_eq!(gzip, json.len() >= 1024, "compressed exactly from 1024 bytes on");
    server.reports.lock().push((uuid.clone(), state.clone(), gzip));
    axum::Json(json!({ "status": "ok" })).into_response()
}

/// A fleet that runs against a server, and what its devices say.
struct Rig {
    server: Arc<Server>,
    observations: mpsc::UnboundedReceiver<Observation>,
    tally: Arc<Mutex<Tally>>,
    stop: oneshot::Sender<()>,
    fleet: JoinHandle<Tally>,
    listening: JoinHandle<()>,
}

impl Rig {
    async fn start(devices: u32, personality: &str) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address: SocketAddr = listener.local_addr().expect("bound");
        let config = FleetConfig {
            server: format!("http://{address}"),
            devices,
            fleet: "test".into(),
            seed: SEED,
            shares: personality.parse().expect("shares"),
            world: World {
                pace: Pace { poll: Duration::from_millis(50), pull: Duration::from_millis(10) },
                base: V1.parse().expect("a reference"),
                bad: vec!["bad".parse().expect("a tag")],
            },
        };
        let keys = config.identities().map(|id| (id.uuid.to_string(), id.key.expose().to_owned())).collect();
        let server = Arc::new(Server { image: Mutex::new(V1), keys: Mutex::new(keys), ..Server::default() });
        let router = Router::new()
            .route("/api/v1/device/{uuid}/state", get(poll))
            .route("/api/v1/device/state", patch(report))
            .with_state(server.clone());
        #[expect(clippy::disallowed_methods, reason = "a test's server needs no header timeout")]
        let serving = axum::serve(listener, router);
        let listening = tokio::spawn(async move { serving.await.expect("serving") });

        let (said, observations) = mpsc::unbounded_channel();
        // The receiver may be dropped before the fleet: then nobody wants to know.
        let observer = move |observation: &Observation| drop(said.send(observation.clone()));
        let fleet = Fleet::new(&config, Box::new(observer)).expect("a fleet");
        let tally = fleet.tally();
        let (stop, stopped) = oneshot::channel::<()>();
        let fleet = tokio::spawn(fleet.run(async move { drop(stopped.await) }));
        Self { server, observations, tally, stop, fleet, listening }
    }

    /// Until so many devices said so.
    async fn wait(&mut self, event: What, image: &str, mut devices: usize) {
        let all = async {
            while devices > 0 {
                let said = self.observations.recv().await.expect("the fleet runs");
                devices -= usize::from(said.event == event && &*said.image == image);
            }
        };
        tokio::time::timeout(PATIENCE, all).await.expect("the devices say so in time");
    }

    async fn stop(self) -> (Arc<Server>, Tally) {
        self.stop.send(()).expect("the fleet runs");
        let tally = tokio::time::timeout(PATIENCE, self.fleet).await.expect("in time").expect("no panic");
        self.listening.abort();
        (self.server, tally)
    }
}

#[tokio::test]
async fn a_fleet_follows_its_server() {
    let mut rig = Rig::start(20, "").await;
    rig.wait(What::Running, V1, 20).await;
    *rig.server.image.lock() = V2;
    rig.wait(What::Running, V2, 20).await;
    assert_eq!(rig.tally.lock().running(V2), 20);
    let (server, tally) = rig.stop().await;
    assert_eq!((tally.running(V1), tally.offered(V1), tally.offered(V2)), (0, 20, 20));
    assert_eq!(tally.failed_polls + tally.failed_reports, 0, "{}", tally.summary());

    let polls = server.polls.lock();
    let mut seen = HashSet::new();
    for (uuid, etag, status) in polls.iter() {
        if seen.insert(uuid) {
            assert_eq!((etag, *status), (&None, 200), "the first poll is not conditional");
        } else {
            assert!(etag.is_some(), "every later one is");
        }
    }
    let reports = server.reports.lock();
    assert!(reports.iter().any(|(_, _, gzip)| *gzip) && reports.iter().any(|(_, _, gzip)| !gzip));
}

#[tokio::test]
async fn a_bad_image_takes_the_fleet_down_and_the_old_one_brings_it_back() {
    let mut rig = Rig::start(5, "").await;
    rig.wait(What::Running, V1, 5).await;
    *rig.server.image.lock() = BAD;
    rig.wait(What::Removed, V1, 5).await;
    *rig.server.image.lock() = V1;
    rig.wait(What::Running, V1, 5).await;
    let (_, tally) = rig.stop().await;
    assert_eq!((tally.offered(BAD), tally.running(BAD), tally.running(V1)), (5, 0, 5));
}

#[tokio::test]
async fn dead_devices_stay_silent_and_the_others_do_not_care() {
    let mut rig = Rig::start(20, "dead=25%").await;
    let shares: Shares = "dead=25%".parse().expect("shares");
    let dead = (0..20).filter(|index| shares.personality(SEED, *index) == Personality::Dead).count();
    assert!((4..=6).contains(&dead));
    rig.wait(What::Running, V1, 20 - dead).await;
    let (server, tally) = rig.stop().await;
    assert_eq!(tally.running(V1), 20 - dead);
    let polled: HashSet<String> = server.polls.lock().iter().map(|(uuid, _, _)| uuid.clone()).collect();
    assert_eq!(polled.len(), 20 - dead);
}

#[tokio::test]
async fn devices_with_wrong_keys_get_nowhere() {
    let mut rig = Rig::start(10, "").await;
    rig.wait(What::Running, V1, 10).await;
    rig.server.keys.lock().clear();
    let refused = async {
        loop {
            let polled = rig.server.polled.notified();
            if rig.server.polls.lock().iter().filter(|(_, _, status)| *status == 401).count() >= 20 {
                break;
            }
            polled.await;
        }
    };
    tokio::time::timeout(PATIENCE, refused).await.expect("they go on asking");
    let (_, tally) = rig.stop().await;
    // Each of the ten may have one more under way.
    assert!(tally.failed_polls >= 10, "{}", tally.summary());
    assert_eq!(tally.running(V1), 10, "and keep what they have");
}
