//! GitHub's container registry (ghcr.io), by the webhook events `package` and `registry_package`.
//!
//! **Shape** (GitHub's documentation and real deliveries; only what is read; `registry_package` holds the same object):
//! ```json
//! {"action": "published", "sender": {"login": "ann"},
//!  "package": {"name": "app", "package_type": "CONTAINER", "ecosystem": "CONTAINER", "owner": {"login": "Acme"},
//!   "package_version": {"version": "sha256:…", "package_url": "ghcr.io/acme/app:v2",
//!    "container_metadata": {"tag": {"name": "v2", "digest": "sha256:…"}, "manifest": {"digest": "sha256:…"}}}}}
//! ```
//!
//! **Facts.**
//! - Signs with `X-Hub-Signature-256`; `X-GitHub-Delivery` is an id; it waits about ten seconds for the answer and doesn't
//!   try again by itself.
//! - Fires once for each manifest: a push for two architectures is three deliveries, two of them without a tag
//!   (`tag.name` is `""`, and `package_url` ends with a colon). These are ignored.
//! - Names one tag even when several point at the digest.
//! - The older registry `docker.pkg.github.com` is told of by `package_url` alone, without `container_metadata`: then the
//!   tag is the URL's.
//! - `package_type` is spelled `CONTAINER` or `container`. `owner.login` has its owner's capitals; references don't.
//! - `action` is `published` or `updated` (a tag moved); in 2020 it was `create`.
//! - The event `ping` comes when the hook is made, and a hook may be subscribed to everything: all of that is no push.
//! - Gitea and Forgejo send `X-GitHub-Event` too, next to their own header: not ours.
//! - The predecessor of Tranche took a flat form, for scripts: `{"package": {"name": "acme/app"}, "package_version":
//!   {"container_metadata": {"tag": {"name": "v2"}}}}` is `ghcr.io/acme/app:v2`.

use serde::Deserialize;

use super::{Dialect, gitea, shown};
use crate::api::webhook::RegistryType;
use crate::registry::delivery::{for_people, tidy};
use crate::registry::named::Named;
use crate::registry::{Delivery, ParseError, PushEvent, media};

const NAME: &str = "github";
const TITLE: &str = "GitHub";
const HOST: &str = "ghcr.io";
/// What the payload is called in errors.
const WHAT: &str = "a package event of GitHub";

/// GitHub's dialect.
#[derive(Clone, Copy, Debug)]
pub struct GitHub;

#[derive(Deserialize)]
struct Payload {
    #[serde(default)]
    action: Option<String>,
    #[serde(default)]
    package: Option<Package>,
    #[serde(default)]
    registry_package: Option<Package>,
    /// The flat form's.
    #[serde(default)]
    package_version: Option<PackageVersion>,
    #[serde(default)]
    sender: Option<Sender>,
}

#[derive(Deserialize)]
struct Package {
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    package_type: Option<String>,
    #[serde(default)]
    ecosystem: Option<String>,
    #[serde(default)]
    owner: Option<Owner>,
    #[serde(default)]
    package_version: Option<PackageVersion>,
}

#[derive(Deserialize)]
struct PackageVersion {
    #[serde(default)]
    version: Option<String>,
    #[serde(default)]
    package_url: Option<String>,
    #[serde(default)]
    container_metadata: Option<ContainerMetadata>,
}

#[derive(Default, Deserialize)]
struct ContainerMetadata {
    #[serde(default)]
    tag: Option<Tag>,
    #[serde(default)]
    manifest: Option<Manifest>,
}

#[derive(Default, Deserialize)]
struct Tag {
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    digest: Option<String>,
}

#[derive(Default, Deserialize)]
struct Manifest {
    #[serde(default)]
    digest: Option<String>,
    #[serde(default)]
    config: Option<Config>,
}

#[derive(Deserialize)]
struct Config {
    #[serde(default)]
    media_type: Option<String>,
}

#[derive(Deserialize)]
struct Owner {
    #[serde(default)]
    login: Option<String>,
}

#[derive(Deserialize)]
struct Sender {
    #[serde(default, deserialize_with = "for_people")]
    login: Option<String>,
}

