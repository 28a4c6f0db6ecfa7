//! A policy that somebody wants: ours, or the predecessor's row.

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::flat::{Check, Row, Strategy};
use super::page;
use super::problems::Refusal;
use crate::api::policy::ImageUpdatePolicySpec;

/// A policy that is to be: `spec`, or the fields of the predecessor's row.
#[derive(JsonSchema, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Wanted {
    /// As kubectl has it; not looked at.
    #[serde(default, rename = "apiVersion")]
    _api_version: Option<String>,
    /// As kubectl has it; not looked at.
    #[serde(default, rename = "kind")]
    _kind: Option<String>,
    /// Its name. Absent: made from the pattern, the same each time.
    #[serde(default)]
    #[schemars(length(min = 1, max = 48))]
    pub(super) name: Option<String>,
    /// Name, labels and annotations.
    #[serde(default)]
    pub(super) metadata: Option<WantedMeta>,
    /// As the ImageUpdatePolicy has it; the API server says what it must be.
    #[serde(default)]
    spec: Option<Map<String, Value>>,
    /// Why, in one line of at most 256 characters.
    #[serde(default)]
    #[schemars(length(max = 256), regex(pattern = "^[^\\x00-\\x1f\\x7f-\\x9f]*$"))]
    pub(super) reason: Option<String>,
    // One by one, since serde can't refuse unknown fields beside a flattened struct.
    #[serde(default)]
    #[schemars(length(min = 1, max = 512))]
    image_pattern: Option<String>,
    #[serde(default)]
    update_strategy: Option<Strategy>,
    #[serde(default)]
    #[schemars(range(min = 1, max = 20))]
    staged_batches: Option<u8>,
    #[serde(default)]
    #[schemars(range(min = 0, max = 525_600))]
    batch_delay_minutes: Option<u32>,
    #[serde(default)]
    health_check_enabled: Option<bool>,
    #[serde(default)]
    health_check_config: Option<Check>,
    #[serde(default)]
    #[schemars(range(min = 1, max = 3600))]
    health_check_timeout_seconds: Option<u32>,
    #[serde(default)]
    auto_rollback_enabled: Option<bool>,
    #[serde(default)]
    #[schemars(range(min = 0.0, max = 1.0))]
    max_failure_rate: Option<f64>,
    #[serde(default)]
    enabled: Option<bool>,
    // What an answer has beside these, so that one can be sent back as it came.
    /// As an answer has it; not looked at.
    #[serde(default, rename = "id")]
    _id: Option<String>,
    /// As an answer has it; not looked at.
    #[serde(default, rename = "uid")]
    _uid: Option<String>,
    /// As an answer has it; not looked at.
    #[serde(default, rename = "ready")]
    _ready: Option<bool>,
    /// As an answer has it; not looked at.
    #[serde(default, rename = "message")]
    _message: Option<String>,
    /// As an answer has it; not looked at.
    #[serde(default, rename = "latest_image")]
    _latest_image: Option<String>,
    /// As an answer has it; not looked at.
    #[serde(default, rename = "active_rollout")]
    _active_rollout: Option<String>,
    /// As an answer has it; not looked at.
    #[serde(default, rename = "created_at")]
    _created_at: Option<String>,
}

/// Metadata that people set.
#[derive(JsonSchema, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct WantedMeta {
    #[schemars(length(min = 1, max = 48))]
    pub(super) name: Option<String>,
    pub(super) labels: Option<Map<String, Value>>,
    pub(super) annotations: Option<Map<String, Value>>,
}

impl Wanted {
    fn row(&self) -> Row {
        Row {
            image_pattern: self.image_pattern.clone(),
            update_strategy: self.update_strategy,
            staged_batches: self.staged_batches,
            batch_delay_minutes: self.batch_delay_minutes,
            health_check_enabled: self.health_check_enabled,
            health_check_config: self.health_check_config.clone(),
            health_check_timeout_seconds: self.health_check_timeout_seconds,
            auto_rollback_enabled: self.auto_rollback_enabled,
            max_failure_rate: self.max_failure_rate,
            enabled: self.enabled,
        }
    }

    /// The spec that it asks for, of a policy that has `before`.
    pub(super) fn spec(&self, before: Option<&ImageUpdatePolicySpec>) -> Result<Map<String, Value>, Refusal> {
        let row = self.row();
        match &self.spec {
            Some(spec) if row.is_empty() => Ok(spec.clone()),
            Some(spec) => both(spec, &row, before),
            None => apply(&row, before),
        }
    }

