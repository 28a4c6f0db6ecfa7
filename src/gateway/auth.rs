//! Who is asking. The identity comes from the key, or from a verified certificate; what path and body say is only
//! compared with it.

use std::sync::Arc;

use axum::response::{IntoResponse, Response};
use http::{Extensions, HeaderMap, HeaderValue, StatusCode, header};
use jiff::Timestamp;

use super::cache::Cache;
use super::record::Record;
use crate::enrol::hash::{self, KeyHash};
use crate::enrol::registration::{MAX_KEY, uuid};
use crate::problem::Problem;
use crate::server::client::ClientCertificate;

/// Where agents put their key first.
const KEY_HEADER: &str = "x-device-api-key";
/// What comes before a UUID in a certificate's URI (RFC 9562), unless people say otherwise.
pub const URN: &str = "urn:uuid:";

/// Which URIs on certificates name devices: what they begin with, all of it up to the UUID. An authority may issue
/// certificates for other purposes too, with UUIDs in them that somebody chose.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceUris(Vec<String>);

impl Default for DeviceUris {
    fn default() -> Self {
        Self(vec![URN.to_owned()])
    }
}

impl DeviceUris {
    /// Those that begin so.
    #[must_use]
    pub fn new(prefixes: Vec<String>) -> Self {
        Self(prefixes)
    }
}

/// The beginning of devices' URIs, as `--client-uri-prefix` takes it.
///
/// # Errors
/// When it can't be one; the text says what to write.
pub fn uri_prefix(text: &str) -> Result<String, String> {
    let has_scheme = text.split_once(':').is_some_and(|(scheme, _)| !scheme.is_empty());
    if has_scheme && text.ends_with([':', '/']) {
        return Ok(text.to_owned());
    }
    Err(format!("write all of a device's URI up to its UUID, such as {URN} or spiffe://fleet.example/device/"))
}

/// Why a device isn't let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// No key, a wrong key, a revoked or unknown device and another device's path all look the same.
    Stranger,
    /// It has registered, and must prove itself before it is told anything.
    Incomplete,
}

/// The device whose key the headers present, or whose certificate the connection has shown.
///
/// # Errors
/// When it is none that may come in.
pub fn authenticate(
    cache: &Cache,
    uris: &DeviceUris,
    headers: &HeaderMap,
    extensions: &Extensions,
    now: impl Fn() -> Timestamp,
) -> Result<Arc<Record>, Refused> {
    let by_key = presented(headers, KEY_HEADER).and_then(|key| {
        let hash: KeyHash = hash::of(key);
        cache.by_key(&hash).filter(|record| record.access.admits(&hash, &now))
    });
    if let Some(record) = by_key {
        return if record.access.incomplete { Err(Refused::Incomplete) } else { Ok(record) };
    }
    // The authority vouches for the device, so this needs no enrolment.
    let name =
        extensions.get::<ClientCertificate>().and_then(|shown| certified(uris, shown)).ok_or(Refused::Stranger)?;
    cache.by_name(&name).filter(|record| !record.access.revoked).ok_or(Refused::Stranger)
}

/// The UUID that a certificate is for: the one that its URIs name, or its common name where it has no URI at all. One that
/// names two devices is for neither.
fn certified(uris: &DeviceUris, certificate: &ClientCertificate) -> Option<String> {
    let ClientCertificate { uris: shown, common_name } = certificate;
    if shown.is_empty() {
        return uuid(common_name.as_deref()?);
    }
    let of_uri = |uri: &String| uris.0.iter().find_map(|prefix| uuid(uri.strip_prefix(prefix.as_str())?));
    let mut names = shown.iter().filter_map(of_uri);
    let first = names.next()?;
    names.all(|name| name == first).then_some(first)
}

