//! The objects, and every revision that ever was: what watches follow and what tests look back on.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Value, json};
use tokio::time::Instant;
use tranche::api::time::whole_seconds;
use tranche::clock::Clock;

/// Kind (plural), namespace, name.
pub type Key = (String, String, String);

/// One revision.
#[derive(Clone, Debug)]
pub struct Revision {
    pub version: u64,
    pub at: Instant,
    pub key: Key,
    /// ADDED, MODIFIED, DELETED
    pub type_: &'static str,
    pub object: Arc<Value>,
    /// Which client wrote it.
    pub by: &'static str,
}

/// What etcd is to the real one.
pub struct Store {
    objects: BTreeMap<Key, Arc<Value>>,
    log: Vec<Revision>,
    version: u64,
    made: u64,
    pub clock: Clock,
    compacted: u64,
    /// Which client writes now.
    pub writer: &'static str,
}

impl Store {
    pub fn new(clock: Clock) -> Self {
        Self { objects: BTreeMap::new(), log: Vec::new(), version: 1, made: 0, clock, compacted: 0, writer: "person" }
    }

    pub fn version(&self) -> u64 {
        self.version
    }

    /// Forgets the past.
    pub fn compact(&mut self) {
        // One up, so that a list made from now on is not of the past.
        self.version += 1;
        self.compacted = self.version;
    }

    /// Whether what came after that revision may be forgotten already.
    pub fn is_forgotten(&self, version: u64) -> bool {
        version < self.compacted
    }

    pub fn now(&self) -> String {
        json!(whole_seconds(self.clock.now())).as_str().unwrap().to_owned()
    }

    pub fn get(&self, key: &Key) -> Option<Arc<Value>> {
        self.objects.get(key).cloned()
    }

    /// All of a kind, of one namespace or of all, by name.
    pub fn list(&self, plural: &str, namespace: Option<&str>) -> Vec<Arc<Value>> {
        let wanted = |key: &Key| key.0 == plural && namespace.is_none_or(|namespace| key.1 == namespace);
        self.objects.iter().filter(|(key, _)| wanted(key)).map(|(_, object)| object.clone()).collect()
    }

    pub fn log(&self) -> &[Revision] {
        &self.log
    }

    /// The first revision after `from` that a watch shows.
    pub fn next(&self, plural: &str, namespace: Option<&str>, from: u64) -> Option<&Revision> {
        let start = self.log.partition_point(|revision| revision.version <= from);
        let wanted = |key: &Key| key.0 == plural && namespace.is_none_or(|namespace| key.1 == namespace);
        self.log[start..].iter().find(|revision| wanted(&revision.key))
    }

    /// Stores a new object.
    pub fn create(&mut self, key: Key, mut object: Value) -> Arc<Value> {
        self.made += 1;
        let metadata = &mut object["metadata"];
        metadata["name"] = json!(key.2);
        metadata["namespace"] = json!(key.1);
        // Numbered rather than drawn: ranks hang on it, and a run must be the same each time.
        metadata["uid"] = json!(format!("00000000-0000-4000-8000-{:012x}", self.made));
        if metadata.get("creationTimestamp").is_none_or(Value::is_null) {
            metadata["creationTimestamp"] = json!(self.now());
        }
        metadata["generation"] = json!(1);
        self.put(key, object, "ADDED")
    }

    /// Stores another state of an object, or nothing where nothing changed. An object that waits for its last finalizer
    /// goes with it.
    pub fn update(&mut self, key: Key, mut object: Value) -> Arc<Value> {
        let old = self.objects[&key].clone();
        object["metadata"]["generation"] = old["metadata"]["generation"].clone();
        object["metadata"]["resourceVersion"] = old["metadata"]["resourceVersion"].clone();
        if without_times(&object) == without_times(&old) {
            return old;
        }
        if matter(&object) != matter(&old) {
            bump(&mut object);
        }
        let finalizers = object["metadata"]["finalizers"].as_array().is_none_or(Vec::is_empty);
        if object["metadata"]["deletionTimestamp"].is_string() && finalizers {
            return self.put(key, object, "DELETED");
        }
        self.put(key, object, "MODIFIED")
    }

    /// Deletes an object, or marks it where finalizers hold it.
    pub fn delete(&mut self, key: &Key) -> Arc<Value> {
        let mut object = Value::clone(&self.objects[key]);
        if object["metadata"]["finalizers"].as_array().is_none_or(Vec::is_empty) {
            return self.put(key.clone(), object, "DELETED");
        }
        if object["metadata"]["deletionTimestamp"].is_null() {
            object["metadata"]["deletionTimestamp"] = json!(self.now());
            object["metadata"]["deletionGracePeriodSeconds"] = json!(0);
            bump(&mut object);
            return self.put(key.clone(), object, "MODIFIED");
        }
        object.into()
    }

    /// Stores an object as it is, whatever it is.
    pub fn put(&mut self, key: Key, mut object: Value, type_: &'static str) -> Arc<Value> {
        self.version += 1;
        object["metadata"]["resourceVersion"] = json!(self.version.to_string());
        let object = Arc::new(object);
        if type_ == "DELETED" {
            self.objects.remove(&key);
        } else {
            self.objects.insert(key.clone(), object.clone());
        }
        let revision =
            Revision { version: self.version, at: Instant::now(), key, type_, object: object.clone(), by: self.writer };
        self.log.push(revision);
        object
    }
}

fn bump(object: &mut Value) {
    let generation = object["metadata"]["generation"].as_i64().unwrap_or_default();
    object["metadata"]["generation"] = json!(generation + 1);
}

/// Everything that counts for `generation`.
fn matter(object: &Value) -> Value {
    let mut object = object.clone();
    object.as_object_mut().unwrap().retain(|field, _| field != "metadata" && field != "status");
    object
}

fn without_times(object: &Value) -> Value {
    let mut object = object.clone();
    for entry in object["metadata"]["managedFields"].as_array_mut().into_iter().flatten() {
        entry["time"] = Value::Null;
    }
    object
}
