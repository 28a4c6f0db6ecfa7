//! Reading and writing: what each verb does to the store, and when it refuses.

use http::{Method, StatusCode};
use serde_json::{Map, Value, json};

use super::answer::Refusal;
use super::kinds::Kind;
use super::requests::Request;
use super::store::{Key, Store};
use super::{managers, schema};

type Answer = Result<(StatusCode, Value), Refusal>;

/// Everything but a watch.
pub fn handle(store: &mut Store, kind: &Kind, request: &Request, body: Value) -> Answer {
    let name = request.name.clone();
    let Some(namespace) = request.namespace.clone() else { return list(store, kind, request) };
    let key = |name: &str| (kind.plural.clone(), namespace.clone(), name.to_owned());
    let write = |name: &str| Write { kind, request, key: key(name) };
    match (&request.method, name) {
        (&Method::GET, None) => list(store, kind, request),
        (&Method::GET, Some(name)) => {
            let object = store.get(&key(&name)).ok_or_else(|| Refusal::not_found(&name))?;
            Ok((StatusCode::OK, shown(&object, request)))
        }
        (&Method::POST, None) => {
            let name = body["metadata"]["name"].as_str().unwrap_or_default().to_owned();
            write(&name).create(store, body)
        }
        (&Method::PUT, Some(name)) => write(&name).replace(store, body),
        (&Method::PATCH, Some(name)) => match request.content_type.as_str() {
            "application/merge-patch+json" => write(&name).merge(store, &body),
            "application/apply-patch+yaml" => write(&name).apply(store, &body),
            other => panic!("patches of type {other:?} are not served"),
        },
        (&Method::DELETE, Some(name)) => delete(store, &key(&name), &body),
        other => panic!("not served: {other:?}"),
    }
}

/// An object as it was asked for.
fn shown(object: &Value, request: &Request) -> Value {
    if request.is_partial {
        return json!({
            "apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata", "metadata": object["metadata"],
        });
    }
    object.clone()
}

/// By pages, each of which names the revision of the first: what changes in between comes with the watch.
fn list(store: &Store, kind: &Kind, request: &Request) -> Answer {
    let position = |object: &Value| {
        let text = |field: &str| object["metadata"][field].as_str().unwrap_or_default().to_owned();
        format!("{}/{}", text("namespace"), text("name"))
    };
    let mut items = store.list(&kind.plural, request.namespace.as_deref());
    let mut version = store.version().to_string();
    if let Some((first, after)) = request.query.get("continue").and_then(|token| token.split_once(':')) {
        if store.is_forgotten(first.parse().unwrap()) {
            return Err(Refusal::new(StatusCode::GONE, "the provided continue parameter is too old"));
        }
        version = first.to_owned();
        items.retain(|object| position(object).as_str() > after);
    }
    let mut metadata = json!({"resourceVersion": version});
    if let Some(limit) =
        request.number("limit").and_then(|limit| usize::try_from(limit).ok()).filter(|limit| *limit > 0)
        && items.len() > limit
    {
        items.truncate(limit);
        metadata["continue"] = json!(format!("{version}:{}", position(&items[limit - 1])));
    }
    let items: Vec<Value> = items.iter().map(|object| shown(object, request)).collect();
    Ok((
        StatusCode::OK,
        json!({
            "apiVersion": kind.api_version, "kind": format!("{}List", kind.name), "metadata": metadata, "items": items,
        }),
    ))
}

