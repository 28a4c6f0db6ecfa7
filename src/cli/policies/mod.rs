//! `tranche policies`: what people look at, and what they do.

mod check;
mod forgive;
mod get;
mod suspend;

use clap::Subcommand;

use super::list::{ListArgs, list};
use crate::api::ImageUpdatePolicy;

/// Policies in the cluster.
#[derive(Debug, Subcommand)]
pub enum PoliciesCommand {
    /// List policies
    #[command(visible_alias = "ls")]
    List(ListArgs),
    /// Show one policy: its rules, its latest image, its rollout, what it has rejected
    #[command(visible_alias = "show")]
    Get(get::GetArgs),
    /// Say which devices a policy claims and how it would go; with --image, what would become of a push
    Check(check::CheckArgs),
    /// Start no new rollout; one that runs goes on
    #[command(visible_alias = "suspend")]
    Pause(suspend::SuspendArgs),
    /// Start new rollouts again
    Resume(suspend::SuspendArgs),
    /// Let images come back that were rolled back: with the next push, or by polling
    Forgive(forgive::ForgiveArgs),
}

impl PoliciesCommand {
    /// Runs it.
    ///
    /// # Errors
    /// Whatever the person should know.
    pub async fn run(self) -> anyhow::Result<()> {
        match self {
            Self::List(args) => list(&args, |_: &ImageUpdatePolicy| true).await,
            Self::Get(args) => get::run(&args).await,
            Self::Check(args) => check::run(&args).await,
            Self::Pause(args) => suspend::run(&args, true).await,
            Self::Resume(args) => suspend::run(&args, false).await,
            Self::Forgive(args) => forgive::run(&args).await,
        }
    }
}
