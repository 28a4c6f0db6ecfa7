//! Who is asking. The identity comes from the key alone; what path and body say is only compared with it.

use std::sync::Arc;

use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use sha2::{Digest as _, Sha256};

use super::cache::Cache;
use super::record::Record;
use super::shared::KeyHash;
use crate::problem::Problem;

/// Where agents put their key first.
const KEY_HEADER: &str = "x-device-api-key";
/// Real keys have 64 to 76 characters; hashing more than this would be work for nobody.
const MAX_KEY: usize = 512;

/// The device whose key the headers present.
#[must_use]
pub fn authenticate(cache: &Cache, headers: &HeaderMap) -> Option<Arc<Record>> {
    let key = presented(headers)?;
    let hash: KeyHash = Sha256::digest(key).into();
    cache.by_key(&hash)
}

/// The key: `X-Device-API-Key`, or `Authorization: Bearer`.
fn presented(headers: &HeaderMap) -> Option<&[u8]> {
    let key = match headers.get(KEY_HEADER) {
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

/// The one refusal: no key, a wrong key, an unknown device and another device's path all look the same.
#[must_use]
pub fn refused() -> Response {
    let mut response = Problem::new(
        StatusCode::UNAUTHORIZED,
        "device-key",
        "Unauthorized",
        "send this device's own key as X-Device-API-Key or as Authorization: Bearer",
    )
    .into_response();
    response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"tranche\""));
    response
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
            assert_eq!(presented(&headers), key.map(str::as_bytes), "{name}: {value}");
        }
        let mut both = HeaderMap::new();
        both.insert("authorization", HeaderValue::from_static("Bearer b"));
        both.insert("x-device-api-key", HeaderValue::from_static("a"));
        assert_eq!(presented(&both), Some(&b"a"[..]));
    }
}
