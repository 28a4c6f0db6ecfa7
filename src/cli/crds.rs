//! `tranche crds`: the definitions of all kinds, as YAML to apply.

use std::io::Write as _;
use std::path::PathBuf;

use anyhow::Context as _;
use clap::Args;

/// Print the custom resource definitions, to apply with kubectl
#[derive(Args, Debug, Default)]
pub struct CrdsArgs {
    /// Write a file for each kind into this folder instead; may be given more than once
    #[arg(short, long, value_name = "FOLDER")]
    pub directory: Vec<PathBuf>,
}

/// Prints every CRD as one stream of YAML documents, or writes each into its file.
///
/// # Errors
/// When nothing can be written.
pub fn run(args: &CrdsArgs) -> anyhow::Result<()> {
    let CrdsArgs { directory } = args;
    for (name, text) in documents()? {
        if directory.is_empty() {
            write!(std::io::stdout().lock(), "---\n{text}").context("writing the CRDs")?;
        }
        for directory in directory {
            let path = directory.join(&name);
            std::fs::write(&path, &text).with_context(|| format!("writing {}", path.display()))?;
        }
    }
    Ok(())
}

/// The definitions as YAML documents, each with its file name.
///
/// # Errors
/// When a definition can't be written as YAML, which would be a bug.
pub fn documents() -> anyhow::Result<Vec<(String, String)>> {
    crate::api::crds()
        .into_iter()
        .map(|crd| {
            let text = serde_yaml::to_string(&crd).context("a CRD can't be written as YAML")?;
            Ok((format!("{}.yaml", crd.spec.names.plural), text))
        })
        .collect()
}
