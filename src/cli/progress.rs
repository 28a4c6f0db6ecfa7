//! A rollout's batches as bars, and as lines where there is no terminal. Pure: what is drawn, not how.

use crate::api::ImageRollout;
use crate::api::rollout::{BatchStatus, ImageRolloutStatus};

use super::output::{Style, Tone};
use super::words::span;

/// Cells of a bar.
const BAR: usize = 24;

/// A batch, in the shares of its devices.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Shares {
    /// Devices.
    pub devices: i32,
    /// Run it well.
    pub healthy: i32,
    /// Failed.
    pub failed: i32,
    /// Were told, and no verdict yet.
    pub updating: i32,
    /// Offline, held, in conflict.
    pub deferred: i32,
    /// Sent back.
    pub back: i32,
}

impl Shares {
    /// Of a batch.
    #[must_use]
    pub fn of(batch: &BatchStatus) -> Self {
        let BatchStatus { devices, released, healthy, failed, rolled_back, deferred, .. } = batch;
        // Who failed may have been sent back as well.
        let updating = (released - healthy - failed.max(rolled_back)).max(0);
        Self {
            devices: *devices,
            healthy: *healthy,
            failed: *failed,
            updating,
            deferred: *deferred,
            back: *rolled_back,
        }
    }

    /// The bar: one cell for a share of the devices; who is there at all has a cell.
    #[must_use]
    pub fn bar(&self, style: Style) -> String {
        self.bar_of(BAR, style)
    }

    fn bar_of(&self, width: usize, style: Style) -> String {
        let mut left = width;
        let mut text = String::new();
        for (count, sign, tone) in [
            (self.healthy, '▓', Tone::Good),
            (self.failed.max(self.back), 'x', Tone::Bad),
            (self.updating, '▒', Tone::Plain),
            (self.deferred, '-', Tone::Warn),
        ] {
            let cells = cells(count, self.devices, width).min(left);
            left -= cells;
            text += &style.paint(&sign.to_string().repeat(cells), tone);
        }
        text + &style.paint(&"░".repeat(left), Tone::Faint)
    }

    /// The figures, only those that are not 0.
    #[must_use]
    pub fn words(&self) -> String {
        let mut words = vec![format!("{}/{} healthy", self.healthy, self.devices)];
        for (count, word) in [
            (self.updating, "updating"),
            (self.failed, "failed"),
            (self.back, "sent back"),
            (self.deferred, "deferred"),
        ] {
            if count > 0 {
                words.push(format!("{count} {word}"));
            }
        }
        words.join(", ")
    }
}

fn cells(count: i32, devices: i32, width: usize) -> usize {
    let (count, devices) = (usize::try_from(count).unwrap_or(0), usize::try_from(devices).unwrap_or(0));
    if count == 0 || devices == 0 { 0 } else { (count * width / devices).max(1) }
}

/// A short bar a batch, in the room of one.
#[must_use]
pub fn bars(batches: &[BatchStatus]) -> String {
    /// Less says nothing.
    const LEAST: usize = 2;
    let width = (BAR / batches.len().max(1)).max(LEAST);
    let bars: Vec<String> = batches.iter().map(|batch| Shares::of(batch).bar_of(width, Style::default())).collect();
    bars.join(" ")
}

/// What a rollout looks like now: a line of where it stands, one a batch, one of what it waits for.
#[must_use]
pub fn picture(rollout: &ImageRollout, style: Style) -> Vec<String> {
    let name = rollout.metadata.name.as_deref().unwrap_or_default();
    let Some(status) = &rollout.status else {
        return vec![format!("{name}: no controller has looked at it yet; is `tranche run controller` running?")];
    };
    let phase = style.paint(status.phase.as_str(), Tone::of(status.phase));
    let image = super::words::short_image(&super::rollouts::image_of(rollout));
    let mut lines = vec![format!("{name}  {image}  {phase}")];
    let current = usize::try_from(status.current_batch).unwrap_or_default();
    for (index, batch) in status.batches.iter().enumerate() {
        let shares = Shares::of(batch);
        let words = if index < current { shares.words() } else { format!("{} devices, not open", batch.devices) };
        lines.push(format!("  {}/{} {:>5} {} {words}", index + 1, status.batches.len(), batch.size, shares.bar(style)));
    }
    if !status.message.is_empty() {
        lines.push(format!("  {}", status.message));
    }
    lines
}

