//! The chart's roles, asked of the API server as the chart's ServiceAccount: what is used is granted, nothing else is.

use std::collections::BTreeSet;
use std::path::PathBuf;

use futures::StreamExt as _;
use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use k8s_openapi::api::authorization::v1::{ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec};
use k8s_openapi::api::core::v1::{Secret, ServiceAccount};
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::{Api, Client, ResourceExt as _};
use serde_json::{Value, json};
use tranche::api::{Device, ImageRollout, policy_manager};

use super::helm::render;
use crate::support::controlplane::{ControlPlane, User, client};

/// Every verb of every resource that the pod may use in its namespace.
const GRANTED: [(&str, &str, &[&str]); 12] = [
    ("tranche.dev", "imageupdatepolicies", &["list", "watch"]),
    ("tranche.dev", "imageupdatepolicies/status", &["patch"]),
    ("tranche.dev", "imageupdatepolicies/finalizers", &["update"]),
    ("tranche.dev", "imagerollouts", &["get", "list", "watch", "create", "patch", "delete"]),
    ("tranche.dev", "imagerollouts/status", &["patch"]),
    ("tranche.dev", "devices", &["get", "list", "watch", "create", "patch"]),
    ("tranche.dev", "devices/status", &["patch"]),
    ("tranche.dev", "devicepresences", &["get", "list", "watch", "create", "update", "delete"]),
    ("tranche.dev", "registrywebhooks", &["list", "watch"]),
    ("tranche.dev", "registrywebhooks/status", &["patch"]),
    ("", "secrets", &["get", "patch"]),
    ("events.k8s.io", "events", &["create", "patch"]),
];

/// What it is asked about besides: what a pod in the wrong hands would want.
const OTHERS: [(&str, &str); 11] = [
    ("", "configmaps"),
    ("", "pods"),
    ("", "pods/exec"),
    ("", "serviceaccounts"),
    ("", "serviceaccounts/token"),
    ("", "events"),
    ("apps", "deployments"),
    ("batch", "jobs"),
    ("rbac.authorization.k8s.io", "roles"),
    ("rbac.authorization.k8s.io", "rolebindings"),
    ("coordination.k8s.io", "leases"),
];

const VERBS: [&str; 8] = ["get", "list", "watch", "create", "update", "patch", "delete", "deletecollection"];

/// A namespace with the chart in it, and the file by which its pod would reach the API server.
pub async fn installed(purpose: &str) -> (String, PathBuf) {
    let plane = ControlPlane::shared();
    let admin = plane.client(User::Admin).await;
    let namespace = plane.namespace(purpose).await;
    for object in render(&namespace, &json!({})) {
        super::installed::apply(&admin, &namespace, purpose, &object).await;
    }
    let accounts: Api<ServiceAccount> = Api::namespaced(admin.clone(), &namespace);
    let request = TokenRequest {
        spec: Some(TokenRequestSpec { expiration_seconds: Some(3600), ..Default::default() }),
        ..Default::default()
    };
    let issued = accounts.create_token_request("fleet-tranche", &PostParams::default(), &request).await;
    let token = issued.expect("an answer").status.and_then(|status| status.token).expect("a token");

    let text = std::fs::read_to_string(plane.kubeconfig(User::Admin)).expect("a kubeconfig");
    let mut file: Value = serde_yaml::from_str(&text).expect("YAML");
    file["users"][0]["user"] = json!({ "token": token });
    let kubeconfig = plane.folder().join(format!("kubeconfig-of-{namespace}"));
    std::fs::write(&kubeconfig, file.to_string()).expect("a file");
    (namespace, kubeconfig)
}

async fn may(client: &Client, namespace: &str, group: &str, resource: &str, verb: &str) -> bool {
    let (resource, subresource) = match resource.split_once('/') {
        Some((resource, subresource)) => (resource, Some(subresource.to_owned())),
        None => (resource, None),
    };
    let attributes = ResourceAttributes {
        namespace: Some(namespace.into()),
        group: Some(group.into()),
        resource: Some(resource.into()),
        subresource,
        verb: Some(verb.into()),
        ..Default::default()
    };
    let review = SelfSubjectAccessReview {
        spec: SelfSubjectAccessReviewSpec { resource_attributes: Some(attributes), ..Default::default() },
        ..Default::default()
    };
    let api: Api<SelfSubjectAccessReview> = Api::all(client.clone());
    let answer = api.create(&PostParams::default(), &review).await.expect("an answer");
    answer.status.expect("an answer").allowed
}

