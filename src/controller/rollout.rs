//! One pass over one rollout.

use std::sync::Arc;
use std::time::Duration;

use kube::ResourceExt as _;
use kube::core::DeserializeGuard;
use kube::runtime::controller::{Action, Error as RuntimeError};
use kube::runtime::watcher;

use crate::api::{ImageRollout, ImageUpdatePolicy};
use crate::plan::{FinalizerChange, Plan, StatusWrite, WaitingOn};

use super::backoff::jittered;
use super::context::{Context, RolloutRef, rollout_ref};
use super::error::{Class, Error};
use super::gather::Snapshot;
use super::probes::wanted;
use super::{RECONCILE_TIMEOUT, RESYNC, apply, events, status, unreadable};

/// Pause after acting on a state that had already changed: long enough for the watch to bring the change.
const STALE_PAUSE: Duration = Duration::from_millis(150);

/// And at most so long, when it goes on.
const MAX_STALE_PAUSE: Duration = Duration::from_secs(5);

/// One pass, bounded in time.
///
/// # Errors
/// Whatever kept it from being finished. The next pass starts from what is then there.
pub async fn reconcile(guard: Arc<DeserializeGuard<ImageRollout>>, context: Arc<Context>) -> Result<Action, Error> {
    context.stores_ready().await;
    let rollout = match &guard.0 {
        Ok(rollout) => rollout.clone(),
        Err(invalid) => {
            unreadable::tell::<ImageRollout>(&context, &invalid.metadata, &invalid.error).await?;
            let name = invalid.metadata.name.clone().unwrap_or_default();
            return Err(Error::Unreadable { kind: "ImageRollout", name, why: invalid.error.clone() });
        }
    };
    let name = rollout.name_any();
    let key = rollout_ref(&rollout);
    let action = tokio::time::timeout(RECONCILE_TIMEOUT, pass(rollout, &context))
        .await
        .map_err(|_| Error::Timeout(format!("rollout {name}")))??;
    context.rollout_backoff.succeeded(&key);
    context.metrics.passed("ImageRollout");
    Ok(action)
}

async fn pass(rollout: ImageRollout, context: &Context) -> Result<Action, Error> {
    // Of two rollouts of one policy, the second to start must see that the first one has.
    let turn = context.turn_to_start(&rollout);
    let _turn = match &turn {
        Some(turn) => Some(turn.lock().await),
        None => None,
    };
    let rollout = context.freshest(rollout);
    let key = rollout_ref(&rollout);
    let uid = rollout.uid().unwrap_or_default();
    let namespace = rollout.namespace().unwrap_or_default();
    let siblings = context.rollouts(Some(&namespace));
    let policies = context.policies(&namespace);
    let policy = context.policy(&namespace, &rollout.spec.policy_ref.name);
    let owner = policy.as_ref().and_then(|policy| policy.as_ref().ok().cloned());
    let now = context.clock.now();
    let resolution = context.answers.resolution(&rollout, owner.as_ref(), now);
    let snapshot = Snapshot::new(
        rollout,
        policy,
        &siblings,
        context.devices.devices(&namespace),
        context.devices.knowledge(&namespace),
    )
    .with_resolution(resolution)
    .with_proofs(context.probes.proofs(&uid))
    .with_living(policies.iter().map(|policy| policy.name_any()), &siblings)
    .among(policies.iter().filter_map(|policy| policy.0.as_ref().ok()));
    let (plan, (subject, wanted)) =
        snapshot.plan(now, |observed, plan| (observed.subject.ok().cloned(), wanted(observed, plan)));
    let asks = |waiting: &WaitingOn| matches!(waiting, WaitingOn::Registry { .. } | WaitingOn::DigestMismatch { .. });
    if plan.waiting_on.iter().any(asks) {
        context.answers.ask(&snapshot.rollout, owner.as_ref(), now);
    }
    let action = carry_out(context, &snapshot.rollout, owner.as_ref(), &namespace, &key, plan, now).await;
    context.probes.want(context, &snapshot.rollout, subject.as_ref(), wanted).await;
    action
}

