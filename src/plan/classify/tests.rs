use serde_json::{Value, json};

use super::*;
use crate::api::Device;
use crate::plan::Change;
use crate::plan::fixture::{Fixture, REPOSITORY, apps, at, device, digest, entry, failed, policy, reported, rollout};

/// Where a device stands with `web-v2`.
fn stands_in(rollout_spec: &Value, device: &Device) -> Option<Standing> {
    let fixture = Fixture::new(policy(&json!({})), rollout(rollout_spec), std::slice::from_ref(device), at(10));
    fixture.look(|observed| observed.members.first().map(|member| member.standing))
}

fn stands(patch: &Value) -> Option<Standing> {
    stands_in(&json!({}), &device("d", patch))
}

fn with_entry(patch: &Value, services: &Value) -> Value {
    json!({ "spec": { "images": [entry(patch)] }, "status": { "services": services } })
}

#[test]
fn who_is_a_member() {
    assert_eq!(stands(&json!({})), Some(Standing::Unreleased));
    assert_eq!(stands(&json!({ "metadata": { "labels": { "fleet": "b" } } })), None);
    assert_eq!(stands(&json!({ "metadata": { "deletionTimestamp": at(0).to_string() } })), None);
    assert_eq!(stands(&json!({ "spec": { "apps": apps("acme/other:v1") } })), None);
    assert_eq!(stands(&json!({ "spec": { "apps": apps("Not An Image") } })), None);
    // Who was told the image stays a member, whatever its labels say now.
    let mut moved = with_entry(&json!({}), &json!([]));
    moved["metadata"] = json!({ "labels": { "fleet": "b" } });
    assert_eq!(stands(&moved), Some(Standing::Released(Evidence::Missing)));
}

#[test]
fn every_way_of_naming_an_image() {
    let service = |fields: Value| json!({ "spec": { "apps": { "1": { "services": [fields] } } } });
    for named in [
        json!({ "serviceId": 1, "serviceName": "web", "imageName": "acme/web:v1" }),
        json!({ "serviceId": 1, "serviceName": "web", "config": { "image": "acme/web:v1" } }),
        json!({ "serviceId": 1, "serviceName": "web", "imageName": "docker.io/acme/web:v1", "config": { "image": "acme/web:v0" } }),
        json!({ "serviceId": 1, "serviceName": "web", "image": "index.docker.io/acme/web:v1" }),
    ] {
        assert_eq!(stands(&service(named.clone())), Some(Standing::Unreleased), "{named}");
    }
}

#[test]
fn registry_ports_are_no_tags() {
    let spec = json!({ "image": { "repository": "registry.local:5000/web", "tag": "v2" } });
    let there = device("d", &json!({ "spec": { "apps": apps("registry.local:5000/web") } }));
    assert_eq!(stands_in(&spec, &there), Some(Standing::Unreleased));
    let elsewhere = device("d", &json!({ "spec": { "apps": apps("registry.local:5001/web:v1") } }));
    assert_eq!(stands_in(&spec, &elsewhere), None);
}

#[test]
fn before_the_release() {
    let declares = |running: &str, status: &str| json!({ "spec": { "apps": apps("acme/web:v2") }, "status": { "services": [reported(running, status)] } });
    assert_eq!(stands(&json!({ "spec": { "hold": true } })), Some(Standing::Held));
    assert_eq!(stands(&declares("acme/web:v2", "running")), Some(Standing::RunsAlready));
    assert_eq!(stands(&declares("acme/web:v2", "exited")), Some(Standing::DeclaredAlready));
    assert_eq!(stands(&declares("acme/web:v1", "running")), Some(Standing::DeclaredAlready));
    // An older rollout's entry still overrides what apps declares.
    let older = json!({ "rollout": "web-v1b", "image": "docker.io/acme/web:v1b", "declared": "docker.io/acme/web:v2" });
    let mut overlaid = declares("acme/web:v1b", "running");
    overlaid["spec"]["images"] = json!([entry(&older)]);
    assert_eq!(stands(&overlaid), Some(Standing::Unreleased));
}

