//! `ImageRollout`: one image on its way to the devices of one policy.
//!
//! Every verb that a person has is a field of the spec: pause, approve, acknowledge, cancel, roll back (all of it or
//! single devices). The status is the controller's, derived anew from spec and devices in every pass.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, LabelSelector, MicroTime, Time};
use kube::core::Duration;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::check::HealthCheck;
use super::policy::{DeviceClaim, FailurePolicy, Offer, StrategyType, Window};
use super::schema;

/// One image on its way to the devices of one policy.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "tranche.dev",
    version = "v1alpha1",
    kind = "ImageRollout",
    plural = "imagerollouts",
    namespaced,
    status = "ImageRolloutStatus",
    derive = "PartialEq",
    shortname = "iro",
    category = "tranche",
    doc = "One image on its way to the devices of one ImageUpdatePolicy, batch by batch.",
    printcolumn(name = "Image", type_ = "string", json_path = ".status.image"),
    printcolumn(name = "Phase", type_ = "string", json_path = ".status.phase"),
    printcolumn(name = "Batch", type_ = "string", json_path = ".status.progress"),
    printcolumn(name = "Updated", type_ = "integer", json_path = ".status.totals.updated"),
    printcolumn(name = "Healthy", type_ = "integer", json_path = ".status.totals.healthy"),
    printcolumn(name = "Failed", type_ = "integer", json_path = ".status.totals.failed"),
    printcolumn(name = "Message", type_ = "string", json_path = ".status.message", priority = 1),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Created", type_ = "string", json_path = ".metadata.creationTimestamp", priority = 1),
    printcolumn(name = "Revision", type_ = "string", json_path = ".metadata.resourceVersion", priority = 1),
    selectable = ".spec.policyRef.name",
    validation = kube::core::Rule::new("self.metadata.name.size() <= 63")
        .message("metadata.name may have at most 63 characters: labels and device entries carry it"),
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = kube::core::Rule::new("self.policyRef == oldSelf.policyRef")
        .message("policyRef is immutable: create a new ImageRollout for another policy"),
    validation = kube::core::Rule::new("self.image == oldSelf.image")
        .message("image is immutable: create a new ImageRollout for another image"),
    validation = kube::core::Rule::new("oldSelf.desiredState != 'RolledBack' || self.desiredState == 'RolledBack'")
        .message("a rollback can't be taken back: create a new ImageRollout to roll the image out again"),
    validation = kube::core::Rule::new("oldSelf.desiredState != 'Cancelled' || self.desiredState != 'Active'")
        .message("a cancelled rollout can't be resumed: create a new ImageRollout to roll the image out again"),
)]
pub struct ImageRolloutSpec {
    /// The policy it follows, in the same namespace. Immutable.
    pub policy_ref: PolicyRef,
    /// What is rolled out. Immutable.
    pub image: ImageSpec,
    /// What made it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trigger: Option<Trigger>,
    /// A person's stop. No device moves forward while true; those that run the image keep it.
    #[serde(default)]
    pub paused: bool,
    /// Nothing is released earlier.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = schema::a_time())]
    pub not_before: Option<Time>,
    /// How many batches may open. Absent: all but those with `approval`, or none when the policy's strategy is Manual.
    /// The number of a batch with `approval` lets those after it open as well that have none. One more than the open
    /// batch also lets that pass when none of its devices is there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 21))]
    pub approved_batches: Option<i32>,
    /// "I have seen these failures": a halted rollout resumes once this is at least the number that halted it.
    #[serde(default)]
    #[schemars(range(min = 0, max = 10_000_000))]
    pub acknowledged_failures: i32,
    /// Devices that go back to their own previous image, whatever the rollout does. At most 1000.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = kube::core::ListMerge::Set)]
    #[schemars(length(max = 1000), inner(length(min = 1, max = 63)))]
    pub roll_back_devices: Vec<String>,
    /// Active, Cancelled (stop for good, keep what runs) or RolledBack (everything back to its own previous image).
    #[serde(default)]
    pub desired_state: DesiredState,
}

/// The policy that a rollout follows.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PolicyRef {
    /// Name of an `ImageUpdatePolicy` in the same namespace.
    #[schemars(length(min = 1, max = 48))]
    pub name: String,
}

/// What is rolled out.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = kube::core::Rule::new("has(self.tag) || has(self.digest)")
    .message("image needs a tag, a digest, or both"))]
pub struct ImageSpec {
    /// Registry host and path, without tag: `docker.io/acme/app`, `registry.local:5000/app`.
    #[schemars(length(min = 1, max = 255))]
    #[x_kube(validation = schema::matches(
        r"^[a-zA-Z0-9]([a-zA-Z0-9._-]*(:[0-9]+)?)(/[a-z0-9]+([._-]+[a-z0-9]+)*)*$",
        "write a repository without tag or digest, such as docker.io/acme/app or registry.local:5000/app",
    ))]
    pub repository: String,
    /// Tag.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128))]
    #[x_kube(validation = schema::matches(
        "^[A-Za-z0-9_][A-Za-z0-9_.-]*$",
        "a tag has letters, digits, _ . and -, and starts with none of the last two; such as v2.0.1",
    ))]
    pub tag: Option<String>,
    /// `sha256:` and 64 hexadecimal digits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 71))]
    #[x_kube(validation = schema::matches("^sha256:[0-9a-f]{64}$", "a digest is sha256: and 64 hexadecimal digits in lower case"))]
    pub digest: Option<String>,
}

