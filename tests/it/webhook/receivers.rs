//! Receivers: the real binary, RegistryWebhooks and Secrets in a real API server.

use http::StatusCode;
use serde_json::{Value, json};
use tranche::registry::signature::{Secret, sign};

use super::gate::{Answer, Gate, reason};
use super::{DOCKER_HUB, GITHUB, docker_hub};
use crate::support::controlplane::{Component, ControlPlane};
use crate::support::wait::until;

const OLD: &str = "the-old-token-of-these-tests-0123456789";
const NEW: &str = "the-new-token-of-these-tests-0123456789";

fn spec(type_: &str) -> Value {
    json!({ "type": type_, "secretRef": { "name": "hook" } })
}

fn signed(token: &str, body: &str) -> String {
    sign(&Secret::new(token).expect("a secret"), body.as_bytes())
}

#[track_caller]
fn assert_ignored(answer: &Answer, reason: &str) {
    assert_eq!((answer.status, answer.body["reason"].as_str()), (StatusCode::OK, Some(reason)), "{answer:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn from_nothing_to_a_rollout() {
    let gate = Gate::open("hook-life").await;
    gate.policy("myapp", "iotistic/myapp:*", &json!({})).await;
    gate.webhook("hub", &spec("DockerHub")).await;
    let status = gate.status("hub", "SecretMissing", |status| reason(status) == "SecretMissing").await;
    assert_eq!(status["conditions"][0]["status"], "False");
    let told = status["conditions"][0]["message"].as_str().expect("a message");
    assert!(told.contains("kubectl create secret generic hook --from-literal=token="), "{told}");
    assert!(status.get("path").is_none(), "{status}");

    gate.secret("hook", &[("password", OLD)]).await;
    gate.status("hub", "SecretKeyMissing", |status| reason(status) == "SecretKeyMissing").await;
    gate.secret("hook", &[("token", "short")]).await;
    gate.status("hub", "SecretTooShort", |status| reason(status) == "SecretTooShort").await;
    gate.secret("hook", &[("token", OLD)]).await;
    let path = gate.ready("hub").await;
    let expected = Secret::new(OLD).expect("a secret").path_token(&gate.namespace, "hub");
    assert_eq!(path, format!("/hooks/{expected}"));

    let test = format!("{}/api/v1/webhooks/docker-registry/test", gate.tranche.url);
    let standing: Value = reqwest::get(test).await.expect("an answer").json().await.expect("JSON");
    assert_eq!(standing["receivers"], json!({ "ready": 1, "all": 1 }));
    assert!(!standing.to_string().contains(&expected));

    let answer = gate.post(&path, &[], DOCKER_HUB).await;
    assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
    let [rollout] = &gate.rollouts().await[..] else { panic!("one rollout") };
    let trigger = rollout.spec.trigger.as_ref().expect("a trigger");
    assert_eq!(trigger.receiver.as_deref(), Some("hub"));
    // A wrong path looks the same, whether or not there was once something.
    for other in ["/hooks/none", &path[..path.len() - 1], &format!("/hooks/{}", "0".repeat(64))] {
        let answer = gate.post(other, &[], DOCKER_HUB).await;
        assert_eq!(answer.status, StatusCode::NOT_FOUND, "{answer:?}");
        assert_eq!(answer.body["type"], "https://tranche.dev/problems/webhook-unknown");
    }
    assert_ignored(&gate.post(&path, &[], &docker_hub("iotistic/other", "v1")).await, "NoPolicyMatches");
    assert_eq!(gate.post(&path, &[], "garbage").await.status, StatusCode::BAD_REQUEST);
    assert_eq!(gate.post(&path, &[("x-hub-signature-256", "sha256=00")], DOCKER_HUB).await.status, 401);
    let status = gate.status("hub", "the counts", |status| status["accepted"] == 1).await;
    assert_eq!((&status["ignored"], &status["rejected"]), (&json!(1), &json!(2)), "{status}");
    let last = status["lastDelivery"]["message"].as_str().expect("a message");
    assert!(last.contains("can't be read as a JSON object"), "{last}");

    assert!(!gate.tranche.log().contains(&expected), "no path in the log");
}

#[tokio::test(flavor = "multi_thread")]
async fn suspended_and_gone() {
    let gate = Gate::open("hook-end").await;
    gate.policy("myapp", "iotistic/myapp:*", &json!({})).await;
    gate.secret("hook", &[("token", OLD)]).await;
    let mut suspended = spec("DockerHub");
    suspended["suspend"] = json!(true);
    gate.webhook("hub", &suspended).await;
    let status = gate.status("hub", "Suspended", |status| reason(status) == "Suspended").await;
    assert_eq!(status["conditions"][0]["status"], "True");
    let path = status["path"].as_str().expect("a path").to_owned();
    assert_ignored(&gate.post(&path, &[], DOCKER_HUB).await, "ReceiverSuspended");
    assert!(gate.rollouts().await.is_empty());

    gate.webhook("hub", &spec("DockerHub")).await;
    gate.ready("hub").await;
    assert_eq!(gate.post(&path, &[], DOCKER_HUB).await.body["rollouts"][0]["created"], true);

    // A spec that names another Secret is followed at once.
    gate.webhook("hub", &json!({ "type": "DockerHub", "secretRef": { "name": "none" } })).await;
    let status = gate.status("hub", "SecretMissing", |status| reason(status) == "SecretMissing").await;
    assert!(status.get("path").is_none(), "{status}");
    assert_eq!(gate.post(&path, &[], DOCKER_HUB).await.status, StatusCode::NOT_FOUND);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_is_exchanged_and_no_delivery_lost() {
    let gate = Gate::open("hook-rotation").await;
    gate.policy("lab", "ghcr.io/iotistic/*", &json!({})).await;
    gate.secret("hook", &[("token", OLD)]).await;
    gate.webhook("github", &spec("GitHub")).await;
    let before = gate.ready("github").await;
    let deliver = async |path: &str, token: &str| {
        let headers = [("x-hub-signature-256", &*signed(token, GITHUB)), ("x-github-event", "package")];
        gate.post(path, &headers, GITHUB).await.status
    };
    assert_eq!(deliver(&before, OLD).await, StatusCode::OK);
    assert_eq!(
        gate.post(&before, &[("x-github-event", "package")], GITHUB).await.status,
        401,
        "the path is not enough"
    );

    // The new one in the cluster, then in the registry; what is under way meanwhile counts by either.
    gate.secret("hook", &[("token", NEW), ("token-previous", OLD)]).await;
    assert_eq!(deliver(&before, NEW).await, StatusCode::OK, "read again because it failed");
    assert_eq!(deliver(&before, OLD).await, StatusCode::OK);
    let after = gate.status("github", "another path", |status| status["path"] != before.as_str()).await;
    let after = after["path"].as_str().expect("a path").to_owned();
    for (path, token) in [(&before, OLD), (&before, NEW), (&after, OLD), (&after, NEW)] {
        assert_eq!(deliver(path, token).await, StatusCode::OK);
    }
    assert_eq!(deliver(&after, "neither of the two, and long enough").await, StatusCode::UNAUTHORIZED);

    gate.secret("hook", &[("token", NEW)]).await;
    until("the old secret to be forgotten", async || {
        let seen = (deliver(&after, OLD).await, deliver(&before, NEW).await, deliver(&after, NEW).await);
        let wanted = (StatusCode::UNAUTHORIZED, StatusCode::NOT_FOUND, StatusCode::OK);
        if seen == wanted { Ok(()) } else { Err(format!("{seen:?}")) }
    })
    .await;
    assert_eq!(gate.rollouts().await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn whose_pushes_and_whose_policies() {
    let gate = Gate::open("hook-whose").await;
    gate.secret("hook", &[("token", OLD)]).await;
    gate.policy("ours", "iotistic/*", &json!({ "team": "a" })).await;
    gate.policy("theirs", "*", &json!({ "team": "b" })).await;
    let mut ours = spec("Auto");
    ours["repositories"] = json!(["iotistic/*"]);
    ours["policySelector"] = json!({ "matchLabels": { "team": "a" } });
    gate.webhook("ours", &ours).await;
    gate.webhook("only-github", &spec("GitHub")).await;
    let (path, github) = (gate.ready("ours").await, gate.ready("only-github").await);
    assert_ne!(path, github, "two of one secret");

    assert_ignored(&gate.post(&path, &[], &docker_hub("others/app", "v1")).await, "RepositoryNotAllowed");
    // A signature by the right secret doesn't make it ours.
    let other = docker_hub("others/app", "v1");
    let headers = [("x-hub-signature-256", &*signed(OLD, &other))];
    assert_ignored(&gate.post(&path, &headers, &other).await, "RepositoryNotAllowed");
    // What another registry sends is ignored, not misread and not refused.
    let headers = [("x-hub-signature-256", &*signed(OLD, DOCKER_HUB))];
    let answer = gate.post(&github, &headers, DOCKER_HUB).await;
    assert_ignored(&answer, "NotAPush");
    assert!(answer.body["ignored"].as_str().is_some_and(|why| why.contains("this URL is for GitHub")), "{answer:?}");
    let nobodys = r#"{"hello": "world"}"#;
    let headers = [("x-hub-signature-256", &*signed(OLD, nobodys))];
    assert_ignored(&gate.post(&github, &headers, nobodys).await, "OtherRegistry");
    assert!(gate.rollouts().await.is_empty());

    let answer = gate.post(&path, &[], DOCKER_HUB).await;
    assert_eq!(answer.body["rollouts"].as_array().map(Vec::len), Some(1), "{answer:?}");
    assert_eq!(answer.body["rollouts"][0]["policy"], "ours");

    // Whoever stops the process loses no count.
    let Gate { client, namespace, tranche, .. } = gate;
    tranche.stop().await;
    let counts = |status: &Value| (status["accepted"].clone(), status["ignored"].clone());
    // Of this one; the other receiver has counts of its own.
    let wanted = (json!(1), json!(2));
    super::gate::status(&client, &namespace, "ours", "its counts", |status| counts(status) == wanted).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_guesses_is_slowed_down_and_nobody_else() {
    let gate = Gate::open("hook-limits").await;
    gate.secret("hook", &[("token", OLD)]).await;
    gate.webhook("hub", &spec("Auto")).await;
    let path = gate.ready("hub").await;
    let from = |address: &'static str| [("x-forwarded-for", address)];
    let mut refused = None;
    for number in 0..100 {
        let answer = gate.post(&format!("/hooks/guess-{number}"), &from("203.0.113.5"), "{}").await;
        if answer.status != StatusCode::NOT_FOUND {
            refused = Some((number, answer));
            break;
        }
    }
    let (number, answer) = refused.expect("it ends");
    assert!(number >= 20, "a few mistakes are nothing: {number}");
    assert_eq!(answer.status, StatusCode::TOO_MANY_REQUESTS, "{answer:?}");
    let seconds: u64 = answer.headers["retry-after"].to_str().expect("text").parse().expect("seconds");
    assert!((1..=60).contains(&seconds), "{seconds}");
    assert_eq!(gate.post("/hooks/guess", &from("203.0.113.6"), "{}").await.status, StatusCode::NOT_FOUND);
    // Who has the path guesses nothing, though others behind the same address do.
    assert_ignored(&gate.post(&path, &from("203.0.113.5"), DOCKER_HUB).await, "NoPolicyMatches");
    let metrics = reqwest::get(format!("{}/metrics", gate.tranche.ops)).await.expect("an answer");
    let metrics = metrics.text().await.expect("text");
    assert!(metrics.contains(r#"outcome="rate_limited""#), "{metrics}");
}

#[tokio::test(flavor = "multi_thread")]
async fn many_at_once_pass_or_are_told_to_come_again() {
    let gate = Gate::open("hook-burst").await;
    gate.policy("myapp", "iotistic/*", &json!({})).await;
    gate.secret("hook", &[("token", OLD)]).await;
    gate.webhook("hub", &spec("DockerHub")).await;
    let path = gate.ready("hub").await;
    let bodies: Vec<String> =
        (0..300).map(|number| docker_hub(&format!("iotistic/app-{}", number % 10), "v1")).collect();
    let answers = futures::future::join_all(bodies.iter().map(|body| gate.post(&path, &[], body))).await;
    for answer in &answers {
        let passed = answer.status == StatusCode::OK;
        assert!(passed || answer.status == StatusCode::TOO_MANY_REQUESTS, "{answer:?}");
        assert!(passed || answer.headers.contains_key("retry-after"));
    }
    for body in &bodies[..10] {
        let answer = gate.post(&path, &[], body).await;
        assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
    }
    assert_eq!(gate.rollouts().await.len(), 10);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_settled_system_writes_nothing() {
    let plane = ControlPlane::shared();
    let gate = Gate::open("hook-settled").await;
    gate.secret("hook", &[("token", OLD)]).await;
    gate.webhook("hub", &spec("Auto")).await;
    gate.webhook("without", &json!({ "secretRef": { "name": "none" } })).await;
    let path = gate.ready("hub").await;
    gate.status("without", "SecretMissing", |status| reason(status) == "SecretMissing").await;
    assert_ignored(&gate.post(&path, &[], DOCKER_HUB).await, "NoPolicyMatches");
    gate.status("hub", "the count", |status| status["ignored"] == 1).await;
    // The Secret that is missing is looked for every ten seconds or so, the other one and the counts every thirty.
    let begin = plane.mark(&gate.client).await;
    let calls = until("five looks at a missing Secret", async || {
        let end = plane.mark(&gate.client).await;
        let calls = plane.calls(begin, end);
        let looks = calls.iter().filter(|call| {
            call.namespace == gate.namespace && call.resource == "secrets" && call.name == "none" && call.verb == "get"
        });
        if looks.count() >= 5 { Ok(calls) } else { Err("fewer".into()) }
    })
    .await;
    let writes: Vec<_> = calls.iter().filter(|call| call.namespace == gate.namespace && call.is_write()).collect();
    assert!(writes.is_empty(), "{writes:?}");
    assert!(
        !calls.iter().any(|call| call.namespace == gate.namespace && call.resource == "secrets" && call.verb != "get")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn two_processes_count_together() {
    let plane = ControlPlane::shared();
    let gate = Gate::open("hook-two").await;
    let other = gate.another().await;
    gate.policy("myapp", "iotistic/*", &json!({})).await;
    gate.secret("hook", &[("token", OLD)]).await;
    let begin = plane.mark(&gate.client).await;
    gate.webhook("hub", &spec("DockerHub")).await;
    let path = gate.ready("hub").await;
    for number in 0..20 {
        let body = docker_hub("iotistic/myapp", &format!("v{}", number / 4));
        let at = if number % 2 == 0 { &gate } else { &other };
        let answer = until("the path to be known to both", async || match at.post(&path, &[], &body).await {
            answer if answer.status == StatusCode::NOT_FOUND => Err(format!("{answer:?}")),
            answer => Ok(answer),
        });
        assert_eq!(answer.await.status, StatusCode::OK);
    }
    assert_eq!(gate.rollouts().await.len(), 5, "one for each tag");
    gate.status("hub", "what both have counted", |status| status["accepted"] == 20).await;
    // Who stands where is agreed on, not fought over.
    let end = plane.mark(&gate.client).await;
    let calls = plane.calls(begin, end);
    let writes = calls.iter().filter(|call| {
        call.namespace == gate.namespace && call.resource == "registrywebhooks/status" && call.code < 300
    });
    assert!((2..=6).contains(&writes.clone().count()), "{:?}", writes.collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_api_server_a_delivery_is_put_off_and_not_lost() {
    let plane = ControlPlane::start();
    let gate = Gate::open_at(&plane, "hook-outage").await;
    gate.policy("myapp", "iotistic/*", &json!({})).await;
    gate.secret("hook", &[("token", OLD)]).await;
    gate.webhook("hub", &spec("DockerHub")).await;
    let path = gate.ready("hub").await;
    plane.kill(Component::ApiServer);
    let answer = gate.post(&path, &[], DOCKER_HUB).await;
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE, "{answer:?}");
    assert!(answer.headers.contains_key("retry-after"));
    // What was known before is known still.
    assert_ignored(&gate.post(&path, &[], &docker_hub("others/app", "v1")).await, "NoPolicyMatches");
    assert_eq!(gate.post("/hooks/none", &[], DOCKER_HUB).await.status, StatusCode::NOT_FOUND);
    plane.restart(Component::ApiServer);
    until("the same delivery to be taken", async || match gate.post(&path, &[], DOCKER_HUB).await {
        answer if answer.status == StatusCode::OK => Ok(()),
        answer => Err(format!("{answer:?}")),
    })
    .await;
    assert_eq!(gate.rollouts().await.len(), 1);
}
