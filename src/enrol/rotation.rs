//! A device's next key, and how long the one before it still counts.

use jiff::{SignedDuration, Timestamp};

use super::device::is_key;
use super::hash::{self, KeyHash};
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
    /// The new key is the present or the previous one.
    #[error("newKey must be a key that the device has not had")]
    NotNew,
}

/// `spec.auth` with the next key; `None` where it has it already, since the first answer may have been lost.
///
/// # Errors
/// With why it is refused.
pub fn rotated(
    auth: &DeviceAuth,
    presented: &KeyHash,
    new: &KeyHash,
    now: Timestamp,
    overlap: SignedDuration,
) -> Result<Option<DeviceAuth>, RotationRefusal> {
    if auth.revoked || auth.enrolment.as_ref().is_some_and(|enrolment| !enrolment.completed) {
        return Err(RotationRefusal::Stranger);
    }
    let is_present = is_key(auth.key_hash.as_deref(), presented);
    let counts = auth.previous_key_expires.as_ref().is_some_and(|until| now < until.0);
    let is_previous = counts && is_key(auth.previous_key_hash.as_deref(), presented);
    if !is_present && !is_previous {
        return Err(RotationRefusal::Stranger);
    }
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
        rotated(auth, &hash::of(presented), &hash::of(new), at(now), SignedDuration::from_secs(60))
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
