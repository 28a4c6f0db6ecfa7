//! `tranche rollouts list`.

use clap::Args;
use jiff::Timestamp;
use kube::ResourceExt as _;

use crate::api::ImageRollout;
use crate::api::rollout::Phase;
use crate::cli::list::{ListArgs, Row, list};
use crate::cli::output::{Cell, Column, Tone, column, wide};
use crate::cli::progress::bars;
use crate::cli::words::{age, short_image};
use crate::plan::subject::rollout_image;

/// Which rollouts.
#[derive(Args, Debug)]
pub struct RolloutListArgs {
    /// Only in these phases, by commas: Progressing, Halted, … or active, ended
    #[arg(long, value_name = "PHASE", value_delimiter = ',', value_parser = wanted)]
    pub status: Vec<Wanted>,
    /// Only of this policy
    #[arg(long, value_name = "NAME")]
    pub policy: Option<String>,
    /// How.
    #[command(flatten)]
    pub list: ListArgs,
}

/// Phases that are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// That has not ended.
    Active,
    /// That has.
    Ended,
    /// Just this one.
    Phase(Phase),
}

impl Wanted {
    fn fits(self, phase: Phase) -> bool {
        match self {
            Self::Active => !phase.is_terminal(),
            Self::Ended => phase.is_terminal(),
            Self::Phase(wanted) => wanted == phase,
        }
    }
}

const PHASES: [Phase; 12] = [
    Phase::Pending,
    Phase::AwaitingApproval,
    Phase::Progressing,
    Phase::Soaking,
    Phase::Paused,
    Phase::Halted,
    Phase::RollingBack,
    Phase::Completed,
    Phase::RolledBack,
    Phase::Cancelled,
    Phase::Superseded,
    Phase::Failed,
];

/// Phases in any case and with dashes or underscores, as other tools write them.
fn wanted(text: &str) -> Result<Wanted, String> {
    let plain = |text: &str| text.replace(['-', '_'], "").to_lowercase();
    match plain(text).as_str() {
        "active" => Ok(Wanted::Active),
        "ended" => Ok(Wanted::Ended),
        wanted => {
            PHASES.into_iter().find(|phase| plain(phase.as_str()) == wanted).map(Wanted::Phase).ok_or_else(|| {
                let names: Vec<&str> = PHASES.iter().map(|phase| phase.as_str()).collect();
                format!("a phase is active, ended, or one of {}", names.join(", "))
            })
        }
    }
}

/// Lists rollouts.
///
/// # Errors
/// When they can't be had.
pub async fn run(args: &RolloutListArgs) -> anyhow::Result<()> {
    let RolloutListArgs { status, policy, list: how } = args;
    let keep = |rollout: &ImageRollout| {
        let phase = phase_of(rollout);
        (status.is_empty() || status.iter().any(|wanted| wanted.fits(phase)))
            && policy.as_ref().is_none_or(|policy| rollout.spec.policy_ref.name == *policy)
    };
    list(how, keep).await
}

/// Where it stands; a rollout that no controller has seen is Pending.
#[must_use]
pub fn phase_of(rollout: &ImageRollout) -> Phase {
    rollout.status.as_ref().map(|status| status.phase).unwrap_or_default()
}

/// The image, as devices are told it, or as it was asked for.
#[must_use]
pub fn image_of(rollout: &ImageRollout) -> String {
    let told = rollout.status.as_ref().and_then(|status| status.image.clone());
    told.or_else(|| rollout_image(&rollout.spec).ok().map(|image| image.to_string()))
        .unwrap_or_else(|| rollout.spec.image.repository.clone())
}

impl Row for ImageRollout {
    type Kind = Self;
    const COLUMNS: &'static [Column] = &[
        column("NAME"),
        wide("POLICY"),
        column("IMAGE"),
        column("PHASE"),
        column("BATCH"),
        column("HEALTHY"),
        column("FAILED"),
        wide("DEFERRED"),
        column("AGE"),
        wide("MESSAGE"),
    ];

    fn cells(&self, now: Timestamp) -> Vec<Cell> {
        let (status, phase) = (self.status.as_ref(), phase_of(self));
        let totals = status.and_then(|status| status.totals.clone()).unwrap_or_default();
        let failed = if totals.failed > 0 { Tone::Bad } else { Tone::Plain };
        let created = self.metadata.creation_timestamp.as_ref().map(|time| time.0);
        vec![
            self.name_any().into(),
            self.spec.policy_ref.name.as_str().into(),
            shown_image(self).into(),
            Cell::toned(phase.as_str(), Tone::of(phase)),
            status.and_then(|status| status.progress.clone()).into(),
            format!("{}/{}", totals.healthy, totals.devices).into(),
            Cell::toned(totals.failed.to_string(), failed),
            totals.deferred.to_string().into(),
            age(created, now).into(),
            status.map(|status| status.message.clone()).filter(|message| !message.is_empty()).into(),
        ]
    }

    const LIVE: &'static [Column] = &[
        column("NAME"),
        column("IMAGE"),
        column("PHASE"),
        column("BATCHES"),
        column("HEALTHY"),
        column("FAILED"),
        column("AGE"),
        column("MESSAGE"),
    ];

    fn live_cells(&self, now: Timestamp) -> Vec<Cell> {
        let (status, phase) = (self.status.as_ref(), phase_of(self));
        let totals = status.and_then(|status| status.totals.clone()).unwrap_or_default();
        let failed = if totals.failed > 0 { Tone::Bad } else { Tone::Plain };
        let bars = status.map(|status| bars(&status.batches)).filter(|bars| !bars.is_empty());
        vec![
            self.name_any().into(),
            shown_image(self).into(),
            Cell::toned(phase.as_str(), Tone::of(phase)),
            bars.into(),
            format!("{}/{}", totals.healthy, totals.devices).into(),
            Cell::toned(totals.failed.to_string(), failed),
            age(self.metadata.creation_timestamp.as_ref().map(|time| time.0), now).into(),
            status.map(|status| status.message.clone()).filter(|message| !message.is_empty()).into(),
        ]
    }
}

/// The tag says more to people than the digest that devices are told.
fn shown_image(rollout: &ImageRollout) -> String {
    rollout_image(&rollout.spec).map_or_else(
        |_| image_of(rollout),
        |image| match &image.tag {
            Some(tag) => short_image(&format!("{}:{tag}", image.repository)),
            None => short_image(&image.to_string()),
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phases_as_anybody_writes_them() {
        assert_eq!(wanted("rolled_back"), Ok(Wanted::Phase(Phase::RolledBack)));
        assert_eq!(wanted("AwaitingApproval"), Ok(Wanted::Phase(Phase::AwaitingApproval)));
        assert_eq!(wanted("active"), Ok(Wanted::Active));
        assert!(wanted("done").unwrap_err().contains("Superseded"));
        assert!(Wanted::Active.fits(Phase::Halted) && !Wanted::Active.fits(Phase::Failed));
        assert!(Wanted::Ended.fits(Phase::Completed) && !Wanted::Ended.fits(Phase::Pending));
    }
}
