//! Which services a device declares, and which image each of them names.
//!
//! `apps` belongs to people and is passed to agents as it is, so it comes in every shape that agents accept: a map by
//! application id or an array of applications; the image in `imageName` (what agents obey), in `config.image`, or
//! flat on the service. This is the only place that knows.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::api::ImageRef;

/// One declared service that names an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Declared<'a> {
    /// Id of the application.
    pub app: &'a str,
    /// Id of the service within the application.
    pub id: Option<i64>,
    /// Name of the service, empty where it has none.
    pub name: &'a str,
    /// The reference as written.
    pub written: &'a str,
    /// The reference, parsed.
    pub image: ImageRef,
}

/// The declared services, in the order of applications and services. Those whose image is absent or does not parse
/// are left out: no rollout can be for them.
#[must_use]
pub fn declared_services(apps: &BTreeMap<String, Value>) -> Vec<Declared<'_>> {
    apps.iter()
        .flat_map(|(app, value)| {
            let services = value.get("services").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
            services.iter().filter_map(move |service| {
                let written = service_image(service)?;
                Some(Declared {
                    app,
                    id: service_id(service),
                    name: service.get("serviceName").and_then(Value::as_str).unwrap_or_default(),
                    written,
                    image: written.parse().ok()?,
                })
            })
        })
        .collect()
}

/// The image of a service: `imageName`, else `config.image`, else the flat `image`.
#[must_use]
pub fn service_image(service: &Value) -> Option<&str> {
    [service.get("imageName"), service.pointer("/config/image"), service.get("image")]
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .find(|text| !text.is_empty())
}

/// Id of a service; agents take numbers and numbers in quotes.
#[must_use]
pub fn service_id(service: &Value) -> Option<i64> {
    let id = service.get("serviceId")?;
    id.as_i64().or_else(|| id.as_str()?.parse().ok())
}

/// What a repository's services declare, in the form that `spec.images[].declared` remembers: the distinct canonical
/// references in order of appearance, joined by commas.
#[must_use]
pub fn declared_text<'a>(images: impl Iterator<Item = &'a ImageRef>) -> String {
    let mut distinct: Vec<String> = Vec::new();
    for image in images {
        let text = image.to_string();
        if !distinct.contains(&text) {
            distinct.push(text);
        }
    }
    distinct.join(",")
}

/// What `apps` declares for a repository, or `None` when no service is of that repository.
#[must_use]
pub fn declared(apps: &BTreeMap<String, Value>, repository: &str) -> Option<String> {
    let services = declared_services(apps);
    let mut images = services.iter().map(|service| &service.image).filter(|i| i.repository == repository).peekable();
    images.peek()?;
    Some(declared_text(images))
}