impl Dialect for GitHub {
    fn name(&self) -> &'static str {
        NAME
    }

    fn title(&self) -> &'static str {
        TITLE
    }

    fn type_(&self) -> RegistryType {
        RegistryType::GitHub
    }

    fn recognises(&self, delivery: &Delivery<'_>) -> bool {
        if gitea::sent(delivery) {
            return false;
        }
        let package = delivery.has("package") && !delivery.has("package.type");
        delivery.headers.contains_key("x-github-event")
            || delivery.has("registry_package")
            || delivery.has("zen") && delivery.has("hook_id")
            || package && (delivery.has("package_version") || delivery.has("action"))
    }

    fn parse(&self, delivery: &Delivery<'_>) -> Result<Vec<PushEvent>, ParseError> {
        // Other events have shapes of their own: they are turned away before the payload is read.
        let ping = delivery.has("zen").then_some("ping");
        if let Some(event) = delivery.header("x-github-event").or(ping)
            && !matches!(event, "package" | "registry_package")
        {
            return Err(ParseError::NotAPush(format!("GitHub's event {} tells of no pushed image", shown(event))));
        }
        let Payload { action, package, registry_package, package_version, sender } = delivery.payload(WHAT)?;
        let missing = |field| ParseError::Missing { dialect: TITLE, field };
        let package = package.or(registry_package).ok_or_else(|| missing("package"))?;
        if let Some(action) = action.as_deref()
            && !matches!(action, "published" | "updated" | "create" | "created")
        {
            return Err(ParseError::NotAPush(format!("the action {} of a package is no push", shown(action))));
        }
        let Package { name, package_type, ecosystem, owner, package_version: nested } = package;
        if let Some(type_) = package_type.or(ecosystem)
            && !matches!(type_.to_ascii_lowercase().as_str(), "container" | "docker")
        {
            return Err(ParseError::NotAPush(format!("a package of type {} is no container image", shown(&type_))));
        }
        let PackageVersion { version, package_url, container_metadata } =
            nested.or(package_version).ok_or_else(|| missing("package.package_version"))?;
        let ContainerMetadata { tag, manifest } = container_metadata.unwrap_or_default();
        let Manifest { digest, config } = manifest.unwrap_or_default();
        let config = config.and_then(|config| config.media_type);
        if let Some(what) = config.as_deref().and_then(media::of_config) {
            return Err(ParseError::NotAPush(what.sentence()));
        }
        // A URL without a host would be taken for Docker Hub's.
        let url = package_url.as_deref().map(Named::written).filter(|named| named.host().is_some());
        // An empty name says that there is no tag; the URL is asked only where nothing is said.
        let said = tag.as_ref().and_then(|tag| tag.name.as_deref());
        let tag_name = said.or_else(|| url.and_then(Named::tag_name));
        let written = written(owner, name);
        let (host, path) = match (url, &written) {
            (Some(url), _) => (url.host(), url.path()),
            (None, Some(path)) => (Some(HOST), path.as_str()),
            (None, None) => return Err(missing("package.name")),
        };
        let image = Named::parts(host, path)
            .tag(tag_name)
            .digest(version.as_deref())
            .digest(digest.as_deref())
            .digest(tag.as_ref().and_then(|tag| tag.digest.as_deref()))
            .image(delivery, TITLE)?;
        Ok(vec![PushEvent {
            image,
            actor: sender.and_then(|sender| sender.login),
            delivery_id: delivery.header("x-github-delivery").and_then(tidy),
            receiver: NAME,
        }])
    }
}

