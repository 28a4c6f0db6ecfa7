//! Each generation of agents enrols, is told, reports, changes its key, and is revoked.

use serde_json::{Value, json};
use tranche::enrol::{hash, terms};

use super::agent::{Agent, GENERATIONS, Generation, Place};
use crate::support::process::Tranche;

const APPS: &str = r#"{"1001": {"appName": "web", "services": [
    {"serviceId": 1, "serviceName": "web", "imageName": "acme/web:v1"}]}}"#;

#[tokio::test(flavor = "multi_thread")]
async fn each_generation_enrols_and_lives_on() {
    let place = Place::new("enrol-generations").await;
    let terms = [
        (terms::FLEET, "plant-a"),
        (terms::LABELS, r#"{"region": "eu"}"#),
        (terms::APPS, APPS),
        (terms::MAX_DEVICES, "3"),
    ];
    let key = place.key("plant-a", &terms).await;
    // Another replica, which knows nothing but what is in the cluster.
    let other = Tranche::start(&place.settings).await;
    let mut secrets = vec![key.clone()];
    for generation in GENERATIONS {
        let agent = Agent::new(generation);
        let url = &place.tranche.url;
        let registered = agent.register(url, &key).await;
        assert_eq!(registered.status, 200, "{generation:?}: {}", registered.body);
        check_registered(&registered.body, &agent, &place.namespace);

        // Known, and told nothing yet.
        agent.until_answered(url, &agent.key, 403).await;
        let report = agent.report(url).await;
        assert_eq!((report.status.as_u16(), &report.body["error"]), (403, &json!("Registration incomplete")));

        // The other replica completes what this one began.
        let exchanged = agent.exchange(&other.url, registered.body["challenge"].as_str().unwrap()).await;
        assert_eq!(exchanged.status, 200, "{generation:?}: {}", exchanged.body);
        assert_eq!(exchanged.body["status"], "ok");
        assert_eq!(
            exchanged.body["device"],
            json!({
                "id": registered.body["id"], "uuid": agent.uuid, "deviceName": "line-3",
            })
        );
        // And knows the device at once.
        let polled = agent.poll_by_key(&other.url, &agent.key).await;
        assert_eq!(polled.status, 200, "{}", polled.body);
        agent.until_answered(url, &agent.key, 200).await;

        let polled = agent.poll(url).await;
        if generation == Generation::First {
            assert_eq!(polled.status, 401, "it says nothing of who it is");
        } else {
            let told = &polled.body[&agent.uuid];
            assert_eq!(told["apps"]["1001"]["services"][0]["imageName"], "acme/web:v1", "{told}");
        }
        assert_eq!(agent.report(url).await.status, 200);

        let device = place.devices.get(&agent.uuid).await.expect("the device");
        let labels = device.metadata.labels.unwrap_or_default();
        assert_eq!((labels["tranche.dev/fleet"].as_str(), labels["region"].as_str()), ("plant-a", "eu"));
        assert_eq!(labels["tranche.dev/provisioning-key"], "plant-a");
        assert_eq!(device.status.expect("a report").agent_version.as_deref(), Some("1.0.547"));

        let next = rotates(&place, &agent).await;
        place.edit(&agent.uuid, json!({ "revoked": true })).await;
        agent.until_answered(url, &next, 401).await;
        let refused = agent.poll_with(url, &[("authorization", &format!("Bearer {next}"))]).await;
        assert_eq!(refused.status, 401);
        place.edit(&agent.uuid, json!({ "revoked": null })).await;
        agent.until_answered(url, &next, 200).await;
        place.devices.delete(&agent.uuid, &Default::default()).await.expect("deleted");
        agent.until_answered(url, &next, 401).await;
        secrets.extend([agent.key.clone(), next]);
    }
    assert_eq!(place.enrolled("plant-a").await, 3);
    for log in [place.tranche.log(), other.log()] {
        for secret in &secrets {
            // Not even its secret part alone.
            let part = secret.rsplit('_').next().unwrap();
            assert!(!log.contains(part), "a key is in the log");
        }
    }
    assert!(place.tranche.log().contains("a device has registered"));
}

fn check_registered(body: &Value, agent: &Agent, namespace: &str) {
    for (field, expected) in [
        ("uuid", json!(agent.uuid)),
        ("deviceName", json!("line-3")),
        ("name", json!("line-3")),
        ("deviceType", json!("raspberry-pi")),
        ("type", json!("raspberry-pi")),
        ("fleetId", json!("plant-a")),
        ("tenantId", json!(namespace)),
    ] {
        assert_eq!(body[field], expected, "{field}");
    }
    assert!(body["id"].as_u64().is_some_and(|id| (1..=u64::from(i32::MAX.unsigned_abs())).contains(&id)), "{body}");
    assert!(body["challenge"].as_str().is_some_and(|challenge| challenge.len() == 43), "{body}");
    assert!(body["mqtt"].is_object() && body["mqtt"].get("brokerConfig").is_none(), "{body}");
    assert!(body["createdAt"].is_string(), "{body}");
    match agent.generation {
        Generation::First | Generation::Second => assert_eq!(body["applicationId"], 7),
        Generation::Third => assert!(body.get("applicationId").is_none()),
    }
    assert!(!body.to_string().contains(&agent.key), "the key is not sent back");
}

/// Changes the key; the one before counts until the overlap is over. Answers with the new one.
async fn rotates(place: &Place, agent: &Agent) -> String {
    let url = &place.tranche.url;
    let next = hash::hex(&hash::of(&agent.key));
    if agent.generation == Generation::Third {
        let bare = Agent { generation: Generation::Second, uuid: agent.uuid.clone(), ..Agent::new(Generation::Second) };
        let unsigned = bare.rotate(url, &agent.key, &next).await;
        assert_eq!(unsigned.status, 401, "its key alone, which was sent in the clear");
        let forged = Agent { generation: Generation::Third, ..bare };
        assert_eq!(forged.rotate(url, &agent.key, &next).await.status, 401, "signed by another");
    }
    let rotated = agent.rotate(url, &agent.key, &next).await;
    assert_eq!(rotated.status, 200, "{}", rotated.body);
    assert!(rotated.body["previousKeyExpiresAt"].is_string(), "{}", rotated.body);
    assert_eq!(agent.poll_by_key(url, &next).await.status, 200, "at once");
    assert_eq!(agent.poll_by_key(url, &agent.key).await.status, 200, "during the overlap");
    assert_eq!(agent.rotate(url, &agent.key, &next).await.status, 200, "its answer was lost");
    assert_eq!(agent.rotate(url, &agent.key, &"x".repeat(64)).await.status, 401, "an old key rotates nothing");
    assert_eq!(agent.rotate(url, &next, &agent.key).await.status, 409, "back to a key that it had");
    assert_eq!(agent.rotate(url, &next, "short").await.status, 400);
    // An hour later.
    place.edit(&agent.uuid, json!({ "previousKeyExpires": "2026-01-01T00:00:00Z" })).await;
    agent.until_answered(url, &agent.key, 401).await;
    assert_eq!(agent.poll_by_key(url, &next).await.status, 200);
    assert_eq!(agent.rotate(url, &agent.key, &next).await.status, 401, "too late for it");
    next
}

#[tokio::test(flavor = "multi_thread")]
async fn what_agents_send_besides_is_taken_in() {
    let place = Place::new("enrol-besides").await;
    let key = place.key("plant-a", &[]).await;
    let (agent, stranger) = (Agent::new(Generation::Third), Agent::new(Generation::Third));
    let url = &place.tranche.url;
    agent.enrol(url, &key).await;
    let mine = [("X-Device-API-Key", agent.key.as_str()), ("X-Batch-Id", "batch-1")];
    let line = json!({ "timestamp": 1, "level": "info", "message": "hello" });
    let logs = agent.post(url, "logs", &mine, &line).await;
    assert_eq!(logs.status, 200);
    assert_eq!(logs.body, json!({ "status": "ok", "received": 1, "accepted": true, "batchId": "batch-1" }));
    assert_eq!(agent.post(url, "metrics", &mine, &json!({ "cpu": 1 })).await.status, 204);
    for what in ["logs", "metrics"] {
        assert_eq!(agent.post(url, what, &[], &line).await.status, 401);
        assert_eq!(stranger.post(url, what, &mine, &line).await.status, 401, "under another's path");
    }
    let health = reqwest::get(format!("{url}/health")).await.unwrap();
    assert_eq!((health.status().as_u16(), health.text().await.unwrap().as_str()), (200, r#"{"status":"ok"}"#));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_without_enrolment_has_no_such_routes() {
    let place = Place::with("enrol-off", &["--no-enrolment"]).await;
    let key = place.key("plant-a", &[]).await;
    let agent = Agent::new(Generation::Third);
    for answer in [agent.register(&place.tranche.url, &key).await, agent.rotate(&place.tranche.url, "a", "b").await] {
        assert_eq!(answer.status, 404, "{}", answer.body);
    }
}
