//! Renders what a device is told: its `apps` with the image that each overlaid repository gets.
//!
//! Pure. Chooses nothing: which image a repository gets is [`crate::plan::gate`]'s word. Agents create containers from
//! `imageName` and ignore `config.image`, other tools read only the latter, so both are always written.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use crate::api::ImageRef;
use crate::api::image::written_name;
use crate::plan::services::service_image;

/// The intervals that stand in both blocks.
const INTERVALS: [&str; 3] = ["targetStatePollIntervalMs", "reportIntervalMs", "metricsIntervalMs"];

/// Writes the images into `apps`. `images` holds the reference that each overlaid repository gets; the services of all
/// other repositories keep theirs, and get the missing one of the two spellings.
pub fn overlay(apps: &mut BTreeMap<String, Value>, images: &[ImageRef]) {
    for app in apps.values_mut() {
        let Some(services) = app.get_mut("services").and_then(Value::as_array_mut) else { continue };
        for service in services {
            let Some(written) = service_image(service).map(str::to_owned) else { continue };
            let image = written
                .parse::<ImageRef>()
                .ok()
                .and_then(|declared| images.iter().find(|image| image.repository == declared.repository));
            match image {
                Some(image) => write(service, &format!("{}{}", written_name(&written), image.suffix()), true),
                None => write(service, &written, false),
            }
        }
    }
}

/// Names the image in every place where an agent may look; where `replace` is false, only where nothing stands.
fn write(service: &mut Value, image: &str, replace: bool) {
    let Some(service) = service.as_object_mut() else { return };
    put(service, "imageName", image, replace);
    // An agent moves a flat `image` over the other two, so an old one must not stay behind.
    if replace && service.contains_key("image") {
        put(service, "image", image, true);
    }
    match service.entry("config").or_insert(Value::Null) {
        Value::Object(config) => put(config, "image", image, replace),
        config @ Value::Null => {
            *config = Value::Object(Map::from_iter([("image".to_owned(), Value::from(image))]));
        }
        // Not ours to mend: the agent refuses it by itself.
        Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {}
    }
}

fn put(object: &mut Map<String, Value>, key: &str, image: &str, replace: bool) {
    let filled = object.get(key).and_then(Value::as_str).is_some_and(|text| !text.is_empty());
    if replace || !filled {
        object.insert(key.to_owned(), Value::from(image));
    }
}

/// `config` with both blocks of intervals, where a person wrote one. Agents read `intervals` when it changes, and
/// `intervals.agent` when they start; which of the two a person knows of is chance. Two that differ are his word.
#[must_use]
pub fn config(mut config: Map<String, Value>) -> Map<String, Value> {
    if let Some(intervals) = config.get_mut("intervals").and_then(Value::as_object_mut) {
        let own: Map<String, Value> =
            INTERVALS.iter().filter_map(|key| Some(((*key).to_owned(), intervals.get(*key)?.clone()))).collect();
        match intervals.get("agent").and_then(Value::as_object).cloned() {
            Some(agent) if own.is_empty() => {
                intervals.extend(agent.into_iter().filter(|(key, _)| INTERVALS.contains(&key.as_str())));
            }
            None if !own.is_empty() && !intervals.contains_key("agent") => {
                intervals.insert("agent".into(), own.into());
            }
            Some(_) | None => {}
        }
    }
    config
}

