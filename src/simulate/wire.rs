//! The JSON that a device and its server exchange, as today's agent reads and writes it. Pure.

use std::io::Write as _;
use std::sync::Arc;

use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Map, Value, json};

use super::engine::{Container, Status};

/// The agent compresses a report from this many bytes of JSON on.
pub const GZIP_FROM: usize = 1024;
/// What an oversize device adds to a report, bytes: several times what a server has a reason to take.
const OVERSIZE_PADDING: usize = 4 << 20;
/// What the simulated agent calls itself.
const AGENT_VERSION: &str = concat!("1.0.547-tranche-simulate.", env!("CARGO_PKG_VERSION"));

/// What a small machine reports of itself; nobody decides anything by it.
const METRICS: [(&str, i64); 7] = [
    ("cpu_usage", 12),
    ("memory_usage", 2746),
    ("memory_total", 24105),
    ("storage_usage", 1),
    ("storage_total", 2),
    ("temperature", 0),
    ("uptime", 63),
];

/// What a device is told to run, without the version: two answers of one content are one target.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Target {
    /// Every service of every application.
    pub services: Vec<Arc<Service>>,
    /// The agent's own configuration.
    pub config: Map<String, Value>,
}

/// One service of a target.
#[derive(Clone, Debug, PartialEq)]
pub struct Service {
    /// Key of its application in `apps`.
    pub app: String,
    /// Name of its application.
    pub app_name: Value,
    /// Its id, number or text.
    pub id: Value,
    /// Its name.
    pub name: Value,
    /// What is pulled and run. The agent looks at `imageName` (or a flat `image`) alone: a service that has only
    /// `config.image` has no image at all for it, and can't be started.
    pub image: Option<Arc<str>>,
    /// Everything else that its container is made from.
    pub config: Map<String, Value>,
}

/// A report, ready to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// The body, compressed or not.
    pub body: Vec<u8>,
    /// Whether it is compressed.
    pub gzip: bool,
    /// Whether it is a live one. A replay is stripped: no version, and possibly of older state.
    pub live: bool,
}

/// How a report is to be written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Size {
    /// Compressed from [`GZIP_FROM`] on.
    #[default]
    Ordinary,
    /// Padded far beyond reason, sent as it is.
    Huge,
    /// The same, compressed: small on the wire, huge once inflated.
    Bomb,
}

/// Target and version of a poll's answer for `uuid`. `None` when the answer has no entry for it: the agent ignores such an answer.
///
/// # Errors
/// When the body is not JSON.
pub fn parse_target(body: &[u8], uuid: &str) -> Result<Option<(Target, i64)>, serde_json::Error> {
    let mut body: Value = serde_json::from_slice(body)?;
    let Some(Value::Object(mut state)) = body.get_mut(uuid).map(Value::take) else { return Ok(None) };
    let mut services = Vec::new();
    if let Some(Value::Object(apps)) = state.remove("apps") {
        for (key, mut app) in apps {
            let name = app.get_mut("appName").map(Value::take).unwrap_or_default();
            if let Some(Value::Array(list)) = app.get_mut("services").map(Value::take) {
                services.extend(list.into_iter().map(|service| Arc::new(Service::parse(&key, &name, service))));
            }
        }
    }
    let config = match state.remove("config") {
        Some(Value::Object(config)) => config,
        _ => Map::new(),
    };
    // The agent takes whatever is no positive number for 1.
    let version = state.get("version").and_then(Value::as_i64).filter(|version| *version >= 1).unwrap_or(1);
    Ok(Some((Target { services, config }, version)))
}

