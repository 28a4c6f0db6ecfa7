//! Bodies against the bounds of their schema, which serde does not look at.

use serde_json::Value;

/// Checks the bounds of a schema, and the types that serde would let pass; the error names the field.
pub(super) fn conform(schema: &Value, value: &Value, at: &str) -> Result<(), String> {
    let choices = schema["anyOf"].as_array().or_else(|| schema["oneOf"].as_array());
    if let Some(choices) = choices {
        let mut failures = choices.iter().filter_map(|choice| conform(choice, value, at).err());
        let failed = failures.by_ref().take(choices.len()).collect::<Vec<_>>();
        return if failed.len() < choices.len() { Ok(()) } else { Err(failed.into_iter().next().unwrap_or_default()) };
    }
    let type_ = match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    let fits = |wanted: &Value| wanted == type_ || (wanted == "number" && type_ == "integer");
    let allowed = match &schema["type"] {
        Value::Array(several) => several.iter().any(fits),
        Value::Null => true,
        one => fits(one),
    };
    if !allowed {
        return Err(format!("{at}: must be {}, and is {type_}", schema["type"]));
    }
    if let Some(number) = value.as_f64() {
        let beyond =
            |bound: &str, wrong: fn(&f64, &f64) -> bool| schema[bound].as_f64().filter(|bound| wrong(&number, bound));
        if let Some(bound) = beyond("minimum", f64::lt).or_else(|| beyond("maximum", f64::gt)) {
            return Err(format!("{at}: {number} is beyond {bound}"));
        }
    }
    if let Some(text) = value.as_str() {
        let length = text.chars().count() as u64;
        if schema["maxLength"].as_u64().is_some_and(|most| length > most)
            || schema["minLength"].as_u64().is_some_and(|least| length < least)
        {
            return Err(format!("{at}: is too long or too short"));
        }
        if schema.get("const").is_some_and(|only| only != value) {
            return Err(format!("{at}: {text:?} is none of those that there are"));
        }
    }
    let members = schema["properties"].as_object().into_iter().flatten();
    members
        .filter_map(|(name, schema)| Some((name, schema, value.get(name)?)))
        .try_for_each(|(name, schema, value)| conform(schema, value, name))
}