    /// The name that it is to have.
    pub(super) fn name(&self) -> Result<String, Refusal> {
        let in_spec = || self.spec.as_ref()?.get("image")?.get("pattern")?.as_str().map(str::to_owned);
        let pattern = self.image_pattern.clone().or_else(in_spec);
        let named = self.metadata.as_ref().and_then(|metadata| metadata.name.clone()).or_else(|| self.name.clone());
        let name = named.or_else(|| Row { image_pattern: pattern, ..Row::default() }.name());
        let name = name
            .ok_or_else(|| Refusal::Invalid("name: there is neither a name nor a pattern to make one from".into()))?;
        if page::is_name(&name) {
            Ok(name)
        } else {
            Err(Refusal::Invalid(format!("name: {name:?} can't be the name of an object")))
        }
    }

    /// What a new policy begins with.
    pub(super) fn metadata(&self, name: &str, annotations: Map<String, Value>) -> Value {
        let meta = self.metadata.as_ref();
        let mut all = meta.and_then(|meta| meta.annotations.clone()).unwrap_or_default();
        all.extend(annotations);
        json!({ "name": name, "labels": meta.and_then(|meta| meta.labels.clone()).unwrap_or_default(), "annotations": all })
    }
}

/// What a row changes in a spec. What it only repeats changes nothing: a row says less than a spec does.
fn apply(row: &Row, before: Option<&ImageUpdatePolicySpec>) -> Result<Map<String, Value>, Refusal> {
    let (mut spec, news) = match before {
        None => (Map::new(), row.clone()),
        Some(before) => (members(before), row.clone().unlike(&Row::of(before))),
    };
    news.apply(&mut spec).map_err(|error| Refusal::Invalid(error.to_string()))?;
    Ok(spec)
}

/// Of an answer that is sent back, with the spec changed, or the row, or neither.
fn both(
    spec: &Map<String, Value>,
    row: &Row,
    before: Option<&ImageUpdatePolicySpec>,
) -> Result<Map<String, Value>, Refusal> {
    const EITHER: &str = "spec: send either spec or the fields of the row";
    // What can't be read can't be compared either.
    let parsed: ImageUpdatePolicySpec =
        serde_json::from_value(Value::Object(spec.clone())).map_err(|_| Refusal::Body(EITHER.into()))?;
    if !row.says_all_of(&Row::of(before.unwrap_or(&parsed))) {
        return Err(Refusal::Body(EITHER.into()));
    }
    let repeats = |spec: &ImageUpdatePolicySpec| row.clone().unlike(&Row::of(spec)).is_empty();
    match before {
        Some(before) if parsed == *before => apply(row, Some(before)),
        Some(before) if repeats(before) => Ok(spec.clone()),
        Some(_) | None if repeats(&parsed) => Ok(spec.clone()),
        Some(_) | None => Err(Refusal::Body("spec: it says other things than the row: change only one of them".into())),
    }
}

fn members(spec: &ImageUpdatePolicySpec) -> Map<String, Value> {
    match serde_json::to_value(spec) {
        Ok(Value::Object(members)) => members,
        Ok(_) | Err(_) => Map::new(),
    }
}

/// Whether a spec is another one than `before`, be it only by a field that there is not: the API server is to say that.
pub(super) fn is_news(spec: &Map<String, Value>, before: &ImageUpdatePolicySpec) -> bool {
    let wanted = Value::Object(spec.clone());
    let same = serde_json::from_value(wanted.clone()).is_ok_and(|parsed: ImageUpdatePolicySpec| parsed == *before);
    !same || !is_known(&wanted, &Value::Object(members(before)))
}

/// Whether every member that says something is one of those that were understood.
fn is_known(wanted: &Value, understood: &Value) -> bool {
    match (wanted, understood) {
        (Value::Object(wanted), Value::Object(understood)) => wanted.iter().all(|(name, value)| {
            understood.get(name).map_or_else(|| says_nothing(value), |understood| is_known(value, understood))
        }),
        (Value::Array(wanted), Value::Array(understood)) => {
            wanted.len() == understood.len()
                && wanted.iter().zip(understood).all(|(wanted, understood)| is_known(wanted, understood))
        }
        (wanted, _) => !wanted.is_object() && !wanted.is_array(),
    }
}

fn says_nothing(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(items) => items.is_empty(),
        Value::Object(members) => members.is_empty(),
        Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
    }
}

#[cfg(test)]
mod tests;
