//! Health checks of devices: from here, or by a service of one's own.
//!
//! It decides what a look at a device says, when looks are taken, and what may be connected to. What follows from a result
//! is the planner's to decide; nothing is stored here. What a device reports of its containers is no matter of this module.
//!
//! ```text
//!   engine ── when: one task for thousands of checks
//!     │  queue      what is looked at next (pure)
//!     │  schedule   attempts, and what they come to (pure)
//!     ▼
//!   http, tcp, webhook ── one look at one device    analysis ── one at one batch    job ── one by a Job, for one device
//!     │  template   URLs and hosts with placeholders (pure)    promql ── queries with placeholders (pure)
//!     │  manifest   the Job that is made (pure)                ended ── what its end says (pure)
//!     │  policy, statuses, headers, invalid: what a check asks for, and what can never work (pure)
//!     ▼
//!   exchange ── one request, one answer    tls ── whom to trust
//!     ▼
//!   guard ── which addresses are connected to; the only place that connects
//!        names      names to addresses
//!        fault      what an error says about the device, and what about us (pure)
//!
//!   verdict ── Passed, Failed, Unknown (pure)    batch ── when all fail at once, it is us (pure)
//! ```
//!
//! # Failed or Unknown?
//!
//! | what happened | outcome |
//! | --- | --- |
//! | refused, reset, no answer in time, wrong status or body, not HTTP, bad certificate, redirect elsewhere | Failed |
//! | no way to the address (also EHOSTUNREACH), name not resolved, no sockets, address refused, own TLS | Unknown |
//! | the webhook says `healthy: false`; a container of the Job ends badly; a sample of the analysis is out of bounds | Failed |
//! | the webhook or Prometheus says nothing that is understood, or nothing | Unknown |
//! | the Job is not made, not run, evicted or deleted; its command can't be run | Unknown |
//! | the Job runs, and is not over in time | Failed |
//! | the device has no address, or none comes of the template | Unknown |
//! | nothing came back from any device of a batch | Unknown, by [`batch::reconsider`] |

pub mod analysis;
pub mod batch;
mod ended;
pub mod engine;
mod exchange;
mod fault;
pub mod guard;
mod headers;
pub mod http;
pub mod invalid;
pub mod job;
mod manifest;
pub mod names;
pub mod policy;
pub mod promql;
mod queue;
pub mod schedule;
pub mod statuses;
pub mod tcp;
pub mod template;
pub mod tls;
pub mod verdict;
pub mod webhook;

#[cfg(test)]
mod fixture;
#[cfg(test)]
mod socket_tests;

use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use tokio::time::Instant;

use self::analysis::AnalysisCheck;
pub use self::engine::{Added, Engine, Facts, Prober, Report, Settings};
pub use self::guard::Guard;
pub use self::headers::HeaderText;
use self::http::HttpCheck;
pub use self::invalid::InvalidCheck;
use self::job::JobCheck;
pub use self::job::Jobs;
use self::manifest::Order;
pub use self::names::Names;
pub use self::schedule::Schedule;
use self::tcp::TcpCheck;
use self::template::Values;
pub use self::verdict::{Doubt, Failure, Outcome};
use self::webhook::WebhookCheck;

/// One check of a policy, validated. Shared by all devices.
#[derive(Debug)]
pub struct Check {
    /// Its name within the policy.
    pub name: Box<str>,
    /// What it does.
    pub kind: Kind,
    /// When it looks.
    pub schedule: Schedule,
    /// `allowedCIDRs`: networks that may be reached besides the device's own address.
    pub allowed: Vec<IpNet>,
}

/// What a check does.
#[derive(Debug)]
pub enum Kind {
    /// Asks the device over HTTP.
    Http(Box<HttpCheck>),
    /// Connects to the device.
    Tcp(TcpCheck),
    /// Asks a service about the device.
    Webhook(Box<WebhookCheck>),
    /// Has a Job look at the device.
    Job(Box<JobCheck>),
    /// Asks Prometheus about a batch.
    Analysis(Box<AnalysisCheck>),
}

/// A rollout, shared by everything that is looked at for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rollout {
    /// Its name.
    pub name: Box<str>,
    /// Its UID.
    pub uid: Box<str>,
}

