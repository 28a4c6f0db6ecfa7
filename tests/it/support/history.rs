//! Every revision of a namespace's devices and rollouts, as a real API server's watches tell of it.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::StreamExt as _;
use kube::api::{ApiResource, DynamicObject, ListParams, WatchEvent, WatchParams};
use kube::{Api, Client, ResourceExt as _};
use parking_lot::Mutex;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tranche::api::{Device, ImageRollout};

use super::apiserver::store::Revision;
use super::wait::until;

pub struct History {
    kinds: Vec<(String, Api<DynamicObject>)>,
    log: Arc<Mutex<Vec<Revision>>>,
    _watches: JoinSet<()>,
}

impl History {
    /// From now on.
    pub async fn follow(client: &Client, namespace: &str) -> Self {
        let log: Arc<Mutex<Vec<Revision>>> = Arc::default();
        let mut watches = JoinSet::new();
        let mut kinds = Vec::new();
        for kind in [ApiResource::erase::<Device>(&()), ApiResource::erase::<ImageRollout>(&())] {
            let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), namespace, &kind);
            let list = api.list(&ListParams::default()).await.unwrap();
            log.lock().extend(list.items.iter().map(|object| revision(&kind.plural, "ADDED", object)));
            let since = list.metadata.resource_version.unwrap();
            watches.spawn(watch(api.clone(), kind.plural.clone(), since, Arc::clone(&log)));
            kinds.push((kind.plural, api));
        }
        Self { kinds, log, _watches: watches }
    }

    /// Up to now, in the order in which the API server stored it.
    pub async fn log(&self) -> Vec<Revision> {
        for (plural, api) in &self.kinds {
            until(&format!("the watch of {plural} to have seen everything"), async || {
                let list = api.list(&ListParams::default()).await.map_err(|error| error.to_string())?;
                let there: BTreeMap<String, u64> =
                    list.items.iter().map(|object| (object.name_any(), version(object))).collect();
                let mut seen = BTreeMap::new();
                for revision in self.log.lock().iter().filter(|revision| revision.key.0 == *plural) {
                    let name = revision.key.2.clone();
                    match revision.type_ {
                        "DELETED" => seen.remove(&name),
                        _ => seen.insert(name, revision.version),
                    };
                }
                if seen == there { Ok(()) } else { Err(format!("{seen:?} instead of {there:?}")) }
            })
            .await;
        }
        let mut log = self.log.lock().clone();
        // Of all kinds together: revisions are counted by one etcd.
        log.sort_by_key(|revision| revision.version);
        log
    }
}

async fn watch(api: Api<DynamicObject>, plural: String, since: String, log: Arc<Mutex<Vec<Revision>>>) {
    let events = api.watch(&WatchParams::default().timeout(290), &since).await.unwrap();
    let mut events = std::pin::pin!(events);
    while let Some(event) = events.next().await.transpose().unwrap_or_default() {
        let revision = match event {
            WatchEvent::Added(object) => revision(&plural, "ADDED", &object),
            WatchEvent::Modified(object) => revision(&plural, "MODIFIED", &object),
            WatchEvent::Deleted(object) => revision(&plural, "DELETED", &object),
            WatchEvent::Bookmark(_) => continue,
            WatchEvent::Error(error) => panic!("the watch of {plural}: {error:?}"),
        };
        log.lock().push(revision);
    }
}

fn revision(plural: &str, type_: &'static str, object: &DynamicObject) -> Revision {
    Revision {
        version: version(object),
        at: Instant::now(),
        key: (plural.to_owned(), object.namespace().unwrap_or_default(), object.name_any()),
        type_,
        object: Arc::new(serde_json::to_value(object).unwrap()),
        // A watch does not tell.
        by: "",
    }
}

fn version(object: &DynamicObject) -> u64 {
    object.resource_version().and_then(|version| version.parse().ok()).unwrap()
}