#[test]
fn what_reports_say_after_the_release() {
    for (services, evidence) in [
        (json!(null), Evidence::NoReport),
        (json!([]), Evidence::Missing),
        (json!([reported("acme/web:v1", "running")]), Evidence::OtherImage),
        (json!([reported("acme/web:v2", "running")]), Evidence::Running),
        (json!([reported("docker.io/acme/web:v2", "Running")]), Evidence::Running),
        (json!([reported("acme/web:v2", "restarting")]), Evidence::NotRunning),
        (json!([reported(&format!("acme/web:v2@{}", digest('a')), "running")]), Evidence::OtherImage),
        (json!([reported("sha256:0123", "running")]), Evidence::OtherImage),
        (json!([reported("", "running")]), Evidence::OtherImage),
        // Ids decide where there are some; another application's service of that name is another.
        (json!([{ "app": "1", "name": "web", "image": "acme/web:v2", "status": "running" }]), Evidence::Running),
        (
            json!([{ "app": "1", "id": 1, "name": "renamed", "image": "acme/web:v2", "status": "running" }]),
            Evidence::Running,
        ),
        (
            json!([{ "app": "1", "id": 2, "name": "web", "image": "acme/web:v2", "status": "running" }]),
            Evidence::Missing,
        ),
        (
            json!([{ "app": "2", "id": 1, "name": "web", "image": "acme/web:v2", "status": "running" }]),
            Evidence::Missing,
        ),
    ] {
        let patch = with_entry(&json!({}), &services);
        assert_eq!(stands(&patch), Some(Standing::Released(evidence)), "{services}");
    }
}

#[test]
fn digests_compare_with_digests() {
    let spec = json!({ "image": { "digest": digest('a') } });
    let told = format!("{REPOSITORY}@{}", digest('a'));
    for (running, evidence) in [
        (format!("acme/web@{}", digest('a')), Evidence::Running),
        (format!("acme/web:whatever@{}", digest('a')), Evidence::Running),
        (format!("acme/web@{}", digest('b')), Evidence::OtherImage),
        ("acme/web:v2".to_owned(), Evidence::OtherImage),
    ] {
        let patch = with_entry(&json!({ "image": told }), &json!([reported(&running, "running")]));
        assert_eq!(stands_in(&spec, &device("d", &patch)), Some(Standing::Released(evidence)), "{running}");
    }
}

#[test]
fn every_service_of_the_repository_counts() {
    let two = json!({ "1": { "services": [
        { "serviceId": 1, "serviceName": "front", "imageName": "acme/web:v1" },
        { "serviceId": 2, "serviceName": "back", "imageName": "acme/web:v1" },
        { "serviceId": 3, "serviceName": "db", "imageName": "postgres:16" },
    ] } });
    let report = |front: &str, back: &str| {
        json!([
            { "app": "1", "id": 1, "name": "front", "image": front, "status": "running" },
            { "app": "1", "id": 2, "name": "back", "image": back, "status": "running" },
        ])
    };
    for (front, back, evidence) in [
        ("acme/web:v2", "acme/web:v2", Evidence::Running),
        ("acme/web:v2", "acme/web:v1", Evidence::OtherImage),
        ("acme/web:v1", "acme/web:v2", Evidence::OtherImage),
    ] {
        let mut patch = with_entry(&json!({}), &report(front, back));
        patch["spec"]["apps"] = two.clone();
        assert_eq!(stands(&patch), Some(Standing::Released(evidence)), "{front} {back}");
    }
}

