//! Why nothing is happening, in words.
//!
//! Every "not yet" of the planner is a value of a type here and reaches status, conditions, command line and log
//! through its one `Display`. A new reason can't be added without a sentence for the person who reads it.

use std::fmt;

use jiff::Timestamp;

use super::observed::Evidence;

/// What a rollout waits for. The first that applies is the rollout's message.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)] // Each variant's sentence below is its documentation.
pub enum WaitingOn {
    PolicyMissing { policy: String },
    PolicyInvalid { policy: String, why: String },
    PolicySuspended { policy: String },
    ImageInvalid { why: String },
    ImageNotMatched { policy: String, pattern: String, image: String },
    PlanInvalid { why: String },
    OlderRollout { rollout: String },
    Queue { rollout: String },
    NotBefore { time: Timestamp },
    Registry { image: String, why: Option<(String, Timestamp)> },
    DigestMismatch { image: String, announced: String, found: String, until: Timestamp },
    NoDevices { policy: String, repository: String },
    LeftToOthers { policy: String, devices: usize, other: String },
    GatewaySilent { since: Option<Timestamp> },
    Paused,
    Halted { why: String, failures: i32 },
    Window { opens: Option<Timestamp> },
    Approval { batch: usize },
    Verdicts { batch: usize, pending: i32, devices: i32, deadline: Option<Timestamp> },
    Probe { batch: usize, devices: i32, device: String, why: String },
    Analysis { batch: usize, analysis: String, why: Option<String> },
    Capacity { batch: usize, limit: usize, unreleased: i32 },
    Soak { batch: usize, until: Timestamp },
    NobodyThere { batch: usize, devices: i32 },
    GoingBack { pending: i32, devices: i32 },
    Rewriting { devices: usize },
}

impl WaitingOn {
    /// One word for it: reason of conditions, label of metrics.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::PolicyMissing { .. } => "PolicyMissing",
            Self::PolicyInvalid { .. } => "PolicyInvalid",
            Self::PolicySuspended { .. } => "PolicySuspended",
            Self::ImageInvalid { .. } => "ImageInvalid",
            Self::ImageNotMatched { .. } => "ImageNotMatched",
            Self::PlanInvalid { .. } => "PlanInvalid",
            Self::OlderRollout { .. } => "OlderRollout",
            Self::Queue { .. } => "Queued",
            Self::NotBefore { .. } => "NotBefore",
            Self::Registry { .. } => "AwaitingRegistry",
            Self::DigestMismatch { .. } => "DigestMismatch",
            Self::NoDevices { .. } => "NoDevices",
            Self::LeftToOthers { .. } => "LeftToOthers",
            Self::GatewaySilent { .. } => "GatewaySilent",
            Self::Paused => "Paused",
            Self::Halted { .. } => "Halted",
            Self::Window { .. } => "WindowShut",
            Self::Approval { .. } => "AwaitingApproval",
            Self::Verdicts { .. } => "AwaitingVerdicts",
            Self::Probe { .. } => "HealthUnknown",
            Self::Analysis { why: None, .. } => "AwaitingAnalysis",
            Self::Analysis { why: Some(_), .. } => "AnalysisUnknown",
            Self::Capacity { .. } => "MaxConcurrent",
            Self::Soak { .. } => "Soaking",
            Self::NobodyThere { .. } => "NobodyThere",
            Self::GoingBack { .. } => "RollingBack",
            Self::Rewriting { .. } => "Rewriting",
        }
    }

    /// Whether only a person can end the waiting.
    #[must_use]
    pub fn needs_a_person(&self) -> bool {
        match self {
            Self::PolicyMissing { .. }
            | Self::PolicyInvalid { .. }
            | Self::ImageInvalid { .. }
            | Self::ImageNotMatched { .. }
            | Self::PlanInvalid { .. }
            | Self::Halted { .. }
            | Self::NobodyThere { .. } => true,
            Self::PolicySuspended { .. }
            | Self::OlderRollout { .. }
            | Self::Queue { .. }
            | Self::NotBefore { .. }
            | Self::Registry { .. }
            | Self::DigestMismatch { .. }
            | Self::NoDevices { .. }
            | Self::LeftToOthers { .. }
            | Self::GatewaySilent { .. }
            | Self::Paused
            | Self::Window { .. }
            | Self::Approval { .. }
            | Self::Verdicts { .. }
            | Self::Probe { .. }
            | Self::Analysis { .. }
            | Self::Capacity { .. }
            | Self::Soak { .. }
            | Self::GoingBack { .. }
            | Self::Rewriting { .. } => false,
        }
    }
}

