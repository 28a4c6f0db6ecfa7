//! The OpenAPI document against the server that serves it.

use std::path::Path;
use std::process::Command;

use http::Method;
use serde_json::{Value, json};

use super::Door;
use crate::rollouts::stage::Stage;
use crate::support::controlplane::{ControlPlane, User};

/// Each path of the document with its parameters filled in.
fn paths(document: &Value, rollout: &str, device: &str) -> Vec<(String, Vec<String>)> {
    let mut all = Vec::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        let id = if path.contains("image-policies") { "myapp" } else { rollout };
        let path = path.strip_prefix("/api/v1").unwrap().replace("{id}", id).replace("{uuid}", device);
        all.push((path, methods.as_object().unwrap().keys().map(|method| method.to_uppercase()).collect()));
    }
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_served_is_in_the_document() {
    let stage = Stage::set("rest-schema", 1, &json!({})).await;
    let rollout = stage.push("v2.0.0").await;
    let device = kube::ResourceExt::name_any(&stage.list().await[0]);
    let stranger = Door::with(&stage.tranche().url, None);
    let document = stranger.get("/openapi.json").await.ok();
    assert_eq!(document["openapi"], "3.1.0");
    assert_eq!(document["info"]["version"], env!("CARGO_PKG_VERSION"));
    let paths = paths(&document, &rollout, &device);
    assert!(paths.len() > 15, "{paths:?}");
    for (path, methods) in paths {
        for method in [Method::GET, Method::POST, Method::PUT, Method::PATCH, Method::DELETE] {
            let answer = stranger.send(method.clone(), &path, None).await;
            let wanted = if methods.contains(&method.to_string()) { 401 } else { 405 };
            assert_eq!(answer.status, wanted, "{method} {path}");
        }
    }
}

/// Where `make tools` puts it.
fn schemathesis() -> std::path::PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let path = std::env::var_os("TRANCHE_SCHEMATHESIS")
        .map_or_else(|| root.join("target/tools/schemathesis/bin/st"), Into::into);
    if !path.exists() {
        let status = Command::new(root.join("tests/schemathesis/build.sh")).status();
        assert!(status.is_ok_and(|status| status.success()), "no schemathesis: run `make tools`");
    }
    path
}

#[tokio::test(flavor = "multi_thread")]
async fn schemathesis_finds_nothing() {
    let stage = Stage::set("rest-schemathesis", 3, &json!({"strategy": {"type": "Manual"}})).await;
    let rollout = stage.push("v2.0.0").await;
    let device = kube::ResourceExt::name_any(&stage.list().await[0]);
    let mut run = Command::new(schemathesis());
    run.current_dir(env!("CARGO_TARGET_TMPDIR"))
        .arg("--config-file")
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/schemathesis/schemathesis.toml"))
        .args(["run", &format!("{}/api/v1/openapi.json", stage.tranche().url)])
        .env("TRANCHE_TOKEN", ControlPlane::shared().token(User::Admin))
        .env("TRANCHE_ROLLOUT", rollout)
        .env("TRANCHE_DEVICE", device)
        .env("NO_COLOR", "1");
    let output = tokio::task::block_in_place(|| run.output()).unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}\n{}", String::from_utf8_lossy(&output.stderr));
    // All but the one that ends with a rollout.
    let document = Door::with(&stage.tranche().url, None).get("/openapi.json").await.ok();
    let operations = document["paths"].as_object().unwrap().values().map(|methods| methods.as_object().unwrap().len());
    assert!(said.contains(&format!("Tested: {}\n", operations.sum::<usize>() - 1)), "{said}");
}
