//! What the door itself does, against an API server in the process and in virtual time: whom it lets wait, what it counts,
//! and what it takes up for whom.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::Request;
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use tokio::time::{sleep, timeout};
use tower::ServiceExt as _;
use tranche::clock::Clock;
use tranche::enrol::key::spell;
use tranche::enrol::{hash, terms};
use tranche::gateway::{self, Gateway, GatewayConfig};
use tranche::metrics::Metrics;
use tranche::server::{Peer, with_problems};

use crate::support::apiserver::{ApiServer, NAMESPACE};

const UUID: &str = "7f0c0000-0000-4000-8000-00000000000a";
const REGISTER: &str = "/api/v1/device/register";

pub struct Door {
    pub api: Arc<ApiServer>,
    pub gateway: Arc<Gateway>,
    pub metrics: Arc<Metrics>,
    router: Router,
}

pub struct Answer {
    pub status: u16,
    pub retry_after: bool,
    pub body: Value,
}

impl Door {
    /// Before it knows its devices.
    fn started(api: Arc<ApiServer>) -> Self {
        let metrics = Arc::new(Metrics::new());
        let config = GatewayConfig::new(NAMESPACE);
        let (gateway, _) = Gateway::start(api.client("gateway"), config, metrics.clone(), std::future::pending());
        let router = with_problems(gateway::router(gateway.clone()));
        Self { api, gateway, metrics, router }
    }

    pub async fn new() -> Self {
        let door = Self::started(ApiServer::new(Clock::default()));
        while door.gateway.is_ready().is_err() {
            sleep(Duration::from_millis(50)).await;
        }
        door
    }

    /// A provisioning key with these terms.
    pub fn key(&self, name: &str, terms: &[(&str, &str)]) -> String {
        let key = spell(name, &[7; 32]);
        let mut data = json!({ terms::KEY_HASH: STANDARD.encode(hash::written(&hash::of(&key))) });
        for (field, value) in terms {
            data[*field] = json!(STANDARD.encode(value));
        }
        let metadata = json!({ "name": name, "namespace": NAMESPACE });
        self.api.put("secrets", &json!({ "metadata": metadata, "type": terms::SECRET_TYPE, "data": data }));
        key
    }

    /// A device with that key, written by a person.
    pub fn device(&self, uuid: &str, key: &str) {
        let auth = json!({ "keyHash": hash::written(&hash::of(key)) });
        let metadata = json!({ "name": uuid, "namespace": NAMESPACE });
        self.api.put("devices", &json!({ "metadata": metadata, "spec": { "auth": auth, "hold": false } }));
    }

    /// Waits until the gateway knows so many devices.
    async fn until_known(&self, devices: i64) {
        while self.metrics.gateway.devices.get() < devices {
            sleep(Duration::from_millis(50)).await;
        }
    }

    /// A request from that address.
    pub async fn send(&self, from: u8, path: &str, bearer: &str, body: Body) -> Answer {
        let mut request = Request::post(path).header("authorization", format!("Bearer {bearer}")).body(body).unwrap();
        request.extensions_mut().insert(Peer(([192, 0, 2, from], 1).into()));
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (head, body) = response.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        Answer {
            status: head.status.as_u16(),
            retry_after: head.headers.contains_key("retry-after"),
            body: serde_json::from_slice(&body).unwrap_or_default(),
        }
    }

    pub async fn register(&self, from: u8, key: &str, number: u32) -> Answer {
        self.send(from, REGISTER, key, registration(number)).await
    }
}

fn registration(number: u32) -> Body {
    let uuid = format!("7f0c0000-0000-4000-8000-{number:012}");
    Body::from(json!({ "uuid": uuid, "deviceApiKey": format!("{number:064}") }).to_string())
}

/// A body that never comes.
fn silent() -> Body {
    Body::from_stream(futures::stream::pending::<Result<Bytes, Infallible>>())
}

