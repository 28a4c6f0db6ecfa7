//! Sonatype Nexus 3, by a webhook capability for components of one repository.
//!
//! **Shape** (Sonatype's documentation and real deliveries; only what is read):
//! ```json
//! {"action": "CREATED", "initiator": "ann/10.0.0.7", "repositoryName": "docker-hosted",
//!  "component": {"format": "docker", "name": "acme/app", "version": "v2"}}
//! ```
//!
//! **Facts.**
//! - Doesn't say where it is, and each repository may have a port of its own: `spec.registry` is needed.
//!   `repositoryName` is the repository in Nexus, not part of the image's name.
//! - `X-Nexus-Webhook-ID` is `rm:repository:component`; assets (`rm:repository:asset`: layers and manifests) and audits
//!   have others. `action` is `CREATED`, `UPDATED` (a tag moved), `DELETED` or `PURGED`; `format` tells images from
//!   everything else that Nexus keeps, Helm charts among it.
//! - No digest. `X-Nexus-Webhook-Delivery` is an id. `initiator` is a name, a slash and an address.
//! - Signs with HMAC-SHA1, in `X-Nexus-Webhook-Signature`.

use serde::Deserialize;

use super::{Dialect, shown};
use crate::api::webhook::RegistryType;
use crate::registry::delivery::{for_people, tidy};
use crate::registry::named::Named;
use crate::registry::{Delivery, ParseError, PushEvent};

const NAME: &str = "nexus";
const TITLE: &str = "Nexus";
const COMPONENT: &str = "rm:repository:component";

/// Nexus's dialect.
#[derive(Clone, Copy, Debug)]
pub struct Nexus;

#[derive(Deserialize)]
struct Payload {
    #[serde(default, deserialize_with = "for_people")]
    initiator: Option<String>,
    #[serde(default)]
    component: Option<Component>,
}

#[derive(Deserialize)]
struct Component {
    #[serde(default)]
    format: Option<String>,
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    version: Option<String>,
}

impl Dialect for Nexus {
    fn name(&self) -> &'static str {
        NAME
    }

    fn title(&self) -> &'static str {
        TITLE
    }

    fn type_(&self) -> RegistryType {
        RegistryType::Nexus
    }

    fn recognises(&self, delivery: &Delivery<'_>) -> bool {
        delivery.headers.contains_key("x-nexus-webhook-id")
            || delivery.has("repositoryName") && (delivery.has("component") || delivery.has("asset"))
    }

    fn parse(&self, delivery: &Delivery<'_>) -> Result<Vec<PushEvent>, ParseError> {
        if let Some(id) = delivery.header("x-nexus-webhook-id").filter(|id| *id != COMPONENT) {
            return Err(ParseError::NotAPush(format!("Nexus's event {} is not one of components", shown(id))));
        }
        if delivery.has("asset") {
            return Err(ParseError::NotAPush("an asset of Nexus is a part of an image at most".into()));
        }
        let action = delivery.text("action").unwrap_or_default();
        if !matches!(action, "CREATED" | "UPDATED") {
            return Err(ParseError::NotAPush(format!("Nexus's action {} is no push", shown(action))));
        }
        let Payload { initiator, component } = delivery.payload("an event of Nexus")?;
        let missing = |field| ParseError::Missing { dialect: TITLE, field };
        let Component { format, name, version } = component.ok_or_else(|| missing("component"))?;
        let format = format.unwrap_or_default();
        if format != "docker" {
            return Err(ParseError::NotAPush(format!(
                "a component of format {} is no container image",
                shown(&format)
            )));
        }
        let name = name.ok_or_else(|| missing("component.name"))?;
        let image = Named::parts(None, &name).tag(version.as_deref()).image(delivery, TITLE)?;
        let actor = initiator.as_deref().map(|text| text.rsplit_once('/').map_or(text, |(name, _)| name));
        Ok(vec![PushEvent {
            image,
            actor: actor.and_then(tidy),
            delivery_id: delivery.header("x-nexus-webhook-delivery").and_then(tidy),
            receiver: NAME,
        }])
    }
}
