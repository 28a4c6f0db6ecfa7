//! The controller: watches, and for each rollout and policy one pass at a time: gather, validate, plan, apply, status.
//!
//! | step | file | talks to the API server |
//! | --- | --- | --- |
//! | gather | `gather.rs` | no: reads caches |
//! | validate | `gather.rs`, through [`crate::plan::ValidatedPolicy`] | no |
//! | plan | [`crate::plan`] | no |
//! | status | `status.rs` | yes: first, as the lock and the record |
//! | apply | `apply.rs` | yes: devices, only under a stored status |
//!
//! Registries are asked beside the passes, by `resolve.rs` (what a tag stands for) and `poll.rs` (pushes that nobody told of).
//!
//! Devices are not kept as objects but as projections ([`devices::DeviceIndex`]); changes of theirs mark the rollouts of
//! their repositories, and those are reconciled at most every [`FLUSH`]. Safety rests on resourceVersion preconditions,
//! not on there being one controller.

pub mod apply;
pub mod backoff;
pub mod context;
pub mod devices;
pub mod error;
pub mod events;
pub mod gather;
pub mod metrics;
pub mod policy;
pub mod poll;
pub mod presence;
pub mod resolve;
pub mod rollout;
pub mod status;
pub mod unreadable;
pub mod watch;

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use kube::core::DeserializeGuard;
use kube::runtime::controller::Config;
use kube::runtime::reflector::ObjectRef;
use kube::runtime::{Controller, watcher};
use kube::{Api, Client, Resource as _, ResourceExt as _};

use crate::api::{ImageRollout, ImageUpdatePolicy, POLICY_LABEL};
use crate::shutdown::Shutdown;

pub use context::Context;
pub use error::Error;

/// Objects of one kind that are reconciled at the same time. Passes are short; this bounds what a storm can do.
const CONCURRENCY: u16 = 8;
/// Changes of devices are gathered for so long before their rollouts are looked at: a thousand reports in a second
/// are ten passes, not a thousand. Not a debounce: a steady stream of changes never delays a pass further.
pub const FLUSH: Duration = Duration::from_millis(100);
/// A reconcile that takes longer is given up and tried again: it is idempotent.
pub const RECONCILE_TIMEOUT: Duration = Duration::from_secs(60);
/// Everything is looked at again after about this long, in case an event was lost.
pub const RESYNC: Duration = Duration::from_secs(300);

/// Runs until `shutdown`, finishing the passes in hand.
///
/// # Errors
/// When the watches can't be set up. Failures of single objects are retried and never end it.
pub async fn run(context: Arc<Context>, shutdown: Shutdown) -> Result<(), Error> {
    let client = context.client.clone();
    let scope = context.namespace.clone();
    let policies: Api<DeserializeGuard<ImageUpdatePolicy>> = api(&client, scope.as_deref());
    let rollouts: Api<DeserializeGuard<ImageRollout>> = api(&client, scope.as_deref());

    let background = watch::start(Arc::clone(&context), shutdown.clone());
    // Without all of the devices a batch would look complete before it is.
    tokio::select! {
        () = context.devices.wait_until_complete() => {}
        () = shutdown.requested() => return Ok(()),
    }

    let rollout_controller = Controller::new(rollouts.clone(), watcher_config());
    let policy_controller = Controller::new(policies.clone(), watcher_config());
    context.set_stores(rollout_controller.store(), policy_controller.store());

    let by_policy = Arc::clone(&context);
    let rollout_runs = rollout_controller
        .with_config(Config::default().concurrency(CONCURRENCY))
        .watches(policies, watcher_config(), move |policy| {
            let name = policy.name_any();
            by_policy.rollouts_where(policy.namespace().as_deref(), |rollout| rollout.spec.policy_ref.name == name)
        })
        .reconcile_on(context.take_trigger())
        .graceful_shutdown_on(shutdown.clone().wait())
        .run(rollout::reconcile, rollout::on_error, Arc::clone(&context))
        .for_each(|result| {
            rollout::finished(&context, result);
            std::future::ready(())
        });
    let by_rollout = Arc::clone(&context);
    let policy_runs = policy_controller
        .with_config(Config::default().concurrency(CONCURRENCY))
        .watches(rollouts, watcher_config(), move |rollout| {
            let label = rollout.labels().get(POLICY_LABEL).cloned();
            let name = match &rollout.0 {
                Ok(rollout) => Some(rollout.spec.policy_ref.name.clone()),
                Err(_) => label,
            };
            let namespace = rollout.namespace().unwrap_or_default();
            let policy = name.map(|name| ObjectRef::new(&name).within(&namespace))?;
            by_rollout.ahead.shown(policy.clone(), rollout.meta());
            Some(policy)
        })
        .reconcile_on(context.take_policy_trigger())
        .graceful_shutdown_on(shutdown.clone().wait())
        .run(policy::reconcile, policy::on_error, Arc::clone(&context))
        .for_each(|result| {
            policy::finished(&context, result);
            std::future::ready(())
        });
    let asking = futures::future::join(
        context.answers.serve(&context, shutdown.clone()),
        poll::serve(Arc::clone(&context), shutdown.clone()),
    );
    futures::future::join4(rollout_runs, policy_runs, context.tell_when_listed(), asking).await;
    background.await
}

/// The API of a kind in the scope that this process serves.
pub(crate) fn api<K>(client: &Client, namespace: Option<&str>) -> Api<K>
where
    K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope>,
    K::DynamicType: Default,
{
    match namespace {
        Some(namespace) => Api::namespaced(client.clone(), namespace),
        None => Api::all(client.clone()),
    }
}

/// Pages of 500, and a watch that proves it is alive at least every four and a half minutes.
pub(crate) fn watcher_config() -> watcher::Config {
    watcher::Config::default().timeout(270)
}
