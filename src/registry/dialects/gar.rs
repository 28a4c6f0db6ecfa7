//! Google Artifact Registry and Container Registry, by a Pub/Sub push subscription to the topic `gcr`.
//!
//! **Shape** (Google's documentation and real deliveries; only what is read). The envelope, and what its `data` is in
//! base64, which a subscription "with payload unwrapping" sends alone:
//! ```json
//! {"message": {"data": "eyJhY3Rp…", "messageId": "981636256311680"}, "subscription": "projects/p/subscriptions/s"}
//! {"action": "INSERT", "tag": "europe-docker.pkg.dev/p/r/app:v2", "digest": "europe-docker.pkg.dev/p/r/app@sha256:…"}
//! ```
//!
//! **Facts.**
//! - The topic must be called `gcr` and is one for the whole project: every repository's pushes and deletions come.
//! - `tag` and `digest` are whole references. A manifest without tag has only `digest`; `INSERT` is also said when a tag
//!   moved.
//! - Proves itself by a token that Google signs (audience and e-mail of the service account), and by nothing else.
//! - Delivered at least once, with one `messageId` (and `message_id` beside it), and again for up to seven days until the answer is 2xx.
//! - What follows the object in `data` is not looked at: a closing brace too much has been seen.
//! - The topics of Container Analysis have the same envelope around occurrences: scans, no pushes.

use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};
use serde::Deserialize;

use super::{Dialect, shown};
use crate::api::webhook::RegistryType;
use crate::registry::delivery::{for_people, tidy};
use crate::registry::named::Named;
use crate::registry::{Delivery, ParseError, PushEvent};

const NAME: &str = "gar";
const TITLE: &str = "Google Artifact Registry";
/// With or without padding: gateways that copy a message differ.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// The dialect of Artifact Registry and GCR.
#[derive(Clone, Copy, Debug)]
pub struct Gar;

#[derive(Deserialize)]
struct Envelope {
    message: Message,
}

#[derive(Deserialize)]
struct Message {
    #[serde(default)]
    data: Option<String>,
    #[serde(default, rename = "messageId", deserialize_with = "for_people")]
    id: Option<String>,
}

#[derive(Deserialize)]
struct Data {
    #[serde(default)]
    action: Option<String>,
    #[serde(default)]
    tag: Option<String>,
    #[serde(default)]
    digest: Option<String>,
    /// Of an occurrence.
    #[serde(default)]
    kind: Option<String>,
}

impl Dialect for Gar {
    fn name(&self) -> &'static str {
        NAME
    }

    fn title(&self) -> &'static str {
        TITLE
    }

    fn type_(&self) -> RegistryType {
        RegistryType::GoogleArtifactRegistry
    }

    fn recognises(&self, delivery: &Delivery<'_>) -> bool {
        let wrapped = delivery.has("message.data") || delivery.has("message") && delivery.has("subscription");
        let unwrapped = delivery.text("action").is_some_and(|action| matches!(action, "INSERT" | "DELETE"))
            && (delivery.text("tag").is_some() || delivery.text("digest").is_some());
        wrapped || unwrapped
    }

    fn parse(&self, delivery: &Delivery<'_>) -> Result<Vec<PushEvent>, ParseError> {
        let (id, data) = if delivery.has("message") {
            let Envelope { message: Message { data, id } } = delivery.payload("a message of Pub/Sub")?;
            let Some(data) = data else {
                return Err(ParseError::NotAPush("a message of Pub/Sub without data tells of no push".into()));
            };
            let error = |_| ParseError::Field { dialect: TITLE, field: "message.data", problem: "is not base64" };
            (id, first(&BASE64.decode(data.trim_ascii()).map_err(error)?)?)
        } else {
            (delivery.header("x-goog-pubsub-message-id").and_then(tidy), first(delivery.body)?)
        };
        let Data { action, tag, digest, kind } = data;
        match (action.as_deref(), kind) {
            (Some("INSERT"), _) => {}
            (Some(action), _) => {
                return Err(ParseError::NotAPush(format!(
                    "the action {} of Artifact Registry is no push",
                    shown(action)
                )));
            }
            (None, Some(kind)) => {
                return Err(ParseError::NotAPush(format!("an occurrence of kind {} is no push", shown(&kind))));
            }
            (None, None) => return Err(ParseError::Missing { dialect: TITLE, field: "action" }),
        }
        let by_digest = digest.as_deref().map(Named::written);
        let named = match (tag.as_deref().map(Named::written), by_digest) {
            // Only a digest of the same name is this tag's.
            (Some(tagged), Some(by_digest)) => tagged.digest_of(by_digest),
            (Some(named), None) | (None, Some(named)) => named,
            (None, None) => return Err(ParseError::Missing { dialect: TITLE, field: "tag" }),
        };
        Ok(vec![PushEvent { image: named.image(delivery, TITLE)?, actor: None, delivery_id: id, receiver: NAME }])
    }
}

/// The first JSON value of a text.
fn first(bytes: &[u8]) -> Result<Data, ParseError> {
    let error = |error| ParseError::Json { what: "what Artifact Registry publishes", error };
    Data::deserialize(&mut serde_json::Deserializer::from_slice(bytes)).map_err(error)
}
