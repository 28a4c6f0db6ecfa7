//! The registry webhook, from a request to the objects in an API server (in memory).

mod fake;
mod gate;
mod oidc;
mod receivers;

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::Router;
use axum::body::Body;
use bytes::Bytes;
use futures::future::join_all;
use futures::stream;
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::BodyExt as _;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tower::ServiceExt as _;
use tranche::manage::webhook::{MAX_BODY, MAX_DELIVERIES};
use tranche::manage::{self, AuthMode, PolicyCache, WEBHOOK_PATH, Webhook, WebhookAuth, WebhookMetrics};
use tranche::oci::{AddressRules, Registries};
use tranche::record::Recorder;
use tranche::registry::signature::{Secret, sign};
use tranche::resolver::Resolver;
use tranche::shutdown::Shutdown;

use fake::{FakeApi, Mood};

const SECRET: &str = "a-secret-that-is-never-shown";
const DOCKER_HUB: &str = include_str!("../../examples/webhook-dockerhub.json");
const GITHUB: &str = include_str!("../../examples/webhook-github.json");

/// Registries are not reached from here.
fn recorder(client: kube::Client) -> Recorder {
    let registries = Registries::new(AddressRules::default(), tranche::clock::Clock::default());
    Recorder::new(client.clone(), Resolver::new(client, registries))
}

fn policy(name: &str, pattern: &str, more: &Value) -> Value {
    let mut spec = json!({"image": {"pattern": pattern}, "devices": {"names": ["a"]}});
    for (key, value) in more.as_object().into_iter().flatten() {
        spec[key] = value.clone();
    }
    json!({
        "apiVersion": "tranche.dev/v1alpha1", "kind": "ImageUpdatePolicy",
        "metadata": {"name": name, "namespace": "plant", "uid": "u-1", "managedFields": [{"manager": "kubectl"}]},
        "spec": spec,
    })
}

fn myapp() -> Value {
    policy("myapp", "iotistic/myapp:*", &json!({}))
}

/// The router over a fake API server, with the policies read.
struct Bench {
    api: FakeApi,
    cache: PolicyCache,
    metrics: WebhookMetrics,
    router: Router,
}

impl Bench {
    async fn new(policies: &[Value]) -> Self {
        Self::with(WebhookAuth::new(AuthMode::Secret, Some(SECRET)), policies).await
    }

    async fn with(auth: WebhookAuth, policies: &[Value]) -> Self {
        let api = FakeApi::new(policies);
        let (cache, _task) = PolicyCache::start(api.client(), None, Shutdown::new());
        assert!(cache.wait_for(|_| true).await);
        let metrics = WebhookMetrics::default();
        let router = manage::router(Webhook::new(auth, cache.clone(), recorder(api.client()), metrics.clone()));
        Self { api, cache, metrics, router }
    }

    async fn send(&self, request: Request<Body>) -> Answer {
        let response = self.router.clone().oneshot(request).await.expect("infallible");
        let (head, body) = response.into_parts();
        let body = body.collect().await.expect("a body").to_bytes();
        let body = serde_json::from_slice(&body).unwrap_or(Value::Null);
        Answer { status: head.status, headers: head.headers, body }
    }

    /// By bearer.
    async fn deliver(&self, body: &str) -> Answer {
        self.send(bearer(body.to_owned())).await
    }

    fn counted(&self) -> String {
        let mut registry = prometheus_client::registry::Registry::default();
        self.metrics.register(&mut registry);
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).expect("text");
        text
    }
}

#[derive(Debug)]
struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: Value,
}

impl Answer {
    #[track_caller]
    fn assert_problem(&self, status: StatusCode, slug: &str) {
        assert_eq!(self.status, status, "{self:?}");
        assert_eq!(self.headers["content-type"], "application/problem+json");
        assert_eq!(self.body["type"], format!("https://tranche.dev/problems/{slug}"));
        assert!(!self.body["detail"].as_str().expect("a detail").is_empty());
        assert!(!self.body.to_string().contains(SECRET));
    }

