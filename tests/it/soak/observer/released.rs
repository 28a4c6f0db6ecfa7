//! Lines 2, 6 and 7, and 1 as far as it is written down: every change of a device that no person made.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde_json::Value;
use tokio::time::Instant;

use super::facts::{applying, declared, entry, failed, image, is_forward, number, phase, previous, runs, short, text};
use super::past::Past;
use super::{BACK, FOREIGN, Findings, IDLE, IN_HAND, LIMIT, OFFER};
use crate::soak::drive::History;
use crate::support::apiserver::store::Revision;

/// Where a rollout lets devices move forward.
const FORWARD: [&str; 4] = ["Progressing", "Soaking", "AwaitingApproval", "Completed"];

struct Judge<'a> {
    history: &'a History,
    rollouts: Past<'a>,
    devices: BTreeMap<&'a str, Arc<Value>>,
    /// What each device was ever seen running.
    ran: BTreeMap<&'a str, BTreeSet<String>>,
    /// Devices with a verdict, by rollout: seen running its image since they were released, or failed.
    decided: BTreeSet<(&'a str, String)>,
}

/// Whether two entries differ in nothing that a device is told.
fn same_release(a: &Value, b: &Value) -> bool {
    ["rollout", "image", "previous", "declared"].into_iter().all(|field| a[field] == b[field])
}

pub fn judge(history: &History, findings: &mut Findings) {
    let mut judge = Judge {
        history,
        rollouts: Past::of(&history.log, "imagerollouts"),
        devices: BTreeMap::new(),
        ran: BTreeMap::new(),
        decided: BTreeSet::new(),
    };
    for revision in history.log.iter().filter(|revision| revision.key.0 == "devices") {
        let name = revision.key.2.as_str();
        if revision.type_ == "DELETED" {
            judge.devices.remove(name);
            continue;
        }
        let before = judge.devices.insert(name, revision.object.clone());
        if revision.by != "person"
            && let Some(before) = before
        {
            judge.written(revision, &before, findings);
        }
        judge.note(name, &revision.object);
    }
}

impl<'a> Judge<'a> {
    fn note(&mut self, name: &'a str, device: &Value) {
        for service in device.pointer("/status/services").and_then(Value::as_array).into_iter().flatten() {
            if service["status"] == "running" {
                let image = short(service["image"].as_str().unwrap_or_default()).to_owned();
                self.ran.entry(name).or_default().insert(image);
            }
        }
        if let Some(entry) = entry(device) {
            let rollout = text(entry, "/rollout");
            if runs(device, &image(device, entry)) || failed(device, rollout) {
                self.decided.insert((name, rollout.to_owned()));
            }
        }
    }

    fn written(&mut self, revision: &'a Revision, before: &Value, findings: &mut Findings) {
        let (name, after, at) = (revision.key.2.as_str(), &*revision.object, revision.at);
        for field in ["apps", "hold", "auth", "config", "displayName"] {
            let same = before["spec"][field] == after["spec"][field];
            findings.demand(same, at, FOREIGN, || format!("{} changed {field} of {name}", revision.by));
        }
        let (old, new) = (entry(before), entry(after));
        if old == new {
            return;
        }
        let Some(new) = new else {
            findings.broken(at, FOREIGN, format!("{} took the entry of {name} away", revision.by));
            return;
        };
        if is_forward(after, new) {
            let again = old.is_some_and(|old| is_forward(before, old) && same_release(old, new));
            findings.demand(!again, at, IDLE, || format!("{name} was released again: {old:?} became {new}"));
            self.decided.remove(&(name, text(new, "/rollout").to_owned()));
            self.released(revision, new, findings);
        } else {
            let same = |field: &str| old.is_some_and(|old| old[field] == new[field]);
            let own = same("rollout")
                && same("previous")
                && same("declared")
                && same("batch")
                && new["image"] == new["previous"];
            findings.demand(own, at, BACK, || format!("{name} was sent back elsewhere: {old:?} became {new}"));
        }
    }

    /// Just now, an image was released to a device.
    fn released(&self, revision: &'a Revision, entry: &Value, findings: &mut Findings) {
        let (name, device, at) = (revision.key.2.as_str(), &*revision.object, revision.at);
        let rollout = text(entry, "/rollout");
        findings.demand(device["spec"]["hold"] != true, at, OFFER, || format!("{name} was released while it is held"));
        let agrees = applying(device).is_some();
        findings.demand(agrees, at, FOREIGN, || format!("{name} was released past what it declares: {entry}"));
        let back = previous(device, entry);
        let known = back == declared(device) || self.ran.get(name).is_some_and(|ran| ran.contains(&back));
        findings.demand(known, at, BACK, || format!("{name} would go back to {back}, which it never ran"));
        let batch = number(entry, "/batch");
        let allows = |rollout: &Value| {
            let completed = phase(rollout) == "Completed";
            FORWARD.contains(&phase(rollout))
                && rollout["status"]["halted"].is_null()
                && (completed || number(rollout, "/status/currentBatch") >= batch)
                && short(text(rollout, "/status/image")) == image(device, entry)
        };
        let now = self.rollouts.as_of(rollout, revision.version).map(|rollout| &**rollout);
        findings.look(OFFER);
        if now.is_none_or(|rollout| !allows(rollout)) {
            let from = at.checked_sub(IN_HAND).unwrap_or(at);
            let lately = self.rollouts.between(rollout, from, at);
            if self.may_be_in_hand(at) && lately.into_iter().flatten().any(|rollout| allows(rollout)) {
                findings.excuse("released by a write that was on its way");
            } else {
                let status = now.map(|rollout| format!("{} {}", phase(rollout), rollout["status"]["currentBatch"]));
                findings.broken(
                    at,
                    OFFER,
                    format!("{name} was released in batch {batch} by {rollout}, which is {status:?}"),
                );
            }
        }
        if let Some(rollout) = now {
            self.concurrent(at, rollout, findings);
        }
    }

    /// Whether what one controller decided may be carried out after another, or its successor, has decided otherwise.
    fn may_be_in_hand(&self, at: Instant) -> bool {
        self.two_controllers(at) || self.history.turns.contains_key("controller killed")
    }

    fn two_controllers(&self, at: Instant) -> bool {
        self.history.two_controllers.iter().any(|(from, until)| *from <= at && at <= *until + IN_HAND)
    }

    fn concurrent(&self, at: Instant, rollout: &Value, findings: &mut Findings) {
        let Some(limit) = rollout.pointer("/status/plan/maxConcurrent").and_then(Value::as_u64) else { return };
        let name = text(rollout, "/metadata/name");
        let completed = (phase(rollout) == "Completed").then(|| text(rollout, "/status/completionTime"));
        let updating = |(device, object): &(&&str, &Arc<Value>)| {
            applying(object).is_some_and(|entry| {
                entry["rollout"] == name
                    && is_forward(object, entry)
                    && object["spec"]["hold"] != true
                    && !self.decided.contains(&(**device, name.to_owned()))
                    && completed.is_none_or(|completed| text(entry, "/releaseTime") > completed)
            })
        };
        let updating = self.devices.iter().filter(updating).count() as u64;
        findings.look(LIMIT);
        if updating <= limit {
        } else if self.two_controllers(at) && updating <= 2 * limit {
            findings.excuse("two controllers released at once");
        } else {
            findings.broken(at, LIMIT, format!("{updating} devices of {name} without verdict, {limit} allowed"));
        }
    }
}