/// What made a rollout.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Trigger {
    /// Webhook, Poll or Manual.
    #[serde(rename = "type")]
    pub type_: TriggerType,
    /// Which receiver: the registry's dialect.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub receiver: Option<String>,
    /// The registry's own id of the delivery, where it sends one.
    #[serde(default, rename = "deliveryID", skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub delivery_id: Option<String>,
    /// Who pushed, as the registry says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub actor: Option<String>,
    /// When it came in. Tells which of two rollouts is newer when they were created within one second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = schema::a_time())]
    pub time: Option<MicroTime>,
}

/// Kind of trigger.
#[derive(JsonSchema, Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum TriggerType {
    /// A registry's push.
    Webhook,
    /// The registry, asked for its tags.
    Poll,
    /// A person.
    Manual,
}

/// What a person wants of a rollout.
#[derive(JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum DesiredState {
    /// Go on.
    #[default]
    Active,
    /// Stop for good; devices that run the image keep it.
    Cancelled,
    /// Everything back to its own previous image.
    RolledBack,
}

/// Where a rollout stands. For display; the gate and the planner look at the fields behind it.
#[derive(JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Phase {
    /// Not started; the message says what it waits for.
    #[default]
    Pending,
    /// The next batch needs a person's approval.
    AwaitingApproval,
    /// Devices are being updated.
    Progressing,
    /// The open batches are healthy and being watched.
    Soaking,
    /// A person's stop.
    Paused,
    /// It stopped itself: more failures than the budget allows.
    Halted,
    /// Devices are on their way back.
    RollingBack,
    /// Every reachable device runs the image. Terminal.
    Completed,
    /// Every device was sent back. Terminal.
    RolledBack,
    /// Stopped for good by a person. Terminal.
    Cancelled,
    /// A newer rollout took over. Terminal.
    Superseded,
    /// It can never start. Terminal.
    Failed,
}

impl Phase {
    /// Whether only a change of spec can leave this phase.
    #[must_use]
    pub fn is_terminal(self) -> bool {
        match self {
            Self::Completed | Self::RolledBack | Self::Cancelled | Self::Superseded | Self::Failed => true,
            Self::Pending
            | Self::AwaitingApproval
            | Self::Progressing
            | Self::Soaking
            | Self::Paused
            | Self::Halted
            | Self::RollingBack => false,
        }
    }

    /// The name, as it stands in YAML.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "Pending",
            Self::AwaitingApproval => "AwaitingApproval",
            Self::Progressing => "Progressing",
            Self::Soaking => "Soaking",
            Self::Paused => "Paused",
            Self::Halted => "Halted",
            Self::RollingBack => "RollingBack",
            Self::Completed => "Completed",
            Self::RolledBack => "RolledBack",
            Self::Cancelled => "Cancelled",
            Self::Superseded => "Superseded",
            Self::Failed => "Failed",
        }
    }
}

impl std::fmt::Display for Phase {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What the controller knows of a rollout.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ImageRolloutStatus {
    /// `metadata.generation` that this status is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Where it stands.
    #[serde(default)]
    pub phase: Phase,
    /// What it is waiting for, always.
    #[serde(default)]
    #[schemars(length(max = 1024))]
    pub message: String,
    /// The image as devices are told it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// What the registry said the tag stands for when the rollout started: `sha256:` and 64 hexadecimal digits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 71))]
    pub digest: Option<String>,
    /// `2/3`: the batch that is open, of how many.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress: Option<String>,
    /// The policy as resolved at the start. Later edits of the policy don't change a rollout that runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan: Option<ResolvedPlan>,
    /// How many batches are open; 0 before the first.
    #[serde(default)]
    pub current_batch: i32,
    /// Sums over the batches.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub totals: Option<Totals>,
    /// One entry a batch.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 20))]
    pub batches: Vec<BatchStatus>,
    /// Set while the rollout has stopped itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub halted: Option<Halted>,
    /// When it last went on after a stop. Deadlines count from here at the earliest: a stopped rollout offers nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resume_time: Option<Time>,
    /// When the rollback began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollback_time: Option<Time>,
    /// When a terminal phase was reached.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub completion_time: Option<Time>,
    /// The first failed devices, by name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = kube::core::ListMerge::Map(vec!["name".into()]))]
    #[schemars(length(max = 20))]
    pub failed_devices: Vec<FailedDevice>,
    /// Devices that run the image and can't be checked, for reasons that are not theirs; the first 20 by name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = kube::core::ListMerge::Map(vec!["name".into()]))]
    #[schemars(length(max = 20))]
    pub unchecked_devices: Vec<UncheckedDevice>,
    /// What happened, oldest first; the newest 100.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 100))]
    pub history: Vec<HistoryEntry>,
    /// Ready, Reconciling, Stalled, DevicesInConflict.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = kube::core::ListMerge::Map(vec!["type".into()]))]
    #[schemars(length(max = 16))]
    pub conditions: Vec<Condition>,
}

/// A policy as resolved when its rollout started.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ResolvedPlan {
    /// `metadata.generation` of the policy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy_generation: Option<i64>,
    /// When the batches were fixed.
    pub start_time: Time,
    /// How many devices there were.
    pub devices_at_start: i32,
    /// Which devices.
    pub devices: DeviceClaim,
    /// How the image is named to devices.
    pub offer: Offer,
    /// Strategy type.
    pub strategy: StrategyType,
    /// Released and without verdict at once, at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_concurrent: Option<i32>,
    /// When devices may be released.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 20))]
    pub windows: Vec<Window>,
    /// How a device's health is judged.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 10))]
    pub health_checks: Vec<HealthCheck>,
    /// What happens when devices fail.
    pub failure_policy: FailurePolicy,
    /// Release to verdict, at most.
    #[schemars(schema_with = "schema::duration")]
    pub update_deadline: Duration,
    /// Unseen for longer: deferred.
    #[schemars(schema_with = "schema::duration")]
    pub offline_after: Duration,
}

