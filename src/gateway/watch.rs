//! Feeds the cache from two watches, and knows whether they are alive.
//!
//! A quiet watch and a dead one look the same from the outside: no event. So each watch is asked to end after half of
//! `staleAfter`, and every sign of life on the wire counts, also those that kube keeps to itself: an answered
//! re-establishment, a bookmark.
//!
//! Rollouts are listed before devices. Whatever rollout a listed device names had thus either been listed, or was
//! already gone with its devices rewritten, or is newer than the list and comes with the watch.

use std::collections::HashSet;
use std::fmt::Debug;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures::{StreamExt as _, pin_mut};
use http_body_util::BodyExt as _;
use kube::api::PartialObjectMeta;
use kube::client::Body;
use kube::core::DeserializeGuard;
use kube::runtime::WatchStreamExt as _;
use kube::runtime::watcher::{self, Event};
use kube::{Api, Client, Resource, ResourceExt as _};
use serde::de::DeserializeOwned;
use tokio::time::Instant;

use super::Gateway;
use crate::api::{Device, ImageRollout};

/// An API server that accepts a request and doesn't begin to answer for this long counts as gone.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(30);
/// Names are asked for rarely: after a start, and when a device outruns the rollout watch.
const CONCURRENT_LOOKUPS: usize = 8;
/// How soon names are asked for again that could not be settled.
const LOOKUP_RETRY: Duration = Duration::from_secs(2);
/// How often forgotten rollouts are swept out.
const PRUNE_INTERVAL: Duration = Duration::from_secs(10 * 60);

/// When a watch was last known to be alive.
#[derive(Debug)]
pub struct Liveness {
    base: Instant,
    /// Milliseconds since `base`, plus one; 0 for never.
    at: AtomicU64,
}

impl Liveness {
    /// Never alive so far.
    #[must_use]
    pub fn new() -> Self {
        Self { base: Instant::now(), at: AtomicU64::new(0) }
    }

    /// It is alive now.
    pub fn note(&self) {
        self.at.store(self.millis() + 1, Ordering::Relaxed);
    }

    /// Whether it ever was alive.
    #[must_use]
    pub fn ever(&self) -> bool {
        self.at.load(Ordering::Relaxed) > 0
    }

    /// Whether it was alive within the last `window`.
    #[must_use]
    pub fn within(&self, window: Duration) -> bool {
        let at = self.at.load(Ordering::Relaxed);
        at > 0 && u128::from((self.millis() + 1).saturating_sub(at)) <= window.as_millis()
    }

    fn millis(&self) -> u64 {
        u64::try_from(self.base.elapsed().as_millis()).unwrap_or(u64::MAX - 1)
    }
}

impl Default for Liveness {
    fn default() -> Self {
        Self::new()
    }
}

/// `client`, telling `alive` of every sign of life on its watches.
#[must_use]
pub fn tapped(client: Client, alive: Arc<Liveness>) -> Client {
    let namespace = client.default_namespace().to_owned();
    let service = tower::service_fn(move |request: http::Request<Body>| {
        let (client, alive) = (client.clone(), alive.clone());
        async move {
            let watching =
                request.uri().query().is_some_and(|query| query.split('&').any(|pair| pair.starts_with("watch=")));
            let response = tokio::time::timeout(RESPONSE_TIMEOUT, client.send(request)).await??;
            // A refusal is no sign of life, and neither is its body.
            let lives = watching && response.status().is_success();
            if lives {
                alive.note();
            }
            let body = |body: Body| {
                body.map_frame(move |frame| {
                    if lives {
                        alive.note();
                    }
                    frame
                })
            };
            Ok::<_, Box<dyn std::error::Error + Send + Sync>>(response.map(body))
        }
    });
    Client::new(service, namespace)
}

/// Watches rollouts for ever.
pub async fn rollouts(gateway: Arc<Gateway>) {
    let mut listed = HashSet::new();
    let rollouts = gateway.cache.rollouts();
    let apply = |object: DeserializeGuard<ImageRollout>| match object.0 {
        Ok(rollout) => rollouts.apply(&rollout),
        Err(invalid) => {
            let name = invalid.metadata.name.as_deref().unwrap_or_default();
            tracing::warn!(rollout = name, error = %invalid.error, "this rollout can't be read: its devices stay as they are");
            rollouts.apply_unreadable(name);
        }
    };
    follow(&gateway, gateway.rollouts_alive.clone(), |event: Event<DeserializeGuard<ImageRollout>>| match event {
        Event::Init => listed.clear(),
        Event::InitApply(object) => {
            listed.insert(object.name_any());
            apply(object);
        }
        Event::InitDone => {
            rollouts.retain(&listed, Instant::now());
            listed = HashSet::new();
            gateway.progress.send_modify(|progress| progress.rollouts_listed = true);
        }
        Event::Apply(object) => apply(object),
        Event::Delete(object) => rollouts.delete(&object.name_any(), Instant::now()),
    })
    .await;
}