/// The same in one line, for logs: without bars.
#[must_use]
pub fn line(rollout: &ImageRollout) -> String {
    let name = rollout.metadata.name.as_deref().unwrap_or_default();
    let Some(status) = &rollout.status else { return format!("{name} Pending: no controller has looked at it yet") };
    let batch = status.progress.as_ref().map(|progress| format!(" batch {progress}")).unwrap_or_default();
    let mut total = Shares::default();
    for batch in &status.batches {
        let Shares { devices, healthy, failed, updating, deferred, back } = Shares::of(batch);
        total.devices += devices;
        total.healthy += healthy;
        total.failed += failed;
        total.updating += updating;
        total.deferred += deferred;
        total.back += back;
    }
    let figures = if status.batches.is_empty() { String::new() } else { format!(" {}", total.words()) };
    let message = if status.message.is_empty() { String::new() } else { format!(": {}", status.message) };
    format!("{name} {}{batch}{figures}{message}", status.phase)
}

/// How long a rollout took, if it has ended.
#[must_use]
pub fn took(status: &ImageRolloutStatus) -> Option<String> {
    let (plan, end) = (status.plan.as_ref()?, status.completion_time.as_ref()?);
    Some(span(end.0.as_second() - plan.start_time.0.as_second()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn rollout() -> ImageRollout {
        serde_json::from_value(json!({
            "metadata": {"name": "app-1"},
            "spec": {"policyRef": {"name": "app"}, "image": {"repository": "docker.io/acme/app", "tag": "v2"}},
            "status": {
                "phase": "Progressing", "message": "3 of 8 devices of batch 2 have no verdict yet", "progress": "2/3", "currentBatch": 2,
                "batches": [
                    {"size": "10%", "boundary": "00", "devices": 2, "released": 2, "healthy": 2},
                    {"size": "50%", "boundary": "00", "devices": 8, "released": 6, "healthy": 2, "failed": 1, "rolledBack": 1, "deferred": 2},
                    {"size": "100%", "boundary": "00", "devices": 10},
                ],
            },
        }))
        .unwrap()
    }

    #[test]
    fn a_bar_a_batch() {
        assert_eq!(
            picture(&rollout(), Style::default()).join("\n"),
            "app-1  acme/app:v2  Progressing
  1/3   10% ▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓ 2/2 healthy
  2/3   50% ▓▓▓▓▓▓xxx▒▒▒▒▒▒▒▒▒------ 2/8 healthy, 3 updating, 1 failed, 1 sent back, 2 deferred
  3/3  100% ░░░░░░░░░░░░░░░░░░░░░░░░ 10 devices, not open
  3 of 8 devices of batch 2 have no verdict yet"
        );
    }

    #[test]
    fn a_line_for_logs() {
        assert_eq!(
            line(&rollout()),
            "app-1 Progressing batch 2/3 4/20 healthy, 3 updating, 1 failed, 1 sent back, 2 deferred: \
             3 of 8 devices of batch 2 have no verdict yet"
        );
    }

    #[test]
    fn a_single_device_of_many_is_seen() {
        let shares = Shares { devices: 100_000, healthy: 99_998, failed: 1, updating: 1, ..Shares::default() };
        let bar = shares.bar(Style::default());
        assert_eq!(bar.chars().count(), BAR);
        assert!(bar.ends_with('x') || bar.contains('x'), "{bar}");
    }
}
