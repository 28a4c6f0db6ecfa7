//! Keeps the receivers: follows the objects, reads their Secrets, writes their status.
//!
//! Every write carries the resourceVersion that it was made from: replicas add their counts to what is there, one after
//! the other, and whoever loses tries again next time. Where nothing changed and nothing came in, nothing is written. A
//! write that was stored though its answer got lost is counted twice: the counts are for people, not for accounting.

use std::pin::pin;
use std::time::Duration;

use futures::{StreamExt as _, stream};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{Patch, PatchParams};
use kube::core::DeserializeGuard;
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Api, Resource as _, ResourceExt as _};
use serde_json::json;
use tokio::time::{Instant, MissedTickBehavior, timeout};

use super::standing::{is_told, status};
use super::tally::Taken;
use super::{Entry, Receivers, State, Unreadable, secrets, unreadable};
use crate::api::RegistryWebhook;
use crate::clock;
use crate::shutdown::Shutdown;

/// Field manager of receivers' status.
const MANAGER: &str = "tranche-webhook";
/// How often is looked for something to do. A look reads memory.
const ROUND: Duration = Duration::from_secs(1);
/// Between two reads of a Secret that is fine.
const READ_PAUSE: Duration = Duration::from_secs(30);
/// And of one that isn't: somebody may be about to put it right.
const FAULT_PAUSE: Duration = Duration::from_secs(10);
/// And after there was no answer.
const RETRY_PAUSE: Duration = Duration::from_secs(5);
/// Between two writes of counts.
const WRITE_PAUSE: Duration = Duration::from_secs(30);
/// Calls at once: a namespace full of receivers must not become a burst.
const CONCURRENT_CALLS: usize = 4;
/// For one write.
const WRITE_TIMEOUT: Duration = Duration::from_secs(5);
/// How long the last deliveries are waited for, at the end; the server's own drain is shorter.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(15);

impl Receivers {
    /// Keeps them until `shutdown`; then waits until the last delivery is answered (`drained`) and writes what is left.
    pub async fn keep(self, shutdown: Shutdown, drained: Shutdown) {
        tokio::select! {
            biased;
            () = shutdown.requested() => {}
            () = self.follow() => {}
            () = self.tend() => {}
        }
        // Bounded, both: whoever stops this process doesn't wait for ever.
        let _ = timeout(DRAIN_TIMEOUT, drained.requested()).await;
        let _ = timeout(2 * WRITE_TIMEOUT, self.write(true)).await;
    }

    async fn follow(&self) {
        let api: Api<DeserializeGuard<RegistryWebhook>> = Api::namespaced(self.0.client.clone(), &self.0.namespace);
        let mut events = pin!(watcher(api, watcher::Config::default()).default_backoff());
        let mut listed = std::collections::BTreeSet::new();
        let mut failing = false;
        while let Some(event) = events.next().await {
            match event {
                Ok(watcher::Event::Init) => listed.clear(),
                Ok(watcher::Event::InitApply(object)) => {
                    listed.insert(object.name_any());
                    self.seen(object);
                }
                Ok(watcher::Event::InitDone) => {
                    let mut state = self.0.state.lock();
                    state.listed = true;
                    let names: Vec<String> = state.entries.keys().cloned().collect();
                    for gone in names.iter().filter(|name| !listed.contains(*name)) {
                        state.remove(gone);
                    }
                    state.unreadable.retain(|name, _| listed.contains(name));
                }
                Ok(watcher::Event::Apply(object)) => self.seen(object),
                Ok(watcher::Event::Delete(object)) => self.gone(&object.name_any()),
                // Once per outage: the backoff goes on by itself.
                Err(error) if !failing => {
                    failing = true;
                    let error = &error as &dyn std::error::Error;
                    tracing::warn!(error, "the watch of registry webhooks failed, trying again");
                    continue;
                }
                Err(_) => continue,
            }
            failing = false;
        }
    }

    fn seen(&self, object: DeserializeGuard<RegistryWebhook>) {
        let name = object.name_any();
        let mut object = match object.0 {
            Ok(object) => object,
            Err(invalid) => {
                tracing::warn!(
                    registry_webhook = name,
                    error = invalid.error,
                    "this registry webhook can't be read; its deliveries are not taken until it can"
                );
                return self.unreadable(name, invalid.metadata, invalid.error);
            }
        };
        if object.meta().deletion_timestamp.is_some() {
            return self.gone(&name);
        }
        object.metadata.managed_fields = None;
        self.0.state.lock().put(name, object);
        self.0.stirred.notify_one();
    }

    fn unreadable(&self, name: String, metadata: ObjectMeta, why: String) {
        let version = |metadata: &ObjectMeta| (metadata.uid.clone(), metadata.generation);
        let state = &self.0.state;
        let known = state.lock().unreadable.get(&name).map(|known| version(&known.metadata));
        if known.is_none_or(|known| known != version(&metadata)) {
            self.gone(&name);
            state.lock().unreadable.insert(name, Unreadable { metadata, why, tell_at: Some(Instant::now()) });
            self.0.stirred.notify_one();
        }
    }

