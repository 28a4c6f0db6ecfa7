//! The real controller and the real gateway on an API server in the process, with simulated devices, in virtual time.

use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use rand::{RngExt as _, SeedableRng as _};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};
use tranche::simulate::Personality;

use super::support::apiserver::faults::Fault;
use super::support::live::{World, policy, rollout};

const MINUTE: Duration = Duration::from_secs(60);

#[tokio::test(start_paused = true)]
async fn a_staged_rollout_from_start_to_rest() {
    let world = World::healthy(10).await;
    let strategy = json!({
        "type": "Staged", "batches": [{"size": "10%"}, {"size": "50%"}, {"size": "100%"}], "batchDelay": "10m",
    });
    world.api.create("imageupdatepolicies", &policy(&json!({"strategy": strategy}))).await.unwrap();
    world.stays_settled(30 * MINUTE).await;

    let begin = Instant::now();
    world.api.create("imagerollouts", &rollout("v2", &json!({}))).await.unwrap();
    world.until_phase("web-v2", "Completed").await;
    assert!(begin.elapsed() > 20 * MINUTE, "two soaks of ten minutes: {:?}", begin.elapsed());
    assert!(begin.elapsed() < 25 * MINUTE, "and little else: {:?}", begin.elapsed());
    assert_eq!((world.running("acme/web:v2"), world.offered("acme/web:v2")), (10, 10));
    let status = world.status("web-v2");
    assert_eq!(
        status["totals"],
        json!({
            "devices": 10, "released": 10, "updated": 10, "healthy": 10, "failed": 0, "rolledBack": 0, "deferred": 0,
        })
    );
    let devices: Vec<_> = status["batches"].as_array().unwrap().iter().map(|batch| batch["devices"].clone()).collect();
    assert_eq!(devices, [1, 4, 5]);
    world.check_never();
    world.stays_settled(30 * MINUTE).await;
}

#[tokio::test(start_paused = true)]
async fn a_bad_image_stops_itself_and_goes_back() {
    let world = World::healthy(10).await;
    let failures = json!({"action": "RollBackAll", "maxFailureRate": "20%"});
    world.api.create("imageupdatepolicies", &policy(&json!({"failurePolicy": failures}))).await.unwrap();
    world.api.create("imagerollouts", &rollout("bad", &json!({}))).await.unwrap();
    world.until_phase("web-bad", "RolledBack").await;
    assert_eq!((world.offered("acme/web:bad"), world.running("acme/web:v1")), (5, 10));
    assert!(world.entries().iter().all(|(_, image, batch, back)| *batch == 1 && *back && image.ends_with("web:v1")));
    let rejected = world.api.get("imageupdatepolicies", "web").unwrap()["status"]["rejected"].clone();
    assert_eq!(rejected[0]["rollout"], "web-bad", "{rejected}");
    world.check_never();
    world.check_events();
    world.stays_settled(30 * MINUTE).await;

    // The same push once more changes nothing; a better image does.
    world.api.create("imagerollouts", &rollout("v2", &json!({}))).await.unwrap();
    world.until_phase("web-v2", "Completed").await;
    assert_eq!(world.running("acme/web:v2"), 10);
    world.check_never();
}

#[tokio::test(start_paused = true)]
async fn a_halted_rollout_waits_for_a_person() {
    let personalities: Vec<_> =
        (0..10).map(|index| if index % 2 == 0 { Personality::Fails } else { Personality::Healthy }).collect();
    let world = World::new(&personalities).await;
    world.api.create("imageupdatepolicies", &policy(&json!({}))).await.unwrap();
    world.api.create("imagerollouts", &rollout("v2", &json!({}))).await.unwrap();
    world.until_phase("web-v2", "Halted").await;
    // The failed ones go back by themselves.
    world
        .until("the failed devices are back", |world| world.running("acme/web:v1") + world.running("acme/web:v2") == 10)
        .await;
    assert_eq!(world.offered("acme/web:v2"), 5);
    world.stays_settled(30 * MINUTE).await;
    world.check_events();

    let failures = world.status("web-v2")["halted"]["failures"].clone();
    world.api.edit("imagerollouts", "web-v2", &json!({"spec": {"acknowledgedFailures": failures}})).await.unwrap();
    world
        .until("it halts again, or is done", |world| {
            world.offered("acme/web:v2") > 5 && ["Halted", "Completed"].contains(&world.phase("web-v2").as_str())
        })
        .await;
    world.api.edit("imagerollouts", "web-v2", &json!({"spec": {"desiredState": "RolledBack"}})).await.unwrap();
    world.until_phase("web-v2", "RolledBack").await;
    assert_eq!(world.running("acme/web:v1"), 10);
    world.check_never();
    world.check_events();
    world.stays_settled(30 * MINUTE).await;
}

