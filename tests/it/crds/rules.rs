//! Every CEL rule is broken, wherever it stands, and the API server answers with the rule's words.

use kube::Client;
use serde_json::{Value, json};

use super::bounds::{ask, full_at, place};
use super::full;
use super::refusal::{Cause, dry_patch};
use super::schema::{Rule, Step, constraints, shown};

/// What stands in place of something good.
enum Bad {
    /// This, instead.
    Is(Value),
    /// This, laid over it.
    With(Value),
}

/// For each rule, by its words, what breaks it. A rule that a text matches something needs no entry: `~` matches none.
fn cases() -> Vec<(&'static str, Vec<Bad>)> {
    use Bad::{Is, With};
    let sizes = |sizes: &[Value]| Is(sizes.iter().map(|size| json!({ "size": size })).collect());
    vec![
        (
            "metadata.name may have at most 48 characters: the names of its rollouts are made from it",
            vec![With(json!({ "metadata": { "name": "x".repeat(49) } }))],
        ),
        (
            "metadata.name may have at most 63 characters: labels and device entries carry it",
            vec![With(json!({ "metadata": { "name": "x".repeat(64) } }))],
        ),
        (
            "metadata.name is the device's UUID in lower case, at most 63 characters",
            vec![With(json!({ "metadata": { "name": "x".repeat(64) } }))],
        ),
        (
            "previousKeyHash and previousKeyExpires go together: the key before counts until then",
            vec![With(json!({ "previousKeyHash": null })), With(json!({ "previousKeyExpires": null }))],
        ),
        (
            "set exactly one of devices.selector and devices.names",
            vec![
                Is(json!({})),
                Is(json!({ "names": [] })),
                Is(json!({ "selector": null })),
                Is(json!({ "selector": {}, "names": ["device-1"] })),
            ],
        ),
        (
            "strategy.type Scheduled needs at least one entry in strategy.windows",
            vec![Is(json!({ "type": "Scheduled" })), Is(json!({ "type": "Scheduled", "windows": [] }))],
        ),
        (
            "strategy.type Auto releases to all devices at once: remove strategy.batches, or use type Staged",
            vec![Is(json!({ "type": "Auto", "batches": [{ "size": "100%" }] }))],
        ),
        (
            "the last batch must have size 100%: it is the rest of the devices",
            vec![sizes(&[json!("10%")]), sizes(&[json!("10%"), json!("99%")]), sizes(&[json!("10%"), json!(5)])],
        ),
        (
            "the last batch can't have a selector: it is the rest of the devices",
            vec![Is(json!([{ "size": "100%", "selector": { "matchLabels": { "a": "b" } } }]))],
        ),
        (
            "batch sizes are cumulative and must grow strictly, such as 10%, 50%, 100%",
            vec![
                sizes(&[json!("50%"), json!("10%"), json!("100%")]),
                sizes(&[json!("5%"), json!("50%"), json!("10%"), json!("100%")]),
                sizes(&[json!("10%"), json!("10%"), json!("100%")]),
                sizes(&[json!("100%"), json!("100%")]),
                sizes(&[json!(5), json!(3), json!("100%")]),
                sizes(&[json!(5), json!(5), json!("100%")]),
                sizes(&[json!(5), json!("10%"), json!(4), json!("100%")]),
            ],
        ),
        (
            "size must be a whole share from 1% to 100%, or a number of devices from 1 to 1000000",
            ["0%", "101%", "-5%", "010%", "10", "2.5%", "ten", ""]
                .map(Value::from)
                .into_iter()
                .chain([0, -1, 1_000_001].map(Value::from))
                .map(Is)
                .collect(),
        ),
        (
            "a health check needs exactly one of http, tcp, container, webhook, job and analysis",
            vec![
                Is(json!({ "name": "none" })),
                Is(json!({ "name": "two", "container": {}, "tcp": { "port": 80 } })),
                Is(json!({ "name": "three", "container": {}, "tcp": { "port": 80 }, "http": { "url": "http://a" } })),
            ],
        ),
        ("must be at least 10s: registries count requests", vec![Is(json!("0s")), Is(json!("9999ms"))]),
        ("must be at least 1ms", vec![Is(json!("0s")), Is(json!("0ms"))]),
        (
            "a header needs exactly one of value and secretKeyRef",
            vec![
                Is(json!({ "name": "X" })),
                Is(json!({ "name": "X", "value": "3", "secretKeyRef": { "name": "check", "key": "x" } })),
            ],
        ),
        ("an analysis needs min, max or both", vec![Is(json!({ "url": "http://prometheus:9090", "query": "up" }))]),
        ("must be at least 1s", vec![Is(json!("0s")), Is(json!("999ms"))]),
        (
            "write a time from 1970 to 9998, such as 2026-12-01T22:00:00Z",
            vec![
                Is(json!([])),
                Is(json!(["2026-12-01T22:00:00Z"])),
                Is(json!("1960-12-01T22:00:00Z")),
                Is(json!("9999-12-31T23:59:59Z")),
            ],
        ),
        (
            "type GoogleArtifactRegistry needs oidc: Pub/Sub proves itself by a signed token, and by nothing else",
            vec![With(json!({ "spec": { "type": "GoogleArtifactRegistry", "oidc": null } }))],
        ),
        (
            "this registry does not say its own name in a webhook: set registry to the host that devices pull from",
            ["Nexus", "Zot"].map(|type_| With(json!({ "spec": { "type": type_, "registry": null } }))).into(),
        ),
        (
            "image needs a tag, a digest, or both",
            vec![
                Is(json!({ "repository": "docker.io/acme/app" })),
                Is(json!({ "repository": "docker.io/acme/app", "tag": null })),
            ],
        ),
    ]
}

