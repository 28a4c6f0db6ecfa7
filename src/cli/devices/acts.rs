//! Verbs on a device: hold it, release it, send it back.

use clap::Args;
use kube::ResourceExt as _;
use serde_json::json;

use crate::api::{Device, ImageRollout};
use crate::cli::cluster::{Cluster, ClusterArgs, request};
use crate::cli::fault::{Code, Fault};
use crate::cli::output::print;
use crate::cli::person::{self, SayArgs};
use crate::cli::rollouts::acts::on;
use crate::verbs::{Candidate, Verb};

/// Which ones.
#[derive(Args, Debug)]
pub struct HoldArgs {
    /// The devices, by their names (UUIDs)
    #[arg(required = true)]
    pub devices: Vec<String>,
    /// How.
    #[command(flatten)]
    pub say: SayArgs,
    /// Where.
    #[command(flatten)]
    pub cluster: ClusterArgs,
}

/// Which one goes back.
#[derive(Args, Debug)]
pub struct RollbackArgs {
    /// The device, by its name (UUID)
    pub device: String,
    /// From which rollout [default: the one that told it its image]
    #[arg(long, value_name = "NAME")]
    pub rollout: Option<String>,
    /// How.
    #[command(flatten)]
    pub say: SayArgs,
    /// Where.
    #[command(flatten)]
    pub cluster: ClusterArgs,
}

/// Holds devices, or releases them.
///
/// # Errors
/// When one isn't there or the API server refuses; those before it are done.
pub async fn hold(args: &HoldArgs, hold: bool) -> anyhow::Result<()> {
    let cluster = Cluster::connect(&args.cluster).await?;
    let person = person::of(&cluster, &args.say).await;
    for name in &args.devices {
        let name = name.to_lowercase();
        let name = name.as_str();
        let device: Device = cluster.get(name).await?;
        if device.spec.hold == hold {
            print(&format!("device {name} is {} already\n", if hold { "held" } else { "released" }))?;
            continue;
        }
        let verb = if hold { "DeviceHeld" } else { "DeviceReleased" };
        let act = person::act(verb, &person, device.metadata.generation);
        // Of one field only: whatever gateway or controller write meanwhile is not touched.
        let patch = json!({ "metadata": { "annotations": act.annotation() }, "spec": { "hold": hold } });
        cluster
            .merge::<Device>(name, &patch, args.say.dry_run)
            .await
            .map_err(|error| request::<Device>("patch", Some(name), &cluster.namespace).refused(&error))?;
        let (would, note) = if args.say.dry_run { ("would be ", " (dry run, nothing is written)") } else { ("", "") };
        print(&match hold {
            true => format!("device {name} {would}held: nobody moves it forward; it keeps what it runs{note}\n"),
            false => format!("device {name} {would}released: rollouts move it again{note}\n"),
        })?;
    }
    Ok(())
}

/// Sends a device back.
///
/// # Errors
/// When it isn't there, when no rollout or more than one has told it an image, or when the API server refuses.
pub async fn rollback(args: &RollbackArgs) -> anyhow::Result<()> {
    let cluster = Cluster::connect(&args.cluster).await?;
    let device: Device = cluster.get(&args.device.to_lowercase()).await?;
    let name = device.name_any();
    let told: Vec<&str> =
        device.spec.images.iter().filter(|entry| !entry.rolled_back).map(|entry| entry.rollout.as_str()).collect();
    let rollout = match (&args.rollout, told.as_slice()) {
        (Some(rollout), _) => rollout.as_str(),
        (None, [rollout]) => rollout,
        (None, []) => return sent_back(&cluster, &device).await,
        (None, several) => {
            let text = format!(
                "several rollouts have told device {name} an image: name one by --rollout: {}",
                several.join(", ")
            );
            return Err(Fault::new(Code::Conflict, text).into());
        }
    };
    on(&cluster, rollout, &Verb::RollBackDevice { device: Candidate::from(&device) }, &args.say).await
}

/// Of a device that no rollout tells anything: it may have been sent back before.
async fn sent_back(cluster: &Cluster, device: &Device) -> anyhow::Result<()> {
    let name = device.name_any();
    let entry = device.spec.images.iter().find(|entry| entry.rolled_back).map(|entry| entry.rollout.clone());
    let by = match entry {
        Some(rollout) => Some(rollout),
        // Once it is back, what it was told is taken off it.
        None => {
            let (rollouts, _) = cluster.list_readable::<ImageRollout>().await?;
            let names = |rollout: &ImageRollout| rollout.spec.roll_back_devices.contains(&name);
            rollouts.into_iter().find(names).map(|rollout| rollout.name_any())
        }
    };
    match by {
        Some(rollout) => print(&format!("device {name} was sent back from rollout {rollout} already\n")),
        None => Err(Fault::new(Code::Conflict, format!("no rollout has told device {name} an image")).into()),
    }
}
