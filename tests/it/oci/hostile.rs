//! Servers that lead astray, lie, or leak.

use tranche::oci::{Access, Class, Credentials, RegistryError, Secret, Tags};

use super::fake::{Fake, LOOPBACK, PASSWORD, Seen, password, plain, registries, reply};
use crate::support::registry::{Registry, Settings};

const IMAGE: &str = r#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"sha256:00","size":2},"layers":[]}"#;
const OTHER: &str = "sha256:0000000000000000000000000000000000000000000000000000000000000000";

#[tokio::test]
async fn loopback_is_not_reached() {
    let fake = Fake::start(|_| reply(200).header("docker-content-digest", OTHER)).await;
    let port = fake.host.rsplit_once(':').unwrap().1;
    let registries_without = registries("");
    for host in ["127.0.0.1", "localhost", "127.1", "2130706433"] {
        let image = format!("{host}:{port}/acme/app:v1").parse().unwrap();
        for access in [plain(), Access::default()] {
            let error = registries_without.digest(&image, &access).await.unwrap_err();
            assert!(matches!(error, RegistryError::Address { .. }), "{host}: {error:?}");
            assert_eq!(error.class(), Class::Refused);
            assert!(error.to_string().contains("a loopback address, which is not reached"), "{error}");
        }
    }
    assert_eq!(fake.connections(), 0);
    // It would have answered.
    assert_eq!(registries(LOOPBACK).digest(&fake.image("acme/app:v1"), &plain()).await.as_deref(), Ok(OTHER));
    let by_name = format!("localhost:{port}/acme/app:v1").parse().unwrap();
    assert_eq!(registries(LOOPBACK).digest(&by_name, &plain()).await.as_deref(), Ok(OTHER));
}

/// Linux has the whole of 127.0.0.0/8, so that one machine has addresses that are allowed and others that aren't.
#[cfg(target_os = "linux")]
mod redirects {
    use super::*;

    async fn elsewhere() -> Fake {
        Fake::start_at("127.0.0.2".parse().unwrap(), None, |_| reply(200).header("docker-content-digest", OTHER)).await
    }

    #[tokio::test]
    async fn to_addresses_that_are_not_reached() {
        let secret = elsewhere().await;
        for (location, kind) in [
            (format!("http://{}/v2/", secret.host), "a loopback address"),
            (format!("http://{}/v2/", secret.host.replace("127.0.0.2", "2130706434")), "a loopback address"),
            (format!("http://[::ffff:127.0.0.2]:{}/", secret.host.rsplit_once(':').unwrap().1), "a loopback address"),
            ("http://169.254.169.254/latest/meta-data/".into(), "a cloud's metadata address"),
            ("http://[fd00:ec2::254]/latest/meta-data/".into(), "a cloud's metadata address"),
        ] {
            let fake = {
                let location = location.clone();
                Fake::start(move |_| reply(307).header("location", &location)).await
            };
            let error = registries(LOOPBACK).digest(&fake.image("acme/app:v1"), &plain()).await.unwrap_err();
            assert!(matches!(error, RegistryError::Address { .. }), "{location}: {error:?}");
            assert!(error.to_string().contains(kind), "{location}: {error}");
            assert_eq!(fake.seen().len(), 1);
        }
        assert_eq!(secret.connections(), 0);
    }

    #[tokio::test]
    async fn to_a_name_that_is_not_reached() {
        let secret = Fake::start(|_| reply(200)).await;
        let location = format!("http://localhost:{}/v2/", secret.host.rsplit_once(':').unwrap().1);
        let fake =
            Fake::start_at("127.0.0.2".parse().unwrap(), None, move |_| reply(302).header("location", &location)).await;
        let error = registries("127.0.0.2").digest(&fake.image("acme/app:v1"), &plain()).await.unwrap_err();
        assert!(matches!(&error, RegistryError::Address { host, .. } if host.starts_with("localhost:")), "{error:?}");
        assert_eq!((fake.seen().len(), secret.connections()), (1, 0));
    }

