//! Lives of a rollout: who goes first, and what becomes of entries when it goes away.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::{Value, json};

use super::*;
use crate::api::{Device, ImageRollout};
use crate::plan::fixture::{Fixture, at, device, entry, failed, policy, reported, rollout};
use crate::plan::{Change, Resolution, StatusWrite};

fn one(patch: &Value) -> Vec<Device> {
    vec![device("d", patch)]
}

fn started(rollout_spec: &Value, phase: &str, status: &Value) -> ImageRollout {
    let mut fixture = Fixture::new(policy(&json!({})), rollout(&json!({})), &one(&json!({})), at(0));
    let _ = fixture.settle();
    let mut object = serde_json::to_value(fixture.rollout.status.unwrap()).unwrap();
    object["phase"] = json!(phase);
    object.as_object_mut().unwrap().extend(status.as_object().unwrap().clone());
    let mut rollout = rollout(rollout_spec);
    rollout.status = Some(serde_json::from_value(object).unwrap());
    rollout
}

fn sibling(name: &str, created: i64, phase: &str) -> ImageRollout {
    let mut sibling = rollout(&json!({}));
    sibling.metadata.name = Some(name.into());
    sibling.metadata.creation_timestamp = Some(Time(at(created)));
    let status = json!({ "phase": phase, "observedGeneration": 1 });
    sibling.status = Some(serde_json::from_value(status).unwrap());
    sibling
}

#[test]
fn the_finalizer_comes_first() {
    let mut rollout = rollout(&json!({}));
    rollout.metadata.finalizers = None;
    let plan = Fixture::new(policy(&json!({})), rollout, &one(&json!({})), at(0)).plan();
    assert_eq!((plan.finalizer, plan.write), (FinalizerChange::Add, StatusWrite::None));
    assert!(plan.actions.is_empty());
}

/// A newer one waits for its turn, but may have started while this one could not be read.
#[test]
fn of_two_that_run_the_newer_takes_over() {
    for (policy_says, newer_has_started, phase) in [
        ("Queue", true, Phase::Superseded),
        ("Ignore", true, Phase::Superseded),
        ("Queue", false, Phase::Progressing),
        ("Ignore", false, Phase::Progressing),
    ] {
        let policy = policy(&json!({ "onNewImage": policy_says }));
        let mut fixture =
            Fixture::new(policy, started(&json!({}), "Progressing", &json!({})), &one(&json!({})), at(10));
        let mut newer = sibling("web-v3", 5, "Progressing");
        if newer_has_started {
            newer.status.as_mut().unwrap().plan = fixture.rollout.status.as_ref().unwrap().plan.clone();
        }
        fixture.siblings.push(newer);
        assert_eq!(fixture.plan().status.phase, phase, "{policy_says} {newer_has_started}");
    }
}

#[test]
fn precedence() {
    let back = json!({ "desiredState": "RolledBack", "paused": true });
    let cancelled = json!({ "desiredState": "Cancelled", "paused": true });
    let halted = json!({ "halted": { "time": at(0).to_string(), "batch": 1, "failures": 1 } });
    for (spec, newer, phase) in [
        (&back, true, Phase::RolledBack),
        (&cancelled, true, Phase::Cancelled),
        (&json!({ "paused": true }), true, Phase::Superseded),
        (&json!({ "paused": true }), false, Phase::Paused),
        (&json!({}), false, Phase::Halted),
    ] {
        let rollout = started(spec, "Halted", &halted);
        let mut fixture = Fixture::new(policy(&json!({})), rollout, &one(&json!({})), at(10));
        if newer {
            fixture.siblings.push(sibling("web-v3", 5, "Pending"));
        }
        assert_eq!(fixture.settle().status.phase, phase, "{spec}");
    }
}

