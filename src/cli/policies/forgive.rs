//! `tranche policies forgive`.

use clap::Args;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt as _;
use serde_json::json;

use crate::api::ImageUpdatePolicy;
use crate::api::policy::ForgivenImage;
use crate::cli::cluster::{Cluster, ClusterArgs, request};
use crate::cli::fault::{Code, Fault};
use crate::cli::output::print;
use crate::cli::person::{self, SayArgs};

/// Which images are forgiven.
#[derive(Args, Debug)]
pub struct ForgiveArgs {
    /// The policy
    pub policy: String,
    /// The image, as `policies get` shows it [default: all that are rejected]
    pub image: Option<String>,
    /// How.
    #[command(flatten)]
    pub say: SayArgs,
    /// Where.
    #[command(flatten)]
    pub cluster: ClusterArgs,
}

/// Forgives images.
///
/// # Errors
/// When the policy isn't there, or has not rejected that image.
pub async fn run(args: &ForgiveArgs) -> anyhow::Result<()> {
    let cluster = Cluster::connect(&args.cluster).await?;
    let (policy, person) =
        tokio::join!(cluster.get::<ImageUpdatePolicy>(&args.policy), person::of(&cluster, &args.say));
    let policy = policy?;
    let name = policy.name_any();
    let rejected: Vec<&str> = policy.rejected().map(|rejected| rejected.image.as_str()).collect();
    let chosen: Vec<&str> = match &args.image {
        None => rejected,
        Some(image) if rejected.contains(&image.as_str()) => vec![image],
        Some(image) if policy.spec.forgiven.iter().any(|forgiven| forgiven.image == *image) => {
            return print(&format!("policy {name} has forgiven {image} already\n"));
        }
        Some(image) if rejected.is_empty() => {
            let text = format!("policy {name} has rejected no image, so {image} needs no forgiving");
            return Err(Fault::new(Code::Conflict, text).into());
        }
        Some(image) => {
            let text = format!("policy {name} has not rejected {image}; it has rejected {}", rejected.join(", "));
            return Err(Fault::new(Code::Conflict, text).into());
        }
    };
    if chosen.is_empty() {
        return print(&format!("policy {name} has rejected no image\n"));
    }
    let act = person::act("ImagesForgiven", &person, policy.metadata.generation);
    let body = json!({
        // What was forgiven meanwhile is not to be lost.
        "metadata": { "resourceVersion": policy.resource_version(), "annotations": act.annotation() },
        "spec": { "forgiven": with_forgiven(&policy, &chosen, &act.time) },
    });
    cluster
        .merge::<ImageUpdatePolicy>(&name, &body, args.say.dry_run)
        .await
        .map_err(|error| request::<ImageUpdatePolicy>("patch", Some(&name), &cluster.namespace).refused(&error))?;
    let would = if args.say.dry_run { " (dry run, nothing is written)" } else { "" };
    chosen.iter().try_for_each(|image| {
        print(&format!("policy {name} forgives {image}: the next push of it is rolled out{would}\n"))
    })
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
