//! What an agent of each generation sends, word for word as the device contract has it; and a place to send it to.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client};
use reqwest::{Method, StatusCode};
use ring::rand::SystemRandom;
use ring::signature::{Ed25519KeyPair, KeyPair as _};
use serde_json::{Value, json};
use tranche::api::Device;
use tranche::enrol::key::spell;
use tranche::enrol::proof::PublicKey;
use tranche::enrol::{device, hash, terms};

use crate::chart::rights::installed;
use crate::support::controlplane::{ControlPlane, User};
use crate::support::process::{Settings, Tranche};
use crate::support::wait::until;

/// Which agent: what its requests look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Generation {
    First,
    Second,
    Third,
}

pub const GENERATIONS: [Generation; 3] = [Generation::First, Generation::Second, Generation::Third];

/// A namespace with the chart in it, and a gateway that has no more rights than the chart grants.
pub struct Place {
    pub namespace: String,
    pub settings: Settings,
    pub tranche: Tranche,
    pub devices: Api<Device>,
    pub secrets: Api<Secret>,
    pub client: Client,
}

impl Place {
    pub async fn new(purpose: &str) -> Self {
        Self::with(purpose, &[]).await
    }

    pub async fn with(purpose: &str, more: &[&'static str]) -> Self {
        let (namespace, kubeconfig) = installed(purpose).await;
        let client = ControlPlane::shared().client(User::Admin).await;
        let mut settings = Settings::new(&kubeconfig, &namespace).only(&["gateway"]);
        settings.more = more.to_vec();
        let tranche = Tranche::start(&settings).await;
        let devices = Api::namespaced(client.clone(), &namespace);
        let secrets = Api::namespaced(client.clone(), &namespace);
        Self { namespace, settings, tranche, devices, secrets, client }
    }

    /// A provisioning key with these terms; of that name.
    pub async fn key(&self, name: &str, terms: &[(&str, &str)]) -> String {
        let mut chance = [0; 32];
        ring::rand::SecureRandom::fill(&SystemRandom::new(), &mut chance).expect("chance");
        let key = spell(name, &chance);
        let mut data = json!({ terms::KEY_HASH: hash::written(&hash::of(&key)) });
        for (field, value) in terms {
            data[*field] = json!(value);
        }
        let secret = json!({ "metadata": { "name": name }, "type": terms::SECRET_TYPE, "stringData": data });
        let secret: Secret = serde_json::from_value(secret).expect("a Secret");
        self.secrets.create(&PostParams::default(), &secret).await.expect("the Secret is accepted");
        key
    }

    /// How many devices a provisioning key has created, as its Secret says.
    pub async fn enrolled(&self, name: &str) -> u32 {
        let secret = self.secrets.get(name).await.expect("a Secret");
        terms::Terms::read(&secret).expect("terms").enrolled
    }

    pub async fn edit(&self, uuid: &str, auth: Value) {
        let body = json!({ "spec": { "auth": auth } });
        self.devices.patch(uuid, &PatchParams::default(), &Patch::Merge(body)).await.expect("the change is accepted");
    }

    /// Lets the next device take its place, as `tranche devices keys UUID --reenrol` does; answers with the release.
    pub async fn release(&self, uuid: &str) -> Value {
        let release = json!(device::release(&self.auth(uuid).await, tranche::clock::now()));
        self.edit(uuid, json!({ "reenrol": release })).await;
        release
    }

    pub async fn auth(&self, uuid: &str) -> tranche::api::auth::DeviceAuth {
        self.devices.get(uuid).await.expect("the device").spec.auth.expect("auth")
    }
}

/// An answer.
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: http::HeaderMap,
    pub body: Value,
}

/// An agent: its UUID, its keys, and how it speaks.
pub struct Agent {
    pub generation: Generation,
    pub uuid: String,
    pub key: String,
    pub pair: Ed25519KeyPair,
    pub http: reqwest::Client,
}

