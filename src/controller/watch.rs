//! The watches of devices and presence, and the flush that has rollouts looked at when their devices change.

use std::sync::Arc;

use futures::{Stream, StreamExt as _, TryStreamExt as _};
use kube::core::DeserializeGuard;
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Api, ResourceExt as _};
use tokio::time::MissedTickBehavior;

use crate::api::rollout::Phase;
use crate::api::{Device, DevicePresence, ImageRollout};
use crate::plan::observed::Age;
use crate::shutdown::Shutdown;

use super::context::{Context, rollout_ref};
use super::error::Error;
use super::{FLUSH, api, presence, watcher_config};

/// How often flips of Connected are looked for.
const PRESENCE_ROUND: std::time::Duration = std::time::Duration::from_secs(5);

/// Starts them; the future ends with the first that fails, or at shutdown.
pub fn start(context: Arc<Context>, shutdown: Shutdown) -> impl Future<Output = Result<(), Error>> {
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(devices(Arc::clone(&context), shutdown.clone()));
    tasks.spawn(presences(Arc::clone(&context), shutdown.clone()));
    tasks.spawn(flush(Arc::clone(&context), shutdown.clone()));
    tasks.spawn(connected(context, shutdown));
    async move {
        while let Some(ended) = tasks.join_next().await {
            ended.map_err(|error| Error::Background(error.to_string()))?;
        }
        Ok(())
    }
}

/// The stream of one kind, restarted with growing pauses whenever it breaks.
fn stream<K>(api: Api<DeserializeGuard<K>>) -> impl Stream<Item = watcher::Event<DeserializeGuard<K>>>
where
    K: kube::Resource + Clone + std::fmt::Debug + serde::de::DeserializeOwned + Send + 'static,
    K::DynamicType: Default,
{
    watcher(api, watcher_config())
        .default_backoff()
        .inspect_err(
            |error| tracing::warn!(%error, kind = %K::kind(&K::DynamicType::default()), "watch broke; set up again"),
        )
        .filter_map(|event| std::future::ready(event.ok()))
}

async fn devices(context: Arc<Context>, shutdown: Shutdown) {
    let index = &context.devices;
    let apply = |guard: DeserializeGuard<Device>| match guard.0 {
        Ok(device) => index.apply(&device),
        Err(invalid) => {
            let name = invalid.metadata.name.as_deref().unwrap_or_default();
            tracing::warn!(
                device = name,
                error = invalid.error,
                "this device can't be read and is left out until it can"
            );
            // What was known of it is no longer true, and acting on it would be refused for ever.
            index.remove(invalid.metadata.namespace.as_deref().unwrap_or_default(), name);
        }
    };
    stream::<Device>(api(&context.client, context.namespace.as_deref()))
        .take_until(shutdown.wait())
        .for_each(|event| {
            match event {
                watcher::Event::Init => index.list_begins(),
                watcher::Event::InitDone => index.list_ends(),
                watcher::Event::InitApply(device) | watcher::Event::Apply(device) => apply(device),
                watcher::Event::Delete(device) => {
                    index.remove(&device.namespace().unwrap_or_default(), &device.name_any());
                }
            }
            std::future::ready(())
        })
        .await;
}

async fn presences(context: Arc<Context>, shutdown: Shutdown) {
    let index = &context.devices;
    stream::<DevicePresence>(api(&context.client, context.namespace.as_deref()))
        .take_until(shutdown.wait())
        .for_each(|event| {
            match event {
                watcher::Event::Init => index.presence_list_begins(),
                watcher::Event::InitDone => index.presence_list_ends(),
                watcher::Event::InitApply(guard) | watcher::Event::Apply(guard) => {
                    if let Ok(presence) = &guard.0 {
                        index.apply_presence(presence);
                    }
                }
                watcher::Event::Delete(presence) => {
                    index.remove_presence(&presence.namespace().unwrap_or_default(), &presence.name_any());
                }
            }
            std::future::ready(())
        })
        .await;
}

/// Has the rollouts of changed repositories looked at.
async fn flush(context: Arc<Context>, shutdown: Shutdown) {
    let mut ticks = tokio::time::interval(FLUSH);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = shutdown.requested() => return,
            _ = ticks.tick() => {}
        }
        let (marks, stirred) = context.devices.take_marks();
        let mut namespaces: Vec<&String> = marks.iter().map(|(namespace, _)| namespace).chain(&stirred).collect();
        namespaces.sort();
        namespaces.dedup();
        for namespace in namespaces {
            let all = context.rollouts(Some(namespace));
            let wanted = all.iter().filter(|rollout| {
                if !concerned(rollout, &all) {
                    return false;
                }
                let repository = crate::api::image::canonical_repository(&rollout.spec.image.repository)
                    .unwrap_or_else(|_| rollout.spec.image.repository.clone());
                stirred.contains(namespace) || marks.contains(&(namespace.clone(), repository))
            });
            for rollout in wanted {
                context.trigger(rollout_ref(rollout));
            }
        }
    }
}

/// Whether what devices do can matter to a rollout: it runs, it is going away, a person has named devices in it, or it
/// is the newest that completed, which latecomers get.
fn concerned(rollout: &ImageRollout, all: &[ImageRollout]) -> bool {
    let phase = |rollout: &ImageRollout| rollout.status.as_ref().map(|status| status.phase).unwrap_or_default();
    if rollout.metadata.deletion_timestamp.is_some() || !rollout.spec.roll_back_devices.is_empty() {
        return true;
    }
    match phase(rollout) {
        Phase::RolledBack | Phase::Cancelled | Phase::Superseded | Phase::Failed => false,
        Phase::Completed => !all.iter().any(|other| {
            phase(other) == Phase::Completed
                && other.spec.policy_ref == rollout.spec.policy_ref
                && other.spec.image.repository == rollout.spec.image.repository
                && Age::of(other) > Age::of(rollout)
        }),
        Phase::Pending
        | Phase::AwaitingApproval
        | Phase::Progressing
        | Phase::Soaking
        | Phase::Paused
        | Phase::Halted
        | Phase::RollingBack => true,
    }
}

/// Keeps the condition Connected.
async fn connected(context: Arc<Context>, shutdown: Shutdown) {
    let mut ticks = tokio::time::interval(PRESENCE_ROUND);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = shutdown.requested() => return,
            _ = ticks.tick() => {}
        }
        if context.devices.is_complete() {
            context.metrics.devices.set(context.devices.count());
            presence::round(&context, context.clock.now()).await;
        }
    }
}
