//! `tranche devices get`: one device on one screen.

use clap::Args;
use jiff::Timestamp;
use kube::ResourceExt as _;

use crate::api::act::Act;
use crate::api::device::{DeviceStatus, ImageEntry, ReportedService};
use crate::api::{Device, FLEET_LABEL};
use crate::cli::cluster::{Cluster, ClusterArgs};
use crate::cli::output::{Output, Style, Tone, object, print};
use crate::cli::words::{age, short_image};
use crate::plan::services::declared_services;

/// Which one.
#[derive(Args, Debug)]
pub struct GetArgs {
    /// The device, by its name (UUID)
    pub device: String,
    /// How to print it
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    pub output: Output,
    /// Where.
    #[command(flatten)]
    pub cluster: ClusterArgs,
}

/// Shows a device. What it proves itself by is not shown, not even hashed.
///
/// # Errors
/// When it isn't there or can't be had.
pub async fn run(args: &GetArgs) -> anyhow::Result<()> {
    let cluster = Cluster::connect(&args.cluster).await?;
    let value = cluster.get_value::<Device>(&args.device).await?;
    if let Some(text) = object(&value, "devices", args.output)? {
        return print(&text);
    }
    let device: Device = serde_json::from_value(value)?;
    print(&describe(&device, Style::of_stdout(), crate::clock::now()))
}

fn describe(device: &Device, style: Style, now: Timestamp) -> String {
    let spec = &device.spec;
    let status = device.status.clone().unwrap_or_default();
    let held = if spec.hold { style.paint(" held: nobody moves it forward", Tone::Warn) } else { String::new() };
    let mut text = format!(
        "{}{}{held}\n",
        device.name_any(),
        spec.display_name.as_ref().map(|name| format!(" ({name})")).unwrap_or_default()
    );
    let mut field = |name: &str, value: Option<String>| {
        if let Some(value) = value {
            text += &format!("  {name:<10}{value}\n");
        }
    };
    field("Fleet", device.labels().get(FLEET_LABEL).cloned());
    field("Address", status.address.clone());
    field("Agent", status.agent_version.clone());
    field("Seen", status.last_seen_time.as_ref().map(|time| format!("{} ago, or later", age(Some(time.0), now))));
    for condition in &status.conditions {
        field(&condition.type_, Some(format!("{}: {}", condition.status, condition.message)));
    }
    if let Some(act) = Act::of(&device.metadata) {
        field("Last act", Some(format!("{} by {}, {} ago", act.verb, act.who_and_why(), age(Some(act.time.0), now))));
    }
    for (title, lines) in sections(device, &status, now) {
        if !lines.is_empty() {
            text += &format!("\n{title}\n");
            lines.iter().for_each(|line| text += &format!("  {line}\n"));
        }
    }
    text
}

/// What it is to run, what it is told instead, what it runs, and what came of it.
fn sections(device: &Device, status: &DeviceStatus, now: Timestamp) -> [(&'static str, Vec<String>); 4] {
    let declared = declared_services(&device.spec.apps);
    let declared = declared.iter();
    let verdicts = status.updates.iter();
    [
        (
            "Declared",
            declared
                .map(|service| format!("{}/{}  {}", service.app, service.name, short_image(&service.image.to_string())))
                .collect(),
        ),
        ("Told instead", device.spec.images.iter().map(|entry| told(entry, now)).collect()),
        (
            "Reported",
            match &status.services {
                None => vec!["nothing yet".to_owned()],
                Some(services) => services.iter().map(reported).collect(),
            },
        ),
        (
            "Verdicts",
            verdicts
                .map(|update| {
                    format!("{:?} in {} ({}): {}", update.verdict, update.rollout, update.reason, update.message)
                })
                .collect(),
        ),
    ]
}

fn told(entry: &ImageEntry, now: Timestamp) -> String {
    let image = entry.image.as_ref().map_or_else(|| "what is declared".to_owned(), |image| short_image(image));
    let back = if entry.rolled_back { ", sent back" } else { "" };
    let previous = entry.previous.as_ref().map(|image| format!(", before: {}", short_image(image))).unwrap_or_default();
    let ago = age(Some(entry.release_time.0), now);
    format!("{image}  by {} batch {}, {ago} ago{back}{previous}", entry.rollout, entry.batch)
}

fn reported(service: &ReportedService) -> String {
    let health = if service.health.is_empty() { String::new() } else { format!(", {}", service.health) };
    let restarts = if service.restarts > 0 { format!(", {} restarts", service.restarts) } else { String::new() };
    let image = short_image(&service.image);
    format!("{}/{}  {image}  {}{health}{restarts}", service.app, service.name, service.status)
}
