//! CNCF Distribution (the image `registry`, 2.x and 3.x), and GitLab where one runs it oneself.
//!
//! **Shape** (its documentation and captured deliveries; only what is read):
//! ```json
//! {"events": [{"id": "…", "action": "push", "actor": {"name": "ann"}, "request": {"host": "registry.example:5000"},
//!   "target": {"mediaType": "application/vnd.oci.image.index.v1+json", "repository": "acme/app", "tag": "v2",
//!              "digest": "sha256:…", "references": [{"mediaType": "…"}]}}]}
//! ```
//!
//! **Facts.**
//! - Tells of everything: one push of one architecture is three deliveries (two blobs and the manifest), of two
//!   architectures many more, and only the last has a tag. Pulls and deletions carry `tag` too, so `action` goes first.
//! - Anything but 2xx is tried again until it is 2xx, one after the other: one delivery that fails holds up all later
//!   ones. A second try has the id of the first.
//! - `request.host` is the host as the pushing client wrote it, and behind a proxy often an inner one: `spec.registry`
//!   then says which one devices know.
//! - Doesn't sign; sends headers of one's own. One event in each delivery so far, though the shape allows more.
//! - `references` are there when the registry is told to send them; they show what a manifest is made of, so a Helm
//!   chart or a signature is known by its configuration.
//! - GitLab.com sends nothing of the kind: it is for GitLab's own registry where one can set notifications.

use serde::Deserialize;

use super::{Dialect, each, shown};
use crate::api::webhook::RegistryType;
use crate::registry::delivery::{for_people, tidy};
use crate::registry::named::Named;
use crate::registry::{Delivery, ParseError, PushEvent, media};

const NAME: &str = "distribution";
const TITLE: &str = "CNCF Distribution";

/// Distribution's dialect.
#[derive(Clone, Copy, Debug)]
pub struct Distribution;

#[derive(Deserialize)]
struct Payload {
    #[serde(default)]
    events: Vec<Event>,
}

#[derive(Deserialize)]
struct Event {
    #[serde(default, deserialize_with = "for_people")]
    id: Option<String>,
    #[serde(default)]
    action: Option<String>,
    #[serde(default)]
    target: Option<Target>,
    #[serde(default)]
    request: Option<Request>,
    #[serde(default)]
    actor: Option<Actor>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Target {
    #[serde(default)]
    media_type: Option<String>,
    #[serde(default)]
    repository: Option<String>,
    #[serde(default)]
    tag: Option<String>,
    #[serde(default)]
    digest: Option<String>,
    #[serde(default)]
    references: Option<Vec<Reference>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Reference {
    #[serde(default)]
    media_type: Option<String>,
}

#[derive(Deserialize)]
struct Request {
    #[serde(default)]
    host: Option<String>,
}

#[derive(Deserialize)]
struct Actor {
    #[serde(default, deserialize_with = "for_people")]
    name: Option<String>,
}

impl Dialect for Distribution {
    fn name(&self) -> &'static str {
        NAME
    }

    fn title(&self) -> &'static str {
        TITLE
    }

    fn type_(&self) -> RegistryType {
        RegistryType::Distribution
    }

    fn recognises(&self, delivery: &Delivery<'_>) -> bool {
        delivery.has("events")
    }

    fn parse(&self, delivery: &Delivery<'_>) -> Result<Vec<PushEvent>, ParseError> {
        let Payload { events } = delivery.payload("a notification of CNCF Distribution")?;
        each(events, |event| push(event, delivery))
    }
}

fn push(event: Event, delivery: &Delivery<'_>) -> Result<PushEvent, ParseError> {
    let Event { id, action, target, request, actor } = event;
    let action = action.unwrap_or_default();
    if action != "push" {
        return Err(ParseError::NotAPush(format!("the registry's action {} is no push", shown(&action))));
    }
    let missing = |field| ParseError::Missing { dialect: TITLE, field };
    let Target { media_type, repository, tag, digest, references } =
        target.ok_or_else(|| missing("events[].target"))?;
    let media_type = media_type.ok_or_else(|| missing("events[].target.mediaType"))?;
    let mut parts = references.iter().flatten().filter_map(|part| part.media_type.as_deref());
    if let Some(what) = media::of_target(&media_type).or_else(|| parts.find_map(media::of_config)) {
        return Err(ParseError::NotAPush(what.sentence()));
    }
    let repository = repository.ok_or_else(|| missing("events[].target.repository"))?;
    let host = request.and_then(|request| request.host);
    let image = Named::parts(host.as_deref(), &repository)
        .digest(digest.as_deref())
        .tag(tag.as_deref())
        .image(delivery, TITLE)?;
    let actor = actor.and_then(|actor| actor.name);
    Ok(PushEvent { image, actor, delivery_id: id.as_deref().and_then(tidy), receiver: NAME })
}