impl Agent {
    pub fn new(generation: Generation) -> Self {
        let chance = |length: usize| -> String {
            let mut bytes = [0; 32];
            ring::rand::SecureRandom::fill(&SystemRandom::new(), &mut bytes).expect("chance");
            hash::hex(&bytes)[..length].to_owned()
        };
        let key = match generation {
            Generation::First | Generation::Second => chance(64),
            Generation::Third => format!("v2_{}_{}", chance(8), chance(64)),
        };
        let document = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).expect("a key");
        Self {
            generation,
            uuid: format!("{}-{}-4{}-8{}-{}", chance(8), chance(4), chance(3), chance(3), chance(12)),
            key,
            pair: Ed25519KeyPair::from_pkcs8(document.as_ref()).expect("a key"),
            http: reqwest::Client::new(),
        }
    }

    /// Another agent with the same UUID, as after a data loss.
    pub fn reborn(&self) -> Self {
        Self { uuid: self.uuid.clone(), ..Self::new(self.generation) }
    }

    /// Over another kind of connection.
    pub fn over(self, http: reqwest::Client) -> Self {
        Self { http, ..self }
    }

    pub fn public_key(&self) -> String {
        PublicKey::Ed25519(self.pair.public_key().as_ref().to_vec()).to_pem()
    }

    pub fn sign(&self, challenge: &str) -> String {
        STANDARD.encode(self.pair.sign(format!("{}:{challenge}", self.uuid).as_bytes()))
    }

    pub async fn send(
        &self,
        url: &str,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<&Value>,
    ) -> Answer {
        let mut request = self.http.request(method, format!("{url}{path}"));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        if let Some(body) = body {
            request = request.json(body);
        }
        let response = request.send().await.expect("an answer");
        let (status, headers) = (response.status(), response.headers().clone());
        let text = response.text().await.expect("a text");
        let body = if text.is_empty() { Value::Null } else { serde_json::from_str(&text).expect("JSON") };
        Answer { status, headers, body }
    }

    /// The first phase.
    pub async fn register(&self, url: &str, key: &str) -> Answer {
        let mut body = json!({
            "uuid": self.uuid, "deviceName": "line-3", "deviceType": "raspberry-pi", "deviceApiKey": self.key,
            "macAddress": "02:00:00:00:00:01", "osVersion": "Debian 12",
        });
        match self.generation {
            Generation::First | Generation::Second => {
                body["applicationId"] = json!(7);
                body["supervisorVersion"] = json!("0.9.0");
                let bearer = format!("Bearer {key}");
                let headers = [("authorization", bearer.as_str())];
                self.send(url, Method::POST, "/api/v1/device/register", &headers, Some(&body)).await
            }
            Generation::Third => {
                body["devicePublicKey"] = json!(self.public_key());
                body["agentVersion"] = json!("1.0.547");
                let again = format!("register-{}", self.uuid);
                let headers = [("x-provisioning-key", key), ("X-Idempotency-Key", again.as_str())];
                self.send(url, Method::POST, "/api/v1/agent/register", &headers, Some(&body)).await
            }
        }
    }

    /// The second phase. `challenge` is what the first one answered.
    pub async fn exchange(&self, url: &str, challenge: &str) -> Answer {
        let path = format!("/api/v1/device/{}/key-exchange", self.uuid);
        match self.generation {
            Generation::First | Generation::Second => {
                let bearer = format!("Bearer {}", self.key);
                let body = json!({ "uuid": self.uuid, "deviceApiKey": self.key });
                self.send(url, Method::POST, &path, &[("authorization", bearer.as_str())], Some(&body)).await
            }
            Generation::Third => {
                let body = json!({ "uuid": self.uuid, "signature": self.sign(challenge) });
                let again = format!("key-exchange-{}", self.uuid);
                let headers = [("x-agent-key", self.key.as_str()), ("X-Idempotency-Key", again.as_str())];
                self.send(url, Method::POST, &path, &headers, Some(&body)).await
            }
        }
    }

    /// Both phases.
    pub async fn enrol(&self, url: &str, key: &str) {
        let registered = self.register(url, key).await;
        assert_eq!(registered.status, 200, "{:?}: {}", self.generation, registered.body);
        let exchanged = self.exchange(url, registered.body["challenge"].as_str().expect("a challenge")).await;
        assert_eq!(exchanged.status, 200, "{:?}: {}", self.generation, exchanged.body);
    }

    /// Asks what to run, as this generation says who it is: the first one doesn't.
    pub async fn poll(&self, url: &str) -> Answer {
        match self.generation {
            Generation::First => self.poll_with(url, &[]).await,
            Generation::Second | Generation::Third => self.poll_by_key(url, &self.key).await,
        }
    }

    pub async fn poll_by_key(&self, url: &str, key: &str) -> Answer {
        self.poll_with(url, &[("X-Device-API-Key", key)]).await
    }

    pub async fn poll_with(&self, url: &str, headers: &[(&str, &str)]) -> Answer {
        self.send(url, Method::GET, &format!("/api/v1/device/{}/state", self.uuid), headers, None).await
    }

    /// Says that it runs nothing.
    pub async fn report(&self, url: &str) -> Answer {
        let body = json!({ self.uuid.clone(): {
            "apps": {}, "is_online": true, "version": 1, "agent_version": "1.0.547", "local_ip": "10.0.0.7",
        } });
        self.send(url, Method::PATCH, "/api/v1/device/state", &[("X-Device-API-Key", &self.key)], Some(&body)).await
    }

    pub async fn post(&self, url: &str, what: &str, headers: &[(&str, &str)], body: &Value) -> Answer {
        self.send(url, Method::POST, &format!("/api/v1/device/{}/{what}", self.uuid), headers, Some(body)).await
    }

    /// Changes its key; one that has registered a public key signs that.
    pub async fn rotate(&self, url: &str, present: &str, new: &str) -> Answer {
        let mut body = json!({ "newKey": new });
        if self.generation == Generation::Third {
            let hashes = format!("{}:{}", hash::written(&hash::of(present)), hash::written(&hash::of(new)));
            body["signature"] = json!(self.sign(&hashes));
        }
        self.post(url, "rotate-key", &[("X-Device-API-Key", present)], &body).await
    }

    /// Polls by a key until it is answered so: the watch may lag behind what was written elsewhere.
    pub async fn until_answered(&self, url: &str, key: &str, status: u16) {
        until(&format!("{} to be answered {status}", self.uuid), async || {
            let answer = self.poll_by_key(url, key).await;
            if answer.status == status { Ok(()) } else { Err(format!("{}: {}", answer.status, answer.body)) }
        })
        .await;
    }
}
