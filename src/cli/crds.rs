//! `tranche crds`: the definitions of all kinds, as YAML to apply.

use anyhow::Context as _;

/// Prints every CRD as one stream of YAML documents.
///
/// # Errors
/// When nothing can be written.
pub fn run() -> anyhow::Result<()> {
    print_all(&mut std::io::stdout().lock())
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
