//! `tranche doctor`.

use clap::Args;

use super::cluster::ClusterArgs;

/// Check a cluster
#[derive(Args, Debug)]
pub struct DoctorArgs {
    /// Where.
    #[command(flatten)]
    pub cluster: ClusterArgs,
}

/// Checks.
///
/// # Errors
/// When something is wrong.
pub async fn run(_args: &DoctorArgs) -> anyhow::Result<()> {
    Ok(())
}
