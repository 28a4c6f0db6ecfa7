//! Registries: from the bytes of a delivery to what should be rolled out.
//!
//! ```text
//! headers + bytes ─ signature ─> Delivery ─ dialect ─> PushEvent ─ intake (policies) ─> Create | Ignore(reason)
//! ```
//!
//! Pure: no client, clock, randomness or environment. Decides who is authentic, what was pushed, and what each policy
//! makes of it; carries nothing out. [`crate::manage::webhook`] does that.
//!
//! **A new dialect** is one file with an implementation of [`Dialect`], and one line in [`DIALECTS`]. The first one
//! that recognises a delivery reads it, so look-alikes are told apart in `recognises` alone. A dialect never trusts its
//! vendor to keep to the documented shape: only fields that are used are typed, everything else is skipped.

pub mod claim;
pub mod dockerhub;
pub mod github;
pub mod intake;
pub mod oidc;
pub mod pattern;
pub mod reason;
pub mod secret;
pub mod signature;
pub mod tags;

use std::collections::BTreeSet;
use std::fmt;

use http::HeaderMap;
use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};

use crate::api::ImageRef;
use crate::api::image::{DEFAULT_REGISTRY, ImageError};
use crate::api::webhook::RegistryType;

pub use reason::Reason;

/// Every dialect, in the order in which they are asked.
pub const DIALECTS: &[&dyn Dialect] = &[&github::GitHub, &dockerhub::DockerHub];

/// Names of a payload's top level that are remembered to recognise its dialect by. No registry sends half as many.
const MAX_KEYS: usize = 64;
/// Longest text that is taken over from a delivery into a rollout's `spec.trigger`; the CRD's own limit.
const MAX_TEXT: usize = 253;

/// How one registry tells of a push.
pub trait Dialect: Sync {
    /// Its name in `spec.trigger.receiver` and in metrics.
    fn name(&self) -> &'static str;

    /// What a `RegistryWebhook` calls it.
    fn type_(&self) -> RegistryType;

    /// Whether a delivery is written in this dialect. Looks at headers and top-level names; must not claim what another
    /// registry could have sent.
    fn recognises(&self, delivery: &Delivery<'_>) -> bool;

    /// What a recognised delivery says.
    ///
    /// # Errors
    /// [`ParseError::NotAPush`] for an event that is understood and is no push; every other error is a delivery that is
    /// not as the registry documents it.
    fn parse(&self, delivery: &Delivery<'_>) -> Result<Vec<PushEvent>, ParseError>;
}

/// One image that was pushed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PushEvent {
    /// Canonical repository; the tag and the digest where the registry sends them.
    pub image: ImageRef,
    /// Who pushed, as the registry says. For people; nothing is decided by it.
    pub actor: Option<String>,
    /// The registry's own id of the delivery.
    pub delivery_id: Option<String>,
    /// Name of the dialect.
    pub receiver: &'static str,
}

/// Why a delivery has no push in it.
#[derive(Debug, thiserror::Error)]
pub enum ParseError {
    /// A form instead of JSON: a setting of the webhook.
    #[error("the body is a form: set the webhook's content type to application/json")]
    Form,
    /// No JSON object, or a field of another type than the registry documents.
    #[error("the body can't be read as {what}: {error}")]
    Json {
        /// What it was taken for.
        what: &'static str,
        /// Where and why.
        #[source]
        error: serde_json::Error,
    },
    /// No dialect takes it.
    #[error(
        "the body is JSON, but not a push as Docker Hub or GitHub (events package and registry_package) tell of it"
    )]
    Unknown,
    /// A field is missing that this registry always sends.
    #[error("the payload is taken for one of {dialect}, but has no {field}")]
    Missing {
        /// Name of the dialect.
        dialect: &'static str,
        /// Path of the field.
        field: &'static str,
    },
    /// It names an image that can't exist.
    #[error("the payload names an image that can't exist: {0}")]
    Image(#[from] ImageError),
    /// Understood, authentic, and no push of a container image.
    #[error("{0}")]
    NotAPush(String),
}

/// A delivery: a JSON object whose top-level names are known.
#[derive(Debug)]
pub struct Delivery<'a> {
    /// As they came in.
    pub headers: &'a HeaderMap,
    /// As they came in.
    pub body: &'a [u8],
    /// Host that devices pull from, where the receiver names it. It goes before whatever the payload says.
    pub registry: Option<&'a str>,
    keys: BTreeSet<String>,
}

/// What the URL that a delivery came in by expects of it. The default expects nothing: the first URL.
#[derive(Clone, Copy, Debug, Default)]
pub struct Expect<'a> {
    /// Which registry; anything else is ignored, even when it is understood.
    pub type_: RegistryType,
    /// Host that devices pull from, for registries that send none or another one.
    pub registry: Option<&'a str>,
}

