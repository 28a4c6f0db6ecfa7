//! `ImageUpdatePolicy`: which pushed images go to which devices, how fast, and what stops them.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, LabelSelector, Time};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::core::Duration;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::check::HealthCheck;
use super::schema;
use super::webhook::SecretRef;

/// How images that match a pattern are rolled out to the devices of a selector.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "tranche.dev",
    version = "v1alpha1",
    kind = "ImageUpdatePolicy",
    plural = "imageupdatepolicies",
    namespaced,
    status = "ImageUpdatePolicyStatus",
    derive = "PartialEq",
    shortname = "iup",
    category = "tranche",
    doc = "Rolls pushed images that match a pattern out to a set of devices, batch by batch.",
    printcolumn(name = "Pattern", type_ = "string", json_path = ".spec.image.pattern"),
    printcolumn(name = "Strategy", type_ = "string", json_path = ".spec.strategy.type"),
    printcolumn(name = "Latest", type_ = "string", json_path = ".status.latest.image"),
    printcolumn(name = "Active", type_ = "string", json_path = ".status.activeRollout"),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].status"),
    printcolumn(name = "Suspended", type_ = "boolean", json_path = ".spec.suspend"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    validation = kube::core::Rule::new("self.metadata.name.size() <= 48")
        .message("metadata.name may have at most 48 characters: the names of its rollouts are made from it"),
)]
#[serde(rename_all = "camelCase")]
pub struct ImageUpdatePolicySpec {
    /// No new rollout starts while true. A rollout that runs goes on: pause or cancel it instead.
    #[serde(default)]
    pub suspend: bool,
    /// Which images.
    pub image: ImageRule,
    /// Which pushed tags may roll out; absent: every tag that the pattern matches.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tags: Option<TagRule>,
    /// Which devices.
    pub devices: DeviceClaim,
    /// How fast.
    #[serde(default)]
    pub strategy: Strategy,
    /// How a device's health is judged. Empty: it runs the image and its containers are reported running.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = kube::core::ListMerge::Map(vec!["name".into()]))]
    #[schemars(length(max = 10))]
    pub health_checks: Vec<HealthCheck>,
    /// What happens when devices fail.
    #[serde(default)]
    pub failure_policy: FailurePolicy,
    /// A device that has no verdict for so long after its release has failed.
    #[serde(default = "default_update_deadline")]
    #[schemars(schema_with = "schema::duration_from_1s")]
    pub update_deadline: Duration,
    /// A device unseen for longer is deferred: it blocks nothing and catches up later.
    #[serde(default = "default_offline_after")]
    #[schemars(schema_with = "schema::duration_from_1s")]
    pub offline_after: Duration,
    /// What a new image does while a rollout of the same repository runs.
    #[serde(default)]
    pub on_new_image: OnNewImage,
    /// Images that may come back although they were rolled back: with the next push, or by polling.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = kube::core::ListMerge::Map(vec!["image".into()]))]
    #[schemars(length(max = 20))]
    pub forgiven: Vec<ForgivenImage>,
    /// How many finished rollouts are kept.
    #[serde(default = "default_history_limit")]
    #[schemars(range(min = 1, max = 100))]
    pub history_limit: i32,
}

/// Which images a policy is for, and how they are named to devices.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ImageRule {
    /// Anchored glob over `name[:tag]`. `*` stands for any run of characters, `/` included; `docker.io` and `library` are implied.
    #[schemars(length(min = 1, max = 512))]
    #[x_kube(validation = schema::matches(
        "^[A-Za-z0-9*._:/@-]+$",
        "write a pattern as name:tag with * for any run of characters, such as acme/app:*",
    ))]
    pub pattern: String,
    /// How the image is named to devices.
    #[serde(default)]
    pub offer: Offer,
    /// Asks the registry for tags so often, for pushes that no webhook told of. Absent: never. Needs a pattern that names
    /// one repository, and a tag to follow: `tags.semver`, or a pattern with one tag, such as `acme/app:latest`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::duration_from_10s")]
    pub poll_interval: Option<Duration>,
    /// How the registry is reached, where it isn't open to everybody over https.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub registry: Option<RegistryAccess>,
}

/// How a registry is asked for digests and tags.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RegistryAccess {
    /// Secret of type `kubernetes.io/dockerconfigjson` in the same namespace, as for `imagePullSecrets`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pull_secret_ref: Option<SecretRef>,
    /// Secret in the same namespace whose key `ca.crt` holds the certificates that the registry's is signed by, PEM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_secret_ref: Option<SecretRef>,
    /// Asks over http instead of https. Everybody in between can then say what is rolled out.
    #[serde(default)]
    pub plain_http: bool,
}

