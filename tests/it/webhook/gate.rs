//! `tranche run api` before a real API server, with whatever a test of receivers needs around it.

use std::collections::BTreeMap;

use http::{HeaderMap, StatusCode};
use k8s_openapi::api::core::v1::Secret;
use kube::api::{DeleteParams, Patch, PatchParams};
use kube::{Api, Client};
use serde_json::{Value, json};
use tranche::api::webhook::RegistryWebhookStatus;
use tranche::api::{ImageRollout, ImageUpdatePolicy, RegistryWebhook};

use crate::support::controlplane::{ControlPlane, User};
use crate::support::process::{Settings, Tranche};
use crate::support::wait::until;

/// An answer.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Value,
}

/// The stage of one test.
pub struct Gate {
    pub client: Client,
    pub namespace: String,
    pub tranche: Tranche,
    http: reqwest::Client,
}

impl Gate {
    pub async fn open(purpose: &str) -> Self {
        Self::open_at(ControlPlane::shared(), purpose).await
    }

    /// Before an API server of its own.
    pub async fn open_at(plane: &ControlPlane, purpose: &str) -> Self {
        let (client, namespace) = (plane.client(User::Admin).await, plane.namespace(purpose).await);
        let tranche = Tranche::start(&settings(plane, &namespace)).await;
        Self { client, namespace, tranche, http: reqwest::Client::new() }
    }

    /// Another process for the same namespace.
    pub async fn another(&self) -> Self {
        let tranche = Tranche::start(&settings(ControlPlane::shared(), &self.namespace)).await;
        Self { client: self.client.clone(), namespace: self.namespace.clone(), tranche, http: reqwest::Client::new() }
    }

    pub async fn secret(&self, name: &str, pairs: &[(&str, &str)]) {
        put_secret(&self.client, &self.namespace, name, pairs).await;
    }

    pub async fn webhook(&self, name: &str, spec: &Value) {
        put_webhook(&self.client, &self.namespace, name, spec).await;
    }

    pub async fn policy(&self, name: &str, pattern: &str, labels: &Value) {
        put_policy(&self.client, &self.namespace, name, pattern, labels).await;
    }

    /// The status, once it is as `wanted`.
    pub async fn status(&self, name: &str, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        status(&self.client, &self.namespace, name, what, wanted).await
    }

    /// Waits until the receiver is ready, with its path.
    pub async fn ready(&self, name: &str) -> String {
        let status = self.status(name, "Ready", |status| reason(status) == "Ready").await;
        status["path"].as_str().expect("a path").to_owned()
    }

    pub async fn rollouts(&self) -> Vec<ImageRollout> {
        let api: Api<ImageRollout> = Api::namespaced(self.client.clone(), &self.namespace);
        api.list(&Default::default()).await.expect("a list").items
    }

    pub async fn post(&self, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
        let mut request = self.http.post(format!("{}{path}", self.tranche.url)).body(body.to_owned());
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = request.send().await.expect("an answer");
        let (status, headers) = (response.status(), response.headers().clone());
        Answer { status, headers, body: response.json().await.unwrap_or(Value::Null) }
    }
}

fn settings(plane: &ControlPlane, namespace: &str) -> Settings {
    let mut settings = Settings::new(&plane.kubeconfig(User::Admin), namespace).only(&["api"]);
    settings.more = vec!["--trusted-proxies", "127.0.0.0/8"];
    settings
}

/// The reason of condition Ready.
pub fn reason(status: &Value) -> &str {
    status["conditions"][0]["reason"].as_str().unwrap_or_default()
}

pub async fn put_secret(client: &Client, namespace: &str, name: &str, pairs: &[(&str, &str)]) {
    let api: Api<Secret> = Api::namespaced(client.clone(), namespace);
    let data: BTreeMap<_, _> = pairs.iter().copied().collect();
    let secret = json!({ "apiVersion": "v1", "kind": "Secret", "metadata": { "name": name }, "stringData": data });
    // All of it: a key that is no longer named goes.
    let _ = api.delete(name, &DeleteParams::default()).await;
    api.create(&Default::default(), &serde_json::from_value(secret).expect("a Secret")).await.expect("a Secret");
}

pub async fn put_webhook(client: &Client, namespace: &str, name: &str, spec: &Value) {
    let api: Api<RegistryWebhook> = Api::namespaced(client.clone(), namespace);
    let object = json!({
        "apiVersion": "tranche.dev/v1alpha1", "kind": "RegistryWebhook", "metadata": { "name": name }, "spec": spec,
    });
    api.patch(name, &PatchParams::apply("tests").force(), &Patch::Apply(&object)).await.expect("a webhook");
}

pub async fn put_policy(client: &Client, namespace: &str, name: &str, pattern: &str, labels: &Value) {
    let api: Api<ImageUpdatePolicy> = Api::namespaced(client.clone(), namespace);
    let policy = json!({
        "apiVersion": "tranche.dev/v1alpha1", "kind": "ImageUpdatePolicy",
        "metadata": { "name": name, "labels": labels },
        "spec": { "image": { "pattern": pattern }, "devices": { "names": ["a"] } },
    });
    api.patch(name, &PatchParams::apply("tests").force(), &Patch::Apply(&policy)).await.expect("a policy");
}

pub async fn status(
    client: &Client,
    namespace: &str,
    name: &str,
    what: &str,
    wanted: impl Fn(&Value) -> bool,
) -> Value {
    let api: Api<RegistryWebhook> = Api::namespaced(client.clone(), namespace);
    until(&format!("the status of {name}: {what}"), async || {
        let webhook = api.get(name).await.map_err(|error| error.to_string())?;
        let status: Option<RegistryWebhookStatus> = webhook.status;
        let status = serde_json::to_value(status).expect("JSON");
        if wanted(&status) { Ok(status) } else { Err(status.to_string()) }
    })
    .await
}
