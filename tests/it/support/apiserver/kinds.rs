//! The kinds that are served: ours by their generated CRDs, so that a change of theirs is a change here, Events and
//! Secrets.

use std::sync::LazyLock;

use serde_json::{Value, json};

/// One served kind.
#[derive(Debug)]
pub struct Kind {
    pub api_version: String,
    pub name: String,
    pub plural: String,
    pub has_status: bool,
    /// `openAPIV3Schema`; `None`: anything goes.
    pub schema: Option<Value>,
}

/// All of them, made once for all servers of a process.
pub fn kinds() -> &'static [Kind] {
    static KINDS: LazyLock<Vec<Kind>> = LazyLock::new(all);
    &KINDS
}

fn all() -> Vec<Kind> {
    let mut kinds: Vec<Kind> = tranche::api::crds().iter().map(custom).collect();
    for (api_version, name, plural) in [("events.k8s.io/v1", "Event", "events"), ("v1", "Secret", "secrets")] {
        kinds.push(Kind {
            api_version: api_version.into(),
            name: name.into(),
            plural: plural.into(),
            has_status: false,
            schema: None,
        });
    }
    kinds
}

fn custom(crd: &impl serde::Serialize) -> Kind {
    let crd = serde_json::to_value(crd).unwrap();
    let text = |pointer: &str| crd.pointer(pointer).and_then(Value::as_str).unwrap().to_owned();
    let version = &crd["spec"]["versions"][0];
    let mut schema = version["schema"]["openAPIV3Schema"].clone();
    schema["properties"]["metadata"] = metadata();
    for text in ["apiVersion", "kind"] {
        schema["properties"][text] = json!({"type": "string"});
    }
    Kind {
        api_version: format!("{}/{}", text("/spec/group"), version["name"].as_str().unwrap()),
        name: text("/spec/names/kind"),
        plural: text("/spec/names/plural"),
        has_status: version.pointer("/subresources/status").is_some(),
        schema: Some(schema),
    }
}

/// As far as it matters who owns what of it.
fn metadata() -> Value {
    json!({
        "type": "object",
        "x-kubernetes-preserve-unknown-fields": true,
        "properties": {
            "labels": {"type": "object", "additionalProperties": {"type": "string"}},
            "annotations": {"type": "object", "additionalProperties": {"type": "string"}},
            "finalizers": {"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "string"}},
            "ownerReferences": {
                "type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["uid"],
                "items": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
            },
        },
    })
}
