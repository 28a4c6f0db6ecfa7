//! `tranche devices`: what people look at, and what they do.

mod acts;
mod get;
mod list;
mod why;

use clap::Subcommand;

/// Devices in the cluster.
#[derive(Debug, Subcommand)]
pub enum DevicesCommand {
    /// List devices
    #[command(visible_alias = "ls")]
    List(list::DeviceListArgs),
    /// Show one device: what it is told, what it runs, what failed
    #[command(visible_alias = "show")]
    Get(get::GetArgs),
    /// Say of every rollout that concerns a device what it waits for
    Why(why::WhyArgs),
    /// Let nobody move a device forward until it is released
    Hold(acts::HoldArgs),
    /// Let rollouts move a device again
    Release(acts::HoldArgs),
    /// Send a device back to its own previous image
    #[command(visible_alias = "undo")]
    Rollback(acts::RollbackArgs),
    /// Say what lets a device in; revoke it, release it, or give it another key
    Keys(super::keys::KeysArgs),
}

impl DevicesCommand {
    /// Runs it.
    ///
    /// # Errors
    /// Whatever the person should know.
    pub async fn run(self) -> anyhow::Result<()> {
        match self {
            Self::List(args) => list::run(&args).await,
            Self::Get(args) => get::run(&args).await,
            Self::Why(args) => why::run(&args).await,
            Self::Hold(args) => acts::hold(&args, true).await,
            Self::Release(args) => acts::hold(&args, false).await,
            Self::Rollback(args) => acts::rollback(&args).await,
            Self::Keys(args) => super::keys::run(args).await,
        }
    }
}
