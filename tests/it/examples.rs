//! Every file in `examples/` is what it says it is: read into its kind with nothing left over, and the deliveries make
//! rollouts of the policies beside them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use k8s_openapi::api::rbac::v1::Role;
use kube::ResourceExt as _;
use serde::Deserialize as _;
use serde_json::Value;
use tranche::api::{Device, ImageRef, ImageRollout, ImageUpdatePolicy, RegistryWebhook};
use tranche::manage::receivers::Terms;
use tranche::registry::claim::{Claim, Word};
use tranche::registry::intake::{Decision, decide};
use tranche::registry::{DIALECTS, Expect, parse};

use crate::payloads::cases;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("examples")
}

fn files(extension: &str) -> BTreeMap<String, String> {
    let mut files = BTreeMap::new();
    for entry in std::fs::read_dir(folder()).expect("examples/") {
        let path = entry.expect("an entry").path();
        if path.extension().is_some_and(|found| found == extension) {
            let name = path.file_name().expect("a name").to_string_lossy().into_owned();
            files.insert(name, std::fs::read_to_string(&path).expect("text"));
        }
    }
    files
}

fn documents(text: &str) -> Vec<Value> {
    serde_yaml::Deserializer::from_str(text).map(|document| Value::deserialize(document).expect("YAML")).collect()
}

/// Reads a document as a kind, and checks that the kind has every field that the document has.
fn read<K: serde::de::DeserializeOwned + serde::Serialize>(file: &str, document: &Value) -> K {
    let object: K = serde_json::from_value(document.clone()).unwrap_or_else(|error| panic!("{file}: {error}"));
    let back = serde_json::to_value(&object).expect("JSON");
    assert_covers(file, document, &back);
    object
}

fn assert_covers(at: &str, written: &Value, kept: &Value) {
    match (written, kept) {
        (Value::Object(written), Value::Object(kept)) => {
            for (key, value) in written {
                let at = format!("{at}.{key}");
                let kept = kept.get(key).unwrap_or_else(|| panic!("{at} is not a field of its kind"));
                assert_covers(&at, value, kept);
            }
        }
        (Value::Array(written), Value::Array(kept)) => {
            assert_eq!(written.len(), kept.len(), "{at}");
            for (index, (written, kept)) in written.iter().zip(kept).enumerate() {
                assert_covers(&format!("{at}[{index}]"), written, kept);
            }
        }
        _ => {}
    }
}

fn policies() -> BTreeMap<String, ImageUpdatePolicy> {
    let files = files("yaml").into_iter().filter(|(name, _)| name.starts_with("policy-"));
    files
        .map(|(name, text)| {
            let [document] = &documents(&text)[..] else { panic!("{name}: one document") };
            let policy = read(&name, document);
            (name, policy)
        })
        .collect()
}

#[test]
fn every_yaml_is_of_its_kind() {
    let mut kinds = BTreeMap::<String, usize>::new();
    for (name, text) in files("yaml") {
        for document in documents(&text) {
            let kind = document["kind"].as_str().unwrap_or_else(|| panic!("{name}: kind")).to_owned();
            let version = if kind == "Role" { "rbac.authorization.k8s.io/v1" } else { "tranche.dev/v1alpha1" };
            assert_eq!(document["apiVersion"], version, "{name}");
            match kind.as_str() {
                "ImageUpdatePolicy" => drop(read::<ImageUpdatePolicy>(&name, &document)),
                "ImageRollout" => drop(read::<ImageRollout>(&name, &document)),
                "Device" => drop(read::<Device>(&name, &document)),
                "RegistryWebhook" => {
                    let webhook = read::<RegistryWebhook>(&name, &document);
                    Terms::of(&webhook.spec).unwrap_or_else(|error| panic!("{name}: {error}"));
                }
                "Role" => drop(read::<Role>(&name, &document)),
                other => panic!("{name}: {other}"),
            }
            *kinds.entry(kind).or_default() += 1;
        }
    }
    assert_eq!(
        kinds.into_iter().collect::<Vec<_>>(),
        [("Device", 2), ("ImageRollout", 1), ("ImageUpdatePolicy", 6), ("RegistryWebhook", 14), ("Role", 2)]
            .map(|(kind, count)| (kind.to_owned(), count))
    );
}

#[test]
fn every_policy_can_be_followed() {
    for (name, policy) in policies() {
        let pattern = &policy.spec.image.pattern;
        let image: ImageRef = pattern.replace('*', "v2.0.0").parse().unwrap_or_else(|error| panic!("{name}: {error}"));
        let word = Claim::of(&policy).word_on(&ImageRef { tag: Some("v2.0.0".into()), ..image });
        assert!(matches!(word, Word::Yes(_)), "{name}: {word:?}");
        let checks = &policy.spec.health_checks;
        assert!(checks.iter().all(|check| check.container.is_some()), "{name}: other checks aren't run yet");
    }
}

#[test]
fn no_two_policies_claim_the_same_fleet() {
    let fleets: Vec<_> = policies().values().map(|policy| format!("{:?}", policy.spec.devices.selector)).collect();
    let different: std::collections::BTreeSet<_> = fleets.iter().collect();
    assert_eq!(fleets.len(), different.len(), "all examples can be applied together");
}

#[test]
fn the_manual_rollout_follows_a_policy_that_is_there() {
    let text = &files("yaml")["rollout-manual.yaml"];
    let rollout: ImageRollout = read("rollout-manual.yaml", &documents(text)[0]);
    assert!(policies().values().any(|policy| policy.name_any() == rollout.spec.policy_ref.name));
}

/// Each as the table of payloads says it comes in. Some are of a registry whose policy is among the examples; the others
/// make a rollout of whoever names their repository.
#[test]
fn every_delivery_makes_a_rollout() {
    let policies = policies();
    let mut claims: Vec<_> = policies.values().map(Claim::of).collect();
    let mut made = BTreeMap::new();
    let cases = cases().into_iter().filter(|case| case.file.starts_with("examples/") && case.makes_images());
    for case in cases {
        let name = &case.file;
        let expect = Expect { registry: case.registry.as_deref(), ..Expect::default() };
        let (dialect, events) = parse(&case.headers(), &case.body(), &expect);
        let events = events.unwrap_or_else(|error| panic!("{name}: {error}"));
        let [event] = &events[..] else { panic!("{name}: one push") };
        assert_eq!(event.image.tag.as_deref(), Some("v2.0.1"), "{name}");
        let known = claims.len();
        if !claims.iter().any(|claim| claim.word_on(&event.image) != Word::Silent) {
            let mut policy = policies["policy-auto.yaml"].clone();
            policy.metadata.name = Some("another".into());
            policy.spec.image.pattern = format!("{}:*", event.image.repository);
            claims.push(Claim::of(&policy));
        }
        let decisions = decide(event, Timestamp::UNIX_EPOCH, &claims);
        claims.truncate(known);
        let [Decision::Create(creation)] = &decisions[..] else { panic!("{name}: {decisions:?}") };
        made.insert(dialect.expect("a dialect"), creation.policy.name.clone());
    }
    assert_eq!(made.len(), DIALECTS.len());
    for (dialect, policy) in [
        ("dockerhub", "myapp"),
        ("github", "lab"),
        ("distribution", "hospital"),
        ("nexus", "hospital"),
        ("zot", "hospital"),
        ("generic", "hospital"),
        ("quay", "another"),
    ] {
        assert_eq!(made[dialect], policy, "{dialect}");
    }
}
