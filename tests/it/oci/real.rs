//! With the real registry.

use tranche::oci::{Access, Class, Credentials, ManifestKind, RegistryError, Tags};

use super::fake::{Fake, LOOPBACK, password, plain, registries, reply};
use crate::support::registry::{Kind, Registry, Settings};
use crate::support::wait::until;

fn tags(tags: Tags) -> Vec<String> {
    match tags {
        Tags::List { tags, truncated: false, .. } => tags,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn what_is_pushed_is_found() {
    let registry = Registry::start(&Settings::default());
    let registries = registries(LOOPBACK);
    let artifact = ManifestKind::Artifact("application/vnd.tranche.test.v1+json".into());
    for (kind, found) in [
        (Kind::Image, ManifestKind::Image),
        (Kind::Docker, ManifestKind::Image),
        (Kind::Index, ManifestKind::Index),
        (Kind::Helm, ManifestKind::HelmChart),
        (Kind::Artifact, artifact),
    ] {
        let digest = registry.push(kind, "acme/app:v1", "one").await;
        let image = registry.image("acme/app:v1");
        assert_eq!(registry.crane(&["digest", &image.to_string()]).await, digest, "{kind:?}");
        assert_eq!(registries.digest(&image, &plain()).await, Ok(digest.clone()), "{kind:?}");
        let manifest = registries.manifest(&image, &plain()).await.unwrap();
        assert_eq!((manifest.digest, manifest.kind), (digest.clone(), found), "{kind:?}");
        let by_digest = registry.image(&format!("acme/app@{digest}"));
        assert_eq!(registries.digest(&by_digest, &plain()).await, Ok(digest), "{kind:?}");
    }
    registry.push(Kind::Image, "acme/app:latest", "two").await;
    let latest = registries.digest(&registry.image("acme/app:latest"), &plain()).await;
    assert_eq!(registries.digest(&registry.image("acme/app"), &plain()).await, latest, "no tag is latest");

    for name in ["acme/app:v9", "acme/other:v1", &format!("acme/app@sha256:{}", "0".repeat(64))] {
        for error in [
            registries.digest(&registry.image(name), &plain()).await.unwrap_err(),
            registries.manifest(&registry.image(name), &plain()).await.unwrap_err(),
        ] {
            assert_eq!(error.class(), Class::NoSuchImage, "{error}");
            assert_eq!(error.to_string(), format!("{} does not exist in the registry", registry.image(name)));
        }
    }
}

#[tokio::test]
async fn tags_page_by_page() {
    let registry = Registry::start(&Settings { page: Some(3), ..Settings::default() });
    let registries = registries(LOOPBACK);
    registry.push(Kind::Image, "acme/app:v1", "one").await;
    for tag in ["v2", "v3", "v4", "v5", "v6", "v7", "latest"] {
        registry.tag("acme/app:v1", tag).await;
    }
    let repository = registry.image("acme/app").repository;
    let found = tags(registries.tags(&repository, &plain(), None).await.unwrap());
    assert_eq!(found, ["latest", "v1", "v2", "v3", "v4", "v5", "v6", "v7"]);
    assert_eq!(registry.crane(&["ls", &repository]).await.lines().collect::<Vec<_>>(), found);
    registry.delete("acme/app:v2").await;
    assert_eq!(tags(registries.tags(&repository, &plain(), None).await.unwrap()).len(), 7);

    let error = registries.tags(&registry.image("acme/none").repository, &plain(), None).await.unwrap_err();
    assert_eq!(error.class(), Class::NoSuchImage, "{error}");
}

#[tokio::test]
async fn basic_authentication() {
    let registry = Registry::start(&Settings { basic: Some("me:sesame".into()), ..Settings::default() });
    let registries = registries(LOOPBACK);
    let digest = registry.push(Kind::Image, "acme/app:v1", "one").await;
    let image = registry.image("acme/app:v1");
    let access = plain().with_credentials(Some(password("me", "sesame")));
    assert_eq!(registries.digest(&image, &access).await, Ok(digest.clone()));
    assert_eq!(registries.manifest(&image, &access).await.unwrap().digest, digest);
    assert_eq!(tags(registries.tags(&image.repository, &access, None).await.unwrap()), ["v1"]);

    let error = registries.digest(&image, &plain()).await.unwrap_err();
    assert_eq!(error.class(), Class::Unauthorized);
    assert!(error.to_string().contains("name a Secret with credentials for it in spec.image.registry.pullSecretRef"));
    let wrong = plain().with_credentials(Some(password("me", "wrong")));
    for error in
        [registries.digest(&image, &wrong).await.unwrap_err(), registries.manifest(&image, &wrong).await.unwrap_err()]
    {
        assert!(matches!(error, RegistryError::Unauthorized { had_credentials: true, .. }), "{error:?}");
        assert!(error.to_string().contains("spec.image.registry.pullSecretRef"), "{error}");
    }
}

#[tokio::test]
async fn token_authentication() {
    let settings = Settings { token: Some("me:sesame".into()), ..Settings::default() };
    let mut registry = Registry::start(&settings);
    // The token server is asked by its name, and that may have both families' addresses.
    let registries = registries(LOOPBACK);
    let private = registry.push(Kind::Image, "acme/app:v1", "one").await;
    let public = registry.push(Kind::Index, "public/app:v1", "one").await;
    let me = plain().with_credentials(Some(password("me", "sesame")));
    for (name, access, digest) in
        [("acme/app:v1", &me, &private), ("public/app:v1", &me, &public), ("public/app:v1", &plain(), &public)]
    {
        assert_eq!(registries.digest(&registry.image(name), access).await.as_ref(), Ok(digest), "{name}");
    }
    assert_eq!(tags(registries.tags(&registry.image("acme/app").repository, &me, None).await.unwrap()), ["v1"]);

    let error = registries.digest(&registry.image("acme/app:v1"), &plain()).await.unwrap_err();
    assert!(matches!(error, RegistryError::Unauthorized { had_credentials: false, .. }), "{error:?}");
    let wrong = plain().with_credentials(Some(password("me", "wrong")));
    let error = registries.digest(&registry.image("acme/app:v1"), &wrong).await.unwrap_err();
    assert!(matches!(error, RegistryError::Unauthorized { had_credentials: true, .. }), "{error:?}");
    assert!(error.to_string().starts_with("localhost:"), "the token server said so: {error}");

    // A token that is good no more, whatever was said of it, is exchanged for another one.
    registry.restart();
    assert_eq!(registries.digest(&registry.image("acme/app:v1"), &me).await, Ok(private));
}

#[tokio::test]
async fn a_registry_that_is_down() {
    let mut registry = Registry::start(&Settings::default());
    let registries = registries(LOOPBACK);
    let digest = registry.push(Kind::Image, "acme/app:v1", "one").await;
    let image = registry.image("acme/app:v1");
    assert_eq!(registries.digest(&image, &plain()).await, Ok(digest.clone()));
    registry.kill();
    let error = registries.digest(&image, &plain()).await.unwrap_err();
    assert_eq!(error.class(), Class::NoAnswer, "{error}");
    assert!(error.to_string().starts_with(&format!("cannot reach {}: ", registry.host)), "{error}");
    registry.restart();
    assert_eq!(registries.digest(&image, &plain()).await, Ok(digest));
}

#[tokio::test]
async fn an_authority_of_its_own() {
    let settings = Settings { tls: true, token: Some("me:sesame".into()), ..Settings::default() };
    let registry = Registry::start(&settings);
    let registries = registries(LOOPBACK);
    let digest = registry.push(Kind::Image, "acme/app:v1", "one").await;
    let image = registry.image("acme/app:v1");
    let me = Access::default().with_credentials(Some(password("me", "sesame")));
    let error = registries.digest(&image, &me).await.unwrap_err();
    assert!(matches!(error, RegistryError::Certificate { .. }), "{error:?}");
    assert_eq!(error.class(), Class::NoAnswer);
    assert!(error.to_string().contains("spec.image.registry.caSecretRef"), "{error}");

    let trusting = me.clone().with_authorities(&registry.authority()).unwrap();
    assert_eq!(registries.digest(&image, &trusting).await, Ok(digest), "the registry's, and its token server's");
    let error = registries.digest(&image, &me).await.unwrap_err();
    assert!(matches!(error, RegistryError::Certificate { .. }), "trust is not another policy's: {error:?}");
    let over_http = registries.digest(&image, &plain()).await.unwrap_err();
    assert_eq!(over_http.class(), Class::Malformed, "{over_http}");
}

#[tokio::test]
async fn plain_http_is_asked_for() {
    let registry = Registry::start(&Settings::default());
    let registries = registries(LOOPBACK);
    let error = registries.digest(&registry.image("acme/app:v1"), &Access::default()).await.unwrap_err();
    assert!(matches!(error, RegistryError::NotTls { .. }), "{error:?}");
    assert!(error.to_string().contains("spec.image.registry.plainHttp"), "{error}");
}

#[tokio::test]
async fn its_own_notifications() {
    let receiver = Fake::start(|_| reply(200)).await;
    let settings =
        Settings::default().notifying(&format!("http://{}/hook", receiver.host), &[("Authorization", "Bearer sesame")]);
    let registry = Registry::start(&settings);
    let digest = registry.push(Kind::Index, "acme/app:v1", "one").await;
    let (seen, event) = until("the push of the tag", async || {
        for seen in receiver.seen() {
            let body: serde_json::Value = serde_json::from_str(&seen.body).unwrap();
            let events = body["events"].as_array().cloned().unwrap_or_default();
            if let Some(event) = events.into_iter().find(|event| event["target"]["tag"] == "v1") {
                return Ok((seen, event));
            }
        }
        Err(format!("{} deliveries", receiver.seen().len()))
    })
    .await;
    assert_eq!((&event["target"]["digest"], &event["action"]), (&digest.into(), &"push".into()));
    assert_eq!(event["request"]["host"], *registry.host);
    assert_eq!((seen.path.as_str(), seen.header("authorization")), ("/hook", Some("Bearer sesame")));
    let media_type = seen.header("content-type").unwrap();
    assert_eq!(media_type, "application/vnd.docker.distribution.events.v2+json");
}

#[tokio::test]
async fn credentials_of_a_pull_secret() {
    let registry = Registry::start(&Settings { basic: Some("me:sesame".into()), ..Settings::default() });
    let digest = registry.push(Kind::Image, "acme/app:v1", "one").await;
    let image = registry.image("acme/app:v1");
    let secret = serde_json::json!({"auths": {
        format!("http://{}/v2/", registry.host): {"auth": "bWU6c2VzYW1l"},
        format!("{}/other", registry.host): {"username": "you", "password": "wrong"},
    }});
    let found = tranche::oci::credentials_for(secret.to_string().as_bytes(), &image.repository).unwrap();
    assert!(matches!(&found, Some(Credentials::Password { username, .. }) if username == "me"), "{found:?}");
    assert_eq!(registries(LOOPBACK).digest(&image, &plain().with_credentials(found)).await, Ok(digest));
}