#[test]
fn others_decide() {
    // People declare something else since: their word. What they declare is the very image: they agree.
    let mut changed = with_entry(&json!({}), &json!([reported("acme/web:v9", "running")]));
    changed["spec"]["apps"] = apps("acme/web:v9");
    assert_eq!(stands(&changed), Some(Standing::Overridden));
    let mut agreed = with_entry(&json!({}), &json!([reported("acme/web:v2", "running")]));
    agreed["spec"]["apps"] = apps("acme/web:v2");
    assert_eq!(stands(&agreed), Some(Standing::RunsAlready));
    let mut gone = with_entry(&json!({}), &json!([]));
    gone["spec"]["apps"] = apps("acme/other:v1");
    assert_eq!(stands(&gone), Some(Standing::Overridden));
    // Another manager owns a part of the entry.
    let mut claimed = with_entry(&json!({}), &json!([reported("acme/web:v2", "running")]));
    let key = format!("k:{}", json!({ "repository": REPOSITORY }));
    let owned = |manager: &str| {
        json!([{ "manager": manager, "operation": "Apply", "fieldsType": "FieldsV1",
                 "fieldsV1": { "f:spec": { "f:images": { &key: { "f:image": {} } } } } }])
    };
    claimed["metadata"] = json!({ "managedFields": owned("kubectl") });
    assert_eq!(stands(&claimed), Some(Standing::Claimed));
    claimed["metadata"] = json!({ "managedFields": owned("tranche-policy/old") });
    assert_eq!(stands(&claimed), Some(Standing::Claimed), "it may be there");
    claimed["metadata"] = json!({ "managedFields": owned("tranche-policy/web") });
    assert_eq!(stands(&claimed), Some(Standing::Released(Evidence::Running)));
}

#[test]
fn sent_back_and_withdrawn() {
    let back = json!({ "image": "docker.io/acme/web:v1", "rolledBack": true });
    for (running, found) in [("acme/web:v1", Evidence::Running), ("acme/web:v2", Evidence::OtherImage)] {
        let patch = with_entry(&back, &json!([reported(running, "running")]));
        assert_eq!(stands(&patch), Some(Standing::SentBack(found)), "{running}");
    }
    let withdrawn =
        with_entry(&json!({ "image": "docker.io/acme/web:v1" }), &json!([reported("acme/web:v1", "running")]));
    assert_eq!(stands(&withdrawn), Some(Standing::Unreleased));
    let mut held = withdrawn;
    held["spec"]["hold"] = json!(true);
    assert_eq!(stands(&held), Some(Standing::Held));
}

#[test]
fn a_rollout_of_the_same_name_before_this_one_is_another() {
    let patch =
        with_entry(&json!({ "releaseTime": at(-3600).to_string() }), &json!([reported("acme/web:v2", "running")]));
    assert_eq!(stands(&patch), Some(Standing::Unreleased));
}

/// What, spec, status, and the tag of where it would go.
type Way = (&'static str, Value, Value, Option<&'static str>);

fn ways() -> Vec<Way> {
    let older = |patch: Value| {
        let mut base =
            json!({ "rollout": "web-v1b", "image": "docker.io/acme/web:v1b", "previous": "docker.io/acme/web:v1" });
        base.as_object_mut().unwrap().extend(patch.as_object().unwrap().clone());
        json!({ "images": [entry(&base)] })
    };
    let mixed = json!({ "apps": { "1": { "services": [
        { "serviceId": 1, "serviceName": "a", "imageName": "acme/web:v1" },
        { "serviceId": 2, "serviceName": "b", "imageName": "acme/web:v0" },
    ] } } });
    let mixed_report = json!({ "services": [
        { "app": "1", "id": 1, "name": "a", "image": "acme/web:v1", "status": "running" },
        { "app": "1", "id": 2, "name": "b", "image": "acme/web:v0", "status": "running" },
    ] });
    let same = json!({ "apps": { "1": { "services": [
        { "serviceId": 1, "serviceName": "a", "imageName": "acme/web:v0" },
        { "serviceId": 2, "serviceName": "b", "imageName": "acme/web:v0" },
    ] } } });
    let same_report = json!({ "services": [
        { "app": "1", "id": 1, "name": "a", "image": "acme/web:v1", "status": "running" },
        { "app": "1", "id": 2, "name": "b", "image": "docker.io/acme/web:v1", "status": "running" },
    ] });
    let reports = |tag: &str, status: &str| json!({ "services": [reported(&format!("acme/web:{tag}"), status)] });
    let failed_on_it = json!({ "services": [reported("acme/web:v1b", "running")], "updates": failed() });
    let by_id = json!({ "services": [reported("sha256:0123", "running")] });
    let outdated = older(json!({ "declared": "docker.io/acme/web:v0" }));
    vec![
        ("what it runs", json!({}), reports("v1", "running"), Some("v1")),
        ("never reported: what apps declares", json!({}), json!({ "services": null }), None),
        ("not running: what apps declares", json!({}), reports("v1", "exited"), None),
        ("an image id: what apps declares", json!({}), by_id, None),
        ("it runs the target already", json!({}), reports("v2", "running"), None),
        ("an older rollout's image", older(json!({})), reports("v1b", "running"), Some("v1b")),
        ("that image is not up: where that one would go", older(json!({})), reports("v1b", "exited"), Some("v1")),
        ("it failed on that image", older(json!({ "rollout": "web-v2" })), failed_on_it, Some("v1")),
        ("the entry no longer applies", outdated, reports("v1b", "exited"), None),
        ("never the target", older(json!({ "previous": "docker.io/acme/web:v2" })), reports("v2", "running"), None),
        ("services that run different images", mixed, mixed_report, None),
        ("services that run the same one", same, same_report, Some("v1")),
        (
            "a verdict on an image that it left",
            older(json!({ "rollout": "web-v2", "rolledBack": true })),
            json!({ "services": [reported("acme/web:v1", "running")], "updates": failed() }),
            Some("v1"),
        ),
        ("another repository's image", json!({}), json!({ "services": [reported("acme/db:v1", "running")] }), None),
    ]
}

