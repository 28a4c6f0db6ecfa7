//! `tranche rollouts get`: one rollout on one screen.

use clap::Args;
use jiff::Timestamp;
use kube::ResourceExt as _;

use crate::api::act::Act;
use crate::api::rollout::{BatchStatus, ImageRolloutStatus, TriggerType};
use crate::api::{ImageRollout, policy_manager};
use crate::cli::cluster::{Cluster, ClusterArgs};
use crate::cli::output::{Cell, Column, Output, Style, Table, Tone, column, object, print, wide};
use crate::cli::progress::{Shares, took};
use crate::cli::words::age;

use super::list::{image_of, phase_of};

/// Lines of its history that are shown; all of them with `-o wide`.
const TAIL: usize = 8;

/// Which one.
#[derive(Args, Debug)]
pub struct GetArgs {
    /// The rollout
    pub rollout: String,
    /// How to print it
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    pub output: Output,
    /// Where.
    #[command(flatten)]
    pub cluster: ClusterArgs,
}

/// Shows a rollout.
///
/// # Errors
/// When it isn't there or can't be had.
pub async fn run(args: &GetArgs) -> anyhow::Result<()> {
    let cluster = Cluster::connect(&args.cluster).await?;
    let value = cluster.get_value::<ImageRollout>(&args.rollout).await?;
    if let Some(text) = object(&value, "imagerollouts", args.output)? {
        return print(&text);
    }
    let rollout: ImageRollout = serde_json::from_value(value)?;
    print(&describe(&rollout, args.output == Output::Wide, Style::of_stdout(), crate::clock::now()))
}

const BATCHES: &[Column] = &[
    column("BATCH"),
    column("SIZE"),
    column("DEVICES"),
    column("RELEASED"),
    column("HEALTHY"),
    column("FAILED"),
    column("BACK"),
    column("DEFERRED"),
    column("STATE"),
    wide("OPENED"),
];

fn describe(rollout: &ImageRollout, all: bool, style: Style, now: Timestamp) -> String {
    let phase = phase_of(rollout);
    let mut text = format!("{}: {}\n", rollout.name_any(), style.paint(phase.as_str(), Tone::of(phase)));
    let mut field = |name: &str, value: String| text += &format!("  {name:<10}{value}\n");
    field("Image", image_of(rollout));
    field("Policy", rollout.spec.policy_ref.name.clone());
    if let Some(trigger) = &rollout.spec.trigger {
        let kind = match trigger.type_ {
            TriggerType::Webhook => "webhook",
            TriggerType::Poll => "polling the registry",
            TriggerType::Manual => "a person",
        };
        let parts = [trigger.receiver.as_ref(), trigger.actor.as_ref()];
        let by: Vec<&str> = parts.into_iter().flatten().map(String::as_str).collect();
        field("Made by", if by.is_empty() { kind.to_owned() } else { format!("{kind} ({})", by.join(", ")) });
    }
    let created = rollout.metadata.creation_timestamp.as_ref().map(|time| time.0);
    let took = rollout.status.as_ref().and_then(took).map(|took| format!(", took {took}")).unwrap_or_default();
    field("Age", format!("{}{took}", age(created, now)));
    if let Some(act) = Act::of(&rollout.metadata) {
        let ago = age(Some(act.time.0), now);
        field("Last act", format!("{} by {}, {ago} ago", act.verb, act.who_and_why()));
    }
    match &rollout.status {
        None => {
            field("Waits", "for a controller: none has looked at it yet; is `tranche run controller` running?".into());
        }
        Some(status) if status.message.is_empty() => {}
        Some(status) if phase.is_terminal() => field("Ended", status.message.clone()),
        Some(status) => field("Waits", status.message.clone()),
    }
    if rollout.status.is_some() && !seen(rollout) {
        field("Note", "the controller has not looked at the latest change yet".into());
    }
    if let Some(status) = &rollout.status {
        text += &tables(status, all, style, now);
    }
    if all {
        text += &format!("\nEntries on devices are written as {}\n", policy_manager(&rollout.spec.policy_ref.name));
    }
    text
}

/// Whether the status is about the spec as it is.
pub(super) fn seen(rollout: &ImageRollout) -> bool {
    rollout.status.as_ref().is_some_and(|status| status.observed_generation == rollout.metadata.generation)
}

fn tables(status: &ImageRolloutStatus, all: bool, style: Style, now: Timestamp) -> String {
    let mut text = String::new();
    if !status.batches.is_empty() {
        let rows: Vec<Vec<Cell>> =
            status.batches.iter().enumerate().map(|(index, batch)| batch_row(index, batch, now)).collect();
        text += &format!("\n{}", Table::new(BATCHES, all, style).page(&rows));
    }
    let lists = [
        (
            "Failed devices",
            status.failed_devices.iter().map(|d| format!("{}  {}: {}", d.name, d.reason, d.message)).collect(),
        ),
        (
            "Devices that can't be checked",
            status.unchecked_devices.iter().map(|d| format!("{}  {}", d.name, d.message)).collect::<Vec<String>>(),
        ),
    ];
    for (title, lines) in lists {
        if !lines.is_empty() {
            text += &format!("\n{title}\n");
            lines.iter().for_each(|line| text += &format!("  {line}\n"));
        }
    }
    if !status.history.is_empty() {
        let hidden = if all { 0 } else { status.history.len().saturating_sub(TAIL) };
        text += "\nHistory\n";
        if hidden > 0 {
            text += &format!("  ({hidden} earlier ones: -o wide)\n");
        }
        for entry in status.history.iter().skip(hidden) {
            let ago = age(Some(entry.time.0), now);
            text += &format!("  {ago:>6}  {:<18}  {}\n", entry.type_, entry.message);
        }
    }
    text
}

fn batch_row(index: usize, batch: &BatchStatus, now: Timestamp) -> Vec<Cell> {
    let Shares { devices, healthy, failed, updating: _, deferred, back } = Shares::of(batch);
    let state = match (&batch.start_time, &batch.completion_time) {
        (None, _) => Cell::toned(if batch.approval { "waits for approval" } else { "not open" }, Tone::Faint),
        (Some(_), None) => Cell::toned("open", Tone::Plain),
        (Some(_), Some(done)) => Cell::toned(format!("done {} ago", age(Some(done.0), now)), Tone::Good),
    };
    let bad = if failed > 0 { Tone::Bad } else { Tone::Plain };
    vec![
        (index + 1).to_string().into(),
        batch.size.as_str().into(),
        devices.to_string().into(),
        batch.released.to_string().into(),
        healthy.to_string().into(),
        Cell::toned(failed.to_string(), bad),
        back.to_string().into(),
        deferred.to_string().into(),
        state,
        age(batch.start_time.as_ref().map(|time| time.0), now).into(),
    ]
}