/// The key that the headers present: by that header, or by `Authorization: Bearer`.
#[must_use]
pub fn presented<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a [u8]> {
    let key = match headers.get(name) {
        Some(value) => value.as_bytes(),
        None => {
            let (scheme, key) = headers.get(header::AUTHORIZATION)?.as_bytes().split_at_checked(7)?;
            if !scheme.eq_ignore_ascii_case(b"bearer ") {
                return None;
            }
            key
        }
    };
    let key = key.trim_ascii();
    (!key.is_empty() && key.len() <= MAX_KEY).then_some(key)
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let mut response = match self {
            Self::Stranger => Problem::new(
                StatusCode::UNAUTHORIZED,
                "device-key",
                "Unauthorized",
                "send this device's own key as X-Device-API-Key or as Authorization: Bearer",
            ),
            Self::Incomplete => Problem::new(
                StatusCode::FORBIDDEN,
                "registration-incomplete",
                "Registration incomplete",
                "registration incomplete: the key exchange comes first",
            ),
        }
        .into_response();
        if self == Self::Stranger {
            let realm = HeaderValue::from_static("Bearer realm=\"tranche\"");
            response.headers_mut().insert(header::WWW_AUTHENTICATE, realm);
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_a_key_may_stand() {
        let long = "k".repeat(513);
        for (name, value, key) in [
            ("x-device-api-key", "k1", Some("k1")),
            ("x-device-api-key", "  k1 ", Some("k1")),
            ("x-device-api-key", "", None),
            ("x-device-api-key", &long, None),
            ("authorization", "Bearer k1", Some("k1")),
            ("authorization", "bearer  k1", Some("k1")),
            ("authorization", "Bearer ", None),
            ("authorization", "Bearer", None),
            ("authorization", "Basic k1", None),
            ("authorization", "", None),
            ("cookie", "k1", None),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(name, HeaderValue::from_str(value).unwrap());
            assert_eq!(presented(&headers, KEY_HEADER), key.map(str::as_bytes), "{name}: {value}");
        }
        let mut both = HeaderMap::new();
        both.insert("authorization", HeaderValue::from_static("Bearer b"));
        both.insert("x-device-api-key", HeaderValue::from_static("a"));
        assert_eq!(presented(&both, KEY_HEADER), Some("a".as_bytes()));
    }

    #[test]
    fn whom_a_certificate_is_for() {
        const UUID: &str = "7f0c0000-0000-4000-8000-00000000000a";
        let of = |prefixes: &DeviceUris, uris: &[&str], common_name: Option<&str>| {
            let certificate = ClientCertificate {
                uris: uris.iter().map(|uri| (*uri).to_owned()).collect(),
                common_name: common_name.map(str::to_owned),
            };
            certified(prefixes, &certificate)
        };
        let by_default = DeviceUris::default();
        let spiffe_only = DeviceUris::new(vec!["spiffe://plant-a/device/".into()]);
        let (urn, spiffe) = (format!("urn:uuid:{}", UUID.to_uppercase()), format!("spiffe://plant-a/device/{UUID}"));
        let (other, deep) = (UUID.replace('a', "b"), format!("spiffe://plant-a/device/x/{UUID}"));
        let (elsewhere, second) = (format!("https://example.com/{UUID}"), format!("urn:uuid:{other}"));
        for (prefixes, uris, common_name) in [
            (&by_default, vec![urn.as_str()], None),
            (&by_default, vec![urn.as_str()], Some(other.as_str())),
            (&by_default, vec!["https://example.com/", urn.as_str(), urn.as_str()], None),
            (&by_default, vec![], Some(UUID)),
            (&spiffe_only, vec![spiffe.as_str(), "https://example.com/"], Some("web")),
        ] {
            assert_eq!(of(prefixes, &uris, common_name).as_deref(), Some(UUID), "{uris:?} {common_name:?}");
        }
        for (prefixes, uris, common_name) in [
            (&by_default, vec![UUID], None),
            (&by_default, vec!["urn:uuid:x"], Some("web")),
            (&by_default, vec![], None),
            // Of another scheme, host or path.
            (&by_default, vec![spiffe.as_str()], None),
            (&by_default, vec![elsewhere.as_str()], None),
            (&spiffe_only, vec![deep.as_str()], None),
            (&spiffe_only, vec![urn.as_str()], None),
            // Once it has URIs, they are what it is for.
            (&by_default, vec![spiffe.as_str()], Some(UUID)),
            (&by_default, vec!["spiffe://plant-a/workload/web"], Some(UUID)),
            // Two devices.
            (&by_default, vec![urn.as_str(), second.as_str()], None),
        ] {
            assert_eq!(of(prefixes, &uris, common_name), None, "{uris:?} {common_name:?}");
        }
    }

    #[test]
    fn prefixes_of_uris_are_whole() {
        for text in [URN, "spiffe://fleet.example/device/", "https://fleet.example/"] {
            assert_eq!(uri_prefix(text).as_deref(), Ok(text));
        }
        for text in ["", ":", "/", "/device/", "spiffe://fleet.example/device", "urn"] {
            assert!(uri_prefix(text).expect_err(text).contains("up to its UUID"), "{text}");
        }
    }
}
