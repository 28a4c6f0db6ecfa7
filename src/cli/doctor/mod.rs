//! `tranche doctor`: is this cluster fit for Tranche, and is something stuck?
//!
//! Asks only, writes nothing, and reads no Secret. Each check says in one sentence what it found and, unless all is well,
//! what to do.

mod deployment;
mod objects;
mod rights;
mod server;

use clap::{Args, ValueEnum};
use serde_json::json;

use super::cluster::{Cluster, ClusterArgs};
use super::output::{Style, Tone, json, print};

/// Check a cluster
#[derive(Args, Debug)]
pub struct DoctorArgs {
    /// How to print it
    #[arg(short, long, value_enum, default_value_t = Format::Text)]
    pub output: Format,
    /// Where.
    #[command(flatten)]
    pub cluster: ClusterArgs,
}

/// How to print findings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people
    Text,
    /// For programs
    Json,
}

/// How grave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Grade {
    /// As it should be.
    Good,
    /// Could not be looked at, or there was nothing to look at.
    Unknown,
    /// Works, and somebody should look.
    Warn,
    /// Does not work.
    Bad,
}

impl Grade {
    fn sign(self) -> (&'static str, Tone, &'static str) {
        match self {
            Self::Good => ("✓", Tone::Good, "good"),
            Self::Unknown => ("-", Tone::Faint, "unknown"),
            Self::Warn => ("!", Tone::Warn, "warning"),
            Self::Bad => ("✗", Tone::Bad, "bad"),
        }
    }
}

/// What a check has found.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Finding {
    check: &'static str,
    grade: Grade,
    text: String,
    advice: Option<String>,
}

impl Finding {
    fn good(check: &'static str, text: impl Into<String>) -> Self {
        Self { check, grade: Grade::Good, text: text.into(), advice: None }
    }

    fn unknown(check: &'static str, text: impl Into<String>) -> Self {
        Self { check, grade: Grade::Unknown, text: text.into(), advice: None }
    }

    fn warn(check: &'static str, text: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { check, grade: Grade::Warn, text: text.into(), advice: Some(advice.into()) }
    }

    fn bad(check: &'static str, text: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { check, grade: Grade::Bad, text: text.into(), advice: Some(advice.into()) }
    }
}

/// Checks a cluster.
///
/// # Errors
/// When something is wrong; what, is printed.
pub async fn run(args: &DoctorArgs) -> anyhow::Result<()> {
    let cluster = Cluster::connect(&args.cluster).await?;
    let mut findings = vec![server::reachable(&cluster).await];
    // Of a cluster that doesn't answer there is nothing more to say.
    if findings[0].grade != Grade::Bad {
        let (kinds, clock, rights) =
            tokio::join!(server::kinds(&cluster), server::clock(&cluster), rights::of_user(&cluster));
        let installed = kinds.iter().all(|finding| finding.grade != Grade::Bad);
        findings.extend(kinds);
        findings.push(clock);
        if installed {
            findings.extend(rights);
            let deployed = deployment::read(&cluster).await;
            findings.extend(rights::of_components(&cluster, deployment::enrols(&deployed)).await);
            findings.push(deployment::webhook_secret(&deployed));
            findings.extend(objects::all(&cluster).await);
        }
    }
    let bad = findings.iter().filter(|finding| finding.grade == Grade::Bad).count();
    print(&match args.output {
        Format::Text => as_text(&findings, Style::of_stdout()),
        Format::Json => as_json(&findings)?,
    })?;
    match bad {
        0 => Ok(()),
        1 => anyhow::bail!("1 thing is wrong"),
        several => anyhow::bail!("{several} things are wrong"),
    }
}

fn as_text(findings: &[Finding], style: Style) -> String {
    let wide = findings.iter().map(|finding| finding.check.len()).max().unwrap_or_default();
    let mut text = String::new();
    for Finding { check, grade, text: found, advice } in findings {
        let (sign, tone, _) = grade.sign();
        text += &format!("{} {check:<wide$}  {found}\n", style.paint(sign, tone));
        if let Some(advice) = advice {
            text += &format!("  {:<wide$}  -> {advice}\n", "");
        }
    }
    text
}

fn as_json(findings: &[Finding]) -> anyhow::Result<String> {
    let list: Vec<_> = findings
        .iter()
        .map(|Finding { check, grade, text, advice }| {
            json!({ "check": check, "grade": grade.sign().2, "message": text, "advice": advice })
        })
        .collect();
    let fine = findings.iter().all(|finding| finding.grade != Grade::Bad);
    Ok(json(&json!({ "ok": fine, "findings": list }))? + "\n")
}

/// `1 device`, `2 devices`.
fn count(number: usize, one: &str) -> String {
    if number == 1 { format!("1 {one}") } else { format!("{number} {one}s") }
}

/// The first few names, and how many more there are.
fn few(names: &[String]) -> String {
    const FEW: usize = 3;
    match names.len().saturating_sub(FEW) {
        0 => names.join(", "),
        more => format!("{} and {more} more", names[..FEW].join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn findings_for_people_and_for_programs() {
        let findings = [
            Finding::good("cluster", "Kubernetes v1.36.0"),
            Finding::bad("gateway", "silent", "start `tranche run gateway`"),
        ];
        assert_eq!(
            as_text(&findings, Style::default()),
            "✓ cluster  Kubernetes v1.36.0\n✗ gateway  silent\n           -> start `tranche run gateway`\n"
        );
        let value: serde_json::Value = serde_json::from_str(&as_json(&findings).unwrap()).unwrap();
        assert_eq!(value["ok"], false);
        assert_eq!(value["findings"][1]["grade"], "bad");
    }

    #[test]
    fn names() {
        let names = |count: usize| (0..count).map(|n| n.to_string()).collect::<Vec<_>>();
        assert_eq!(few(&names(3)), "0, 1, 2");
        assert_eq!(few(&names(5)), "0, 1, 2 and 2 more");
    }
}
