//! The predecessor's row of a policy, and ours: one from the other, as far as the row can say it.
//!
//! Pure. A row names neither devices nor itself, so a policy that is made from one is for every device of the namespace that
//! runs the image, and is named after its pattern. What Tranche has no way to do is refused with what to do instead, never
//! left out in silence.

mod check;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};

pub(super) use self::check::Check;
use self::check::seconds;
use crate::api::policy::{ImageUpdatePolicySpec, StrategyType};
use crate::manage::answer::strategy_word;

/// Batches of a staged policy, where the row doesn't say how many.
const BATCHES: u8 = 3;
/// Longest part of a pattern that a name keeps; with what is added it stays within the 48 of the CRD.
const MAX_BASE: usize = 40;
/// Longest soak that a row can say: a year, in minutes.
const MAX_DELAY: u32 = 525_600;

/// A policy as the predecessor had it.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Row {
    /// `iotistic/myapp:*`: `*` stands for any run of characters.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    pub(super) image_pattern: Option<String>,
    /// `auto`, `staged`, `manual` or `scheduled`; the last needs windows, which only `spec` can have.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) update_strategy: Option<Strategy>,
    /// Batches: 3 are 10%, 50% and 100%, any other number are equal shares.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 20))]
    pub(super) staged_batches: Option<u8>,
    /// How long a batch is watched before the next one opens.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = MAX_DELAY))]
    pub(super) batch_delay_minutes: Option<u32>,
    /// Whether devices are looked at beside their own reports.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) health_check_enabled: Option<bool>,
    /// How. Absent: `http://{device_ip}:80/health` answers 200.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) health_check_config: Option<Check>,
    /// For one attempt, where the config has no timeout.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 3600))]
    pub(super) health_check_timeout_seconds: Option<u32>,
    /// Whether each failed device goes back.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) auto_rollback_enabled: Option<bool>,
    /// Failures of a batch that are tolerated: 0 to 1, kept in whole hundredths, rounded down.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub(super) max_failure_rate: Option<f64>,
    /// Whether new images roll out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) enabled: Option<bool>,
}

/// A strategy in the predecessor's word.
#[derive(JsonSchema, Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Strategy {
    /// All at once.
    Auto,
    /// Batch by batch.
    Staged,
    /// Each batch waits for approval.
    Manual,
    /// Within windows.
    Scheduled,
}

/// What a row can't become.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {why}")]
pub(super) struct Untranslatable {
    field: &'static str,
    why: String,
}

fn untranslatable<T>(field: &'static str, why: impl Into<String>) -> Result<T, Untranslatable> {
    Err(Untranslatable { field, why: why.into() })
}

impl Row {
    /// Whether it says anything.
    pub(super) fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// What it says that `known` doesn't.
    pub(super) fn unlike(self, known: &Self) -> Self {
        let config = match (self.health_check_config, &known.health_check_config) {
            (Some(config), Some(known)) => Some(config.unlike(known)).filter(|news| !news.is_empty()),
            (config, _) => config,
        };
        Self {
            image_pattern: news(self.image_pattern, known.image_pattern.as_ref()),
            update_strategy: news(self.update_strategy, known.update_strategy.as_ref()),
            staged_batches: news(self.staged_batches, known.staged_batches.as_ref()),
            batch_delay_minutes: news(self.batch_delay_minutes, known.batch_delay_minutes.as_ref()),
            health_check_enabled: news(self.health_check_enabled, known.health_check_enabled.as_ref()),
            health_check_config: config,
            health_check_timeout_seconds: news(
                self.health_check_timeout_seconds,
                known.health_check_timeout_seconds.as_ref(),
            ),
            auto_rollback_enabled: news(self.auto_rollback_enabled, known.auto_rollback_enabled.as_ref()),
            max_failure_rate: news(self.max_failure_rate, known.max_failure_rate.as_ref()),
            enabled: news(self.enabled, known.enabled.as_ref()),
        }
    }

    /// Whether it has every field that `known` has: a row that was read, and not one that was written.
    pub(super) fn says_all_of(&self, known: &Self) -> bool {
        let [this, known] = [self, known].map(|row| serde_json::to_value(row).unwrap_or_default());
        let has = |name: &String| this.get(name).is_some();
        known.as_object().is_some_and(|known| known.keys().all(has))
    }

