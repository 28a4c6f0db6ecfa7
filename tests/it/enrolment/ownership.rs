//! Whose UUID it is, and what proves it.

use serde_json::json;
use tranche::enrol::{hash, terms};

use super::agent::{Agent, GENERATIONS, Generation, Place};

#[tokio::test(flavor = "multi_thread")]
async fn a_uuid_is_given_to_nobody_else() {
    let place = Place::new("enrol-taken").await;
    let (url, key) = (&place.tranche.url, place.key("plant-a", &[]).await);
    for generation in GENERATIONS {
        let agent = Agent::new(generation);
        agent.enrol(url, &key).await;
        let before = place.devices.get(&agent.uuid).await.unwrap();
        let thief = agent.reborn();
        let taken = thief.register(url, &key).await;
        assert_eq!((taken.status.as_u16(), &taken.body["error"]), (409, &json!("Already registered")));
        assert_eq!(thief.exchange(url, "any").await.status, 401);
        // In other letters, it is the same UUID.
        let loud = Agent { uuid: agent.uuid.to_uppercase(), ..thief.reborn() };
        assert_eq!(loud.register(url, &key).await.status, 409);
        let after = place.devices.get(&agent.uuid).await.unwrap();
        assert_eq!(before.metadata.resource_version, after.metadata.resource_version, "nothing was written");

        // A person's release is good for one.
        let release = place.release(&agent.uuid).await;
        assert_eq!(agent.poll_by_key(url, &agent.key).await.status, 200, "it goes on until then");
        thief.enrol(url, &key).await;
        agent.until_answered(url, &agent.key, 401).await;
        assert_eq!(agent.register(url, &key).await.status, 409, "the release is used up");
        // And stays so when it is declared once more, as Git does.
        place.edit(&agent.uuid, json!({ "reenrol": null })).await;
        place.edit(&agent.uuid, json!({ "reenrol": release })).await;
        assert_eq!(agent.register(url, &key).await.status, 409, "it is the same release");
        assert!(place.auth(&agent.uuid).await.previous_key_hash.is_none());

        // Revoked is revoked, whatever else is said.
        place.release(&agent.uuid).await;
        place.edit(&agent.uuid, json!({ "revoked": true })).await;
        assert_eq!(agent.register(url, &key).await.status, 409);
        assert_eq!(thief.register(url, &key).await.status, 409);
    }
    assert_eq!(place.enrolled("plant-a").await, 3, "who takes a place over takes no other");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_device_runs_is_not_touched_by_its_return() {
    let place = Place::new("enrol-return").await;
    let url = &place.tranche.url;
    let key = place.key("plant-a", &[(terms::APPS, r#"{"1": {"services": []}}"#)]).await;
    let agent = Agent::new(Generation::Third);
    agent.enrol(url, &key).await;
    let body = json!({ "spec": { "apps": { "2": { "services": [] } } }, "metadata": { "labels": {
        "tranche.dev/fleet": "plant-b",
    } } });
    let patch = kube::api::Patch::Merge(body);
    place.devices.patch(&agent.uuid, &Default::default(), &patch).await.unwrap();
    place.release(&agent.uuid).await;
    let before = place.devices.get(&agent.uuid).await.unwrap();
    // It is of another fleet by now, and who has the key by which it came in has no part of that one.
    let next = agent.reborn();
    assert_eq!(next.register(url, &key).await.status, 409);
    let key = place.key("plant-b", &[(terms::FLEET, "plant-b")]).await;
    next.enrol(url, &key).await;
    let after = place.devices.get(&agent.uuid).await.unwrap();
    assert_eq!((before.spec.apps, before.metadata.labels), (after.spec.apps, after.metadata.labels));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_repeats_itself() {
    let place = Place::new("enrol-again").await;
    let (url, key) = (&place.tranche.url, place.key("plant-a", &[(terms::MAX_DEVICES, "1")]).await);
    let agent = Agent::new(Generation::Third);
    // The answers were lost: the same again, though the key has no place left.
    let first = agent.register(url, &key).await;
    let second = agent.register(url, &key).await;
    assert_eq!(second.status, 200, "{}", second.body);
    for field in ["id", "uuid", "tenantId", "name", "createdAt"] {
        assert_eq!(first.body[field], second.body[field], "{field}");
    }
    let (old, new) = (first.body["challenge"].as_str().unwrap(), second.body["challenge"].as_str().unwrap());
    assert_ne!(old, new);
    assert_eq!(agent.exchange(url, old).await.status, 401, "only the last one counts");
    assert_eq!(agent.exchange(url, new).await.status, 200);
    let done = place.devices.get(&agent.uuid).await.unwrap().metadata.resource_version;
    assert_eq!(agent.exchange(url, new).await.status, 200, "its answer was lost");
    assert_eq!(agent.exchange(url, "another").await.status, 401);
    assert_eq!(place.devices.get(&agent.uuid).await.unwrap().metadata.resource_version, done, "a challenge opens once");

    // Telling the key again doesn't hold the device up.
    assert_eq!(agent.register(url, &key).await.status, 200);
    assert_eq!(agent.poll(url).await.status, 200);
    assert_eq!(place.enrolled("plant-a").await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_proofs() {
    let place = Place::new("enrol-proofs").await;
    let (url, key) = (&place.tranche.url, place.key("plant-a", &[]).await);
    let (agent, other) = (Agent::new(Generation::Third), Agent::new(Generation::Third));
    let registered = agent.register(url, &key).await;
    let challenge = registered.body["challenge"].as_str().unwrap();
    other.enrol(url, &key).await;
    let mine = [("x-agent-key", agent.key.as_str())];
    let signed = |signature: String| json!({ "uuid": agent.uuid, "signature": signature });
    for (what, headers, body) in [
        ("another's signature", mine, signed(other.sign(challenge))),
        ("a signature over something else", mine, signed(agent.sign("something else"))),
        ("no signature at all", mine, json!({ "uuid": agent.uuid, "deviceApiKey": agent.key })),
        ("another's key", [("x-agent-key", other.key.as_str())], signed(agent.sign(challenge))),
        ("another's UUID in the body", mine, json!({ "uuid": other.uuid, "signature": agent.sign(challenge) })),
    ] {
        let answer = agent.post(url, "key-exchange", &headers, &body).await;
        assert_eq!((answer.status.as_u16(), &answer.body["error"]), (401, &json!("Unauthorized")), "{what}");
    }
    assert_eq!(agent.post(url, "key-exchange", &mine, &json!({ "uuid": agent.uuid })).await.status, 400);
    // One that nobody knows looks the same.
    let nobody = Agent::new(Generation::Third);
    let unknown = nobody.exchange(url, challenge).await;
    assert_eq!((unknown.status.as_u16(), &unknown.body["error"]), (401, &json!("Unauthorized")));
    agent.until_answered(url, &agent.key, 403).await;

    // Once the challenge's time is over there is another one for the asking; not before.
    assert_eq!(agent.post(url, "challenge", &mine, &json!({})).await.status, 409);
    assert_eq!(agent.post(url, "challenge", &[("x-agent-key", "wrong")], &json!({})).await.status, 401);
    place.edit(&agent.uuid, json!({ "enrolment": { "expires": "2026-01-01T00:00:00Z" } })).await;
    assert_eq!(agent.exchange(url, challenge).await.status, 401, "its time is over");
    let another = agent.post(url, "challenge", &mine, &json!({})).await;
    assert_eq!(another.status, 200, "{}", another.body);
    assert_eq!(agent.exchange(url, another.body["challenge"].as_str().unwrap()).await.status, 200);
    assert_eq!(agent.post(url, "challenge", &mine, &json!({})).await.status, 409);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_sees_its_own_state_alone() {
    let place = Place::new("enrol-own").await;
    let (url, key) = (&place.tranche.url, place.key("plant-a", &[]).await);
    let (a, b) = (Agent::new(Generation::Third), Agent::new(Generation::Second));
    a.enrol(url, &key).await;
    b.enrol(url, &key).await;
    assert_eq!(a.poll_by_key(url, &b.key).await.status, 401);
    assert_eq!(a.rotate(url, &b.key, &"n".repeat(64)).await.status, 401);
    assert_eq!(b.rotate(url, &b.key, &a.key).await.status, 409, "a key is one device's");
    let mut report = a.report(url).await;
    assert_eq!(report.status, 200);
    let forged = Agent { uuid: b.uuid.clone(), key: a.key.clone(), ..a.reborn() };
    report = forged.report(url).await;
    assert_eq!(report.status, 403, "{}", report.body);
    // Nor does one come in with a key that is another's already.
    let copy = Agent { key: a.key.clone(), ..Agent::new(Generation::Second) };
    assert_eq!(copy.register(url, &key).await.status, 409);
    assert_eq!(place.auth(&a.uuid).await.key_hash, Some(hash::written(&hash::of(&a.key))));
}