/// The report of what runs now.
#[must_use]
pub fn live_report(
    uuid: &str,
    index: u32,
    version: i64,
    containers: &[Container],
    config: Option<&Map<String, Value>>,
    size: Size,
) -> Report {
    let mut state = Map::new();
    state.insert("apps".into(), apps(containers));
    state.insert("is_online".into(), true.into());
    state.insert("version".into(), version.into());
    if let Some(config) = config {
        let address = address(index);
        state.insert("config".into(), Value::Object(config.clone()));
        state.insert("os_version".into(), "Debian GNU/Linux 12 (bookworm)".into());
        state.insert("architecture".into(), "x64".into());
        state.insert("agent_version".into(), AGENT_VERSION.into());
        for (metric, value) in METRICS {
            state.insert(metric.into(), value.into());
        }
        let [_, b, c, d] = index.to_be_bytes();
        let mac = format!("02:00:00:{b:02x}:{c:02x}:{d:02x}");
        state.insert(
            "network_interfaces".into(),
            json!([{ "name": "eth0", "ip4": address, "ip6": null, "mac": mac, "type": "wired", "default": true, "virtual": false, "operstate": "up" }]),
        );
        state.insert("local_ip".into(), address.into());
    }
    state.insert("endpoints_health".into(), json!({}));
    state.insert("devices".into(), json!([]));
    let padded = size != Size::Ordinary;
    if padded {
        state.insert("padding".into(), "x".repeat(OVERSIZE_PADDING).into());
    }
    encode(uuid, state, size, true)
}

/// A report from the agent's queue: what once ran, stripped of everything that tells when.
#[must_use]
pub fn replayed_report(uuid: &str, apps: Value) -> Report {
    let mut state = Map::new();
    state.insert("apps".into(), apps);
    state.insert("is_online".into(), true.into());
    encode(uuid, state, Size::Ordinary, false)
}

fn encode(uuid: &str, state: Map<String, Value>, size: Size, live: bool) -> Report {
    let mut outer = Map::new();
    outer.insert(uuid.into(), Value::Object(state));
    let plain = Value::Object(outer).to_string().into_bytes();
    let compress = match size {
        Size::Ordinary => plain.len() >= GZIP_FROM,
        Size::Huge => false,
        Size::Bomb => true,
    };
    match compress.then(|| gzip(&plain)).flatten() {
        Some(body) => Report { body, gzip: true, live },
        None => Report { body: plain, gzip: false, live },
    }
}

/// `None` can't happen: writing to memory doesn't fail. The report then goes out plain.
fn gzip(plain: &[u8]) -> Option<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(plain).ok()?;
    encoder.finish().ok()
}

/// `apps` as the agent rebuilds it from its container engine, applications by key.
#[must_use]
pub fn apps(containers: &[Container]) -> Value {
    let mut apps: Map<String, Value> = Map::new();
    for container in containers {
        let service = &container.service;
        let app = apps.entry(service.app.clone()).or_insert_with(
            || json!({ "appId": number_or_text(&service.app), "appName": service.app_name, "services": [] }),
        );
        if let Some(Value::Array(services)) = app.get_mut("services") {
            services.push(service_json(container));
        }
    }
    Value::Object(apps)
}

fn service_json(container: &Container) -> Value {
    let service = &container.service;
    let mut config = service.config.clone();
    config.insert("image".into(), container.image.as_ref().into());
    for (always, empty) in
        [("ports", json!([])), ("volumes", json!([])), ("networks", json!([])), ("environment", json!({}))]
    {
        config.entry(always).or_insert(empty);
    }
    config.insert("networkMode".into(), "bridge".into());
    config.insert(
        "labels".into(),
        json!({ "iotistic.app-id": service.app, "iotistic.app-name": service.app_name, "iotistic.service-id": service.id, "iotistic.service-name": service.name }),
    );
    let mut json = json!({
        "serviceId": service.id,
        "serviceName": service.name,
        "appId": number_or_text(&service.app),
        "appName": service.app_name,
        "imageName": container.image.as_ref(),
        "containerId": container.id,
        "status": container.status.as_str(),
        "config": config,
    });
    // The agent leaves `state` out where the engine's word has no coarse one.
    if let Some(state) = match container.status {
        Status::Running => Some("running"),
        Status::Exited => Some("stopped"),
        Status::Restarting => None,
    } {
        json["state"] = state.into();
    }
    json
}

