//! The command line: one binary, thin commands.

pub mod cluster;
pub mod completion;
pub mod crds;
pub mod devices;
pub mod doctor;
pub mod enrol;
pub mod fault;
pub mod keys;
pub mod list;
pub mod output;
pub mod person;
pub mod plan;
pub mod policies;
pub mod preflight;
pub mod preview;
pub mod progress;
pub mod rollouts;
pub mod run;
pub mod simulate;
pub mod words;
pub mod world;

use std::ffi::OsString;
use std::path::Path;

use clap::{CommandFactory as _, FromArgMatches as _, Parser, Subcommand};
use tokio::runtime::{Builder, Runtime};

/// What `--help` says last.
const EXIT_CODES: &str = "\
Exit codes: 0 done, or done already; 1 error; 2 wrong usage; 3 not found; 4 the verb does not fit where the object stands; \
5 a watched rollout ended otherwise than Completed; 6 not in time; 130 interrupted. `doctor`: 0 fine, 1 something is wrong.";

/// Rolls new container images out to fleets of devices in batches, watches every batch, and stops or goes back by
/// itself when a batch goes wrong.
#[derive(Debug, Parser)]
#[command(name = "tranche", version, about, max_term_width = 100, after_help = EXIT_CODES)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Rollouts in the cluster
    #[command(subcommand, visible_aliases = ["rollout", "iro"])]
    Rollouts(rollouts::RolloutsCommand),
    /// Policies in the cluster
    #[command(subcommand, visible_aliases = ["policy", "iup"])]
    Policies(policies::PoliciesCommand),
    /// Devices in the cluster
    #[command(subcommand, visible_aliases = ["device", "idev"])]
    Devices(devices::DevicesCommand),
    /// Provisioning keys, by which devices enrol
    #[command(subcommand)]
    Enrol(enrol::EnrolCommand),
    /// Check a cluster: kinds, rights, clocks, gateways, what is stuck; says what to do
    Doctor(doctor::DoctorArgs),
    /// Run the controller, the device gateway and the API, or some of them
    Run(run::RunArgs),
    /// Print the custom resource definitions, to apply with kubectl
    Crds(crds::CrdsArgs),
    /// Print what the planner would do to objects from files, and why
    Plan(plan::PlanArgs),
    /// Simulate a fleet of devices that poll, pull, restart and report
    Simulate(simulate::SimulateArgs),
    /// Print the completion script of a shell
    Completion(completion::CompletionArgs),
}

impl Command {
    /// What it runs on. A command that asks one thing after the other needs no thread for each processor.
    ///
    /// # Errors
    /// When the machine has no thread left.
    pub fn runtime(&self) -> std::io::Result<Runtime> {
        match self {
            Self::Run(_) | Self::Simulate(_) => Builder::new_multi_thread().enable_all().build(),
            // One beside the one that prints: the next page comes in while this one is written.
            Self::Rollouts(_) | Self::Policies(_) | Self::Devices(_) | Self::Enrol(_) | Self::Doctor(_) => {
                Builder::new_multi_thread().worker_threads(1).enable_all().build()
            }
            Self::Crds(_) | Self::Plan(_) | Self::Completion(_) => Builder::new_current_thread().enable_all().build(),
        }
    }
}

impl Cli {
    /// Reads the arguments; ends the process where they make no sense, or ask for help. Under the name
    /// `kubectl-tranche` it is kubectl's plugin, and shows its usage as that.
    #[must_use]
    pub fn from_args(args: impl IntoIterator<Item = OsString>) -> Self {
        let args: Vec<OsString> = args.into_iter().collect();
        if program_name(args.first()) == completion::KUBECTL_ASKS {
            let typed: Vec<String> = args.iter().skip(1).map(|arg| arg.to_string_lossy().into_owned()).collect();
            // Nobody to tell if nobody listens.
            let _ = output::print(&completion::next_words(&typed));
            std::process::exit(0);
        }
        let matches = command(args.first()).get_matches_from(args);
        Self::from_arg_matches(&matches).unwrap_or_else(|error| error.exit())
    }

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
            Command::Doctor(args) => doctor::run(&args).await,
            Command::Simulate(args) => simulate::run(args).await,
            Command::Completion(args) => completion::run(&args),
        }
    }
}

/// The command line, as a program of that path has it.
#[must_use]
pub fn command(program: Option<&OsString>) -> clap::Command {
    let command = Cli::command();
    if program_name(program) == "kubectl-tranche" {
        command.name("kubectl-tranche").bin_name("kubectl tranche").display_name("kubectl tranche")
    } else {
        command
    }
}

/// What it is called by, without the folder and, on Windows, without `.exe`.
fn program_name(program: Option<&OsString>) -> String {
    let name = program.and_then(|path| Path::new(path).file_stem()).unwrap_or_default();
    name.to_string_lossy().into_owned()
}
