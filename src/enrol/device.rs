//! The `Device` of a registration: a new one, or what becomes of the one that is there.

use jiff::{SignedDuration, Timestamp};
use kube::api::ObjectMeta;
use serde_json::{Value, json};
use subtle::ConstantTimeEq as _;

use super::hash::{self, KeyHash};
use super::proof::PublicKey;
use super::registration::Registration;
use super::terms::Terms;
use crate::api::auth::{DeviceAuth, Enrolment};
use crate::api::device::{Device, DeviceSpec};
use crate::api::time::whole_seconds;
use crate::api::{FLEET_LABEL, PROVISIONING_KEY_LABEL};

/// How long a challenge may be answered. Agents answer in milliseconds, and try for half a minute.
pub const CHALLENGE_TIME: SignedDuration = SignedDuration::from_mins(5);

/// A challenge that nobody has answered yet. `chance` is 32 random bytes in base64url.
#[must_use]
pub fn challenge(chance: String, now: Timestamp) -> Enrolment {
    let expires = now.checked_add(CHALLENGE_TIME).unwrap_or(now);
    Enrolment { challenge: chance, expires: whole_seconds(expires), completed: false }
}

/// The `Device` that a registration with a provisioning key of that name creates.
#[must_use]
pub fn created(registration: &Registration, key: &str, terms: &Terms, enrolment: Enrolment) -> Device {
    let Terms { fleet, labels, apps, config, key_hash: _, expires: _, max_devices: _, revoked: _, enrolled: _ } = terms;
    let mut labels = labels.clone();
    if let Some(fleet) = fleet {
        labels.insert(FLEET_LABEL.into(), fleet.clone());
    }
    labels.insert(PROVISIONING_KEY_LABEL.into(), key.into());
    labels.insert("app.kubernetes.io/managed-by".into(), "tranche".into());
    Device {
        metadata: ObjectMeta { name: Some(registration.uuid.clone()), labels: Some(labels), ..ObjectMeta::default() },
        spec: DeviceSpec {
            display_name: registration.name.clone(),
            apps: apps.clone(),
            config: config.clone(),
            auth: Some(taken_over(registration, enrolment)),
            ..DeviceSpec::default()
        },
        status: None,
    }
}

/// `spec.auth` of a device that this registration begins.
fn taken_over(registration: &Registration, enrolment: Enrolment) -> DeviceAuth {
    DeviceAuth {
        key_hash: Some(hash::written(&registration.key_hash)),
        public_key: registration.public_key.as_ref().map(PublicKey::to_pem),
        enrolment: Some(enrolment),
        ..DeviceAuth::default()
    }
}

/// Why a UUID that is known is not given to whoever registers with it. For the log; outwardly they are one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Taken {
    /// The device is revoked.
    #[error("the device is revoked: tranche devices keys UUID --restore")]
    Revoked,
    /// It registers with another key.
    #[error("the device has another key: tranche devices keys UUID --reenrol lets the next one take its place")]
    OtherKey,
    /// It registers with its key, and another public key.
    #[error("the device has another public key: tranche devices keys UUID --reenrol lets the next one take its place")]
    OtherPublicKey,
}

/// `spec.auth` of a device that is there, after this registration.
///
/// # Errors
/// When the UUID is another's.
pub fn readmitted(auth: &DeviceAuth, registration: &Registration, enrolment: Enrolment) -> Result<DeviceAuth, Taken> {
    if auth.revoked {
        return Err(Taken::Revoked);
    }
    if auth.reenrol {
        return Ok(taken_over(registration, enrolment));
    }
    if !is_key(auth.key_hash.as_deref(), &registration.key_hash) {
        return Err(Taken::OtherKey);
    }
    // The key alone was sent in the clear when it registered; who has only heard it has no part of the other one.
    let stored = auth.public_key.as_deref().map(PublicKey::from_pem);
    match &stored {
        None => {}
        Some(Some(key)) if registration.public_key.as_ref() == Some(key) => {}
        // One that can't be read is nobody's.
        Some(_) => return Err(Taken::OtherPublicKey),
    }
    // It repeats itself. What was completed stays so: nobody can hold a device up by telling its key again.
    let completed = auth.enrolment.as_ref().is_none_or(|before| before.completed);
    Ok(DeviceAuth {
        public_key: registration.public_key.as_ref().map(PublicKey::to_pem),
        enrolment: Some(Enrolment { completed, ..enrolment }),
        ..auth.clone()
    })
}

/// Whether a written hash is that of the key which was presented.
#[must_use]
pub fn is_key(written: Option<&str>, presented: &KeyHash) -> bool {
    written.and_then(hash::parse).is_some_and(|stored| stored.ct_eq(presented).into())
}

/// `auth` as a merge patch of `spec.auth`: what is absent in it is taken away.
#[must_use]
pub fn patch(auth: &DeviceAuth) -> Value {
    let DeviceAuth { key_hash, public_key, previous_key_hash, previous_key_expires, revoked, reenrol, enrolment } =
        auth;
    json!({
        "keyHash": key_hash,
        "publicKey": public_key,
        "previousKeyHash": previous_key_hash,
        "previousKeyExpires": previous_key_expires,
        "revoked": revoked.then_some(true),
        "reenrol": reenrol.then_some(true),
        "enrolment": enrolment.as_ref().map(|Enrolment { challenge, expires, completed }| json!({
            "challenge": challenge, "expires": expires, "completed": completed.then_some(true),
        })),
    })
}

#[cfg(test)]
mod tests;
