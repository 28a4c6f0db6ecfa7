//! Projection, offers and states.

use serde_json::json;

use super::*;
use crate::api::ImageRollout;

struct World {
    interner: Interner,
    rollouts: Rollouts,
}

impl World {
    fn new() -> Self {
        Self { interner: Interner::default(), rollouts: Rollouts::default() }
    }

    fn rollout(&self, name: &str, spec: &Value) {
        let mut object = json!({
            "metadata": {"name": name},
            "spec": {"policyRef": {"name": "p"}, "image": {"repository": "docker.io/acme/web", "tag": "v2"}},
        });
        object["spec"].as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
        let rollout: ImageRollout = serde_json::from_value(object).unwrap();
        self.rollouts.apply(&rollout);
    }

    fn project(&self, device: &Value, before: Option<&Record>) -> Record {
        let device: Device = serde_json::from_value(device.clone()).unwrap();
        Record::project(&device, before, &self.interner, &self.rollouts)
    }
}

fn entry(repository: &str, rollout: &str) -> Value {
    json!({
        "repository": format!("docker.io/acme/{repository}"), "image": format!("docker.io/acme/{repository}:v2"),
        "previous": format!("docker.io/acme/{repository}:v1"), "declared": format!("docker.io/acme/{repository}:v1"),
        "rollout": rollout, "batch": 1, "releaseTime": "2026-01-01T00:00:00Z",
    })
}

/// A device with one service for each repository, each released by the rollout of the same name.
fn device(repositories: &[&str]) -> Value {
    let services: Vec<_> = repositories
        .iter()
        .enumerate()
        .map(|(id, repository)| json!({"serviceId": id, "serviceName": repository, "imageName": format!("acme/{repository}:v1")}))
        .collect();
    let images: Vec<_> = repositories.iter().map(|repository| entry(repository, repository)).collect();
    json!({
        "apiVersion": "tranche.dev/v1alpha1", "kind": "Device",
        "metadata": {"name": "d", "generation": 4},
        "spec": {"apps": {"1": {"services": services}}, "images": images},
    })
}

fn told(record: &Record, combination: usize) -> Vec<String> {
    let apps: Value = serde_json::from_str(&record.apps_told(record.offers(true), combination)).unwrap();
    let services = apps["1"]["services"].as_array().unwrap().clone();
    services.iter().map(|service| service["imageName"].as_str().unwrap().to_owned()).collect()
}

fn tags(record: &Record, live: bool) -> Vec<Etag> {
    record.with_etags(record.offers(live), <[Etag]>::to_vec)
}

#[test]
fn an_entry_applies_while_its_declaration_stands() {
    let world = World::new();
    world.rollout("web", &json!({}));
    let mut object = device(&["web"]);
    assert_eq!(told(&world.project(&object, None), 0), ["acme/web:v2"]);
    object["spec"]["apps"]["1"]["services"][0]["imageName"] = json!("docker.io/acme/web:v1");
    assert_eq!(told(&world.project(&object, None), 0), ["docker.io/acme/web:v2"], "spelled as declared");
    object["spec"]["apps"]["1"]["services"][0]["imageName"] = json!("acme/web:v3");
    assert_eq!(told(&world.project(&object, None), 0), ["acme/web:v3"], "a person's word wins");
}

#[test]
fn absent_images_mean_the_declared_ones() {
    let world = World::new();
    world.rollout("web", &json!({"desiredState": "RolledBack"}));
    let mut object = device(&["web"]);
    object["spec"]["images"][0].as_object_mut().unwrap().remove("previous");
    assert_eq!(told(&world.project(&object, None), 0), ["acme/web:v1"]);
    for broken in [json!("Not An Image"), json!("docker.io/acme/other:v2")] {
        object["spec"]["images"][0]["previous"] = broken;
        assert_eq!(told(&world.project(&object, None), 0), ["acme/web:v1"]);
    }
}

#[test]
fn evidence_of_running_and_of_failure() {
    let world = World::new();
    world.rollout("web", &json!({"paused": true}));
    let mut object = device(&["web"]);
    assert_eq!(told(&world.project(&object, None), 0), ["acme/web:v1"], "undecided");
    object["status"] =
        json!({"services": [{"app": "1", "id": 0, "name": "web", "image": "acme/web:v2", "status": "running"}]});
    assert_eq!(told(&world.project(&object, None), 0), ["acme/web:v2"], "it runs it");
    object["status"]["updates"] = json!([{
        "repository": "docker.io/acme/web", "rollout": "web", "verdict": "Failed", "reason": "x", "message": "",
        "time": "2026-01-01T00:00:00Z",
    }]);
    assert_eq!(told(&world.project(&object, None), 0), ["acme/web:v1"], "it failed");
    object["status"]["updates"][0]["rollout"] = json!("older");
    assert_eq!(told(&world.project(&object, None), 0), ["acme/web:v2"], "in another rollout");
}

