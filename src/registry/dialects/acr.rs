//! Azure Container Registry.
//!
//! **Shape** (Microsoft's documentation and real deliveries; only what is read):
//! ```json
//! {"id": "…", "action": "push", "request": {"host": "acme.azurecr.io"},
//!  "target": {"mediaType": "…", "repository": "app", "tag": "v2", "digest": "sha256:…"}}
//! ```
//!
//! **Facts.**
//! - One event of CNCF Distribution without the list around it; a hook has the actions it was made for (`push`, `delete`,
//!   `quarantine`, `chart_push`, `chart_delete`), and `ping` when somebody presses the button. A ping has no target.
//! - A push by digest has no tag, or an empty one. A chart's events have no `request.host`.
//! - Doesn't sign; sends headers of one's own. A delivery that failed is tried again, with the same `id`.
//! - Timestamps have seven digits behind the point; not read.
//! - Nobody's name.

use serde::Deserialize;

use super::{Dialect, shown};
use crate::api::webhook::RegistryType;
use crate::registry::delivery::for_people;
use crate::registry::named::Named;
use crate::registry::{Delivery, ParseError, PushEvent, media};

const NAME: &str = "acr";
const TITLE: &str = "Azure Container Registry";

/// ACR's dialect.
#[derive(Clone, Copy, Debug)]
pub struct Acr;

#[derive(Deserialize)]
struct Payload {
    #[serde(default, deserialize_with = "for_people")]
    id: Option<String>,
    #[serde(default)]
    target: Option<Target>,
    #[serde(default)]
    request: Option<Request>,
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
}

#[derive(Deserialize)]
struct Request {
    #[serde(default)]
    host: Option<String>,
}

impl Dialect for Acr {
    fn name(&self) -> &'static str {
        NAME
    }

    fn title(&self) -> &'static str {
        TITLE
    }

    fn type_(&self) -> RegistryType {
        RegistryType::AzureACR
    }

    fn recognises(&self, delivery: &Delivery<'_>) -> bool {
        match delivery.text("action") {
            Some("ping") => delivery.has("id") && delivery.has("timestamp"),
            Some(_) => delivery.has("target.repository") || delivery.has("target") && delivery.has("request"),
            None => false,
        }
    }

    fn parse(&self, delivery: &Delivery<'_>) -> Result<Vec<PushEvent>, ParseError> {
        match delivery.text("action").unwrap_or_default() {
            "push" => {}
            "ping" => return Err(ParseError::NotAPush("a ping of Azure Container Registry: it gets through".into())),
            "chart_delete" => {
                return Err(ParseError::NotAPush("a Helm chart was deleted, which is no push of an image".into()));
            }
            "chart_push" => return Err(ParseError::NotAPush(media::NotAnImage::Chart.sentence())),
            other => {
                return Err(ParseError::NotAPush(format!(
                    "the action {} of Azure Container Registry is no push",
                    shown(other)
                )));
            }
        }
        let Payload { id, target, request } = delivery.payload("an event of Azure Container Registry")?;
        let missing = |field| ParseError::Missing { dialect: TITLE, field };
        let Target { media_type, repository, tag, digest } = target.ok_or_else(|| missing("target"))?;
        if let Some(what) = media_type.as_deref().and_then(media::of_target) {
            return Err(ParseError::NotAPush(what.sentence()));
        }
        let repository = repository.ok_or_else(|| missing("target.repository"))?;
        let host = request.and_then(|request| request.host);
        let image = Named::parts(host.as_deref(), &repository)
            .digest(digest.as_deref())
            .tag(tag.as_deref())
            .image(delivery, TITLE)?;
        Ok(vec![PushEvent { image, actor: None, delivery_id: id, receiver: NAME }])
    }
}
