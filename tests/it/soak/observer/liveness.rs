//! Whether every rollout has ended or waits for something that has a name, and says so all along.

use serde_json::Value;

use super::facts::{is_terminal, phase, text};
use super::{Findings, REASON};
use crate::soak::drive::History;

/// What only a person ends, or another rollout that waits for a person.
const WAITS: [&str; 9] = [
    "Halted",
    "AwaitingApproval",
    "NobodyThere",
    "NoDevices",
    "Paused",
    "Queued",
    "OlderRollout",
    "PolicyMissing",
    "Rewriting",
];

/// Whether it has come to rest; else what it says.
pub fn is_settled(rollout: &Value) -> Result<(), String> {
    let conditions = rollout.pointer("/status/conditions").and_then(Value::as_array);
    let ready = conditions.into_iter().flatten().find(|condition| condition["type"] == "Ready");
    let reason = ready.map(|ready| text(ready, "/reason")).unwrap_or_default();
    let message = text(rollout, "/status/message");
    let says = || format!("{} is {}, {reason}: {message}", text(rollout, "/metadata/name"), phase(rollout));
    if rollout["metadata"]["deletionTimestamp"].is_string() {
        // Only an entry that somebody else owns may hold it, and here nobody else does.
        return Err(format!("being deleted: {}", says()));
    }
    let rests = is_terminal(rollout) || (WAITS.contains(&reason) && !message.is_empty());
    if rests { Ok(()) } else { Err(says()) }
}

pub fn judge(history: &History, findings: &mut Findings) {
    for revision in history.log.iter().filter(|revision| revision.key.0 == "imagerollouts") {
        let has_status = revision.object["status"]["observedGeneration"].is_i64();
        if has_status {
            let said = !text(&revision.object, "/status/message").is_empty();
            findings.demand(said, revision.at, REASON, || format!("{} says nothing", revision.key.2));
        }
    }
    let mut last = std::collections::BTreeMap::new();
    for revision in history.log.iter().filter(|revision| revision.key.0 == "imagerollouts") {
        if revision.type_ == "DELETED" {
            last.remove(&revision.key.2);
        } else {
            last.insert(&revision.key.2, &revision.object);
        }
    }
    for rollout in last.values() {
        let settled = is_settled(rollout);
        findings.demand(settled.is_ok(), history.end, REASON, || settled.clone().unwrap_err());
    }
}
