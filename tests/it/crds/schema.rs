//! Reads the rules out of the schemas: where each constraint stands, so that no test can forget one.

use kube::ResourceExt as _;
use serde_json::{Value, json};

/// One step down from an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    Field(String),
    /// Any item of a list.
    Item,
    /// Any value of a map.
    Entry,
}

/// A constraint and where it stands.
#[derive(Clone, Debug)]
pub struct Constraint {
    pub path: Vec<Step>,
    pub rule: Rule,
}

/// What a schema demands.
#[derive(Clone, Debug)]
pub enum Rule {
    Type(String),
    Required(String),
    MinLength(usize),
    MaxLength(usize),
    Minimum(i64),
    Maximum(i64),
    MaxItems(usize),
    MaxProperties(usize),
    OneOf(Vec<String>),
    UniqueItems,
    Time,
    /// CEL that looks at one object.
    Cel {
        message: String,
        matches: bool,
    },
    /// CEL that compares with what was there before.
    Transition {
        message: String,
    },
}

/// Every constraint of a kind.
pub fn constraints(kind: &str) -> Vec<Constraint> {
    let crd = tranche::api::crds()
        .into_iter()
        .find(|crd| crd.spec.names.kind == kind)
        .unwrap_or_else(|| panic!("there is no kind {kind}"));
    let name = crd.name_any();
    let schema = crd.spec.versions[0].schema.clone().unwrap_or_else(|| panic!("{name} has no schema"));
    let mut found = Vec::new();
    walk(&json!(schema.open_api_v3_schema), &mut Vec::new(), &mut found);
    found
}

fn walk(schema: &Value, path: &mut Vec<Step>, found: &mut Vec<Constraint>) {
    let mut add = |rule| found.push(Constraint { path: path.clone(), rule });
    let number = |key: &str| schema[key].as_f64().map(|number| number as i64);
    let size = |key: &str| schema[key].as_u64().map(|size| usize::try_from(size).expect("a size"));
    for required in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        add(Rule::Required(required.into()));
    }
    if let Some(type_) = schema["type"].as_str() {
        // The API server calls a time by its format, and looks at nothing else in it: without a rule even a list passes.
        let time = schema["format"] == "date-time";
        add(Rule::Type(if time { "date-time" } else { type_ }.into()));
    }
    size("minLength").into_iter().for_each(|size| add(Rule::MinLength(size)));
    size("maxLength").into_iter().for_each(|size| add(Rule::MaxLength(size)));
    number("minimum").into_iter().for_each(|number| add(Rule::Minimum(number)));
    number("maximum").into_iter().for_each(|number| add(Rule::Maximum(number)));
    size("maxItems").into_iter().for_each(|size| add(Rule::MaxItems(size)));
    size("maxProperties").into_iter().for_each(|size| add(Rule::MaxProperties(size)));
    if let Some(values) = schema["enum"].as_array() {
        add(Rule::OneOf(values.iter().filter_map(Value::as_str).map(Into::into).collect()));
    }
    if matches!(schema["x-kubernetes-list-type"].as_str(), Some("map" | "set")) {
        add(Rule::UniqueItems);
    }
    if schema["format"] == "date-time" {
        add(Rule::Time);
    }
    for validation in schema["x-kubernetes-validations"].as_array().into_iter().flatten() {
        let text = |key: &str| validation[key].as_str().unwrap_or_default().to_owned();
        let (rule, message) = (text("rule"), text("message"));
        assert!(!message.is_empty(), "the rule {rule} has no message: nobody would know what to do");
        add(match rule.contains("oldSelf") {
            true => Rule::Transition { message },
            false => Rule::Cel { message, matches: rule.starts_with("self.matches(") },
        });
    }
    assert!(schema["pattern"].is_null(), "a pattern is no message: use schema::matches at {}", shown(path));

    let mut down = |step: Step, schema: &Value| {
        path.push(step);
        walk(schema, path, found);
        path.pop();
    };
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        down(Step::Field(name.clone()), property);
    }
    if schema["items"].is_object() {
        down(Step::Item, &schema["items"]);
    }
    if schema["additionalProperties"].is_object() {
        down(Step::Entry, &schema["additionalProperties"]);
    }
}

/// For messages of tests.
pub fn shown(path: &[Step]) -> String {
    let mut text = String::new();
    for step in path {
        match step {
            Step::Field(name) => text = if text.is_empty() { name.clone() } else { format!("{text}.{name}") },
            Step::Item => text += "[]",
            Step::Entry => text += ".*",
        }
    }
    text
}

/// Where a path leads in a concrete object, as a JSON pointer, and as the API server spells it. The first item or entry
/// that has the rest of the path is taken.
pub fn locate(object: &Value, path: &[Step]) -> Option<(String, String)> {
    let Some((step, rest)) = path.split_first() else { return Some((String::new(), String::new())) };
    let candidates: Vec<(String, String, &Value)> = match step {
        Step::Field(name) => vec![(name.clone(), format!(".{name}"), object.get(name)?)],
        Step::Item => {
            let items = object.as_array()?.iter().enumerate();
            items.map(|(index, item)| (index.to_string(), format!("[{index}]"), item)).collect()
        }
        Step::Entry => {
            let entries = object.as_object()?.iter();
            entries.map(|(key, value)| (key.clone(), format!(".{key}"), value)).collect()
        }
    };
    candidates.into_iter().find_map(|(key, spelled, value)| {
        let (pointer, field) = locate(value, rest)?;
        let key = key.replace('~', "~0").replace('/', "~1");
        Some((format!("/{key}{pointer}"), format!("{spelled}{field}")))
    })
}
