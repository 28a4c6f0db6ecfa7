//! The definitions themselves: the files are what the types say, the API server takes them without a word, and takes
//! every example.

use std::collections::BTreeMap;
use std::path::Path;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::{Api, ResourceExt as _};
use serde::Deserialize as _;
use serde_json::{Value, json};

use super::refusal::dry_run;
use crate::support::controlplane::{ControlPlane, User};

/// The folders that hold the definitions.
const FOLDERS: [&str; 2] = ["crds", "charts/tranche/crds"];

#[test]
fn the_files_are_what_the_types_say() {
    let expected: BTreeMap<String, Value> = tranche::cli::crds::documents()
        .expect("YAML")
        .into_iter()
        .map(|(name, text)| (name, serde_yaml::from_str(&text).expect("YAML")))
        .collect();
    for folder in FOLDERS {
        let mut found = BTreeMap::new();
        for entry in std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(folder)).expect(folder) {
            let entry = entry.expect("an entry");
            let text = std::fs::read_to_string(entry.path()).expect("text");
            let value: Value = serde_yaml::from_str(&text).expect("YAML");
            found.insert(entry.file_name().to_string_lossy().into_owned(), value);
        }
        assert!(found == expected, "{folder}/ is not what `tranche crds` prints: run `make crds`");
    }
}

#[tokio::test]
async fn the_api_server_takes_them_without_a_warning() {
    let client = ControlPlane::shared().client(User::Admin).await;
    for crd in tranche::api::crds() {
        let name = crd.name_any();
        let url = format!(
            "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{name}?fieldManager=tests&force=true&fieldValidation=Strict"
        );
        let request = http::Request::patch(url)
            .header(http::header::CONTENT_TYPE, "application/apply-patch+yaml")
            .body(serde_json::to_vec(&crd).expect("JSON").into());
        let response = client.send(request.expect("a request")).await.expect("an answer");
        assert_eq!(response.status(), http::StatusCode::OK, "{name}");
        let warnings: Vec<_> = response.headers().get_all(http::header::WARNING).iter().collect();
        assert!(warnings.is_empty(), "{name}: {warnings:?}");

        let stored = Api::<CustomResourceDefinition>::all(client.clone()).get(&name).await.expect("it is there");
        let conditions = json!(stored.status.and_then(|status| status.conditions));
        let conditions: Vec<(&str, &str)> = conditions
            .as_array()
            .into_iter()
            .flatten()
            .map(|c| (c["type"].as_str().unwrap_or_default(), c["status"].as_str().unwrap_or_default()))
            .collect();
        assert!(conditions.contains(&("Established", "True")), "{name}: {conditions:?}");
        assert!(conditions.contains(&("NamesAccepted", "True")), "{name}: {conditions:?}");
        assert!(!conditions.iter().any(|(type_, _)| *type_ == "NonStructuralSchema"), "{name}: {conditions:?}");
    }
}

#[tokio::test]
async fn examples_are_accepted() {
    let plane = ControlPlane::shared();
    let (client, namespace) = (plane.client(User::Admin).await, plane.namespace("crds-examples").await);
    let mut seen = 0;
    for entry in std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("examples")).expect("examples/") {
        let path = entry.expect("an entry").path();
        if path.extension().is_none_or(|extension| extension != "yaml") {
            continue;
        }
        let text = std::fs::read_to_string(&path).expect("text");
        for document in serde_yaml::Deserializer::from_str(&text) {
            let object = Value::deserialize(document).expect("YAML");
            if object["kind"] == "Role" {
                // None of ours; the tests of the REST API make them.
                continue;
            }
            let asked = dry_run(&client, &namespace, &object).await;
            assert!(asked.is_ok(), "{}: {asked:?}", path.display());
            seen += 1;
        }
    }
    assert!(seen >= 7, "only {seen} examples were found");
}