#[tokio::test(start_paused = true)]
async fn a_person_pauses_and_resumes() {
    let world = World::healthy(8).await;
    let strategy = json!({"type": "Auto", "maxConcurrent": 1});
    world.api.create("imageupdatepolicies", &policy(&json!({"strategy": strategy}))).await.unwrap();
    world.api.create("imagerollouts", &rollout("v2", &json!({}))).await.unwrap();
    world.until("three devices are on it", |world| world.offered("acme/web:v2") == 3).await;
    world.api.edit("imagerollouts", "web-v2", &json!({"spec": {"paused": true}})).await.unwrap();
    world.until_phase("web-v2", "Paused").await;
    let offered = world.offered("acme/web:v2");
    world.stays_settled(30 * MINUTE).await;
    assert_eq!(world.offered("acme/web:v2"), offered, "nobody moved after the stop was acknowledged");
    assert_eq!(world.running("acme/web:v1") + world.running("acme/web:v2"), 8, "nobody hangs half way");
    world.api.edit("imagerollouts", "web-v2", &json!({"spec": {"paused": false}})).await.unwrap();
    world.until_phase("web-v2", "Completed").await;
    assert_eq!(world.running("acme/web:v2"), 8);
    world.check_never();
    world.check_events();
    world.stays_settled(30 * MINUTE).await;
}

#[tokio::test(start_paused = true)]
async fn a_rollout_deleted_half_way_leaves_everybody_where_they_are() {
    for paused in [false, true] {
        let world = World::healthy(8).await;
        let strategy = json!({"type": "Staged", "batches": [{"size": "50%"}, {"size": "100%"}], "batchDelay": "1h"});
        world.api.create("imageupdatepolicies", &policy(&json!({"strategy": strategy}))).await.unwrap();
        world.api.create("imagerollouts", &rollout("v2", &json!({}))).await.unwrap();
        world.until("devices are released", |world| world.entries().len() == 4).await;
        world.until("one is told", |world| world.offered("acme/web:v2") == 1).await;
        if paused {
            world.api.edit("imagerollouts", "web-v2", &json!({"spec": {"paused": true}})).await.unwrap();
        }
        world.api.delete("imagerollouts", "web-v2");
        world.until("it is gone", |world| world.api.names("imagerollouts").is_empty()).await;
        world.stays_settled(90 * MINUTE).await;
        let back = world.entries().iter().filter(|(.., back)| *back).count();
        let (v1, v2) = (world.running("acme/web:v1"), world.running("acme/web:v2"));
        // Paused: who doesn't run it yet is told to stay. Else the entries stand as they are.
        assert_eq!((back, v1, v2), if paused { (4 - v2, 8 - v2, v2) } else { (0, 4, 4) });
        assert_eq!(
            world.offered("acme/web:v2").saturating_sub(v2),
            usize::from(paused) * (world.offered("acme/web:v2") - v2)
        );
        world.check_never();
    }
}

#[tokio::test(start_paused = true)]
async fn a_device_that_succeeds_costs_two_writes() {
    let world = World::healthy(40).await;
    world.api.create("imageupdatepolicies", &policy(&json!({}))).await.unwrap();
    sleep(MINUTE).await;
    let begin = Instant::now();
    world.api.create("imagerollouts", &rollout("v2", &json!({}))).await.unwrap();
    world.until_phase("web-v2", "Completed").await;
    sleep(5 * MINUTE).await;
    let writes = world.writes_since(begin);
    for identity in &world.identities {
        let name = format!("/devices/{}", identity.uuid);
        let of = |suffix: &str| writes.iter().filter(|seen| seen.path.ends_with(&format!("{name}{suffix}"))).count();
        assert_eq!((of(""), of("/status")), (1, 1), "{}", identity.uuid);
    }
    // Figures wait for a second; what opens or shuts a gate doesn't.
    let gates = |status: &Value| {
        let batches = status["batches"].as_array().into_iter().flatten();
        let times: Vec<_> =
            batches.map(|batch| (batch["startTime"].clone(), batch["completionTime"].clone())).collect();
        (status["phase"].clone(), status["currentBatch"].clone(), times)
    };
    let figures: Vec<_> = writes.iter().filter(|seen| seen.is_of("imagerollouts/status")).collect();
    for pair in figures.windows(2) {
        let apart = pair[1].at - pair[0].at;
        let is_news = gates(&pair[0].body["status"]) != gates(&pair[1].body["status"]);
        assert!(is_news || apart >= Duration::from_secs(1), "figures written after {apart:?}");
    }
    let others: Vec<_> = writes
        .iter()
        .filter(|seen| !seen.is_of("devices") && !seen.is_of("imagerollouts") && !seen.is_of("events"))
        .map(|seen| (seen.at - begin, &seen.path))
        .collect();
    assert!(others.len() <= 3, "the policy's status: latest, active, active no more: {others:?}");
    world.check_events();
}

