//! `docs/api.md`, run as it stands.

use std::collections::BTreeSet;

use serde_json::Value;

use super::Door;
use crate::support::controlplane::{ControlPlane, User};
use crate::support::page::{self, Block, Step, answers, blocks, has_program, script};
use crate::support::process::{Settings, Tranche};
use crate::support::shell::Shell;

fn text() -> String {
    page::page("docs/api.md")
}

#[tokio::test(flavor = "multi_thread")]
async fn every_command_works() {
    has_program("curl", "--version");
    let plane = ControlPlane::shared();
    let namespace = plane.namespace("api-page").await;
    let tranche = Tranche::start(&Settings::new(&plane.kubeconfig(User::Admin), &namespace)).await;
    let steps: Vec<Step> = blocks(&text()).iter().filter(|block| block.is_run()).flat_map(Block::steps).collect();
    let shell = Shell::new(plane, &namespace);
    let output = shell.run(&script(&steps, &tranche.url), 120, &[]);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{said}\n{}", String::from_utf8_lossy(&output.stderr));
    for (step, answer) in answers(&steps, &said) {
        step.answered(answer, &tranche.url);
    }
}

/// The table of paths, and what is served.
#[tokio::test(flavor = "multi_thread")]
async fn every_path_is_on_the_page() {
    let plane = ControlPlane::shared();
    let namespace = plane.namespace("api-paths").await;
    let settings = Settings::new(&plane.kubeconfig(User::Admin), &namespace).only(&["api"]);
    let tranche = Tranche::start(&settings).await;
    let document: Value = Door::with(&tranche.url, None).get("/openapi.json").await.ok();
    let mut served = BTreeSet::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        let path = path.strip_prefix("/api/v1").unwrap();
        served.extend(methods.as_object().unwrap().keys().map(|method| format!("{} {path}", method.to_uppercase())));
    }
    let mut told = BTreeSet::new();
    for line in text().lines().filter_map(|line| line.strip_prefix("| `")) {
        let mut cells = line.split("` | `").map(|cell| cell.split('`').next().unwrap());
        if let (Some(method), Some(path)) = (cells.next(), cells.next())
            && path.starts_with('/')
        {
            told.insert(format!("{method} {path}"));
        }
    }
    assert_eq!(told, served);
}