    /// Tells objects that can't be read that they can't.
    async fn tell(&self) {
        let now = Instant::now();
        let due: Vec<(String, ObjectMeta, String)> = {
            let mut state = self.0.state.lock();
            let due = state.unreadable.iter_mut().filter(|(_, known)| known.tell_at.is_some_and(|at| at <= now));
            due.map(|(name, known)| {
                known.tell_at = Some(now + jittered(RETRY_PAUSE));
                (name.clone(), known.metadata.clone(), known.why.clone())
            })
            .collect()
        };
        for (name, metadata, why) in due {
            if unreadable::tell(&self.0.client, &self.0.namespace, &metadata, &why).await
                && let Some(known) = self.0.state.lock().unreadable.get_mut(&name)
            {
                known.tell_at = None;
            }
        }
    }

    fn gone(&self, name: &str) {
        let mut state = self.0.state.lock();
        state.unreadable.remove(name);
        state.remove(name);
    }

    async fn tend(&self) {
        let mut ticks = tokio::time::interval(ROUND);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                () = self.0.stirred.notified() => {}
            }
            self.read().await;
            self.write(false).await;
            self.tell().await;
        }
    }

    /// Reads the Secrets that are due.
    async fn read(&self) {
        let now = Instant::now();
        let due: Vec<(String, String)> = {
            let mut state = self.0.state.lock();
            let due = state.entries.iter_mut().filter(|(_, entry)| entry.read_at <= now);
            due.filter_map(|(name, entry)| {
                let secret = entry.terms.as_ref().ok()?.secret.clone();
                entry.read_at = now + jittered(RETRY_PAUSE);
                Some((name.clone(), secret))
            })
            .collect()
        };
        let reads = due.into_iter().map(|(name, secret)| async move {
            let Some(known) = secrets::read(&self.0.client, &self.0.namespace, &secret).await else { return };
            let pause = match known {
                secrets::Known::Secrets(_) => READ_PAUSE,
                secrets::Known::Fault(_) | secrets::Known::Nothing => FAULT_PAUSE,
            };
            if let Some(entry) = self.0.state.lock().entries.get_mut(&name) {
                // Unless it has become due meanwhile.
                entry.read_at = if entry.read_at <= now { entry.read_at } else { now + jittered(pause) };
            }
            self.learned(&name, &secret, known);
        });
        let reads: Vec<_> = reads.collect();
        stream::iter(reads).buffer_unordered(CONCURRENT_CALLS).collect::<()>().await;
    }

    /// Writes what is due: how a receiver stands at once, its counts now and then, or `all` of it.
    async fn write(&self, all: bool) {
        let now = Instant::now();
        let due: Vec<String> = {
            let state = self.0.state.lock();
            state.entries.iter().filter(|(_, entry)| entry.is_due(all, now)).map(|(name, _)| name.clone()).collect()
        };
        let writes: Vec<_> = due.into_iter().map(|name| self.write_one(name)).collect();
        stream::iter(writes).buffer_unordered(CONCURRENT_CALLS).collect::<()>().await;
    }

    async fn write_one(&self, name: String) {
        let (body, delta) = {
            let mut state = self.0.state.lock();
            let Some(entry) = state.entries.get_mut(&name) else { return };
            let Some(standing) = entry.standing() else { return };
            let now = Instant::now();
            (entry.write_at, entry.tell_at) = (now + jittered(WRITE_PAUSE), now + jittered(RETRY_PAUSE));
            let delta = Taken::from(&entry.tally);
            let object = &entry.object;
            let body = json!({
                "apiVersion": RegistryWebhook::api_version(&()),
                "kind": RegistryWebhook::kind(&()),
                "metadata": { "name": name, "uid": object.uid(), "resourceVersion": object.resource_version() },
                "status": status(object, &standing, delta.delta(), clock::now()),
            });
            (body, delta)
        };
        let api: Api<RegistryWebhook> = Api::namespaced(self.0.client.clone(), &self.0.namespace);
        let params = PatchParams::apply(MANAGER).force();
        let patch = Patch::Apply(&body);
        match timeout(WRITE_TIMEOUT, api.patch_status(&name, &params, &patch)).await {
            Ok(Ok(mut stored)) => {
                delta.keep_written();
                stored.metadata.managed_fields = None;
                self.0.state.lock().wrote(&name, stored);
            }
            Ok(Err(error)) => {
                // Somebody else was first, or it is gone: the watch says so, and the next round goes by that.
                let stale = matches!(&error, kube::Error::Api(status) if status.is_conflict() || status.is_not_found());
                if !stale {
                    let error = &error as &dyn std::error::Error;
                    tracing::warn!(error, registry_webhook = name, "its status could not be written");
                }
            }
            Err(_) => tracing::warn!(registry_webhook = name, "its status could not be written in time"),
        }
    }
}