impl<'a> Delivery<'a> {
    /// Reads the outline of a delivery, in one pass and without building a tree of it.
    ///
    /// # Errors
    /// When the body is no JSON object.
    pub fn read(headers: &'a HeaderMap, body: &'a [u8], registry: Option<&'a str>) -> Result<Self, ParseError> {
        let content_type = headers.get(http::header::CONTENT_TYPE).map_or(&b""[..], |value| value.as_bytes());
        if content_type.to_ascii_lowercase().starts_with(b"application/x-www-form-urlencoded") && !is_object(body) {
            return Err(ParseError::Form);
        }
        let Outline(keys) =
            serde_json::from_slice(body).map_err(|error| ParseError::Json { what: "a JSON object", error })?;
        Ok(Self { headers, body, registry, keys })
    }

    /// Whether the payload has that name at its top level.
    #[must_use]
    pub fn has(&self, key: &str) -> bool {
        self.keys.contains(key)
    }

    /// Text of a header, where it is there and is text.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&'a str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// The payload as a type.
    fn payload<T: serde::de::DeserializeOwned>(&self, what: &'static str) -> Result<T, ParseError> {
        serde_json::from_slice(self.body).map_err(|error| ParseError::Json { what, error })
    }
}

/// What was pushed, by the first dialect that recognises the delivery among those that are expected; with the name of
/// that dialect, which metrics want to know of failures too.
///
/// # Errors
/// See [`ParseError`].
pub fn parse(
    headers: &HeaderMap,
    body: &[u8],
    expect: &Expect<'_>,
) -> (Option<&'static str>, Result<Vec<PushEvent>, ParseError>) {
    let delivery = match Delivery::read(headers, body, expect.registry) {
        Ok(delivery) => delivery,
        Err(error) => return (None, Err(error)),
    };
    let expected =
        |dialect: &&&dyn Dialect| matches!(expect.type_, RegistryType::Auto) || dialect.type_() == expect.type_;
    match DIALECTS.iter().filter(expected).find(|dialect| dialect.recognises(&delivery)) {
        Some(dialect) => (Some(dialect.name()), dialect.parse(&delivery)),
        None => (None, Err(ParseError::Unknown)),
    }
}

/// A canonical repository in the short form that people write: `docker.io/library/redis` is `redis`.
#[must_use]
pub fn familiar(repository: &str) -> &str {
    match repository.split_once('/') {
        Some((DEFAULT_REGISTRY, path)) => path.strip_prefix("library/").unwrap_or(path),
        Some(_) | None => repository,
    }
}

/// Text from a stranger that people will see in a terminal: without control characters, and bounded. `None` when nothing
/// is left.
fn tidy(text: &str) -> Option<String> {
    let clean: String = text.chars().filter(|c| !c.is_control()).take(MAX_TEXT).collect();
    let clean = clean.trim();
    (!clean.is_empty()).then(|| clean.to_owned())
}

/// A digest where it is one; anything else that a registry puts there is as good as none.
fn digest(text: Option<&str>) -> Option<&str> {
    text.filter(|text| ImageRef::new("digest", None, Some(text)).is_ok())
}

fn is_object(body: &[u8]) -> bool {
    body.trim_ascii_start().first() == Some(&b'{')
}

/// The top-level names of a JSON object; the rest is checked to be JSON and skipped.
struct Outline(BTreeSet<String>);

impl<'de> Deserialize<'de> for Outline {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Names;

        impl<'de> Visitor<'de> for Names {
            type Value = Outline;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON object")
            }

            fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Outline, M::Error> {
                let mut keys = BTreeSet::new();
                while let Some(key) = map.next_key::<String>()? {
                    map.next_value::<IgnoredAny>()?;
                    if keys.len() < MAX_KEYS {
                        keys.insert(key);
                    }
                }
                Ok(Outline(keys))
            }
        }

        deserializer.deserialize_map(Names)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn error(body: &str) -> String {
        parse(&HeaderMap::new(), body.as_bytes(), &Expect::default()).1.expect_err(body).to_string()
    }

    #[test]
    fn what_is_not_understood_says_why() {
        for (body, says) in [
            ("", "can't be read as a JSON object"),
            ("[]", "can't be read as a JSON object"),
            ("\"x\"", "can't be read as a JSON object"),
            ("{\"a\":", "can't be read as a JSON object"),
            ("{} {}", "can't be read as a JSON object"),
            ("{}", "not a push as Docker Hub or GitHub"),
            ("{\"events\":[]}", "not a push as Docker Hub or GitHub"),
        ] {
            assert!(error(body).contains(says), "{body}: {}", error(body));
        }
        // What is skipped is skipped without recursion: depth costs no stack.
        let deep = format!("{{\"a\":{}1{}}}", "[".repeat(500_000), "]".repeat(500_000));
        assert!(error(&deep).contains("not a push"));
    }

    #[test]
    fn a_form_is_told_what_to_set() {
        let mut headers = HeaderMap::new();
        headers.insert("content-type", "application/x-www-form-urlencoded".parse().expect("a value"));
        let (_, result) = parse(&headers, b"payload=%7B%7D", &Expect::default());
        assert!(result.expect_err("a form").to_string().contains("application/json"));
        // curl -d says "form" whatever it sends.
        assert!(matches!(parse(&headers, b"{}", &Expect::default()).1, Err(ParseError::Unknown)));
    }

    #[test]
    fn familiar_names() {
        assert_eq!(familiar("docker.io/library/redis"), "redis");
        assert_eq!(familiar("docker.io/iotistic/myapp"), "iotistic/myapp");
        assert_eq!(familiar("ghcr.io/library/redis"), "ghcr.io/library/redis");
        assert_eq!(familiar("registry.local:5000/app"), "registry.local:5000/app");
    }

    #[test]
    fn text_of_strangers() {
        assert_eq!(tidy("ann"), Some("ann".into()));
        assert_eq!(tidy("\u{1b}[31mann\r\n"), Some("[31mann".into()));
        assert_eq!(tidy(" \n"), None);
        assert_eq!(tidy(&"ä".repeat(400)).expect("text").chars().count(), MAX_TEXT);
    }

    // === No mutation of a delivery panics, and none of them pushes what can't be pulled ===

    const FIXTURES: [&str; 4] = [
        include_str!("../../examples/webhook-dockerhub.json"),
        include_str!("../../examples/webhook-github.json"),
        r#"{"action": "updated", "registry_package": {"name": "a", "package_version": {"package_url": "ghcr.io/a/b:c"}}}"#,
        r#"{"package": {"name": "a/b"}, "package_version": {"container_metadata": {"tag": {"name": "c"}}}}"#,
    ];

    fn check(event: Option<&str>, body: &[u8]) {
        let mut headers = HeaderMap::new();
        if let Some(value) = event.and_then(|event| event.parse().ok()) {
            headers.insert("x-github-event", value);
        }
        for event in parse(&headers, body, &Expect::default()).1.into_iter().flatten() {
            let image = event.image.to_string();
            assert_eq!(image.parse::<ImageRef>().as_ref(), Ok(&event.image), "canonical, and readable again");
            assert!(event.actor.is_none_or(|actor| actor.chars().count() <= MAX_TEXT));
        }
    }

    /// Puts `value` at the `at`-th place of a document, counted depth first.
    fn replace(document: &mut serde_json::Value, at: &mut usize, value: &serde_json::Value) {
        if *at == 0 {
            *document = value.clone();
        }
        *at = at.wrapping_sub(1);
        match document {
            serde_json::Value::Array(items) => items.iter_mut().for_each(|item| replace(item, at, value)),
            serde_json::Value::Object(fields) => fields.values_mut().for_each(|field| replace(field, at, value)),
            _ => {}
        }
    }

    fn any_json() -> impl Strategy<Value = serde_json::Value> {
        use serde_json::{Value, json};
        prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            ".{0,300}".prop_map(Value::from),
            "[A-Za-z0-9./:@_-]{0,80}".prop_map(Value::from),
            Just(json!([])),
            Just(json!({})),
            Just(json!([{"name": "x"}])),
        ]
    }

    proptest! {
        #[test]
        fn bytes_changed(
            fixture in 0..FIXTURES.len(),
            cut in any::<prop::sample::Index>(),
            edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..8),
            shorten in any::<bool>(),
            event in prop::option::of("[a-z_]{0,20}"),
        ) {
            let mut body = FIXTURES[fixture].as_bytes().to_vec();
            for (at, byte) in edits {
                let at = at.index(body.len());
                body[at] = byte;
            }
            if shorten {
                body.truncate(cut.index(body.len()));
            }
            check(event.as_deref(), &body);
        }

        #[test]
        fn values_changed(fixture in 0..FIXTURES.len(), places in prop::collection::vec((0usize..60, any_json()), 1..4)) {
            let mut body: serde_json::Value = serde_json::from_str(FIXTURES[fixture]).expect("JSON");
            for (mut at, value) in places {
                replace(&mut body, &mut at, &value);
            }
            check(None, body.to_string().as_bytes());
            check(Some("package"), body.to_string().as_bytes());
        }

        #[test]
        fn anything(body in prop::collection::vec(any::<u8>(), 0..200)) {
            check(None, &body);
        }
    }
}
