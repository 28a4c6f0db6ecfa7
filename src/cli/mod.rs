//! The command line: one binary, thin commands.

pub mod cluster;
pub mod crds;
pub mod devices;
pub mod enrol;
pub mod keys;
pub mod plan;
pub mod policies;
pub mod preflight;
pub mod rollouts;
pub mod run;
pub mod simulate;

use clap::{Parser, Subcommand};

/// Rolls new container images out to fleets of devices in batches, watches every batch, and stops or goes back by
/// itself when a batch goes wrong.
#[derive(Debug, Parser)]
#[command(name = "tranche", version, about, max_term_width = 100)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the controller, the device gateway and the API, or some of them
    Run(run::RunArgs),
    /// Print the custom resource definitions, to apply with kubectl
    Crds(crds::CrdsArgs),
    /// Print what the planner would do to objects from files, and why
    Plan(plan::PlanArgs),
    /// Rollouts in the cluster
    #[command(subcommand)]
    Rollouts(rollouts::RolloutsCommand),
    /// Policies in the cluster
    #[command(subcommand)]
    Policies(policies::PoliciesCommand),
    /// Devices in the cluster
    #[command(subcommand)]
    Devices(devices::DevicesCommand),
    /// Provisioning keys, by which devices enrol
    #[command(subcommand)]
    Enrol(enrol::EnrolCommand),
    /// Simulate a fleet of devices that poll, pull, restart and report
    Simulate(simulate::SimulateArgs),
}

impl Cli {
    /// Runs the command.
    ///
    /// # Errors
    /// Whatever the person should know; the text says what to do.
    pub async fn run(self) -> anyhow::Result<()> {
        match self.command {
            Command::Run(args) => run::run(args).await,
            Command::Crds(args) => crds::run(&args),
            Command::Plan(args) => plan::run(&args),
            Command::Rollouts(command) => command.run().await,
            Command::Policies(command) => command.run().await,
            Command::Devices(command) => command.run().await,
            Command::Enrol(command) => command.run().await,
            Command::Simulate(args) => simulate::run(args).await,
        }
    }
}