impl State {
    /// An object as the watch shows it.
    fn put(&mut self, name: String, object: RegistryWebhook) {
        let now = Instant::now();
        self.unreadable.remove(&name);
        let Some(entry) = self.entries.get_mut(&name).filter(|entry| entry.object.uid() == object.uid()) else {
            // Another one of that name, perhaps.
            self.remove(&name);
            self.entries.insert(name, Entry::new(object, now, now + jittered(WRITE_PAUSE)));
            return;
        };
        let path = |object: &RegistryWebhook| object.status.as_ref().and_then(|status| status.path.clone());
        let changed = entry.object.metadata.generation != object.metadata.generation;
        // Another replica knows another secret, which may be the newer one.
        let moved = path(&entry.object) != path(&object);
        if changed || moved {
            entry.read_at = now;
        }
        entry.object = object;
        if changed || moved {
            // What kept a write from succeeding may be over.
            entry.tell_at = now;
        }
        if changed {
            let terms = super::Terms::of(&entry.object.spec);
            let secret = |terms: &Result<super::Terms, String>| terms.as_ref().ok().map(|terms| terms.secret.clone());
            if secret(&terms) != secret(&entry.terms) {
                entry.known = secrets::Known::Nothing;
            }
            entry.terms = terms;
            self.index(&name);
        }
    }

    /// An object as a write of ours left it. The watch will show the same; until then the next write builds on this.
    fn wrote(&mut self, name: &str, stored: RegistryWebhook) {
        if let Some(entry) = self.entries.get_mut(name).filter(|entry| entry.object.uid() == stored.uid())
            && entry.object.metadata.generation == stored.metadata.generation
        {
            entry.object = stored;
        }
    }
}

impl Entry {
    fn is_due(&self, all: bool, now: Instant) -> bool {
        let Some(standing) = self.standing() else { return false };
        let told = is_told(&self.object, &standing);
        let counts = !self.tally.is_empty();
        if all { counts } else { !told && self.tell_at <= now || counts && self.write_at <= now }
    }
}

/// `pause`, a fifth more or less: replicas that started together shall not go on together.
fn jittered(pause: Duration) -> Duration {
    pause.mul_f64(rand::random_range(0.8..1.2))
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use kube::client::Body;
    use serde_json::Value;

    use super::*;

    /// An API server that stores nothing and shows what it was asked to.
    fn receivers() -> (Receivers, tokio::sync::mpsc::UnboundedReceiver<(String, Value)>) {
        let (sender, asked) = tokio::sync::mpsc::unbounded_channel();
        let service = tower::service_fn(move |request: http::Request<Body>| {
            let sender = sender.clone();
            async move {
                let (head, body) = request.into_parts();
                let bytes = body.collect_bytes().await.expect("a body");
                let body: Value = serde_json::from_slice(&bytes).unwrap_or_default();
                sender.send((head.uri.path().to_owned(), body.clone())).expect("somebody looks");
                let answer = serde_json::to_vec(&body).expect("JSON");
                Ok::<_, Infallible>(http::Response::new(Body::from(answer)))
            }
        });
        (Receivers::new(kube::Client::new(service, "plant"), "plant"), asked)
    }

    fn object(name: &str, spec: &Value) -> DeserializeGuard<RegistryWebhook> {
        serde_json::from_value(json!({
            "apiVersion": "tranche.dev/v1alpha1", "kind": "RegistryWebhook", "spec": spec,
            "metadata": {"name": name, "namespace": "plant", "uid": name, "generation": 1},
        }))
        .expect("a guard")
    }

    #[tokio::test]
    async fn one_bad_object_hides_no_other_and_is_told_once() {
        let (receivers, mut asked) = receivers();
        let fine = json!({"secretRef": {"name": "hook"}});
        receivers.seen(object("bad", &fine));
        receivers.seen(object("good", &fine));
        let token = "a-token-of-some-length".to_owned();
        for name in ["bad", "good"] {
            let secret = crate::registry::signature::Secret::new(&token).expect("a secret");
            receivers.learned(name, "hook", secrets::Known::Secrets(secret.into()));
        }
        assert_eq!(receivers.count(), (2, 2));
        let path = |name| crate::registry::signature::Secret::new(&token).expect("a secret").path_token("plant", name);
        assert!(receivers.find(&path("bad")).is_some());

        let bad = || object("bad", &json!({"secretRef": {"name": "hook"}, "type": "Registry of tomorrow"}));
        receivers.seen(bad());
        assert!(receivers.find(&path("bad")).is_none(), "nobody knows what it wants now");
        assert!(receivers.find(&path("good")).is_some());
        receivers.tell().await;
        let (at, body) = asked.recv().await.expect("a write");
        assert_eq!(at, "/apis/tranche.dev/v1alpha1/namespaces/plant/registrywebhooks/bad/status");
        assert_eq!(body["status"]["conditions"][0]["reason"], "Unreadable");
        assert_eq!(body["status"].as_object().map(serde_json::Map::len), Some(1), "the rest is left alone");
        receivers.seen(bad());
        receivers.tell().await;
        assert!(asked.try_recv().is_err(), "told once");

        receivers.seen(object("bad", &fine));
        assert_eq!(receivers.count().1, 2);
    }
}