fn number_or_text(key: &str) -> Value {
    key.parse::<i64>().map_or_else(|_| key.into(), Value::from)
}

/// Its own address for each of the first 16 million devices.
fn address(index: u32) -> String {
    let [_, b, c, d] = index.to_be_bytes();
    format!("10.{b}.{c}.{d}")
}

// === impl Service ===

impl Service {
    fn parse(app: &str, app_name: &Value, mut service: Value) -> Self {
        let mut take = |field: &str| service.get_mut(field).map(Value::take).unwrap_or_default();
        let (id, name) = (take("serviceId"), take("serviceName"));
        let image = take("imageName");
        let flat = take("image");
        let config = match take("config") {
            Value::Object(config) => config,
            _ => Map::new(),
        };
        let image = image.as_str().or(flat.as_str()).filter(|image| !image.is_empty()).map(Arc::from);
        Self { app: app.to_owned(), app_name: app_name.clone(), id, name, image, config }
    }

    /// Whether both are one service, before and after a change.
    #[must_use]
    pub fn is_same_as(&self, other: &Self) -> bool {
        self.app == other.app && self.id == other.id && (!self.id.is_null() || self.name == other.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(state: &Value) -> (Target, i64) {
        parse_target(json!({ "u": state }).to_string().as_bytes(), "u").expect("JSON").expect("an entry")
    }

    #[test]
    fn only_image_name_counts() {
        let services = json!([
            { "serviceId": 1, "serviceName": "a", "imageName": "acme/a:1", "config": { "image": "acme/other:9" } },
            { "serviceId": 2, "serviceName": "b", "config": { "image": "acme/b:1" } },
            { "serviceId": "3", "serviceName": "c", "image": "acme/c:1" },
        ]);
        let (target, version) =
            parse(&json!({ "apps": { "1001": { "appName": "web", "services": services } }, "version": 14 }));
        let images: Vec<_> = target.services.iter().map(|service| service.image.as_deref()).collect();
        assert_eq!(images, [Some("acme/a:1"), None, Some("acme/c:1")]);
        assert_eq!(version, 14);
    }

    #[test]
    fn content_decides_not_version() {
        let apps = json!({ "1": { "appName": "web", "services": [{ "serviceId": 1, "imageName": "acme/a:1" }] } });
        let (a, first) = parse(&json!({ "apps": apps, "version": 1 }));
        let (b, second) = parse(&json!({ "version": 2, "needs_deployment": true, "apps": apps }));
        assert_eq!(a, b);
        assert_eq!((first, second), (1, 2));
        for odd in [json!("7"), json!(0), json!(-3), json!(null)] {
            assert_eq!(parse(&json!({ "version": odd })).1, 1, "{odd} counts as 1");
        }
    }

    #[test]
    fn an_answer_for_someone_else_is_ignored() {
        assert_eq!(parse_target(br#"{"other": {"apps": {}}}"#, "u").expect("JSON"), None);
        assert_eq!(parse_target(br#"{"u": null}"#, "u").expect("JSON"), None);
        assert!(parse_target(b"<html>", "u").is_err());
    }

    #[test]
    fn reports_are_compressed_when_it_pays() {
        let small = live_report("u", 0, 1, &[], None, Size::Ordinary);
        assert!(!small.gzip && small.body.len() < GZIP_FROM);
        let huge = live_report("u", 0, 1, &[], None, Size::Huge);
        assert!(!huge.gzip && huge.body.len() > OVERSIZE_PADDING);
        let bomb = live_report("u", 0, 1, &[], None, Size::Bomb);
        assert!(bomb.gzip && bomb.body.len() < 64 << 10, "{} bytes", bomb.body.len());
    }
}
