//! Keys of token issuers: fetched, kept for as long as their server says, and fetched again when an issuer has changed them.
//!
//! Decides when to ask; which addresses may be asked is decided by [`crate::oci`]. While keys can't
//! be had, no token is taken for right and none for wrong: the registry is told to come again.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::oci::{Registries, RegistryError};
use crate::registry::oidc::{KeySet, KeySetError};

/// From the request to the last byte. Below what registries wait, so that they hear of it.
const FETCH_TIMEOUT: Duration = Duration::from_secs(5);
/// Largest set of keys. Google's has 2 KiB.
const MAX_KEY_SET: usize = 256 * 1024;
/// Keys are kept no shorter, whatever their server says: each fetch is somebody else's load.
const MIN_AGE: Duration = Duration::from_secs(5 * 60);
/// And no longer: a key that was taken back must be forgotten some day.
const MAX_AGE: Duration = Duration::from_secs(24 * 60 * 60);
/// Where their server says nothing.
const DEFAULT_AGE: Duration = Duration::from_secs(60 * 60);
/// A key that isn't known may be new: that is looked at once in this time, since anyone with the path can make one up.
const UNKNOWN_KEY_PAUSE: Duration = Duration::from_secs(60);
/// Between two tries when there are no keys.
const FAILURE_PAUSE: Duration = Duration::from_secs(5);
/// Issuers that are remembered. An installation has one or two; beyond this the oldest is forgotten.
const MAX_ISSUERS: usize = 64;

