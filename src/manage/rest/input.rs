//! Query and body, read by the very schema that the OpenAPI document shows, so that neither says anything else than the
//! other.

use std::time::Duration;

use axum::body::Body;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use schemars::{JsonSchema, Schema, SchemaGenerator, generate::SchemaSettings};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::bounds::conform;
use super::problems::Refusal;

/// Longest body. A policy with every list full has less.
pub(super) const MAX_BODY: usize = 64 << 10;
/// From the head of a request to the end of its body.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// No query, or no path parameter.
#[derive(JsonSchema, Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Nothing {}

/// Generates schemas whose references lead into the OpenAPI document.
pub(super) fn generator(inline: bool) -> SchemaGenerator {
    let settings = SchemaSettings::draft2020_12().with(|settings| {
        settings.definitions_path = "/components/schemas".into();
        settings.meta_schema = None;
        settings.inline_subschemas = inline;
    });
    settings.into_generator()
}

/// The parameters that a query may have, each with its schema.
#[derive(Clone, Debug)]
pub(super) struct Parameters(pub(super) Map<String, Value>);

impl Parameters {
    /// Of a struct.
    pub(super) fn of<Q: JsonSchema>() -> Self {
        let schema = generator(true).into_root_schema_for::<Q>();
        Self(schema.get("properties").and_then(Value::as_object).cloned().unwrap_or_default())
    }

    /// Reads a query string.
    ///
    /// # Errors
    /// With the name of the first parameter that can't be as it is.
    pub(super) fn read<Q: DeserializeOwned>(&self, query: &str) -> Result<Q, Refusal> {
        let mut values = Map::new();
        for (name, text) in form_urlencoded::parse(query.as_bytes()) {
            let wrong = |why: String| Refusal::Query { name: name.clone().into_owned(), why };
            let Some(schema) = self.0.get(name.as_ref()) else {
                let known: Vec<&str> = self.0.keys().map(String::as_str).collect();
                let known = if known.is_empty() { "none".into() } else { known.join(", ") };
                return Err(wrong(format!("there is no such parameter here; there are: {known}")));
            };
            let value = value(schema, &text).map_err(wrong)?;
            if values.insert(name.clone().into_owned(), value).is_some() {
                return Err(wrong("is there more than once".into()));
            }
        }
        serde_json::from_value(Value::Object(values))
            .map_err(|error| Refusal::Query { name: "query".into(), why: error.to_string() })
    }
}

/// A parameter's value, as its schema wants it.
fn value(schema: &Value, text: &str) -> Result<Value, String> {
    if text.contains('\0') {
        return Err("has a NUL in it".into());
    }
    let is = |wanted: &str| match &schema["type"] {
        Value::String(one) => one == wanted,
        Value::Array(several) => several.iter().any(|one| one == wanted),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => false,
    };
    if is("integer") {
        let number: i64 = text.parse().map_err(|_| format!("{text:?} is not a whole number"))?;
        let beyond = |bound: &str| schema[bound].as_i64();
        if beyond("minimum").is_some_and(|least| number < least) || beyond("maximum").is_some_and(|most| number > most)
        {
            let (least, most) = (schema["minimum"].as_i64().unwrap_or(0), schema["maximum"].as_i64());
            let most = most.map_or_else(|| "any number".into(), |most| most.to_string());
            return Err(format!("{number} is not from {least} to {most}"));
        }
        return Ok(number.into());
    }
    if is("boolean") {
        return match text {
            "true" => Ok(true.into()),
            "false" => Ok(false.into()),
            _ => Err(format!("{text:?} is neither true nor false")),
        };
    }
    let length = text.chars().count() as u64;
    if schema["maxLength"].as_u64().is_some_and(|most| length > most)
        || schema["minLength"].as_u64().is_some_and(|least| length < least)
    {
        return Err("is too long or too short".into());
    }
    let words = words(schema);
    if !words.is_empty() && !words.iter().any(|word| word == text) {
        return Err(format!("{text:?} is none of {}", words.join(", ")));
    }
    Ok(text.into())
}

/// The words that a schema allows, if it names them.
fn words(schema: &Value) -> Vec<String> {
    let mut words = Vec::new();
    for key in ["enum", "oneOf", "anyOf"] {
        for entry in schema[key].as_array().into_iter().flatten() {
            match entry {
                Value::String(word) => words.push(word.clone()),
                Value::Object(inner) => match inner.get("const") {
                    Some(Value::String(word)) => words.push(word.clone()),
                    Some(_) | None => words.extend(self::words(entry)),
                },
                Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) => {}
            }
        }
    }
    words
}

/// What a request may carry.
pub(super) trait Payload: Sized {
    /// Whether there must be one, and its schema; `None` where there is none to be.
    fn schema(generator: &mut SchemaGenerator) -> Option<(bool, Schema)>;
    /// From the bytes of the body.
    fn parse(bytes: &[u8]) -> Result<Self, Refusal>;
}

/// No body; one that is there is not looked at.
#[derive(Clone, Copy, Debug)]
pub(super) struct NoBody;

impl Payload for NoBody {
    fn schema(_: &mut SchemaGenerator) -> Option<(bool, Schema)> {
        None
    }

    fn parse(_: &[u8]) -> Result<Self, Refusal> {
        Ok(Self)
    }
}

