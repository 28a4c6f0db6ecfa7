//! Line 3: every batch that opens, and every completion.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;
use tokio::time::Instant;

use super::facts::{applying, entry, failed, image, is_forward, number, phase, runs, text};
use super::{Findings, ORDER};
use crate::soak::drive::History;
use crate::support::live::devices::Polled;

/// How long before a controller stores what it decided may it have looked.
const LOOKED: Duration = Duration::from_secs(60);

pub fn judge(history: &History, findings: &mut Findings) {
    let mut devices: BTreeMap<&str, Arc<Value>> = BTreeMap::new();
    let mut rollouts: BTreeMap<&str, Arc<Value>> = BTreeMap::new();
    // When a device was last seen running an image, or without an entry that sends it forward.
    let mut decided: BTreeMap<(&str, String), Instant> = BTreeMap::new();
    let mut polls: BTreeMap<&str, Vec<&Polled>> = BTreeMap::new();
    for poll in history.polls.iter().filter(|poll| matches!(poll.status, 200 | 304)) {
        polls.entry(&poll.device).or_default().push(poll);
    }
    for revision in &history.log {
        let name = revision.key.2.as_str();
        match revision.key.0.as_str() {
            "devices" => {
                if let Some(entry) = entry(&revision.object) {
                    let rollout = text(entry, "/rollout").to_owned();
                    if runs(&revision.object, &image(&revision.object, entry)) {
                        decided.insert((name, rollout), revision.at);
                    }
                }
                devices.insert(name, revision.object.clone());
            }
            "imagerollouts" => {
                let before = rollouts.insert(name, revision.object.clone());
                let open = |rollout: &Value| number(rollout, "/status/currentBatch");
                let was = before.as_deref().map_or(0, open);
                let is = open(&revision.object);
                let ended = phase(&revision.object) == "Completed"
                    && before.as_deref().is_none_or(|rollout| phase(rollout) != "Completed");
                for batch in was.max(1)..is {
                    soaked(history, &revision.object, batch, revision.at, findings);
                }
                let passed = if ended { is } else { is - 1 };
                for batch in 1..=passed {
                    if is > was || ended {
                        let away = |device: &str| {
                            let polls = polls.get(device).map(Vec::as_slice).unwrap_or_default();
                            let last = polls.partition_point(|poll| poll.at <= revision.at).checked_sub(1);
                            last.map(|index| polls[index].at)
                        };
                        verdicts(&revision.object, batch, revision.at, &devices, &decided, away, findings);
                    }
                }
            }
            _ => {}
        }
    }
}

/// The batch after it opens: it was complete for as long as it had to be.
fn soaked(history: &History, rollout: &Value, batch: i64, at: Instant, findings: &mut Findings) {
    let index = usize::try_from(batch - 1).unwrap();
    let batches = &rollout["status"]["batches"];
    let time = |value: &Value| value.as_str().map(|text| text.parse::<Timestamp>().unwrap());
    let delay: kube::core::Duration = batches[index]["delay"].as_str().unwrap_or("0s").parse().unwrap();
    let delay = SignedDuration::try_from(Duration::from(delay)).unwrap();
    let (done, opened) = (time(&batches[index]["completionTime"]), time(&batches[index + 1]["startTime"]));
    // Where nobody was judged, or all were sent back, there is nothing to watch.
    let judged = number(&batches[index], "/devices") - number(&batches[index], "/deferred");
    let nothing = judged <= number(&batches[index], "/rolledBack");
    let slack = SignedDuration::from_secs(if history.two_controllers.is_empty() { 0 } else { history.worst_clock });
    let soaked = done.zip(opened).is_some_and(|(done, opened)| nothing || opened + slack >= done + delay);
    findings.demand(soaked, at, ORDER, || {
        format!("{} opened batch {} at {opened:?}: {}", text(rollout, "/metadata/name"), batch + 1, batches[index])
    });
}

/// Every device of a batch that is passed has its verdict, and not too many of them failed.
fn verdicts<'a>(
    rollout: &Value,
    batch: i64,
    at: Instant,
    devices: &BTreeMap<&'a str, Arc<Value>>,
    decided: &BTreeMap<(&'a str, String), Instant>,
    away: impl Fn(&str) -> Option<Instant>,
    findings: &mut Findings,
) {
    let name = text(rollout, "/metadata/name");
    let plan = &rollout["status"]["plan"];
    let offline: kube::core::Duration = text(plan, "/offlineAfter").parse().unwrap();
    let of_batch = devices.iter().filter(|(_, device)| {
        entry(device).is_some_and(|entry| entry["rollout"] == name && number(entry, "/batch") == batch)
    });
    let (mut size, mut failures) = (0, 0);
    for (device, object) in of_batch {
        size += 1;
        failures += i64::from(failed(object, name));
        let forward = applying(object).is_some_and(|entry| is_forward(object, entry));
        let has_verdict = !forward || failed(object, name) || decided.contains_key(&(device, name.to_owned()));
        let unseen = away(device).is_none_or(|seen| at - seen + LOOKED > Duration::from(offline));
        let left_out = object["spec"]["hold"] == true || unseen;
        findings.demand(has_verdict || left_out, at, ORDER, || {
            format!("{name} passed batch {batch} before {device} had its verdict")
        });
    }
    let index = usize::try_from(batch - 1).unwrap();
    let shown = &rollout["status"]["batches"][index];
    let rate = shown["maxFailureRate"].as_str().unwrap_or_else(|| text(plan, "/failurePolicy/maxFailureRate"));
    let rate: i64 = rate.trim_end_matches('%').parse().unwrap();
    let acknowledged = number(shown, "/acknowledged").max(number(rollout, "/spec/acknowledgedFailures"));
    let tolerated = (rate * size / 100).max(acknowledged);
    findings.demand(failures <= tolerated, at, ORDER, || {
        format!("{name} passed batch {batch} with {failures} of {size} failed, {tolerated} tolerated")
    });
}
