//! What a change would do: the planner's answer before and after it, side by side.

use std::collections::BTreeMap;

use crate::api::rollout::BatchStatus;
use crate::plan::actions::Reason;
use crate::plan::explain::DeviceReport;
use crate::plan::{Plan, StatusWrite};

use super::progress::Shares;

/// Devices that are told one by one.
const TOLD: usize = 5;

/// An answer of the planner.
pub type Answer = (Plan, Vec<DeviceReport>);

/// What differs between two answers, for people.
#[must_use]
pub fn difference(before: &Answer, after: &Answer) -> String {
    let ((old, old_reports), (new, new_reports)) = (before, after);
    let mut text = String::new();
    let phase = if old.status.phase == new.status.phase {
        format!("stays {}", new.status.phase)
    } else {
        format!("{} -> {}", old.status.phase, new.status.phase)
    };
    text += &format!("  phase    {phase}\n");
    if old.status.message != new.status.message && !new.status.message.is_empty() {
        text += &format!("  waits    {}\n", new.status.message);
    }
    for (index, batch) in new.status.batches.iter().enumerate() {
        let line = batch_line(batch);
        if old.status.batches.get(index).is_none_or(|before| batch_line(before) != line) {
            text += &format!("  batch {}  {line}\n", index + 1);
        }
    }
    for deeds in counts(new).into_values() {
        text += &format!("  writes   {}\n", deed(deeds));
    }
    let same = old.status.phase == new.status.phase && old.status.message == new.status.message;
    if same && new.actions.is_empty() && new.write == StatusWrite::None {
        text += "  nothing else changes\n";
    }
    text + &devices(old_reports, new_reports)
}

/// What the planner would do about a rollout that isn't there yet.
#[must_use]
pub fn beginning(after: &Answer) -> String {
    let (plan, reports) = after;
    let mut text = format!("  phase    {}\n", plan.status.phase);
    if !plan.status.message.is_empty() {
        text += &format!("  waits    {}\n", plan.status.message);
    }
    for (index, batch) in plan.status.batches.iter().enumerate() {
        text += &format!("  batch {}  {}\n", index + 1, batch_line(batch));
    }
    for deeds in counts(plan).into_values() {
        text += &format!("  writes   {}\n", deed(deeds));
    }
    text + &devices(&[], reports)
}

fn batch_line(batch: &BatchStatus) -> String {
    let state = match (&batch.start_time, &batch.completion_time) {
        (None, _) => "not open",
        (Some(_), None) => "open",
        (Some(_), Some(_)) => "done",
    };
    let shares = Shares::of(batch);
    let words = if batch.start_time.is_none() { format!("{} devices", shares.devices) } else { shares.words() };
    format!("{} {state}: {words}", batch.size)
}

fn counts(plan: &Plan) -> BTreeMap<&'static str, (Reason, usize)> {
    let mut counts = BTreeMap::new();
    for action in &plan.actions {
        counts.entry(action.reason.as_str()).or_insert((action.reason, 0)).1 += 1;
    }
    counts
}

fn deed((reason, count): (Reason, usize)) -> String {
    let devices = if count == 1 { "1 device".to_owned() } else { format!("{count} devices") };
    match reason {
        Reason::Release => format!("{devices} released: told the image"),
        Reason::ReleaseLatecomer => format!("{devices} that came late released"),
        Reason::RollBackFailed => format!("{devices} that failed sent back"),
        Reason::RollBackBatch => format!("{devices} of the batch sent back"),
        Reason::RollBackAll => format!("{devices} sent back to their previous image"),
        Reason::RollBackRequested => format!("{devices} sent back, as asked"),
        Reason::Rewrite => format!("{devices} told what they run without this rollout"),
        Reason::Withdraw => format!("{devices} not told the image any more"),
        Reason::Verdict => format!("{devices} failed: the verdict is stored"),
    }
}

fn devices(old: &[DeviceReport], new: &[DeviceReport]) -> String {
    let before: BTreeMap<&str, &DeviceReport> = old.iter().map(|report| (report.device.as_str(), report)).collect();
    let changed = |report: &&DeviceReport| before.get(report.device.as_str()).is_none_or(|b| b.wait != report.wait);
    // Those whose batch isn't open are all alike.
    let (mut changed, far): (Vec<&DeviceReport>, Vec<&DeviceReport>) =
        new.iter().filter(changed).partition(|report| report.wait.reason() != "BatchNotOpen");
    let told = changed.len().min(TOLD);
    changed.extend(far);
    let mut text = String::new();
    for report in changed.iter().take(told) {
        text += &format!("  device   {}\n", super::rollouts::why::sentence(report));
    }
    let mut rest: BTreeMap<&str, usize> = BTreeMap::new();
    for report in changed.iter().skip(told) {
        *rest.entry(report.wait.reason()).or_default() += 1;
    }
    if !rest.is_empty() {
        let rest: Vec<String> = rest.iter().map(|(reason, count)| format!("{count} {reason}")).collect();
        text += &format!("  others   {}\n", rest.join(", "));
    }
    text
}
