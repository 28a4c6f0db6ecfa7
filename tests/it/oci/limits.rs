//! What is asked again, what isn't, and how much at once.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use futures::future::join_all;
use tranche::oci::{Class, Credentials, RegistryError, Secret, Tags};

use super::fake::{Fake, LOOPBACK, PASSWORD, Seen, password, plain, registries, reply};

const DIGEST: &str = "sha256:0000000000000000000000000000000000000000000000000000000000000000";

#[tokio::test]
async fn later_means_later() {
    for (status, header, seconds) in [
        (429, Some("30"), 30),
        (429, None, 60),
        (429, Some("soon"), 60),
        (429, Some("999999"), 3600),
        (503, Some("120"), 120),
        (429, Some("Tue, 31 Dec 2999 23:59:59 GMT"), 3600),
    ] {
        let fake = Fake::start(move |seen| match (seen.header("authorization"), header) {
            (Some(_), _) => reply(200).header("docker-content-digest", DIGEST),
            (None, Some(header)) => reply(status).header("retry-after", header),
            (None, None) => reply(status),
        })
        .await;
        let registries = registries(LOOPBACK);
        let first = registries.digest(&fake.image("acme/app:v1"), &plain()).await.unwrap_err();
        assert_eq!(first.retry_after(), Some(Duration::from_secs(seconds)), "{status} {header:?}");
        assert_eq!(first.class(), Class::NoAnswer);
        assert_eq!(first.to_string(), format!("{} asks to wait for {seconds} s before the next request", fake.host));
        let repository = fake.image("acme/other").repository;
        let second = registries.tags(&repository, &plain(), None).await.unwrap_err();
        let left = second.retry_after().expect("the same wait");
        assert!(left <= Duration::from_secs(seconds) && left > Duration::from_secs(seconds - 5), "{left:?}");
        assert_eq!(fake.seen().len(), 1, "the second was not asked");
        // Somebody else's quota is another one.
        let token = Credentials::RegistryToken(Secret::new("t"));
        let other = registries.digest(&fake.image("acme/app:v1"), &plain().with_credentials(Some(token))).await;
        assert_eq!(other.as_deref(), Ok(DIGEST));
    }
}

#[tokio::test]
async fn a_failure_is_no_order_to_wait() {
    let count = AtomicUsize::new(0);
    let fake = Fake::start(move |_| match count.fetch_add(1, Ordering::SeqCst) {
        0 => reply(500).header("retry-after", "30"),
        1 => reply(503),
        2 => reply(429).header("retry-after", "0"),
        _ => reply(200).header("docker-content-digest", DIGEST),
    })
    .await;
    let registries = registries(LOOPBACK);
    for _ in 0..3 {
        let error = registries.digest(&fake.image("acme/app:v1"), &plain()).await.unwrap_err();
        assert_eq!(error.class(), Class::NoAnswer, "{error}");
    }
    assert_eq!(registries.digest(&fake.image("acme/app:v1"), &plain()).await.as_deref(), Ok(DIGEST));
}

