//! The `tranche` binary: crypto provider, command line, dispatch.

use std::process::ExitCode;

use tranche::cli::{self, Cli};

fn main() -> ExitCode {
    // kube and reqwest must meet one provider, whoever of them comes first. It fails only if one is there already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let cli = Cli::from_args(std::env::args_os());
    let done = cli.command.runtime().map_err(Into::into).and_then(|runtime| runtime.block_on(cli.run()));
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => match cli::fault::exit_code(&error) {
            None => ExitCode::SUCCESS,
            Some(code) => {
                eprintln!("tranche: {error:#}");
                code.into()
            }
        },
    }
}
