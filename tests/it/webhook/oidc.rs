//! A receiver that takes signed tokens: its keys come from a server, which may be down, and which is not asked for every
//! token that somebody makes up.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use axum::Router;
use axum::body::Body;
use axum::routing::get;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use http::StatusCode;
use http_body_util::BodyExt as _;
use ring::rand::SystemRandom;
use ring::rsa::KeyPair;
use ring::signature::RSA_PKCS1_SHA256;
use serde_json::{Value, json};
use tower::ServiceExt as _;
use tranche::clock::Clock;
use tranche::manage::{
    self, AuthMode, Hooks, Jwks, PolicyCache, Receivers, TrustedProxies, Webhook, WebhookAuth, WebhookMetrics,
};
use tranche::oci::{AddressRules, Registries};
use tranche::shutdown::Shutdown;

use super::gate::{put_policy, put_secret, put_webhook, status};
use super::{DOCKER_HUB, request};
use crate::support::controlplane::{ControlPlane, User};
use crate::support::wait::until;

const KEYS: &str = include_str!("../../data/oidc/jwks.json");
const KEY: &str = include_str!("../../data/oidc/key.pem");
const ACCOUNT: &str = "push@project.iam.gserviceaccount.com";

fn token(kid: &str, audience: &str) -> String {
    let der: String = KEY.lines().filter(|line| !line.starts_with("-----")).collect();
    let key = KeyPair::from_pkcs8(&STANDARD.decode(der).expect("base64")).expect("a key");
    let now = tranche::clock::now().as_second();
    let claims = json!({
        "iss": "https://accounts.google.com", "aud": audience, "email": ACCOUNT, "email_verified": true,
        "iat": now, "exp": now + 3600,
    });
    let encode = |value: Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let message = format!("{}.{}", encode(json!({ "alg": "RS256", "kid": kid })), encode(claims));
    let mut signature = vec![0; key.public().modulus_len()];
    key.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), message.as_bytes(), &mut signature).expect("signed");
    format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature))
}

/// Where the issuer's keys are: how often they were asked for, and whether they are given.
struct Issuer {
    url: String,
    asked: Arc<AtomicUsize>,
    up: Arc<AtomicBool>,
    stop: Shutdown,
}

impl Issuer {
    async fn start() -> Self {
        let (asked, up, stop) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)), Shutdown::new());
        let keys = {
            let (asked, up) = (Arc::clone(&asked), Arc::clone(&up));
            move || async move {
                asked.fetch_add(1, Ordering::Relaxed);
                let status = if up.load(Ordering::Relaxed) { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
                (status, [("cache-control", "public, max-age=3600")], KEYS)
            }
        };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}/certs", listener.local_addr().expect("an address"));
        let router = Router::new().route("/certs", get(keys));
        let config = tranche::server::ServerConfig::default();
        tokio::spawn(tranche::server::serve(listener, router, None, config, Default::default(), stop.clone().wait()));
        Self { url, asked, up, stop }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_account_that_was_named() {
    let plane = ControlPlane::shared();
    let (client, namespace) = (plane.client(User::Admin).await, plane.namespace("hook-oidc").await);
    let issuer = Issuer::start().await;
    put_policy(&client, &namespace, "myapp", "iotistic/*", &json!({})).await;
    put_secret(&client, &namespace, "hook", &[("token", "a-token-for-the-path-of-this-test")]).await;
    // Any type may ask for a token; this one needs no dialect of Google's.
    let spec = json!({
        "type": "DockerHub", "secretRef": { "name": "hook" },
        "oidc": { "audience": "https://tranche.example.com", "email": ACCOUNT, "jwksURL": issuer.url },
    });
    put_webhook(&client, &namespace, "push", &spec).await;

    let stop = Shutdown::new();
    let (policies, _watch) = PolicyCache::start(client.clone(), Some(&namespace), stop.clone());
    assert!(policies.wait_for(|policies| policies.len() == 1).await);
    let receivers = Receivers::new(client.clone(), &namespace);
    let keeping = tokio::spawn(receivers.clone().keep(stop.clone(), stop.clone()));
    let asking = |rules: AddressRules| Jwks::new(Registries::new(rules, Clock::default()));
    // Loopback is no issuer's address, unless whoever runs the process says so.
    let refused = asking(AddressRules::default()).keys(&issuer.url, "one").await;
    assert!(refused.is_err() && issuer.asked.load(Ordering::Relaxed) == 0, "{refused:?}");
    let hooks = Hooks { receivers, jwks: asking("127.0.0.0/8".parse().expect("a network")) };
    let auth = WebhookAuth::new(AuthMode::Secret, None);
    let metrics = WebhookMetrics::default();
    let router = manage::router(Webhook::with(
        auth,
        policies,
        super::recorder(client.clone()),
        metrics,
        Some(hooks),
        TrustedProxies::default(),
    ));
    let ready = status(&client, &namespace, "push", "a path", |status| status["path"].is_string()).await;
    let path = ready["path"].as_str().expect("a path").to_owned();
    let deliver = async |authorization: &str| {
        let request = request(&path, &[("authorization", authorization)], Body::from(DOCKER_HUB));
        let response = router.clone().oneshot(request).await.expect("infallible");
        let (status, retry) = (response.status(), response.headers().contains_key("retry-after"));
        let body = response.into_body().collect().await.expect("a body").to_bytes();
        (status, retry, String::from_utf8_lossy(&body).into_owned())
    };
    let good = format!("Bearer {}", token("one", "https://tranche.example.com"));

    // As long as nobody knows the keys, nothing is taken for right, and nothing for wrong.
    let (status, retry, text) = deliver(&good).await;
    assert_eq!((status, retry), (StatusCode::SERVICE_UNAVAILABLE, true), "{text}");
    let (status, ..) = deliver(&good).await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(issuer.asked.load(Ordering::Relaxed), 1, "a server that is down is left alone for a while");
    issuer.up.store(true, Ordering::Relaxed);
    until("the keys to be there", async || {
        let (status, _, text) = deliver(&good).await;
        if status == StatusCode::OK { Ok(()) } else { Err(text) }
    })
    .await;
    let asked = issuer.asked.load(Ordering::Relaxed);

    for (authorization, says) in [
        (format!("Bearer {}", token("one", "https://other.example.com")), "spec.oidc.audience"),
        (format!("Bearer {}", token("two", "https://tranche.example.com")), "a key that its issuer does not have"),
        (format!("Bearer {}", token("three", "https://tranche.example.com")), "a key that its issuer does not have"),
        ("Bearer a.b.c".into(), "no signed token"),
        ("a-token-for-the-path-of-this-test".into(), "carries no signed token"),
        (good.replace("Bearer", "Basic"), "carries no signed token"),
    ] {
        let (status, _, text) = deliver(&authorization).await;
        assert_eq!(status, StatusCode::UNAUTHORIZED, "{text}");
        assert!(text.contains(says) && !text.contains(ACCOUNT), "{text}");
    }
    assert_eq!(deliver(&good).await.0, StatusCode::OK);
    assert_eq!(issuer.asked.load(Ordering::Relaxed), asked, "made-up keys cost the issuer nothing");
    stop.request();
    keeping.await.expect("it ends");
    issuer.stop.request();
    let counted = super::gate::status(&client, &namespace, "push", "its counts", |status| status["rejected"] == 6);
    assert!(counted.await["accepted"].as_i64().is_some_and(|accepted| accepted >= 2));
}
