//! The OpenAPI 3.1 document, made from the table of endpoints.

use http::Method;
use serde_json::{Map, Value, json};

use super::BASE;
use super::endpoint::{Operation, Table};

/// Refusals that any endpoint may answer with, and what they mean.
const ALWAYS: [(u16, &str); 8] = [
    (400, "A parameter or the body is not as it must be"),
    (401, "No token, or one that the API server doesn't know"),
    (403, "RBAC does not let the person do it; the text is the API server's"),
    (408, "The body did not arrive in time"),
    (413, "The body is too large"),
    (431, "The head of the request is larger than 16 KiB"),
    (429, "Too many requests at once"),
    (503, "The API server is out of reach"),
];
/// Those of single objects.
const OF_ONE: [(u16, &str); 2] = [(404, "There is no such object"), (500, "The object is there and can't be read")];
/// Those of changes.
const OF_CHANGES: [(u16, &str); 3] = [
    (409, "It doesn't fit where the object stands; `state` says where that is"),
    (412, "The object has changed since the revision that If-Match names"),
    (422, "The API server, or Tranche, finds it makes no sense"),
];

/// The document.
pub(super) fn document(table: Table) -> Value {
    let Table { operations, mut generator, router: _ } = table;
    let mut paths: Map<String, Value> = Map::new();
    for operation in &operations {
        let path = paths.entry(format!("{BASE}{}", operation.path)).or_insert_with(|| json!({}));
        path[operation.method.as_str().to_lowercase()] = of(operation);
    }
    let mut schemas = generator.take_definitions(true);
    schemas.insert("Problem".into(), problem());
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Tranche",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "Rollouts, policies and devices over HTTP, for whoever does not live in kubectl. Every request is made \
                on the Kubernetes API server with the caller's own token: RBAC decides, and the audit log names the person.",
            "license": { "name": "Apache-2.0", "identifier": "Apache-2.0" },
        },
        "servers": [{ "url": "/" }],
        "security": [{ "token": [] }],
        "tags": [
            { "name": "rollouts", "description": "One image on its way to the devices of one policy." },
            { "name": "policies", "description": "Which images go to which devices, how fast, and what stops them." },
            { "name": "devices", "description": "Machines that poll." },
        ],
        "paths": paths,
        "components": {
            "securitySchemes": {
                "token": { "type": "http", "scheme": "bearer", "description": "The caller's own Kubernetes token." },
            },
            "schemas": schemas,
        },
    })
}

fn of(operation: &Operation) -> Value {
    let Operation { method, path, about, path_parameters, query, body, answers, conditional } = operation;
    let changes = method != Method::GET;
    let mut parameters: Vec<Value> = Vec::new();
    for (name, schema) in &path_parameters.0 {
        parameters.push(parameter(name, "path", true, schema));
    }
    for (name, schema) in &query.0 {
        parameters.push(parameter(name, "query", false, &not_null(schema)));
    }
    if *conditional {
        let text = "The ETag of the object as the caller knows it; if it has changed since, nothing is done.";
        parameters.push(json!({
            "name": "If-Match", "in": "header", "required": false, "description": text, "schema": { "type": "string" },
        }));
    }
    let mut responses = Map::new();
    for (status, type_, schema) in answers {
        let text = if *status == 201 { "Made" } else { "Done" };
        responses
            .insert(status.to_string(), json!({ "description": text, "content": { *type_: { "schema": schema } } }));
    }
    let mut refusals: Vec<(u16, &str)> = ALWAYS.into();
    if path.contains('{') || changes {
        refusals.extend(OF_ONE);
    }
    if changes {
        refusals.extend(OF_CHANGES);
    }
    for (status, text) in refusals {
        let content = json!({ "application/problem+json": { "schema": { "$ref": "#/components/schemas/Problem" } } });
        let mut response = json!({ "description": text, "content": content });
        if status == 431 {
            // Told before anything of this API is asked.
            response.as_object_mut().map(|response| response.remove("content"));
        }
        responses.insert(status.to_string(), response);
    }
    let mut value = json!({
        "operationId": about.id,
        "tags": [about.tag],
        "summary": about.summary,
        "parameters": parameters,
        "responses": responses,
    });
    if !about.text.is_empty() {
        value["description"] = about.text.into();
    }
    if let Some((required, schema)) = body {
        value["requestBody"] = json!({ "required": required, "content": { "application/json": { "schema": schema } } });
    }
    value
}

fn parameter(name: &str, place: &str, required: bool, schema: &Value) -> Value {
    let mut schema = schema.clone();
    let text = schema.as_object_mut().and_then(|schema| schema.remove("description")).unwrap_or_default();
    json!({ "name": name, "in": place, "required": required, "description": text, "schema": schema })
}

/// A parameter that is left out is not there; it is never null.
fn not_null(schema: &Value) -> Value {
    let mut schema = schema.clone();
    if let Some(types) = schema["type"].as_array_mut() {
        types.retain(|type_| type_ != "null");
        if let [one] = types.as_slice() {
            schema["type"] = one.clone();
        }
    } else if let Some(Value::Null) = schema.get("default") {
        schema.as_object_mut().map(|schema| schema.remove("default"));
    }
    if let Some(choices) = schema.get_mut("anyOf").and_then(Value::as_array_mut) {
        choices.retain(|choice| choice["type"] != "null");
        if let [Value::Object(one)] = choices.as_slice() {
            let (one, text) = (one.clone(), schema.get("description").cloned());
            schema = Value::Object(one);
            if let Some(text) = text {
                schema["description"] = text;
            }
        }
    }
    schema
}

fn problem() -> Value {
    let text = |description: &str| json!({ "type": "string", "description": description });
    json!({
        "type": "object",
        "description": "RFC 9457. `error` and `message` repeat `title` and `detail` for scripts of the predecessor.",
        "required": ["type", "title", "status", "detail", "error", "message"],
        "properties": {
            "type": { "type": "string", "pattern": "^https://tranche\\.dev/problems/[a-z-]+$", "description": "What went wrong; never changes." },
            "title": text("The same, for people."),
            "status": { "type": "integer", "description": "The HTTP status." },
            "detail": text("What went wrong this time, and what to do."),
            "error": text("As `title`."),
            "message": text("As `detail`."),
            "parameter": text("Of a bad parameter: its name."),
            "state": text("Of a verb that doesn't fit: the phase in which the rollout is."),
            "rollout_status": text("The same in the predecessor's word."),
        },
    })
}