/// Changes of a rollout that are refused: what it is, what it is to be, and the words. All lie within its spec.
fn changes() -> Vec<(Value, Value, &'static str)> {
    let (active, cancelled, rolled_back) = (
        json!({ "desiredState": "Active" }),
        json!({ "desiredState": "Cancelled" }),
        json!({ "desiredState": "RolledBack" }),
    );
    let image = "image is immutable: create a new ImageRollout for another image";
    let no_way_back = "a rollback can't be taken back: create a new ImageRollout to roll the image out again";
    vec![
        (
            active.clone(),
            json!({ "policyRef": { "name": "another" } }),
            "policyRef is immutable: create a new ImageRollout for another policy",
        ),
        (active.clone(), json!({ "image": { "tag": "v3.0.0" } }), image),
        (active.clone(), json!({ "image": { "repository": "docker.io/acme/other" } }), image),
        (active.clone(), json!({ "image": { "digest": null } }), image),
        (rolled_back.clone(), active.clone(), no_way_back),
        (rolled_back, cancelled.clone(), no_way_back),
        (
            cancelled,
            active,
            "a cancelled rollout can't be resumed: create a new ImageRollout to roll the image out again",
        ),
    ]
}

#[tokio::test]
async fn every_rule_says_what_to_do() {
    let (client, namespace) = place("crds-rules").await;
    let cases = cases();
    let mut used = vec![false; cases.len()];
    let mut wrong = Vec::new();
    for crd in tranche::api::crds() {
        let kind = &crd.spec.names.kind;
        for constraint in constraints(kind) {
            let Rule::Cel { message, matches } = &constraint.rule else { continue };
            let case = cases.iter().position(|(words, _)| words == message);
            case.into_iter().for_each(|case| used[case] = true);
            let bads = match (case, matches) {
                (Some(case), _) => &cases[case].1,
                (None, true) => &vec![Bad::Is("~".into())],
                (None, false) => panic!("no case breaks the rule {message:?} of {kind}"),
            };
            for bad in bads {
                let (object, field) = broken(kind, &constraint.path, bad);
                let what = format!("{kind} {}", shown(&constraint.path));
                match ask(&client, &namespace, &object).await {
                    Ok(_) => wrong.push(format!("{what} is accepted, though {message:?}: {object}")),
                    Err(causes) if told(&causes, &field, message) => {}
                    Err(causes) => wrong.push(format!("{what}: expected {field}: {message:?}, got {causes:?}")),
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    for ((words, _), used) in cases.iter().zip(used) {
        assert!(used, "no kind has the rule {words:?} any more");
    }
}

#[tokio::test]
async fn changes_that_are_refused() {
    let (client, namespace) = place("crds-changes").await;
    let mut known: Vec<String> = tranche::api::crds()
        .iter()
        .flat_map(|crd| constraints(&crd.spec.names.kind))
        .filter_map(|constraint| match constraint.rule {
            Rule::Transition { message } => Some(message),
            _ => None,
        })
        .collect();
    for (index, (before, after, words)) in changes().into_iter().enumerate() {
        let mut rollout = full::of("ImageRollout").remove(0);
        let name = format!("change-{index}");
        full::merge(&mut rollout, &json!({ "metadata": { "name": name }, "spec": before }));
        create(&client, &namespace, &rollout).await;
        let patch = json!({ "apiVersion": rollout["apiVersion"], "kind": "ImageRollout", "spec": after });
        match dry_patch(&client, &namespace, &name, &patch).await {
            Ok(_) => panic!("from {before} to {after} is accepted"),
            Err(causes) => assert!(told(&causes, "spec", words), "from {before} to {after}: {causes:?}"),
        }
        known.retain(|message| message != words);
    }
    assert!(known.is_empty(), "no change breaks {known:?}");
}

#[tokio::test]
async fn changes_that_are_a_persons_to_make() {
    let (client, namespace) = place("crds-verbs").await;
    let steps = [
        json!({ "paused": true }),
        json!({ "approvedBatches": 2, "acknowledgedFailures": 3 }),
        json!({ "rollBackDevices": ["device-1", "device-2"] }),
        json!({ "notBefore": null }),
        json!({ "desiredState": "Cancelled" }),
        json!({ "desiredState": "RolledBack" }),
    ];
    for step in steps {
        let patch = json!({ "apiVersion": "tranche.dev/v1alpha1", "kind": "ImageRollout", "spec": step });
        let changed = dry_patch(&client, &namespace, "full", &patch).await;
        assert!(changed.is_ok(), "{step}: {changed:?}");
    }
}

#[tokio::test]
async fn batches_that_are_fine() {
    let (client, namespace) = place("crds-batches").await;
    for sizes in [
        json!(["100%"]),
        json!(["1%", "100%"]),
        json!(["5%", "10%", "50%", "99%", "100%"]),
        json!([1, "25%", "100%"]),
        json!(["5%", 100, "50%", 1_000_000, "100%"]),
    ] {
        let batches: Vec<Value> = sizes.as_array().into_iter().flatten().map(|size| json!({ "size": size })).collect();
        let (object, _) = broken(
            "ImageUpdatePolicy",
            &["spec", "strategy", "batches"].map(|field| Step::Field(field.into())),
            &Bad::Is(batches.into()),
        );
        let asked = ask(&client, &namespace, &object).await;
        assert!(asked.is_ok(), "{sizes}: {asked:?}");
    }
}

fn broken(kind: &str, path: &[Step], bad: &Bad) -> (Value, String) {
    let (mut object, pointer, field) = full_at(kind, path);
    let node = object.pointer_mut(&pointer).expect("located");
    match bad {
        Bad::Is(value) => *node = value.clone(),
        Bad::With(patch) => full::merge(node, patch),
    }
    (object, field)
}

fn told(causes: &[Cause], field: &str, words: &str) -> bool {
    // The object as a whole has no field.
    let field = if field.is_empty() { "<nil>" } else { field };
    causes.iter().any(|cause| cause.field == field && cause.message.contains(words))
}

/// Stores an object, without its status.
pub async fn create(client: &Client, namespace: &str, object: &Value) {
    let mut object = object.clone();
    object.as_object_mut().expect("an object").remove("status");
    let resource = kube::api::ApiResource::from_gvk(&kube::core::GroupVersionKind::gvk(
        "tranche.dev",
        "v1alpha1",
        object["kind"].as_str().expect("a kind"),
    ));
    let api: kube::Api<kube::api::DynamicObject> = kube::Api::namespaced_with(client.clone(), namespace, &resource);
    let object: kube::api::DynamicObject = serde_json::from_value(object).expect("an object");
    api.create(&Default::default(), &object).await.expect("the object is accepted");
}
