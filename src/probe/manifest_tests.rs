//! Jobs as they are made from templates.

use std::collections::BTreeSet;

use super::super::fixture::{job_check, pod, values};
use super::*;

const ADDRESS: &str = "10.1.2.3";

fn rollout() -> Rollout {
    Rollout { name: "app-5d41402abc".into(), uid: "3b241101-e2bb-4255-8caf-4136c566a962".into() }
}

fn order<'a>(values: &'a Values, rollout: &'a Rollout) -> Order<'a> {
    Order {
        check: "self-test",
        values,
        since: 1_700_000_000,
        rollout,
        attempt: 1,
        timeout: Duration::from_millis(1500),
    }
}

fn parse(template: &Value) -> Result<JobCheck, InvalidCheck> {
    JobCheck::parse(template.as_object().expect("an object"))
}

fn made(template: &Value, values: &Values) -> Value {
    job_check(template).job(&order(values, &rollout()))
}

#[test]
fn a_job() {
    let job = made(
        &json!({
            "metadata": {"annotations": {"sidecar.istio.io/inject": "false"}},
            "spec": {"serviceAccountName": "tester", "containers": [{"name": "main", "image": "acme/test:1"}], "new": 1},
        }),
        &values(ADDRESS),
    );
    let name = job["metadata"]["name"].as_str().expect("a name").to_owned();
    let environment = json!([
        {"name": "DEVICE_NAME", "value": "line 3"},
        {"name": "DEVICE_UUID", "value": "0b9f"},
        {"name": "DEVICE_IP", "value": "10.1.2.3"},
        {"name": "ROLLOUT", "value": "app-5d41402abc"},
        {"name": "NAMESPACE", "value": "plant-a"},
        {"name": "IMAGE", "value": "docker.io/acme/app:v2"},
        {"name": "TAG", "value": "v2"},
        {"name": "CHECK", "value": "self-test"},
    ]);
    let expected = json!({
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": name,
            "namespace": "plant-a",
            "labels": {
                "app.kubernetes.io/managed-by": "tranche",
                "tranche.dev/rollout": "app-5d41402abc",
                "tranche.dev/device": "0b9f",
                "tranche.dev/check": "self-test",
            },
            "ownerReferences": [{
                "apiVersion": "tranche.dev/v1alpha1", "kind": "ImageRollout", "name": "app-5d41402abc",
                "uid": "3b241101-e2bb-4255-8caf-4136c566a962", "controller": true, "blockOwnerDeletion": false,
            }],
        },
        "spec": {
            "backoffLimit": 0,
            "activeDeadlineSeconds": 2,
            "ttlSecondsAfterFinished": 600,
            "podFailurePolicy": {"rules": [
                {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
                {"action": "FailJob", "onExitCodes": {"operator": "In", "values": [126, 127, 128]}},
                {"action": "FailJob", "onExitCodes": {"operator": "NotIn", "values": [0]}},
            ]},
            "template": {
                "metadata": {"annotations": {"sidecar.istio.io/inject": "false"}},
                "spec": {
                    "serviceAccountName": "tester",
                    "restartPolicy": "Never",
                    "containers": [{"name": "main", "image": "acme/test:1", "env": environment}],
                    "new": 1,
                },
            },
        },
    });
    assert_eq!(job, expected);
}

#[test]
fn what_the_author_has_set_stays() {
    let theirs = json!([{"name": "TAG", "value": "mine"}, {"name": "URL", "value": "http://$(DEVICE_IP)/"}]);
    let job = made(
        &json!({"metadata": null, "spec": {
            "restartPolicy": "OnFailure",
            "initContainers": [{"name": "first", "env": null}],
            "containers": [{"name": "main", "env": theirs}, {"name": "more"}],
        }}),
        &values(ADDRESS),
    );
    let spec = &job["spec"]["template"]["spec"];
    assert_eq!((&spec["restartPolicy"], &job["spec"]["podFailurePolicy"]), (&json!("OnFailure"), &Value::Null));
    let names = |container: &Value| -> Vec<String> {
        let env = container["env"].as_array().expect("a list");
        env.iter().map(|variable| variable["name"].as_str().expect("a name").to_owned()).collect()
    };
    let ours = ["DEVICE_NAME", "DEVICE_UUID", "DEVICE_IP", "ROLLOUT", "NAMESPACE", "IMAGE", "TAG", "CHECK"];
    assert_eq!(names(&spec["initContainers"][0]), ours);
    assert_eq!(names(&spec["containers"][1]), ours);
    let main = &spec["containers"][0];
    let expected = ["DEVICE_NAME", "DEVICE_UUID", "DEVICE_IP", "ROLLOUT", "NAMESPACE", "IMAGE", "CHECK", "TAG", "URL"];
    assert_eq!(names(main), expected, "theirs come last: they may refer to ours");
    assert_eq!(main["env"][7]["value"], "mine");
}