/// The name put together, where GitHub doesn't write it.
fn written(owner: Option<Owner>, name: Option<String>) -> Option<String> {
    let name = name.filter(|name| !name.is_empty())?;
    Some(match owner.and_then(|owner| owner.login).filter(|login| !login.is_empty()) {
        Some(owner) => format!("{owner}/{name}"),
        None => name.strip_prefix("ghcr.io/").unwrap_or(&name).to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use http::HeaderMap;
    use serde_json::{Value, json};

    use super::*;
    use crate::registry::{Expect, parse};

    const DIGEST: &str = "sha256:89163f2f3d1f1b2f9c7d0b9a31f6f1a1c7f4f9d0b3b0a3c3f2f1e0d9c8b7a695";

    fn headers(event: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert("x-github-event", event.parse().expect("a header value"));
        headers.insert("x-github-delivery", "0c1f".parse().expect("a header value"));
        headers
    }

    fn payload(package: &Value) -> Value {
        json!({"action": "published", "package": package, "sender": {"login": "ann"}, "repository": {"id": 1}})
    }

    fn package() -> Value {
        json!({
            "id": 7, "name": "app", "namespace": "Acme", "ecosystem": "CONTAINER", "package_type": "CONTAINER",
            "owner": {"login": "Acme", "id": 1},
            "package_version": {
                "version": DIGEST, "package_url": "ghcr.io/Acme/app:v2",
                "container_metadata": {"tag": {"name": "v2", "digest": DIGEST}, "manifest": {"digest": DIGEST}},
            },
        })
    }

    fn with(pointer: &str, value: Value) -> Value {
        let mut package = package();
        let (parent, key) = pointer.rsplit_once('/').expect("a pointer");
        package.pointer_mut(parent).expect("a parent")[key] = value;
        package
    }

    fn event(event: &str, body: &Value) -> Result<PushEvent, ParseError> {
        let (name, result) = parse(&headers(event), body.to_string().as_bytes(), &Expect::default());
        assert_eq!(name, Some(NAME));
        result.map(|mut events| events.remove(0))
    }

    #[test]
    fn both_events() {
        let expected = format!("ghcr.io/acme/app:v2@{DIGEST}");
        let push = event("package", &payload(&package())).expect("a push");
        assert_eq!(push.image.to_string(), expected);
        assert_eq!(push.actor.as_deref(), Some("ann"));
        assert_eq!(push.delivery_id.as_deref(), Some("0c1f"));
        let body = json!({"action": "updated", "registry_package": package()});
        assert_eq!(event("registry_package", &body).expect("a push").image.to_string(), expected);
        // Without headers, by shape.
        let (_, result) = parse(&HeaderMap::new(), body.to_string().as_bytes(), &Expect::default());
        assert_eq!(result.expect("a push")[0].image.to_string(), expected);
    }

    #[test]
    fn variants() {
        for (pointer, value, image) in [
            ("/package_type", json!("container"), format!("ghcr.io/acme/app:v2@{DIGEST}")),
            ("/package_version/container_metadata/tag/name", json!(""), format!("ghcr.io/acme/app@{DIGEST}")),
            ("/package_version/container_metadata/tag", json!(null), format!("ghcr.io/acme/app:v2@{DIGEST}")),
            ("/package_version/container_metadata", json!(null), format!("ghcr.io/acme/app:v2@{DIGEST}")),
            ("/package_version/package_url", json!("ghcr.io/Acme/app:"), format!("ghcr.io/acme/app:v2@{DIGEST}")),
            ("/package_version/package_url", json!("app:v2"), format!("ghcr.io/acme/app:v2@{DIGEST}")),
            ("/package_version/package_url", json!(null), format!("ghcr.io/acme/app:v2@{DIGEST}")),
            (
                "/package_version/package_url",
                json!("docker.pkg.github.com/Acme/repo/app:v2"),
                format!("docker.pkg.github.com/acme/repo/app:v2@{DIGEST}"),
            ),
            (
                "/package_version/container_metadata/tag/digest",
                json!("sha256:no"),
                format!("ghcr.io/acme/app:v2@{DIGEST}"),
            ),
        ] {
            let push = event("package", &payload(&with(pointer, value.clone()))).expect(pointer);
            assert_eq!(push.image.to_string(), image, "{pointer} = {value}");
        }
    }

    #[test]
    fn the_flat_form() {
        for (name, image) in
            [("acme/app", "ghcr.io/acme/app:v2"), ("Acme/App", "ghcr.io/acme/app:v2"), ("app", "ghcr.io/app:v2")]
        {
            let body = json!({
                "package": {"name": name},
                "package_version": {"container_metadata": {"tag": {"name": "v2"}}},
            });
            let (dialect, result) = parse(&HeaderMap::new(), body.to_string().as_bytes(), &Expect::default());
            assert_eq!(dialect, Some(NAME));
            assert_eq!(result.expect("a push")[0].image.to_string(), image);
        }
    }

    #[test]
    fn no_pushes() {
        let mut deleted = payload(&package());
        deleted["action"] = json!("deleted");
        for (name, body, says) in [
            ("ping", json!({"zen": "Keep it logically awesome.", "hook_id": 1}), "\"ping\""),
            ("push", json!({"ref": "refs/heads/main", "package": 7}), "\"push\""),
            ("package", deleted, "\"deleted\""),
            ("package", payload(&with("/package_type", json!("npm"))), "\"npm\""),
        ] {
            match event(name, &body) {
                Err(ParseError::NotAPush(why)) => assert!(why.contains(says), "{why}"),
                other => panic!("{name}: {other:?}"),
            }
        }
    }

    #[test]
    fn refused() {
        for body in [
            json!({"action": "published"}),
            json!({"action": "published", "package": {"name": "app"}}),
            json!({"action": "published", "package": "app"}),
            payload(&with("/package_version/container_metadata/tag/name", json!("no tag"))),
            payload(&with("/package_version/container_metadata/tag/name", json!(7))),
            payload(&with("/package_version/package_url", json!("ghcr.io/../app:v2"))),
        ] {
            let result = event("package", &body);
            assert!(!matches!(result, Ok(_) | Err(ParseError::NotAPush(_))), "{body}: {result:?}");
        }
    }

    #[test]
    fn gitea_is_not_github() {
        let mut headers = headers("package");
        headers.insert("x-gitea-event", "package".parse().expect("a header value"));
        let (dialect, _) = parse(&headers, payload(&package()).to_string().as_bytes(), &Expect::default());
        assert_eq!(dialect, Some("gitea"));
    }
}