fn delete(store: &mut Store, key: &Key, options: &Value) -> Answer {
    let live = store.get(key).ok_or_else(|| Refusal::not_found(&key.2))?;
    preconditions(&key.2, &live, &options["preconditions"])?;
    let object = store.delete(key);
    if store.get(key).is_some() {
        return Ok((StatusCode::OK, Value::clone(&object)));
    }
    Ok((StatusCode::OK, json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success"})))
}

/// `resourceVersion` and `uid`, where they are given.
fn preconditions(name: &str, live: &Value, given: &Value) -> Result<(), Refusal> {
    let differs =
        |field: &str| given[field].as_str().is_some_and(|value| !value.is_empty() && live["metadata"][field] != value);
    if differs("resourceVersion") {
        return Err(Refusal::conflict(
            name,
            "the object has been modified; please apply your changes to the latest version",
        ));
    }
    if differs("uid") {
        return Err(Refusal::conflict(name, "Precondition failed: UID in precondition differs"));
    }
    Ok(())
}

/// The same for a patch. A patch that names another uid would change it, which is refused for its own reason.
fn patch_preconditions(name: &str, live: &Value, given: &Value) -> Result<(), Refusal> {
    preconditions(name, live, &json!({"resourceVersion": given["resourceVersion"]}))?;
    preconditions(name, live, &json!({"uid": given["uid"]}))
        .map_err(|_| Refusal::new(StatusCode::UNPROCESSABLE_ENTITY, "metadata.uid: field is immutable"))
}

struct Write<'a> {
    kind: &'a Kind,
    request: &'a Request,
    key: Key,
}

impl Write<'_> {
    fn schema(&self) -> Option<&Value> {
        self.kind.schema.as_ref()
    }

    fn owner(&self, operation: &'static str) -> managers::Owner {
        (self.request.manager(), operation, if self.request.is_status { "status" } else { "" })
    }

    fn create(&self, store: &mut Store, mut object: Value) -> Answer {
        let name = &self.key.2;
        if store.get(&self.key).is_some() {
            return Err(Refusal::already_exists(name));
        }
        if object["metadata"]["resourceVersion"].is_string() {
            let why = "resourceVersion should not be set on objects to be created";
            return Err(Refusal::new(StatusCode::BAD_REQUEST, why));
        }
        if self.kind.has_status {
            object.as_object_mut().unwrap().remove("status");
        }
        self.settle(&mut object, None)?;
        let (owner, now) = (self.owner("Update"), store.now());
        managers::updated(&json!({}), &mut object, owner, &self.kind.api_version, self.schema(), &now);
        let stored = store.create(self.key.clone(), object);
        Ok((StatusCode::CREATED, shown(&stored, self.request)))
    }

    fn replace(&self, store: &mut Store, object: Value) -> Answer {
        let live = store.get(&self.key).ok_or_else(|| Refusal::not_found(&self.key.2))?;
        preconditions(&self.key.2, &live, &object["metadata"])?;
        self.update(store, &live, object)
    }

    fn merge(&self, store: &mut Store, patch: &Value) -> Answer {
        let live = store.get(&self.key).ok_or_else(|| Refusal::not_found(&self.key.2))?;
        patch_preconditions(&self.key.2, &live, &patch["metadata"])?;
        let mut object = Value::clone(&live);
        merge_patch(&mut object, patch);
        self.update(store, &live, object)
    }

    fn update(&self, store: &mut Store, live: &Value, object: Value) -> Answer {
        let mut object = self.through_endpoint(live, object);
        self.settle(&mut object, Some(live))?;
        let (owner, now) = (self.owner("Update"), store.now());
        managers::updated(live, &mut object, owner, &self.kind.api_version, self.schema(), &now);
        let stored = store.update(self.key.clone(), object);
        Ok((StatusCode::OK, shown(&stored, self.request)))
    }

    fn apply(&self, store: &mut Store, config: &Value) -> Answer {
        let name = &self.key.2;
        if config["apiVersion"] != self.kind.api_version || config["kind"] != self.kind.name {
            return Err(Refusal::new(StatusCode::BAD_REQUEST, "an apply must name apiVersion and kind"));
        }
        assert!(self.request.query.contains_key("fieldManager"), "an apply must name its field manager");
        let live = store.get(&self.key);
        match &live {
            Some(live) => patch_preconditions(name, live, &config["metadata"])?,
            None if self.request.is_status => return Err(Refusal::not_found(name)),
            // The real one looks at the uid alone here: an apply with a resourceVersion makes what was just deleted anew.
            None if config["metadata"]["uid"].is_string() => {
                return Err(Refusal::conflict(name, "uid mismatch: no existing object was found"));
            }
            None => {}
        }
        let mut config = config.clone();
        let top = config.as_object_mut().unwrap();
        if self.request.is_status {
            top.retain(|field, _| field == "status");
        } else if self.kind.has_status {
            top.remove("status");
        }
        let empty = json!({"apiVersion": self.kind.api_version, "kind": self.kind.name, "metadata": {}}).into();
        let before = live.clone().unwrap_or(empty);
        let (owner, force, now) = (self.owner("Apply"), self.request.flag("force"), store.now());
        let mut object = managers::apply(&before, &config, &owner, force, &self.kind.api_version, self.schema(), &now)
            .map_err(|conflicts| Refusal::owned(&conflicts))?;
        self.settle(&mut object, live.as_deref())?;
        let (code, stored) = match live {
            Some(_) => (StatusCode::OK, store.update(self.key.clone(), object)),
            None => (StatusCode::CREATED, store.create(self.key.clone(), object)),
        };
        Ok((code, shown(&stored, self.request)))
    }

    /// What of a new state this endpoint lets through: status by itself, everything else without it; never what only the
    /// API server writes.
    fn through_endpoint(&self, live: &Value, mut object: Value) -> Value {
        if self.request.is_status {
            let mut kept = live.clone();
            kept["status"] = object["status"].take();
            return kept;
        }
        for field in ["name", "namespace", "uid", "creationTimestamp", "deletionTimestamp", "managedFields"] {
            object["metadata"][field] = live["metadata"][field].clone();
        }
        drop_nulls(&mut object["metadata"]);
        if self.kind.has_status {
            match live.get("status") {
                Some(status) => object["status"] = status.clone(),
                None => drop(object.as_object_mut().unwrap().remove("status")),
            }
        }
        object
    }

    /// Pruned, defaulted, and refused where the schema says so; what was wrong before may stay.
    fn settle(&self, object: &mut Value, before: Option<&Value>) -> Result<(), Refusal> {
        object["apiVersion"] = json!(self.kind.api_version);
        object["kind"] = json!(self.kind.name);
        let Some(schema) = self.schema() else { return Ok(()) };
        schema::settle(object, schema);
        let faults = |object: &Value| {
            let mut object = object.clone();
            object.as_object_mut().unwrap().remove("metadata");
            schema::faults(&self.kind.name, &object, schema)
        };
        let known = before.map(faults).unwrap_or_default();
        let faults: Vec<String> = faults(object).into_iter().filter(|fault| !known.contains(fault)).collect();
        if faults.is_empty() { Ok(()) } else { Err(Refusal::new(StatusCode::UNPROCESSABLE_ENTITY, faults.join("; "))) }
    }
}

fn drop_nulls(object: &mut Value) {
    object.as_object_mut().unwrap().retain(|_, value| !value.is_null());
}

/// RFC 7386.
fn merge_patch(target: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    let object = target.as_object_mut().unwrap();
    for (field, value) in patch {
        if value.is_null() {
            object.remove(field);
        } else {
            merge_patch(object.entry(field.clone()).or_insert(Value::Null), value);
        }
    }
}