#[test]
fn who_takes_over_and_who_waits() {
    for (on_new_image, name, created, phase, expected) in [
        ("Replace", "web-v3", 5, "Pending", "Superseded"),
        ("Replace", "web-v3", 5, "Completed", "Superseded"),
        ("Replace", "web-v3", 5, "Cancelled", "Progressing"),
        ("Replace", "web-v3", 5, "RolledBack", "Progressing"),
        ("Replace", "web-v1", -90, "Progressing", "Pending: rollout web-v1 is being superseded first"),
        ("Replace", "web-v1", -90, "Completed", "Progressing"),
        ("Queue", "web-v3", 5, "Pending", "Progressing"),
        ("Queue", "web-v1", -90, "Halted", "Pending: queued behind rollout web-v1"),
        ("Queue", "web-v1", -90, "Superseded", "Progressing"),
        ("Ignore", "web-v3", 5, "Pending", "Progressing"),
        ("Ignore", "web-v1", -90, "Paused", "Superseded"),
    ] {
        let policy = policy(&json!({ "onNewImage": on_new_image }));
        let mut fixture = Fixture::new(policy, rollout(&json!({})), &one(&json!({})), at(10));
        fixture.siblings.push(sibling(name, created, phase));
        let status = fixture.settle().status;
        let said = format!("{}: {}", status.phase, status.message);
        assert!(said.starts_with(expected), "{on_new_image}, {name} {phase}: {said}");
    }
}

#[test]
fn one_that_cannot_start_is_nobodys_newer_or_older() {
    let stuck = |name: &str, created| {
        let mut sibling = sibling(name, created, "Pending");
        let condition = crate::api::condition::condition("Stalled", true, "ImageNotMatched", "", None, at(0));
        sibling.status.as_mut().unwrap().conditions = vec![condition];
        sibling
    };
    for (on_new_image, sibling) in [
        ("Replace", stuck("web-v3", 5)),
        ("Replace", stuck("web-v1", -90)),
        ("Queue", stuck("web-v1", -90)),
        ("Ignore", stuck("web-v1", -90)),
    ] {
        let policy = policy(&json!({ "onNewImage": on_new_image }));
        let mut fixture = Fixture::new(policy, rollout(&json!({})), &one(&json!({})), at(10));
        fixture.siblings.push(sibling);
        assert_eq!(fixture.settle().status.phase, Phase::Progressing, "{on_new_image}");
    }
    // One that was never looked at may yet turn out to be stuck.
    let mut unknown = sibling("web-v3", 5, "Pending");
    unknown.status = None;
    let mut fixture = Fixture::new(policy(&json!({})), rollout(&json!({})), &one(&json!({})), at(10));
    fixture.siblings.push(unknown);
    assert_eq!(fixture.settle().status.phase, Phase::Progressing);
}

#[test]
fn what_keeps_it_from_starting() {
    let valid = || policy(&json!({}));
    let senseless = policy(&json!({ "image": { "pattern": "[" } }));
    let narrow = policy(&json!({ "image": { "pattern": "acme/web:v1*" } }));
    let suspended = policy(&json!({ "suspend": true }));
    for (what, policy, spec, devices, reason) in [
        ("no policy", None, json!({}), 1, "PolicyMissing"),
        ("no sense", Some(senseless), json!({}), 1, "PolicyInvalid"),
        ("suspended", Some(suspended), json!({}), 1, "PolicySuspended"),
        ("another's image", Some(narrow), json!({}), 1, "ImageNotMatched"),
        ("no image", Some(valid()), json!({ "image": { "tag": "-" } }), 1, "ImageInvalid"),
        ("not yet", Some(valid()), json!({ "notBefore": at(100).to_string() }), 1, "NotBefore"),
        ("nobody", Some(valid()), json!({}), 0, "NoDevices"),
    ] {
        let devices: Vec<Device> = (0..devices).map(|i| device(&format!("d{i}"), &json!({}))).collect();
        let mut fixture = Fixture::new(valid(), rollout(&spec), &devices, at(0));
        fixture.policy = policy;
        let plan = fixture.settle();
        assert_eq!(plan.waiting_on.first().map(WaitingOn::reason), Some(reason), "{what}");
        assert_eq!((plan.status.phase, plan.status.plan), (Phase::Pending, None), "{what}");
        assert!(plan.actions.is_empty());
        // A person can end it all the same.
        fixture.rollout.spec.desired_state = DesiredState::Cancelled;
        assert_eq!(fixture.settle().status.phase, Phase::Cancelled, "{what}");
    }
}