#[tokio::test(start_paused = true)]
async fn objects_that_cannot_be_read_hold_up_nothing_else() {
    let world = World::healthy(4).await;
    // As a newer version of the CRDs would allow them.
    let mut odd = policy(&json!({"strategy": {"type": "Canary"}}));
    odd["metadata"]["name"] = json!("odd");
    world.api.put("imageupdatepolicies", &odd);
    world.api.put("imagerollouts", &rollout("odd", &json!({"desiredState": "Parked"})));
    let mut senseless = policy(&json!({"image": {"pattern": "acme/[web"}}));
    senseless["metadata"]["name"] = json!("senseless");
    world.api.put("imageupdatepolicies", &senseless);
    world.api.put("devices", &json!({"metadata": {"name": "odd"}, "spec": {"hold": "perhaps"}}));
    world.api.put("devicepresences", &json!({"metadata": {"name": "presence-9-9"}, "spec": {"asOf": 7}}));

    world.api.create("imageupdatepolicies", &policy(&json!({}))).await.unwrap();
    world.api.create("imagerollouts", &rollout("v2", &json!({}))).await.unwrap();
    world.until_phase("web-v2", "Completed").await;
    assert_eq!(world.running("acme/web:v2"), 4);
    for (plural, name, reason) in [
        ("imageupdatepolicies", "odd", "Unreadable"),
        ("imagerollouts", "web-odd", "Unreadable"),
        ("imageupdatepolicies", "senseless", "Invalid"),
    ] {
        let conditions = world.api.get(plural, name).unwrap()["status"]["conditions"].clone();
        let ready = conditions.as_array().into_iter().flatten().find(|condition| condition["type"] == "Ready");
        let ready = ready.unwrap_or_else(|| panic!("{name} has no condition Ready: {conditions}"));
        assert_eq!((&ready["status"], &ready["reason"]), (&json!("False"), &json!(reason)), "{ready}");
    }
    world.stays_settled(30 * MINUTE).await;

    // Mended, they are as good as any other.
    let mended = json!({"spec": {"strategy": {"type": "Auto"}}});
    world.api.edit("imageupdatepolicies", "odd", &mended).await.unwrap();
    world.api.edit("imagerollouts", "web-odd", &json!({"spec": {"desiredState": "Active"}})).await.unwrap();
    // It is the older one.
    world.until_phase("web-odd", "Superseded").await;
    sleep(MINUTE).await;
    let ready = world.api.get("imageupdatepolicies", "odd").unwrap()["status"]["conditions"][0].clone();
    assert_eq!((&ready["type"], &ready["status"]), (&json!("Ready"), &json!("True")), "{ready}");
    world.stays_settled(30 * MINUTE).await;
}