/// Why there are no keys.
#[derive(Debug, thiserror::Error)]
pub enum JwksError {
    /// Not to be had.
    #[error("the keys of spec.oidc.jwksURL can't be had")]
    Fetch(#[source] RegistryError),
    /// Not what it should be.
    #[error("what is at spec.oidc.jwksURL can't be used")]
    Content(#[source] KeySetError),
    /// A fetch failed a moment ago.
    #[error("the issuer's keys could not be fetched a moment ago")]
    Pausing,
}

/// Keys by their URL. Cheap to clone; clones share them.
#[derive(Clone, Debug)]
pub struct Jwks {
    client: Registries,
    issuers: Arc<Mutex<HashMap<String, Arc<Issuer>>>>,
}

#[derive(Debug, Default)]
struct Issuer {
    known: Mutex<Known>,
    /// One fetch at a time; the others wait for what it brings.
    fetching: tokio::sync::Mutex<()>,
}

#[derive(Clone, Debug, Default)]
struct Known {
    keys: Option<Arc<KeySet>>,
    fresh_until: Option<Instant>,
    /// When it was last tried, and whether that failed.
    tried: Option<(Instant, bool)>,
}

impl Jwks {
    /// None yet. Asked for by `client`, within its rules of addresses.
    #[must_use]
    pub fn new(client: Registries) -> Self {
        Self { client, issuers: Arc::default() }
    }

    /// Keys to verify a token with that says to be signed by `kid`. That key may be missing in them: then the issuer doesn't
    /// have it.
    ///
    /// # Errors
    /// When that can't be told now.
    pub async fn keys(&self, url: &str, kid: &str) -> Result<Arc<KeySet>, JwksError> {
        let issuer = self.issuer(url);
        if let Some(known) = issuer.known.lock().answer(kid, Instant::now()) {
            return known;
        }
        let _fetching = issuer.fetching.lock().await;
        // Somebody else may have fetched them meanwhile.
        if let Some(known) = issuer.known.lock().answer(kid, Instant::now()) {
            return known;
        }
        let fetched = self.fetch(url).await;
        let now = Instant::now();
        let mut known = issuer.known.lock();
        known.tried = Some((now, fetched.is_err()));
        let (keys, age) = fetched.inspect_err(|error| {
            tracing::warn!(error = error as &dyn std::error::Error, "the keys of a token's issuer can't be had");
        })?;
        let keys = Arc::new(keys);
        (known.keys, known.fresh_until) = (Some(Arc::clone(&keys)), Some(now + age));
        Ok(keys)
    }

    fn issuer(&self, url: &str) -> Arc<Issuer> {
        let mut issuers = self.issuers.lock();
        if let Some(issuer) = issuers.get(url) {
            return Arc::clone(issuer);
        }
        if issuers.len() >= MAX_ISSUERS {
            let tried = |issuer: &Issuer| issuer.known.lock().tried.map(|(at, _)| at);
            if let Some(oldest) = issuers.iter().min_by_key(|(_, issuer)| tried(issuer)).map(|(url, _)| url.clone()) {
                issuers.remove(&oldest);
            }
        }
        Arc::clone(issuers.entry(url.to_owned()).or_default())
    }

    async fn fetch(&self, url: &str) -> Result<(KeySet, Duration), JwksError> {
        let document = self.client.document(url, MAX_KEY_SET, FETCH_TIMEOUT).await.map_err(JwksError::Fetch)?;
        let age = age(document.cache_control.as_deref().unwrap_or_default());
        Ok((KeySet::parse(&document.body).map_err(JwksError::Content)?, age))
    }
}

impl Known {
    /// The answer without a fetch; `None` when one is due.
    fn answer(&self, kid: &str, now: Instant) -> Option<Result<Arc<KeySet>, JwksError>> {
        let since = |(at, failed): (Instant, bool)| (now.saturating_duration_since(at), failed);
        let fresh = self.keys.as_ref().filter(|_| self.fresh_until.is_some_and(|until| now < until));
        match (fresh, self.tried.map(since)) {
            (Some(keys), _) if keys.has(kid) => Some(Ok(Arc::clone(keys))),
            // It may be new, and whoever knows doesn't answer.
            (Some(_), Some((since, true))) if since < UNKNOWN_KEY_PAUSE => Some(Err(JwksError::Pausing)),
            (Some(keys), Some((since, false))) if since < UNKNOWN_KEY_PAUSE => Some(Ok(Arc::clone(keys))),
            (None, Some((since, true))) if since < FAILURE_PAUSE => Some(Err(JwksError::Pausing)),
            (Some(_) | None, Some(_) | None) => None,
        }
    }
}

/// How long keys are good for, by `Cache-Control`.
fn age(cache_control: &str) -> Duration {
    let directives = cache_control.split(',').filter_map(|directive| directive.trim().split_once('='));
    let mut ages = directives.filter(|(name, _)| name.eq_ignore_ascii_case("max-age"));
    let age = ages.next().and_then(|(_, seconds)| seconds.trim_matches('"').parse().ok());
    age.map_or(DEFAULT_AGE, Duration::from_secs).clamp(MIN_AGE, MAX_AGE)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys() -> Arc<KeySet> {
        let text = include_str!("../../tests/data/oidc/jwks.json");
        Arc::new(KeySet::parse(text.as_bytes()).expect("keys"))
    }

    #[test]
    fn ages() {
        for (header, seconds) in [
            ("", 3600),
            ("public, max-age=20000, must-revalidate", 20_000),
            ("Max-Age=\"7200\"", 7200),
            ("max-age=1", 300),
            ("no-store", 3600),
            ("max-age=99999999999", 86_400),
            ("max-age=soon", 3600),
        ] {
            assert_eq!(age(header).as_secs(), seconds, "{header}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn when_to_ask() {
        let start = Instant::now();
        let later = |seconds| start + Duration::from_secs(seconds);
        let known = |failed, keys: Option<Arc<KeySet>>| Known {
            fresh_until: keys.as_ref().map(|_| later(300)),
            keys,
            tried: Some((start, failed)),
        };
        let told = |known: &Known, kid, seconds| match known.answer(kid, later(seconds)) {
            None => "ask",
            Some(Ok(keys)) if keys.has(kid) => "has",
            Some(Ok(_)) => "has not",
            Some(Err(_)) => "can't tell",
        };
        assert!(Known::default().answer("one", start).is_none());
        for (known, kid, seconds, expected) in [
            (known(false, Some(keys())), "one", 299, "has"),
            (known(false, Some(keys())), "one", 300, "ask"),
            (known(false, Some(keys())), "two", 59, "has not"),
            (known(false, Some(keys())), "two", 60, "ask"),
            (known(true, Some(keys())), "one", 1, "has"),
            (known(true, Some(keys())), "two", 1, "can't tell"),
            (known(true, Some(keys())), "one", 300, "ask"),
            (known(true, None), "one", 4, "can't tell"),
            (known(true, None), "one", 5, "ask"),
        ] {
            assert_eq!(told(&known, kid, seconds), expected, "{kid} after {seconds} s");
        }
    }
}
