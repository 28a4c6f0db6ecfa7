//! How each registry tells of a push: one file for each.
//!
//! **A new dialect** is one file with an implementation of [`Dialect`], and one line in [`DIALECTS`]. The first one
//! that recognises a delivery reads it, so look-alikes are told apart in `recognises` alone. A dialect never trusts its
//! vendor to keep to the documented shape: only fields that are used are typed, everything else is skipped.

pub mod acr;
pub mod alibaba;
pub mod artifactory;
pub mod distribution;
pub mod dockerhub;
pub mod ecr;
pub mod gar;
pub mod generic;
pub mod gitea;
pub mod github;
pub mod harbor;
pub mod nexus;
pub mod quay;
pub mod zot;

use super::delivery::{Delivery, tidy};
use super::{ParseError, PushEvent};
use crate::api::webhook::RegistryType;

/// Every dialect, in the order in which they are asked: those first that a header or an unmistakable name tells.
pub const DIALECTS: &[&dyn Dialect] = &[
    &gitea::Gitea,
    &github::GitHub,
    &nexus::Nexus,
    &artifactory::Artifactory,
    &harbor::Harbor,
    &zot::Zot,
    &ecr::Ecr,
    &distribution::Distribution,
    &gar::Gar,
    &quay::Quay,
    &alibaba::Alibaba,
    &dockerhub::DockerHub,
    &acr::Acr,
    &generic::Generic,
];

/// Most pushes that are taken from one delivery. Each is asked of every policy, and of a thousand of them that takes up to
/// 0.1 ms: 64 keep the answer within the few milliseconds that a registry's patience is made of. No registry was seen to
/// tell of more than a handful at once; what is beyond is for the policy's poll to find.
pub(super) const MAX_PUSHES: usize = 64;

/// How one registry tells of a push.
pub trait Dialect: Sync {
    /// Its name in `spec.trigger.receiver` and in metrics.
    fn name(&self) -> &'static str;

    /// What people call the registry.
    fn title(&self) -> &'static str;

    /// What a `RegistryWebhook` calls it.
    fn type_(&self) -> RegistryType;

