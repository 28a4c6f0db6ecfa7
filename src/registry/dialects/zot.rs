//! zot, by its HTTP sink of events.
//!
//! **Shape** (rendered from its source; only what is read). A CloudEvent, in zot's own setting in binary mode:
//! ```text
//! Ce-Type: zotregistry.image.updated
//! Ce-Id: 3d3f…
//!
//! {"name": "acme/app", "reference": "v2", "digest": "sha256:…", "mediaType": "…", "manifest": "{…}",
//!  "actor": {"name": "ann"}}
//! ```
//!
//! **Facts.**
//! - The prefix of `Ce-Type` can be set by the one who runs zot: the ends `image.updated`, `image.deleted`,
//!   `image.lint_failed` and `repository.created` are what counts.
//! - Doesn't say where it is: `spec.registry` is needed.
//! - `reference` is a tag, or the digest of what was pushed without one.
//! - `manifest` is the manifest itself, as text: its configuration tells a Helm chart or a signature from an image.
//! - Doesn't sign; sends basic or bearer credentials, or headers of one's own.

use serde::Deserialize;

use super::{Dialect, shown};
use crate::api::webhook::RegistryType;
use crate::registry::delivery::{Delivery, for_people};
use crate::registry::named::Named;
use crate::registry::{ParseError, PushEvent, cloudevent, media};

const NAME: &str = "zot";
const TITLE: &str = "zot";
/// Ends of the type of an event.
const EVENTS: [&str; 4] = ["image.updated", "image.deleted", "image.lint_failed", "repository.created"];

/// zot's dialect.
#[derive(Clone, Copy, Debug)]
pub struct Zot;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Data {
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    reference: Option<String>,
    #[serde(default)]
    digest: Option<String>,
    #[serde(default)]
    media_type: Option<String>,
    #[serde(default)]
    manifest: Option<String>,
    #[serde(default)]
    actor: Option<Actor>,
}

#[derive(Deserialize)]
struct Actor {
    #[serde(default, deserialize_with = "for_people")]
    name: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Manifest {
    #[serde(default)]
    artifact_type: Option<String>,
    #[serde(default)]
    config: Option<Config>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Config {
    #[serde(default)]
    media_type: Option<String>,
}

impl Dialect for Zot {
    fn name(&self) -> &'static str {
        NAME
    }

    fn title(&self) -> &'static str {
        TITLE
    }

    fn type_(&self) -> RegistryType {
        RegistryType::Zot
    }

    fn recognises(&self, delivery: &Delivery<'_>) -> bool {
        cloudevent::type_of(delivery).is_some_and(|type_| EVENTS.iter().any(|event| is(type_, event)))
    }

    fn parse(&self, delivery: &Delivery<'_>) -> Result<Vec<PushEvent>, ParseError> {
        let type_ = cloudevent::type_of(delivery).unwrap_or_default();
        if !is(type_, "image.updated") {
            return Err(ParseError::NotAPush(format!("zot's event {} tells of no pushed image", shown(type_))));
        }
        let event = cloudevent::read(delivery, "an event of zot")?;
        let Data { name, reference, digest, media_type, manifest, actor } = event.data;
        let what =
            media_type.as_deref().and_then(media::of_target).or_else(|| manifest.as_deref().and_then(of_manifest));
        if let Some(what) = what {
            return Err(ParseError::NotAPush(what.sentence()));
        }
        let name = name.ok_or(ParseError::Missing { dialect: TITLE, field: "name" })?;
        let image =
            Named::parts(None, &name).tag(reference.as_deref()).digest(digest.as_deref()).image(delivery, TITLE)?;
        Ok(vec![PushEvent { image, actor: actor.and_then(|actor| actor.name), delivery_id: event.id, receiver: NAME }])
    }
}

/// With any prefix, but a whole one.
fn is(type_: &str, event: &str) -> bool {
    type_.strip_suffix(event).is_some_and(|prefix| prefix.is_empty() || prefix.ends_with('.'))
}

/// A manifest that can't be read says nothing; the registry took it.
fn of_manifest(text: &str) -> Option<media::NotAnImage> {
    let Manifest { artifact_type, config } = serde_json::from_str(text).unwrap_or_default();
    let config = config.and_then(|config| config.media_type);
    config.as_deref().and_then(media::of_config).or_else(|| artifact_type.as_deref().and_then(media::of_config))
}
