//! `DevicePresence`: which devices were seen when, about a thousand to an object.
//!
//! Kept apart from `Device` so that an idle fleet costs the API server a write per shard, not one per device and poll.
//! Gateways write it, the controller reads it. The time of writing matters as much as the times in it: it says how
//! far this knowledge reaches, so that silence of the gateways is never mistaken for silence of the devices.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::core::Duration;
use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

use super::schema;

/// When the devices of one shard were last seen by any gateway.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "tranche.dev",
    version = "v1alpha1",
    kind = "DevicePresence",
    plural = "devicepresences",
    namespaced,
    derive = "PartialEq",
    doc = "When the devices of one shard were last seen. Written by the gateways; nothing for people to edit.",
    printcolumn(name = "AsOf", type_ = "date", json_path = ".spec.asOf")
)]
#[serde(rename_all = "camelCase")]
pub struct DevicePresenceSpec {
    /// What is said here is complete up to this time.
    pub as_of: Time,
    /// From when on it is: gateways have spoken since then without a longer silence. Nobody's time runs while they are
    /// silent, so deadlines count from here at the earliest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Time>,
    /// How often it is written.
    #[schemars(schema_with = "schema::duration")]
    pub interval: Duration,
    /// Device name to Unix time in seconds.
    #[schemars(length(max = 8192))]
    pub seen: BTreeMap<String, i64>,
}
