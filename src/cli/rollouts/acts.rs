//! Verbs on a rollout that is there. What each comes to is decided in [`crate::verbs`]; here it is written, or shown.

use clap::Args;

use crate::api::{Device, ImageRollout};
use crate::cli::cluster::{Cluster, ClusterArgs, request};
use crate::cli::fault::{Code, Fault};
use crate::cli::output::print;
use crate::cli::person::{self, SayArgs};
use crate::cli::preview::difference;
use crate::cli::world::World;
use crate::verbs::{Candidate, Decision, Effect, Verb, decide};

/// How often a change is decided anew because somebody else wrote meanwhile. The controller does so every second at most.
const TRIES: usize = 8;

/// On which rollout.
#[derive(Args, Debug)]
pub struct ActArgs {
    /// The rollout
    pub rollout: String,
    /// How.
    #[command(flatten)]
    pub say: SayArgs,
    /// Where.
    #[command(flatten)]
    pub cluster: ClusterArgs,
}

/// What is approved.
#[derive(Args, Debug)]
pub struct ApproveArgs {
    /// The batch, from 1, and all before it [default: the next one]
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u16).range(1..=20))]
    pub batch: Option<u16>,
    /// Of what.
    #[command(flatten)]
    pub act: ActArgs,
}

/// What goes back.
#[derive(Args, Debug)]
pub struct RollbackArgs {
    /// Only this device, by its name (UUID); may be repeated
    #[arg(long, value_name = "UUID")]
    pub device: Vec<String>,
    /// Of what.
    #[command(flatten)]
    pub act: ActArgs,
}

/// Lets a batch open.
///
/// # Errors
/// As [`run`].
pub async fn approve(args: &ApproveArgs) -> anyhow::Result<()> {
    run(&args.act, &Verb::Approve { batch: args.batch.map(usize::from) }).await
}

/// Sends devices back.
///
/// # Errors
/// As [`run`].
pub async fn rollback(args: &RollbackArgs) -> anyhow::Result<()> {
    if args.device.is_empty() {
        return run(&args.act, &Verb::RollBack).await;
    }
    let ActArgs { rollout, say, cluster } = &args.act;
    let cluster = Cluster::connect(cluster).await?;
    for name in &args.device {
        // UUIDs are written in either case, names of objects in the lower one.
        let device: Device = cluster.get(&name.to_lowercase()).await?;
        on(&cluster, rollout, &Verb::RollBackDevice { device: Candidate::from(&device) }, say).await?;
    }
    Ok(())
}

/// Does it.
///
/// # Errors
/// When the rollout isn't there, the verb doesn't fit, or the API server refuses.
pub async fn run(args: &ActArgs, verb: &Verb) -> anyhow::Result<()> {
    let cluster = Cluster::connect(&args.cluster).await?;
    on(&cluster, &args.rollout, verb, &args.say).await
}

/// Does it on a rollout of a cluster.
///
/// # Errors
/// As [`run`].
pub(crate) async fn on(cluster: &Cluster, name: &str, verb: &Verb, say: &SayArgs) -> anyhow::Result<()> {
    let (rollout, person) = tokio::join!(cluster.get::<ImageRollout>(name), person::of(cluster, say));
    let mut rollout = rollout?;
    for _ in 0..TRIES {
        let decision = decide(&rollout, verb, &person).map_err(|conflict| Fault::new(Code::Conflict, conflict.text))?;
        let (patch, effect) = match decision {
            Decision::Already { text } => return print(&format!("{text}\n")),
            Decision::Change { patch, effect } => (patch, effect),
        };
        match cluster.merge::<ImageRollout>(name, &patch, say.dry_run).await {
            Ok(changed) if say.dry_run => return show(cluster, &rollout, &changed, verb, &effect).await,
            Ok(_) => return print(&format!("{name} {}: {}\n", done(verb), effect.text)),
            // Somebody wrote meanwhile, most often the controller.
            Err(kube::Error::Api(status)) if status.is_conflict() => rollout = cluster.get(name).await?,
            Err(error) => {
                return Err(request::<ImageRollout>("patch", Some(name), &cluster.namespace).refused(&error).into());
            }
        }
    }
    let text = format!("rollout {name} is changed by others faster than it can be read; try again");
    Err(Fault::new(Code::Error, text).into())
}

/// The planner's word on the rollout as it is, and as it would be.
async fn show(
    cluster: &Cluster,
    rollout: &ImageRollout,
    changed: &ImageRollout,
    verb: &Verb,
    effect: &Effect,
) -> anyhow::Result<()> {
    let world = World::read(cluster).await?;
    let now = crate::clock::now();
    let (before, after) = (world.plan(rollout, now), world.plan(changed, now));
    let name = rollout.metadata.name.as_deref().unwrap_or_default();
    print(&format!(
        "{name} would be {}: {} (dry run, nothing is written)\n{}{}",
        done(verb),
        effect.text,
        difference(&before, &after),
        world.notes()
    ))
}

fn done(verb: &Verb) -> &'static str {
    match verb {
        Verb::Pause => "paused",
        Verb::Resume => "resumed",
        Verb::Approve { .. } => "approved",
        Verb::Cancel => "cancelled",
        Verb::RollBack | Verb::RollBackDevice { .. } => "rolled back",
    }
}
