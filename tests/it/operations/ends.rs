//! Where everything may stand once nothing happens any more.

use std::sync::Arc;

use serde_json::Value;
use tranche::simulate::Personality;
use tranche::simulate::engine::Event;

use crate::support::live::World;

const TERMINAL: [&str; 5] = ["Completed", "RolledBack", "Cancelled", "Superseded", "Failed"];
/// What may be waited for without end: a person's act, or a device.
const ENDLESS: [&str; 11] = [
    "PolicyMissing",
    "PolicyInvalid",
    "PolicySuspended",
    "ImageNotMatched",
    "Queued",
    "NoDevices",
    "LeftToOthers",
    "Paused",
    "Halted",
    "AwaitingApproval",
    "NobodyThere",
];

/// Everything that is not as it may be, one sentence each.
pub fn judge(world: &World, fleet: &[Personality]) -> Vec<String> {
    let mut wrong = Vec::new();
    for rollout in world.api.list("imagerollouts") {
        wrong.extend(stands_wrong(&rollout).map(|why| format!("rollout {}: {why}", rollout["metadata"]["name"])));
    }
    for policy in world.api.list("imageupdatepolicies") {
        wrong.extend(policy_wrong(world, &policy).map(|why| format!("policy {}: {why}", policy["metadata"]["name"])));
    }
    for (index, identity) in world.identities.iter().enumerate() {
        let device = world.api.get("devices", &identity.uuid);
        let what = device.map_or(Some("it is gone".into()), |device| device_wrong(world, &device, fleet[index]));
        wrong.extend(what.map(|why| format!("device {} ({:?}): {why}", identity.uuid, fleet[index])));
    }
    wrong
}

fn condition<'a>(object: &'a Value, type_: &str) -> Option<&'a Value> {
    object["status"]["conditions"].as_array()?.iter().find(|condition| condition["type"] == type_)
}

fn stands_wrong(rollout: &Value) -> Option<String> {
    let Some(ready) = condition(rollout, "Ready") else { return Some("it has no condition Ready".into()) };
    let (reason, message) = (ready["reason"].as_str()?, ready["message"].as_str().unwrap_or_default());
    if message.is_empty() {
        return Some("it says nothing".into());
    }
    if reason == "Unreadable" {
        return None;
    }
    if rollout["metadata"]["deletionTimestamp"].is_string() {
        return Some(format!("it does not go away: {message}"));
    }
    if rollout["status"]["observedGeneration"] != rollout["metadata"]["generation"] {
        return Some(format!("its spec was not seen: {message}"));
    }
    let phase = rollout["status"]["phase"].as_str().unwrap_or_default();
    if TERMINAL.contains(&phase) {
        return None;
    }
    (!ENDLESS.contains(&reason)).then(|| format!("it is {phase} because of {reason}: {message}"))
}

fn policy_wrong(world: &World, policy: &Value) -> Option<String> {
    let Some(ready) = condition(policy, "Ready") else { return Some("it has no condition Ready".into()) };
    if ready["message"].as_str().unwrap_or_default().is_empty() {
        return Some("it says nothing".into());
    }
    if ready["reason"] == "Unreadable" {
        return None;
    }
    if policy["status"]["observedGeneration"] != policy["metadata"]["generation"] {
        return Some(format!("its spec was not seen: {}", ready["message"]));
    }
    let is_there = |name: &Value| name.as_str().is_none_or(|name| world.api.get("imagerollouts", name).is_some());
    let status = &policy["status"];
    if let Some(active) = status["activeRollout"].as_str() {
        let phase = world.phase(active);
        if phase.is_empty() || TERMINAL.contains(&phase.as_str()) {
            return Some(format!("its active rollout {active} is {phase:?}"));
        }
    }
    (!is_there(&status["latest"]["rollout"])).then(|| format!("its latest rollout is gone: {}", status["latest"]))
}

fn device_wrong(world: &World, device: &Value, personality: Personality) -> Option<String> {
    if personality == Personality::Dead {
        return None;
    }
    let name = device["metadata"]["name"].as_str()?;
    let (mut told, mut runs): (Option<Arc<str>>, Option<Arc<str>>) = (None, None);
    for sighting in world.sightings.lock().iter().filter(|sighting| *sighting.device == *name) {
        match &sighting.event {
            Event::Offered(image) => told = Some(image.clone()),
            Event::Running(image) => runs = Some(image.clone()),
            Event::Removed(image) if runs.as_ref() == Some(image) => runs = None,
            Event::Removed(_) => {}
        }
    }
    let Some(told) = told else { return Some("it was never told anything".into()) };
    let declared = device["spec"]["apps"].as_object()?.values().map(|app| &app["services"][0]["imageName"]);
    let entries = device["spec"]["images"].as_array().into_iter().flatten();
    let given: Vec<&Value> = declared.chain(entries.flat_map(|entry| [&entry["image"], &entry["previous"]])).collect();
    if !given.iter().any(|image| image.as_str().is_some_and(|image| same(image, &told))) {
        return Some(format!("it was told {told}, which nobody gave it: {given:?}"));
    }
    if runs.as_deref().is_some_and(|runs| same(runs, &told)) {
        return None;
    }
    let in_sync = condition(device, "InSync");
    let is_said = in_sync.is_some_and(|in_sync| in_sync["status"] == "False" && in_sync["message"] != "");
    // It runs nothing since before its object was made anew, and only says so again once that changes.
    let is_unknown = device["status"]["services"].is_null();
    let may_fail = personality == Personality::Fails || told.ends_with(":bad");
    (!may_fail || !(is_said || is_unknown)).then(|| format!("it was told {told} and runs {runs:?}: {in_sync:?}"))
}

fn same(a: &str, b: &str) -> bool {
    let parse = |text: &str| text.parse::<tranche::api::ImageRef>().ok();
    parse(a).zip(parse(b)).is_some_and(|(a, b)| a.same_image(&b))
}