#[test]
fn hold_and_staleness_count_as_paused() {
    let world = World::new();
    world.rollout("web", &json!({}));
    let mut object = device(&["web"]);
    let record = world.project(&object, None);
    assert_eq!(tags(&record, true).len(), 1);
    assert_eq!(tags(&record, false).len(), 2, "stale");
    object["spec"]["hold"] = json!(true);
    let held = world.project(&object, None);
    assert_eq!(told(&held, 0), ["acme/web:v1"]);
    assert_eq!(told(&held, 1), ["acme/web:v2"]);
    assert_eq!(tags(&held, true)[1], tags(&record, true)[0], "a hold doesn't change the state's tag");
}

#[test]
fn every_combination_of_a_few_and_all_or_none_of_many() {
    let world = World::new();
    let names = ["a", "b", "c", "d", "e"];
    for name in names {
        world.rollout(name, &json!({"paused": true}));
    }
    let few = world.project(&device(&names[..3]), None);
    let all = tags(&few, true);
    assert_eq!(all.len(), 8);
    assert_eq!(all.iter().collect::<HashSet<_>>().len(), 8);
    assert_eq!(told(&few, 0), ["acme/a:v1", "acme/b:v1", "acme/c:v1"]);
    assert_eq!(told(&few, 5), ["acme/a:v2", "acme/b:v1", "acme/c:v2"]);
    let many = world.project(&device(&names), None);
    assert_eq!(tags(&many, true).len(), 2);
    assert_eq!(told(&many, 1), ["acme/a:v2", "acme/b:v2", "acme/c:v2", "acme/d:v2", "acme/e:v2"]);
    // Only what is undecided is combined.
    world.rollout("b", &json!({}));
    assert_eq!(told(&few, 0), ["acme/a:v1", "acme/b:v2", "acme/c:v1"]);
    assert_eq!(tags(&few, true).len(), 4);
    assert_eq!(told(&few, 3), ["acme/a:v2", "acme/b:v2", "acme/c:v2"]);
}

#[test]
fn an_entry_that_was_rewritten_hangs_on_nothing() {
    let world = World::new();
    let mut object = device(&["web"]);
    object["spec"]["images"][0]["image"] = object["spec"]["images"][0]["previous"].clone();
    let record = world.project(&object, None);
    assert_eq!(tags(&record, true).len(), 1);
    assert_eq!(told(&record, 0), ["acme/web:v1"]);
}

#[test]
fn answers_outlive_writes_that_change_nothing_for_the_device() {
    let world = World::new();
    world.rollout("web", &json!({}));
    let mut object = device(&["web"]);
    let first = world.project(&object, None);
    first.shared.see(7);
    let tag = tags(&first, true);
    object["metadata"]["generation"] = json!(5);
    object["status"] = json!({"services": []});
    let second = world.project(&object, Some(&first));
    assert!(second.answer.lock().is_some(), "nothing to hash again");
    assert_eq!(tags(&second, true), tag, "the version is not part of the tag");
    assert_eq!(second.shared.seen(), 7);
    object["spec"]["config"] = json!({"a": 1});
    let third = world.project(&object, Some(&second));
    assert!(third.answer.lock().is_none());
    assert_ne!(tags(&third, true), tag);
    world.rollout("web", &json!({"desiredState": "RolledBack"}));
    assert_ne!(tags(&second, true), tag, "the gate moved under a kept answer");
}

#[test]
fn own_writes_are_news_until_the_watch_shows_them() {
    let world = World::new();
    let mut object = device(&[]);
    let first = world.project(&object, None);
    let own = |version: Option<&str>| {
        Some(Box::new(OwnWrite { reported: Reported::default(), resource_version: version.map(Into::into) }))
    };
    for (written, shown, kept) in [
        (Some("10"), "9", true),
        (Some("10"), "10", false),
        (Some("10"), "11", false),
        (Some("9"), "10", false),
        (Some("x"), "9", false),
        (None, "9", false),
    ] {
        *first.shared.own.lock() = own(written);
        object["metadata"]["resourceVersion"] = json!(shown);
        let second = world.project(&object, Some(&first));
        assert_eq!(second.shared.own.lock().is_some(), kept, "{written:?} {shown}");
    }
}

#[test]
fn texts_are_shared_and_swept() {
    let interner = Interner::default();
    let kept = interner.intern("kept");
    assert!(Arc::ptr_eq(&kept, &interner.intern("kept")));
    for n in 0..5000 {
        let _ = interner.intern(&n.to_string());
    }
    let len = interner.texts.lock().0.len();
    assert!(len <= 1024, "{len} texts that nobody uses");
    assert!(Arc::ptr_eq(&kept, &interner.intern("kept")));
}

#[test]
fn key_hashes() {
    let hex = "0f".repeat(32);
    assert_eq!(key_hash(&format!("sha256:{hex}")), Some([0x0f; 32]));
    for bad in ["", "sha256:", &hex, &format!("sha256:{}", &hex[1..]), &format!("sha256:{}zz", &hex[2..]), "md5:00"] {
        assert_eq!(key_hash(bad), None, "{bad}");
    }
}
