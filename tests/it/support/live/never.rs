//! What must never happen (design, section 8), checked on every revision that the API server ever had, and by none of the code
//! that makes it so.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::Value;

use crate::support::apiserver::store::Revision;

/// Where a rollout lets devices move forward.
const FORWARD: [&str; 4] = ["Progressing", "Soaking", "AwaitingApproval", "Completed"];
const TERMINAL: [&str; 5] = ["Completed", "RolledBack", "Cancelled", "Superseded", "Failed"];

/// Everything that went wrong, one sentence each.
pub fn check(log: &[Revision]) -> Vec<String> {
    let mut objects: BTreeMap<(String, String), Value> = BTreeMap::new();
    let mut broken = Vec::new();
    for revision in log {
        let (plural, _, name) = revision.key.clone();
        let before = objects.insert((plural.clone(), name.clone()), Value::clone(&revision.object));
        let before = before.unwrap_or_default();
        let found = match plural.as_str() {
            "devices" => device(&objects, &before, &revision.object),
            "imagerollouts" => rollout(&before, &revision.object),
            _ => Vec::new(),
        };
        broken.extend(found.into_iter().map(|what| format!("revision {}: {plural} {name}: {what}", revision.version)));
        if revision.type_ == "DELETED" {
            objects.remove(&(plural, name));
        }
    }
    broken
}

type Objects = BTreeMap<(String, String), Value>;

fn entries(device: &Value) -> impl Iterator<Item = &Value> {
    device["spec"]["images"].as_array().into_iter().flatten()
}

fn device(objects: &Objects, before: &Value, after: &Value) -> Vec<String> {
    let mut broken = Vec::new();
    for entry in entries(after) {
        let old = entries(before).find(|old| old["repository"] == entry["repository"]);
        if old == Some(entry) {
            continue;
        }
        if entry["rolledBack"] == true {
            match old {
                Some(old) if old["rolledBack"] == true => {}
                Some(old) if old["previous"] == entry["image"] && old["rollout"] == entry["rollout"] => {}
                _ => broken.push(format!("was sent back to what is not its previous image: {old:?} became {entry}")),
            }
        } else {
            broken.extend(released(objects, after, entry));
        }
    }
    broken
}

/// The image of an entry was released to a device just now.
fn released(objects: &Objects, device: &Value, entry: &Value) -> Vec<String> {
    let mut broken = Vec::new();
    let name = entry["rollout"].as_str().unwrap_or_default();
    let Some(rollout) = objects.get(&("imagerollouts".to_owned(), name.to_owned())) else {
        return vec![format!("was released by {name}, which does not exist")];
    };
    let status = &rollout["status"];
    let batch = entry["batch"].as_i64().unwrap();
    if status["currentBatch"].as_i64().unwrap_or_default() < batch {
        broken.push(format!("was released in batch {batch}, which is not open: {}", status["currentBatch"]));
    }
    let phase = status["phase"].as_str().unwrap_or_default();
    if !FORWARD.contains(&phase) || !status["halted"].is_null() {
        broken.push(format!("was released by a rollout that is {phase}"));
    }
    if device["spec"]["hold"] == true {
        broken.push("was released while it was held".into());
    }
    let others = || {
        let devices = objects.iter().filter(|((plural, _), _)| plural == "devices").map(|(_, device)| device);
        devices.filter_map(|device| {
            // One that was deleted may have had the same name.
            let ours = |entry: &&Value| {
                entry["rollout"] == name
                    && entry["rolledBack"] != true
                    && entry["releaseTime"].as_str() >= rollout["metadata"]["creationTimestamp"].as_str()
            };
            let entry = entries(device).find(ours)?;
            (!is_left_alone(device, entry)).then_some((device, entry))
        })
    };
    let undecided = others().filter(|(device, entry)| !is_decided(device, entry)).count();
    if status["plan"]["maxConcurrent"].as_u64().is_some_and(|limit| undecided as u64 > limit) {
        broken.push(format!("was released as one of {undecided} at once"));
    }
    let earlier = others().filter(|(_, entry)| entry["batch"].as_i64().unwrap() < batch);
    for (other, _) in earlier.filter(|(device, entry)| !is_decided(device, entry)) {
        broken.push(format!("was released in batch {batch} before {} had its verdict", other["metadata"]["name"]));
    }
    broken
}

/// Nobody waits for it: it is held (or that can't be read), or somebody declares another image for it now.
fn is_left_alone(device: &Value, entry: &Value) -> bool {
    let declared = device["spec"]["apps"].as_object().into_iter().flat_map(|apps| apps.values());
    let declared: Vec<&Value> = declared.map(|app| &app["services"][0]["imageName"]).collect();
    (device["spec"]["hold"] != false && !device["spec"]["hold"].is_null())
        || declared.iter().any(|image| short(image) != short(&entry["declared"]))
}

fn short(image: &Value) -> String {
    image.as_str().unwrap_or_default().replace("docker.io/", "")
}

/// It runs the image well, or has failed.
fn is_decided(device: &Value, entry: &Value) -> bool {
    let services = device["status"]["services"].as_array();
    let runs = services
        .into_iter()
        .flatten()
        .any(|service| short(&service["image"]) == short(&entry["image"]) && service["status"] == "running");
    let updates = device["status"]["updates"].as_array();
    let failed = updates
        .into_iter()
        .flatten()
        .any(|update| update["rollout"] == entry["rollout"] && update["verdict"] == "Failed");
    runs || failed
}

fn rollout(before: &Value, after: &Value) -> Vec<String> {
    let mut broken = Vec::new();
    let phase = |object: &Value| object["status"]["phase"].as_str().unwrap_or_default().to_owned();
    let generation = |object: &Value| object["status"]["observedGeneration"].as_i64();
    let (old, new) = (phase(before), phase(after));
    if TERMINAL.contains(&old.as_str()) && old != new && generation(before) == generation(after) {
        broken.push(format!("went from {old} to {new} though its spec is the same"));
    }
    let batches = after["status"]["batches"].as_array().cloned().unwrap_or_default();
    let time = |batch: &Value, field: &str| batch[field].as_str().map(|text| text.parse::<Timestamp>().unwrap());
    for (number, pair) in batches.windows(2).enumerate() {
        let was_open = before["status"]["batches"][number + 1]["startTime"].is_string();
        if let Some(opened) = time(&pair[1], "startTime")
            && !was_open
        {
            // Where nobody ran the image there is nothing to watch.
            if pair[0]["healthy"] == 0 && pair[0]["failed"] == 0 {
                continue;
            }
            let delay: kube::core::Duration = pair[0]["delay"].as_str().unwrap_or("0s").parse().unwrap();
            let soaked = time(&pair[0], "completionTime").is_some_and(|done| {
                opened >= done + jiff::SignedDuration::try_from(std::time::Duration::from(delay)).unwrap()
            });
            if !soaked {
                broken.push(format!("opened batch {} before batch {} was over: {}", number + 2, number + 1, pair[0]));
            }
        }
    }
    broken
}