#[tokio::test(start_paused = true)]
async fn for_a_strangers_body_nobody_waits() {
    let door = Door::new().await;
    door.key("good", &[]);
    door.device(UUID, &"k".repeat(64));
    let (unknown, wrong) = (spell("unknown", &[7; 32]), "j".repeat(64));
    let exchange = format!("/api/v1/device/{UUID}/key-exchange");
    let rotate = format!("/api/v1/device/{UUID}/rotate-key");
    for (path, key) in [(REGISTER, &unknown), (exchange.as_str(), &wrong), (rotate.as_str(), &wrong)] {
        let answer = timeout(Duration::from_secs(1), door.send(1, path, key, silent())).await;
        assert_eq!(answer.expect("an answer at once").status, 401, "{path}");
    }
}

#[tokio::test(start_paused = true)]
async fn who_keeps_its_body_back_holds_up_nobody() {
    let door = Door::new().await;
    let good = door.key("good", &[]);
    // More than are worked on at once, and each for as long as it may.
    let silent = futures::future::join_all((0..100).map(|_| door.send(1, REGISTER, &good, silent())));
    let others = async {
        sleep(Duration::from_millis(100)).await;
        let answer = timeout(Duration::from_secs(1), door.register(2, &good, 1)).await;
        assert_eq!(answer.expect("an answer at once").status, 200);
    };
    let (answers, ()) = futures::future::join(silent, others).await;
    assert!(answers.iter().all(|answer| answer.status == 408), "they have had their time");
}

