//! Projection, offers and states.

use serde_json::json;

use super::super::shared::OwnWrite;
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

/// The images a device is told that asks with that tag.
fn told_to(record: &Record, tag: Option<&HeaderValue>) -> Vec<String> {
    let asked = tag.and_then(|tag| etag::asked([tag]).next());
    let choice = record.choose(record.offers(true), asked);
    let apps: Value = serde_json::from_str(&record.apps_told(choice)).unwrap();
    let services = apps["1"]["services"].as_array().unwrap().clone();
    services.iter().map(|service| service["imageName"].as_str().unwrap().to_owned()).collect()
}

fn told(record: &Record) -> Vec<String> {
    told_to(record, None)
}

fn tag(record: &Record, live: bool) -> HeaderValue {
    record.etag(record.choose(record.offers(live), None))
}

#[test]
fn an_entry_applies_while_its_declaration_stands() {
    let world = World::new();
    world.rollout("web", &json!({}));
    let mut object = device(&["web"]);
    assert_eq!(told(&world.project(&object, None)), ["acme/web:v2"]);
    object["spec"]["apps"]["1"]["services"][0]["imageName"] = json!("docker.io/acme/web:v1");
    assert_eq!(told(&world.project(&object, None)), ["docker.io/acme/web:v2"], "spelled as declared");
    object["spec"]["apps"]["1"]["services"][0]["imageName"] = json!("acme/web:v3");
    assert_eq!(told(&world.project(&object, None)), ["acme/web:v3"], "a person's word wins");
}

#[test]
fn absent_images_mean_the_declared_ones() {
    let world = World::new();
    world.rollout("web", &json!({"desiredState": "RolledBack"}));
    let mut object = device(&["web"]);
    object["spec"]["images"][0].as_object_mut().unwrap().remove("previous");
    assert_eq!(told(&world.project(&object, None)), ["acme/web:v1"]);
    for broken in [json!("Not An Image"), json!("docker.io/acme/other:v2")] {
        object["spec"]["images"][0]["previous"] = broken;
        assert_eq!(told(&world.project(&object, None)), ["acme/web:v1"]);
    }
}

#[test]
fn evidence_of_running_and_of_failure() {
    let world = World::new();
    world.rollout("web", &json!({"paused": true}));
    let mut object = device(&["web"]);
    assert_eq!(told(&world.project(&object, None)), ["acme/web:v1"], "undecided");
    object["status"] =
        json!({"services": [{"app": "1", "id": 0, "name": "web", "image": "acme/web:v2", "status": "running"}]});
    assert_eq!(told(&world.project(&object, None)), ["acme/web:v2"], "it runs it");
    object["status"]["updates"] = json!([{
        "repository": "docker.io/acme/web", "rollout": "web", "verdict": "Failed", "reason": "x", "message": "",
        "time": "2026-01-01T00:00:00Z",
    }]);
    assert_eq!(told(&world.project(&object, None)), ["acme/web:v1"], "it failed");
    object["status"]["updates"][0]["rollout"] = json!("older");
    assert_eq!(told(&world.project(&object, None)), ["acme/web:v2"], "in another rollout");
}

#[test]
fn who_was_sent_back_stays_there_whatever_a_late_report_says() {
    for stop in [json!({"paused": true}), json!({"desiredState": "Cancelled"})] {
        let world = World::new();
        world.rollout("web", &json!({}));
        let mut object = device(&["web"]);
        let forward = tag(&world.project(&object, None), true);
        world.rollout("web", &stop);
        let back = tag(&world.project(&object, None), true);
        object["status"] =
            json!({"services": [{"app": "1", "id": 0, "name": "web", "image": "acme/web:v2", "status": "running"}]});
        let late = world.project(&object, None);
        assert_eq!(told_to(&late, Some(&back)), ["acme/web:v1"], "{stop}");
        assert_eq!(told_to(&late, Some(&forward)), ["acme/web:v2"], "it was never sent back: {stop}");
        assert_eq!(told(&late), ["acme/web:v2"], "it proves nothing: {stop}");
        world.rollout("web", &json!({}));
        assert_eq!(told_to(&late, Some(&back)), ["acme/web:v2"], "the stop is over");
    }
}

#[test]
fn each_image_that_was_sent_back_stays_back_by_itself() {
    let world = World::new();
    let names = ["a", "b", "c"];
    let runs = |name: &str, id: usize| json!({"app": "1", "id": id, "name": name, "image": format!("acme/{name}:v2"), "status": "running"});
    for name in names {
        world.rollout(name, &json!({"paused": true}));
    }
    let mut object = device(&names);
    object["status"] = json!({"services": [runs("a", 0)]});
    // It runs a, and was sent back, or never went, with b and c.
    let back = tag(&world.project(&object, None), true);
    object["status"] = json!({"services": [runs("a", 0), runs("b", 1), runs("c", 2)]});
    let late = world.project(&object, None);
    assert_eq!(told_to(&late, Some(&back)), ["acme/a:v2", "acme/b:v1", "acme/c:v1"]);
    assert_eq!(told(&late), ["acme/a:v2", "acme/b:v2", "acme/c:v2"]);
}

#[test]
fn hold_and_staleness_count_as_paused() {
    let world = World::new();
    world.rollout("web", &json!({}));
    let mut object = device(&["web"]);
    let record = world.project(&object, None);
    let current = tag(&record, true);
    assert_ne!(tag(&record, false), current, "stale");
    object["spec"]["hold"] = json!(true);
    let held = world.project(&object, None);
    assert_eq!(told(&held), ["acme/web:v1"]);
    assert_eq!(told_to(&held, Some(&current)), ["acme/web:v2"]);
    let asked = etag::asked([&current]).next();
    assert_eq!(held.etag(held.choose(held.offers(true), asked)), current, "a hold doesn't change the state's tag");
}