#[tokio::test(start_paused = true)]
async fn trouble_with_the_api_server_delays_and_changes_nothing() {
    let world = World::healthy(8).await;
    world.api.create("imageupdatepolicies", &policy(&json!({"updateDeadline": "30m"}))).await.unwrap();
    // Every third request fails one way or another, half of them after they were carried out. Drawn, not counted: what
    // comes at regular times would meet the same fault for ever.
    let mut rng = rand::rngs::StdRng::seed_from_u64(7);
    world.api.set_hook(Some(Box::new(move |seen| match rng.random_range(0..12) {
        _ if seen.actor == "person" => None,
        0 => Some(Fault::Refuse(StatusCode::SERVICE_UNAVAILABLE)),
        1 => Some(Fault::Refuse(StatusCode::CONFLICT)),
        2 if seen.is_write() => Some(Fault::LieAfter(StatusCode::SERVICE_UNAVAILABLE)),
        3 if seen.is_write() => Some(Fault::LieAfter(StatusCode::GATEWAY_TIMEOUT)),
        _ => None,
    })));
    world.api.create("imagerollouts", &rollout("v2", &json!({}))).await.unwrap();
    for round in 0..600 {
        sleep(Duration::from_secs(1)).await;
        match round % 30 {
            7 => world.api.drop_watches(),
            17 => world.api.compact(),
            _ => {}
        }
    }
    world.until_phase("web-v2", "Completed").await;
    world.api.set_hook(None);
    assert_eq!(world.running("acme/web:v2"), 8);
    world.check_never();
    world.stays_settled(30 * MINUTE).await;
}

#[tokio::test(start_paused = true)]
async fn two_controllers_do_not_harm() {
    let world = World::healthy(10).await;
    world.api.create("imageupdatepolicies", &policy(&json!({}))).await.unwrap();
    let other = world.second_controller();
    world.api.create("imagerollouts", &rollout("v2", &json!({}))).await.unwrap();
    world.until_phase("web-v2", "Completed").await;
    assert_eq!(world.running("acme/web:v2"), 10);
    world.check_never();
    world.stays_settled(30 * MINUTE).await;
    other.abort();
    world.stop_controller().await;
}

#[tokio::test(start_paused = true)]
async fn a_device_deleted_while_it_is_released_does_not_come_back() {
    let world = World::healthy(4).await;
    world.api.create("imageupdatepolicies", &policy(&json!({}))).await.unwrap();
    let api = Arc::downgrade(&world.api);
    let mut deleted = false;
    world.api.set_hook(Some(Box::new(move |seen| {
        if seen.actor == "controller" && seen.is_write() && seen.is_of("devices") && !deleted {
            deleted = true;
            api.upgrade().unwrap().delete("devices", seen.path.rsplit('/').next().unwrap());
        }
        None
    })));
    world.api.create("imagerollouts", &rollout("v2", &json!({}))).await.unwrap();
    world.until_phase("web-v2", "Completed").await;
    assert_eq!(world.api.names("devices").len(), 3);
    world.check_never();
    world.stays_settled(30 * MINUTE).await;
}

#[tokio::test(start_paused = true)]
async fn two_policies_that_claim_one_device_are_told_so() {
    let world = World::healthy(4).await;
    let mut other = policy(&json!({}));
    other["metadata"]["name"] = json!("other");
    world.api.create("imageupdatepolicies", &other).await.unwrap();
    let mut first = rollout("v2", &json!({"policyRef": {"name": "other"}}));
    first["metadata"]["name"] = json!("other-v2");
    world.api.create("imagerollouts", &first).await.unwrap();
    world.until_phase("other-v2", "Completed").await;

    world.api.create("imageupdatepolicies", &policy(&json!({}))).await.unwrap();
    world.api.create("imagerollouts", &rollout("v3", &json!({}))).await.unwrap();
    sleep(10 * MINUTE).await;
    assert_eq!((world.running("acme/web:v2"), world.offered("acme/web:v3")), (4, 0));
    let conditions = world.status("web-v3")["conditions"].clone();
    assert!(conditions.to_string().contains("DevicesInConflict"), "{conditions}");
    world.check_never();
    world.stays_settled(30 * MINUTE).await;
}

#[tokio::test(start_paused = true)]
async fn devices_of_a_more_specific_policy_are_left_alone() {
    let world = World::healthy(4).await;
    let canary = world.api.names("devices").remove(0);
    let mut narrow = policy(&json!({}));
    narrow["metadata"]["name"] = json!("canary");
    narrow["spec"]["devices"] = json!({"names": [canary]});
    world.api.create("imageupdatepolicies", &narrow).await.unwrap();
    let broad = policy(&json!({"image": {"pattern": "acme/*", "offer": "Tag"}}));
    world.api.create("imageupdatepolicies", &broad).await.unwrap();
    world.api.create("imagerollouts", &rollout("v2", &json!({}))).await.unwrap();
    world.until_phase("web-v2", "Completed").await;
    assert_eq!(world.running("acme/web:v2"), 3);
    assert!(world.entries().iter().all(|(device, ..)| *device != canary), "nobody told the canary anything");
    let conditions = world.api.get("imageupdatepolicies", "web").unwrap()["status"]["conditions"].to_string();
    assert!(
        conditions.contains("Overlapped") && conditions.contains("1 of its devices belong to canary"),
        "{conditions}"
    );
    world.check_never();
    world.stays_settled(30 * MINUTE).await;
}

