//! Alibaba Cloud Container Registry.
//!
//! **Shape** (Alibaba's documentation; only what is read):
//! ```json
//! {"push_data": {"tag": "v2", "digest": "sha256:…"}, "repository": {"repo_full_name": "acme/app", "region": "cn-hangzhou"}}
//! ```
//!
//! **Facts.**
//! - Looks like Docker Hub's; only `repo_full_name` in the place of `repo_name` tells them apart.
//! - The host isn't told but follows from the region: `registry.{region}.aliyuncs.com`. Instances of the Enterprise
//!   Edition have a host of their own and need `spec.registry`.
//! - Pushes only; no id of the delivery, nobody's name. It can't sign and sends no header of one's own: the secret goes
//!   into the path of the URL.

use serde::Deserialize;

use super::Dialect;
use crate::api::webhook::RegistryType;
use crate::registry::named::Named;
use crate::registry::{Delivery, ParseError, PushEvent};

const NAME: &str = "alibaba";
const TITLE: &str = "Alibaba ACR";

/// Alibaba's dialect.
#[derive(Clone, Copy, Debug)]
pub struct Alibaba;

#[derive(Deserialize)]
struct Payload {
    push_data: PushData,
    repository: Repository,
}

#[derive(Deserialize)]
struct PushData {
    #[serde(default)]
    tag: Option<String>,
    #[serde(default)]
    digest: Option<String>,
}

#[derive(Deserialize)]
struct Repository {
    #[serde(default)]
    repo_full_name: Option<String>,
    #[serde(default)]
    region: Option<String>,
}

impl Dialect for Alibaba {
    fn name(&self) -> &'static str {
        NAME
    }

    fn title(&self) -> &'static str {
        TITLE
    }

    fn type_(&self) -> RegistryType {
        RegistryType::AlibabaACR
    }

    fn recognises(&self, delivery: &Delivery<'_>) -> bool {
        delivery.has("push_data") && delivery.has("repository.repo_full_name") && !delivery.has("repository.repo_name")
    }

    fn parse(&self, delivery: &Delivery<'_>) -> Result<Vec<PushEvent>, ParseError> {
        let Payload { push_data: PushData { tag, digest }, repository: Repository { repo_full_name, region } } =
            delivery.payload("a push of Alibaba ACR")?;
        let Some(name) = repo_full_name else {
            return Err(ParseError::Missing { dialect: TITLE, field: "repository.repo_full_name" });
        };
        let host = match (delivery.registry, region) {
            (Some(_), _) | (None, None) => None,
            (None, Some(region)) => Some(host(&region)?),
        };
        let image = Named::parts(host.as_deref(), &name)
            .digest(digest.as_deref())
            .tag(tag.as_deref())
            .image(delivery, TITLE)?;
        Ok(vec![PushEvent { image, actor: None, delivery_id: None, receiver: NAME }])
    }
}

/// The region goes into a host, so it may be no more than a region.
fn host(region: &str) -> Result<String, ParseError> {
    if region.is_empty() || !region.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-') {
        let problem = "is not a region such as cn-hangzhou";
        return Err(ParseError::Field { dialect: TITLE, field: "repository.region", problem });
    }
    Ok(format!("registry.{region}.aliyuncs.com"))
}
