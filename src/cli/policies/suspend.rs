//! `tranche policies pause` and `resume`: spec.suspend, with who and why.

use clap::Args;
use serde_json::json;

use crate::api::ImageUpdatePolicy;
use crate::cli::cluster::{Cluster, ClusterArgs, request};
use crate::cli::output::print;
use crate::cli::person::{self, SayArgs};

/// Which policy.
#[derive(Args, Debug)]
pub struct SuspendArgs {
    /// The policy
    pub policy: String,
    /// How.
    #[command(flatten)]
    pub say: SayArgs,
    /// Where.
    #[command(flatten)]
    pub cluster: ClusterArgs,
}

/// Suspends a policy, or lets it go on.
///
/// # Errors
/// When it isn't there or the API server refuses.
pub async fn run(args: &SuspendArgs, suspend: bool) -> anyhow::Result<()> {
    let cluster = Cluster::connect(&args.cluster).await?;
    let name = args.policy.as_str();
    let (policy, person) = tokio::join!(cluster.get::<ImageUpdatePolicy>(name), person::of(&cluster, &args.say));
    let policy = policy?;
    if policy.spec.suspend == suspend {
        let text = if suspend { "is paused already" } else { "is not paused" };
        return print(&format!("policy {name} {text}\n"));
    }
    let verb = if suspend { "PolicySuspended" } else { "PolicyResumed" };
    let act = person::act(verb, &person, policy.metadata.generation);
    // Of one field only: nothing else that somebody wrote meanwhile is touched.
    let patch = json!({ "metadata": { "annotations": act.annotation() }, "spec": { "suspend": suspend } });
    cluster
        .merge::<ImageUpdatePolicy>(name, &patch, args.say.dry_run)
        .await
        .map_err(|error| request::<ImageUpdatePolicy>("patch", Some(name), &cluster.namespace).refused(&error))?;
    let (is, runs) = if args.say.dry_run { ("would be", " (dry run, nothing is written)") } else { ("is", "") };
    let active = policy.status.and_then(|status| status.active_rollout);
    let text = match (suspend, active) {
        (true, Some(rollout)) => format!(
            "policy {name} {is} paused: no new rollout starts; {rollout} goes on, `tranche rollouts pause {rollout}` stops it"
        ),
        (true, None) => format!("policy {name} {is} paused: no new rollout starts"),
        (false, _) => format!("policy {name} {is} resumed: the next push is rolled out"),
    };
    print(&format!("{text}{runs}\n"))
}
