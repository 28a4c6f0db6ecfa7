//! `spec.auth` of a `Device`: how it proves who it is, and how far its enrolment has come.
//!
//! Only hashes of keys are kept. All of it is in the spec, since people have a say in each field: to revoke, to release,
//! to write a device's key by hand. The gateway writes it too, when a device enrols or rotates its key, each time on
//! the revision that it has read.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use super::schema;

/// How a device proves who it is.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = kube::core::Rule::new("has(self.previousKeyHash) == has(self.previousKeyExpires)")
    .message("previousKeyHash and previousKeyExpires go together: the key before counts until then"))]
pub struct DeviceAuth {
    /// `sha256:` and the SHA-256 of the device's key, hexadecimal. Absent: it has no key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 71))]
    #[x_kube(validation = schema::matches(
        "^sha256:[0-9a-f]{64}$",
        "keyHash is sha256: and the SHA-256 of the key in 64 hexadecimal digits",
    ))]
    pub key_hash: Option<String>,
    /// The device's public key, PEM: Ed25519 or P-256. A device that has one completes its enrolment by a signature.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub public_key: Option<String>,
    /// The key before the last rotation, in the form of `keyHash`. It counts until `previousKeyExpires`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 71))]
    #[x_kube(validation = schema::matches(
        "^sha256:[0-9a-f]{64}$",
        "previousKeyHash is sha256: and the SHA-256 of the key in 64 hexadecimal digits",
    ))]
    pub previous_key_hash: Option<String>,
    /// Until when the previous key counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = schema::a_time())]
    pub previous_key_expires: Option<Time>,
    /// Nothing lets this device in: no key, no certificate, no enrolment.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub revoked: bool,
    /// A person's release, by its time: one device that registers after it, with this UUID and a provisioning key of this
    /// device's fleet, takes it over. That uses it up, however often it is written again; a later time is another release.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = schema::a_time())]
    pub reenrol: Option<Time>,
    /// How far the enrolment has come. Absent: the device never enrolled by itself; its key counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enrolment: Option<Enrolment>,
}

/// How far an enrolment has come.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Enrolment {
    /// What the device signs to prove that it holds the private key.
    #[schemars(length(min = 1, max = 64))]
    pub challenge: String,
    /// Until when it may.
    #[x_kube(validation = schema::a_time())]
    pub expires: Time,
    /// It did: the device's key counts.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub completed: bool,
    /// When the device took this UUID. A release (`reenrol`) up to then is used up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = schema::a_time())]
    pub since: Option<Time>,
}