/// What is written to a device when the rollout goes away: its previous image, or nothing.
#[test]
fn deletion_rewrites_what_the_gate_holds_back() {
    const BACK: &str = "docker.io/acme/web:v1";
    let halted = json!({ "halted": { "time": at(0).to_string(), "batch": 1, "failures": 1 } });
    let none = json!({});
    for (spec, phase, status, running, fails, hold, rewritten) in [
        (json!({}), "Progressing", &none, false, false, false, false),
        (json!({}), "Completed", &none, false, false, false, false),
        (json!({}), "Progressing", &none, false, true, false, true),
        (json!({}), "Progressing", &none, false, false, true, true),
        (json!({}), "Progressing", &none, true, false, true, false),
        (json!({ "rollBackDevices": ["d"] }), "Progressing", &none, true, false, false, true),
        (json!({ "paused": true }), "Paused", &none, false, false, false, true),
        (json!({ "paused": true }), "Paused", &none, true, false, false, false),
        (json!({ "paused": true }), "Progressing", &none, false, false, false, true),
        (json!({}), "Halted", &halted, false, false, false, true),
        (json!({}), "Halted", &halted, true, false, false, false),
        (json!({}), "Halted", &halted, true, true, false, true),
        (json!({ "desiredState": "Cancelled" }), "Cancelled", &none, true, false, false, false),
        (json!({ "desiredState": "Cancelled" }), "Cancelled", &none, false, false, false, true),
        (json!({}), "Superseded", &none, false, false, false, true),
        (json!({ "desiredState": "RolledBack" }), "RollingBack", &none, true, false, false, true),
        (json!({ "desiredState": "RolledBack" }), "Completed", &none, true, false, true, true),
    ] {
        let image = if running { "acme/web:v2" } else { "acme/web:v1" };
        let patch = json!({
            "spec": { "hold": hold, "images": [entry(&json!({}))] },
            "status": { "services": [reported(image, "running")], "updates": if fails { failed() } else { json!([]) } },
        });
        let mut rollout = started(&spec, phase, status);
        rollout.metadata.deletion_timestamp = Some(Time(at(900)));
        let plan = Fixture::new(policy(&json!({})), rollout, &one(&patch), at(1000)).plan();
        let what = format!("{phase} {spec} running: {running}, failed: {fails}, held: {hold}");
        assert_eq!(plan.finalizer == FinalizerChange::Remove, !rewritten, "{what}");
        let written: Vec<Option<String>> = plan
            .actions
            .iter()
            .map(|action| match &action.change {
                Change::Images { manager: _, entries } => entries[0].image.clone(),
                Change::Verdicts { .. } => None,
            })
            .collect();
        assert_eq!(written, if rewritten { vec![Some(BACK.to_owned())] } else { vec![] }, "{what}");
    }
}

/// As a push makes it, under a policy that offers digests.
fn pushed(image: &Value) -> ImageRollout {
    rollout(&json!({ "image": image, "trigger": { "type": "Webhook", "receiver": "github" } }))
}

fn resolved(digit: char) -> Resolution {
    Resolution::Digest(crate::plan::fixture::digest(digit))
}

