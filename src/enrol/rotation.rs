//! A device's next key, and how long the one before it still counts.
//!
//! The present key, which was sent in the clear, is not enough for a device that registered a public key: it signs
//!
//! ```text
//! {uuid}:{hash of the present key}:{hash of the next key}
//! ```
//!
//! with its UUID in lower case and each hash as `sha256:` and 64 lower-case hexadecimal digits (`keyHash`); the signature is
//! sent in base64, as in the key exchange. The present key is part of it so that nobody who has heard a rotation can repeat
//! it later on, and bring a key back that was given up.

use jiff::{SignedDuration, Timestamp};

use super::device::is_key;
use super::hash::{self, KeyHash};
use super::proof::PublicKey;
use crate::api::auth::DeviceAuth;
use crate::api::time::whole_seconds;

/// How long the previous key counts, by default: longer than agents stay away after errors (15 minutes at most), so that
/// one which could not store its new key in time gets another chance.
pub const OVERLAP: SignedDuration = SignedDuration::from_hours(1);

/// Why a key is not rotated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RotationRefusal {
    /// The present key isn't this device's, or no longer.
    #[error("a rotation is authenticated by the device's present key")]
    Stranger,
    /// It has registered a public key, and doesn't sign.
    #[error("the device has registered a public key, so it must sign its next key")]
    Unsigned,
    /// The signature is another's, or over something else.
    #[error("the signature is not this device's over its present and its next key")]
    BadSignature,
    /// The new key is the present or the previous one.
    #[error("newKey must be a key that the device has not had")]
    NotNew,
}

/// A device's wish for another key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rotation {
    /// The device, in lower case.
    pub uuid: String,
    /// Hash of the key that it presents.
    pub present: KeyHash,
    /// Hash of the next one.
    pub next: KeyHash,
    /// Its signature over both, in base64.
    pub signature: Option<String>,
}

impl Rotation {
    /// What is signed.
    #[must_use]
    pub fn message(&self) -> String {
        format!("{}:{}:{}", self.uuid, hash::written(&self.present), hash::written(&self.next))
    }

    /// Whether it is the device's own, as far as its public key says.
    fn is_proven(&self, public_key: Option<&str>) -> Result<(), RotationRefusal> {
        let Some(pem) = public_key else { return Ok(()) };
        let signature = self.signature.as_ref().ok_or(RotationRefusal::Unsigned)?;
        // A key that can't be read is nobody's.
        let verified = PublicKey::from_pem(pem).is_some_and(|key| key.verifies(&self.message(), signature));
        if verified { Ok(()) } else { Err(RotationRefusal::BadSignature) }
    }
}

/// `spec.auth` with the next key; `None` where it has it already, since the first answer may have been lost.
///
/// # Errors
/// With why it is refused.
pub fn rotated(
    auth: &DeviceAuth,
    rotation: &Rotation,
    now: Timestamp,
    overlap: SignedDuration,
) -> Result<Option<DeviceAuth>, RotationRefusal> {
    let Rotation { uuid: _, present: presented, next: new, signature: _ } = rotation;
    if auth.revoked || auth.enrolment.as_ref().is_some_and(|enrolment| !enrolment.completed) {
        return Err(RotationRefusal::Stranger);
    }
    let is_present = is_key(auth.key_hash.as_deref(), presented);
    let counts = auth.previous_key_expires.as_ref().is_some_and(|until| now < until.0);
    let is_previous = counts && is_key(auth.previous_key_hash.as_deref(), presented);
    if !is_present && !is_previous {
        return Err(RotationRefusal::Stranger);
    }
    rotation.is_proven(auth.public_key.as_deref())?;
    if is_previous && is_key(auth.key_hash.as_deref(), new) {
        return Ok(None);
    }
    if !is_present {
        // Whoever has got hold of an old key must not lock the device out.
        return Err(RotationRefusal::Stranger);
    }
    if new == presented || is_key(auth.previous_key_hash.as_deref(), new) {
        return Err(RotationRefusal::NotNew);
    }
    Ok(Some(with_next(auth, new, now, overlap)))
}

