//! Every line of a rollout's history is also a Kubernetes Event, published once its status is stored.
//!
//! Events are a courtesy: one that can't be published is logged and forgotten, the history has it.

use kube::Resource as _;
use kube::runtime::events::{Event, EventType};

use crate::api::ImageRollout;
use crate::api::condition::truncate;
use crate::api::rollout::HistoryEntry;

use super::context::Context;

/// Publishes the lines that `after` has and `before` had not.
pub async fn publish(context: &Context, rollout: &ImageRollout, before: &[HistoryEntry], after: &[HistoryEntry]) {
    for line in after.iter().filter(|line| !before.contains(line)) {
        let event = Event {
            type_: if is_warning(&line.type_) { EventType::Warning } else { EventType::Normal },
            reason: line.type_.clone(),
            note: Some(truncate(line.message.clone(), 1000)),
            action: action(line),
            secondary: None,
        };
        match context.events.publish(&event, &rollout.object_ref(&())).await {
            Ok(()) => context.metrics.published(),
            Err(error) => tracing::warn!(%error, reason = event.reason, "an Event could not be published"),
        }
        tracing::info!(
            rollout = rollout.metadata.name.as_deref(),
            namespace = rollout.metadata.namespace.as_deref(),
            reason = event.reason,
            "{}",
            line.message
        );
    }
}

fn is_warning(type_: &str) -> bool {
    matches!(type_, "RolloutHalted" | "DeviceFailed" | "RollbackStarted" | "RolloutRolledBack" | "RolloutFailed")
}

/// The recorder takes events that differ only in their note for one event, so what tells them apart must stand here:
/// the batch where there is one, else the second.
fn action(line: &HistoryEntry) -> String {
    match line.message.strip_prefix("batch ").and_then(|rest| rest.split([' ', ':']).next()) {
        Some(batch) => format!("{}{batch}", line.type_),
        None => format!("{}At{}", line.type_, line.time.0.as_second()),
    }
}
