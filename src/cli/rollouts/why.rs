//! `tranche rollouts why`: what it waits for, and why each device is not healthy yet.

use std::collections::BTreeMap;

use clap::Args;
use kube::ResourceExt as _;

use crate::api::ImageRollout;
use crate::cli::cluster::{Cluster, ClusterArgs};
use crate::cli::fault::{Code, Fault};
use crate::cli::output::print;
use crate::cli::world::World;
use crate::plan::explain::DeviceReport;

/// Devices that are told one by one; of the rest only how many there are, by reason.
const MAX_DEVICES: usize = 20;

/// Of what.
#[derive(Args, Debug)]
pub struct WhyArgs {
    /// The rollout
    pub rollout: String,
    /// One device of it, by its name (UUID)
    pub device: Option<String>,
    /// Where.
    #[command(flatten)]
    pub cluster: ClusterArgs,
}

/// Explains a rollout.
///
/// # Errors
/// When it, or the device, isn't there or can't be had. What else can't be read is told, and the answer given without it.
pub async fn run(args: &WhyArgs) -> anyhow::Result<()> {
    let cluster = Cluster::connect(&args.cluster).await?;
    let rollout: ImageRollout = cluster.get(&args.rollout).await?;
    let world = World::read(&cluster).await?;
    eprint!("{}", world.notes());
    let (_, reports) = world.plan(&rollout, crate::clock::now());
    let Some(device) = &args.device else { return print(&(headline(&rollout) + &table(&reports))) };
    match reports.iter().find(|report| report.device == *device) {
        Some(report) => print(&format!("{}\n", sentence(report))),
        None if world.objects.devices.iter().any(|known| known.name_any() == *device) => {
            let text = format!(
                "device {device} is not one of rollout {}: its policy selects other devices, or it has no service of {}",
                args.rollout, rollout.spec.image.repository
            );
            Err(Fault::new(Code::NotFound, text).into())
        }
        None => {
            let text = format!("there is no device {device} in namespace {}", cluster.namespace);
            Err(Fault::new(Code::NotFound, text).into())
        }
    }
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

/// One device and its reason.
pub(crate) fn sentence(report: &DeviceReport) -> String {
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
