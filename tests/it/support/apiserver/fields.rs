//! Who owns which fields: sets of paths, in memory and in the form of `managedFields`.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use super::schema::{List, child, list};

/// A field: each step as `FieldsV1` writes it, `f:name`, `k:{"key":…}` or `v:value`.
pub type Path = Vec<String>;
/// Some fields: the leaves, and the items of lists that are merged item by item.
pub type Fields = BTreeSet<Path>;

/// The fields that an object sets.
pub fn of(value: &Value, schema: Option<&Value>) -> Fields {
    let mut fields = Fields::new();
    walk(&mut Vec::new(), value, schema, &mut fields);
    fields
}

fn walk(at: &mut Path, value: &Value, schema: Option<&Value>, into: &mut Fields) {
    match value {
        Value::Object(object) if !object.is_empty() => {
            for (field, value) in object {
                at.push(format!("f:{field}"));
                walk(at, value, child(schema, field), into);
                at.pop();
            }
        }
        Value::Array(items) => match list(schema) {
            List::Atomic => {
                into.insert(at.clone());
            }
            List::Set => into.extend(items.iter().map(|item| [at.as_slice(), &[format!("v:{item}")]].concat())),
            List::Map(keys) => {
                for item in items {
                    at.push(key(item, &keys));
                    into.insert(at.clone());
                    walk(at, item, schema.and_then(|schema| schema.get("items")), into);
                    at.pop();
                }
            }
        },
        _ => {
            into.insert(at.clone());
        }
    }
}

/// What tells an item apart: `k:{"repository":"docker.io/acme/app"}`.
fn key(item: &Value, keys: &[&str]) -> String {
    let key: Map<String, Value> = keys.iter().map(|key| ((*key).to_owned(), item[*key].clone())).collect();
    format!("k:{}", Value::Object(key))
}

fn has_key(item: &Value, key: &str) -> bool {
    let key: Value = serde_json::from_str(key).unwrap();
    key.as_object().unwrap().iter().all(|(field, value)| item[field] == *value)
}

/// Whether a value is what a path names by its JSON.
fn is_written(item: &Value, text: &str) -> bool {
    let json = item.to_string();
    json == text
}

/// The value of a field.
pub fn get<'a>(value: &'a Value, path: &[String]) -> Option<&'a Value> {
    path.iter().try_fold(value, |value, step| match step.split_at(2) {
        ("f:", field) => value.get(field),
        ("k:", key) => value.as_array()?.iter().find(|item| has_key(item, key)),
        (_, text) => value.as_array()?.iter().find(|item| is_written(item, text)),
    })
}

/// Takes a field out.
pub fn remove(value: &mut Value, path: &[String]) {
    let Some((step, rest)) = path.split_first() else { return };
    match step.split_at(2) {
        ("f:", field) => match value.get_mut(field) {
            Some(inner) if !rest.is_empty() => remove(inner, rest),
            _ => drop(value.as_object_mut().and_then(|object| object.remove(field))),
        },
        ("k:", key) => {
            let Some(items) = value.as_array_mut() else { return };
            match items.iter_mut().find(|item| has_key(item, key)) {
                Some(inner) if !rest.is_empty() => remove(inner, rest),
                _ => items.retain(|item| !has_key(item, key)),
            }
        }
        (_, text) => drop(value.as_array_mut().map(|items| items.retain(|item| !is_written(item, text)))),
    }
}

/// Lays what is applied over what is there.
pub fn merge(live: &mut Value, applied: &Value, schema: Option<&Value>) {
    match (live, applied) {
        (Value::Object(live), Value::Object(applied)) => {
            for (field, value) in applied {
                let there = live.entry(field.clone()).or_insert(Value::Null);
                merge(there, value, child(schema, field));
            }
        }
        (Value::Array(live), Value::Array(applied)) if !matches!(list(schema), List::Atomic) => {
            *live = merge_items(live, applied, schema);
        }
        (live, applied) => *live = applied.clone(),
    }
}

/// Item by item. Items that both have come in the order of what is applied; what only one has stays where it stands.
fn merge_items(live: &[Value], applied: &[Value], schema: Option<&Value>) -> Vec<Value> {
    let keys = if let List::Map(keys) = list(schema) { Some(keys) } else { None };
    let same = |a: &Value, b: &Value| match &keys {
        Some(keys) => keys.iter().all(|key| a[*key] == b[*key]),
        None => a == b,
    };
    let is_in = |items: &[Value], item: &Value| items.iter().any(|other| same(other, item));
    let mut shared = applied.iter().filter(|item| is_in(live, item)).peekable();
    let mut merged: Vec<Value> = Vec::new();
    let (mut left, mut right) = (live.iter().peekable(), applied.iter().peekable());
    while left.peek().is_some() || right.peek().is_some() {
        if let (Some(l), Some(r)) = (left.peek(), right.peek())
            && !same(l, r)
            && is_in(applied, l)
            && shared.peek().is_some_and(|next| !same(next, l))
        {
            // It has its place further on.
            left.next();
            continue;
        }
        if let Some(l) = left.peek()
            && !is_in(applied, l)
        {
            merged.extend(left.next().cloned());
            continue;
        }
        if left.peek().is_some_and(|l| is_in(&merged, l) || right.peek().is_some_and(|r| same(l, r))) {
            left.next();
        }
        if let Some(r) = right.next() {
            let mut item = live.iter().find(|item| same(item, r)).cloned().unwrap_or(Value::Null);
            merge(&mut item, r, schema.and_then(|schema| schema.get("items")));
            merged.push(item);
            shared.next_if(|next| same(next, r));
        }
    }
    merged
}

/// `fieldsV1`.
pub fn to_json(fields: &Fields) -> Value {
    let mut root = json!({});
    for path in fields {
        let mut at = &mut root;
        for step in path {
            at = at.as_object_mut().unwrap().entry(step).or_insert_with(|| json!({}));
        }
        let is_parent = |other: &Path| other.len() > path.len() && other.starts_with(path);
        if fields.range(path.clone()..).nth(1).is_some_and(is_parent) {
            at["."] = json!({});
        }
    }
    root
}

/// The same, read.
pub fn from_json(json: &Value) -> Fields {
    fn read(at: &mut Path, json: &Value, into: &mut Fields) {
        let object = json.as_object().unwrap();
        if object.is_empty() || object.contains_key(".") {
            into.insert(at.clone());
        }
        for (step, inner) in object.iter().filter(|(step, _)| *step != ".") {
            at.push(step.clone());
            read(at, inner, into);
            at.pop();
        }
    }
    let mut fields = Fields::new();
    read(&mut Vec::new(), json, &mut fields);
    fields
}
