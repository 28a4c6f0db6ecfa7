//! The policies, kept by a watch and compiled for intake: a delivery reads memory only.
//!
//! Decides nothing. Keeps of each policy what intake asks for and drops the rest; a policy that doesn't deserialize is
//! kept as one that can't be read, so that one bad object never hides the others.

use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::Arc;

use futures::StreamExt as _;
use kube::core::DeserializeGuard;
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Api, Client, Resource as _, ResourceExt as _};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::api::ImageUpdatePolicy;
use crate::registry::claim::{Claim, PolicyKey};
use crate::shutdown::Shutdown;

/// One policy, as far as deliveries ask for it.
#[derive(Clone, Debug)]
pub struct Policy {
    /// What it makes of images.
    pub claim: Claim,
    /// Its labels: a receiver may speak to some policies only.
    pub labels: BTreeMap<String, String>,
}

/// Every policy, in the order in which they are asked.
pub type Claims = BTreeMap<PolicyKey, Arc<Policy>>;

/// The policies as last seen. Cheap to clone; clones see the same.
#[derive(Clone, Debug)]
pub struct PolicyCache {
    /// `None` until the first list is complete: half the policies would make half the rollouts.
    claims: watch::Receiver<Option<Arc<Claims>>>,
}

impl PolicyCache {
    /// Starts watching the policies of one namespace, or of all. The watch goes on, with backoff, until `shutdown`; the
    /// task ends earlier only by a panic, which its handle tells.
    pub fn start(client: Client, namespace: Option<&str>, shutdown: Shutdown) -> (Self, JoinHandle<()>) {
        let api = match namespace {
            Some(namespace) => Api::namespaced(client, namespace),
            None => Api::all(client),
        };
        let (sender, claims) = watch::channel(None);
        let task = tokio::spawn(async move {
            tokio::select! {
                biased;
                () = shutdown.wait() => {}
                () = follow(api, &sender) => {}
            }
        });
        (Self { claims }, task)
    }

    /// Whether the first list is complete.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.claims.borrow().is_some()
    }

    /// The policies as they are now; `None` before the first list is complete.
    #[must_use]
    pub fn claims(&self) -> Option<Arc<Claims>> {
        self.claims.borrow().clone()
    }

    /// Waits until the policies are as `wanted`. Ends with `false` when the watch has ended without that.
    pub async fn wait_for(&self, wanted: impl Fn(&Claims) -> bool) -> bool {
        let mut claims = self.claims.clone();
        claims.wait_for(|claims| claims.as_ref().is_some_and(|claims| wanted(claims))).await.is_ok()
    }
}

async fn follow(api: Api<DeserializeGuard<ImageUpdatePolicy>>, sender: &watch::Sender<Option<Arc<Claims>>>) {
    let mut events = pin!(watcher(api, watcher::Config::default()).default_backoff());
    let mut listed = Claims::new();
    let mut failing = false;
    while let Some(event) = events.next().await {
        match event {
            Ok(watcher::Event::Init) => listed.clear(),
            Ok(watcher::Event::InitApply(policy)) => put(&mut listed, &policy),
            Ok(watcher::Event::InitDone) => {
                let complete = Arc::new(std::mem::take(&mut listed));
                tracing::debug!(policies = complete.len(), "policies listed");
                sender.send_replace(Some(complete));
            }
            Ok(watcher::Event::Apply(policy)) => sender.send_modify(|claims| put(current(claims), &policy)),
            Ok(watcher::Event::Delete(policy)) => sender.send_modify(|claims| {
                current(claims).remove(&key(&policy));
            }),
            // Once per outage: the backoff goes on by itself.
            Err(error) if !failing => {
                failing = true;
                tracing::warn!(error = &error as &dyn std::error::Error, "the watch of policies failed, trying again");
                continue;
            }
            Err(_) => continue,
        }
        failing = false;
    }
}

fn current(claims: &mut Option<Arc<Claims>>) -> &mut Claims {
    Arc::make_mut(claims.get_or_insert_default())
}

fn put(claims: &mut Claims, policy: &DeserializeGuard<ImageUpdatePolicy>) {
    let key = key(policy);
    // A policy on its way out makes no rollouts: they would go with it.
    if policy.meta().deletion_timestamp.is_some() {
        claims.remove(&key);
        return;
    }
    let claim = match &policy.0 {
        Ok(policy) => Claim::of(policy),
        Err(invalid) => Claim::unreadable(key.clone(), &invalid.error),
    };
    let labels = policy.meta().labels.clone().unwrap_or_default();
    claims.insert(key, Arc::new(Policy { claim, labels }));
}

fn key(policy: &DeserializeGuard<ImageUpdatePolicy>) -> PolicyKey {
    PolicyKey { namespace: policy.namespace().unwrap_or_default(), name: policy.name_any() }
}
