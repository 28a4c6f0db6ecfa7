//! Parse, don't re-check: what people wrote, turned once into types that can't be wrong.
//!
//! Two forms share the parsing. [`ValidatedPolicy`] is a policy that a rollout may start from. [`Rules`] is what a
//! rollout that runs goes by: the plan in its own status, resolved when it started.

use jiff::SignedDuration;
use kube::core::Duration;

use crate::api::ImageUpdatePolicy;
use crate::api::check::{ContainerCheck, HealthCheck};
use crate::api::image::ImageError;
use crate::api::policy::{
    Batch, DeviceClaim, FailureAction, ImageUpdatePolicySpec, OnNewImage, RejectedImage, StrategyType,
};
use crate::api::rollout::{BatchStatus, ResolvedPlan};
use crate::registry::pattern::Pattern;
use crate::registry::tags::TagFilter;

use super::cohort::{MAX_BATCHES, Size};
use super::selector::Labels;
use super::window::{Window, WindowError, never_open};

/// What is wrong with a policy or a rollout, for the person who wrote it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Invalid {
    /// The image of a rollout.
    #[error("spec.image: {0}")]
    Image(#[source] ImageError),
    /// The pattern of a policy.
    #[error("spec.image.pattern: {0}")]
    Pattern(String),
    /// The tag rules of a policy.
    #[error("spec.tags: {0}")]
    Tags(String),
    /// A selector.
    #[error("{at}: {why}")]
    Selector {
        /// Which.
        at: String,
        /// What is wrong.
        why: String,
    },
    /// Polling without saying for what.
    #[error("spec.image.pollInterval: polling needs a spec.image.pattern that {0}")]
    Poll(&'static str),
    /// Neither or both of selector and names.
    #[error("spec.devices: set exactly one of selector and names")]
    Claim,
    /// A batch size.
    #[error("spec.strategy.batches[{index}].size: {written:?} is not a share from 1% to 100% or a number of devices")]
    Size {
        /// From 0.
        index: usize,
        /// As written.
        written: String,
    },
    /// The order of batches.
    #[error("spec.strategy.batches: sizes are cumulative, must grow strictly and end with 100%")]
    Batches,
    /// A share.
    #[error("spec.failurePolicy.maxFailureRate: {0:?} is not a whole share from 0% to 100%")]
    Rate(String),
    /// A duration.
    #[error("{0} must not be negative")]
    Duration(&'static str),
    /// A window.
    #[error("spec.strategy.windows[{index}]: {source}")]
    Window {
        /// From 0.
        index: usize,
        /// What is wrong.
        #[source]
        source: WindowError,
    },
    /// Windows that cancel each other.
    #[error("spec.strategy.windows: they never open: those with deny cover all others")]
    NeverOpen,
    /// Scheduled without windows.
    #[error("spec.strategy: type Scheduled needs at least one window")]
    NoWindow,
    /// A check that can never work.
    #[error("spec.healthChecks[{name}]: {why}")]
    Check {
        /// Its name.
        name: String,
        /// What is wrong.
        why: String,
    },
}

/// A policy that can be followed.
#[derive(Clone, Debug)]
pub struct ValidatedPolicy {
    /// `metadata.generation`.
    pub generation: Option<i64>,
    /// As written.
    pub spec: ImageUpdatePolicySpec,
    /// Images that don't come back by themselves.
    pub rejected: Vec<RejectedImage>,
    /// Which images.
    pub pattern: Pattern,
    /// Which tags.
    pub tags: TagFilter,
    /// The batches, resolved from the strategy.
    pub batches: Vec<Batch>,
    /// Their sizes.
    pub sizes: Vec<Size>,
    /// What a rollout of it would go by.
    pub rules: Rules,
}

impl ValidatedPolicy {
    /// Parses a policy.
    ///
    /// # Errors
    /// The first thing that makes no sense.
    pub fn new(policy: &ImageUpdatePolicy) -> Result<Self, Invalid> {
        let spec = &policy.spec;
        let pattern = Pattern::parse(&spec.image.pattern).map_err(|error| Invalid::Pattern(error.to_string()))?;
        let tags = TagFilter::new(spec.tags.as_ref()).map_err(|error| Invalid::Tags(error.to_string()))?;
        let batches = resolve_batches(spec);
        let sizes =
            batches.iter().enumerate().map(|(index, batch)| size(index, batch)).collect::<Result<Vec<_>, _>>()?;
        if !growing(&sizes) {
            return Err(Invalid::Batches);
        }
        if spec.strategy.type_ == StrategyType::Scheduled && spec.strategy.windows.is_empty() {
            return Err(Invalid::NoWindow);
        }
        let plan = resolved_plan(policy.metadata.generation, spec, jiff::Timestamp::UNIX_EPOCH, 0);
        let as_status: Vec<BatchStatus> = batches.iter().map(|batch| batch_status(batch, spec, 0)).collect();
        let rules = Rules::new(&plan, &as_status)?;
        if never_open(&rules.windows) {
            return Err(Invalid::NeverOpen);
        }
        let valid = Self {
            generation: policy.metadata.generation,
            spec: spec.clone(),
            rejected: policy.rejected().cloned().collect(),
            pattern,
            tags,
            batches,
            sizes,
            rules,
        };
        valid.follow()?;
        Ok(valid)
    }

    /// What a new image does while a rollout runs.
    #[must_use]
    pub fn on_new_image(&self) -> OnNewImage {
        self.spec.on_new_image
    }

    /// The plan that a rollout keeps in its status once it starts.
    #[must_use]
    pub fn resolve(
        &self,
        start: jiff::Timestamp,
        devices: usize,
        boundaries: &[u64],
    ) -> (ResolvedPlan, Vec<BatchStatus>) {
        let spec = &self.spec;
        let plan = resolved_plan(self.generation, spec, start, devices);
        let batches =
            self.batches.iter().zip(boundaries).map(|(batch, boundary)| batch_status(batch, spec, *boundary)).collect();
        (plan, batches)
    }
}

fn resolved_plan(
    generation: Option<i64>,
    spec: &ImageUpdatePolicySpec,
    start: jiff::Timestamp,
    devices: usize,
) -> ResolvedPlan {
    ResolvedPlan {
        policy_generation: generation,
        start_time: crate::api::time::whole_seconds(start),
        devices_at_start: i32::try_from(devices).unwrap_or(i32::MAX),
        devices: spec.devices.clone(),
        offer: spec.image.offer,
        strategy: spec.strategy.type_,
        max_concurrent: spec.strategy.max_concurrent,
        windows: spec.strategy.windows.clone(),
        health_checks: spec.health_checks.clone(),
        failure_policy: spec.failure_policy.clone(),
        update_deadline: spec.update_deadline,
        offline_after: spec.offline_after,
    }
}

fn batch_status(batch: &Batch, spec: &ImageUpdatePolicySpec, boundary: u64) -> BatchStatus {
    BatchStatus {
        size: size_text(batch),
        boundary: format!("{boundary:016x}"),
        selector: batch.selector.clone(),
        delay: batch.delay.or(spec.strategy.batch_delay),
        max_failure_rate: batch.max_failure_rate.clone(),
        approval: batch.approval,
        ..BatchStatus::default()
    }
}

/// What a rollout goes by while it runs.
#[derive(Clone, Debug)]
pub struct Rules {
    /// Who is in the cohort, by label.
    pub selector: Labels,
    /// Who is in the cohort, by name; empty when `selector` decides.
    pub names: std::collections::BTreeSet<String>,
    /// Strategy.
    pub strategy: StrategyType,
    /// Selector of each batch.
    pub batch_selectors: Vec<Labels>,
    /// Soak of each batch.
    pub delays: Vec<SignedDuration>,
    /// Released and without verdict at once, at most.
    pub max_concurrent: Option<usize>,
    /// When devices may be released.
    pub windows: Vec<Window>,
    /// What must be true of containers, beside that those of the image run.
    pub containers: Vec<ContainerCheck>,
    /// The other health checks of devices, by name: what they find comes as [`super::proof::Proofs`].
    pub probes: Vec<String>,
    /// The analyses of batches, by name.
    pub analyses: Vec<String>,
    /// Failures tolerated in each batch, in hundredths.
    pub max_failure_percents: Vec<u8>,
    /// No batch is stopped half way before so many of its devices have a verdict.
    pub min_sample: i32,
    /// What a halt does.
    pub action: FailureAction,
    /// Each failed device goes back by itself.
    pub roll_back_failed: bool,
    /// Release to verdict, seconds.
    pub deadline: i64,
    /// Unseen for longer: offline. Seconds.
    pub offline_after: i64,
}

impl Rules {
    /// Parses the plan that a rollout keeps in its status.
    ///
    /// # Errors
    /// The first thing that makes no sense.
    pub fn new(plan: &ResolvedPlan, batches: &[BatchStatus]) -> Result<Self, Invalid> {
        let (selector, names) = claim(&plan.devices)?;
        if batches.is_empty() || batches.len() > MAX_BATCHES {
            return Err(Invalid::Batches);
        }
        let batch_selectors = batches
            .iter()
            .enumerate()
            .map(|(index, batch)| match &batch.selector {
                None => Ok(Labels::everything()),
                Some(selector) => Labels::parse(selector)
                    .map_err(|why| Invalid::Selector { at: format!("spec.strategy.batches[{index}].selector"), why }),
            })
            .collect::<Result<_, _>>()?;
        let windows = plan
            .windows
            .iter()
            .enumerate()
            .map(|(index, window)| Window::try_from(window).map_err(|source| Invalid::Window { index, source }))
            .collect::<Result<_, _>>()?;
        let zero: Duration = std::time::Duration::ZERO.into();
        Ok(Self {
            selector,
            names,
            strategy: plan.strategy,
            batch_selectors,
            delays: batches
                .iter()
                .map(|batch| duration("batchDelay", batch.delay.unwrap_or(zero)))
                .collect::<Result<_, _>>()?,
            max_concurrent: plan.max_concurrent.and_then(|max| usize::try_from(max).ok()),
            windows,
            containers: plan.health_checks.iter().filter_map(|check| check.container.clone()).collect(),
            probes: named(plan, |check| check.container.is_none() && check.analysis.is_none()),
            analyses: named(plan, |check| check.analysis.is_some()),
            max_failure_percents: batches
                .iter()
                .map(|batch| batch.max_failure_rate.as_ref().unwrap_or(&plan.failure_policy.max_failure_rate))
                .map(|rate| percent(rate).ok_or_else(|| Invalid::Rate(rate.clone())))
                .collect::<Result<_, _>>()?,
            min_sample: plan.failure_policy.min_sample.unwrap_or(1),
            action: plan.failure_policy.action,
            roll_back_failed: plan.failure_policy.roll_back_failed_devices,
            deadline: duration("updateDeadline", plan.update_deadline)?.as_secs().max(1),
            offline_after: duration("offlineAfter", plan.offline_after)?.as_secs().max(1),
        })
    }

    /// Failures that a batch, counted from 0, tolerates of `devices`: `floor(rate * devices)`.
    #[must_use]
    pub fn tolerated(&self, batch: usize, devices: i32) -> i32 {
        let percent = self.max_failure_percents.get(batch).copied().unwrap_or_default();
        let tolerated = i64::from(devices.max(0)) * i64::from(percent) / 100;
        i32::try_from(tolerated).unwrap_or(i32::MAX)
    }

    /// Whether the policy claims a device, apart from what it runs.
    #[must_use]
    pub fn claims(&self, name: &str, labels: &std::collections::BTreeMap<String, String>) -> bool {
        claims(&self.selector, &self.names, name, labels)
    }
}

/// Whether a claim by label, or else by name, is for a device.
pub(super) fn claims(
    selector: &Labels,
    names: &std::collections::BTreeSet<String>,
    name: &str,
    labels: &std::collections::BTreeMap<String, String>,
) -> bool {
    if names.is_empty() { selector.matches(labels) } else { names.contains(name) }
}

/// The names of some of a plan's checks.
fn named(plan: &ResolvedPlan, which: impl Fn(&HealthCheck) -> bool) -> Vec<String> {
    plan.health_checks.iter().filter(|check| which(check)).map(|check| check.name.clone()).collect()
}

pub(super) fn claim(devices: &DeviceClaim) -> Result<(Labels, std::collections::BTreeSet<String>), Invalid> {
    match (&devices.selector, devices.names.as_slice()) {
        (Some(selector), []) => Labels::parse(selector)
            .map(|labels| (labels, Default::default()))
            .map_err(|why| Invalid::Selector { at: "spec.devices.selector".into(), why }),
        (None, [_, ..]) => Ok((Labels::everything(), devices.names.iter().cloned().collect())),
        (None, []) | (Some(_), [_, ..]) => Err(Invalid::Claim),
    }
}

fn resolve_batches(spec: &ImageUpdatePolicySpec) -> Vec<Batch> {
    let share = |text: &str| Batch {
        size: k8s_openapi::apimachinery::pkg::util::intstr::IntOrString::String(text.into()),
        selector: None,
        delay: None,
        max_failure_rate: None,
        approval: false,
    };
    match (spec.strategy.type_, spec.strategy.batches.as_slice()) {
        (StrategyType::Auto, _) => vec![share("100%")],
        (StrategyType::Staged | StrategyType::Manual | StrategyType::Scheduled, []) => {
            ["10%", "50%", "100%"].map(share).to_vec()
        }
        (StrategyType::Staged | StrategyType::Manual | StrategyType::Scheduled, batches) => batches.to_vec(),
    }
}

fn size_text(batch: &Batch) -> String {
    use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
    match &batch.size {
        IntOrString::Int(count) => count.to_string(),
        IntOrString::String(text) => text.clone(),
    }
}

fn size(index: usize, batch: &Batch) -> Result<Size, Invalid> {
    let written = size_text(batch);
    let parsed = match written.strip_suffix('%') {
        Some(_) => percent(&written).filter(|percent| *percent > 0).map(Size::Percent),
        None => written.parse().ok().filter(|count| *count > 0).map(Size::Count),
    };
    parsed.ok_or(Invalid::Size { index, written })
}

fn growing(sizes: &[Size]) -> bool {
    let percents: Vec<u8> =
        sizes.iter().filter_map(|size| if let Size::Percent(percent) = size { Some(*percent) } else { None }).collect();
    let counts: Vec<u32> =
        sizes.iter().filter_map(|size| if let Size::Count(count) = size { Some(*count) } else { None }).collect();
    percents.is_sorted_by(|a, b| a < b)
        && counts.is_sorted_by(|a, b| a < b)
        && sizes.last() == Some(&Size::Percent(100))
        && sizes.len() <= MAX_BATCHES
}

fn percent(text: &str) -> Option<u8> {
    text.strip_suffix('%')?.parse().ok().filter(|percent| *percent <= 100)
}

fn duration(field: &'static str, duration: Duration) -> Result<SignedDuration, Invalid> {
    if duration.is_negative() {
        return Err(Invalid::Duration(field));
    }
    SignedDuration::try_from(std::time::Duration::from(duration)).map_err(|_| Invalid::Duration(field))
}

#[cfg(test)]
mod tests;