impl fmt::Display for WaitingOn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PolicyMissing { policy } => write!(f, "policy {policy} does not exist in this namespace"),
            Self::PolicyInvalid { policy, why } => write!(f, "policy {policy} can't be followed: {why}"),
            Self::PolicySuspended { policy } => {
                write!(f, "policy {policy} is suspended; set its spec.suspend to false to start")
            }
            Self::ImageInvalid { why } => write!(f, "the image can't be rolled out: {why}"),
            Self::ImageNotMatched { policy, pattern, image } => {
                write!(f, "policy {policy} is for {pattern}, which does not match {image}")
            }
            Self::PlanInvalid { why } => write!(f, "status.plan can't be followed, it was edited by hand: {why}"),
            Self::OlderRollout { rollout } => write!(f, "rollout {rollout} is being superseded first"),
            Self::Queue { rollout } => write!(f, "queued behind rollout {rollout}"),
            Self::NotBefore { time } => write!(f, "nothing is released before {}", clock(*time)),
            Self::Registry { image, why: None } => write!(f, "asking the registry what {image} stands for"),
            Self::Registry { image, why: Some((why, again)) } => write!(
                f,
                "the registry does not say what {image} stands for: {why}; asked again at {}, \
                 or set spec.image.offer of the policy to Tag to go by the tag",
                clock(*again)
            ),
            Self::DigestMismatch { image, announced, found, until } => write!(
                f,
                "the push announced {image} as {announced}, and the registry has {found} for it; given up at {}",
                clock(*until)
            ),
            Self::LeftToOthers { policy, devices, other } => write!(
                f,
                "all {devices} devices that policy {policy} selects belong to more specific policies, such as {other}"
            ),
            Self::NoDevices { policy, repository } => {
                write!(f, "no device that policy {policy} selects has a service of {repository}")
            }
            Self::GatewaySilent { since: Some(since) } => {
                write!(f, "no gateway has reported which devices are there since {}", clock(*since))
            }
            Self::GatewaySilent { since: None } => {
                f.write_str("no gateway has reported yet which devices are there; is `tranche run gateway` running?")
            }
            Self::Paused => f.write_str("paused; set spec.paused to false to go on"),
            Self::Halted { why, failures } => write!(
                f,
                "halted: {why}; set spec.acknowledgedFailures to {failures} to go on, or spec.desiredState to RolledBack"
            ),
            Self::Window { opens: Some(opens) } => {
                write!(f, "outside its windows; the next one opens {}", clock(*opens))
            }
            Self::Window { opens: None } => f.write_str("outside its windows, and none of them ever opens"),
            Self::Approval { batch } => {
                write!(f, "batch {batch} waits for approval; set spec.approvedBatches to {batch}")
            }
            Self::Verdicts { batch, pending, devices, deadline } => {
                write!(f, "{pending} of {devices} devices of batch {batch} have no verdict yet")?;
                match deadline {
                    Some(deadline) => write!(f, "; the first one's deadline is {}", clock(*deadline)),
                    None => Ok(()),
                }
            }
            Self::Probe { batch, devices, device, why } => {
                write!(f, "{devices} devices of batch {batch} can't be checked, which is no verdict; {device}: {why}")
            }
            Self::Analysis { batch, analysis, why: None } => {
                write!(f, "analysis {analysis} is asked about batch {batch}")
            }
            Self::Analysis { batch, analysis: _, why: Some(why) } => {
                write!(f, "batch {batch} can't be analysed, which is no verdict; {why}")
            }
            Self::Capacity { batch, limit, unreleased } => write!(
                f,
                "{unreleased} devices of batch {batch} wait their turn: {limit} are being updated, which is maxConcurrent"
            ),
            Self::Soak { batch, until } => write!(f, "batch {batch} is being watched until {}", clock(*until)),
            Self::NobodyThere { batch, devices } => write!(
                f,
                "all {devices} devices of batch {batch} are offline, held or in conflict, so nothing is proven; \
                 set spec.approvedBatches to {} to go on without them",
                batch + 1
            ),
            Self::GoingBack { pending, devices } => {
                write!(f, "{pending} of {devices} devices are not back on their previous image yet")
            }
            Self::Rewriting { devices } => {
                write!(f, "{devices} devices are being told what they are to run once this rollout is gone")
            }
        }
    }
}

