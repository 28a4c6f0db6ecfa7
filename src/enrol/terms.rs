//! What a provisioning key is good for, as its Secret says.
//!
//! The Secret holds the key's hash, never the key. People write all of it but the count, which the gateway keeps as an
//! annotation.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use subtle::ConstantTimeEq as _;

use super::hash::{self, KeyHash};
use crate::api::label;

/// `type` of the Secrets of provisioning keys. A Secret of another type is none, whatever is in it.
pub const SECRET_TYPE: &str = "tranche.dev/provisioning-key";
/// Annotation: how many devices the key has created.
pub const ENROLLED_ANNOTATION: &str = "tranche.dev/enrolled-devices";

/// Hash of the key.
pub const KEY_HASH: &str = "keyHash";
/// The fleet of its devices.
pub const FLEET: &str = "fleet";
/// Labels of its devices: a JSON object of texts.
pub const LABELS: &str = "labels";
/// `spec.apps` of its devices: a JSON object.
pub const APPS: &str = "apps";
/// `spec.config` of its devices: a JSON object.
pub const CONFIG: &str = "config";
/// Until when it is good, RFC 3339.
pub const EXPIRES: &str = "expires";
/// How many devices it may create.
pub const MAX_DEVICES: &str = "maxDevices";
/// `true`: it is good for nothing any more.
pub const REVOKED: &str = "revoked";

/// What a provisioning key is good for.
#[derive(Clone, Debug, PartialEq)]
pub struct Terms {
    /// Hash of the key.
    pub key_hash: KeyHash,
    /// The fleet of its devices.
    pub fleet: Option<String>,
    /// Further labels of its devices.
    pub labels: BTreeMap<String, String>,
    /// What its devices run at first.
    pub apps: BTreeMap<String, Value>,
    /// How their agents are set up at first.
    pub config: Map<String, Value>,
    /// Until when it is good.
    pub expires: Option<Timestamp>,
    /// How many devices it may create.
    pub max_devices: Option<u32>,
    /// It is good for nothing any more.
    pub revoked: bool,
    /// How many devices it has created.
    pub enrolled: u32,
}

/// Why a provisioning key opens nothing. For the log: whoever presents it learns none of this.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyRefusal {
    /// No Secret of that name and type.
    #[error("there is no Secret of that name and of type {SECRET_TYPE}")]
    Unknown,
    /// The Secret holds another key's hash.
    #[error("the key is not the one whose hash the Secret holds")]
    Wrong,
    /// A person revoked it.
    #[error("the key is revoked")]
    Revoked,
    /// Its time is over.
    #[error("the key has expired")]
    Expired,
    /// It has created as many devices as it may.
    #[error("the key has created as many devices as it may (maxDevices)")]
    Full,
    /// The Secret has a label that no device can have.
    #[error(
        "{0} of the Secret has what no label may be: up to 63 letters, digits, '-', '_' and '.', the first and the last of \
         them a letter or a digit"
    )]
    NoLabel(&'static str),
    /// The Secret has something that can't be read.
    #[error("{0} of the Secret can't be read")]
    Unreadable(&'static str),
}

impl Terms {
    /// What a Secret says.
    ///
    /// # Errors
    /// When it is of another type, or has something that can't be read: no half of a person's word counts.
    pub fn read(secret: &Secret) -> Result<Self, KeyRefusal> {
        if secret.type_.as_deref() != Some(SECRET_TYPE) {
            return Err(KeyRefusal::Unknown);
        }
        let field = Fields(secret);
        let fleet = field.parsed(FLEET, |text| Some(text.to_owned()))?;
        let labels: BTreeMap<String, String> = field.json(LABELS)?.unwrap_or_default();
        // Otherwise each device that registers would be refused by the API server, one after the other.
        if !fleet.as_deref().is_none_or(label::is_value) {
            return Err(KeyRefusal::NoLabel(FLEET));
        }
        if !labels.iter().all(|(key, value)| label::is_key(key) && label::is_value(value)) {
            return Err(KeyRefusal::NoLabel(LABELS));
        }
        Ok(Self {
            key_hash: field.parsed(KEY_HASH, hash::parse)?.ok_or(KeyRefusal::Unreadable(KEY_HASH))?,
            fleet,
            labels,
            apps: field.json(APPS)?.unwrap_or_default(),
            config: field.json(CONFIG)?.unwrap_or_default(),
            expires: field.parsed(EXPIRES, |text| text.parse().ok())?,
            max_devices: field.parsed(MAX_DEVICES, |text| text.parse().ok())?,
            revoked: field.parsed(REVOKED, |text| text.parse().ok())?.unwrap_or(false),
            enrolled: match secret.metadata.annotations.as_ref().and_then(|all| all.get(ENROLLED_ANNOTATION)) {
                None => 0,
                Some(text) => text.parse().map_err(|_| KeyRefusal::Unreadable(ENROLLED_ANNOTATION))?,
            },
        })
    }

    /// Whether the key that was presented is this one, and good now.
    ///
    /// # Errors
    /// With why not.
    pub fn check(&self, presented: &KeyHash, now: Timestamp) -> Result<(), KeyRefusal> {
        if !bool::from(self.key_hash.ct_eq(presented)) {
            Err(KeyRefusal::Wrong)
        } else if self.revoked {
            Err(KeyRefusal::Revoked)
        } else if self.expires.is_some_and(|until| now >= until) {
            Err(KeyRefusal::Expired)
        } else {
            Ok(())
        }
    }

    /// How many devices it will have created with one more.
    ///
    /// # Errors
    /// When it may create no more.
    pub fn one_more(&self) -> Result<u32, KeyRefusal> {
        let more = self.enrolled.checked_add(1).ok_or(KeyRefusal::Full)?;
        if self.max_devices.is_some_and(|max| more > max) { Err(KeyRefusal::Full) } else { Ok(more) }
    }
}

/// The entries of a Secret; empty ones count as absent.
struct Fields<'a>(&'a Secret);

