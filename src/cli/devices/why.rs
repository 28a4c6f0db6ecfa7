//! `tranche devices why`: what every rollout that concerns a device says of it.

use clap::Args;
use kube::ResourceExt as _;

use crate::api::{Device, ImageRollout};
use crate::cli::cluster::{Cluster, ClusterArgs};
use crate::cli::output::print;
use crate::cli::rollouts::phase_of;
use crate::cli::world::World;

/// Which one.
#[derive(Args, Debug)]
pub struct WhyArgs {
    /// The device, by its name (UUID)
    pub device: String,
    /// Rollouts that have ended as well
    #[arg(short, long)]
    pub all: bool,
    /// Where.
    #[command(flatten)]
    pub cluster: ClusterArgs,
}

/// Explains a device.
///
/// # Errors
/// When it isn't there or can't be had.
pub async fn run(args: &WhyArgs) -> anyhow::Result<()> {
    let cluster = Cluster::connect(&args.cluster).await?;
    let device: Device = cluster.get(&args.device).await?;
    let world = World::read(&cluster).await?;
    eprint!("{}", world.notes());
    let now = crate::clock::now();
    let mut text = String::new();
    let told = |rollout: &ImageRollout| device.spec.images.iter().any(|entry| entry.rollout == rollout.name_any());
    for rollout in &world.objects.rollouts {
        let phase = phase_of(rollout);
        // One that has ended concerns the device as long as its image is the one that it is told.
        if phase.is_terminal() && !args.all && !told(rollout) {
            continue;
        }
        let (_, reports) = world.plan(rollout, now);
        let Some(report) = reports.iter().find(|report| report.device == args.device) else { continue };
        let batch = if report.batch == 0 { String::new() } else { format!(" batch {}", report.batch) };
        text += &format!("{} ({phase}){batch}: {} ({})\n", rollout.name_any(), report.wait, report.wait.reason());
    }
    if text.is_empty() {
        let selected = if args.all { "" } else { " that runs; --all looks at those that have ended, too" };
        text = format!("device {} is in no rollout{selected}\n", args.device);
    }
    print(&text)
}