#[tokio::test(start_paused = true)]
async fn unknown_devices_and_wrong_keys_are_told_alike_however_often() {
    let door = Door::new().await;
    door.device(UUID, &"k".repeat(64));
    let unknown = "7f0c0000-0000-4000-8000-00000000000b";
    for what in ["key-exchange", "challenge", "rotate-key"] {
        let mut told = Vec::new();
        // Each from an address of its own.
        for (from, uuid) in [(what.len() as u8, UUID), (100 + what.len() as u8, unknown)] {
            let path = format!("/api/v1/device/{uuid}/{what}");
            let mut statuses = Vec::new();
            for _ in 0..40 {
                let body = json!({ "uuid": uuid, "deviceApiKey": "j".repeat(64) }).to_string();
                statuses.push(door.send(from, &path, &"j".repeat(64), Body::from(body)).await.status);
            }
            told.push(statuses);
        }
        assert_eq!(told[0], told[1], "{what}");
        // The source may fail thirty times, and is let in once more while that is counted.
        assert!(told[0][..31].iter().all(|status| *status == 401), "{what}: {:?}", told[0]);
        assert!(told[0].contains(&429), "{what}: {:?}", told[0]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_gateway_that_does_not_know_its_devices_yet_says_so() {
    let api = ApiServer::new(Clock::default());
    api.set_down(true);
    let door = Door::started(api);
    let (good, key) = (door.key("good", &[]), "k".repeat(64));
    door.device(UUID, &key);
    let rotate = format!("/api/v1/device/{UUID}/rotate-key");
    for path in [REGISTER, &format!("/api/v1/device/{UUID}/key-exchange"), &rotate] {
        for _ in 0..40 {
            let answer = door.send(1, path, &key, Body::from("{}")).await;
            assert_eq!((answer.status, answer.retry_after), (503, true), "{path}: {}", answer.body);
        }
    }
    door.api.set_down(false);
    while door.gateway.is_ready().is_err() {
        sleep(Duration::from_millis(50)).await;
    }
    // None of that was held against anybody.
    let body = json!({ "newKey": "n".repeat(64) }).to_string();
    assert_eq!(door.send(1, &rotate, &key, Body::from(body)).await.status, 200);
    assert_eq!(door.register(1, &good, 1).await.status, 200);
}

#[tokio::test(start_paused = true)]
async fn a_used_up_key_is_no_pass() {
    let door = Door::new().await;
    let (full, good) = (door.key("full", &[(terms::MAX_DEVICES, "1")]), door.key("good", &[]));
    assert_eq!(door.register(1, &full, 1).await.status, 200);
    assert_eq!(door.register(1, &good, 2).await.status, 200);
    let mut statuses = Vec::new();
    for number in 3..43 {
        statuses.push(door.register(1, &full, number).await.status);
    }
    assert!(statuses[..31].iter().all(|status| *status == 401), "{statuses:?}");
    assert!(statuses.contains(&429), "{statuses:?}");
    let asked = door.api.requests().len();
    assert_eq!(door.register(1, &full, 43).await.status, 429);
    assert_eq!(door.api.requests().len(), asked, "it costs the API server nothing any more");
    // The other key has proven itself, and the used up one is good for its device behind another address.
    assert_eq!(door.register(1, &good, 44).await.status, 200);
    assert_eq!(door.register(2, &full, 1).await.status, 200);
}

#[tokio::test(start_paused = true)]
async fn nonsense_counts_while_a_key_has_not_proven_itself() {
    let door = Door::new().await;
    let good = door.key("good", &[]);
    let nonsense = async |from: u8| {
        let mut statuses = Vec::new();
        for _ in 0..40 {
            statuses.push(door.send(from, REGISTER, &good, Body::from("nonsense")).await.status);
        }
        statuses
    };
    let statuses = nonsense(1).await;
    assert!(statuses[0] == 400 && statuses.contains(&429), "{statuses:?}");
    assert_eq!(door.register(2, &good, 1).await.status, 200);
    assert_eq!(nonsense(3).await, [400; 40], "one device's nonsense doesn't lock its factory out");
}

#[tokio::test(start_paused = true)]
async fn a_device_that_the_cluster_refuses_is_told_so() {
    let door = Door::new().await;
    let key = door.key("typo", &[(terms::APPS, r#"{"1": {"services": "none"}}"#)]);
    for number in 1..4 {
        let answer = door.register(1, &key, number).await;
        assert_eq!((answer.status, answer.retry_after), (422, false), "it is no use to try again: {}", answer.body);
        assert_eq!(answer.body["title"], "Device unfit");
    }
    let secret = door.api.get("secrets", "typo").unwrap();
    assert_eq!(secret["metadata"]["annotations"][terms::ENROLLED_ANNOTATION], "0", "no place was lost");
}

#[tokio::test(start_paused = true)]
async fn labels_that_no_device_can_have_make_no_key() {
    let door = Door::new().await;
    let key = door.key("plant", &[(terms::FLEET, "Plant A")]);
    assert_eq!(door.register(1, &key, 1).await.status, 401);
    assert!(door.api.requests().iter().all(|seen| seen.method != http::Method::POST), "nobody tried");
}

#[tokio::test(start_paused = true)]
async fn a_known_key_has_a_pace_of_its_own() {
    let door = Door::new().await;
    let (good, known) = (door.key("good", &[]), "k".repeat(64));
    door.device(UUID, &known);
    assert_eq!(door.register(1, &good, 1).await.status, 200);
    door.until_known(2).await;
    // A stranger behind the same address uses up all that the address has.
    let mut last = 0;
    for _ in 0..3000 {
        last = door.send(1, REGISTER, "tpk_x", Body::empty()).await.status;
    }
    assert_eq!(last, 429);
    assert_eq!(door.register(1, &good, 2).await.status, 200);
    let body = json!({ "newKey": "n".repeat(64) }).to_string();
    let rotate = format!("/api/v1/device/{UUID}/rotate-key");
    assert_eq!(door.send(1, &rotate, &known, Body::from(body)).await.status, 200);
    let stranger = door.key("stranger", &[]);
    assert_eq!(door.register(1, &stranger, 3).await.status, 429, "that has not proven itself");
}

#[tokio::test(start_paused = true)]
async fn enrolments_are_counted_by_how_they_end() {
    let door = Door::new().await;
    let good = door.key("good", &[]);
    for number in [1, 1, 2] {
        assert_eq!(door.register(1, &good, number).await.status, 200);
    }
    door.send(1, REGISTER, "tpk_x", Body::empty()).await;
    door.send(1, REGISTER, &good, Body::empty()).await;
    let text = door.metrics.encode();
    for (outcome, count) in
        [("registered", 2), ("registered_again", 1), ("provisioning_key_refused", 1), ("malformed", 1), ("taken", 0)]
    {
        let line = format!("tranche_gateway_enrolments_total{{outcome=\"{outcome}\"}} {count}");
        assert!(text.lines().any(|candidate| candidate == line), "{line} is missing in\n{text}");
    }
    // Nothing else makes a series of its own.
    let series = text.lines().filter(|line| line.starts_with("tranche_gateway_enrolments_total")).count();
    assert_eq!(series, tranche::metrics::ENROLMENT_OUTCOMES.len());
}
