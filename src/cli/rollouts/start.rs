//! `tranche rollouts start` and `retry`: rollouts that a person makes.

use clap::Args;
use jiff::Timestamp;
use kube::ResourceExt as _;
use kube::api::PostParams;

use crate::api::{ImageRef, ImageRollout, ImageUpdatePolicy};
use crate::cli::cluster::{Cluster, ClusterArgs, request};
use crate::cli::fault::{Code, Fault};
use crate::cli::output::print;
use crate::cli::person::{self, SayArgs};
use crate::cli::preview::beginning;
use crate::cli::world::World;
use crate::registry::claim::{Claim, Word};
use crate::verbs::{self, There};

use super::list::{image_of, phase_of};

/// What is rolled out.
#[derive(Args, Debug)]
pub struct StartArgs {
    /// The policy that it follows
    pub policy: String,
    /// The image, such as acme/app:v2
    pub image: ImageRef,
    /// Start paused: look at it first, then resume it
    #[arg(long)]
    pub paused: bool,
    /// Release nothing earlier, such as 2026-12-01T22:00:00Z
    #[arg(long, value_name = "TIME")]
    pub not_before: Option<Timestamp>,
    /// How.
    #[command(flatten)]
    pub say: SayArgs,
    /// Where.
    #[command(flatten)]
    pub cluster: ClusterArgs,
}

/// What is tried again.
#[derive(Args, Debug)]
pub struct RetryArgs {
    /// The rollout that did not complete
    pub rollout: String,
    /// How.
    #[command(flatten)]
    pub say: SayArgs,
    /// Where.
    #[command(flatten)]
    pub cluster: ClusterArgs,
}

/// Makes a rollout of an image.
///
/// # Errors
/// When the policy isn't there or isn't for that image, or the API server refuses.
pub async fn start(args: &StartArgs) -> anyhow::Result<()> {
    let cluster = Cluster::connect(&args.cluster).await?;
    let (policy, person) =
        tokio::join!(cluster.get::<ImageUpdatePolicy>(&args.policy), person::of(&cluster, &args.say));
    let policy = policy?;
    match Claim::of(&policy).word_on(&args.image) {
        Word::Silent => {
            let text = format!(
                "policy {} is for {}, which does not match {}",
                args.policy, policy.spec.image.pattern, args.image
            );
            return Err(Fault::new(Code::Conflict, text).into());
        }
        // A person's word goes before a policy's; they should know all the same.
        Word::No(reason) => eprintln!("note: a push of {} would not be rolled out: {reason}", args.image),
        Word::Unreadable(reason) => eprintln!("note: {reason}"),
        Word::Yes(_) => {}
    }
    let mut rollout = verbs::start(&policy, &args.image, &person);
    rollout.spec.paused = args.paused;
    rollout.spec.not_before = args.not_before.map(crate::api::time::whole_seconds);
    create(&cluster, rollout, args.say.dry_run).await
}

/// Makes a rollout of the same image again.
///
/// # Errors
/// When the first isn't there, or runs, or has completed, or the API server refuses.
pub async fn retry(args: &RetryArgs) -> anyhow::Result<()> {
    let cluster = Cluster::connect(&args.cluster).await?;
    let (rollout, person) = tokio::join!(cluster.get::<ImageRollout>(&args.rollout), person::of(&cluster, &args.say));
    let again = verbs::retry(&rollout?, &person).map_err(|conflict| Fault::new(Code::Conflict, conflict.text))?;
    create(&cluster, again, args.say.dry_run).await
}

async fn create(cluster: &Cluster, rollout: ImageRollout, dry_run: bool) -> anyhow::Result<()> {
    let name = rollout.name_any();
    let params = PostParams { dry_run, field_manager: Some("tranche".into()) };
    match cluster.api::<ImageRollout>().create(&params, &rollout).await {
        Ok(made) if dry_run => {
            let mut world = World::read(cluster).await?;
            world.objects.rollouts.push(made.clone());
            let answer = world.plan(&made, crate::clock::now());
            print(&format!(
                "{name} would be created: {} by policy {} (dry run, nothing is written)\n{}{}",
                image_of(&made),
                made.spec.policy_ref.name,
                beginning(&answer),
                world.notes()
            ))
        }
        Ok(made) => {
            print(&format!("{name} created: {}; `tranche rollouts watch {name}` follows it\n", image_of(&made)))
        }
        Err(kube::Error::Api(status)) if status.is_already_exists() => already(cluster, &rollout).await,
        Err(error) => Err(request::<ImageRollout>("create", Some(&name), &cluster.namespace).refused(&error).into()),
    }
}

/// Names follow from what is asked for, so it was asked for before, or pushed.
async fn already(cluster: &Cluster, wanted: &ImageRollout) -> anyhow::Result<()> {
    let name = wanted.name_any();
    let there: ImageRollout = cluster.get(&name).await?;
    let (image, phase) = (image_of(&there), phase_of(&there));
    match verbs::already_there(&there, wanted) {
        There::Same => print(&format!("{name} is there already: {image} ({phase})\n")),
        There::OtherImage => {
            let text = format!("the name {name} is taken by a rollout of {image}: delete that one first");
            Err(Fault::new(Code::Conflict, text).into())
        }
        There::Ended(phase) => {
            let text = format!(
                "rollout {name} of {image} has ended ({phase}); `tranche rollouts retry {name}` rolls it out again"
            );
            Err(Fault::new(Code::Conflict, text).into())
        }
    }
}
