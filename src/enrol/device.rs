//! The `Device` of a registration: a new one, or what becomes of the one that is there.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
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

/// How far ahead the clock of a person may be who dates a release by it.
pub const RELEASE_SKEW: SignedDuration = SignedDuration::from_mins(5);

/// A challenge that nobody has answered yet. `chance` is 32 random bytes in base64url.
#[must_use]
pub fn challenge(chance: String, now: Timestamp) -> Enrolment {
    let expires = now.checked_add(CHALLENGE_TIME).unwrap_or(now);
    Enrolment { challenge: chance, expires: whole_seconds(expires), completed: false, since: Some(whole_seconds(now)) }
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
    /// It registers with another key, and the release there is doesn't count.
    #[error(
        "the release in spec.auth.reenrol is used up, or of a time to come: tranche devices keys UUID --reenrol gives another"
    )]
    UsedUp,
    /// The device is released, but not to holders of this provisioning key.
    #[error(
        "the device is released, and the provisioning key is of another fleet (or, where neither has one, another key than \
         the device came in by): use a key of its fleet, or change the device's label {FLEET_LABEL}"
    )]
    OtherFleet,
    /// It registers with its key, and another public key.
    #[error("the device has another public key: tranche devices keys UUID --reenrol lets the next one take its place")]
    OtherPublicKey,
}

/// `spec.auth` of a device that is there, after this registration with a provisioning key of that name.
///
/// # Errors
/// When the UUID is another's.
pub fn readmitted(
    device: &Device,
    registration: &Registration,
    key: &str,
    terms: &Terms,
    enrolment: Enrolment,
    now: Timestamp,
) -> Result<DeviceAuth, Taken> {
    let auth = device.spec.auth.clone().unwrap_or_default();
    if auth.revoked {
        return Err(Taken::Revoked);
    }
    match is_itself(&auth, registration) {
        // It repeats itself. What was completed stays so: nobody can hold a device up by telling its key again.
        Ok(()) => {
            let (completed, since) = match &auth.enrolment {
                None => (true, enrolment.since.clone()),
                Some(before) => (before.completed, before.since.clone()),
            };
            Ok(DeviceAuth {
                public_key: registration.public_key.as_ref().map(PublicKey::to_pem),
                enrolment: Some(Enrolment { completed, since, ..enrolment }),
                ..auth
            })
        }
        Err(why) if !is_released(&auth, now) => Err(if auth.reenrol.is_some() { Taken::UsedUp } else { why }),
        Err(_) if !is_of_fleet(device, key, terms) => Err(Taken::OtherFleet),
        Err(_) => {
            // The release stays where a person or Git wrote it, and is never later than what uses it up.
            let since = enrolment.since.clone().max(auth.reenrol.clone());
            Ok(DeviceAuth { reenrol: auth.reenrol, ..taken_over(registration, Enrolment { since, ..enrolment }) })
        }
    }
}

/// Whether who registers is the device that is on record.
fn is_itself(auth: &DeviceAuth, registration: &Registration) -> Result<(), Taken> {
    if !is_key(auth.key_hash.as_deref(), &registration.key_hash) {
        return Err(Taken::OtherKey);
    }
    // The key alone was sent in the clear when it registered; who has only heard it has no part of the other one.
    match auth.public_key.as_deref().map(PublicKey::from_pem) {
        None => Ok(()),
        Some(Some(key)) if registration.public_key.as_ref() == Some(&key) => Ok(()),
        // One that can't be read is nobody's.
        Some(_) => Err(Taken::OtherPublicKey),
    }
}

/// Whether a person's release counts: it is later than the enrolment there is, and not of a time to come.
///
/// By its time, and not by its being there: whoever declares devices in Git declares the release again and again.
#[must_use]
pub fn is_released(auth: &DeviceAuth, now: Timestamp) -> bool {
    let Some(Time(release)) = auth.reenrol else { return false };
    let latest = now.checked_add(RELEASE_SKEW).unwrap_or(now);
    let since = auth.enrolment.as_ref().and_then(|enrolment| enrolment.since.as_ref());
    // Times are stored in whole seconds.
    release <= latest && since.is_none_or(|since| release.as_second() > since.0.as_second())
}

/// A release that counts from now on, even in the second in which the device enrolled.
#[must_use]
pub fn release(auth: &DeviceAuth, now: Timestamp) -> Time {
    let since = auth.enrolment.as_ref().and_then(|enrolment| enrolment.since.as_ref());
    let next = since.and_then(|since| since.0.checked_add(SignedDuration::from_secs(1)).ok());
    whole_seconds(next.map_or(now, |next| next.max(now)))
}

/// Whether a released device may be taken by holders of that provisioning key: it is of the key's fleet. Where there is no
/// fleet to go by, it came in by this very key, or by none.
fn is_of_fleet(device: &Device, key: &str, terms: &Terms) -> bool {
    let label = |name: &str| device.metadata.labels.as_ref()?.get(name).map(String::as_str);
    let fleet = label(FLEET_LABEL);
    fleet == terms.fleet.as_deref() && (fleet.is_some() || label(PROVISIONING_KEY_LABEL).is_none_or(|name| name == key))
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
        "reenrol": reenrol,
        "enrolment": enrolment.as_ref().map(|Enrolment { challenge, expires, completed, since }| json!({
            "challenge": challenge, "expires": expires, "completed": completed.then_some(true), "since": since,
        })),
    })
}

#[cfg(test)]
mod tests;