/// Watches devices for ever, once rollouts are listed.
pub async fn devices(gateway: Arc<Gateway>) {
    if gateway.progress.subscribe().wait_for(|progress| progress.rollouts_listed).await.is_err() {
        return;
    }
    let cache = &gateway.cache;
    let mut listed = Vec::new();
    let warn = |name: Option<&str>, error: &str| {
        tracing::warn!(device = name.unwrap_or_default(), error, "this device can't be read: it stays as it was");
    };
    follow(&gateway, gateway.devices_alive.clone(), |event: Event<DeserializeGuard<Device>>| {
        match event {
            Event::Init => listed.clear(),
            Event::InitApply(object) => match object.0 {
                Ok(device) => listed.push(Arc::new(cache.project(&device))),
                Err(invalid) => {
                    warn(invalid.metadata.name.as_deref(), &invalid.error);
                    listed.extend(invalid.metadata.name.and_then(|name| cache.by_name(&name)));
                }
            },
            Event::InitDone => {
                cache.replace(std::mem::take(&mut listed));
                gateway.progress.send_modify(|progress| progress.devices_listed = true);
            }
            Event::Apply(object) => match object.0 {
                Ok(device) => cache.apply(&device),
                Err(invalid) => warn(invalid.metadata.name.as_deref(), &invalid.error),
            },
            Event::Delete(object) => cache.remove(&object.name_any()),
        }
        gateway.metrics.gateway.devices.set(i64::try_from(cache.len()).unwrap_or(i64::MAX));
    })
    .await;
}

async fn follow<K>(gateway: &Gateway, alive: Arc<Liveness>, mut on: impl FnMut(Event<DeserializeGuard<K>>))
where
    K: Resource<DynamicType = (), Scope = kube::core::NamespaceResourceScope>,
    K: Clone + Debug + DeserializeOwned + Send + 'static,
{
    let api: Api<DeserializeGuard<K>> =
        Api::namespaced(tapped(gateway.client.clone(), alive), &gateway.config.namespace);
    // Whole seconds, and never 0, which would mean "no end".
    let timeout = u32::try_from(gateway.config.stale_after.as_secs() / 2).unwrap_or(u32::MAX).clamp(1, 290);
    let stream = watcher::watcher(api, watcher::Config::default().timeout(timeout)).default_backoff();
    pin_mut!(stream);
    while let Some(event) = stream.next().await {
        match event {
            Ok(event) => on(event),
            Err(error) => tracing::warn!(kind = %K::kind(&()), %error, "the watch broke off, trying again"),
        }
    }
}

/// Asks the API server for names that devices carry and no watch has shown, for ever.
pub async fn lookups(gateway: Arc<Gateway>) {
    if gateway.progress.subscribe().wait_for(|progress| progress.devices_listed).await.is_err() {
        return;
    }
    let api: Api<PartialObjectMeta<ImageRollout>> = Api::namespaced(gateway.client.clone(), &gateway.config.namespace);
    let rollouts = gateway.cache.rollouts();
    loop {
        let settled = futures::stream::iter(rollouts.unknown())
            .map(|name| {
                let api = api.clone();
                async move {
                    match tokio::time::timeout(RESPONSE_TIMEOUT, api.get_metadata_opt(&name)).await {
                        Ok(Ok(None)) => {
                            rollouts.gone(&name);
                            true
                        }
                        // The watch will show it.
                        Ok(Ok(Some(_))) => false,
                        Ok(Err(error)) => {
                            tracing::warn!(rollout = %name, %error, "can't tell whether this rollout exists: its devices stay as they are");
                            false
                        }
                        Err(_) => false,
                    }
                }
            })
            .buffer_unordered(CONCURRENT_LOOKUPS)
            .fold(true, |all, settled| async move { all && settled })
            .await;
        if settled {
            gateway.progress.send_if_modified(|progress| !std::mem::replace(&mut progress.names_settled, true));
        }
        let pause = if settled { PRUNE_INTERVAL } else { LOOKUP_RETRY };
        // A name that turns up is as a rule shown by the other watch in the same moment.
        let turned_up = async {
            rollouts.turned_up().await;
            tokio::time::sleep(Duration::from_millis(200)).await;
        };
        let _ = tokio::time::timeout(pause, turned_up).await;
        rollouts.prune(Instant::now());
    }
}
