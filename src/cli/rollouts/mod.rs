//! `tranche rollouts`: what people look at, and what they do.

pub(crate) mod acts;
mod get;
mod list;
mod start;
mod watch;
pub(crate) mod why;

pub use list::{image_of, phase_of};

use clap::Subcommand;

/// Rollouts in the cluster.
#[derive(Debug, Subcommand)]
pub enum RolloutsCommand {
    /// List rollouts
    #[command(visible_alias = "ls")]
    List(list::RolloutListArgs),
    /// Show one rollout: where it stands, its batches, who failed, what happened
    #[command(visible_alias = "show")]
    Get(get::GetArgs),
    /// Follow a rollout to its end; the exit code says how it ended
    Watch(watch::WatchArgs),
    /// Say what a rollout waits for, and why each device is not healthy yet
    Why(why::WhyArgs),
    /// No device moves forward until it is resumed; those that run the image keep it
    Pause(acts::ActArgs),
    /// Go on after a pause, or after a halt whose failures you have seen
    Resume(acts::ActArgs),
    /// Let the next batch open, or all up to one
    Approve(acts::ApproveArgs),
    /// Stop for good; devices that run the image keep it
    Cancel(acts::ActArgs),
    /// Send every device back to its own previous image, or only some
    #[command(visible_alias = "undo")]
    Rollback(acts::RollbackArgs),
    /// Roll the same image out again, after a rollout that did not complete
    Retry(start::RetryArgs),
    /// Roll an image out without a push
    Start(start::StartArgs),
}

impl RolloutsCommand {
    /// Runs it.
    ///
    /// # Errors
    /// Whatever the person should know.
    pub async fn run(self) -> anyhow::Result<()> {
        match self {
            Self::List(args) => list::run(&args).await,
            Self::Get(args) => get::run(&args).await,
            Self::Watch(args) => watch::run(&args).await,
            Self::Why(args) => why::run(&args).await,
            Self::Pause(args) => acts::run(&args, &crate::verbs::Verb::Pause).await,
            Self::Resume(args) => acts::run(&args, &crate::verbs::Verb::Resume).await,
            Self::Approve(args) => acts::approve(&args).await,
            Self::Cancel(args) => acts::run(&args, &crate::verbs::Verb::Cancel).await,
            Self::Rollback(args) => acts::rollback(&args).await,
            Self::Retry(args) => start::retry(&args).await,
            Self::Start(args) => start::start(&args).await,
        }
    }
}
