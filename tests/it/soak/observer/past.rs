//! The past, object by object.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;
use tokio::time::Instant;

use crate::support::apiserver::store::Revision;

/// Every revision of every object of one kind, by name.
pub struct Past<'a>(BTreeMap<&'a str, Vec<&'a Revision>>);

impl<'a> Past<'a> {
    pub fn of(log: &'a [Revision], plural: &str) -> Self {
        let mut objects: BTreeMap<&str, Vec<&Revision>> = BTreeMap::new();
        for revision in log.iter().filter(|revision| revision.key.0 == plural) {
            objects.entry(&revision.key.2).or_default().push(revision);
        }
        Self(objects)
    }

    pub fn names(&self) -> impl Iterator<Item = &'a str> {
        self.0.keys().copied()
    }

    pub fn revisions(&self, name: &str) -> &[&'a Revision] {
        self.0.get(name).map(Vec::as_slice).unwrap_or_default()
    }

    /// As it was when the store had come to that version.
    pub fn as_of(&self, name: &str, version: u64) -> Option<&'a Arc<Value>> {
        let revisions = self.revisions(name);
        let index = revisions.partition_point(|revision| revision.version <= version).checked_sub(1)?;
        (revisions[index].type_ != "DELETED").then_some(&revisions[index].object)
    }

    /// Every state in which it was at some moment of that time; `None` where it was not there.
    pub fn between(&self, name: &str, from: Instant, until: Instant) -> Vec<Option<&'a Arc<Value>>> {
        let revisions = self.revisions(name);
        let first = revisions.partition_point(|revision| revision.at <= from).checked_sub(1);
        let last = revisions.partition_point(|revision| revision.at <= until);
        let state = |revision: &&'a Revision| (revision.type_ != "DELETED").then_some(&revision.object);
        let mut states: Vec<_> = if first.is_none() { vec![None] } else { Vec::new() };
        states.extend(revisions[first.unwrap_or(0)..last].iter().map(state));
        states
    }
}
