//! `docs/safety.md`: the tests that it names are there, and the checks that it shows can work.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tranche::api::ImageUpdatePolicy;
use tranche::controller::gather::validate;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_owned()
}

fn page() -> String {
    std::fs::read_to_string(root().join("docs/safety.md")).unwrap()
}

/// Names of all functions of the tests.
fn functions(folder: &Path, found: &mut BTreeSet<String>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            functions(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = std::fs::read_to_string(&path).unwrap();
            let names = text.split("fn ").skip(1).map(|rest| rest.split('(').next().unwrap().to_owned());
            found.extend(names);
        }
    }
}

#[test]
fn every_promise_names_tests_that_are_there() {
    let mut there = BTreeSet::new();
    functions(&root().join("tests"), &mut there);
    let page = page();
    let promised = page.split("## When a device is healthy").next().unwrap();
    let rows: Vec<&str> = promised.lines().filter(|line| line.starts_with("| ") && line.contains(". ")).collect();
    assert_eq!(rows.len(), 10, "one row for each line of the Never list");
    let named = promised.split('`').skip(1).step_by(2).filter(|text| text.contains('_') && !text.contains('/'));
    let named: BTreeSet<&str> = named.filter(|text| *text != "plan_scenarios").collect();
    assert!(named.len() >= 8, "{named:?}");
    for name in named {
        assert!(there.contains(name), "docs/safety.md names {name}, which is no test");
    }
}

#[test]
fn the_checks_that_are_shown_can_work() {
    let page = page();
    let block = page.split("```yaml\n").nth(1).unwrap().split("```").next().unwrap();
    let checks: Value = serde_yaml::from_str(block).unwrap();
    let policy = json!({
        "metadata": { "name": "shown", "namespace": "default" },
        "spec": {
            "image": { "pattern": "acme/app:*" }, "devices": { "selector": {} }, "healthChecks": checks["healthChecks"],
        },
    });
    let policy: ImageUpdatePolicy = serde_json::from_value(policy).unwrap();
    assert_eq!(policy.spec.health_checks.len(), 6, "one of each kind");
    validate(&policy).unwrap();
}