#[test]
fn where_a_rollback_would_go() {
    let target: ImageRef = "acme/web:v2".parse().unwrap();
    for (what, spec, status, previous) in ways() {
        let view = DeviceView::new(&device("d", &json!({ "spec": spec, "status": status })));
        let expected = previous.map(|tag| format!("{REPOSITORY}:{tag}"));
        assert_eq!(previous_image(&view, &target, false), expected, "{what}");
        // What it runs counts for nothing then.
        let before = if what == "an older rollout's image" { Some("v1") } else { previous };
        let unproven = previous_image(&view, &target, true);
        assert!(
            unproven.is_none() || unproven == before.map(|tag| format!("{REPOSITORY}:{tag}")),
            "{what}: {unproven:?}"
        );
    }
}

/// A policy that is renamed takes its devices along: what the old one wrote is nobody's once it is gone.
#[test]
fn what_a_dead_policy_left_is_taken_over() {
    let key = |repository: &str| format!("k:{}", json!({ "repository": repository }));
    let of_old = json!({ &key(REPOSITORY): { "f:image": {} }, &key("docker.io/acme/db"): { "f:image": {} } });
    let db = json!({ "repository": "docker.io/acme/db", "image": "docker.io/acme/db:v1",
                     "declared": "docker.io/acme/db:v1", "rollout": "db-v1", "batch": 1, "releaseTime": at(-900).to_string() });
    let left =
        entry(&json!({ "rollout": "old-v1", "image": "docker.io/acme/web:v1", "releaseTime": at(-900).to_string() }));
    let there = device(
        "d",
        &json!({
            "metadata": { "managedFields": [{ "manager": "tranche-policy/old", "operation": "Apply", "fieldsType": "FieldsV1",
                                              "fieldsV1": { "f:spec": { "f:images": of_old } } }] },
            "spec": { "images": [left, db] },
        }),
    );
    let mut fixture = Fixture::new(policy(&json!({})), rollout(&json!({})), &[there], at(0));
    let standing = |fixture: &Fixture| fixture.look(|observed| observed.members[0].standing);
    assert_eq!(standing(&fixture), Standing::Claimed);
    fixture.living = Some(["old".to_owned(), "web".to_owned()].into());
    assert_eq!(standing(&fixture), Standing::Claimed);
    fixture.living = Some(["web".to_owned()].into());
    assert_eq!(standing(&fixture), Standing::Unreleased);
    // Under its name, with everything else that it owns there.
    let plan = fixture.settle();
    let [action] = &plan.actions[..] else { panic!("{:?}", plan.actions) };
    let Change::Images { manager, entries } = &action.change else { panic!("{action:?}") };
    assert_eq!(manager, "tranche-policy/old");
    let told: Vec<_> = entries.iter().map(|entry| (entry.repository.as_str(), entry.rollout.as_str())).collect();
    assert_eq!(told, [("docker.io/acme/db", "db-v1"), (REPOSITORY, "web-v2")]);
}