/// `auth` with another key; the present one counts until the overlap is over.
#[must_use]
pub fn with_next(auth: &DeviceAuth, new: &KeyHash, now: Timestamp, overlap: SignedDuration) -> DeviceAuth {
    let until = whole_seconds(now.checked_add(overlap).unwrap_or(now));
    DeviceAuth {
        previous_key_expires: auth.key_hash.is_some().then_some(until),
        previous_key_hash: auth.key_hash.clone(),
        key_hash: Some(hash::written(new)),
        ..auth.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).expect("a time")
    }

    fn rotate(auth: &DeviceAuth, presented: &str, new: &str, now: i64) -> Result<Option<DeviceAuth>, RotationRefusal> {
        rotated(auth, &wish(presented, new, None), at(now), SignedDuration::from_secs(60))
    }

    fn wish(present: &str, next: &str, signature: Option<String>) -> Rotation {
        let (present, next) = (hash::of(present), hash::of(next));
        Rotation { uuid: "7f0c".into(), present, next, signature }
    }

    #[test]
    fn who_has_a_public_key_signs_both_keys() {
        use base64::Engine as _;
        use base64::engine::general_purpose::STANDARD;
        use ring::signature::{Ed25519KeyPair, KeyPair as _};
        let pair = Ed25519KeyPair::from_seed_unchecked(&[7; 32]).expect("a key");
        let sign = |message: &str| Some(STANDARD.encode(pair.sign(message.as_bytes())));
        let auth = DeviceAuth {
            key_hash: Some(hash::written(&hash::of("a"))),
            public_key: Some(PublicKey::Ed25519(pair.public_key().as_ref().to_vec()).to_pem()),
            ..DeviceAuth::default()
        };
        let rotate = |auth: &DeviceAuth, wish: &Rotation| rotated(auth, wish, at(1), SignedDuration::from_secs(60));
        let unsigned = wish("a", "b", None);
        assert_eq!(
            unsigned.message(),
            format!("7f0c:{}:{}", hash::written(&hash::of("a")), hash::written(&hash::of("b")))
        );
        assert_eq!(rotate(&auth, &unsigned), Err(RotationRefusal::Unsigned));
        let others = wish("c", "b", None).message();
        let bare = format!("7f0c:{}", hash::written(&hash::of("b")));
        for signature in [sign(&others), sign(&bare), sign(""), Some("AAAA".into()), Some(String::new())] {
            assert_eq!(rotate(&auth, &wish("a", "b", signature)), Err(RotationRefusal::BadSignature));
        }
        let signed = wish("a", "b", sign(&unsigned.message()));
        let next = rotate(&auth, &signed).expect("rotated").expect("changed");
        assert_eq!(rotate(&next, &signed), Ok(None), "the answer was lost");
        assert_eq!(rotate(&next, &unsigned), Err(RotationRefusal::Unsigned), "nor does a lost answer need less");
        // Two keys later, what was heard then is worth nothing.
        let third = with_next(&with_next(&next, &hash::of("c"), at(1), OVERLAP), &hash::of("d"), at(1), OVERLAP);
        assert_eq!(rotate(&third, &wish("d", "b", signed.signature)), Err(RotationRefusal::BadSignature));
        let unreadable = DeviceAuth { public_key: Some("?".into()), ..auth };
        assert_eq!(rotate(&unreadable, &wish("a", "b", sign(&unsigned.message()))), Err(RotationRefusal::BadSignature));
        // Strangers learn nothing of it.
        assert_eq!(rotate(&unreadable, &wish("x", "b", None)), Err(RotationRefusal::Stranger));
    }

    #[test]
    fn the_present_key_becomes_the_previous_one() {
        let first = DeviceAuth { key_hash: Some(hash::written(&hash::of("a"))), ..DeviceAuth::default() };
        let second = rotate(&first, "a", "b", 0).expect("rotated").expect("changed");
        assert_eq!(second.key_hash, Some(hash::written(&hash::of("b"))));
        assert_eq!(second.previous_key_hash, first.key_hash);
        assert_eq!(second.previous_key_expires, Some(whole_seconds(at(60))));

        assert_eq!(rotate(&second, "a", "b", 59), Ok(None), "the answer was lost");
        assert_eq!(rotate(&second, "a", "b", 60), Err(RotationRefusal::Stranger), "too late for it");
        assert_eq!(rotate(&second, "a", "c", 1), Err(RotationRefusal::Stranger), "an old key rotates nothing");
        assert_eq!(rotate(&second, "b", "b", 1), Err(RotationRefusal::NotNew));
        assert_eq!(rotate(&second, "b", "a", 1), Err(RotationRefusal::NotNew));
        assert_eq!(rotate(&second, "x", "b", 1), Err(RotationRefusal::Stranger));
        let third = rotate(&second, "b", "c", 1).expect("rotated").expect("changed");
        assert_eq!(third.previous_key_hash, second.key_hash, "only one is kept");
        let revoked = DeviceAuth { revoked: true, ..third };
        assert_eq!(rotate(&revoked, "c", "d", 1), Err(RotationRefusal::Stranger));
    }
}
