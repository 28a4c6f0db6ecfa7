//! A rollout as the predecessor's row shows it, with ours beside.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::words::{self, RolloutStatus};
use crate::api::ImageRollout;
use crate::api::policy::StrategyType;
use crate::api::rollout::{DesiredState, ImageSpec, Phase, PolicyRef, Totals};
use crate::manage::answer::strategy_word;
use crate::registry::familiar;

/// As much of a rollout as its row needs.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Seen {
    pub(super) metadata: Meta,
    pub(super) spec: Spec,
    #[serde(default)]
    pub(super) status: Status,
}

/// Of its metadata.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Meta {
    pub(super) name: String,
    pub(super) uid: String,
    pub(super) resource_version: String,
    pub(super) creation_timestamp: Option<Time>,
}

/// Of its spec.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Spec {
    pub(super) policy_ref: PolicyRef,
    pub(super) image: ImageSpec,
    #[serde(default)]
    paused: bool,
    #[serde(default)]
    desired_state: DesiredState,
}

/// Of its status.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Status {
    pub(super) phase: Phase,
    message: String,
    image: Option<String>,
    digest: Option<String>,
    plan: Option<Plan>,
    pub(super) current_batch: i32,
    totals: Option<Totals>,
    batches: Vec<Batch>,
    completion_time: Option<Time>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Plan {
    start_time: Time,
    strategy: StrategyType,
}

#[derive(Clone, Debug, Deserialize)]
struct Batch {
    #[serde(default)]
    size: String,
}

impl Seen {
    /// Of a whole rollout.
    pub(super) fn of(rollout: &ImageRollout) -> Option<Self> {
        serde_json::from_value(serde_json::to_value(rollout).ok()?).ok()
    }

    /// The predecessor's word.
    pub(super) fn word(&self) -> RolloutStatus {
        words::rollout(self.status.phase, self.status.current_batch > 0)
    }

    /// The image without tag, as people write it.
    pub(super) fn image_name(&self) -> &str {
        familiar(&self.spec.image.repository)
    }
}

/// Sums over the devices of a rollout.
#[derive(JsonSchema, Clone, Debug, Serialize)]
pub(super) struct Statistics {
    /// In the rollout now.
    total_devices: i32,
    /// Seen running the image.
    updated_devices: i32,
    /// Seen running it well.
    healthy_devices: i32,
    /// Failed.
    failed_devices: i32,
    /// Sent back.
    rolled_back_devices: i32,
    /// Offline, held or in conflict: they block nothing.
    deferred_devices: i32,
    /// Devices that are through, in hundredths of all that are there.
    progress_percentage: f64,
    /// Failed devices, as a share of those that were told the image.
    failure_rate: f64,
}

impl Statistics {
    /// From sums.
    pub(super) fn of(totals: Option<&Totals>) -> Self {
        let Totals { devices, released, updated, healthy, failed, rolled_back, deferred } =
            totals.cloned().unwrap_or_default();
        let share = |part: i32, whole: i32| {
            if whole <= 0 { 0.0 } else { (f64::from(part) / f64::from(whole)).clamp(0.0, 1.0) }
        };
        let hundredth = |share: f64| (share * 10_000.0).round() / 10_000.0;
        Self {
            total_devices: devices,
            updated_devices: updated,
            healthy_devices: healthy,
            failed_devices: failed,
            rolled_back_devices: rolled_back,
            deferred_devices: deferred,
            progress_percentage: (share(healthy + failed.max(rolled_back), devices - deferred) * 10_000.0).round()
                / 100.0,
            failure_rate: hundredth(share(failed, released)),
        }
    }
}

/// A rollout.
#[derive(JsonSchema, Clone, Debug, Serialize)]
pub(super) struct RolloutRow {
    /// Its name: what every path here takes.
    pub(super) rollout_id: String,
    /// Its UID, which paths take, too.
    uid: String,
    /// The image without tag: `iotistic/myapp`.
    image_name: String,
    /// Always null: each device remembers its own previous image.
    old_tag: Option<String>,
    /// The tag that is rolled out; null for an image named by digest alone.
    new_tag: Option<String>,
    /// What the tag stands for, once it is known.
    digest: Option<String>,
    /// The image as devices are told it, once that is known.
    image: Option<String>,
    /// Its policy.
    policy: String,
    /// The pattern of its policy now; null where the caller may not read policies, or it is gone.
    pub(super) image_pattern: Option<String>,
    /// `auto`, `staged`, `manual` or `scheduled`: of the rollout, once it has started.
    strategy: Option<String>,
    /// The same of its policy now.
    pub(super) policy_strategy: Option<String>,
    /// Where it stands, in the predecessor's word.
    pub(super) status: RolloutStatus,
    /// The same in ours, which says more.
    pub(super) phase: String,
    /// What it is waiting for.
    message: String,
    /// A person's stop.
    paused: bool,
    /// What a person wants of it: Active, Cancelled or RolledBack.
    desired_state: String,
    /// How many batches are open.
    current_batch: i32,
    /// How many there are; 0 until it has started.
    total_batches: usize,
    /// Their sizes, each counted together with all before it.
    batch_sizes: Vec<String>,
    #[serde(flatten)]
    statistics: Statistics,
    /// When it was made.
    created_at: Option<String>,
    /// When its batches were fixed.
    started_at: Option<String>,
    /// When it ended.
    completed_at: Option<String>,
}

impl From<&Seen> for RolloutRow {
    fn from(seen: &Seen) -> Self {
        let Seen { metadata, spec, status } = seen;
        let desired = match spec.desired_state {
            DesiredState::Active => "Active",
            DesiredState::Cancelled => "Cancelled",
            DesiredState::RolledBack => "RolledBack",
        };
        Self {
            rollout_id: metadata.name.clone(),
            uid: metadata.uid.clone(),
            image_name: seen.image_name().to_owned(),
            old_tag: None,
            new_tag: spec.image.tag.clone(),
            digest: spec.image.digest.clone().or_else(|| status.digest.clone()),
            image: status.image.clone(),
            policy: spec.policy_ref.name.clone(),
            image_pattern: None,
            strategy: status.plan.as_ref().map(|plan| strategy_word(plan.strategy).to_owned()),
            policy_strategy: None,
            status: seen.word(),
            phase: status.phase.as_str().to_owned(),
            message: status.message.clone(),
            paused: spec.paused,
            desired_state: desired.to_owned(),
            current_batch: status.current_batch,
            total_batches: status.batches.len(),
            batch_sizes: status.batches.iter().map(|batch| batch.size.clone()).collect(),
            statistics: Statistics::of(status.totals.as_ref()),
            created_at: metadata.creation_timestamp.as_ref().map(time),
            started_at: status.plan.as_ref().map(|plan| time(&plan.start_time)),
            completed_at: status.completion_time.as_ref().map(time),
        }
    }
}

/// A time as it is written everywhere here.
pub(super) fn time(time: &Time) -> String {
    time.0.to_string()
}