/// Services that a policy names are judged with those of the image.
#[test]
fn watched_services_count() {
    let spec = json!({ "healthChecks": [{ "name": "db", "container": { "service": "db" } }] });
    let db = |status: &str| json!({ "app": "1", "id": 2, "name": "db", "image": "postgres:16", "status": status });
    let web = |status: &str| reported("acme/web:v2", status);
    for (services, evidence) in [
        (json!([web("running"), db("running")]), Evidence::Running),
        (json!([web("running"), db("exited")]), Evidence::NotRunning),
        (json!([web("exited"), db("running")]), Evidence::NotRunning),
        (json!([web("running")]), Evidence::Missing),
    ] {
        let there = device("d", &with_entry(&json!({}), &services));
        let fixture = Fixture::new(policy(&spec), rollout(&json!({})), &[there], at(10));
        let standing = fixture.look(|observed| observed.members[0].standing);
        assert_eq!(standing, Standing::Released(evidence), "{services}");
    }
}

/// Sent back to nothing: every service to what `apps` declares.
#[test]
fn back_is_where_every_service_runs_its_own_image_again() {
    let two = json!({ "1": { "services": [
        { "serviceId": 1, "serviceName": "a", "imageName": "acme/web:v1" },
        { "serviceId": 2, "serviceName": "b", "imageName": "acme/web:v0" },
    ] } });
    let report = |name: &str, id: i64, tag: &str, status: &str| json!({ "app": "1", "id": id, "name": name, "image": format!("acme/web:{tag}"), "status": status });
    for (services, found) in [
        (json!([report("a", 1, "v1", "running"), report("b", 2, "v0", "running")]), Evidence::Running),
        (json!([report("a", 1, "v1", "running"), report("b", 2, "v0", "exited")]), Evidence::NotRunning),
        (json!([report("a", 1, "v1", "running"), report("b", 2, "v1", "running")]), Evidence::OtherImage),
        (json!([report("a", 1, "v1", "running")]), Evidence::Missing),
    ] {
        let back = json!({
            "image": null, "previous": null, "rolledBack": true, "declared": "docker.io/acme/web:v1,docker.io/acme/web:v0",
        });
        let mut patch = with_entry(&back, &services);
        patch["spec"]["apps"] = two.clone();
        assert_eq!(stands(&patch), Some(Standing::SentBack(found)), "{services}");
    }
}

#[test]
fn who_is_told_nothing_of_an_image_is_not_told_twice() {
    // An entry of an older rollout without an image, or one that no longer applies, overrides nothing.
    for patch in [json!({ "image": null }), json!({ "declared": "docker.io/acme/web:v0" })] {
        let mut older =
            json!({ "rollout": "web-v1", "image": "docker.io/acme/web:v1", "declared": "docker.io/acme/web:v2" });
        older.as_object_mut().unwrap().extend(patch.as_object().unwrap().clone());
        let mut there = json!({
            "spec": { "apps": apps("acme/web:v2"), "images": [entry(&older)] },
            "status": { "services": [reported("acme/web:v2", "running")] },
        });
        assert_eq!(stands(&there), Some(Standing::RunsAlready), "{patch}");
        there["status"]["services"] = json!([]);
        assert_eq!(stands(&there), Some(Standing::DeclaredAlready), "{patch}");
    }
}

#[test]
fn what_another_policys_rollout_wrote_is_its_own() {
    let there = device("d", &with_entry(&json!({ "rollout": "other-v1" }), &json!([])));
    let view = DeviceView::new(&there);
    let valid = crate::plan::ValidatedPolicy::new(&policy(&json!({}))).unwrap();
    let image: ImageRef = "acme/web:v2".parse().unwrap();
    for (other, standing) in [("other-v1", Standing::Claimed), ("other-v2", Standing::Unreleased)] {
        let target = Target {
            rollout: "web-v2",
            uid: "uid",
            began: Some(at(0)),
            image: &image,
            manager: "tranche-policy/web",
            rules: &valid.rules,
            rivals: &[],
            living: None,
            others: &[other.to_owned()].into(),
            proofs: &Proofs::default(),
            status: None,
            now: at(0),
        };
        assert_eq!(member(&view, None, &target).unwrap().standing, standing, "{other}");
    }
}