/// The body of a 200. `uuid` is spelled as the device spelled it, for it looks itself up by that spelling.
#[must_use]
pub fn body(uuid: &str, apps: &str, config: &str, generation: i64) -> String {
    let version = generation.max(1);
    let uuid = Value::from(uuid);
    format!(
        r#"{{{uuid}:{{"apps":{apps},"config":{config},"version":{version},"needs_deployment":false,"last_deployed_at":null}}}}"#
    )
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const DIGEST: &str = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    fn service(service: &Value, images: &[&str]) -> Value {
        let mut apps = BTreeMap::from([("1".to_owned(), json!({"appName": "a", "services": [service]}))]);
        let images: Vec<ImageRef> = images.iter().map(|image| image.parse().unwrap()).collect();
        overlay(&mut apps, &images);
        assert_eq!(apps["1"]["appName"], "a");
        apps["1"]["services"][0].clone()
    }

    #[test]
    fn both_places_whichever_was_used() {
        let told = json!({"imageName": "acme/web:v2", "config": {"image": "acme/web:v2"}});
        for declared in [
            json!({"imageName": "acme/web:v1"}),
            json!({"config": {"image": "acme/web:v1"}}),
            json!({"imageName": "acme/web:v1", "config": {"image": "acme/web:v1"}}),
            json!({"imageName": "acme/web:v1", "config": {"image": "acme/web:v0"}}),
            json!({"imageName": "", "config": {"image": "acme/web:v1"}}),
            json!({"imageName": "acme/web:v1", "config": null}),
        ] {
            assert_eq!(service(&declared, &["acme/web:v2"]), told, "{declared}");
        }
        assert_eq!(
            service(&json!({"image": "acme/web:v1"}), &["acme/web:v2"]),
            json!({"image": "acme/web:v2", "imageName": "acme/web:v2", "config": {"image": "acme/web:v2"}})
        );
    }

    #[test]
    fn keeps_the_spelling_and_everything_else() {
        let declared = json!({
            "serviceId": 7, "serviceName": "web", "imageName": format!("Registry.Local:5000/team/web@{DIGEST}"),
            "config": {"ports": ["80:80"], "nested": {"image": "untouched"}}, "extra": [1, null, 2.5],
        });
        assert_eq!(
            service(&declared, &["registry.local:5000/team/web:v2", "acme/other:v9"]),
            json!({
                "serviceId": 7, "serviceName": "web", "imageName": "Registry.Local:5000/team/web:v2",
                "config": {"ports": ["80:80"], "nested": {"image": "untouched"}, "image": "Registry.Local:5000/team/web:v2"},
                "extra": [1, null, 2.5],
            })
        );
        let by_digest = format!("acme/web:v2@{DIGEST}");
        assert_eq!(service(&json!({"imageName": "acme/web"}), &[&by_digest])["imageName"], by_digest);
    }

    #[test]
    fn other_repositories_only_get_the_missing_spelling() {
        assert_eq!(
            service(&json!({"imageName": "redis"}), &["acme/web:v2"]),
            json!({"imageName": "redis", "config": {"image": "redis"}})
        );
        assert_eq!(
            service(&json!({"config": {"image": "redis:7", "a": 1}}), &[]),
            json!({"imageName": "redis:7", "config": {"image": "redis:7", "a": 1}})
        );
        let differing = json!({"imageName": "redis:7", "config": {"image": "redis:6"}});
        assert_eq!(service(&differing, &[]), differing, "two that differ are a person's word");
        let unparsable = json!({"imageName": "Not An Image"});
        assert_eq!(service(&unparsable, &[])["config"]["image"], "Not An Image");
    }

    #[test]
    fn garbage_passes_through() {
        for garbage in [json!("x"), json!(null), json!({}), json!({"config": 3}), json!({"imageName": 5})] {
            assert_eq!(service(&garbage, &["acme/web:v2"]), garbage);
        }
        assert_eq!(
            service(&json!({"imageName": "acme/web:v1", "config": "x"}), &["acme/web:v2"]),
            json!({"imageName": "acme/web:v2", "config": "x"})
        );
        let mut apps = BTreeMap::from([("1".to_owned(), json!([1])), ("2".to_owned(), json!({"services": {"a": 1}}))]);
        let before = apps.clone();
        overlay(&mut apps, &[]);
        assert_eq!(apps, before);
    }

    #[test]
    fn both_blocks_of_intervals_whichever_was_used() {
        let told = |declared: &Value| Value::from(config(declared.as_object().unwrap().clone()));
        let (poll, report) = ("targetStatePollIntervalMs", "reportIntervalMs");
        let both = json!({"intervals": {poll: 2000, report: 3000, "agent": {poll: 2000, report: 3000}}});
        assert_eq!(told(&json!({"intervals": {poll: 2000, report: 3000}})), both);
        assert_eq!(told(&json!({"intervals": {"agent": {poll: 2000, report: 3000}}})), both);
        let reconciled = json!({"intervals": {"agent": {"reconciliationIntervalMs": 1, poll: 2}}});
        assert_eq!(
            told(&reconciled),
            json!({"intervals": {poll: 2, "agent": {"reconciliationIntervalMs": 1, poll: 2}}}),
            "what only one block has stays there"
        );
        for untouched in [
            json!({}),
            json!({"intervals": 7}),
            json!({"intervals": {"other": 1}}),
            json!({"intervals": {poll: 1, "agent": {}}}),
            json!({"intervals": {poll: 1, "agent": "x"}}),
            json!({"intervals": {poll: 1, "agent": {report: 2}}}),
            json!({"agentUpdate": {"version": "2.0.0", "url": "https://…"}, "logging": [1, null], "a": {"b": 1.5}}),
        ] {
            assert_eq!(told(&untouched), untouched);
        }
    }

    #[test]
    fn body_is_keyed_by_the_devices_own_spelling() {
        let body: Value = serde_json::from_str(&body("A\"B", "{\"1\":{}}", "{}", 0)).unwrap();
        assert_eq!(
            body,
            json!({"A\"B": {"apps": {"1": {}}, "config": {}, "version": 1, "needs_deployment": false, "last_deployed_at": null}})
        );
    }
}
