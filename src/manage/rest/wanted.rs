//! A policy that somebody wants: ours, or the predecessor's row.

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::flat::{Check, Row, Strategy};
use super::page;
use super::problems::Refusal;

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

    /// The spec that it asks for, of one that has `before`.
    pub(super) fn spec(&self, before: Option<&Map<String, Value>>) -> Result<Map<String, Value>, Refusal> {
        let row = self.row();
        match &self.spec {
            Some(_) if !row.is_empty() => Err(Refusal::Body("spec: send either spec or the fields of the row".into())),
            Some(spec) => Ok(spec.clone()),
            None => {
                let mut spec = before.cloned().unwrap_or_default();
                row.apply(&mut spec).map_err(|error| Refusal::Invalid(error.to_string()))?;
                Ok(spec)
            }
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
