//! Field managers: what a write does to the owners of an object's fields.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::fields::{self, Fields};

/// Who: name, `Apply` or `Update`, and the subresource.
pub type Owner = (String, &'static str, &'static str);
/// Who owns what, and since when they last changed it.
type Owned = BTreeMap<Owner, (Fields, String)>;

fn read(object: &Value) -> Owned {
    let entries = object["metadata"]["managedFields"].as_array();
    let word = |entry: &Value, field: &str, words: [&'static str; 2]| {
        *words.iter().find(|word| entry[field].as_str().unwrap_or_default() == **word).unwrap()
    };
    entries
        .into_iter()
        .flatten()
        .map(|entry| {
            let manager = entry["manager"].as_str().unwrap().to_owned();
            let owner =
                (manager, word(entry, "operation", ["Apply", "Update"]), word(entry, "subresource", ["", "status"]));
            (owner, (fields::from_json(&entry["fieldsV1"]), entry["time"].as_str().unwrap().to_owned()))
        })
        .collect()
}

fn write(object: &mut Value, owned: Owned, api_version: &str) {
    let entries: Vec<Value> = owned
        .into_iter()
        .filter(|(_, (fields, _))| !fields.is_empty())
        .map(|((manager, operation, subresource), (fields, time))| {
            let mut entry = json!({
                "manager": manager, "operation": operation, "apiVersion": api_version, "time": time,
                "fieldsType": "FieldsV1", "fieldsV1": fields::to_json(&fields),
            });
            if !subresource.is_empty() {
                entry["subresource"] = json!(subresource);
            }
            entry
        })
        .collect();
    object["metadata"]["managedFields"] = json!(entries);
}

/// What can be owned of an object: nothing that the API server itself writes, nor what names it.
fn ownable(object: &Value) -> Value {
    let mut object = object.clone();
    let top = object.as_object_mut().unwrap();
    top.remove("apiVersion");
    top.remove("kind");
    if let Some(metadata) = top.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata
            .retain(|field, _| matches!(field.as_str(), "labels" | "annotations" | "finalizers" | "ownerReferences"));
        if metadata.is_empty() {
            top.remove("metadata");
        }
    }
    object
}

/// After a write that isn't an apply: whoever changed a field owns it alone.
pub fn updated(old: &Value, new: &mut Value, owner: Owner, api_version: &str, schema: Option<&Value>, now: &str) {
    let mut owned = read(old);
    let (before, after) = (ownable(old), ownable(new));
    let there = fields::of(&after, schema);
    let had = fields::of(&before, schema);
    let is_item = |path: &[String]| path.last().is_some_and(|step| step.starts_with("k:"));
    let changed: Fields = there
        .iter()
        .filter(|path| {
            !had.contains(*path) || (!is_item(path) && fields::get(&before, path) != fields::get(&after, path))
        })
        .cloned()
        .collect();
    for (fields, _) in owned.values_mut() {
        fields.retain(|path| there.contains(path) && !changed.contains(path));
    }
    if !changed.is_empty() {
        let (fields, time) = owned.entry(owner).or_default();
        fields.extend(changed);
        *time = now.to_owned();
    }
    write(new, owned, api_version);
}

/// A server-side apply. Answers with the object, or who owns what was to be changed.
pub fn apply(
    live: &Value,
    config: &Value,
    owner: &Owner,
    force: bool,
    api_version: &str,
    schema: Option<&Value>,
    now: &str,
) -> Result<Value, Vec<(String, String)>> {
    let mut owned = read(live);
    let config = ownable(config);
    let applied = fields::of(&config, schema);
    let mut conflicts = Vec::new();
    for (other, (theirs, _)) in owned.iter_mut().filter(|(other, _)| *other != owner) {
        let differs = |path: &&Vec<String>| {
            let is_item = path.last().is_some_and(|step| step.starts_with("k:"));
            !is_item && fields::get(live, path) != fields::get(&config, path)
        };
        let lost: Vec<_> = theirs.intersection(&applied).filter(differs).cloned().collect();
        for path in lost {
            theirs.remove(&path);
            conflicts.push((other.0.clone(), path.join(".").replace("f:", "")));
        }
    }
    if !conflicts.is_empty() && !force {
        return Err(conflicts);
    }
    let mut merged = live.clone();
    fields::merge(&mut merged, &config, schema);
    let before = owned.get(owner).map(|(fields, _)| fields.clone()).unwrap_or_default();
    // In their order, so that an item goes as a whole: without its key it could not be found any more.
    for path in before.difference(&applied) {
        let kept = |path: &[String]| {
            let others = owned.iter().filter(|(other, _)| *other != owner).map(|(_, (fields, _))| fields);
            others.chain([&applied]).any(|fields| fields.iter().any(|other| other.starts_with(path)))
        };
        if kept(path) {
            continue;
        }
        fields::remove(&mut merged, path);
        // The objects around it go too once nothing is left in them, except what every object has.
        for length in (2..path.len()).rev() {
            let around = &path[..length];
            let is_empty = fields::get(&merged, around).is_some_and(|inner| {
                inner.as_object().is_some_and(serde_json::Map::is_empty) || inner.as_array().is_some_and(Vec::is_empty)
            });
            if !is_empty || kept(around) {
                break;
            }
            fields::remove(&mut merged, around);
        }
    }
    let mine = owned.entry(owner.clone()).or_default();
    if mine.0 != applied || ownable(&merged) != ownable(live) {
        *mine = (applied, now.to_owned());
    }
    write(&mut merged, owned, api_version);
    Ok(merged)
}
