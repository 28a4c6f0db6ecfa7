//! Quay, quay.io or one's own.
//!
//! **Shape** (Quay's documentation and real deliveries; only what is read):
//! ```json
//! {"docker_url": "quay.io/acme/app", "updated_tags": ["v2", "latest"]}
//! ```
//!
//! **Facts.**
//! - A URL gets all the events it was made for, and builds, scans and mirrors have the same top; only a push has
//!   `updated_tags`. Years ago it was an object, tag to image id, and may still be on an old installation.
//! - Usually one delivery for each tag, also when one push moved several. No digest, no id, nobody's name.
//! - It can't sign and sends no header of one's own: the secret goes into the path of the URL.
//! - After three answers that are not 2xx it silently disables the hook. So everything authentic is answered with 2xx.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::de::IgnoredAny;

use super::{Dialect, each};
use crate::api::webhook::RegistryType;
use crate::registry::named::Named;
use crate::registry::{Delivery, ParseError, PushEvent};

const NAME: &str = "quay";
const TITLE: &str = "Quay";

/// Quay's dialect.
#[derive(Clone, Copy, Debug)]
pub struct Quay;

#[derive(Deserialize)]
struct Payload {
    #[serde(default)]
    docker_url: Option<String>,
    #[serde(default)]
    updated_tags: Option<Tags>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Tags {
    List(Vec<String>),
    ById(BTreeMap<String, IgnoredAny>),
}

impl Dialect for Quay {
    fn name(&self) -> &'static str {
        NAME
    }

    fn title(&self) -> &'static str {
        TITLE
    }

    fn type_(&self) -> RegistryType {
        RegistryType::Quay
    }

    fn recognises(&self, delivery: &Delivery<'_>) -> bool {
        delivery.has("docker_url")
    }

    fn parse(&self, delivery: &Delivery<'_>) -> Result<Vec<PushEvent>, ParseError> {
        if !delivery.has("updated_tags") {
            let what = match () {
                () if delivery.has("build_id") => "a build of Quay is no push: the image it makes is told of by itself",
                () if delivery.has("vulnerability") => "a scan of Quay is no push",
                () => "an event of Quay without updated_tags is no push",
            };
            return Err(ParseError::NotAPush(what.into()));
        }
        let Payload { docker_url, updated_tags } = delivery.payload("a push of Quay")?;
        let Some(url) = docker_url else { return Err(ParseError::Missing { dialect: TITLE, field: "docker_url" }) };
        let tags: Vec<String> = match updated_tags {
            Some(Tags::List(tags)) => tags,
            Some(Tags::ById(tags)) => tags.into_keys().collect(),
            None => Vec::new(),
        };
        // A colon in the URL is a port's: the tags stand elsewhere.
        let named = Named::written(&url);
        each(&tags, |tag| {
            let image = named.tag(Some(tag)).image(delivery, TITLE)?;
            Ok(PushEvent { image, actor: None, delivery_id: None, receiver: NAME })
        })
    }
}