/// One batch of a rollout.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BatchStatus {
    /// As the policy has it.
    pub size: String,
    /// Rank of its last device at the start, 16 hexadecimal digits.
    #[schemars(length(max = 16))]
    #[x_kube(validation = schema::matches("^[0-9a-f]{16}$", "a rank is 16 hexadecimal digits in lower case"))]
    pub boundary: String,
    /// Only devices with these labels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selector: Option<LabelSelector>,
    /// Its soak.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::duration")]
    pub delay: Option<Duration>,
    /// Failures that it tolerates, if not those of the plan.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::percent")]
    pub max_failure_rate: Option<String>,
    /// Whether it waits for approval.
    #[serde(default)]
    pub approval: bool,
    /// Devices in it now.
    #[serde(default)]
    pub devices: i32,
    /// Of these, told the image by this rollout.
    #[serde(default)]
    pub released: i32,
    /// Of these, seen running it.
    #[serde(default)]
    pub updated: i32,
    /// Of these, with verdict Healthy.
    #[serde(default)]
    pub healthy: i32,
    /// Of these, with verdict Failed.
    #[serde(default)]
    pub failed: i32,
    /// Of these, sent back to their previous image.
    #[serde(default)]
    pub rolled_back: i32,
    /// Of these, offline, held or in conflict: they block nothing.
    #[serde(default)]
    pub deferred: i32,
    /// The analysis that failed, if one has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed_analysis: Option<FailedAnalysis>,
    /// Failures that a person has acknowledged: this batch only stops the rollout for more than that.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub acknowledged: i32,
    /// When it opened.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_time: Option<Time>,
    /// When its last device got its verdict.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub completion_time: Option<Time>,
}

/// An analysis of a batch that failed. It counts as one failure that no budget tolerates.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FailedAnalysis {
    /// When.
    pub time: Time,
    /// Why, beginning with the name of the analysis.
    #[schemars(length(max = 512))]
    pub message: String,
    /// A person has acknowledged it: the batch isn't analysed any more.
    #[serde(default)]
    pub acknowledged: bool,
}

/// Sums over the batches.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Totals {
    /// In the cohort now.
    pub devices: i32,
    /// Told the image.
    pub released: i32,
    /// Seen running it.
    pub updated: i32,
    /// Verdict Healthy.
    pub healthy: i32,
    /// Verdict Failed.
    pub failed: i32,
    /// Sent back.
    pub rolled_back: i32,
    /// Offline, held or in conflict.
    pub deferred: i32,
}

/// Why and when a rollout stopped itself.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Halted {
    /// When.
    pub time: Time,
    /// The batch whose budget was exceeded, from 1.
    pub batch: i32,
    /// Failures in the whole rollout; `acknowledgedFailures` of at least this resumes it.
    pub failures: i32,
}

/// A device that failed.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FailedDevice {
    /// Name of the `Device`.
    pub name: String,
    /// Why, in one word.
    pub reason: String,
    /// Why, in a sentence.
    #[schemars(length(max = 512))]
    pub message: String,
}

/// A device that can't be checked.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct UncheckedDevice {
    /// Name of the `Device`.
    pub name: String,
    /// Why, in a sentence that begins with the name of the check.
    #[schemars(length(max = 512))]
    pub message: String,
}

/// One line of a rollout's history; also published as a Kubernetes Event with the same reason.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HistoryEntry {
    /// When.
    pub time: Time,
    /// What, in one word: `BatchStarted`.
    #[serde(rename = "type")]
    pub type_: String,
    /// What, in a sentence.
    #[schemars(length(max = 512))]
    pub message: String,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn is_zero(number: &i32) -> bool {
    *number == 0
}
