//! Registries: from the bytes of a delivery to what should be rolled out.
//!
//! ```text
//! headers + bytes ─ signature ─> Delivery ─ dialect ─> PushEvent ─ intake (policies) ─> Create | Ignore(reason)
//! ```
//!
//! Pure: no client, clock, randomness or environment. Decides who is authentic, what was pushed, and what each policy
//! makes of it; carries nothing out. [`crate::manage::webhook`] does that.
//!
//! How each registry tells of a push is in [`dialects`], one file for each.

pub mod claim;
mod cloudevent;
mod delivery;
pub mod dialects;
mod error;
pub mod intake;
mod media;
mod named;
pub mod oidc;
pub mod pattern;
pub mod reason;
pub mod secret;
pub mod signature;
pub mod tags;

use http::HeaderMap;

use crate::api::ImageRef;
use crate::api::image::DEFAULT_REGISTRY;
use crate::api::webhook::RegistryType;

pub use delivery::Delivery;
pub use dialects::{DIALECTS, Dialect};
pub use error::ParseError;
pub use reason::Reason;

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

/// What the URL that a delivery came in by expects of it. The default expects nothing: the first URL.
#[derive(Clone, Copy, Debug, Default)]
pub struct Expect<'a> {
    /// Which registry; anything else is ignored, even when it is understood.
    pub type_: RegistryType,
    /// Host that devices pull from, for registries that send none or another one.
    pub registry: Option<&'a str>,
}

/// What was pushed, by the dialect that is expected, else by the first that recognises the delivery; with the name of
/// the dialect that recognised it, which metrics want to know of failures too.
///
/// # Errors
/// See [`ParseError`]. What another registry than the expected one has sent is understood, and no push to this URL.
pub fn parse(
    headers: &HeaderMap,
    body: &[u8],
    expect: &Expect<'_>,
) -> (Option<&'static str>, Result<Vec<PushEvent>, ParseError>) {
    let delivery = match Delivery::read(headers, body, expect.registry) {
        Ok(delivery) => delivery,
        Err(error) => return (None, Err(error)),
    };
    // Auto is nobody's type. The expected dialect is asked first: where two could have written a delivery, the receiver
    // knows which one it is.
    let expected = DIALECTS.iter().find(|dialect| dialect.type_() == expect.type_);
    let recognised = expected.into_iter().chain(DIALECTS).find(|dialect| dialect.recognises(&delivery));
    match (expected, recognised) {
        (_, None) => (None, Err(ParseError::Unknown)),
        (Some(expected), Some(other)) if expected.type_() != other.type_() => {
            let (url, this) = (expected.title(), other.title());
            let why = format!("this URL is for {url}, and this is a delivery of {this}");
            (Some(other.name()), Err(ParseError::NotAPush(why)))
        }
        (_, Some(dialect)) => (Some(dialect.name()), dialect.parse(&delivery)),
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

#[cfg(test)]
mod tests {
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
            ("{}", "no registry known here"),
            ("{\"repository\":{}}", "no registry known here"),
        ] {
            assert!(error(body).contains(says), "{body}: {}", error(body));
        }
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
    fn each_type_is_one_dialect() {
        let types: std::collections::HashSet<_> = DIALECTS.iter().map(|dialect| dialect.type_()).collect();
        let names: std::collections::HashSet<_> = DIALECTS.iter().map(|dialect| dialect.name()).collect();
        assert_eq!((types.len(), names.len()), (DIALECTS.len(), DIALECTS.len()));
        assert!(!types.contains(&RegistryType::Auto));
        // Every other value of the CRD's enumeration has one.
        assert_eq!(DIALECTS.len(), 14);
    }

    #[test]
    fn another_registrys_delivery_is_no_push_to_this_url() {
        let body = br#"{"push_data": {"tag": "v2"}, "repository": {"repo_name": "acme/app"}}"#;
        let expect = Expect { type_: RegistryType::Harbor, registry: None };
        match parse(&HeaderMap::new(), body, &expect) {
            (Some("dockerhub"), Err(ParseError::NotAPush(why))) => {
                assert_eq!(why, "this URL is for Harbor, and this is a delivery of Docker Hub");
            }
            other => panic!("{other:?}"),
        }
        assert!(matches!(parse(&HeaderMap::new(), b"{}", &expect), (None, Err(ParseError::Unknown))));
    }
}