    /// The name of a policy that is made from it.
    pub(super) fn name(&self) -> Option<String> {
        let pattern = self.image_pattern.as_deref()?;
        let letters = pattern.to_ascii_lowercase();
        let words = letters.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
        let mut base: String = words.collect::<Vec<_>>().join("-").chars().take(MAX_BASE).collect();
        base = base.trim_matches('-').to_owned();
        if base.is_empty() {
            base = "any".into();
        }
        let digits: String = Sha256::digest(pattern).iter().take(3).map(|byte| format!("{byte:02x}")).collect();
        Some(format!("{base}-{digits}"))
    }

    /// Says it in a spec, of which everything that the row doesn't speak of stays as it is.
    ///
    /// # Errors
    /// What Tranche has no way to do, and what it has instead.
    pub(super) fn apply(&self, spec: &mut Map<String, Value>) -> Result<(), Untranslatable> {
        match &self.image_pattern {
            Some(pattern) => object(spec, "image").insert("pattern".into(), json!(pattern)).map_or((), drop),
            None if spec.contains_key("image") => {}
            None => return untranslatable("image_pattern", "says which images the policy is for, and is missing"),
        }
        if !spec.contains_key("devices") {
            spec.insert("devices".into(), json!({ "selector": {} }));
        }
        self.strategy(object(spec, "strategy"))?;
        self.health(spec)?;
        if let Some(back) = self.auto_rollback_enabled {
            object(spec, "failurePolicy").insert("rollBackFailedDevices".into(), json!(back));
        }
        if let Some(rate) = self.max_failure_rate {
            if !(0.0..=1.0).contains(&rate) {
                return untranslatable("max_failure_rate", format!("{rate} is not from 0 to 1"));
            }
            let percent = (rate * 100.0 + 1e-9).floor();
            object(spec, "failurePolicy").insert("maxFailureRate".into(), json!(format!("{percent}%")));
        }
        if let Some(enabled) = self.enabled {
            spec.insert("suspend".into(), json!(!enabled));
        }
        Ok(())
    }

    fn strategy(&self, strategy: &mut Map<String, Value>) -> Result<(), Untranslatable> {
        if let Some(type_) = self.update_strategy {
            let word = match type_ {
                Strategy::Auto => "Auto",
                Strategy::Staged => "Staged",
                Strategy::Manual => "Manual",
                Strategy::Scheduled => "Scheduled",
            };
            strategy.insert("type".into(), json!(word));
        }
        let type_ = strategy.get("type").and_then(Value::as_str).unwrap_or("Staged");
        if type_ == "Scheduled" && strategy.get("windows").is_none() {
            return untranslatable(
                "update_strategy",
                "scheduled needs windows, which the row can't say: send spec.strategy.windows",
            );
        }
        if type_ == "Auto" {
            if self.update_strategy.is_some() {
                strategy.remove("batches");
            }
        } else if let Some(count) = self.staged_batches {
            if !(1..=20).contains(&count) {
                return untranslatable("staged_batches", format!("{count} is not from 1 to 20"));
            }
            if let Some(more) = more_than_sizes(strategy) {
                let why = format!("the policy's batches have {more}, which would go: send spec.strategy.batches");
                return untranslatable("staged_batches", why);
            }
            strategy.insert("batches".into(), sizes(count));
        }
        if let Some(minutes) = self.batch_delay_minutes {
            strategy.insert("batchDelay".into(), json!(format!("{minutes}m")));
        }
        Ok(())
    }