/// What is looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subject {
    /// A device, by every check but an analysis.
    Device {
        /// The device, and what is rolled out to it.
        values: Values,
        /// From when on evidence counts, Unix seconds: the device's release, or when it was decided to look again. By it a
        /// `job` check tells a Job that may be followed from one that is of yesterday.
        since: i64,
    },
    /// A batch, by an analysis.
    Batch(Batch),
}

/// A batch of a rollout.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// Its namespace.
    pub namespace: Arc<str>,
    /// What is rolled out.
    pub image: Arc<str>,
    /// Its tag; empty where it has none.
    pub tag: Arc<str>,
    /// From 1.
    pub number: u32,
}

/// One check of one device or batch.
#[derive(Debug)]
pub struct Job {
    /// The check.
    pub check: Arc<Check>,
    /// What it is of.
    pub subject: Subject,
    /// What it is for.
    pub rollout: Arc<Rollout>,
}

/// Takes looks over the network.
#[derive(Clone, Debug)]
pub struct Network {
    /// What may be connected to.
    pub guard: Guard,
    /// Absent: no Jobs are made, and `job` checks are Unknown.
    pub jobs: Option<Jobs>,
}

impl Prober for Network {
    type Job = Job;

    fn schedule<'a>(&self, job: &'a Job) -> &'a Schedule {
        &job.check.schedule
    }

    fn host(&self, job: &Job) -> Option<Box<str>> {
        let host = match (&job.check.kind, &job.subject) {
            (Kind::Http(check), Subject::Device { values, .. }) => check.host(values).ok()?,
            (Kind::Tcp(check), Subject::Device { values, .. }) => check.host(values).ok()?,
            (Kind::Webhook(check), Subject::Device { values, .. }) => check.host(values).ok()?,
            (Kind::Job(_), Subject::Device { values, .. }) => return Some(JobCheck::host(values).into()),
            (Kind::Analysis(check), Subject::Batch(_)) => check.host()?,
            (Kind::Analysis(_), Subject::Device { .. })
            | (Kind::Http(_) | Kind::Tcp(_) | Kind::Webhook(_) | Kind::Job(_), Subject::Batch(_)) => return None,
        };
        Some(host.to_string().into())
    }

    fn patience(&self, job: &Job) -> Duration {
        let timeout = job.check.schedule.timeout();
        match &job.check.kind {
            Kind::Http(_) | Kind::Tcp(_) | Kind::Webhook(_) | Kind::Analysis(_) => timeout,
            Kind::Job(_) => JobCheck::patience(timeout),
        }
    }

    async fn look(&self, job: &Job, attempt: u32) -> Outcome {
        let Self { guard, jobs } = self;
        let Job { check, subject, rollout } = job;
        let Check { name, kind, schedule, allowed } = &**check;
        let deadline = Instant::now() + schedule.timeout();
        match (kind, subject) {
            (Kind::Http(http), Subject::Device { values, .. }) => http.look(guard, values, allowed, deadline).await,
            (Kind::Tcp(tcp), Subject::Device { values, .. }) => tcp.look(guard, values, allowed, deadline).await,
            (Kind::Webhook(webhook), Subject::Device { values, .. }) => {
                webhook.look(guard, values, name, &rollout.name, deadline).await
            }
            (Kind::Job(check), Subject::Device { values, since }) => {
                let Some(jobs) = jobs else {
                    return Outcome::unknown(Doubt::NotJudged, "this process makes no Jobs");
                };
                let timeout = schedule.timeout();
                check.look(jobs, &Order { check: name, values, since: *since, rollout, attempt, timeout }).await
            }
            (Kind::Analysis(analysis), Subject::Batch(batch)) => analysis.look(guard, batch, rollout, deadline).await,
            (Kind::Analysis(_), Subject::Device { .. })
            | (Kind::Http(_) | Kind::Tcp(_) | Kind::Webhook(_) | Kind::Job(_), Subject::Batch(_)) => {
                Outcome::unknown(Doubt::Internal, "an analysis is of batches, and every other check of devices")
            }
        }
    }
}
