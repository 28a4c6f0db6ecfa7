//! What a provisioning key is good for, and where it ends.

use futures::future::join_all;
use reqwest::Method;
use serde_json::json;
use tranche::enrol::terms;

use super::agent::{Agent, Generation, Place};
use crate::support::controlplane::ControlPlane;
use crate::support::process::Tranche;
use crate::support::shell::Shell;
use crate::support::wait::until;

#[tokio::test(flavor = "multi_thread")]
async fn keys_that_open_nothing_look_the_same() {
    let place = Place::new("enrol-keys").await;
    let url = &place.tranche.url;
    let good = place.key("good", &[]).await;
    let expired = place.key("expired", &[(terms::EXPIRES, "2026-01-01T00:00:00Z")]).await;
    let revoked = place.key("revoked", &[(terms::REVOKED, "true")]).await;
    let full = place.key("full", &[(terms::MAX_DEVICES, "0")]).await;
    let unreadable = place.key("unreadable", &[(terms::APPS, "none")]).await;
    let wrong = good.replace("good_", "expired_");
    let other_type = place.key("typed", &[]).await;
    place.secrets.delete("typed", &Default::default()).await.unwrap();
    let opaque = json!({ "metadata": { "name": "typed" }, "stringData": { "keyHash": "sha256:" } });
    place.secrets.create(&Default::default(), &serde_json::from_value(opaque).unwrap()).await.unwrap();
    let unknown = good.replace("good_", "unknown_");
    let agent = Agent::new(Generation::Third);
    let mut answers = Vec::new();
    for key in [&expired, &revoked, &full, &unreadable, &wrong, &other_type, &unknown, &"tpk_x".to_owned()] {
        let answer = agent.register(url, key).await;
        assert_eq!(answer.status, 401, "{}", answer.body);
        answers.push(answer.body);
    }
    answers.dedup();
    assert_eq!(answers.len(), 1, "a stranger could tell them apart: {answers:#?}");
    assert!(place.devices.list(&Default::default()).await.unwrap().items.is_empty());
    for why in
        ["the key has expired", "the key is revoked", "maxDevices", "apps of the Secret", "not the one whose hash"]
    {
        until("the log to say why", async || {
            let log = place.tranche.log();
            if log.contains(why) { Ok(()) } else { Err(format!("no {why:?} in\n{log}")) }
        })
        .await;
    }
    agent.enrol(url, &good).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_place_is_taken_once() {
    let place = Place::new("enrol-race").await;
    let key = place.key("plant-a", &[(terms::MAX_DEVICES, "5")]).await;
    let other = Tranche::start(&place.settings).await;
    let agents: Vec<Agent> = (0..20).map(|_| Agent::new(Generation::Third)).collect();
    let urls = [&place.tranche.url, &other.url];
    let registrations = agents.iter().enumerate().map(|(index, agent)| agent.register(urls[index % 2], &key));
    let statuses: Vec<u16> = join_all(registrations).await.iter().map(|answer| answer.status.as_u16()).collect();
    let of = |status: u16| statuses.iter().filter(|seen| **seen == status).count();
    assert_eq!((of(200), of(401)), (5, 15), "{statuses:?}");
    assert_eq!(place.devices.list(&Default::default()).await.unwrap().items.len(), 5);
    assert_eq!(place.enrolled("plant-a").await, 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_device_at_two_replicas_at_once_is_one_device() {
    let place = Place::new("enrol-twice").await;
    let key = place.key("plant-a", &[(terms::MAX_DEVICES, "3")]).await;
    let other = Tranche::start(&place.settings).await;
    let agent = Agent::new(Generation::Third);
    let urls = [&place.tranche.url, &other.url, &place.tranche.url, &other.url];
    for answer in join_all(urls.map(|url| agent.register(url, &key))).await {
        assert_eq!(answer.status, 200, "{}", answer.body);
    }
    assert_eq!(place.devices.list(&Default::default()).await.unwrap().items.len(), 1);
    assert_eq!(place.enrolled("plant-a").await, 1, "what was taken too much was given back");
    let last = agent.register(&other.url, &key).await;
    assert_eq!(agent.exchange(&other.url, last.body["challenge"].as_str().unwrap()).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_guesses_has_to_wait_and_the_factory_behind_the_same_address_goes_on() {
    let place = Place::new("enrol-guess").await;
    let url = &place.tranche.url;
    let good = place.key("good", &[]).await;
    Agent::new(Generation::Third).enrol(url, &good).await;
    let guesser = Agent::new(Generation::Third);
    let mut last = None;
    for _ in 0..40 {
        let answer = guesser.register(url, "tpk_guess").await;
        let status = answer.status.as_u16();
        last = Some(answer);
        if status == 429 {
            break;
        }
        assert_eq!(status, 401);
    }
    let last = last.unwrap();
    assert_eq!(last.status, 429, "{}", last.body);
    assert!(last.headers["retry-after"].to_str().unwrap().parse::<u64>().unwrap() >= 1);
    // One that has proven itself here goes on.
    for _ in 0..10 {
        Agent::new(Generation::Third).enrol(url, &good).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_that_nobody_has_named_is_noticed_once() {
    let place = Place::new("enrol-proxy").await;
    let agent = Agent::new(Generation::Third);
    for _ in 0..3 {
        let behind = [("x-forwarded-for", "203.0.113.5")];
        let answer = agent.send(&place.tranche.url, Method::POST, "/api/v1/agent/register", &behind, None).await;
        assert_eq!(answer.status, 401);
    }
    until("the log to say so", async || {
        let log = place.tranche.log();
        if log.contains("--trusted-proxies") { Ok(()) } else { Err(log) }
    })
    .await;
    assert_eq!(place.tranche.log().matches("--trusted-proxies").count(), 1, "once");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_whose_devices_would_be_refused_is_not_made() {
    let plane = ControlPlane::shared();
    let namespace = plane.namespace("enrol-unfit").await;
    let home = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let script = r#"
        echo '{"1": {"services": "none"}}' > "$HOME/apps.json"
        tranche enrol create unfit --apps "$HOME/apps.json" && echo "made"
        tranche enrol create unfit --fleet "Plant A" && echo "made"
        tranche enrol create plain > "$HOME/plain.key"
        echo "of $(kubectl get secret plain -o jsonpath={.data.maxDevices} | base64 -d) devices"
        kubectl get secrets -o name
    "#;
    let output = Shell::new(plane, &namespace).run(script, 60, &[("HOME", home.path().to_str().unwrap())]);
    let (said, error) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(error.contains("no device could enrol with this key") && error.contains("spec.apps"), "{error}");
    assert!(error.contains("can't be a label's value"), "{error}");
    assert_eq!(said, "of 100 devices\nsecret/plain\n", "{error}");
}
