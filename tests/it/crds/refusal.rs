//! Asks the API server what it thinks of an object, without leaving anything behind.

use kube::Client;
use kube::core::Status;
use serde_json::{Value, json};

/// One reason for a refusal.
#[derive(Clone, Debug)]
pub struct Cause {
    pub field: String,
    pub message: String,
}

fn plural(object: &Value) -> String {
    let kind = object["kind"].as_str().expect("a kind");
    let crd = tranche::api::crds().into_iter().find(|crd| crd.spec.names.kind == kind);
    crd.unwrap_or_else(|| panic!("there is no kind {kind}")).spec.names.plural
}

/// Asks about creating an object, or, where there is a status in it, about storing that.
pub async fn dry_run(client: &Client, namespace: &str, object: &Value) -> Result<Value, Vec<Cause>> {
    let collection = format!("/apis/tranche.dev/v1alpha1/namespaces/{namespace}/{}", plural(object));
    let body = serde_json::to_vec(object).expect("JSON");
    let request = http::Request::post(format!("{collection}?dryRun=All&fieldValidation=Strict"))
        .header(http::header::CONTENT_TYPE, "application/json")
        .body(body);
    send(client, request.expect("a request")).await
}

/// Asks about a change of an object that is there: a merge patch, of the status if that is what it has.
pub async fn dry_patch(client: &Client, namespace: &str, name: &str, patch: &Value) -> Result<Value, Vec<Cause>> {
    let collection = format!("/apis/tranche.dev/v1alpha1/namespaces/{namespace}/{}", plural(patch));
    let subresource = if patch.get("status").is_some() { "/status" } else { "" };
    let body = serde_json::to_vec(patch).expect("JSON");
    let request = http::Request::patch(format!("{collection}/{name}{subresource}?dryRun=All&fieldValidation=Strict"))
        .header(http::header::CONTENT_TYPE, "application/merge-patch+json")
        .body(body);
    send(client, request.expect("a request")).await
}

async fn send(client: &Client, request: http::Request<Vec<u8>>) -> Result<Value, Vec<Cause>> {
    match client.request::<Value>(request).await {
        Ok(stored) => Ok(stored),
        Err(kube::Error::Api(status)) => Err(causes(&status)),
        Err(error) => panic!("the API server doesn't answer: {error}"),
    }
}

fn causes(status: &Status) -> Vec<Cause> {
    let details = json!(status.details);
    let causes: Vec<Cause> = details["causes"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|cause| Cause {
            field: cause["field"].as_str().unwrap_or_default().into(),
            message: cause["message"].as_str().unwrap_or_default().into(),
        })
        .collect();
    if causes.is_empty() { vec![Cause { field: String::new(), message: status.message.clone() }] } else { causes }
}