#[test]
fn the_registrys_word_comes_before_devices() {
    let digest = crate::plan::fixture::digest('1');
    let mut fixture = Fixture::new(policy(&json!({})), pushed(&json!({ "tag": "v2" })), &one(&json!({})), at(0));
    fixture.resolution = Resolution::Asked;
    let plan = fixture.settle();
    assert_eq!(plan.waiting_on.first().map(WaitingOn::reason), Some("AwaitingRegistry"));
    assert!(plan.actions.is_empty() && plan.status.plan.is_none());
    assert!(Sibling::new(&fixture.rollout).is_stuck, "it takes nobody's place");

    fixture.resolution = Resolution::NoAnswer { why: "it is down".into(), again: at(9) };
    let plan = fixture.settle();
    assert_eq!((plan.requeue_at, plan.status.phase), (Some(at(9)), Phase::Pending));
    assert!(plan.status.message.contains("it is down"), "{}", plan.status.message);

    fixture.resolution = resolved('1');
    let plan = fixture.settle();
    assert_eq!(plan.status.phase, Phase::Progressing);
    assert_eq!(plan.status.digest, Some(digest.clone()));
    assert_eq!(plan.status.image, Some(format!("docker.io/acme/web@{digest}")));
    let [action] = &plan.actions[..] else { panic!("{:?}", plan.actions) };
    assert!(format!("{action:?}").contains(&digest), "{action:?}");

    // From now on the status remembers it, whatever the registry says.
    fixture.resolution = resolved('2');
    let plan = fixture.settle();
    assert_eq!(plan.status.image, Some(format!("docker.io/acme/web@{digest}")));
    assert!(format!("{:?}", plan.actions).contains(&digest));
}

#[test]
fn what_the_registry_has_instead_is_never_rolled_out() {
    let announced = json!({ "tag": "v2", "digest": crate::plan::fixture::digest('1') });
    let mut fixture = Fixture::new(policy(&json!({})), pushed(&announced), &one(&json!({})), at(0));
    fixture.resolution = Resolution::Other { digest: crate::plan::fixture::digest('2'), since: at(0) };
    let plan = fixture.settle();
    assert_eq!(plan.waiting_on.first().map(WaitingOn::reason), Some("DigestMismatch"));
    assert!(plan.actions.is_empty());
    fixture.now = at(10 * 60);
    let plan = fixture.settle();
    assert_eq!(plan.status.phase, Phase::Failed);
    assert!(plan.actions.is_empty() && plan.status.plan.is_none());

    let mut fixture = Fixture::new(policy(&json!({})), pushed(&announced), &one(&json!({})), at(0));
    fixture.resolution = Resolution::NotAnImage("a Helm chart".into());
    let status = fixture.settle().status;
    assert_eq!(status.phase, Phase::Failed);
    assert!(status.message.contains("Helm chart"), "{}", status.message);
}

#[test]
fn bits_that_were_rolled_back_do_not_come_back_under_another_tag() {
    let mut remembers = policy(&json!({}));
    let image = format!("docker.io/acme/web:v1@{}", crate::plan::fixture::digest('1'));
    let status = json!({ "rejected": [{ "image": image, "rollout": "web-v1", "time": at(-90).to_string() }] });
    remembers.status = Some(serde_json::from_value(status).unwrap());
    for (digit, trigger, phase) in [
        ('1', json!({ "type": "Webhook" }), Phase::Failed),
        ('1', json!({ "type": "Poll" }), Phase::Failed),
        ('1', json!({ "type": "Manual" }), Phase::Progressing),
        ('2', json!({ "type": "Webhook" }), Phase::Progressing),
    ] {
        let spec = json!({ "image": { "tag": "v2" }, "trigger": trigger });
        let mut fixture = Fixture::new(remembers.clone(), rollout(&spec), &one(&json!({})), at(0));
        fixture.resolution = resolved(digit);
        let status = fixture.settle().status;
        assert_eq!(status.phase, phase, "{digit} {trigger}: {}", status.message);
    }
}

