//! `tranche devices`: what people do with devices beyond what kubectl does as well.

use clap::Subcommand;

use super::keys::{self, KeysArgs};

/// Devices in the cluster.
#[derive(Debug, Subcommand)]
pub enum DevicesCommand {
    /// Say what lets a device in; revoke it, release it, or give it another key
    Keys(KeysArgs),
}

impl DevicesCommand {
    /// Runs it.
    ///
    /// # Errors
    /// Whatever the person should know.
    pub async fn run(self) -> anyhow::Result<()> {
        match self {
            Self::Keys(args) => keys::run(args).await,
        }
    }
}