#[tokio::test(start_paused = true)]
async fn a_policy_that_is_renamed_takes_its_devices_along() {
    let world = World::healthy(4).await;
    world.api.create("imageupdatepolicies", &policy(&json!({}))).await.unwrap();
    world.api.create("imagerollouts", &rollout("v2", &json!({}))).await.unwrap();
    world.until_phase("web-v2", "Completed").await;

    let mut renamed = policy(&json!({}));
    renamed["metadata"]["name"] = json!("renamed");
    world.api.create("imageupdatepolicies", &renamed).await.unwrap();
    let mut next = rollout("v3", &json!({"policyRef": {"name": "renamed"}}));
    next["metadata"]["name"] = json!("renamed-v3");
    world.api.create("imagerollouts", &next).await.unwrap();
    sleep(5 * MINUTE).await;
    assert_eq!(world.offered("acme/web:v3"), 0, "the old one may be in use");

    world.api.delete("imageupdatepolicies", "web");
    // The garbage collector's part.
    world.api.delete("imagerollouts", "web-v2");
    world.until_phase("renamed-v3", "Completed").await;
    assert_eq!(world.running("acme/web:v3"), 4);
    world.check_never();
    world.stays_settled(30 * MINUTE).await;
}

#[tokio::test(start_paused = true)]
async fn a_newer_image_takes_over_half_way() {
    let world = World::healthy(8).await;
    let strategy = json!({"type": "Staged", "batches": [{"size": "50%"}, {"size": "100%"}], "batchDelay": "1h"});
    world.api.create("imageupdatepolicies", &policy(&json!({"strategy": strategy}))).await.unwrap();
    world.api.create("imagerollouts", &rollout("v2", &json!({}))).await.unwrap();
    world.until("two devices run it", |world| world.running("acme/web:v2") == 2).await;
    world.api.create("imagerollouts", &rollout("v3", &json!({}))).await.unwrap();
    world.until_phase("web-v2", "Superseded").await;
    world.until_phase("web-v3", "Completed").await;
    assert_eq!(world.running("acme/web:v3"), 8);
    assert!(world.offered("acme/web:v2") <= 4);
    world.check_never();
    world.check_events();
    world.stays_settled(30 * MINUTE).await;
}

#[tokio::test(start_paused = true)]
async fn who_was_away_is_not_waited_for_and_catches_up() {
    let mut personalities = vec![Personality::Healthy; 6];
    personalities[2] = Personality::Dead;
    let mut world = World::new(&personalities).await;
    let held = world.identities[4].uuid.to_string();
    world.api.edit("devices", &held, &json!({"spec": {"hold": true}})).await.unwrap();
    world.api.create("imageupdatepolicies", &policy(&json!({}))).await.unwrap();
    world.api.create("imagerollouts", &rollout("v2", &json!({}))).await.unwrap();
    world.until_phase("web-v2", "Completed").await;
    assert_eq!(world.status("web-v2")["totals"]["deferred"], 2);
    assert_eq!(world.running("acme/web:v2"), 4);
    world.stays_settled(30 * MINUTE).await;

    world.api.edit("devices", &held, &json!({"spec": {"hold": false}})).await.unwrap();
    world.wake_up(2);
    world.until("all run it", |world| world.running("acme/web:v2") == 6).await;
    assert_eq!(world.phase("web-v2"), "Completed");
    world.check_never();
    world.check_events();
    world.stays_settled(30 * MINUTE).await;
}

#[tokio::test(start_paused = true)]
async fn gateways_come_and_go() {
    let mut world = World::healthy(6).await;
    let strategy = json!({"type": "Auto", "maxConcurrent": 2});
    world.api.create("imageupdatepolicies", &policy(&json!({"strategy": strategy}))).await.unwrap();
    world.api.create("imagerollouts", &rollout("v2", &json!({}))).await.unwrap();
    for _ in 0..20 {
        sleep(Duration::from_secs(7)).await;
        world.restart_gateway();
    }
    world.until_phase("web-v2", "Completed").await;
    assert_eq!(world.running("acme/web:v2"), 6);
    world.check_never();
    world.check_events();
}
