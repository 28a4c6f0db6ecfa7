//! Amazon ECR, by an EventBridge rule whose target is an API destination.
//!
//! **Shape** (Amazon's documentation; only what is read):
//! ```json
//! {"id": "…", "detail-type": "ECR Image Action", "source": "aws.ecr", "account": "123456789012", "region": "eu-central-1",
//!  "detail": {"action-type": "PUSH", "result": "SUCCESS", "repository-name": "acme/app", "image-tag": "v2",
//!             "image-digest": "sha256:…"}}
//! ```
//!
//! **Facts.**
//! - The host isn't told but follows from account and region: `{account}.dkr.ecr.{region}.amazonaws.com`, in China with
//!   `.cn` behind it. Partitions with other names need `spec.registry`.
//! - A rule may let through scans, replications and pull-through caches, and deletions; and pushes that failed.
//! - `image-tag` is absent when the manifest has none: one architecture of an image.
//! - Where an event names the media type of its artifact, a Helm chart is known by it. The documented ones don't.
//! - Doesn't sign; the connection of the API destination sends a header of one's own. Sent on a best-effort basis, says
//!   Amazon; with the same `id` when it is tried again.
//! - An input transformer may write something else. Read are the generic form, and the CloudEvent that Argo CD Image Updater
//!   tells its users to make: `{"specversion": "1.0", "type": "com.amazon.ecr.image.push", "id": "…", "source":
//!   "urn:aws:ecr:{region}:{account}:repository/{name}", "data": {"repositoryName", "imageTag", "imageDigest"}}`.

use serde::Deserialize;

use super::{Dialect, shown};
use crate::api::webhook::RegistryType;
use crate::registry::delivery::for_people;
use crate::registry::named::Named;
use crate::registry::{Delivery, ParseError, PushEvent, cloudevent, media};

const NAME: &str = "ecr";
const TITLE: &str = "Amazon ECR";
const ACCOUNT_DIGITS: usize = 12;

/// ECR's dialect.
#[derive(Clone, Copy, Debug)]
pub struct Ecr;

#[derive(Deserialize)]
struct Payload {
    #[serde(default, deserialize_with = "for_people")]
    id: Option<String>,
    #[serde(default)]
    account: Option<String>,
    #[serde(default)]
    region: Option<String>,
    #[serde(default)]
    detail: Option<Detail>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Detail {
    #[serde(default)]
    action_type: Option<String>,
    #[serde(default)]
    result: Option<String>,
    #[serde(default)]
    repository_name: Option<String>,
    #[serde(default)]
    image_tag: Option<String>,
    #[serde(default)]
    image_digest: Option<String>,
    #[serde(default)]
    artifact_media_type: Option<String>,
}

/// What a transformer makes of it.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Transformed {
    #[serde(default)]
    repository_name: Option<String>,
    #[serde(default)]
    image_tag: Option<String>,
    #[serde(default)]
    image_digest: Option<String>,
}

impl Dialect for Ecr {
    fn name(&self) -> &'static str {
        NAME
    }

    fn title(&self) -> &'static str {
        TITLE
    }

    fn type_(&self) -> RegistryType {
        RegistryType::AmazonECR
    }

    fn recognises(&self, delivery: &Delivery<'_>) -> bool {
        let event = delivery.text("source") == Some("aws.ecr") || delivery.has("detail.repository-name");
        delivery.has("detail-type") && event || transformed_type(delivery).is_some()
    }

    fn parse(&self, delivery: &Delivery<'_>) -> Result<Vec<PushEvent>, ParseError> {
        if let Some(type_) = transformed_type(delivery) {
            return transformed(type_, delivery);
        }
        let kind = delivery.text("detail-type").unwrap_or_default();
        if kind != "ECR Image Action" {
            return Err(ParseError::NotAPush(format!("the event {} is no push to ECR", shown(kind))));
        }
        let Payload { id, account, region, detail } = delivery.payload("an event of ECR")?;
        let missing = |field| ParseError::Missing { dialect: TITLE, field };
        let Detail { action_type, result, repository_name, image_tag, image_digest, artifact_media_type } =
            detail.ok_or_else(|| missing("detail"))?;
        let action = action_type.unwrap_or_default();
        if action != "PUSH" {
            return Err(ParseError::NotAPush(format!("ECR's action {} is no push", shown(&action))));
        }
        if let Some(result) = result.filter(|result| result != "SUCCESS") {
            return Err(ParseError::NotAPush(format!("a push to ECR that ended with {}", shown(&result))));
        }
        if let Some(what) = artifact_media_type.as_deref().and_then(media::of_config) {
            return Err(ParseError::NotAPush(what.sentence()));
        }
        let name = repository_name.ok_or_else(|| missing("detail.repository-name"))?;
        let host = host(delivery, account.as_deref(), region.as_deref())?;
        let named = Named::parts(host.as_deref(), &name).digest(image_digest.as_deref()).tag(image_tag.as_deref());
        Ok(vec![PushEvent { image: named.image(delivery, TITLE)?, actor: None, delivery_id: id, receiver: NAME }])
    }
}

/// The type of a CloudEvent that a transformer made.
fn transformed_type<'a>(delivery: &'a Delivery<'_>) -> Option<&'a str> {
    cloudevent::type_of(delivery).filter(|type_| type_.starts_with("com.amazon.ecr."))
}

fn transformed(type_: &str, delivery: &Delivery<'_>) -> Result<Vec<PushEvent>, ParseError> {
    if type_ != "com.amazon.ecr.image.push" {
        return Err(ParseError::NotAPush(format!("the event {} is no push to ECR", shown(type_))));
    }
    let event = cloudevent::read(delivery, "a transformed event of ECR")?;
    let Transformed { repository_name, image_tag, image_digest } = event.data;
    let name = repository_name.ok_or(ParseError::Missing { dialect: TITLE, field: "data.repositoryName" })?;
    let mut source = delivery.text("source").unwrap_or_default().split(':').skip(3);
    let (region, account) = (source.next(), source.next());
    let host = host(delivery, account, region)?;
    let named = Named::parts(host.as_deref(), &name).digest(image_digest.as_deref()).tag(image_tag.as_deref());
    Ok(vec![PushEvent { image: named.image(delivery, TITLE)?, actor: None, delivery_id: event.id, receiver: NAME }])
}

/// The host, where the receiver doesn't name one. Account and region go into it, so neither may be more than it is.
fn host(delivery: &Delivery<'_>, account: Option<&str>, region: Option<&str>) -> Result<Option<String>, ParseError> {
    if delivery.registry.is_some() {
        return Ok(None);
    }
    let is_account = |text: &&str| text.len() == ACCOUNT_DIGITS && text.bytes().all(|byte| byte.is_ascii_digit());
    let is_region = |text: &&str| {
        !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
    };
    let error = |field, problem| ParseError::Field { dialect: TITLE, field, problem };
    let account = account.filter(is_account).ok_or_else(|| error("account", "is not 12 digits"))?;
    let region = region.filter(is_region).ok_or_else(|| error("region", "is not a region such as eu-central-1"))?;
    let china = if region.starts_with("cn-") { ".cn" } else { "" };
    Ok(Some(format!("{account}.dkr.ecr.{region}.amazonaws.com{china}")))
}
