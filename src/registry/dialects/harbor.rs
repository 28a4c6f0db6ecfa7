//! Harbor, 1.x and 2.x.
//!
//! **Shape** (Harbor's documentation; only what is read), by default and as a CloudEvent:
//! ```json
//! {"type": "PUSH_ARTIFACT", "operator": "ann",
//!  "event_data": {"resources": [{"tag": "v2", "digest": "sha256:…", "resource_url": "harbor.example/acme/app:v2"}],
//!                 "repository": {"repo_full_name": "acme/app"}}}
//! {"specversion": "1.0", "type": "harbor.artifact.pushed", "id": "…", "operator": "ann",
//!  "data": {"resources": […], "repository": {…}}}
//! ```
//!
//! **Facts.**
//! - Says in 1.x `pushImage`, and the rest alike. A hook gets every event it was made for: pulls, scans, quotas, charts.
//! - `resource_url` is what a device would pull by, with Harbor's own external host: it is believed, and `repo_full_name`
//!   only fills in. Installations whose external host is not what devices use need `spec.registry`.
//! - What was pushed without a tag (one architecture, a signature of cosign) has its digest as `tag`.
//! - Doesn't sign; sends one `Authorization` value of one's own. Waits three seconds, and tries three times.
//! - The default form has no id of the delivery, CloudEvents have one.
//! - It doesn't say what kind of artifact was pushed: a Helm chart in a repository of OCI artifacts can't be told from
//!   an image here. Charts of 1.x have events of their own.

use serde::Deserialize;

use super::{Dialect, each, shown};
use crate::api::webhook::RegistryType;
use crate::registry::delivery::for_people;
use crate::registry::named::Named;
use crate::registry::{Delivery, ParseError, PushEvent};

const NAME: &str = "harbor";
const TITLE: &str = "Harbor";

/// Harbor's dialect.
#[derive(Clone, Copy, Debug)]
pub struct Harbor;

#[derive(Deserialize)]
struct Payload {
    #[serde(default, deserialize_with = "for_people")]
    id: Option<String>,
    #[serde(default, deserialize_with = "for_people")]
    operator: Option<String>,
    #[serde(default)]
    event_data: Option<EventData>,
    /// The same in a CloudEvent.
    #[serde(default)]
    data: Option<EventData>,
}

#[derive(Deserialize)]
struct EventData {
    #[serde(default)]
    resources: Vec<Resource>,
    #[serde(default)]
    repository: Option<Repository>,
}

#[derive(Deserialize)]
struct Resource {
    #[serde(default)]
    digest: Option<String>,
    #[serde(default)]
    tag: Option<String>,
    #[serde(default)]
    resource_url: Option<String>,
}

#[derive(Deserialize)]
struct Repository {
    #[serde(default)]
    repo_full_name: Option<String>,
}

impl Dialect for Harbor {
    fn name(&self) -> &'static str {
        NAME
    }

    fn title(&self) -> &'static str {
        TITLE
    }

    fn type_(&self) -> RegistryType {
        RegistryType::Harbor
    }

    fn recognises(&self, delivery: &Delivery<'_>) -> bool {
        let Some(type_) = delivery.text("type") else { return false };
        if delivery.has("specversion") { type_.starts_with("harbor.") } else { delivery.has("event_data") }
    }

    fn parse(&self, delivery: &Delivery<'_>) -> Result<Vec<PushEvent>, ParseError> {
        let type_ = delivery.text("type").unwrap_or_default();
        if !matches!(type_, "PUSH_ARTIFACT" | "pushImage" | "harbor.artifact.pushed") {
            return Err(ParseError::NotAPush(format!("Harbor's event {} tells of no pushed image", shown(type_))));
        }
        let Payload { id, operator, event_data, data } = delivery.payload("an event of Harbor")?;
        let Some(EventData { resources, repository }) = event_data.or(data) else {
            return Err(ParseError::Missing { dialect: TITLE, field: "event_data" });
        };
        let name = repository.and_then(|repository| repository.repo_full_name);
        // Without an id in the default form; what stands there isn't Harbor's.
        let id = id.filter(|_| delivery.has("specversion"));
        each(resources, |Resource { digest, tag, resource_url }| {
            let url = resource_url.as_deref().map(Named::written).filter(|named| named.host().is_some());
            let named = match (url, name.as_deref()) {
                (Some(named), _) => named,
                (None, Some(name)) => Named::parts(None, name),
                (None, None) => {
                    return Err(ParseError::Missing { dialect: TITLE, field: "event_data.resources[].resource_url" });
                }
            };
            let image = named.digest(digest.as_deref()).tag(tag.as_deref()).image(delivery, TITLE)?;
            Ok(PushEvent { image, actor: operator.clone(), delivery_id: id.clone(), receiver: NAME })
        })
    }
}