    /// Whether a delivery is written in this dialect. Looks at headers and at the outline of the payload; must not claim
    /// what another registry could have sent.
    fn recognises(&self, delivery: &Delivery<'_>) -> bool;

    /// What a recognised delivery says.
    ///
    /// # Errors
    /// [`ParseError::NotAPush`] for an event that is understood and is no push; every other error is a delivery that is
    /// not as the registry documents it, or a receiver that lacks a setting.
    fn parse(&self, delivery: &Delivery<'_>) -> Result<Vec<PushEvent>, ParseError>;
}

/// The pushes of a delivery that tells of several things. One that can't be read stops none of the others; when there is
/// no push at all, the first thing that is wrong is the answer, else the first reason why it is no push.
fn each<T>(
    things: impl IntoIterator<Item = T>,
    read: impl FnMut(T) -> Result<PushEvent, ParseError>,
) -> Result<Vec<PushEvent>, ParseError> {
    let (mut pushes, mut wrong, mut no_push) = (Vec::new(), None, None);
    for result in things.into_iter().map(read) {
        match result {
            // One image under several ids is one image.
            Ok(push) if pushes.iter().any(|other: &PushEvent| other.image == push.image) => {}
            Ok(push) => pushes.push(push),
            Err(ParseError::NotAPush(why)) => drop(no_push.get_or_insert(why)),
            Err(error) => drop(wrong.get_or_insert(error)),
        }
        if pushes.len() == MAX_PUSHES {
            break;
        }
    }
    match (pushes.is_empty(), wrong, no_push) {
        (false, _, _) => Ok(pushes),
        (true, Some(error), _) => Err(error),
        (true, None, Some(why)) => Err(ParseError::NotAPush(why)),
        (true, None, None) => Err(ParseError::NotAPush("the delivery tells of nothing".into())),
    }
}

/// A word of a stranger within a sentence of ours.
fn shown(text: &str) -> String {
    format!("{:?}", tidy(text).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use http::HeaderMap;
    use serde_json::{Value, json};

    use super::*;
    use crate::api::ImageRef;
    use crate::registry::{Expect, parse};

    fn refused(body: &Value) -> (Option<&'static str>, String) {
        let (by, result) = parse(&HeaderMap::new(), body.to_string().as_bytes(), &Expect::default());
        match result {
            Err(ParseError::NotAPush(why)) => panic!("{body}: a push that can't be read, not none: {why}"),
            Err(error) => (by, error.to_string()),
            Ok(events) => panic!("{body}: {events:?}"),
        }
    }

    /// A delivery that says it is a push and isn't one as documented is an error that names the field: somebody should hear
    /// of it.
    #[test]
    fn what_a_push_must_have() {
        let target = |target: &Value| json!({"action": "push", "target": target, "request": {"host": "h.example"}});
        let manifest = "application/vnd.oci.image.manifest.v1+json";
        for (by, body, says) in [
            ("quay", json!({"docker_url": 7, "updated_tags": ["v2"]}), "a push of Quay"),
            ("quay", json!({"docker_url": "acme/app", "updated_tags": ["v2"]}), "set spec.registry"),
            ("quay", json!({"docker_url": "quay.io/acme/app", "updated_tags": "v2"}), "a push of Quay"),
            ("quay", json!({"docker_url": "quay.io/acme/app", "updated_tags": ["no tag"]}), "can't exist"),
            ("harbor", json!({"type": "PUSH_ARTIFACT", "event_data": "x"}), "an event of Harbor"),
            ("harbor", json!({"type": "harbor.artifact.pushed", "specversion": "1.0"}), "event_data"),
            ("harbor", json!({"type": "PUSH_ARTIFACT", "event_data": {"resources": [{"tag": "v2"}]}}), "resource_url"),
            ("distribution", json!({"events": 7}), "a notification of CNCF Distribution"),
            ("distribution", json!({"events": [{"action": "push"}]}), "events[].target"),
            ("distribution", json!({"events": [target(&json!({"repository": "app"}))]}), "events[].target.mediaType"),
            (
                "distribution",
                json!({"events": [target(&json!({"mediaType": manifest}))]}),
                "events[].target.repository",
            ),
            ("acr", target(&json!({"mediaType": manifest})), "target.repository"),
            ("acr", json!({"action": "push", "target": {"repository": "app"}}), "set spec.registry"),
            ("ecr", json!({"detail-type": "ECR Image Action", "source": "aws.ecr"}), "no detail"),
            (
                "ecr",
                json!({"detail-type": "ECR Image Action", "source": "aws.ecr", "account": "123456789012", "region": "x.y",
                       "detail": {"action-type": "PUSH", "repository-name": "app"}}),
                "region is not",
            ),
            ("gar", json!({"message": {"data": "e30="}}), "no action"),
            ("gar", json!({"message": {"data": "eyJhY3Rpb24iOiJJTlNFUlQifQ"}}), "no tag"),
            ("gar", json!({"message": {"data": "bm8="}}), "what Artifact Registry publishes"),
            ("gar", json!({"action": "INSERT", "tag": "acme/app:v2"}), "set spec.registry"),
            ("alibaba", json!({"push_data": 7, "repository": {"repo_full_name": "a/b"}}), "a push of Alibaba ACR"),
            (
                "alibaba",
                json!({"push_data": {}, "repository": {"repo_full_name": "a/../b", "region": "x"}}),
                "can't exist",
            ),
            ("artifactory", json!({"domain": "docker", "event_type": "pushed"}), "no data"),
            (
                "artifactory",
                json!({"domain": "docker", "event_type": "pushed", "data": {"repo_key": "k"}}),
                "image_name",
            ),
            (
                "nexus",
                json!({"repositoryName": "r", "action": "CREATED", "component": {"format": "docker"}}),
                "component.name",
            ),
            (
                "gitea",
                json!({"action": "created", "package": {"type": "container", "version": "v2"}}),
                "package.owner.login",
            ),
            (
                "gitea",
                json!({"action": "created", "package": {"type": "container", "name": "app", "version": "v2",
                       "owner": {"login": "acme"}, "html_url": "/acme"}}),
                "set spec.registry",
            ),
            ("zot", json!({"specversion": "1.0", "type": "image.updated", "data": {"reference": "v2"}}), "no name"),
            ("zot", json!({"specversion": "1.0", "type": "image.updated"}), "an event of zot"),
            ("generic", json!({"image": 7}), "an image and its tag"),
            ("generic", json!({"image": ""}), "can't exist"),
            ("generic", json!({"image": "registry.example/app@v2"}), "can't exist"),
        ] {
            let (found, error) = refused(&body);
            assert_eq!(found, Some(by), "{body}");
            assert!(error.contains(says), "{body}: {error}");
        }
    }

    #[test]
    fn one_bad_thing_stops_no_other() {
        let push = |tag: &str| {
            let image = ImageRef::new("registry.example/app", Some(tag), None)?;
            Ok(PushEvent { image, actor: None, delivery_id: None, receiver: "generic" })
        };
        let read = |text: &str| match text {
            "pull" => Err(ParseError::NotAPush("a pull".into())),
            tag => push(tag),
        };
        let tags = |list: &[&str]| -> Result<Vec<String>, String> {
            let events = each(list.iter().copied(), read).map_err(|error| error.to_string())?;
            Ok(events.into_iter().filter_map(|event| event.image.tag).collect())
        };
        assert_eq!(tags(&["pull", "no tag", "v1", "v2", "v1"]), Ok(vec!["v1".into(), "v2".into()]));
        assert!(tags(&["pull", "no tag"]).is_err_and(|error| error.contains("can't exist")));
        assert_eq!(tags(&["pull", "pull"]), Err("a pull".into()));
        assert_eq!(tags(&[]), Err("the delivery tells of nothing".into()));
    }
}
