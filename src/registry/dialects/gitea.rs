//! Gitea and Forgejo, by the webhook event `package`.
//!
//! **Shape** (rendered from their source; only what is read):
//! ```json
//! {"action": "created", "sender": {"login": "ann"},
//!  "package": {"type": "container", "name": "app", "version": "v2", "owner": {"login": "Acme"},
//!              "html_url": "https://git.example/Acme/-/packages/container/app/v2"}}
//! ```
//!
//! **Facts.**
//! - `X-Gitea-Event` (or `X-Forgejo-Event`) names the event, and `X-GitHub-Event` stands beside it for those that know
//!   GitHub only: it isn't GitHub.
//! - The registry is the host of `html_url`; below a path Gitea can't serve images.
//! - A manifest without tag has its digest as `version`. Otherwise there is no digest.
//! - `repository` is null unless the package is linked to one; hooks of a repository then say nothing. Hooks of the
//!   organisation do.
//! - `action` is `created` also for a tag that moved; else `deleted`. `type` is `container` among twenty others, `helm` is one.
//! - Signs with `X-Hub-Signature-256`, and bare in `X-Gitea-Signature`. `X-Gitea-Delivery` is an id.

use serde::Deserialize;

use super::{Dialect, shown};
use crate::api::webhook::RegistryType;
use crate::registry::delivery::{for_people, tidy};
use crate::registry::named::Named;
use crate::registry::{Delivery, ParseError, PushEvent};

const NAME: &str = "gitea";
const TITLE: &str = "Gitea";
/// Both send Gitea's; the first that is there speaks.
const EVENT_HEADERS: [&str; 2] = ["x-forgejo-event", "x-gitea-event"];
const DELIVERY_HEADERS: [&str; 2] = ["x-forgejo-delivery", "x-gitea-delivery"];

/// The dialect of Gitea and Forgejo.
#[derive(Clone, Copy, Debug)]
pub struct Gitea;

#[derive(Deserialize)]
struct Payload {
    #[serde(default)]
    action: Option<String>,
    #[serde(default)]
    package: Option<Package>,
    #[serde(default)]
    sender: Option<Sender>,
}

#[derive(Deserialize)]
struct Package {
    #[serde(default, rename = "type")]
    type_: Option<String>,
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    version: Option<String>,
    #[serde(default)]
    owner: Option<Owner>,
    #[serde(default)]
    html_url: Option<String>,
}

#[derive(Deserialize)]
struct Owner {
    #[serde(default)]
    login: Option<String>,
}

#[derive(Deserialize)]
struct Sender {
    #[serde(default, deserialize_with = "for_people")]
    login: Option<String>,
}

/// Whether one of their headers is there; they send GitHub's too.
pub(super) fn sent(delivery: &Delivery<'_>) -> bool {
    EVENT_HEADERS.iter().any(|name| delivery.headers.contains_key(*name))
}

impl Dialect for Gitea {
    fn name(&self) -> &'static str {
        NAME
    }

    fn title(&self) -> &'static str {
        TITLE
    }

    fn type_(&self) -> RegistryType {
        RegistryType::Gitea
    }

    fn recognises(&self, delivery: &Delivery<'_>) -> bool {
        sent(delivery)
            || delivery.has("package.type") && delivery.has("package.version") && !delivery.has("package.package_type")
    }

    fn parse(&self, delivery: &Delivery<'_>) -> Result<Vec<PushEvent>, ParseError> {
        // Other events have shapes of their own: they are turned away before the payload is read.
        if let Some(event) = EVENT_HEADERS.iter().find_map(|name| delivery.header(name))
            && event != "package"
        {
            return Err(ParseError::NotAPush(format!("Gitea's event {} tells of no pushed image", shown(event))));
        }
        let Payload { action, package, sender } = delivery.payload("a package event of Gitea")?;
        let action = action.unwrap_or_default();
        if action != "created" {
            return Err(ParseError::NotAPush(format!("the action {} of a package is no push", shown(&action))));
        }
        let missing = |field| ParseError::Missing { dialect: TITLE, field };
        let Package { type_, name, version, owner, html_url } = package.ok_or_else(|| missing("package"))?;
        let type_ = type_.unwrap_or_default();
        if type_ != "container" {
            return Err(ParseError::NotAPush(format!("a package of type {} is no container image", shown(&type_))));
        }
        let owner = owner.and_then(|owner| owner.login).ok_or_else(|| missing("package.owner.login"))?;
        let path = format!("{owner}/{}", name.ok_or_else(|| missing("package.name"))?);
        let url = html_url.unwrap_or_default();
        let host = url.split_once("://").and_then(|(_, rest)| rest.split('/').next());
        let image = Named::parts(host, &path).tag(version.as_deref()).image(delivery, TITLE)?;
        Ok(vec![PushEvent {
            image,
            actor: sender.and_then(|sender| sender.login),
            delivery_id: DELIVERY_HEADERS.iter().find_map(|name| delivery.header(name)).and_then(tidy),
            receiver: NAME,
        }])
    }
}
