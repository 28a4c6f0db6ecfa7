//! `tranche completion`: what a shell needs to complete commands.

use clap::Args;
use clap_complete::{Shell, generate};

/// Print the completion script of a shell
#[derive(Args, Debug)]
pub struct CompletionArgs {
    /// Which shell
    pub shell: Shell,
}

/// Prints it.
///
/// # Errors
/// When nobody reads it.
pub fn run(args: &CompletionArgs) -> anyhow::Result<()> {
    let mut text = Vec::new();
    generate(args.shell, &mut super::command(None), "tranche", &mut text);
    super::output::print(&String::from_utf8_lossy(&text))
}