    #[tokio::test]
    async fn a_token_server_that_is_not_reached() {
        let secret = elsewhere().await;
        let challenge = format!(r#"Bearer realm="http://{}/token",service="s""#, secret.host);
        let fake = Fake::start(move |_| reply(401).header("www-authenticate", &challenge)).await;
        let access = plain().with_credentials(Some(password("me", PASSWORD)));
        let error = registries(LOOPBACK).digest(&fake.image("acme/app:v1"), &access).await.unwrap_err();
        assert!(matches!(error, RegistryError::Address { .. }), "{error:?}");
        assert_eq!(secret.connections(), 0);
    }
}

#[tokio::test]
async fn redirects_are_followed_but_carry_nothing_away() {
    let storage = Fake::start(|_| reply(200).header("docker-content-digest", OTHER)).await;
    let location = format!("http://{}/blob", storage.host);
    let fake = Fake::start(move |seen| match (seen.header("authorization"), seen.path.as_str()) {
        (None, _) => reply(401).header("www-authenticate", "Basic realm=x"),
        (Some(_), "/v2/acme/app/manifests/v1") => reply(307).header("location", "/v2/here"),
        (Some(_), _) => reply(307).header("location", &location),
    })
    .await;
    let access = plain().with_credentials(Some(password("me", PASSWORD)));
    assert_eq!(registries(LOOPBACK).digest(&fake.image("acme/app:v1"), &access).await.as_deref(), Ok(OTHER));
    let paths: Vec<_> =
        fake.seen().iter().map(|seen| (seen.path.clone(), seen.header("authorization").is_some())).collect();
    let manifest = "/v2/acme/app/manifests/v1".to_owned();
    assert_eq!(paths, [(manifest.clone(), false), (manifest, true), ("/v2/here".into(), true)]);
    let [there] = &storage.seen()[..] else { panic!("one request") };
    assert_eq!((there.path.as_str(), there.header("authorization")), ("/blob", None));
}

#[tokio::test]
async fn a_storage_chooses_no_token_server() {
    let thief = Fake::start(|_| reply(200).body(r#"{"token":"t"}"#)).await;
    let challenge = format!(r#"Bearer realm="http://{}/token""#, thief.host);
    let storage = Fake::start(move |_| reply(401).header("www-authenticate", &challenge)).await;
    let location = format!("http://{}/blob", storage.host);
    let fake = Fake::start(move |_| reply(307).header("location", &location)).await;
    let access = plain().with_credentials(Some(password("me", PASSWORD)));
    let error = registries(LOOPBACK).digest(&fake.image("acme/app:v1"), &access).await.unwrap_err();
    assert_eq!(error.class(), Class::Unauthorized, "{error}");
    assert_eq!(thief.connections(), 0);
}

#[tokio::test]
async fn redirects_end() {
    let fake = Fake::start(|_| reply(302).header("location", "/v2/again")).await;
    let error = registries(LOOPBACK).digest(&fake.image("acme/app:v1"), &plain()).await.unwrap_err();
    assert_eq!(error.to_string(), format!("{} answered with more than 5 redirects", fake.host));
    assert_eq!(fake.seen().len(), 6);

    for location in ["", "https://", "ftp://127.0.0.1/x", "http://me:hunter2-hunter2@127.0.0.1:1/x", "\u{1}"] {
        let fake = Fake::start(move |_| match location {
            "\u{1}" => reply(302),
            _ => reply(302).header("location", location),
        })
        .await;
        let error = registries(LOOPBACK).digest(&fake.image("acme/app:v1"), &plain()).await.unwrap_err();
        assert_eq!(error.class(), Class::Malformed, "{location}: {error}");
        assert!(!format!("{error} {error:?}").contains(PASSWORD), "{error:?}");
    }
}

#[tokio::test]
async fn from_https_never_to_http() {
    let authority = Registry::start(&Settings { tls: true, ..Settings::default() });
    let (certificate, key) = authority.server_files();
    let plain_one = Fake::start(|_| reply(200).header("docker-content-digest", OTHER)).await;
    let location = format!("http://{}/v2/", plain_one.host);
    let challenge = format!(r#"Bearer realm="http://{}/token""#, plain_one.host);
    let fake = Fake::start_tls(&certificate, &key, move |seen| match seen.path.as_str() {
        "/v2/acme/redirect/manifests/v1" => reply(307).header("location", &location),
        _ => reply(401).header("www-authenticate", &challenge),
    })
    .await;
    let access = Access::default()
        .with_authorities(&authority.authority())
        .unwrap()
        .with_credentials(Some(password("me", PASSWORD)));
    for name in ["acme/redirect:v1", "acme/token:v1"] {
        let error = registries(LOOPBACK).digest(&fake.image(name), &access).await.unwrap_err();
        assert!(matches!(error, RegistryError::PlainHttp { .. }), "{error:?}");
        assert!(error.to_string().contains("only offered over http"), "{error}");
        assert_eq!(error.class(), Class::Refused);
    }
    assert_eq!((fake.seen().len(), plain_one.connections()), (2, 0));
}

#[tokio::test]
async fn what_is_asked_for() {
    let fake = Fake::start(|_| reply(200).header("docker-content-digest", OTHER)).await;
    registries(LOOPBACK).digest(&fake.image("acme/app:v1"), &plain()).await.unwrap();
    let [seen] = &fake.seen()[..] else { panic!("one request") };
    assert_eq!((seen.method.as_str(), seen.path.as_str()), ("HEAD", "/v2/acme/app/manifests/v1"));
    assert_eq!(seen.header("user-agent"), Some(concat!("tranche/", env!("CARGO_PKG_VERSION"))));
    for media_type in ["oci.image.index.v1", "oci.image.manifest.v1", "manifest.list.v2", "distribution.manifest.v2"] {
        assert!(seen.header("accept").unwrap().contains(media_type), "{media_type}");
    }
}

#[tokio::test]
async fn digests_are_believed_only_as_far_as_they_can_be() {
    let digest = digest_of(IMAGE);
    // Without a digest in the header, or with none of the kind that images are named by, the content's own counts.
    for header in ["", "sha512:00", "sha256:short", "hello"] {
        let fake = Fake::start(move |seen| match seen.method.as_str() {
            "HEAD" if header.is_empty() => reply(405),
            _ => reply(200).header("docker-content-digest", header).body(IMAGE),
        })
        .await;
        let found = registries(LOOPBACK).digest(&fake.image("acme/app:v1"), &plain()).await;
        assert_eq!(found, Ok(digest.clone()), "{header}");
    }
    // Announced or asked for one, served another.
    let fake = Fake::start(|seen| match seen.path.contains(OTHER) {
        true => reply(200).body(IMAGE),
        false => reply(200).header("docker-content-digest", OTHER).body(IMAGE),
    })
    .await;
    for name in ["acme/app:v1", &format!("acme/app@{OTHER}")] {
        let error = registries(LOOPBACK).manifest(&fake.image(name), &plain()).await.unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("{} served content with digest {digest} for {OTHER}", fake.host),
            "{name}"
        );
        assert_eq!(error.class(), Class::Malformed);
    }
    let error = registries(LOOPBACK).digest(&fake.image(&format!("acme/app@{digest}")), &plain()).await.unwrap_err();
    assert!(matches!(error, RegistryError::Digest { .. }), "{error:?}");
}

fn digest_of(text: &str) -> String {
    use sha2::Digest as _;
    let hex: String = sha2::Sha256::digest(text).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}

#[tokio::test]
async fn answers_that_make_no_sense() {
    for (status, body, class, text) in [
        (200, "<html>".to_owned(), Class::Malformed, "answered a manifest that can't be read (line 1, column 1)"),
        (200, "{}".into(), Class::Malformed, "answered a manifest of a kind that is not known"),
        (200, " ".repeat((4 << 20) + 1), Class::Malformed, "answered with more than 4194304 bytes"),
        (204, String::new(), Class::Malformed, "answered with status 204"),
        (418, "tea".into(), Class::Malformed, "answered with status 418"),
        (404, " ".repeat(1 << 20), Class::NoSuchImage, "does not exist in the registry"),
        (403, r#"{"errors":[{"code":"DENIED"}]}"#.into(), Class::Unauthorized, "(DENIED)"),
        (500, "<html>".into(), Class::NoAnswer, "failed with status 500"),
        (503, String::new(), Class::NoAnswer, "failed with status 503"),
        (408, String::new(), Class::NoAnswer, "failed with status 408"),
    ] {
        let fake = Fake::start(move |_| reply(status).body(body.clone())).await;
        let error = registries(LOOPBACK).manifest(&fake.image("acme/app:v1"), &plain()).await.unwrap_err();
        assert_eq!(error.class(), class, "{status}: {error}");
        assert!(error.to_string().contains(text), "{status}: {error}");
    }
    for body in ["<html>", r#"{"tags":{}}"#] {
        let fake = Fake::start(move |_| reply(200).body(body)).await;
        let error = registries(LOOPBACK).tags(&fake.image("acme/app").repository, &plain(), None).await.unwrap_err();
        assert_eq!(error.to_string(), format!("{} answered a list of tags that can't be read", fake.host));
    }
}

#[tokio::test]
async fn lists_that_have_no_end() {
    let repository = |fake: &Fake| fake.image("acme/app").repository;
    // Everything at once, some of it no tags.
    let fake = Fake::start(|_| {
        let tags: Vec<String> =
            (0..12_000).map(|n| format!("v{n}")).chain(["not a tag".into(), "../x".into()]).collect();
        reply(200).body(serde_json::json!({ "tags": tags }).to_string())
    })
    .await;
    let found = registries(LOOPBACK).tags(&repository(&fake), &plain(), None).await.unwrap();
    let Tags::List { tags, truncated: true, known: None } = found else { panic!("{found:?}") };
    assert_eq!(tags.len(), 10_000);
    // Always the same page, with a link to itself, to another host, to nowhere.
    for link in ["</v2/acme/app/tags/list?n=1000&last=b>; rel=\"next\"", "<http://169.254.169.254/x?last=b>; rel=next"]
    {
        let fake = Fake::start(move |_| reply(200).header("link", link).body(r#"{"tags":["a","b","a"]}"#)).await;
        let found = registries(LOOPBACK).tags(&repository(&fake), &plain(), None).await.unwrap();
        assert_eq!(found, Tags::List { tags: vec!["a".into(), "b".into()], truncated: false, known: None });
        assert_eq!(fake.seen().len(), 2);
        assert_eq!(fake.seen()[1].path, "/v2/acme/app/tags/list");
    }
    // A tag a page.
    let fake = Fake::start(|seen: &Seen| {
        let n: usize = seen.query.strip_prefix("last=").map_or(0, |n| n.parse().unwrap());
        reply(200).header("link", &format!("<?last={}>; rel=\"next\"", n + 1)).body(format!(r#"{{"tags":["v{n}"]}}"#))
    })
    .await;
    let found = registries(LOOPBACK).tags(&repository(&fake), &plain(), None).await.unwrap();
    assert!(matches!(&found, Tags::List { tags, truncated: true, .. } if tags.len() == 100), "{found:?}");
    // Full pages without links.
    let fake = Fake::start(|seen: &Seen| {
        let from = if seen.query.contains("last=") { 1000 } else { 0 };
        let until = if from == 0 { 1000 } else { 1500 };
        let tags: Vec<String> = (from..until).map(|n| format!("v{n}")).collect();
        reply(200).body(serde_json::json!({ "tags": tags }).to_string())
    })
    .await;
    let found = registries(LOOPBACK).tags(&repository(&fake), &plain(), None).await.unwrap();
    assert!(matches!(&found, Tags::List { tags, truncated: false, .. } if tags.len() == 1500), "{found:?}");
    assert_eq!(fake.seen()[1].query, "n=1000&last=v999");
}

#[tokio::test]
async fn secrets_are_never_shown() {
    // A server that sends everything back that it gets, wherever it might be shown.
    let echo = |seen: &Seen| {
        let all = format!("{} {} {}", seen.header("authorization").unwrap_or_default(), seen.body, PASSWORD);
        let code = serde_json::json!({"errors": [{"code": all, "message": all, "detail": all}], "mediaType": all});
        let status = seen.path.rsplit('/').next().and_then(|tag| tag.parse().ok()).unwrap_or(401);
        reply(status)
            .header("www-authenticate", &format!("Basic realm=\"{PASSWORD}\", Bearer realm=\"{PASSWORD}\""))
            .header("location", &format!("ftp://{PASSWORD}:{PASSWORD}@host/{PASSWORD}"))
            .header("docker-content-digest", PASSWORD)
            .body(code.to_string())
    };
    let fake = Fake::start(echo).await;
    for credentials in [
        password("me", PASSWORD),
        Credentials::IdentityToken(Secret::new(PASSWORD)),
        Credentials::RegistryToken(Secret::new(PASSWORD)),
    ] {
        let access = plain().with_credentials(Some(credentials));
        let registries = registries(LOOPBACK);
        for status in ["200", "302", "400", "401", "403", "404", "429", "500"] {
            let image = fake.image(&format!("acme/app:{status}"));
            let error = registries.manifest(&image, &access).await.unwrap_err();
            let shown = format!("{error} {error:?} {registries:?} {access:?}");
            assert!(!shown.contains(PASSWORD) && !shown.contains("aHVudGVyMi"), "{shown}");
            if status == "429" {
                break;
            }
        }
    }
}