/// Of everything that could be asked for, what is granted.
async fn granted(client: &Client, namespace: &str) -> BTreeSet<String> {
    let resources = GRANTED.iter().map(|(group, resource, _)| (*group, *resource)).chain(OTHERS);
    let questions = resources.flat_map(|(group, resource)| VERBS.map(|verb| (group, resource, verb)));
    futures::stream::iter(questions)
        .map(|(group, resource, verb)| async move {
            let granted = may(client, namespace, group, resource, verb).await;
            granted.then(|| format!("{verb} {group}/{resource}"))
        })
        .buffer_unordered(8)
        .filter_map(std::future::ready)
        .collect()
        .await
}

#[tokio::test]
async fn exactly_what_is_used_is_granted() {
    let (namespace, kubeconfig) = installed("chart-rights").await;
    let plane = ControlPlane::shared();
    let (pod, admin) = (client(&kubeconfig).await, plane.client(User::Admin).await);
    let expected: BTreeSet<String> = GRANTED
        .iter()
        .flat_map(|(group, resource, verbs)| verbs.iter().map(move |verb| format!("{verb} {group}/{resource}")))
        .collect();
    assert_eq!(granted(&pod, &namespace).await, expected);
    // Elsewhere it has none, nor has anybody else here. And these are not questions that are always denied.
    assert_eq!(granted(&pod, "default").await, BTreeSet::new());
    assert_eq!(granted(&plane.client(User::Nobody).await, &namespace).await, BTreeSet::new());
    assert!(may(&admin, "default", "", "secrets", "list").await);
}

fn code<T: std::fmt::Debug>(result: Result<T, kube::Error>) -> u16 {
    match result {
        Ok(_) => 200,
        Err(kube::Error::Api(status)) => status.code,
        Err(error) => panic!("no answer: {error}"),
    }
}

#[tokio::test]
async fn calls_are_answered_accordingly() {
    let (namespace, kubeconfig) = installed("chart-calls").await;
    let (pod, admin) = (client(&kubeconfig).await, ControlPlane::shared().client(User::Admin).await);
    let devices: Api<Device> = Api::namespaced(pod.clone(), &namespace);
    let by_admin: Api<Device> = Api::namespaced(admin.clone(), &namespace);
    let device = by_admin.create(&PostParams::default(), &Device::new("one", Default::default())).await;
    let device = device.expect("a device");

    let secrets: Api<Secret> = Api::namespaced(pod.clone(), &namespace);
    assert_eq!(code(secrets.list(&ListParams::default()).await), 403);
    assert_eq!(code(devices.replace("one", &PostParams::default(), &device).await), 403);
    assert_eq!(code(devices.delete("one", &DeleteParams::default()).await), 403);

    // A release, as the controller writes it.
    let release = |name: &str, metadata: Value| {
        let (devices, name) = (devices.clone(), name.to_owned());
        let body = json!({
            "apiVersion": "tranche.dev/v1alpha1", "kind": "Device", "metadata": metadata,
            "spec": { "images": [{
                "repository": "docker.io/acme/app", "image": "docker.io/acme/app:v2", "declared": "", "rollout": "r",
                "batch": 1, "releaseTime": "2026-11-02T09:30:00Z",
            }] },
        });
        async move { devices.patch(&name, &PatchParams::apply(&policy_manager("a")), &Patch::Apply(&body)).await }
    };
    let seen = json!({ "name": "one", "uid": device.uid(), "resourceVersion": device.resource_version() });
    assert_eq!(code(release("one", seen).await), 200);
    // Of a device that is gone: the apply names the one that was seen, and so doesn't bring it back.
    let gone = json!({ "name": "gone", "uid": device.uid(), "resourceVersion": device.resource_version() });
    assert_eq!(code(release("gone", gone).await), 409);

    let rollouts: Api<ImageRollout> = Api::namespaced(pod.clone(), &namespace);
    let rollout = json!({
        "apiVersion": "tranche.dev/v1alpha1", "kind": "ImageRollout", "metadata": { "name": "a-1" },
        "spec": { "policyRef": { "name": "a" }, "image": { "repository": "docker.io/acme/app", "tag": "v2" } },
    });
    let rollout: ImageRollout = serde_json::from_value(rollout).expect("a rollout");
    assert_eq!(code(rollouts.create(&PostParams::default(), &rollout).await), 200);
    let elsewhere: Api<ImageRollout> = Api::namespaced(pod, "default");
    assert_eq!(code(elsewhere.create(&PostParams::default(), &rollout).await), 403);
}
