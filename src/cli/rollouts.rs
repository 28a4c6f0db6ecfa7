//! `tranche rollouts`: what people do with rollouts beyond what kubectl does as well.

use std::collections::BTreeMap;

use anyhow::bail;
use clap::{Args, Subcommand};
use kube::ResourceExt as _;

use super::cluster::{Cluster, ClusterArgs};
use super::plan::Objects;
use crate::api::ImageRollout;
use crate::plan::explain::DeviceReport;

/// Devices that are told one by one; of the rest only how many there are, by reason.
const MAX_DEVICES: usize = 20;

/// Rollouts in the cluster.
#[derive(Debug, Subcommand)]
pub enum RolloutsCommand {
    /// Say what a rollout waits for, and why each device is not healthy yet
    Why(WhyArgs),
}

/// Of what.
#[derive(Args, Debug)]
pub struct WhyArgs {
    /// The rollout.
    pub rollout: String,
    /// One device of it, by its name (UUID).
    pub device: Option<String>,
    /// Where.
    #[command(flatten)]
    pub cluster: ClusterArgs,
}

impl RolloutsCommand {
    /// Runs it.
    ///
    /// # Errors
    /// Whatever the person should know.
    pub async fn run(self) -> anyhow::Result<()> {
        match self {
            Self::Why(args) => why(&args).await,
        }
    }
}

async fn why(args: &WhyArgs) -> anyhow::Result<()> {
    let cluster = Cluster::connect(&args.cluster).await?;
    let rollout: ImageRollout = cluster.get(&args.rollout).await?;
    let objects = Objects {
        policies: cluster.list().await?,
        rollouts: cluster.list().await?,
        devices: cluster.list().await?,
        presence: cluster.list().await?,
    };
    let (_, reports) = objects.plan(&rollout, &objects.index(), crate::clock::now());
    match &args.device {
        None => print!("{}{}", headline(&rollout), table(&reports)),
        Some(device) => match reports.iter().find(|report| report.device == *device) {
            Some(report) => println!("{}", sentence(report)),
            None if objects.devices.iter().any(|known| known.name_any() == *device) => bail!(
                "device {device} is not one of rollout {}: its policy selects other devices, or it has no service of {}",
                args.rollout,
                rollout.spec.image.repository
            ),
            None => bail!("there is no device {device} in namespace {}", cluster.namespace),
        },
    }
    Ok(())
}

/// The rollout in its own words: those of the controller, which knows more than its objects say.
fn headline(rollout: &ImageRollout) -> String {
    let name = rollout.name_any();
    let Some(status) = &rollout.status else {
        return format!("{name}: no controller has looked at it yet; is `tranche run controller` running?\n");
    };
    let batch = status.progress.as_ref().map(|progress| format!(", batch {progress}")).unwrap_or_default();
    let mut text = format!("{name}: {}{batch}\n  {}\n", status.phase, status.message);
    if status.observed_generation != rollout.metadata.generation {
        text += "  the controller has not looked at its latest change yet\n";
    }
    text
}

fn sentence(report: &DeviceReport) -> String {
    let batch = if report.batch == 0 { String::new() } else { format!(" (batch {})", report.batch) };
    format!("{}{batch}: {} ({})", report.device, report.wait, report.wait.reason())
}

/// The devices that something is to be said of: not those that run the image well, nor those whose batch isn't open.
fn table(reports: &[DeviceReport]) -> String {
    let is_news = |report: &&DeviceReport| !["Healthy", "RunsAlready", "BatchNotOpen"].contains(&report.wait.reason());
    let mut rest: BTreeMap<&str, usize> = BTreeMap::new();
    for report in reports.iter().filter(is_news).skip(MAX_DEVICES).chain(reports.iter().filter(|r| !is_news(r))) {
        *rest.entry(report.wait.reason()).or_default() += 1;
    }
    let mut text = String::new();
    for report in reports.iter().filter(is_news).take(MAX_DEVICES) {
        text += &format!("    {}\n", sentence(report));
    }
    if !rest.is_empty() {
        let rest: Vec<String> = rest.iter().map(|(reason, count)| format!("{count} {reason}")).collect();
        text += &format!("    {}: {}\n", if text.is_empty() { "devices" } else { "others" }, rest.join(", "));
    }
    text
}
