//! The generic form: for the job that built an image, and for every registry that isn't among the others.
//!
//! **Shape** (ours), as it is or as the data of a CloudEvent in either mode:
//! ```json
//! {"image": "registry.example/acme/app:v2", "digest": "sha256:…", "actor": "ann"}
//! ```
//!
//! At the end of a CI job, after the push:
//! ```text
//! curl --fail-with-body -H "Authorization: Bearer $TOKEN" -H 'Content-Type: application/json' \
//!   -d '{"image": "registry.example/acme/app:v2"}' https://tranche.example/api/v1/webhooks/docker-registry
//! ```
//!
//! **Facts.**
//! - `image` is written as in `docker pull`: without a host, Docker Hub is meant. The digest may be part of it; one in
//!   `digest` goes before that.
//! - Here a digest that isn't one is an error, since whoever wrote it meant one and can mend it.
//! - A CloudEvent's id is the id of the delivery. The plain form has none.

use serde::Deserialize;

use super::Dialect;
use crate::api::ImageRef;
use crate::api::image::DEFAULT_REGISTRY;
use crate::api::webhook::RegistryType;
use crate::registry::delivery::for_people;
use crate::registry::named::Named;
use crate::registry::{Delivery, ParseError, PushEvent, cloudevent};

const NAME: &str = "generic";
const TITLE: &str = "the generic form";

/// Our own dialect.
#[derive(Clone, Copy, Debug)]
pub struct Generic;

#[derive(Deserialize)]
struct Payload {
    image: String,
    #[serde(default)]
    digest: Option<String>,
    #[serde(default, deserialize_with = "for_people")]
    actor: Option<String>,
}

impl Dialect for Generic {
    fn name(&self) -> &'static str {
        NAME
    }

    fn title(&self) -> &'static str {
        TITLE
    }

    fn type_(&self) -> RegistryType {
        RegistryType::Generic
    }

    fn recognises(&self, delivery: &Delivery<'_>) -> bool {
        delivery.has("image") || cloudevent::type_of(delivery).is_some() && delivery.has("data.image")
    }

    fn parse(&self, delivery: &Delivery<'_>) -> Result<Vec<PushEvent>, ParseError> {
        const WHAT: &str = "an image and its tag";
        let (id, Payload { image, digest, actor }) = if cloudevent::type_of(delivery).is_some() {
            let event = cloudevent::read(delivery, WHAT)?;
            (event.id, event.data)
        } else {
            (None, delivery.payload(WHAT)?)
        };
        let digest = digest.filter(|digest| !digest.is_empty());
        let in_image = image.split_once('@').map(|(_, digest)| digest);
        for written in [in_image, digest.as_deref()].into_iter().flatten() {
            ImageRef::new("digest", None, Some(written))?;
        }
        let named = Named::written(&image).or_host(Some(DEFAULT_REGISTRY)).digest(digest.as_deref());
        Ok(vec![PushEvent { image: named.image(delivery, TITLE)?, actor, delivery_id: id, receiver: NAME }])
    }
}