/// How the image is named to devices.
#[derive(JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Offer {
    /// `name@sha256:…` once the digest is known, so that every batch runs the very bits that the first one proved.
    #[default]
    Digest,
    /// `name:tag`.
    Tag,
}

/// Which pushed tags may roll out. All rules that are set must agree.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TagRule {
    /// Semver range, such as `>=2.0.0 <3.0.0`. A leading `v` of a tag is ignored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128))]
    pub semver: Option<String>,
    /// Regular expression that the tag must match; its group `version`, if any, is what `semver` looks at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256))]
    pub pattern: Option<String>,
    /// Regular expressions that the tag must not match.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 20), inner(length(min = 1, max = 256)))]
    pub exclude: Vec<String>,
    /// A tag whose version is lower than that of the latest rollout rolls out, too.
    #[serde(default)]
    pub allow_downgrade: bool,
}

/// Which devices a policy claims: by label or by name, never both.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = kube::core::Rule::new("has(self.selector) != (has(self.names) && size(self.names) > 0)")
    .message("set exactly one of devices.selector and devices.names"))]
pub struct DeviceClaim {
    /// Devices by label. An empty selector is every device of the namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selector: Option<LabelSelector>,
    /// Devices by name (their UUIDs).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = kube::core::ListMerge::Set)]
    #[schemars(length(max = 1000), inner(length(min = 1, max = 63)))]
    pub names: Vec<String>,
}

/// How fast a rollout goes.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = kube::core::Rule::new("self.type != 'Scheduled' || (has(self.windows) && size(self.windows) > 0)")
        .message("strategy.type Scheduled needs at least one entry in strategy.windows"),
    validation = kube::core::Rule::new("self.type != 'Auto' || !has(self.batches) || size(self.batches) == 0")
        .message("strategy.type Auto releases to all devices at once: remove strategy.batches, or use type Staged"),
)]
pub struct Strategy {
    /// Auto: all at once. Staged: batch by batch. Manual: each batch waits for approval. Scheduled: Staged, within windows.
    #[serde(default, rename = "type")]
    pub type_: StrategyType,
    /// Cumulative batches. Absent: 10%, 50%, 100%.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 20))]
    #[x_kube(
        validation = kube::core::Rule::new("size(self) == 0 || self[size(self) - 1].size == '100%'")
            .message("the last batch must have size 100%: it is the rest of the devices"),
        validation = kube::core::Rule::new("size(self) == 0 || !has(self[size(self) - 1].selector)")
            .message("the last batch can't have a selector: it is the rest of the devices"),
        validation = schema::growing_sizes(),
    )]
    pub batches: Vec<Batch>,
    /// Soak: how long a batch is watched after its last verdict before the next one opens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::duration")]
    pub batch_delay: Option<Duration>,
    /// How many devices may be released and without verdict at once; protects the registry and the uplink. Absent: no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub max_concurrent: Option<i32>,
    /// Devices are released only while one of these is open, and none that says `deny`. Empty: always.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 20))]
    pub windows: Vec<Window>,
}

/// How batches follow each other.
#[derive(JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum StrategyType {
    /// One batch of everything.
    Auto,
    /// Batch by batch.
    #[default]
    Staged,
    /// Batch by batch, each waiting for `approvedBatches` of the rollout, which starts at 0.
    Manual,
    /// Batch by batch, within windows.
    Scheduled,
}

/// One batch: a cumulative share of the cohort.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Batch {
    /// `10%` or a number of devices, counted together with all batches before it.
    #[schemars(schema_with = "schema::int_or_string")]
    #[x_kube(validation = schema::batch_size_rule())]
    pub size: IntOrString,
    /// Only devices with these labels may be in this batch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selector: Option<LabelSelector>,
    /// Soak of this batch instead of `batchDelay`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::duration")]
    pub delay: Option<Duration>,
    /// Failures that this batch tolerates, instead of `failurePolicy.maxFailureRate`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::percent")]
    pub max_failure_rate: Option<String>,
    /// The batch waits until the rollout's `approvedBatches` counts it. Those after it without `approval` don't wait.
    #[serde(default)]
    pub approval: bool,
}

/// A weekly window of time. When `end` is not after `start`, it ends on the next day; when they are equal, a day later.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Window {
    /// Days on which it starts. Empty: every day.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 7))]
    pub days: Vec<Day>,
    /// `HH:MM`, local time of `timeZone`.
    #[schemars(schema_with = "schema::time_of_day")]
    pub start: String,
    /// `HH:MM`, local time of `timeZone`.
    #[schemars(schema_with = "schema::time_of_day")]
    pub end: String,
    /// IANA name, such as `Europe/Berlin`.
    #[serde(default = "default_time_zone")]
    #[schemars(length(min = 1, max = 64))]
    pub time_zone: String,
    /// Nothing is released while it is open, whatever other windows say: a shift, a weekend, a freeze.
    #[serde(default, skip_serializing_if = "is_false")]
    pub deny: bool,
}