#[test]
fn each_image_is_held_or_not_by_itself() {
    let world = World::new();
    let names = ["a", "b", "c", "d", "e"];
    for name in names {
        world.rollout(name, &json!({}));
    }
    // Told v2 of everything but b and d.
    for name in ["b", "d"] {
        world.rollout(name, &json!({"desiredState": "RolledBack"}));
    }
    let object = device(&names);
    let record = world.project(&object, None);
    let mixed = tag(&record, true);
    for name in names {
        world.rollout(name, &json!({"paused": true}));
    }
    assert_eq!(told(&record), ["acme/a:v1", "acme/b:v1", "acme/c:v1", "acme/d:v1", "acme/e:v1"]);
    assert_eq!(told_to(&record, Some(&mixed)), ["acme/a:v2", "acme/b:v1", "acme/c:v2", "acme/d:v1", "acme/e:v2"]);
    // Only what is undecided hangs on what is held.
    world.rollout("a", &json!({"desiredState": "RolledBack"}));
    world.rollout("b", &json!({}));
    assert_eq!(told_to(&record, Some(&mixed)), ["acme/a:v1", "acme/b:v2", "acme/c:v2", "acme/d:v1", "acme/e:v2"]);
}

#[test]
fn an_edit_half_way_sends_nobody_back() {
    let world = World::new();
    world.rollout("web", &json!({}));
    let mut object = device(&["web"]);
    let given = tag(&world.project(&object, None), true);
    world.rollout("web", &json!({"paused": true}));
    object["spec"]["config"] = json!({"edited": true});
    let edited = world.project(&object, None);
    assert_eq!(told_to(&edited, Some(&given)), ["acme/web:v2"]);
    assert_eq!(told(&edited), ["acme/web:v1"]);
    // A later image of the same repository is not what the device holds.
    object["spec"]["images"][0]["image"] = json!("docker.io/acme/web:v3");
    assert_eq!(told_to(&world.project(&object, None), Some(&given)), ["acme/web:v1"]);
}

#[test]
fn an_entry_that_was_rewritten_hangs_on_nothing() {
    let world = World::new();
    let mut object = device(&["web"]);
    object["spec"]["images"][0]["image"] = object["spec"]["images"][0]["previous"].clone();
    let record = world.project(&object, None);
    assert_eq!(told(&record), ["acme/web:v1"]);
    assert_eq!(tag(&record, true), tag(&record, false));
}

#[test]
fn answers_outlive_writes_that_change_nothing_for_the_device() {
    let world = World::new();
    world.rollout("web", &json!({}));
    let mut object = device(&["web"]);
    let first = world.project(&object, None);
    first.shared.see(7);
    let before = tag(&first, true);
    object["metadata"]["generation"] = json!(5);
    object["status"] = json!({"services": []});
    let second = world.project(&object, Some(&first));
    assert!(second.answer.lock().is_some(), "nothing to hash again");
    assert_eq!(tag(&second, true), before, "the version is not part of the tag");
    assert_eq!(second.shared.seen(), 7);
    for (place, image) in [("image", "docker.io/acme/web:v3"), ("previous", "docker.io/acme/web:v0")] {
        let mut object = object.clone();
        object["spec"]["images"][0][place] = json!(image);
        assert!(world.project(&object, Some(&second)).answer.lock().is_none(), "another {place}");
    }
    object["spec"]["config"] = json!({"a": 1});
    let third = world.project(&object, Some(&second));
    assert!(third.answer.lock().is_none());
    assert_ne!(tag(&third, true), before);
    world.rollout("web", &json!({"desiredState": "RolledBack"}));
    assert_ne!(tag(&second, true), before, "the gate moved under a kept answer");
}

#[test]
fn the_body_holds_what_was_chosen() {
    let world = World::new();
    world.rollout("web", &json!({}));
    let mut object = device(&["web"]);
    object["spec"]["config"] = json!({"a": 1});
    let record = world.project(&object, None);
    for (live, image) in [(true, "acme/web:v2"), (false, "acme/web:v1")] {
        let body: Value = serde_json::from_str(&record.body("D", record.choose(record.offers(live), None))).unwrap();
        let told = &body["D"];
        assert_eq!(told["apps"]["1"]["services"][0]["imageName"], image);
        assert_eq!((&told["config"], &told["version"]), (&json!({"a": 1}), &json!(4)));
    }
}

/// What a device is told once its report is stored, before it is.
#[test]
fn a_report_counts_before_it_is_stored() {
    let world = World::new();
    world.rollout("web", &json!({"paused": true}));
    let record = world.project(&device(&["web"]), None);
    let reports = |image: &str| -> ReportedService {
        serde_json::from_value(json!({"app": "1", "id": 0, "name": "web", "image": image, "status": "running"}))
            .unwrap()
    };
    let told = |services: &[ReportedService]| {
        record.apps_told_given(true, services)["1"]["services"][0]["imageName"].as_str().unwrap().to_owned()
    };
    assert_eq!(told(&[]), "acme/web:v1");
    assert_eq!(told(&[reports("acme/web:v1")]), "acme/web:v1");
    assert_eq!(told(&[reports("acme/web:v2")]), "acme/web:v2", "it runs it, and keeps it");
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
