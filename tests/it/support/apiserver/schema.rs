//! What a structural schema does to a write: unknown fields go, defaults come, and what it forbids is refused. Rules in
//! CEL are not evaluated; the real API server is asked about those elsewhere.

use std::collections::HashMap;
use std::sync::LazyLock;

use parking_lot::Mutex;
use regex::Regex;
use serde_json::{Map, Value};

/// The schema of one field of an object; `None` where the schema says nothing about it.
pub fn child<'a>(schema: Option<&'a Value>, field: &str) -> Option<&'a Value> {
    let schema = schema?;
    schema["properties"].get(field).or_else(|| schema.get("additionalProperties").filter(|more| more.is_object()))
}

/// How a list is merged.
pub enum List<'a> {
    /// As one value.
    Atomic,
    /// Each value by itself.
    Set,
    /// Item by item, told apart by these fields.
    Map(Vec<&'a str>),
}

pub fn list(schema: Option<&Value>) -> List<'_> {
    let Some(schema) = schema else { return List::Atomic };
    match schema["x-kubernetes-list-type"].as_str() {
        Some("map") => {
            let keys = schema["x-kubernetes-list-map-keys"].as_array().unwrap();
            List::Map(keys.iter().map(|key| key.as_str().unwrap()).collect())
        }
        Some("set") => List::Set,
        _ => List::Atomic,
    }
}

fn keeps_unknown(schema: &Value) -> bool {
    schema["x-kubernetes-preserve-unknown-fields"] == true
}

/// Drops what the schema doesn't know and fills in what it has a default for.
pub fn settle(value: &mut Value, schema: &Value) {
    match value {
        Value::Object(object) => {
            if !keeps_unknown(schema) {
                object.retain(|field, _| child(Some(schema), field).is_some());
            }
            for (field, schema) in properties(schema) {
                if let Some(default) = schema.get("default")
                    && object.get(field).is_none_or(|value| value.is_null() && schema["nullable"] != true)
                {
                    object.insert(field.clone(), default.clone());
                }
            }
            for (field, value) in object {
                if let Some(schema) = child(Some(schema), field) {
                    settle(value, schema);
                }
            }
        }
        Value::Array(items) => {
            if let Some(schema) = schema.get("items") {
                items.iter_mut().for_each(|item| settle(item, schema));
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// Patterns are few and objects many, so each is compiled once.
fn matches(pattern: &str, text: &str) -> bool {
    static KNOWN: LazyLock<Mutex<HashMap<String, Regex>>> = LazyLock::new(Mutex::default);
    let mut known = KNOWN.lock();
    known.entry(pattern.to_owned()).or_insert_with(|| Regex::new(pattern).unwrap()).is_match(text)
}

fn properties(schema: &Value) -> impl Iterator<Item = (&String, &Value)> {
    schema["properties"].as_object().into_iter().flat_map(Map::iter)
}

/// What the schema forbids, one sentence each.
pub fn faults(at: &str, value: &Value, schema: &Value) -> Vec<String> {
    let mut faults = Vec::new();
    let mut fault = |what: String| faults.push(format!("{at}: {what}"));
    if value.is_null() {
        if schema["nullable"] != true {
            fault("must not be null".into());
        }
        return faults;
    }
    let number = |word: &str| schema.get(word).and_then(Value::as_f64);
    let size = |word: &str| schema.get(word).and_then(Value::as_u64).map(|size| size as usize);
    let is_right = match schema["type"].as_str() {
        Some("object") => value.is_object(),
        Some("array") => value.is_array(),
        Some("string") => value.is_string(),
        Some("integer") => value.is_i64() || value.is_u64(),
        Some("number") => value.is_number(),
        Some("boolean") => value.is_boolean(),
        Some(other) => panic!("a schema of type {other}"),
        None => true,
    };
    if !is_right {
        fault(format!("must be of type {}: {value}", schema["type"]));
        return faults;
    }
    if schema.get("enum").is_some_and(|values| !values.as_array().unwrap().contains(value)) {
        fault(format!("unsupported value: {value}"));
    }
    match value {
        Value::Object(object) => {
            for field in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
                if !object.contains_key(field) {
                    fault(format!("{field} is required"));
                }
            }
            for (field, value) in object {
                if let Some(schema) = child(Some(schema), field) {
                    faults.extend(self::faults(&format!("{at}.{field}"), value, schema));
                }
            }
        }
        Value::Array(items) => {
            if size("maxItems").or(size("maxLength")).is_some_and(|most| items.len() > most) {
                fault(format!("must have at most {} items", schema["maxItems"]));
            }
            if let Some(schema) = schema.get("items") {
                for (index, item) in items.iter().enumerate() {
                    faults.extend(self::faults(&format!("{at}[{index}]"), item, schema));
                }
            }
        }
        Value::String(text) => {
            let length = text.chars().count();
            if size("maxLength").is_some_and(|most| length > most)
                || size("minLength").is_some_and(|least| length < least)
            {
                fault(format!("{length} characters are too many or too few: {text}"));
            }
            if schema["pattern"].as_str().is_some_and(|pattern| !matches(pattern, text)) {
                fault(format!("must match {}: {text}", schema["pattern"]));
            }
            if schema["format"] == "date-time" && text.parse::<jiff::Timestamp>().is_err() {
                fault(format!("must be a date-time: {text}"));
            }
        }
        Value::Number(value) => {
            let value = value.as_f64().unwrap_or(f64::MAX);
            if number("minimum").is_some_and(|least| value < least)
                || number("maximum").is_some_and(|most| value > most)
            {
                fault(format!("{value} is out of bounds"));
            }
        }
        Value::Null | Value::Bool(_) => {}
    }
    faults
}
