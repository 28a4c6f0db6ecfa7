//! `Device`: one machine that polls.
//!
//! Two writers share the spec and never touch each other's fields. People and Git own `apps`, what the device should
//! run. The controller owns `images`, an overlay that says which image each repository's services get instead; it
//! is written by server-side apply with one field manager per policy. A rollout therefore never edits what Git
//! declares, and a restore from backup brings back what every device was told.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use super::auth::{DeviceAuth, Enrolment};
use super::schema;

/// One machine that polls.
#[derive(CustomResource, KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "tranche.dev",
    version = "v1alpha1",
    kind = "Device",
    plural = "devices",
    namespaced,
    status = "DeviceStatus",
    derive = "PartialEq",
    shortname = "idev",
    category = "tranche",
    doc = "One machine that polls for the images it should run. Named by its UUID, in lower case.",
    printcolumn(name = "Fleet", type_ = "string", json_path = ".metadata.labels.tranche\\.dev/fleet"),
    printcolumn(name = "Images", type_ = "string", json_path = ".spec.images[0].image"),
    printcolumn(name = "Connected", type_ = "string", json_path = ".status.conditions[?(@.type==\"Connected\")].status"),
    printcolumn(name = "InSync", type_ = "string", json_path = ".status.conditions[?(@.type==\"InSync\")].status"),
    printcolumn(name = "LastSeen", type_ = "date", json_path = ".status.lastSeenTime"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Held", type_ = "boolean", json_path = ".spec.hold", priority = 1),
    printcolumn(name = "Failure", type_ = "string", json_path = ".status.updates[?(@.verdict==\"Failed\")].reason", priority = 1),
    printcolumn(name = "Repository", type_ = "string", json_path = ".spec.images[0].repository", priority = 1),
    printcolumn(name = "Also", type_ = "string", json_path = ".spec.images[1].repository", priority = 1),
    validation = kube::core::Rule::new("self.metadata.name.size() <= 63")
        .message("metadata.name is the device's UUID in lower case, at most 63 characters"),
)]
#[serde(rename_all = "camelCase")]
pub struct DeviceSpec {
    /// For people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub display_name: Option<String>,
    /// What the device should run, as its agent reads it: applications by id, each with services. Owned by people and Git.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "schema::apps")]
    pub apps: BTreeMap<String, serde_json::Value>,
    /// The agent's own configuration, passed through.
    #[serde(default, skip_serializing_if = "serde_json::Map::is_empty")]
    #[schemars(schema_with = "schema::opaque_object")]
    pub config: serde_json::Map<String, serde_json::Value>,
    /// Nobody moves this device.
    #[serde(default)]
    pub hold: bool,
    /// How the device proves who it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auth: Option<DeviceAuth>,
    /// Which image each repository's services get. Owned by the controller.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = kube::core::ListMerge::Map(vec!["repository".into()]))]
    #[schemars(length(max = 32))]
    pub images: Vec<ImageEntry>,
}

/// What a device is told to run for one repository.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ImageEntry {
    /// Canonical, without tag: `docker.io/acme/app`.
    #[schemars(length(min = 1, max = 255))]
    pub repository: String,
    /// The image. Absent: what `apps` declares.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    pub image: Option<String>,
    /// The image the device was last seen running well; where a rollback goes. Absent: what `apps` declares.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    pub previous: Option<String>,
    /// What `apps` declared when this was written. Once it declares something else, this entry no longer applies.
    #[schemars(length(max = 4096))]
    pub declared: String,
    /// Name of the `ImageRollout` that wrote it.
    #[schemars(length(min = 1, max = 63))]
    pub rollout: String,
    /// The device's batch in that rollout, from 1.
    #[schemars(range(min = 1, max = 20))]
    pub batch: i32,
    /// When the image was written here.
    pub release_time: Time,
    /// The rollout sent the device back: `image` is `previous`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub rolled_back: bool,
}

/// What is known of a device.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DeviceStatus {
    /// `metadata.generation` that the last report was compared with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// The device's own address, as it reports it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub address: Option<String>,
    /// Version of its agent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub agent_version: Option<String>,
    /// Target version that the last live report named. Proves a poll, nothing more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reported_version: Option<i64>,
    /// When it was seen, coarsely: written along with other changes only. The `DevicePresence` objects know better.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_seen_time: Option<Time>,
    /// Its containers as last reported. Absent: it never reported; empty: it reported none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub services: Option<Vec<ReportedService>>,
    /// Final verdicts, one a repository.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = kube::core::ListMerge::Map(vec!["repository".into()]))]
    #[schemars(length(max = 32))]
    pub updates: Vec<UpdateVerdict>,
    /// Connected, InSync.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = kube::core::ListMerge::Map(vec!["type".into()]))]
    #[schemars(length(max = 16))]
    pub conditions: Vec<Condition>,
}

/// One container as the device reported it.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ReportedService {
    /// Id of the application, as in `apps`.
    #[schemars(length(max = 64))]
    pub app: String,
    /// Id of the service within the application, as in `apps`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<i64>,
    /// Name of the service.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 253))]
    pub name: String,
    /// The image that its container was made from, as the container engine names it.
    #[schemars(length(max = 512))]
    pub image: String,
    /// The container's state in the engine's words: created, running, restarting, paused, exited, dead, removing.
    #[schemars(length(max = 32))]
    pub status: String,
    /// The beginning of the container's id. Another one from the same image is a container that was started again.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 12))]
    pub container: String,
    /// How often its container was started again since the service runs this image, as far as reports tell.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub restarts: i32,
    /// What the image's own health check says, where the agent reports it: starting, healthy, unhealthy.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 16))]
    pub health: String,
}

impl ReportedService {
    /// Whether its container runs.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.status.eq_ignore_ascii_case("running")
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn is_zero(number: &i32) -> bool {
    *number == 0
}

/// A final verdict of one rollout on this device. Healthy is derived from what the device reports and not stored.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct UpdateVerdict {
    /// Canonical repository.
    #[schemars(length(min = 1, max = 255))]
    pub repository: String,
    /// Name of the `ImageRollout`.
    #[schemars(length(max = 63))]
    pub rollout: String,
    /// The verdict.
    pub verdict: Verdict,
    /// Why, in one word.
    #[schemars(length(max = 64))]
    pub reason: String,
    /// Why, in a sentence.
    #[schemars(length(max = 512))]
    pub message: String,
    /// When.
    pub time: Time,
}

/// What was decided about a device. Anything undecided is not a verdict.
#[derive(JsonSchema, Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Verdict {
    /// It runs the image well.
    Healthy,
    /// It does not, and the time is up.
    Failed,
}
