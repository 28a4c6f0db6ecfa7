//! `tranche crds`: the definitions of all kinds, as YAML to apply.

use std::path::PathBuf;

use anyhow::Context as _;
use clap::Args;

/// Print the custom resource definitions, to apply with kubectl
#[derive(Args, Debug)]
pub struct CrdsArgs {
    /// Write one file a kind into this folder instead
    #[arg(long, value_name = "FOLDER")]
    pub out: Option<PathBuf>,
}

/// Prints every CRD as one stream of YAML documents, or writes a file each.
///
/// # Errors
/// When nothing can be written.
pub fn run(args: &CrdsArgs) -> anyhow::Result<()> {
    let Some(folder) = &args.out else { return print_all(&mut std::io::stdout().lock()) };
    for (name, text) in documents()? {
        let path = folder.join(name);
        std::fs::write(&path, text).with_context(|| format!("writing {}", path.display()))?;
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

fn print_all(out: &mut impl std::io::Write) -> anyhow::Result<()> {
    for (_, text) in documents()? {
        write!(out, "---\n{text}").context("writing the CRDs")?;
    }
    Ok(())
}
