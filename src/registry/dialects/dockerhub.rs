//! Docker Hub.
//!
//! **Shape** (Docker's documentation; only what is read):
//! ```json
//! {"push_data": {"tag": "v2", "pusher": "ann"}, "repository": {"repo_name": "acme/app"}}
//! ```
//!
//! **Facts.**
//! - Pushes only; there is no other event, no ping, no id of the delivery, and nothing is sent twice.
//! - It can't sign and sends no header of one's own: the secret goes into the path of the URL.
//! - No digest (docker/roadmap#440), so a tag that is pushed again looks the same as before. Until the registry is asked
//!   for the digest, a second push of one tag is one rollout.
//! - `push_data.tag` may be missing. The registry is implied and always `docker.io`.
//! - Numbers such as `pushed_at` come as `1417566161` or `1.417566161e+09`; not read.
//! - Alibaba's registry copies the shape but has `repo_full_name` instead of `repo_name`: by that it is told apart.

use serde::Deserialize;

use super::Dialect;
use crate::api::image::DEFAULT_REGISTRY;
use crate::api::webhook::RegistryType;
use crate::registry::delivery::for_people;
use crate::registry::named::Named;
use crate::registry::{Delivery, ParseError, PushEvent};

const NAME: &str = "dockerhub";
const TITLE: &str = "Docker Hub";

/// Docker Hub's dialect.
#[derive(Clone, Copy, Debug)]
pub struct DockerHub;

#[derive(Deserialize)]
struct Payload {
    push_data: PushData,
    repository: Repository,
}

#[derive(Deserialize)]
struct PushData {
    #[serde(default)]
    tag: Option<String>,
    #[serde(default, deserialize_with = "for_people")]
    pusher: Option<String>,
}

#[derive(Deserialize)]
struct Repository {
    #[serde(default)]
    repo_name: Option<String>,
}

impl Dialect for DockerHub {
    fn name(&self) -> &'static str {
        NAME
    }

    fn title(&self) -> &'static str {
        TITLE
    }

    fn type_(&self) -> RegistryType {
        RegistryType::DockerHub
    }

    fn recognises(&self, delivery: &Delivery<'_>) -> bool {
        delivery.has("push_data")
            && delivery.has("repository")
            && (delivery.has("repository.repo_name") || !delivery.has("repository.repo_full_name"))
    }

    fn parse(&self, delivery: &Delivery<'_>) -> Result<Vec<PushEvent>, ParseError> {
        let Payload { push_data: PushData { tag, pusher }, repository } = delivery.payload("a push of Docker Hub")?;
        let Some(name) = repository.repo_name.filter(|name| !name.is_empty()) else {
            return Err(ParseError::Missing { dialect: TITLE, field: "repository.repo_name" });
        };
        let image = Named::parts(Some(DEFAULT_REGISTRY), &name).tag(tag.as_deref()).image(delivery, TITLE)?;
        Ok(vec![PushEvent { image, actor: pusher, delivery_id: None, receiver: NAME }])
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderMap;
    use serde_json::json;

    use super::*;
    use crate::registry::{Expect, parse};

    fn event(body: &serde_json::Value) -> Result<PushEvent, ParseError> {
        let (name, result) = parse(&HeaderMap::new(), body.to_string().as_bytes(), &Expect::default());
        assert_eq!(name, Some(NAME), "{body}");
        result.map(|mut events| events.remove(0))
    }

    #[test]
    fn pushes() {
        let push = event(&json!({
            "callback_url": "https://registry.hub.docker.com/u/acme/app/hook/2/",
            "push_data": {"pushed_at": 1.417_566_161e9, "pusher": "ann", "tag": "v2", "images": []},
            "repository": {"name": "app", "namespace": "acme", "owner": "acme", "repo_name": "acme/app", "star_count": 0},
        }))
        .expect("a push");
        assert_eq!(push.image.to_string(), "docker.io/acme/app:v2");
        assert_eq!(push.actor.as_deref(), Some("ann"));
        assert_eq!(push.delivery_id, None);
        assert_eq!(push.receiver, "dockerhub");
    }

    #[test]
    fn names() {
        for (name, tag, image) in [
            ("redis", json!("7"), "docker.io/library/redis:7"),
            ("Acme/App", json!("V2"), "docker.io/acme/app:V2"),
            ("evil.example/app", json!("v2"), "docker.io/evil.example/app:v2"),
            ("acme/app", json!(null), "docker.io/acme/app"),
            ("acme/app", json!(""), "docker.io/acme/app"),
        ] {
            let push = event(&json!({"push_data": {"tag": tag}, "repository": {"repo_name": name}})).expect(name);
            assert_eq!(push.image.to_string(), image);
        }
        let push = event(&json!({"push_data": {}, "repository": {"repo_name": "acme/app"}})).expect("no tag");
        assert_eq!(push.image.tag, None);
    }

    #[test]
    fn refused() {
        for (push_data, repository) in [
            (json!({"tag": "v2"}), json!({})),
            (json!({"tag": "v2"}), json!({"repo_name": ""})),
            (json!({"tag": "v2"}), json!({"repo_name": 7})),
            (json!({"tag": "v2"}), json!("acme/app")),
            (json!({"tag": "v2"}), json!({"repo_name": "../../etc"})),
            (json!({"tag": "v2"}), json!({"repo_name": "registry.local:5000/app"})),
            (json!({"tag": "no tag"}), json!({"repo_name": "acme/app"})),
            (json!({"tag": ["v2"]}), json!({"repo_name": "acme/app"})),
            (json!("v2"), json!({"repo_name": "acme/app"})),
        ] {
            assert!(
                event(&json!({"push_data": push_data, "repository": repository})).is_err(),
                "{push_data} {repository}"
            );
        }
    }
}
