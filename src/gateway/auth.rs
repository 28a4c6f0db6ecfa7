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
/// What comes before a UUID in a certificate's URI, besides a path.
const URN: &str = "urn:uuid:";

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
    let name = extensions.get::<ClientCertificate>().and_then(certified).ok_or(Refused::Stranger)?;
    cache.by_name(&name).filter(|record| !record.access.revoked).ok_or(Refused::Stranger)
}

/// The UUID that a certificate is for: its first URI that ends in one, or else its common name.
fn certified(certificate: &ClientCertificate) -> Option<String> {
    let of_uri = |uri: &String| {
        let name = uri.strip_prefix(URN).or_else(|| uri.rsplit_once('/').map(|(_, name)| name));
        name.and_then(uuid)
    };
    certificate.uris.iter().find_map(of_uri).or_else(|| uuid(certificate.common_name.as_deref()?))
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
        let of = |uris: &[&str], common_name: Option<&str>| {
            certified(&ClientCertificate {
                uris: uris.iter().map(|uri| (*uri).to_owned()).collect(),
                common_name: common_name.map(str::to_owned),
            })
        };
        let (urn, spiffe) = (format!("urn:uuid:{}", UUID.to_uppercase()), format!("spiffe://plant-a/device/{UUID}"));
        for (uris, common_name) in [
            (vec![urn.as_str()], None),
            (vec![spiffe.as_str()], Some("7f0c0000-0000-4000-8000-00000000000b")),
            (vec!["https://example.com/", spiffe.as_str()], None),
            (vec![], Some(UUID)),
            (vec!["spiffe://plant-a/workload/web"], Some(UUID)),
        ] {
            assert_eq!(of(&uris, common_name).as_deref(), Some(UUID), "{uris:?} {common_name:?}");
        }
        for (uris, common_name) in [(vec![UUID], None), (vec!["urn:uuid:x"], Some("web")), (vec![], None)] {
            assert_eq!(of(&uris, common_name), None, "{uris:?} {common_name:?}");
        }
    }
}