/// A JSON body. The predecessor's scripts don't always say that it is JSON, so nobody is asked to.
#[derive(Clone, Debug)]
pub(super) struct Json<T>(pub(super) T);

impl<T: JsonSchema + DeserializeOwned> Payload for Json<T> {
    fn schema(generator: &mut SchemaGenerator) -> Option<(bool, Schema)> {
        Some((true, generator.subschema_for::<T>()))
    }

    fn parse(bytes: &[u8]) -> Result<Self, Refusal> {
        // serde would take a list for a struct.
        if bytes.iter().find(|byte| !byte.is_ascii_whitespace()).is_some_and(|byte| *byte != b'{') {
            return Err(Refusal::Body("the body must be a JSON object".into()));
        }
        let wrong = |error: serde_json::Error| Refusal::Body(format!("the body is not as it must be: {error}"));
        let value: Value = serde_json::from_slice(bytes).map_err(wrong)?;
        let schema = generator(true).into_root_schema_for::<T>().to_value();
        conform(&schema, &value, "body").map_err(Refusal::Body)?;
        serde_json::from_value(value).map(Self).map_err(wrong)
    }
}

/// A JSON body that may be left out.
#[derive(Clone, Debug, Default)]
pub(super) struct Maybe<T>(pub(super) T);

impl<T: JsonSchema + DeserializeOwned + Default> Payload for Maybe<T> {
    fn schema(generator: &mut SchemaGenerator) -> Option<(bool, Schema)> {
        Some((false, generator.subschema_for::<T>()))
    }

    fn parse(bytes: &[u8]) -> Result<Self, Refusal> {
        if bytes.iter().all(u8::is_ascii_whitespace) {
            return Ok(Self::default());
        }
        Json::parse(bytes).map(|Json(value)| Self(value))
    }
}

/// The bytes of a body, bounded in size and time.
pub(super) async fn bytes(body: Body) -> Result<bytes::Bytes, Refusal> {
    let collected = tokio::time::timeout(BODY_TIMEOUT, Limited::new(body, MAX_BODY).collect()).await;
    match collected {
        Err(_) => Err(Refusal::Slow),
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(Refusal::TooLarge(MAX_BODY)),
        Ok(Err(_)) => Err(Refusal::Body("the body could not be read to its end".into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(JsonSchema, Debug, Deserialize, PartialEq)]
    #[serde(deny_unknown_fields)]
    struct Query {
        #[schemars(range(min = 1, max = 500))]
        limit: Option<i64>,
        connected: Option<bool>,
        #[schemars(length(max = 5))]
        name: Option<String>,
        status: Option<super::super::words::RolloutStatus>,
    }

    fn read(query: &str) -> Result<Query, String> {
        Parameters::of::<Query>().read(query).map_err(|refusal| refusal.to_string())
    }

    #[derive(JsonSchema, Debug, Default, Deserialize)]
    #[serde(default, deny_unknown_fields)]
    struct Body {
        #[schemars(range(min = 1, max = 20))]
        batch: Option<u8>,
        #[schemars(length(max = 3))]
        reason: Option<String>,
        #[schemars(range(min = 0.0, max = 1.0))]
        rate: Option<f64>,
        nested: Option<Nothing>,
    }

    #[test]
    fn bodies_are_bounded_by_their_schema() {
        for body in ["", " ", "{}", r#"{"batch": 20, "reason": "üüü", "rate": 1, "nested": {}}"#, r#"{"batch": null}"#]
        {
            assert!(Maybe::<Body>::parse(body.as_bytes()).is_ok(), "{body}");
        }
        for (body, names) in [
            ("[]", "object"),
            (r#"{"batch": 21}"#, "batch: 21 is beyond 20"),
            (r#"{"batch": 0}"#, "batch: 0 is beyond 1"),
            (r#"{"batch": "1"}"#, "batch: must be"),
            (r#"{"reason": "aaaa"}"#, "reason: is too long"),
            (r#"{"rate": 1.5}"#, "rate: 1.5 is beyond 1"),
            (r#"{"nested": []}"#, "nested: must be"),
            (r#"{"colour": 1}"#, "colour"),
        ] {
            let refusal = Maybe::<Body>::parse(body.as_bytes()).unwrap_err().to_string();
            assert!(refusal.contains(names), "{body}: {refusal}");
        }
    }

    #[test]
    fn queries_are_typed_by_their_schema() {
        let query = read("limit=7&connected=false&name=a%2Bb&status=rolled_back").unwrap();
        let status = Some(super::super::words::RolloutStatus::RolledBack);
        assert_eq!(query, Query { limit: Some(7), connected: Some(false), name: Some("a+b".into()), status });
        for (query, name, why) in [
            ("limit=0", "limit", "0 is not from 1 to 500"),
            ("limit=501", "limit", "501 is not from 1 to 500"),
            ("limit=ten", "limit", "not a whole number"),
            ("connected=yes", "connected", "neither true nor false"),
            ("name=aaaaaa", "name", "too long"),
            ("status=done", "status", "\"done\" is none of pending, in_progress"),
            ("limit=1&limit=2", "limit", "more than once"),
            ("colour=red", "colour", "there is no such parameter here"),
        ] {
            let refusal = read(query).unwrap_err();
            assert!(refusal.starts_with(&format!("{name}: ")) && refusal.contains(why), "{query}: {refusal}");
        }
    }
}
