//! Who types, and why: what goes with every change onto the object and into its history.

use clap::Args;
use k8s_openapi::api::authentication::v1::SelfSubjectReview;
use kube::config::Kubeconfig;
use kube::{Api, api::PostParams};

use super::cluster::Cluster;
use crate::api::act::Act;
use crate::api::time::whole_seconds;
use crate::verbs::Person;

/// What goes with a change.
#[derive(Args, Clone, Debug, Default)]
pub struct SayArgs {
    /// Why, for the rollout's history and whoever reads it
    #[arg(long, value_name = "TEXT", value_parser = one_line)]
    pub reason: Option<String>,
    /// Write nothing; print what would happen, by the planner's own answer
    #[arg(long)]
    pub dry_run: bool,
}

/// A reason that is none is left out.
pub(crate) fn one_line(text: &str) -> Result<String, String> {
    crate::api::act::reason(text)?.ok_or_else(|| "a reason needs some words".to_owned())
}

/// An act of theirs, for the annotations of an object of that generation; `None` where the kind has none. Only another spec
/// makes another generation.
#[must_use]
pub fn act(verb: &str, person: &Person, generation: Option<i64>) -> Act {
    Act {
        verb: verb.to_owned(),
        by: person.name.clone(),
        reason: person.reason.clone(),
        time: whole_seconds(person.time),
        generation: generation.map_or(0, |generation| generation + 1),
    }
}

/// Who types, as the API server knows them; else as their kubeconfig calls them.
pub async fn of(cluster: &Cluster, say: &SayArgs) -> Person {
    let api: Api<SelfSubjectReview> = Api::all(cluster.client.clone());
    // Everybody may ask who they are, since 1.28; a cluster may still forbid it.
    let name = match api.create(&PostParams::default(), &SelfSubjectReview::default()).await {
        Ok(review) => review.status.and_then(|status| status.user_info).and_then(|user| user.username),
        Err(_) => None,
    };
    let name = name.or_else(configured).unwrap_or_else(|| "somebody".to_owned());
    Person { name, reason: say.reason.clone(), time: crate::clock::now() }
}

fn configured() -> Option<String> {
    let file = Kubeconfig::read().ok()?;
    let current = file.current_context?;
    file.contexts.into_iter().find(|context| context.name == current)?.context?.user
}
