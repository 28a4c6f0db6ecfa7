//! The `tranche` binary: crypto provider, command line, dispatch.

use clap::Parser as _;
use tranche::cli::Cli;

#[tokio::main]
async fn main() -> std::process::ExitCode {
    // kube and reqwest must meet one provider, whoever of them comes first. It fails only if one is there already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    match Cli::parse().run().await {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("tranche: {error:#}");
            std::process::ExitCode::FAILURE
        }
    }
}
