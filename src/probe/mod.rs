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
//!   http, tcp, webhook ── one look at one device
//!     │  template   URLs and hosts with placeholders (pure)
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
//! | the webhook says `healthy: false` | Failed |
//! | the webhook says nothing that is understood, or nothing | Unknown |
//! | the device has no address, or none comes of the template | Unknown |
//! | nothing came back from any device of a batch | Unknown, by [`batch::reconsider`] |

pub mod batch;
pub mod engine;
mod exchange;
mod fault;
pub mod guard;
mod headers;
pub mod http;
pub mod invalid;
pub mod names;
pub mod policy;
mod queue;
pub mod schedule;
pub mod statuses;
pub mod tcp;
pub mod template;
pub mod tls;
pub mod verdict;
pub mod webhook;

#[cfg(test)]
mod socket_tests;

use std::sync::Arc;

use ipnet::IpNet;
use tokio::time::Instant;

pub use self::engine::{Added, Engine, Facts, Prober, Report, Settings};
pub use self::guard::Guard;
pub use self::headers::HeaderText;
use self::http::HttpCheck;
pub use self::invalid::InvalidCheck;
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
}

/// One check of one device.
#[derive(Debug)]
pub struct Job {
    /// The check.
    pub check: Arc<Check>,
    /// The device, and what is rolled out to it.
    pub values: Values,
    /// The rollout's name.
    pub rollout: Arc<str>,
}

/// Takes looks over the network.
#[derive(Clone, Debug)]
pub struct Network(pub Guard);

impl Prober for Network {
    type Job = Job;

    fn schedule<'a>(&self, job: &'a Job) -> &'a Schedule {
        &job.check.schedule
    }

    fn host(&self, job: &Job) -> Option<Box<str>> {
        let host = match &job.check.kind {
            Kind::Http(check) => check.host(&job.values),
            Kind::Tcp(check) => check.host(&job.values),
            Kind::Webhook(check) => check.host(&job.values),
        };
        host.ok().map(|host| host.to_string().into())
    }

    async fn look(&self, job: &Job) -> Outcome {
        let Job { check, values, rollout } = job;
        let Check { name, kind, schedule, allowed } = &**check;
        let deadline = Instant::now() + schedule.timeout();
        match kind {
            Kind::Http(http) => http.look(&self.0, values, allowed, deadline).await,
            Kind::Tcp(tcp) => tcp.look(&self.0, values, allowed, deadline).await,
            Kind::Webhook(webhook) => webhook.look(&self.0, values, name, rollout, deadline).await,
        }
    }
}