    fn health(&self, spec: &mut Map<String, Value>) -> Result<(), Untranslatable> {
        if self.health_check_enabled == Some(false) {
            spec.remove("healthChecks");
            return Ok(());
        }
        let wanted = self.health_check_enabled == Some(true) || self.health_check_config.is_some();
        let timeout = self.health_check_timeout_seconds;
        let first = spec.get_mut("healthChecks").and_then(Value::as_array_mut).and_then(|checks| checks.first_mut());
        match (first, &self.health_check_config) {
            (Some(first), Some(config)) if config.fits(first) => config.apply(first, timeout)?,
            (Some(first), None) => check::set_timeout(first, timeout),
            // It becomes one of another kind, and keeps its name.
            (Some(first), Some(config)) if check::is_of_rows(first) => {
                let name = first["name"].take();
                *first = config.clone().check(timeout)?;
                first["name"] = name;
            }
            (Some(_) | None, config) if wanted => {
                let mut check = config.clone().unwrap_or_default().check(timeout)?;
                match spec.entry("healthChecks").or_insert_with(|| json!([])) {
                    // Of those that there are none goes: what the row doesn't speak of stays.
                    Value::Array(checks) => {
                        if checks.iter().any(|other| other["name"] == check["name"]) {
                            check["name"] = json!("health-of-row");
                        }
                        checks.insert(0, check);
                    }
                    other => *other = json!([check]),
                }
            }
            (Some(_) | None, _) => {}
        }
        Ok(())
    }

    /// What the row can say of a policy.
    pub(super) fn of(spec: &ImageUpdatePolicySpec) -> Self {
        let strategy = &spec.strategy;
        let word = match strategy.type_ {
            StrategyType::Auto => Strategy::Auto,
            StrategyType::Staged => Strategy::Staged,
            StrategyType::Manual => Strategy::Manual,
            StrategyType::Scheduled => Strategy::Scheduled,
        };
        debug_assert_eq!(json!(word), strategy_word(strategy.type_));
        let batches = match (strategy.type_, strategy.batches.len()) {
            (StrategyType::Auto, _) => 1,
            (StrategyType::Staged | StrategyType::Manual | StrategyType::Scheduled, 0) => BATCHES,
            (StrategyType::Staged | StrategyType::Manual | StrategyType::Scheduled, count) => {
                u8::try_from(count).unwrap_or(u8::MAX)
            }
        };
        // Of what a row has no room for, the row says nothing.
        let delay = strategy.batch_delay.map_or(0, |delay| std::time::Duration::from(delay).as_secs() / 60);
        let percent = spec.failure_policy.max_failure_rate.strip_suffix('%').and_then(|text| text.parse::<f64>().ok());
        let check = spec.health_checks.first();
        Self {
            image_pattern: Some(spec.image.pattern.clone()),
            update_strategy: Some(word),
            staged_batches: Some(batches),
            batch_delay_minutes: u32::try_from(delay).ok().filter(|minutes| *minutes <= MAX_DELAY),
            health_check_enabled: Some(check.is_some()),
            health_check_config: check.and_then(Check::of),
            health_check_timeout_seconds: check.and_then(|check| seconds(check.timeout)),
            auto_rollback_enabled: Some(spec.failure_policy.roll_back_failed_devices),
            max_failure_rate: percent.map(|percent| percent / 100.0),
            enabled: Some(!spec.suspend),
        }
    }
}

/// `wanted`, unless it is known.
fn news<T: PartialEq>(wanted: Option<T>, known: Option<&T>) -> Option<T> {
    wanted.filter(|wanted| Some(wanted) != known)
}

/// What batches have beside their sizes, which a number of batches can't say.
fn more_than_sizes(strategy: &Map<String, Value>) -> Option<String> {
    let batches = strategy.get("batches").and_then(Value::as_array)?;
    let says = |(name, value): &(&String, &Value)| *name != "size" && !value.is_null() && **value != json!(false);
    batches.iter().filter_map(Value::as_object).flatten().find(says).map(|(name, _)| name.clone())
}

/// As the predecessor cut a fleet in three; any other number are equal shares.
fn sizes(count: u8) -> Value {
    if count == BATCHES {
        return json!([{ "size": "10%" }, { "size": "50%" }, { "size": "100%" }]);
    }
    let count = u32::from(count);
    (1..=count).map(|batch| json!({ "size": format!("{}%", batch * 100 / count) })).collect()
}

/// A member that is an object, made if it isn't there.
fn object<'a>(of: &'a mut Map<String, Value>, name: &str) -> &'a mut Map<String, Value> {
    let value = of.entry(name).or_insert_with(|| json!({}));
    if !value.is_object() {
        *value = json!({});
    }
    match value {
        Value::Object(object) => object,
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
            unreachable!("it was made one above")
        }
    }
}

#[cfg(test)]
mod tests;