    #[track_caller]
    fn assert_ignored(&self, reason: &str) {
        assert_eq!(self.status, StatusCode::OK, "{self:?}");
        assert_eq!(self.body["reason"], reason, "{self:?}");
        assert!(self.body["ignored"].as_str().is_some_and(|why| !why.is_empty()));
        assert!(self.body.get("rollout_id").is_none());
    }
}

fn request(path: &str, headers: &[(&str, &str)], body: impl Into<Body>) -> Request<Body> {
    let mut request = Request::builder().method(Method::POST).uri(path).header("content-type", "application/json");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(body.into()).expect("a request")
}

fn bearer(body: impl Into<Body>) -> Request<Body> {
    request(WEBHOOK_PATH, &[("authorization", &format!("Bearer {SECRET}"))], body)
}

fn signed(body: &str, signature: &str) -> Request<Body> {
    request(WEBHOOK_PATH, &[("x-hub-signature-256", signature)], body.to_owned())
}

fn signature(body: &str) -> String {
    sign(&Secret::new(SECRET).expect("a secret"), body.as_bytes())
}

fn docker_hub(repository: &str, tag: &str) -> String {
    json!({"push_data": {"tag": tag, "pusher": "ann"}, "repository": {"repo_name": repository}}).to_string()
}

// === What a push makes ===

