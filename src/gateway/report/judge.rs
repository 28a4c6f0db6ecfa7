//! Weighs a report against what is known of the device. Pure.
//!
//! Decides whether a report says anything new, and what is then written. Agents replay old reports without saying so,
//! and repeat themselves; a device that updates should cost one write.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::{Value, json};

use super::super::record::Record;
use super::super::shared::{Reported, containers_text, services_text, sort_services};
use super::parse::Report;
use super::restarts;
use crate::api::condition::{self, condition};
use crate::api::device::ReportedService;
use crate::api::time::whole_seconds;
use crate::api::{Condition, GROUP, ImageRef, VERSION};
use crate::plan::services::{is_of, service_id, service_image, service_name};

/// For so many seconds after a release, a device that still runs what it ran before is no news: it is on its way, and
/// will report again.
const SETTLING: i64 = 60;

/// What follows from a report.
#[derive(Clone, Debug, PartialEq)]
pub enum Judgement {
    /// It proves that the device is alive, nothing more.
    Liveness,
    /// It says what is known already.
    Unchanged,
    /// This is to be written.
    Write(Box<Write>),
}

/// A device's status as the gateway writes it: always all of its fields, since server-side apply takes away what is
/// left out.
#[derive(Clone, Debug, PartialEq)]
pub struct Write {
    services: Vec<ReportedService>,
    address: Option<Arc<str>>,
    agent_version: Option<Arc<str>>,
    version: Option<i64>,
    seen: Time,
    generation: i64,
    in_sync: Condition,
}

impl Write {
    /// The body of the server-side apply.
    #[must_use]
    pub fn body(&self, name: &str) -> Value {
        let Self { services, address, agent_version, version, seen, generation, in_sync } = self;
        let mut status = json!({
            "services": services,
            "lastSeenTime": seen,
            "observedGeneration": generation,
            "conditions": [in_sync],
        });
        if let Some(address) = address {
            status["address"] = Value::from(&**address);
        }
        if let Some(agent_version) = agent_version {
            status["agentVersion"] = Value::from(&**agent_version);
        }
        if let Some(version) = version {
            status["reportedVersion"] = Value::from(*version);
        }
        json!({"apiVersion": format!("{GROUP}/{VERSION}"), "kind": "Device", "metadata": {"name": name}, "status": status})
    }

    /// What is known of the device once this is written.
    #[must_use]
    pub fn reported(&self, intern: impl Fn(&str) -> Arc<str>) -> Reported {
        let since = self.in_sync.last_transition_time.0.as_second();
        Reported {
            services: Some(intern(&services_text(self.services.clone()))),
            containers: containers_text(self.services.clone()),
            address: self.address.clone(),
            agent_version: self.agent_version.clone(),
            version: self.version,
            in_sync: Some((self.in_sync.status == "True", intern(&self.in_sync.reason), since)),
        }
    }
}

/// Weighs a report. `known` is what was reported before, `live` whether the watches are.
#[must_use]
pub fn judge(record: &Record, known: &Reported, report: Report, live: bool, now: Timestamp) -> Judgement {
    if is_stale(record.generation, known.version, report.version) {
        return Judgement::Liveness;
    }
    let Report { services: Some(mut services), version, address, agent_version } = report else {
        return Judgement::Liveness;
    };
    restarts::count(known, &mut services);
    sort_services(&mut services);
    // What a report leaves out stays as it was: agents send these now and then only.
    let address = address.map(Into::into).or_else(|| known.address.clone());
    let agent_version = agent_version.map(Into::into).or_else(|| known.agent_version.clone());
    let sync = in_sync(&record.apps_told_given(live, &services), &services);
    let was_in_sync = known.in_sync.as_ref().map(|(status, _, _)| *status);

    let differs = known.services.as_deref() != Some(services_text(services.clone()).as_str())
        || known.containers != containers_text(services.clone())
        || address != known.address
        || agent_version != known.agent_version
        || (version.is_some() && known.version.is_none());
    let on_its_way = sync.is_err() && record.released.is_some_and(|at| now.as_second() - at < SETTLING);
    let flips = was_in_sync != Some(sync.is_ok()) && !on_its_way;
    if !differs && !flips {
        return Judgement::Unchanged;
    }
    let (reason, message) = match &sync {
        Ok(()) => ("InSync", "every service runs the image that the device is told".to_owned()),
        Err(OutOfSync { reason, message }) => (*reason, message.clone()),
    };
    let seen = whole_seconds(now);
    let mut in_sync = condition(condition::IN_SYNC, sync.is_ok(), reason, message, Some(record.generation), seen.0);
    if let Some((status, _, since)) = &known.in_sync
        && *status == sync.is_ok()
        && let Ok(since) = Timestamp::from_second(*since)
    {
        in_sync.last_transition_time = Time(since);
    }
    Judgement::Write(Box::new(Write {
        services,
        address,
        agent_version,
        version: version.or(known.version),
        seen,
        generation: record.generation,
        in_sync,
    }))
}

/// Whether a report may describe the past. A replayed one has lost its version, so one without proves nothing where
/// the agent has sent versions before; and a live one's never falls, unless the object itself was made anew.
fn is_stale(generation: i64, known: Option<i64>, version: Option<i64>) -> bool {
    match (known, version) {
        (None, _) => false,
        (Some(_), None) => true,
        (Some(known), Some(version)) => version < known && known <= generation,
    }
}

/// Why a device isn't in sync.
#[derive(Clone, Debug, PartialEq, Eq)]
struct OutOfSync {
    reason: &'static str,
    message: String,
}

/// Whether every service that a device is told runs the image that it is told.
fn in_sync(told: &BTreeMap<String, Value>, reported: &[ReportedService]) -> Result<(), OutOfSync> {
    let fails = |reason, message| Err(OutOfSync { reason, message });
    for (app, body) in told {
        for service in body.get("services").and_then(Value::as_array).into_iter().flatten() {
            let Some(image) = service_image(service) else { continue };
            let name = service_name(service);
            // A service that is told to stand still may be there or not.
            let runs = service.get("state").and_then(Value::as_str).is_none_or(|state| state == "running");
            let id = service_id(service);
            // An old container may still be there beside the new one: the better of them counts.
            let containers = || reported.iter().filter(|container| is_of(container, app, id, name));
            let right = || containers().filter(|container| same(&container.image, image));
            let label = if name.is_empty() { app } else { name };
            if right().any(ReportedService::is_running)
                || (!runs && (right().next().is_some() || containers().next().is_none()))
            {
                continue;
            }
            return match (right().next(), containers().next()) {
                (Some(container), _) => fails("ServiceNotRunning", format!("service {label} is {}", container.status)),
                (None, Some(container)) => {
                    fails("ImageDiffers", format!("service {label} has {} instead of {image}", container.image))
                }
                (None, None) => fails("ServiceMissing", format!("service {label} was not reported")),
            };
        }
    }
    Ok(())
}

/// Whether two references mean one image; texts that are no references, only where they are equal.
fn same(a: &str, b: &str) -> bool {
    match (a.parse::<ImageRef>(), b.parse::<ImageRef>()) {
        (Ok(a), Ok(b)) => a.same_image(&b),
        _ => a == b,
    }
}

#[cfg(test)]
mod tests;