#[tokio::test]
async fn a_server_that_does_not_answer() {
    let fake = Fake::start(|_| reply(200).after(Duration::from_secs(60))).await;
    let begun = Instant::now();
    let error = registries(LOOPBACK).digest(&fake.image("acme/app:v1"), &plain()).await.unwrap_err();
    assert_eq!(error.class(), Class::NoAnswer);
    assert!(matches!(error, RegistryError::Timeout { .. }), "{error:?}");
    assert!(error.to_string().starts_with(&format!("{} did not answer within ", fake.host)), "{error}");
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn few_at_once() {
    let fake =
        Fake::start(|_| reply(200).header("docker-content-digest", DIGEST).after(Duration::from_millis(50))).await;
    let (registries, access) = (registries(LOOPBACK), plain());
    let image = fake.image("acme/app:v1");
    let all = join_all((0..30).map(|_| registries.digest(&image, &access))).await;
    assert!(all.iter().all(Result::is_ok), "{all:?}");
    assert_eq!(fake.peak(), 4);
}

/// A registry that wants tokens, which its own token server gives out with a number each.
async fn with_tokens(life: u64, wanted: impl Fn(usize) -> bool + Send + Sync + 'static) -> Fake {
    let given = AtomicUsize::new(0);
    Fake::start(move |seen: &Seen| {
        let host = seen.header("host").unwrap();
        if seen.path == "/token" {
            let number = given.fetch_add(1, Ordering::SeqCst);
            return reply(200).body(format!(r#"{{"access_token":"t{number}","expires_in":{life}}}"#));
        }
        let number = seen.header("authorization").and_then(|value| value.strip_prefix("Bearer t")?.parse().ok());
        match number {
            Some(number) if wanted(number) => reply(200).header("docker-content-digest", DIGEST),
            _ => reply(401).header(
                "www-authenticate",
                &format!(
                    r#"Bearer realm="http://{host}/token?x=y",service="the service",scope="repository:all:pull,push""#
                ),
            ),
        }
    })
    .await
}

fn tokens(fake: &Fake) -> usize {
    fake.seen().iter().filter(|seen| seen.path == "/token").count()
}

#[tokio::test]
async fn tokens_are_used_again_and_end() {
    let fake = with_tokens(1, |_| true).await;
    let registries = registries(LOOPBACK);
    let digest = async |name: &str| registries.digest(&fake.image(name), &plain()).await;
    for name in ["acme/app:v1", "acme/app:v1", "acme/app:v2"] {
        assert_eq!(digest(name).await.as_deref(), Ok(DIGEST));
    }
    assert_eq!((tokens(&fake), fake.seen().len()), (1, 5), "one token, and one request without");
    assert_eq!(digest("acme/other:v1").await.as_deref(), Ok(DIGEST));
    assert_eq!(tokens(&fake), 2, "another repository's token is another one");
    tokio::time::sleep(Duration::from_millis(800)).await;
    assert_eq!(digest("acme/app:v1").await.as_deref(), Ok(DIGEST));
    assert_eq!(tokens(&fake), 3, "it has been exchanged before its end");
    let asked = fake.seen().into_iter().find(|seen| seen.path == "/token").unwrap();
    assert_eq!(asked.query, "x=y&scope=repository%3Aacme%2Fapp%3Apull&service=the+service");
    assert_eq!((asked.method.as_str(), asked.header("authorization")), ("GET", None));
}

#[tokio::test]
async fn tokens_that_are_refused() {
    // Good for one request, whatever was said.
    let fake = with_tokens(300, |number| number >= 1).await;
    let registries = registries(LOOPBACK);
    let image = fake.image("acme/app:v1");
    let error = registries.digest(&image, &plain()).await.unwrap_err();
    assert_eq!(error.class(), Class::Unauthorized, "one new token is asked for, not many: {error}");
    assert_eq!(registries.digest(&image, &plain()).await.as_deref(), Ok(DIGEST), "a bad token isn't kept");
    assert_eq!(tokens(&fake), 2);
}

#[tokio::test]
async fn credentials_go_where_they_should() {
    let fake = with_tokens(300, |_| true).await;
    let image = fake.image("acme/app:v1");
    let digest =
        async |credentials| registries(LOOPBACK).digest(&image, &plain().with_credentials(Some(credentials))).await;
    assert_eq!(digest(password("me", PASSWORD)).await.as_deref(), Ok(DIGEST));
    let asked = fake.seen().into_iter().rfind(|seen| seen.path == "/token").unwrap();
    assert_eq!(asked.header("authorization"), Some("Basic bWU6aHVudGVyMi1odW50ZXIy"));
    let to_registry = fake.seen().into_iter().filter(|seen| seen.path != "/token");
    assert!(
        to_registry.clone().all(|seen| !seen.header("authorization").is_some_and(|value| value.starts_with("Basic")))
    );

    assert_eq!(digest(Credentials::IdentityToken(Secret::new("a+b&c"))).await.as_deref(), Ok(DIGEST));
    let asked = fake.seen().into_iter().rfind(|seen| seen.path == "/token").unwrap();
    assert_eq!((asked.method.as_str(), asked.query.as_str()), ("POST", "x=y"));
    assert_eq!(
        asked.body,
        "scope=repository%3Aacme%2Fapp%3Apull&service=the+service&grant_type=refresh_token&refresh_token=a%2Bb%26c&client_id=tranche"
    );

    let before = tokens(&fake);
    assert_eq!(digest(Credentials::RegistryToken(Secret::new("t7"))).await.as_deref(), Ok(DIGEST));
    let error = digest(Credentials::RegistryToken(Secret::new("bad"))).await.unwrap_err();
    assert!(matches!(error, RegistryError::Unauthorized { had_credentials: true, .. }), "{error:?}");
    assert_eq!(tokens(&fake), before, "such a token is used as it is");
}

#[tokio::test]
async fn token_servers_that_fail() {
    for (status, body, class) in [
        (200, "{}", Class::Malformed),
        (200, "<html>", Class::Malformed),
        (400, "", Class::Unauthorized),
        (401, "", Class::Unauthorized),
        (403, r#"{"errors":[{"code":"DENIED"}]}"#, Class::Unauthorized),
        (404, "", Class::Unauthorized),
        (429, "", Class::NoAnswer),
        (500, "", Class::NoAnswer),
    ] {
        let server = Fake::start(move |_| reply(status).body(body)).await;
        let challenge = format!(r#"Bearer realm="http://{}/token""#, server.host);
        let fake = Fake::start(move |_| reply(401).header("www-authenticate", &challenge)).await;
        let error = registries(LOOPBACK).digest(&fake.image("acme/app:v1"), &plain()).await.unwrap_err();
        assert_eq!(error.class(), class, "{status} {body}: {error}");
        assert!(error.to_string().contains(&server.host), "it says who: {error}");
    }
    for challenge in ["Negotiate", "Bearer realm=nowhere", "Bearer realm=\"http://\"", ""] {
        let fake = Fake::start(move |_| reply(401).header("www-authenticate", challenge)).await;
        let error = registries(LOOPBACK).digest(&fake.image("acme/app:v1"), &plain()).await.unwrap_err();
        assert!(matches!(error.class(), Class::Unauthorized | Class::Malformed), "{challenge}: {error}");
    }
}

#[tokio::test]
async fn lists_that_have_not_changed() {
    let fake = Fake::start(|seen| match (seen.path.as_str(), seen.header("if-none-match")) {
        ("/v2/acme/app/tags/list", Some("\"one\"")) => reply(304).header("etag", "\"one\""),
        ("/v2/acme/app/tags/list", _) => reply(200).header("etag", "\"one\"").body(r#"{"tags":["v1"]}"#),
        (_, None) if seen.query.contains("last") => reply(200).header("etag", "\"two\"").body(r#"{"tags":["v2"]}"#),
        (_, None) => {
            reply(200).header("etag", "\"one\"").header("link", "<?last=v1>; rel=next").body(r#"{"tags":["v1"]}"#)
        }
        (_, Some(other)) => panic!("{other}"),
    })
    .await;
    let registries = registries(LOOPBACK);
    let repository = fake.image("acme/app").repository;
    let Tags::List { tags, known: Some(known), .. } = registries.tags(&repository, &plain(), None).await.unwrap()
    else {
        panic!("a list")
    };
    assert_eq!(tags, ["v1"]);
    assert_eq!(registries.tags(&repository, &plain(), Some(&known)).await, Ok(Tags::Unchanged));
    assert_eq!(fake.seen().len(), 2);

    // Of a list of several pages, the first one's tag proves nothing.
    let paged = registries.tags(&fake.image("acme/paged").repository, &plain(), None).await.unwrap();
    assert!(matches!(&paged, Tags::List { tags, known: None, .. } if tags.len() == 2), "{paged:?}");
    // A server may not say "unchanged" to whoever knows nothing.
    let fake = Fake::start(|_| reply(304)).await;
    let error = registries.tags(&fake.image("acme/app").repository, &plain(), None).await.unwrap_err();
    assert_eq!(error.class(), Class::Malformed, "{error}");
}