#[test]
fn lower_versions_do_not_replace_higher_ones() {
    for (tag, of_sibling, created, tags, trigger, phase) in [
        ("v1.9.0", "v2.0.0", -90, json!({}), "Webhook", Phase::Superseded),
        ("v1.9.0", "v2.0.0", -90, json!({ "allowDowngrade": true }), "Webhook", Phase::Progressing),
        ("v1.9.0", "v2.0.0", -90, json!({}), "Manual", Phase::Progressing),
        ("v2.1.0", "v2.0.0", -90, json!({}), "Webhook", Phase::Progressing),
        ("nightly", "v2.0.0", -90, json!({}), "Webhook", Phase::Progressing),
        ("v2.0.0", "v2.0.0", -90, json!({}), "Poll", Phase::Progressing),
    ] {
        let policy = policy(&json!({ "tags": tags, "onNewImage": "Queue" }));
        let spec = json!({ "image": { "tag": tag }, "trigger": { "type": trigger } });
        let mut fixture = Fixture::new(policy, rollout(&spec), &one(&json!({})), at(0));
        let mut other = sibling("web-other", created, "Completed");
        other.spec.image.tag = Some(of_sibling.into());
        fixture.siblings.push(other);
        let status = fixture.settle().status;
        assert_eq!(status.phase, phase, "{tag} after {of_sibling}, {tags}: {}", status.message);
    }
}

#[test]
fn a_newer_one_that_has_started_is_not_undone_by_an_older_one() {
    let policy = policy(&json!({ "onNewImage": "Queue" }));
    let mut fixture = Fixture::new(policy, rollout(&json!({})), &one(&json!({})), at(10));
    let mut newer = started(&json!({}), "Completed", &json!({ "observedGeneration": 1 }));
    newer.metadata.name = Some("web-v3".into());
    newer.metadata.creation_timestamp = Some(Time(at(5)));
    fixture.siblings.push(newer);
    let status = fixture.settle().status;
    assert_eq!((status.phase, status.plan), (Phase::Superseded, None), "it has not even started");
    assert_eq!(status.message, "not rolled out: web-v3 is newer and has started");
}

/// Names are made from images, and times are whole seconds.
#[test]
fn what_a_namesake_wrote_in_this_second_is_waited_out() {
    let image = entry(&json!({ "releaseTime": at(10).to_string() }));
    let waits = |patch: &Value, now: i64| {
        let fixture = Fixture::new(policy(&json!({})), rollout(&json!({})), &one(patch), at(now));
        let plan = fixture.plan();
        (plan.status.plan.is_none(), plan.waiting_on.first().map(|on| on.reason()), plan.requeue_at)
    };
    let wrote = json!({ "spec": { "images": [image] } });
    assert_eq!(waits(&wrote, 10), (true, Some("NotBefore"), Some(at(11))));
    assert!(!waits(&wrote, 11).0);
    let judged = json!({ "status": { "updates": failed() } });
    assert_eq!(waits(&judged, 600), (true, Some("NotBefore"), Some(at(601))));
    assert!(!waits(&judged, 601).0);
}

/// Pushes of two versions may be told, or get the registry's word, in any order.
#[test]
fn of_two_pushes_the_higher_version_is_the_newer() {
    let made_by = |trigger: &str, rollout: &mut ImageRollout, tag: &str| {
        rollout.spec.image.tag = Some(tag.into());
        rollout.spec.trigger = Some(serde_json::from_value(json!({ "type": trigger })).unwrap());
    };
    let (push, person) = ("Webhook", "Manual");
    for (mine, theirs, created, by, down, superseded) in [
        ("v2.9.9", "v3.0.0", -90, (push, push), false, true),
        ("v2.9.9", "v3.0.0", 5, (push, push), false, true),
        ("v3.0.0", "v2.9.9", 5, (push, push), false, false),
        ("edge", "v2.9.9", 5, (push, push), false, true),
        ("edge", "v2.9.9", -90, (push, push), false, false),
        // Whoever makes one means it, and a policy may allow lower versions: then the age decides.
        ("v3.0.0", "v2.9.9", 5, (person, push), false, true),
        ("v3.0.0", "v2.9.9", 5, (push, person), false, true),
        ("v3.0.0", "v2.9.9", 5, (push, push), true, true),
        ("v2.9.9", "v3.0.0", -90, (push, push), true, false),
    ] {
        let mut running = started(&json!({}), "Progressing", &json!({}));
        made_by(by.0, &mut running, mine);
        let policy = policy(&json!({ "tags": { "allowDowngrade": down } }));
        let mut fixture = Fixture::new(policy, running, &one(&json!({})), at(10));
        let mut other = sibling("web-other", created, "Pending");
        made_by(by.1, &mut other, theirs);
        fixture.siblings.push(other);
        let status = fixture.settle().status;
        assert_eq!(
            status.phase == Phase::Superseded,
            superseded,
            "{mine} and {theirs} at {created}: {}",
            status.message
        );
    }
}

