//! Garbage is answered 4xx, and a gateway that can't do what is asked says so.

use reqwest::Method;
use serde_json::json;

use super::agent::{Agent, Generation, Place};

/// Bytes that are made up, the same each time.
fn garbage(seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let length = seed % 300;
    (0..length)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()[0]
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_is_never_an_error_of_ours() {
    let place = Place::new("enrol-garbage").await;
    let (url, key) = (&place.tranche.url, place.key("plant-a", &[]).await);
    let agent = Agent::new(Generation::Third);
    agent.enrol(url, &key).await;
    let http = reqwest::Client::new();
    let device = format!("/api/v1/device/{}", agent.uuid);
    let paths = [
        "/api/v1/device/register".to_owned(),
        "/api/v1/agent/register".to_owned(),
        format!("{device}/key-exchange"),
        format!("{device}/rotate-key"),
    ];
    let mut bodies: Vec<Vec<u8>> = (0..40).map(garbage).collect();
    let deep = format!("{}{}", "[".repeat(5000), "]".repeat(5000));
    for text in ["{}", "[]", "null", "\"\"", "{\"uuid\":{}}", "{\"uuid\":\"\u{0}\"}", &deep] {
        bodies.push(text.as_bytes().to_vec());
    }
    let valid =
        json!({ "uuid": agent.uuid, "deviceApiKey": "k".repeat(64), "signature": "AAAA", "newKey": "n" }).to_string();
    bodies.extend((0..valid.len()).step_by(7).map(|end| valid.as_bytes()[..end].to_vec()));
    for path in &paths {
        for (index, body) in bodies.iter().enumerate() {
            let mut request = http.post(format!("{url}{path}")).header("x-provisioning-key", &key).body(body.clone());
            request = request.header("x-device-api-key", &agent.key).header("x-agent-key", &agent.key);
            if index % 5 == 0 {
                request = request.header("content-encoding", "gzip");
            }
            let status = request.send().await.expect("an answer").status();
            assert!(status.is_client_error(), "{path}: {status}: {}", String::from_utf8_lossy(body));
        }
        let large = http.post(format!("{url}{path}")).header("x-provisioning-key", &key).body(vec![b' '; 17 << 10]);
        let large = large.header("x-device-api-key", &agent.key).header("x-agent-key", &agent.key);
        assert_eq!(large.send().await.expect("an answer").status(), 413, "{path}");
        let wrong = http.request(Method::DELETE, format!("{url}{path}")).send().await.expect("an answer");
        assert_eq!(wrong.status(), 405, "{path}");
    }
    for uuid in ["%00", "..%2f..%2fsecrets", &"x".repeat(300), "7f0c0000-0000-4000-8000-00000000000"] {
        let request = http.post(format!("{url}/api/v1/device/{uuid}/key-exchange")).header("x-agent-key", &agent.key);
        let status = request.body("{}").send().await.expect("an answer").status();
        assert!(status.is_client_error(), "{uuid}: {status}");
    }
    // It goes on, and everybody else with it.
    assert_eq!(agent.poll(url).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_rights_it_says_so_and_asks_to_come_again() {
    let place = Place::new("enrol-rights").await;
    let (url, key) = (&place.tranche.url, place.key("plant-a", &[]).await);
    let roles: kube::Api<k8s_openapi::api::rbac::v1::Role> =
        kube::Api::namespaced(place.client.clone(), &place.namespace);
    for role in roles.list(&Default::default()).await.unwrap() {
        roles.delete(role.metadata.name.as_deref().unwrap(), &Default::default()).await.unwrap();
    }
    let agent = Agent::new(Generation::Third);
    crate::support::wait::until("the rights to be gone", async || {
        let answer = agent.reborn().register(url, &key).await;
        if answer.status != 503 {
            return Err(format!("{}: {}", answer.status, answer.body));
        }
        assert_eq!(answer.headers["retry-after"], "5");
        Ok(())
    })
    .await;
    crate::support::wait::until("the log to say so", async || {
        let log = place.tranche.log();
        if log.contains("lacks the rights that enrolment needs") { Ok(()) } else { Err(log) }
    })
    .await;
}
