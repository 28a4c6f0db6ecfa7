//! JFrog Artifactory.
//!
//! **Shape** (JFrog's documentation; only what is read):
//! ```json
//! {"domain": "docker", "event_type": "pushed", "jpd_origin": "https://acme.jfrog.io", "source": "jfrog/ann@example.com",
//!  "data": {"repo_key": "docker-local", "image_name": "acme/app", "tag": "v2", "name": "list.manifest.json",
//!           "sha256": "35c4…"}}
//! ```
//!
//! **Facts.**
//! - `sha256` is that of the manifest file, without prefix: the image's digest, since registries name a manifest by
//!   exactly that. Of any other file it says nothing.
//! - Devices pull either `host/repo_key/name` (the default here) or `repo_key.host/name`: where `spec.registry` begins with
//!   the repository's key and a dot, the key isn't part of the path again. A virtual repository isn't told of: policies
//!   name the local one, or `spec.registry` is the host of the virtual one.
//! - Other domains (`artifact`, `build`, `release_bundle`, …) and the event types `deleted` and `promoted` are no pushes.
//!   What a remote repository has fetched comes with the key of its cache (`docker-remote-cache`).
//! - `X-JFrog-Event-Auth` is the secret itself, or its HMAC-SHA256 in hexadecimal, as the webhook is set.
//! - No id of the delivery and no time.

use serde::Deserialize;

use super::{Dialect, shown};
use crate::api::webhook::RegistryType;
use crate::registry::delivery::for_people;
use crate::registry::named::Named;
use crate::registry::{Delivery, ParseError, PushEvent};

const NAME: &str = "artifactory";
const TITLE: &str = "Artifactory";

/// Artifactory's dialect.
#[derive(Clone, Copy, Debug)]
pub struct Artifactory;

#[derive(Deserialize)]
struct Payload {
    #[serde(default)]
    data: Option<Data>,
    #[serde(default)]
    jpd_origin: Option<String>,
    #[serde(default, deserialize_with = "for_people")]
    source: Option<String>,
}

#[derive(Deserialize)]
struct Data {
    #[serde(default)]
    repo_key: Option<String>,
    #[serde(default)]
    image_name: Option<String>,
    #[serde(default)]
    tag: Option<String>,
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    sha256: Option<String>,
}

impl Dialect for Artifactory {
    fn name(&self) -> &'static str {
        NAME
    }

    fn title(&self) -> &'static str {
        TITLE
    }

    fn type_(&self) -> RegistryType {
        RegistryType::Artifactory
    }

    fn recognises(&self, delivery: &Delivery<'_>) -> bool {
        delivery.text("domain").is_some() && delivery.text("event_type").is_some()
    }

    fn parse(&self, delivery: &Delivery<'_>) -> Result<Vec<PushEvent>, ParseError> {
        let domain = delivery.text("domain").unwrap_or_default();
        if domain != "docker" {
            return Err(ParseError::NotAPush(format!("an event of Artifactory's domain {} is no push", shown(domain))));
        }
        let event_type = delivery.text("event_type").unwrap_or_default();
        if event_type != "pushed" {
            return Err(ParseError::NotAPush(format!("Artifactory's event {} is no push", shown(event_type))));
        }
        let Payload { data, jpd_origin, source } = delivery.payload("an event of Artifactory")?;
        let missing = |field| ParseError::Missing { dialect: TITLE, field };
        let Data { repo_key, image_name, tag, name, sha256 } = data.ok_or_else(|| missing("data"))?;
        let key = repo_key.ok_or_else(|| missing("data.repo_key"))?;
        let image_name = image_name.ok_or_else(|| missing("data.image_name"))?;
        let keyed_host = |host: &str| host.split_once('.').is_some_and(|(label, _)| label.eq_ignore_ascii_case(&key));
        let path = if delivery.registry.is_some_and(keyed_host) { image_name } else { format!("{key}/{image_name}") };
        let is_manifest = name.is_some_and(|name| name.ends_with("manifest.json"));
        let digest = sha256.filter(|_| is_manifest).map(|hex| format!("sha256:{hex}"));
        let image = Named::parts(jpd_origin.as_deref(), &path)
            .tag(tag.as_deref())
            .digest(digest.as_deref())
            .image(delivery, TITLE)?;
        Ok(vec![PushEvent { image, actor: source, delivery_id: None, receiver: NAME }])
    }
}