#[test]
fn the_same_bits_are_rolled_out_once() {
    for (digit, trigger, phase) in
        [('1', "Webhook", Phase::Superseded), ('2', "Webhook", Phase::Progressing), ('1', "Manual", Phase::Progressing)]
    {
        let spec = json!({ "image": { "tag": "latest" }, "trigger": { "type": trigger } });
        let mut fixture = Fixture::new(policy(&json!({})), rollout(&spec), &one(&json!({})), at(10));
        fixture.resolution = resolved(digit);
        let mut first = started(&json!({}), "Completed", &json!({ "observedGeneration": 1 }));
        first.metadata.name = Some("web-first".into());
        first.metadata.creation_timestamp = Some(Time(at(-90)));
        first.status.as_mut().unwrap().digest = Some(crate::plan::fixture::digest('1'));
        fixture.siblings.push(first);
        let status = fixture.settle().status;
        assert_eq!(status.phase, phase, "{digit} {trigger}: {}", status.message);
    }
}

#[test]
fn the_same_bits_are_an_earlier_rollouts_or_one_that_has_started() {
    for (what, created, has_started, digit, phase) in [
        ("earlier, not started", -90, false, '1', Phase::Superseded),
        ("later, not started", 5, false, '1', Phase::Progressing),
        ("earlier, other bits", -90, true, '2', Phase::Progressing),
    ] {
        let policy = policy(&json!({ "onNewImage": "Queue" }));
        let spec = json!({ "image": { "tag": "latest" }, "trigger": { "type": "Webhook" } });
        let mut fixture = Fixture::new(policy, rollout(&spec), &one(&json!({})), at(10));
        fixture.resolution = resolved('1');
        let mut other = sibling("web-other", created, "Completed");
        other.status.as_mut().unwrap().digest = Some(crate::plan::fixture::digest(digit));
        if has_started {
            let plan = started(&json!({}), "Completed", &json!({})).status.unwrap().plan;
            other.status.as_mut().unwrap().plan = plan;
        }
        fixture.siblings.push(other);
        let status = fixture.settle().status;
        assert_eq!(status.phase, phase, "{what}: {}", status.message);
    }
}

#[test]
fn rejected_are_the_same_bits_of_the_same_repository_by_another_rollout() {
    for (repository, rollout_name, phase) in [
        ("docker.io/acme/web", "web-v1", Phase::Failed),
        ("docker.io/acme/db", "web-v1", Phase::Progressing),
        ("docker.io/acme/web", "web-v2", Phase::Progressing),
    ] {
        let mut remembers = policy(&json!({}));
        let image = format!("{repository}:v1@{}", crate::plan::fixture::digest('1'));
        let status = json!({ "rejected": [{ "image": image, "rollout": rollout_name, "time": at(-90).to_string() }] });
        remembers.status = Some(serde_json::from_value(status).unwrap());
        let spec = json!({ "image": { "tag": "v2" }, "trigger": { "type": "Webhook" } });
        let mut fixture = Fixture::new(remembers, rollout(&spec), &one(&json!({})), at(0));
        fixture.resolution = resolved('1');
        assert_eq!(fixture.settle().status.phase, phase, "{repository} {rollout_name}");
    }
}
