//! The chart on a real API server: taken without a word, installed, changed and taken away again by helm.

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
use kube::api::{ApiResource, DynamicObject, ListParams, Patch, PatchParams};
use kube::core::GroupVersionKind;
use kube::{Api, Client, Resource as _};
use serde_json::{Value, json};

use super::helm::{folder, helm, render};
use super::rendered::value_sets;
use crate::support::controlplane::{ControlPlane, User};

#[tokio::test]
async fn the_api_server_takes_all_of_it_without_a_warning() {
    let plane = ControlPlane::shared();
    let client = plane.client(User::Admin).await;
    for (index, (what, values)) in value_sets().into_iter().enumerate() {
        let namespace = plane.namespace(&format!("chart-{index}")).await;
        // Pods that may do anything to their node are refused here, and workloads that make such pods warned about.
        let strict = json!({ "metadata": { "labels": {
            "pod-security.kubernetes.io/enforce": "restricted", "pod-security.kubernetes.io/warn": "restricted",
        } } });
        let namespaces: Api<Namespace> = Api::all(client.clone());
        namespaces.patch(&namespace, &PatchParams::default(), &Patch::Merge(strict)).await.expect("labels");
        for object in render(&namespace, &values) {
            apply(&client, &namespace, what, &object).await;
        }
    }
}

/// Applies a rendered object, and takes a warning for a failure.
pub async fn apply(client: &Client, namespace: &str, what: &str, object: &Value) {
    let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str).expect(pointer);
    let (group, version) = text("/apiVersion").split_once('/').unwrap_or(("", text("/apiVersion")));
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, text("/kind")));
    let base = DynamicObject::url_path(&resource, Some(namespace));
    let name = text("/metadata/name");
    let request = http::Request::patch(format!("{base}/{name}?fieldManager=tests&fieldValidation=Strict"))
        .header(http::header::CONTENT_TYPE, "application/apply-patch+yaml")
        .body(serde_json::to_vec(object).expect("JSON").into());
    let response = client.send(request.expect("a request")).await.expect("an answer");
    let warnings: Vec<_> = response.headers().get_all(http::header::WARNING).iter().cloned().collect();
    let status = response.status();
    let body = http_body_util::BodyExt::collect(response.into_body()).await.expect("a body").to_bytes();
    assert!(status.is_success(), "{what}: {}: {}", object["kind"], String::from_utf8_lossy(&body));
    assert!(warnings.is_empty(), "{what}: {}: {warnings:?}", object["kind"]);
}

#[tokio::test]
async fn helm_installs_changes_and_takes_it_away() {
    let plane = ControlPlane::shared();
    let client = plane.client(User::Admin).await;
    let namespace = plane.namespace("chart-life").await;
    let (chart, kubeconfig) = (folder(), plane.kubeconfig(User::Admin));
    let (chart, kubeconfig) = (chart.to_str().expect("a path"), kubeconfig.to_str().expect("a path"));
    let at = ["--namespace", &namespace, "--kubeconfig", kubeconfig];
    let run = |words: &[&str], values: Value| {
        helm(&[words, &at].concat(), &values).unwrap_or_else(|error| panic!("helm {words:?}: {error}"))
    };
    let deployments: Api<Deployment> = Api::namespaced(client.clone(), &namespace);
    let secret = async || {
        let deployment = json!(deployments.get("fleet-tranche").await.expect("the Deployment"));
        let env = deployment["spec"]["template"]["spec"]["containers"][1]["env"].clone();
        env.as_array().is_some_and(|all| all.iter().any(|v| v["name"] == "DOCKER_WEBHOOK_SECRET"))
    };

    // The kinds are there already, and stay as they are.
    let notes = run(&["install", "fleet", chart, "--values", "-"], json!({}));
    assert!(notes.contains(&format!("Tranche serves namespace {namespace}")), "{notes}");
    assert!(notes.contains("The first webhook URL is shut"), "{notes}");
    assert!(!secret().await);

    let change = json!({ "webhook": { "existingSecret": "hook" } });
    let notes = run(&["upgrade", "fleet", chart, "--values", "-"], change);
    assert!(!notes.contains("The first webhook URL is shut"), "{notes}");
    assert!(secret().await);

    run(&["uninstall", "fleet", "--wait"], Value::Null);
    let all = ListParams::default();
    let roles: Api<Role> = Api::namespaced(client.clone(), &namespace);
    let bindings: Api<RoleBinding> = Api::namespaced(client.clone(), &namespace);
    assert!(deployments.list(&all).await.expect("a list").items.is_empty());
    assert!(roles.list(&all).await.expect("a list").items.is_empty());
    assert!(bindings.list(&all).await.expect("a list").items.is_empty());
}
