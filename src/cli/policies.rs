//! `tranche policies`: what people do with policies beyond what kubectl does as well.

use anyhow::{Context as _, bail};
use clap::{Args, Subcommand};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt as _;
use kube::api::{Patch, PatchParams};
use serde_json::json;

use super::cluster::{Cluster, ClusterArgs};
use crate::api::ImageUpdatePolicy;
use crate::api::policy::ForgivenImage;
use crate::api::time::whole_seconds;

/// Policies in the cluster.
#[derive(Debug, Subcommand)]
pub enum PoliciesCommand {
    /// Let images come back that were rolled back: with the next push, or by polling
    Forgive(ForgiveArgs),
}

/// Which images are forgiven.
#[derive(Args, Debug)]
pub struct ForgiveArgs {
    /// The policy.
    pub policy: String,
    /// The image, as status.rejected of the policy has it. Default: all of them.
    pub image: Option<String>,
    /// Where.
    #[command(flatten)]
    pub cluster: ClusterArgs,
}

impl PoliciesCommand {
    /// Runs it.
    ///
    /// # Errors
    /// Whatever the person should know.
    pub async fn run(self) -> anyhow::Result<()> {
        match self {
            Self::Forgive(args) => forgive(&args).await,
        }
    }
}

async fn forgive(args: &ForgiveArgs) -> anyhow::Result<()> {
    let cluster = Cluster::connect(&args.cluster).await?;
    let policy: ImageUpdatePolicy = cluster.get(&args.policy).await?;
    let name = policy.name_any();
    let rejected: Vec<&str> = policy.rejected().map(|rejected| rejected.image.as_str()).collect();
    let chosen: Vec<&str> = match &args.image {
        None => rejected,
        Some(image) if rejected.contains(&image.as_str()) => vec![image],
        Some(image) if rejected.is_empty() => {
            bail!("policy {name} has rejected no image, so {image} needs no forgiving")
        }
        Some(image) => bail!("policy {name} has not rejected {image}; it has rejected {}", rejected.join(", ")),
    };
    if chosen.is_empty() {
        println!("policy {name} has rejected no image");
        return Ok(());
    }
    let body = json!({
        // What was forgiven meanwhile is not to be lost.
        "metadata": { "resourceVersion": policy.resource_version() },
        "spec": { "forgiven": with_forgiven(&policy, &chosen, &whole_seconds(crate::clock::now())) },
    });
    cluster
        .api::<ImageUpdatePolicy>()
        .patch(&name, &PatchParams::default(), &Patch::Merge(body))
        .await
        .with_context(|| format!("changing policy {name}"))?;
    for image in chosen {
        println!("policy {name} forgives {image}: the next push of it is rolled out");
    }
    Ok(())
}

/// The list that the policy is to have. What no longer matters gives way: a forgiven image that is rejected no more has
/// done its work.
fn with_forgiven(policy: &ImageUpdatePolicy, images: &[&str], now: &Time) -> Vec<ForgivenImage> {
    let remembered = policy.status.iter().flat_map(|status| &status.rejected);
    let remembered: Vec<&str> = remembered.map(|rejected| rejected.image.as_str()).collect();
    let kept = policy
        .spec
        .forgiven
        .iter()
        .filter(|old| remembered.contains(&old.image.as_str()) && !images.contains(&old.image.as_str()));
    let new = images.iter().map(|image| ForgivenImage { image: (*image).to_owned(), time: now.clone() });
    kept.cloned().chain(new).collect()
}