/// Day of the week.
#[derive(JsonSchema, Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub enum Day {
    Mon,
    Tue,
    Wed,
    Thu,
    Fri,
    Sat,
    Sun,
}

/// What happens when devices fail.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FailurePolicy {
    /// A batch of n devices tolerates `floor(rate * n)` failures; one more halts the rollout at once.
    #[serde(default = "default_failure_rate")]
    #[schemars(schema_with = "schema::percent")]
    pub max_failure_rate: String,
    /// A batch is not stopped half way before so many of its devices, or all of them, have a verdict: with few devices one
    /// failure says little. Whether it passes in the end is of no matter to this. Absent: at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub min_sample: Option<i32>,
    /// What a halt does.
    #[serde(default)]
    pub action: FailureAction,
    /// Each failed device goes back to its own previous image, whether the rollout halts or not.
    #[serde(default = "yes")]
    pub roll_back_failed_devices: bool,
}

/// What a halt does beside stopping.
#[derive(JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum FailureAction {
    /// Nothing: the rollout waits for a person.
    #[default]
    Pause,
    /// The batch that failed goes back; earlier batches keep the image; the rollout waits for a person.
    RollBackBatch,
    /// Every device goes back and the image is remembered as rejected.
    RollBackAll,
}

/// What a new image does while a rollout of the same repository runs.
#[derive(JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum OnNewImage {
    /// It takes over at once.
    #[default]
    Replace,
    /// It waits for the running one to end.
    Queue,
    /// It is not rolled out.
    Ignore,
}

/// What the controller knows of a policy.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ImageUpdatePolicyStatus {
    /// `metadata.generation` that this status is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// The newest image that rolls or rolled out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latest: Option<LatestImage>,
    /// The rollout that runs now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub active_rollout: Option<String>,
    /// Images that were rolled back. They don't come back by themselves.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 20))]
    pub rejected: Vec<RejectedImage>,
    /// Ready, Stalled.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = kube::core::ListMerge::Map(vec!["type".into()]))]
    #[schemars(length(max = 16))]
    pub conditions: Vec<Condition>,
}

/// An image and the rollout that brings it.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LatestImage {
    /// As devices are told it.
    pub image: String,
    /// The tag that was pushed. Versions are compared by it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tag: Option<String>,
    /// Name of the `ImageRollout`.
    pub rollout: String,
}

/// An image that was rolled back.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RejectedImage {
    /// Repository, tag and, where known, digest: `docker.io/acme/app:v2@sha256:…`.
    pub image: String,
    /// Name of the `ImageRollout` that went back.
    pub rollout: String,
    /// When.
    pub time: Time,
}

/// An image that is forgiven.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ForgivenImage {
    /// As `status.rejected` has it.
    #[schemars(length(min = 1, max = 512))]
    pub image: String,
    /// Only what was rolled back before: should it go back once more, it stays back.
    #[x_kube(validation = schema::a_time())]
    pub time: Time,
}

impl ImageUpdatePolicy {
    /// The images that don't come back by themselves: those that went back, but for the forgiven.
    pub fn rejected(&self) -> impl Iterator<Item = &RejectedImage> {
        let rejected = self.status.iter().flat_map(|status| &status.rejected);
        rejected.filter(|rejected| !self.spec.forgives(&rejected.image, &rejected.time))
    }
}

impl ImageUpdatePolicySpec {
    /// Whether an image that went back at some time is forgiven.
    #[must_use]
    pub fn forgives(&self, image: &str, time: &Time) -> bool {
        self.forgiven.iter().any(|forgiven| forgiven.image == image && time.0 <= forgiven.time.0)
    }
}

fn default_update_deadline() -> Duration {
    std::time::Duration::from_secs(15 * 60).into()
}

fn default_offline_after() -> Duration {
    std::time::Duration::from_secs(10 * 60).into()
}

fn default_history_limit() -> i32 {
    10
}

fn default_time_zone() -> String {
    "UTC".into()
}

fn default_failure_rate() -> String {
    "20%".into()
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn is_false(value: &bool) -> bool {
    !value
}

fn yes() -> bool {
    true
}

impl Default for FailurePolicy {
    fn default() -> Self {
        Self {
            max_failure_rate: default_failure_rate(),
            min_sample: None,
            action: FailureAction::default(),
            roll_back_failed_devices: true,
        }
    }
}

/// The labels of an object, empty where it has none.
pub(crate) fn labels_of(meta: &k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta) -> BTreeMap<String, String> {
    meta.labels.clone().unwrap_or_default()
}