/// Status first, then devices.
async fn carry_out(
    context: &Context,
    rollout: &ImageRollout,
    owner: Option<&ImageUpdatePolicy>,
    namespace: &str,
    key: &RolloutRef,
    plan: Plan,
    now: jiff::Timestamp,
) -> Result<Action, Error> {
    let Plan { status: planned, write, finalizer, actions, waiting_on, requeue_at } = plan;
    tracing::debug!(
        rollout = key.name,
        phase = planned.phase.as_str(),
        ?write,
        actions = actions.len(),
        waiting_on = waiting_on.first().map(ToString::to_string),
        "planned"
    );
    let mut soon: Option<Duration> = None;
    match finalizer {
        FinalizerChange::Keep => {}
        FinalizerChange::Add => {
            status::change_finalizer(context, rollout, owner, finalizer).await?;
            // The watch brings the change, and with it the next pass.
            return Ok(Action::requeue(STALE_PAUSE));
        }
        FinalizerChange::Remove => {
            status::change_finalizer(context, rollout, owner, finalizer).await?;
            context.forget(key);
            context.probes.forget(&rollout.uid().unwrap_or_default());
            trigger_siblings(context, rollout, namespace);
            return Ok(Action::await_change());
        }
    }
    let write_now = match write {
        StatusWrite::None => false,
        StatusWrite::Transition => true,
        StatusWrite::Figures => {
            soon = context.until_next_status(key);
            soon.is_none()
        }
    };
    if write_now {
        let before = rollout.status.clone().unwrap_or_default();
        let stored = status::store(context, rollout, &planned).await?;
        events::publish(context, &stored, &before.history, &planned.history).await;
        if write == StatusWrite::Transition {
            trigger_siblings(context, rollout, namespace);
        }
    }
    if !actions.is_empty() {
        apply::apply(context, namespace, actions).await?;
        // Our own writes are in the index already; the next pass sees what is left.
        soon = Some(soon.unwrap_or(STALE_PAUSE).min(STALE_PAUSE));
    }
    let due =
        requeue_at.map(|at| Duration::try_from(at.duration_since(now)).unwrap_or_default() + Duration::from_millis(10));
    let pause =
        [soon, due].into_iter().flatten().min().unwrap_or_else(|| jittered(&context.clock, RESYNC)).min(RESYNC * 2);
    Ok(Action::requeue(pause))
}

/// What one rollout reached, another may be waiting for.
fn trigger_siblings(context: &Context, rollout: &ImageRollout, namespace: &str) {
    let name = rollout.name_any();
    let siblings = context.rollouts_where(Some(namespace), |other| {
        other.spec.policy_ref == rollout.spec.policy_ref && other.name_any() != name
    });
    for sibling in siblings {
        context.trigger(sibling);
    }
}

/// What follows from a failed pass.
#[expect(clippy::needless_pass_by_value, reason = "the runtime's signature")]
pub fn on_error(guard: Arc<DeserializeGuard<ImageRollout>>, error: &Error, context: Arc<Context>) -> Action {
    let key = RolloutRef::new(&guard.name_any()).within(&guard.namespace().unwrap_or_default());
    context.metrics.failed(error.label());
    match error.class() {
        // Soon, but a state that stays stale is not asked for at full speed for ever.
        Class::Stale => Action::requeue(jittered(
            &context.clock,
            context.rollout_backoff.failed(key).clamp(STALE_PAUSE, MAX_STALE_PAUSE),
        )),
        Class::Transient => Action::requeue(jittered(&context.clock, context.rollout_backoff.failed(key))),
        Class::Invalid => Action::await_change(),
    }
}

/// Logs the end of a pass.
pub fn finished(context: &Context, result: Result<(RolloutRef, Action), RuntimeError<Error, watcher::Error>>) {
    log_end(context, "rollout", result.map(|(key, _)| key.name));
}

pub(super) fn log_end(
    context: &Context,
    kind: &'static str,
    result: Result<String, RuntimeError<Error, watcher::Error>>,
) {
    match result {
        Ok(_) => {}
        // Deleted while it waited for its turn.
        Err(RuntimeError::ObjectNotFound(_)) => {}
        Err(RuntimeError::ReconcilerFailed(error, object)) if error.class() == Class::Stale => {
            tracing::debug!(kind, object = object.name, error = chain(&error), "looked at an old state; again soon");
        }
        Err(RuntimeError::ReconcilerFailed(error, object)) => {
            tracing::warn!(kind, object = object.name, error = chain(&error), "pass failed; it is tried again");
        }
        Err(error) => {
            context.metrics.failed("Watch");
            tracing::warn!(kind, error = chain(&error), "watch failed; it is set up again");
        }
    }
}

/// An error with everything that caused it.
#[must_use]
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let cause = error.to_string();
        if !text.contains(&cause) {
            text.push_str(": ");
            text.push_str(&cause);
        }
        source = error.source();
    }
    text
}