#[test]
fn values_are_literal() {
    let values = Values { device_ip: None, device_name: "$(TOKEN) $$\0".into(), tag: "".into(), ..values(ADDRESS) };
    let job = made(&pod(), &values);
    let value = |name: &str| {
        let env = job["spec"]["template"]["spec"]["containers"][0]["env"].as_array().expect("a list");
        env.iter().find(|variable| variable["name"] == name).expect("it is set")["value"].clone()
    };
    assert_eq!(
        (value("DEVICE_NAME"), value("DEVICE_IP"), value("TAG")),
        (json!("$$(TOKEN) $$$$"), json!(""), json!(""))
    );
}

#[test]
fn names() {
    let (moved, values, rollout) = (values("10.1.2.4"), values(ADDRESS), rollout());
    let base = order(&values, &rollout);
    let other_values = Values { device_uuid: "0b9e".into(), ..values.clone() };
    let other_rollout = Rollout { uid: "4".into(), ..rollout.clone() };
    let orders = [
        base,
        Order { attempt: 2, ..base },
        Order { since: 1_700_000_001, ..base },
        Order { check: "self-test-2", ..base },
        Order { values: &other_values, ..base },
        Order { values: &moved, ..base },
        Order { rollout: &other_rollout, ..base },
        // The same texts one after the other, cut elsewhere.
        Order { check: "fself-test", values: &Values { device_uuid: "0b9".into(), ..values.clone() }, ..base },
    ];
    let all: BTreeSet<String> = orders.iter().map(Order::name).collect();
    assert_eq!(all.len(), orders.len(), "{all:?}");
    assert_eq!(base.name(), order(&values, &rollout).name(), "the same look has the same name");
    let later = Values { device_name: "renamed".into(), ..values.clone() };
    assert_eq!(base.name(), Order { timeout: Duration::from_secs(9), values: &later, ..base }.name());
    for (name, expected) in [("app-1", "app-1-"), ("app.v2.", "app-v2-"), (&"a".repeat(253), &"a".repeat(40))] {
        let rollout = Rollout { name: name.into(), uid: "3".into() };
        let name = Order { rollout: &rollout, ..base }.name();
        assert!(name.starts_with(expected) && name.len() <= MAX_LABEL, "{name}");
        assert!(name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-'), "{name}");
    }
}

#[test]
fn labels() {
    for (text, same) in [
        ("app-1", true),
        ("A_b.c", true),
        ("", false),
        ("-a", false),
        ("a.", false),
        ("line 3", false),
        ("ü", false),
        (&*"a".repeat(63), true),
        (&*"a".repeat(64), false),
    ] {
        let label = label(text);
        assert_eq!(label == text, same, "{text}: {label}");
        assert!(same || label.len() == 20 && label.bytes().all(|byte| byte.is_ascii_hexdigit()), "{label}");
    }
}

#[test]
fn refused() {
    let main = json!([{"name": "main"}]);
    let long = "x".repeat(MAX_TEMPLATE);
    for (template, expected) in [
        (json!({}), "the template needs a spec"),
        (json!({"spec": null}), "the template needs a spec"),
        (json!({"spec": []}), "the template needs a spec"),
        (json!({"spec": {}}), "the template needs at least one container"),
        (json!({"spec": {"containers": null}}), "the template needs at least one container"),
        (json!({"spec": {"initContainers": main}}), "the template needs at least one container"),
        (json!({"spec": {"containers": {"name": "main"}}}), "containers and initContainers"),
        (json!({"spec": {"containers": ["main"]}}), "every container of the template"),
        (json!({"spec": {"containers": main, "initContainers": [1]}}), "every container of the template"),
        (json!({"spec": {"containers": [{"env": {"A": "b"}}]}}), "env of a container"),
        (json!({"spec": {"containers": main, "restartPolicy": "Always"}}), "restartPolicy of a Job"),
        (json!({"metadata": "x", "spec": {"containers": main}}), "metadata of the template"),
        (json!({"spec": {"containers": [{"name": long}]}}), "the template must have at most 64 KiB"),
    ] {
        let error = parse(&template).expect_err(expected).sentence();
        assert!(error.starts_with(expected), "{error}, expected {expected}");
    }
}
