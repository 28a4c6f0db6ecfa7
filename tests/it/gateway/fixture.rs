//! Objects, a gateway over a hand-fed cache, and requests on its router.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use http::{HeaderMap, Request, StatusCode, header};
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tower::ServiceExt as _;
use tranche::api::{Device, ImageRollout};
use tranche::gateway::cache::Cache;
use tranche::gateway::rollouts::Rollouts;
use tranche::gateway::{self, Gateway, GatewayConfig};
use tranche::metrics::Metrics;
use tranche::server::with_problems;

use super::api::FakeApi;

pub const A: &str = "7f0c0000-0000-4000-8000-00000000000a";
pub const B: &str = "7f0c0000-0000-4000-8000-00000000000b";
pub const KEY_A: &str = "key-of-a";
pub const KEY_B: &str = "key-of-b";
pub const REPORT: &str = "/api/v1/device/state";

/// A device that declares `acme/web:v1`.
pub fn device(name: &str, key: &str) -> Value {
    let hash: String = Sha256::digest(key).iter().map(|byte| format!("{byte:02x}")).collect();
    json!({
        "apiVersion": "tranche.dev/v1alpha1", "kind": "Device",
        "metadata": {"name": name, "namespace": "default", "generation": 3},
        "spec": {
            "auth": {"keyHash": format!("sha256:{hash}")},
            "apps": {"1001": {"appName": "web", "services": [{"serviceId": 1, "serviceName": "web", "imageName": "acme/web:v1"}]}},
            "config": {"intervals": {"a": 1}},
        },
    })
}

/// The same, released by rollout `r` to `acme/web:v2`.
pub fn released(name: &str, key: &str) -> Value {
    let mut device = device(name, key);
    device["spec"]["images"] = json!([{
        "repository": "docker.io/acme/web", "image": "docker.io/acme/web:v2", "previous": "docker.io/acme/web:v1",
        "declared": "docker.io/acme/web:v1", "rollout": "r", "batch": 1, "releaseTime": "2026-01-01T00:00:00Z",
    }]);
    device
}

pub fn rollout(spec: &Value, status: &Value) -> Value {
    let mut object = json!({
        "apiVersion": "tranche.dev/v1alpha1", "kind": "ImageRollout",
        "metadata": {"name": "r", "namespace": "default"},
        "spec": {"policyRef": {"name": "p"}, "image": {"repository": "docker.io/acme/web", "tag": "v2"}},
        "status": status,
    });
    object["spec"].as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
    object
}

/// A report that shows `image` in the given state.
pub fn state(image: &str, status: &str, version: Option<i64>) -> Value {
    let mut state = json!({"apps": {"1001": {"appId": 1001, "services": [{
        "serviceId": 1, "serviceName": "web", "imageName": image, "status": status, "config": {"image": image},
    }]}}, "is_online": true});
    if let Some(version) = version {
        state["version"] = json!(version);
    }
    state
}

pub struct Fixture {
    pub api: Arc<FakeApi>,
    pub cache: Arc<Cache>,
    pub rollouts: Arc<Rollouts>,
    pub metrics: Arc<Metrics>,
    pub gateway: Arc<Gateway>,
    pub router: Router,
}

pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&self.body)))
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// The image that the first service is told.
    pub fn image(&self, uuid: &str) -> String {
        assert_eq!(self.status, StatusCode::OK);
        self.json()[uuid]["apps"]["1001"]["services"][0]["imageName"].as_str().unwrap().to_owned()
    }

    pub fn is_problem(&self) -> bool {
        self.header("content-type") == "application/problem+json" && self.json()["status"] == self.status.as_u16()
    }
}

impl Fixture {
    pub fn new() -> Self {
        let api = FakeApi::new();
        let rollouts = Arc::new(Rollouts::default());
        let cache = Arc::new(Cache::new(rollouts.clone()));
        let metrics = Arc::new(Metrics::new());
        let config = GatewayConfig::new("default");
        let gateway = Arc::new(Gateway::with_cache(api.client(), config, metrics.clone(), cache.clone()));
        let router = with_problems(gateway::router(gateway.clone()));
        Self { api, cache, rollouts, metrics, gateway, router }
    }

    /// With device A released by an active rollout, and device B.
    pub fn with_devices() -> Self {
        let fixture = Self::new();
        fixture.rollout(&json!({}), &json!({"phase": "Progressing"}));
        fixture.apply(&released(A, KEY_A));
        fixture.apply(&device(B, KEY_B));
        fixture
    }

    /// Creates or replaces a device in the API server, and shows it to the cache as a watch would.
    pub fn apply(&self, device: &Value) {
        let object = self.api.put("devices", device.clone());
        self.cache.apply(&serde_json::from_value::<Device>(object).unwrap());
    }

    /// Shows the cache what the API server has.
    pub fn catch_up(&self, name: &str) {
        let object = self.api.get("devices", name).unwrap();
        self.cache.apply(&serde_json::from_value::<Device>(object).unwrap());
    }

    pub fn rollout(&self, spec: &Value, status: &Value) {
        self.rollouts.apply(&serde_json::from_value::<ImageRollout>(rollout(spec, status)).unwrap());
    }

    pub async fn call(&self, request: Request<Body>) -> Answer {
        call(&self.router, request).await
    }

    pub async fn poll(&self, uuid: &str, key: &str, tag: Option<&str>) -> Answer {
        self.call(poll(uuid, key, tag)).await
    }

    pub async fn report(&self, key: &str, body: impl Into<Body>) -> Answer {
        let request = Request::patch(REPORT).header("x-device-api-key", key).body(body.into()).unwrap();
        self.call(request).await
    }
}

pub fn poll(uuid: &str, key: &str, tag: Option<&str>) -> Request<Body> {
    let mut request = Request::get(format!("/api/v1/device/{uuid}/state")).header("x-device-api-key", key);
    if let Some(tag) = tag {
        request = request.header(header::IF_NONE_MATCH, tag);
    }
    request.body(Body::empty()).unwrap()
}

pub async fn call(router: &Router, request: Request<Body>) -> Answer {
    let response = router.clone().oneshot(request).await.unwrap();
    let (parts, body) = response.into_parts();
    let body = body.collect().await.unwrap().to_bytes().to_vec();
    Answer { status: parts.status, headers: parts.headers, body }
}