impl Fields<'_> {
    fn parsed<T>(&self, name: &'static str, parse: impl Fn(&str) -> Option<T>) -> Result<Option<T>, KeyRefusal> {
        let Some(bytes) = self.0.data.as_ref().and_then(|data| data.get(name)) else { return Ok(None) };
        let text = std::str::from_utf8(&bytes.0).map_err(|_| KeyRefusal::Unreadable(name))?.trim();
        if text.is_empty() {
            return Ok(None);
        }
        parse(text).map(Some).ok_or(KeyRefusal::Unreadable(name))
    }

    fn json<T: DeserializeOwned>(&self, name: &'static str) -> Result<Option<T>, KeyRefusal> {
        self.parsed(name, |text| serde_json::from_str(text).ok())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn secret(entries: &[(&str, &str)]) -> Secret {
        let hash = hash::written(&hash::of("k"));
        let mut data = json!({ KEY_HASH: hash });
        for (name, value) in entries {
            data[*name] = json!(value);
        }
        let data = data.as_object().expect("an object").iter().map(|(name, value)| {
            (name.clone(), k8s_openapi::ByteString(value.as_str().unwrap_or_default().as_bytes().to_vec()))
        });
        Secret { type_: Some(SECRET_TYPE.into()), data: Some(data.collect()), ..Secret::default() }
    }

    fn at(text: &str) -> Timestamp {
        text.parse().expect("a time")
    }

    #[test]
    fn all_that_a_secret_may_say() {
        let mut secret = secret(&[
            (FLEET, "plant-a\n"),
            (LABELS, r#"{"region": "eu"}"#),
            (APPS, r#"{"1": {"services": []}}"#),
            (CONFIG, r#"{"a": 1}"#),
            (EXPIRES, "2026-12-01T00:00:00Z"),
            (MAX_DEVICES, "3"),
        ]);
        secret.metadata.annotations = Some([(ENROLLED_ANNOTATION.to_owned(), "2".to_owned())].into());
        let terms = Terms::read(&secret).expect("terms");
        assert_eq!(terms.fleet.as_deref(), Some("plant-a"));
        assert_eq!(terms.labels["region"], "eu");
        assert_eq!((terms.apps.len(), terms.config.len()), (1, 1));
        assert_eq!(terms.check(&hash::of("k"), at("2026-11-30T23:59:59Z")), Ok(()));
        assert_eq!(terms.check(&hash::of("k"), at("2026-12-01T00:00:00Z")), Err(KeyRefusal::Expired));
        assert_eq!(terms.check(&hash::of("j"), at("2026-11-30T23:59:59Z")), Err(KeyRefusal::Wrong));
        assert_eq!(terms.one_more(), Ok(3));
        assert_eq!(Terms { enrolled: 3, ..terms.clone() }.one_more(), Err(KeyRefusal::Full));
        assert_eq!(Terms { enrolled: u32::MAX, max_devices: None, ..terms }.one_more(), Err(KeyRefusal::Full));
    }

    #[test]
    fn no_half_of_a_persons_word_counts() {
        let now = at("2026-12-01T00:00:00Z");
        for (name, value) in [
            (KEY_HASH, ""),
            (KEY_HASH, "k"),
            (LABELS, "a=b"),
            (LABELS, r#"{"a": 1}"#),
            (APPS, "[]"),
            (CONFIG, "x"),
            (EXPIRES, "30d"),
            (MAX_DEVICES, "-1"),
            (MAX_DEVICES, "many"),
            (REVOKED, "yes"),
        ] {
            assert_eq!(Terms::read(&secret(&[(name, value)])), Err(KeyRefusal::Unreadable(name)), "{value}");
        }
        for (name, value) in [
            (FLEET, "Plant A"),
            (LABELS, r#"{"a": "eu west"}"#),
            (LABELS, r#"{"a b": "eu"}"#),
            (LABELS, r#"{"": "eu"}"#),
        ] {
            assert_eq!(Terms::read(&secret(&[(name, value)])), Err(KeyRefusal::NoLabel(name)), "{value}");
        }
        let revoked = Terms::read(&secret(&[(REVOKED, "true")])).expect("terms");
        assert_eq!(revoked.check(&hash::of("k"), now), Err(KeyRefusal::Revoked));
        let other = Secret { type_: Some("Opaque".into()), ..secret(&[]) };
        assert_eq!(Terms::read(&other), Err(KeyRefusal::Unknown));
    }
}