#[tokio::test]
async fn a_push_becomes_a_rollout() {
    let bench = Bench::new(&[myapp()]).await;
    let answer = bench.deliver(DOCKER_HUB).await;
    assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
    let [rollout] = &bench.api.rollouts()[..] else { panic!("one rollout") };
    let name = &rollout["metadata"]["name"];
    assert_eq!(
        answer.body,
        json!({
            "message": "Webhook processed successfully", "rollout_id": name, "strategy": "staged",
            "image": "iotistic/myapp", "tag": "v2.0.1",
            "rollouts": [{"rollout_id": name, "namespace": "plant", "policy": "myapp", "strategy": "staged", "created": true}],
        })
    );
    assert_eq!(rollout["spec"]["image"], json!({"repository": "docker.io/iotistic/myapp", "tag": "v2.0.1"}));
    assert_eq!(rollout["spec"]["policyRef"], json!({"name": "myapp"}));
    assert_eq!(rollout["spec"]["trigger"]["receiver"], "dockerhub");
    assert_eq!(rollout["spec"]["trigger"]["actor"], "iotistic-ci");
    assert_eq!(rollout["metadata"]["ownerReferences"][0]["uid"], "u-1");
    assert_eq!(rollout["metadata"]["finalizers"], json!(["tranche.dev/rollout"]));
    assert!(bench.counted().contains(r#"webhook_deliveries_total{dialect="dockerhub",outcome="created"} 1"#));
}

#[tokio::test]
async fn a_push_of_github_keeps_digest_and_delivery_id() {
    let bench = Bench::new(&[policy("lab", "ghcr.io/iotistic/*", &json!({"strategy": {"type": "Manual"}}))]).await;
    let headers = [
        ("x-hub-signature-256", &*signature(GITHUB)),
        ("x-github-event", "package"),
        ("x-github-delivery", "72d3162e-cc78"),
    ];
    let answer = bench.send(request(WEBHOOK_PATH, &headers, GITHUB)).await;
    assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
    assert_eq!(answer.body["image"], "ghcr.io/iotistic/myapp");
    assert_eq!(answer.body["strategy"], "manual");
    let [rollout] = &bench.api.rollouts()[..] else { panic!("one rollout") };
    assert_eq!(rollout["spec"]["trigger"]["deliveryID"], "72d3162e-cc78");
    assert_eq!(rollout["spec"]["approvedBatches"], 0);
    assert!(rollout["spec"]["image"]["digest"].as_str().is_some_and(|digest| digest.starts_with("sha256:6f1c")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_deliveries_at_once_are_one_rollout() {
    let bench = Bench::new(&[myapp()]).await;
    let answers = join_all((0..10).map(|_| bench.deliver(DOCKER_HUB))).await;
    assert_eq!(bench.api.rollouts().len(), 1);
    let created = answers.iter().filter(|answer| answer.body["rollouts"][0]["created"] == true).count();
    assert_eq!(created, 1);
    for answer in &answers {
        assert_eq!(answer.status, StatusCode::OK);
        assert_eq!(answer.body["rollout_id"], answers[0].body["rollout_id"]);
    }
    assert_eq!(bench.deliver(DOCKER_HUB).await.body["rollouts"][0]["created"], false);
}

#[tokio::test]
async fn two_replicas_make_one_rollout() {
    let bench = Bench::new(&[myapp()]).await;
    let auth = WebhookAuth::new(AuthMode::Secret, Some(SECRET));
    let other = manage::router(Webhook::new(
        auth,
        bench.cache.clone(),
        recorder(bench.api.client()),
        WebhookMetrics::default(),
    ));
    let (first, second) = futures::join!(bench.deliver(DOCKER_HUB), other.oneshot(bearer(DOCKER_HUB)));
    assert_eq!((first.status, second.expect("infallible").status()), (StatusCode::OK, StatusCode::OK));
    assert_eq!(bench.api.rollouts().len(), 1);
}

#[tokio::test]
async fn every_policy_that_matches_gets_its_own() {
    let bench = Bench::new(&[
        policy("b-all", "iotistic/*", &json!({"strategy": {"type": "Auto"}})),
        policy("a-tagged", "iotistic/myapp:v*", &json!({})),
        policy("c-suspended", "*", &json!({"suspend": true})),
        policy("d-other", "iotistic/other", &json!({})),
        policy("e-broken", "iotistic/myapp:", &json!({})),
    ])
    .await;
    let answer = bench.deliver(DOCKER_HUB).await;
    let made: Vec<_> =
        answer.body["rollouts"].as_array().expect("rollouts").iter().map(|made| made["policy"].clone()).collect();
    assert_eq!(made, ["a-tagged", "b-all"]);
    assert_eq!(answer.body["rollout_id"], answer.body["rollouts"][0]["rollout_id"]);
    assert_eq!(answer.body["ignored_by"][0]["policy"], "c-suspended");
    assert_eq!(answer.body["ignored_by"][0]["reason"], "Suspended");
    assert_eq!(bench.api.rollouts().len(), 2);
}

#[tokio::test]
async fn what_makes_nothing_says_why() {
    let rejected = || {
        let mut policy = policy("rejecting", "iotistic/bad:*", &json!({}));
        let image = "docker.io/iotistic/bad:v2";
        policy["status"] = json!({"rejected": [{"image": image, "rollout": "r-1", "time": "2026-01-01T00:00:00Z"}]});
        policy
    };
    let bench = Bench::new(&[
        myapp(),
        policy("suspended", "iotistic/still", &json!({"suspend": true})),
        policy("ranged", "iotistic/ranged", &json!({"tags": {"semver": "^2", "exclude": ["-rc"]}})),
        policy("broken", "iotistic/broken", &json!({"tags": {"pattern": "("}})),
        rejected(),
    ])
    .await;
    let cosign = format!("sha256-{}.sig", "0".repeat(64));
    for (repository, tag, reason) in [
        ("iotistic/other", "v1", "NoPolicyMatches"),
        ("iotistic/myapp", "", "Untagged"),
        ("iotistic/myapp", &*cosign, "CosignArtifact"),
        ("iotistic/still", "v1", "Suspended"),
        ("iotistic/ranged", "v3.0.0", "TagOutOfRange"),
        ("iotistic/ranged", "v2.0.0-rc1", "TagExcluded"),
        ("iotistic/broken", "v1", "InvalidPolicy"),
        ("iotistic/bad", "v2", "Rejected"),
    ] {
        let answer = bench.deliver(&docker_hub(repository, tag)).await;
        answer.assert_ignored(reason);
        assert_eq!(answer.body["image"], repository);
        assert!(bench.counted().contains(&format!(r#"webhook_ignored_total{{reason="{reason}"}} 1"#)));
    }
    assert_eq!(bench.deliver(&docker_hub("iotistic/other", "v1")).await.body["message"], "No matching policy");
    let ping = request(
        WEBHOOK_PATH,
        &[("x-github-event", "ping"), ("authorization", &format!("Bearer {SECRET}"))],
        r#"{"zen": "Design for failure."}"#,
    );
    bench.send(ping).await.assert_ignored("NotAPush");
    assert_eq!(bench.api.creates(), 0);
}

#[tokio::test]
async fn an_unreadable_policy_hides_no_other() {
    let mut odd = policy("odd", "iotistic/myapp:*", &json!({}));
    odd["spec"]["strategy"] = json!("fast");
    let bench = Bench::new(&[odd, myapp()]).await;
    assert_eq!(bench.deliver(DOCKER_HUB).await.body["rollouts"][0]["policy"], "myapp");
    let answer = bench.deliver(&docker_hub("iotistic/other", "v1")).await;
    answer.assert_ignored("NoPolicyMatches");
    assert_eq!(answer.body["ignored_by"][0]["policy"], "odd");
}

#[tokio::test]
async fn the_cache_follows_the_policies() {
    let bench = Bench::new(&[]).await;
    bench.deliver(DOCKER_HUB).await.assert_ignored("NoPolicyMatches");
    bench.api.apply(myapp());
    assert!(bench.cache.wait_for(|claims| claims.len() == 1).await);
    assert_eq!(bench.deliver(DOCKER_HUB).await.body["rollouts"][0]["created"], true);
    bench.api.delete("myapp");
    assert!(bench.cache.wait_for(|claims| claims.is_empty()).await);
    bench.deliver(DOCKER_HUB).await.assert_ignored("NoPolicyMatches");

    let mut going = myapp();
    going["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    bench.api.apply(myapp());
    assert!(bench.cache.wait_for(|claims| claims.len() == 1).await);
    bench.api.apply(going);
    assert!(bench.cache.wait_for(|claims| claims.is_empty()).await, "a policy that goes makes no rollouts");
}

#[tokio::test]
async fn a_rollout_that_is_there_must_be_of_this_image() {
    let bench = Bench::new(&[myapp()]).await;
    bench.deliver(DOCKER_HUB).await;
    let mut rollout = bench.api.rollouts().remove(0);
    rollout["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    bench.api.put_rollout(rollout.clone());
    let answer = bench.deliver(DOCKER_HUB).await;
    answer.assert_problem(StatusCode::SERVICE_UNAVAILABLE, "being-deleted");
    assert_eq!(answer.headers["retry-after"], "5");
    rollout["spec"]["image"]["tag"] = json!("v1");
    bench.api.put_rollout(rollout);
    bench.deliver(DOCKER_HUB).await.assert_ignored("NameTaken");
}

// === Who is let in ===

#[tokio::test]
async fn the_three_ways_in() {
    let bench = Bench::new(&[myapp()]).await;
    let path = format!("{WEBHOOK_PATH}/{SECRET}");
    for request in [bearer(DOCKER_HUB), signed(DOCKER_HUB, &signature(DOCKER_HUB)), request(&path, &[], DOCKER_HUB)] {
        assert_eq!(bench.send(request).await.status, StatusCode::OK);
    }
}

#[tokio::test]
async fn everybody_else_stays_out() {
    let bench = Bench::new(&[myapp()]).await;
    let path = |secret: &str| format!("{WEBHOOK_PATH}/{secret}");
    let good = signature(DOCKER_HUB);
    let reserialised = serde_json::from_str::<Value>(DOCKER_HUB).expect("JSON").to_string();
    let bearer = format!("Bearer {SECRET}");
    for (request, slug) in [
        (request(WEBHOOK_PATH, &[], DOCKER_HUB), "webhook-unauthentic"),
        (request(WEBHOOK_PATH, &[("authorization", "Bearer wrong")], DOCKER_HUB), "webhook-unauthentic"),
        (request(&path("wrong"), &[], DOCKER_HUB), "webhook-unauthentic"),
        (request(&path("test"), &[], DOCKER_HUB), "webhook-unauthentic"),
        (request(&path("%ff%fe"), &[], DOCKER_HUB), "webhook-unauthentic"),
        (signed(DOCKER_HUB, "sha256=00"), "webhook-signature"),
        (signed(DOCKER_HUB, &good.replace("sha256=", "sha1=")), "webhook-signature"),
        // The signature is over the bytes, not over what they mean.
        (signed(&reserialised, &good), "webhook-signature"),
        (signed(&format!("{DOCKER_HUB} "), &good), "webhook-signature"),
        // A body that doesn't fit its signature isn't saved by knowing the secret.
        (
            request(&path(SECRET), &[("x-hub-signature-256", &good), ("authorization", &bearer)], reserialised.clone()),
            "webhook-signature",
        ),
        // Not authentic comes before not understood.
        (request(WEBHOOK_PATH, &[("authorization", "Bearer wrong")], "garbage"), "webhook-unauthentic"),
    ] {
        let answer = bench.send(request).await;
        answer.assert_problem(StatusCode::UNAUTHORIZED, slug);
        assert_eq!(answer.headers["www-authenticate"], "Bearer");
    }
    assert_eq!(bench.api.creates(), 0);
}

#[tokio::test]
async fn a_shut_door_says_how_to_open_it() {
    let bench = Bench::with(WebhookAuth::new(AuthMode::Secret, None), &[myapp()]).await;
    for request in
        [bearer(DOCKER_HUB), request(WEBHOOK_PATH, &[], DOCKER_HUB), signed(DOCKER_HUB, &signature(DOCKER_HUB))]
    {
        let answer = bench.send(request).await;
        answer.assert_problem(StatusCode::FORBIDDEN, "webhook-shut");
        assert!(answer.body["detail"].as_str().is_some_and(|detail| detail.contains("DOCKER_WEBHOOK_SECRET")));
    }
    assert_eq!(bench.api.creates(), 0);
}

#[tokio::test]
async fn an_open_door_is_not_for_browsers() {
    let bench = Bench::with(WebhookAuth::new(AuthMode::None, None), &[myapp()]).await;
    let page = request(WEBHOOK_PATH, &[("origin", "https://evil.example")], DOCKER_HUB);
    bench.send(page).await.assert_problem(StatusCode::FORBIDDEN, "webhook-browser");
    assert_eq!(bench.send(request(WEBHOOK_PATH, &[], DOCKER_HUB)).await.status, StatusCode::OK);
}

#[tokio::test]
async fn test_says_how_the_webhook_stands() {
    for (mode, secret, protected, told) in [
        (AuthMode::Secret, Some(SECRET), true, false),
        (AuthMode::Secret, None, false, true),
        (AuthMode::None, None, false, false),
    ] {
        let bench = Bench::with(WebhookAuth::new(mode, secret), &[]).await;
        let get = |path: String| Request::get(path).body(Body::empty()).expect("a request");
        let answer = bench.send(get(format!("{WEBHOOK_PATH}/test"))).await;
        assert_eq!(answer.status, StatusCode::OK);
        assert_eq!(answer.body["config"], json!({"signature_verification": protected, "has_secret": protected}));
        assert!(answer.body["message"].is_string());
        assert_eq!(answer.body.get("how_to_open").is_some(), told);
        // A secret is nothing to read, right or wrong.
        bench.send(get(format!("{WEBHOOK_PATH}/{SECRET}"))).await.assert_problem(StatusCode::NOT_FOUND, "not-found");
    }
}

#[tokio::test]
async fn the_secret_is_in_no_log_and_no_counter() {
    #[derive(Clone, Default)]
    struct Sink(Arc<Mutex<Vec<u8>>>);
    impl Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let sink = Sink::default();
    let writer = sink.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_ansi(false)
        .with_writer(move || writer.clone())
        .finish();
    // While there is one dispatcher only, tracing asks the thread that meets a log line first whether anyone listens, and
    // remembers the answer; that thread may run another test. With two it asks the dispatchers.
    let _second = tracing::Dispatch::new(tracing::subscriber::NoSubscriber::new());
    let _guard = tracing::subscriber::set_default(subscriber);

    let bench = Bench::new(&[myapp()]).await;
    let path = format!("{WEBHOOK_PATH}/{SECRET}");
    bench.send(request(&path, &[], DOCKER_HUB)).await;
    bench.send(request(&path, &[("x-hub-signature-256", "sha256=00")], DOCKER_HUB)).await;
    bench.send(request(&path, &[], "garbage")).await;
    bench.api.set(Mood::Down);
    bench.send(request(&path, &[], docker_hub("iotistic/myapp", "v3"))).await;
    bench.deliver(DOCKER_HUB).await;
    let logged = String::from_utf8(sink.0.lock().clone()).expect("text");
    assert!(logged.contains("delivery put off"), "{logged}");
    assert!(!logged.contains(SECRET), "{logged}");
    assert!(!bench.counted().contains(SECRET));
}

// === Bad input, bad times ===

#[tokio::test]
async fn what_is_not_understood_is_a_problem() {
    let bench = Bench::new(&[myapp()]).await;
    let deep = format!("{{\"push_data\":{0}{1},\"repository\":{{}}}}", "[".repeat(100_000), "]".repeat(100_000));
    for body in [
        "",
        "garbage",
        "[]",
        "{}",
        "{\"push_data\":",
        r#"{"push_data":{"tag":7},"repository":{"repo_name":"a"}}"#,
        r#"{"push_data":{},"repository":{"repo_name":"A B"}}"#,
        r#"{"push_data":{"tag":"a","tag":"b"},"repository":{"repo_name":"a"}}"#,
        "\u{feff}{}",
        &deep,
    ] {
        bench.deliver(body).await.assert_problem(StatusCode::BAD_REQUEST, "webhook-payload");
    }
    assert_eq!(bench.api.creates(), 0);
}

/// A body of `chunks` times 64 KiB without a length, and how much of it was taken.
fn long_body(chunks: usize) -> (Body, Arc<AtomicUsize>) {
    let taken = Arc::new(AtomicUsize::new(0));
    let counter = taken.clone();
    let stream = stream::iter((0..chunks).map(move |_| {
        counter.fetch_add(64 * 1024, Ordering::Relaxed);
        Ok::<_, std::io::Error>(Bytes::from(vec![b' '; 64 * 1024]))
    }));
    (Body::from_stream(stream), taken)
}

#[tokio::test]
async fn a_body_beyond_the_limit_is_not_held() {
    let bench = Bench::new(&[myapp()]).await;
    let (body, taken) = long_body(10_000);
    bench.send(bearer(body)).await.assert_problem(StatusCode::PAYLOAD_TOO_LARGE, "body-too-large");
    assert!(taken.load(Ordering::Relaxed) <= MAX_BODY + 64 * 1024);
    // A body that announces its length isn't begun.
    let answer = bench.send(bearer(vec![b' '; MAX_BODY + 1])).await;
    answer.assert_problem(StatusCode::PAYLOAD_TOO_LARGE, "body-too-large");
    // The limit itself is fine.
    let padded = format!("{DOCKER_HUB}{}", " ".repeat(MAX_BODY - DOCKER_HUB.len()));
    assert_eq!(bench.deliver(&padded).await.status, StatusCode::OK);
}

#[tokio::test]
async fn a_stranger_costs_no_body() {
    let bench = Bench::new(&[myapp()]).await;
    let (body, taken) = long_body(10);
    let answer = bench.send(request(WEBHOOK_PATH, &[("authorization", "Bearer wrong")], body)).await;
    assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
    assert_eq!(taken.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn a_body_that_breaks_off_is_a_problem() {
    let bench = Bench::new(&[myapp()]).await;
    let body = Body::from_stream(stream::iter([Ok(Bytes::from_static(b"{")), Err(std::io::Error::other("reset"))]));
    bench.send(bearer(body)).await.assert_problem(StatusCode::BAD_REQUEST, "body-incomplete");
}

#[tokio::test(start_paused = true)]
async fn a_body_that_never_ends_is_given_up() {
    let bench = Bench::new(&[myapp()]).await;
    let body = Body::from_stream(stream::pending::<Result<Bytes, std::io::Error>>());
    bench.send(bearer(body)).await.assert_problem(StatusCode::REQUEST_TIMEOUT, "body-too-slow");
}

/// Forged bodies that trickle in hold places of their own: whoever shows the secret doesn't notice.
#[tokio::test(start_paused = true)]
async fn forged_bodies_that_trickle_in_starve_nobody() {
    let bench = Bench::new(&[myapp()]).await;
    let trickle = || Body::from_stream(stream::pending::<Result<Bytes, std::io::Error>>());
    let forged = join_all(
        (0..MAX_DELIVERIES)
            .map(|_| bench.send(request(WEBHOOK_PATH, &[("x-hub-signature-256", "sha256=00")], trickle()))),
    );
    let honest = async {
        // Whoever isn't reading by then has been told to come again.
        tokio::time::sleep(std::time::Duration::from_secs(5)).await;
        bench.deliver(DOCKER_HUB).await
    };
    let (forged, honest) = futures::join!(forged, honest);
    assert_eq!(honest.status, StatusCode::OK, "{honest:?}");
    let count = |status| forged.iter().filter(|answer| answer.status == status).count();
    assert_eq!(count(StatusCode::REQUEST_TIMEOUT), 4, "of one source no more are read");
    assert_eq!(count(StatusCode::TOO_MANY_REQUESTS), MAX_DELIVERIES - 4);
    assert!(forged.iter().filter(|a| a.status == 429).all(|answer| answer.headers.contains_key("retry-after")));
}

#[tokio::test(start_paused = true)]
async fn without_the_api_server_the_registry_is_told_to_come_again() {
    let bench = Bench::new(&[myapp()]).await;
    for mood in [Mood::Down, Mood::Hanging] {
        bench.api.set(mood);
        let answer = bench.deliver(DOCKER_HUB).await;
        answer.assert_problem(StatusCode::SERVICE_UNAVAILABLE, "api-server-unavailable");
        assert_eq!(answer.headers["retry-after"], "5");
    }
    assert!(bench.api.rollouts().is_empty());
    bench.api.set(Mood::Up);
    assert_eq!(bench.deliver(DOCKER_HUB).await.body["rollouts"][0]["created"], true);
}

#[tokio::test]
async fn a_rollout_that_the_api_server_refuses_is_not_tried_for_ever() {
    let bench = Bench::new(&[myapp()]).await;
    bench.api.set(Mood::Refusing);
    let answer = bench.deliver(DOCKER_HUB).await;
    answer.assert_ignored("Refused");
    assert!(answer.body["ignored"].as_str().is_some_and(|why| why.contains("spec.image is odd")));
}

#[tokio::test]
async fn before_the_policies_are_read_nothing_is_taken() {
    let api = FakeApi::new(&[myapp()]);
    let shutdown = Shutdown::new();
    shutdown.request();
    // A watch that was stopped before it began never reads anything.
    let (cache, _task) = PolicyCache::start(api.client(), Some("plant"), shutdown);
    assert!(!cache.is_ready());
    let auth = WebhookAuth::new(AuthMode::Secret, Some(SECRET));
    let webhook = Webhook::new(auth, cache.clone(), recorder(api.client()), WebhookMetrics::default());
    assert!(!webhook.is_ready());
    let bench = Bench { api, cache, metrics: WebhookMetrics::default(), router: manage::router(webhook) };
    let answer = bench.deliver(DOCKER_HUB).await;
    answer.assert_problem(StatusCode::SERVICE_UNAVAILABLE, "api-server-unavailable");
}

#[tokio::test(start_paused = true)]
async fn deliveries_beyond_the_room_come_again() {
    let bench = Bench::new(&[myapp()]).await;
    bench.api.set(Mood::Hanging);
    let waiting = join_all((0..MAX_DELIVERIES).map(|_| bench.deliver(DOCKER_HUB)));
    let one_more = async {
        bench.api.wait_for_creates(MAX_DELIVERIES).await;
        bench.deliver(DOCKER_HUB).await
    };
    let (waited, one_more) = futures::join!(waiting, one_more);
    one_more.assert_problem(StatusCode::TOO_MANY_REQUESTS, "too-many-deliveries");
    assert_eq!(one_more.headers["retry-after"], "1");
    assert!(waited.iter().all(|answer| answer.status == StatusCode::SERVICE_UNAVAILABLE));
    bench.api.set(Mood::Up);
    assert_eq!(bench.deliver(DOCKER_HUB).await.status, StatusCode::OK, "the room is given back");
}
