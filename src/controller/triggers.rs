//! Whose turn it is when a rollout or a policy changes: the policy of that rollout, the rollouts of that policy.
//!
//! They are told by the stream that fills the cache, once the cache has the change. Were they told by a watch of their
//! own, a pass could begin before the cache knows what it was begun for, find nothing to do, and not come back before
//! the resync.

use std::fmt::Debug;
use std::sync::Arc;

use futures::TryStreamExt as _;
use kube::core::DeserializeGuard;
use kube::runtime::reflector::{self, ObjectRef};
use kube::runtime::watcher::Event;
use kube::runtime::{Controller, WatchStreamExt as _, watcher};
use kube::{Api, ResourceExt as _};
use serde::de::DeserializeOwned;

use crate::api::{ImageRollout, ImageUpdatePolicy, POLICY_LABEL};

use super::context::Context;
use super::watcher_config;

/// A controller of one kind, and its watch. `changed` is told of everything that the watch brings, after the
/// controller's own cache.
pub fn controller<K>(
    api: Api<DeserializeGuard<K>>,
    changed: impl Fn(&Event<DeserializeGuard<K>>) + Send + 'static,
) -> Controller<DeserializeGuard<K>>
where
    K: kube::Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
{
    let (store, writer) = reflector::store();
    let stream = reflector::reflector(writer, watcher(api, watcher_config()));
    Controller::for_stream(stream.inspect_ok(changed).applied_objects(), store)
}

/// The policy of a rollout that changed is looked at.
pub fn rollout_changed(context: &Arc<Context>, event: &Event<DeserializeGuard<ImageRollout>>) {
    match event {
        // A list is in the cache once it is complete; what is no longer in it went unseen.
        Event::Init | Event::InitApply(_) => {}
        Event::InitDone => context.look_at_every_policy(),
        Event::Apply(rollout) | Event::Delete(rollout) => {
            let policy = match &rollout.0 {
                Ok(rollout) => Some(&rollout.spec.policy_ref.name),
                Err(_) => rollout.labels().get(POLICY_LABEL),
            };
            if let Some(policy) = policy {
                context.look_at_policy(ObjectRef::new(policy).within(&rollout.namespace().unwrap_or_default()));
            }
        }
    }
}

/// The rollouts of a policy that changed are looked at.
pub fn policy_changed(context: &Arc<Context>, event: &Event<DeserializeGuard<ImageUpdatePolicy>>) {
    let rollouts = match event {
        Event::Init | Event::InitApply(_) => Vec::new(),
        Event::InitDone => context.every_rollout(),
        Event::Apply(policy) | Event::Delete(policy) => {
            let name = policy.name_any();
            context.rollouts_where(policy.namespace().as_deref(), |rollout| rollout.spec.policy_ref.name == name)
        }
    };
    for rollout in rollouts {
        context.trigger(rollout);
    }
}