/// Why a device has no verdict Healthy.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)] // As above.
pub enum DeviceWait {
    NotStarted,
    BatchNotOpen { batch: usize },
    Stopped { phase: &'static str },
    Turn { limit: usize },
    NextPass,
    WindowShut,
    Missing,
    NeverSeen,
    Offline { since: Timestamp },
    Held,
    Excluded,
    Claimed { manager: String },
    Overridden { declared: String },
    DeclaredElsewhere,
    Updating { deadline: Option<Timestamp>, evidence: Evidence },
    Unfetched { since: Timestamp },
    Proving,
    Unproven { why: String },
    Failed { reason: String, message: String },
    FailedAndBack { reason: String, message: String },
    Back,
    GoingBack { deadline: Option<Timestamp> },
    NotBack { evidence: Evidence },
    OutOfReach { since: Timestamp },
    Healthy,
    RunsAlready,
}

impl DeviceWait {
    /// One word for it.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::NotStarted => "NotStarted",
            Self::BatchNotOpen { .. } => "BatchNotOpen",
            Self::Stopped { .. } => "RolloutStopped",
            Self::Turn { .. } => "MaxConcurrent",
            Self::NextPass => "Releasing",
            Self::WindowShut => "WindowShut",
            Self::Missing => "NotSeenYet",
            Self::NeverSeen => "NeverSeen",
            Self::Offline { .. } => "Offline",
            Self::Held => "Held",
            Self::Excluded => "Excluded",
            Self::Claimed { .. } => "Claimed",
            Self::Overridden { .. } => "Overridden",
            Self::DeclaredElsewhere => "DeclaredInApps",
            Self::Updating { .. } => "Updating",
            Self::Unfetched { .. } => "NotFetched",
            Self::Proving => "CheckingHealth",
            Self::Unproven { .. } => "HealthUnknown",
            Self::Failed { .. } => "Failed",
            Self::FailedAndBack { .. } | Self::Back => "RolledBack",
            Self::GoingBack { .. } => "RollingBack",
            Self::NotBack { .. } => "NotBack",
            Self::OutOfReach { .. } => "OutOfReach",
            Self::Healthy => "Healthy",
            Self::RunsAlready => "RunsAlready",
        }
    }
}

impl fmt::Display for DeviceWait {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotStarted => f.write_str("the rollout has not started"),
            Self::BatchNotOpen { batch } => write!(f, "batch {batch} is not open"),
            Self::Stopped { phase } => write!(f, "the rollout is {phase}"),
            Self::Turn { limit } => {
                write!(f, "waits its turn: {limit} devices are being updated, which is maxConcurrent")
            }
            Self::NextPass => f.write_str("is released in this pass"),
            Self::WindowShut => f.write_str("outside the rollout's windows"),
            Self::Missing => f.write_str("not seen since gateways are back; deferred unless it turns up soon"),
            Self::NeverSeen => f.write_str("deferred: never seen"),
            Self::Offline { since } => write!(f, "deferred: offline, last seen {}", clock(*since)),
            Self::Held => f.write_str("deferred: held (spec.hold)"),
            Self::Excluded => f.write_str("deferred: named in the rollout's spec.rollBackDevices"),
            Self::Claimed { manager } => write!(f, "in conflict: {manager} owns its entry for this repository"),
            Self::Overridden { declared } => write!(f, "in conflict: its apps now declare {declared}, which wins"),
            Self::DeclaredElsewhere => f.write_str("its apps declare this image already; nothing to release"),
            Self::Updating { deadline: Some(deadline), evidence } => {
                write!(f, "{evidence}; deadline {}", clock(*deadline))
            }
            Self::Updating { deadline: None, evidence } => {
                write!(f, "{evidence}; no deadline while the rollout is stopped")
            }
            Self::Unfetched { since } => write!(f, "deferred: released, but not seen since {}", clock(*since)),
            Self::Proving => f.write_str("runs the image; its health is being checked"),
            Self::Unproven { why } => write!(f, "runs the image, but can't be checked: {why}"),
            Self::Failed { reason, message } => write!(f, "failed ({reason}): {message}"),
            Self::FailedAndBack { reason, message } => {
                write!(f, "is back on its previous image; failed ({reason}): {message}")
            }
            Self::Back => f.write_str("is back on its previous image"),
            Self::GoingBack { deadline } => {
                f.write_str("was sent back to its previous image, not seen running it yet")?;
                deadline.map_or(Ok(()), |deadline| write!(f, "; deadline {}", clock(deadline)))
            }
            Self::NotBack { evidence } => write!(f, "is not back on its previous image: it {evidence}"),
            Self::OutOfReach { since } => {
                write!(f, "was sent back to its previous image, and was not seen since {}", clock(*since))
            }
            Self::Healthy => f.write_str("runs the image well"),
            Self::RunsAlready => f.write_str("ran the image before the rollout came to it"),
        }
    }
}

impl fmt::Display for Evidence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Running => "runs the image",
            Self::NoReport => "has never reported",
            Self::Missing => "reports no container for the service",
            Self::OtherImage => "reports another image",
            Self::NotRunning => "reports the image, but its container is not running",
            Self::Starting => "runs the image, whose own health check has not passed yet",
            Self::Unhealthy => "runs the image, whose own health check fails",
            Self::Restarts { .. } => "has the image, but its container is started again and again",
        })
    }
}

/// A time as messages show it: UTC, whole seconds.
#[must_use]
pub fn clock(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}
