//! What looking found: the results of health checks that are more than a device's own report.
//!
//! Looks are taken outside, by the controller; here is what they came to, as plain values, and what follows for a device.
//! Nothing of it is stored: a batch that is complete is the record that its devices passed, and a Failed is stored like
//! any other. So after a restart only devices of incomplete batches are looked at again.

use std::collections::{BTreeMap, HashMap};

use jiff::Timestamp;

use crate::api::rollout::{ImageRolloutStatus, Phase};

use super::observed::{Evidence, Member, Standing};
use super::validated::Rules;

/// What the health checks of one device come to, all together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Proof {
    /// All have passed, or there are none.
    #[default]
    Passed,
    /// One has not been looked at yet.
    Pending,
    /// One could not be looked at, for reasons of ours. No verdict, ever.
    Unknown,
    /// One has failed.
    Failed,
}

/// What was found of one device, or of one batch by one analysis.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finding {
    /// It is as it should be.
    Passed,
    /// Not looked at yet.
    Pending,
    /// It could not be looked at: why, beginning with the name of the check.
    Unknown(String),
    /// It is not as it should be: why, beginning with the name of the check.
    Failed(String),
}

impl Finding {
    /// In short.
    #[must_use]
    pub fn proof(&self) -> Proof {
        match self {
            Self::Passed => Proof::Passed,
            Self::Pending => Proof::Pending,
            Self::Unknown(_) => Proof::Unknown,
            Self::Failed(_) => Proof::Failed,
        }
    }
}

/// A finding about a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceFinding {
    /// The release that it is about: `releaseTime` of the device's entry, Unix seconds.
    pub release: i64,
    /// What was found since.
    pub finding: Finding,
}

/// A finding about a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BatchFinding {
    /// Name of the analysis.
    pub analysis: String,
    /// When Prometheus was asked last.
    pub at: Timestamp,
    /// What it said.
    pub finding: Finding,
}

/// Everything that was found for one rollout.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Proofs {
    /// By name of the device.
    pub devices: HashMap<String, DeviceFinding>,
    /// By number of the batch, from 1.
    pub batches: BTreeMap<usize, Vec<BatchFinding>>,
}

impl Proofs {
    /// What was found of a device since its present release.
    #[must_use]
    pub fn of(&self, member: &Member<'_>) -> Option<&Finding> {
        let found = self.devices.get(&member.view.name)?;
        (found.release == member.since).then_some(&found.finding)
    }

    /// What an analysis said of a batch.
    #[must_use]
    pub fn analysis(&self, batch: usize, name: &str) -> Option<&BatchFinding> {
        self.batches.get(&batch)?.iter().find(|found| found.analysis == name)
    }

    /// What the checks of a device come to. `now`: when a latecomer of a completed rollout has been there for the whole of
    /// its deadline, it is not judged any more.
    #[must_use]
    pub fn proof(
        &self,
        member: &Member<'_>,
        rules: &Rules,
        status: Option<&ImageRolloutStatus>,
        now: Timestamp,
    ) -> Proof {
        if rules.probes.is_empty() || member.standing != Standing::Released(Evidence::Running) {
            return Proof::Passed;
        }
        if let Some(finding) = self.of(member) {
            return finding.proof();
        }
        let Some(status) = status else { return Proof::Pending };
        let completed = usize::from(member.batch)
            .checked_sub(1)
            .and_then(|index| status.batches.get(index)?.completion_time.as_ref())
            // Latecomers are never told in that second (see `release`), so whoever was has passed.
            .is_some_and(|completed| completed.0.as_second() >= member.since);
        let settled = status.phase == Phase::Completed && now.as_second().saturating_sub(member.since) > rules.deadline;
        if completed || settled { Proof::Passed } else { Proof::Pending }
    }
}

/// Whether a device is to be looked at, and again if it has passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Look {
    /// No.
    No,
    /// No, but what was found is to be kept: the planner has yet to store it.
    Keep,
    /// Until there is a result.
    Once,
    /// Now and then: its batch soaks.
    Again,
}

/// Whether a device is to be looked at, in a rollout of this status.
#[must_use]
pub fn look(member: &Member<'_>, rules: &Rules, status: &ImageRolloutStatus) -> Look {
    let judged = match status.phase {
        Phase::Progressing | Phase::Soaking | Phase::Paused | Phase::Halted | Phase::AwaitingApproval => true,
        // A latecomer.
        Phase::Completed => {
            let completed = status.completion_time.as_ref().map_or(i64::MAX, |time| time.0.as_second());
            member.since > completed
        }
        Phase::Pending
        | Phase::RollingBack
        | Phase::RolledBack
        | Phase::Cancelled
        | Phase::Superseded
        | Phase::Failed => false,
    };
    let runs = member.standing == Standing::Released(Evidence::Running) && !member.failed;
    if !judged || !runs || rules.probes.is_empty() {
        return Look::No;
    }
    let current = i32::from(member.batch) == status.current_batch && status.phase != Phase::Completed;
    match member.proof {
        Proof::Pending | Proof::Unknown => Look::Once,
        Proof::Passed if current => Look::Again,
        Proof::Passed => Look::No,
        Proof::Failed => Look::Keep,
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
    use serde_json::json;

    use super::super::fixture::{at, policy};
    use super::super::observed::DeviceView;
    use super::super::validated::ValidatedPolicy;
    use super::*;
    use crate::api::rollout::BatchStatus;

    fn rules() -> Rules {
        let checks = json!({"healthChecks": [{"name": "web", "tcp": {"port": 80}}, {"name": "c", "container": {}}]});
        ValidatedPolicy::new(&policy(&checks)).expect("a good one").rules
    }

    fn member(view: &DeviceView, since: i64, standing: Standing) -> Member<'_> {
        let since = at(since).as_second();
        Member {
            view,
            rank: 0,
            seen: since,
            since,
            selected: 1,
            batch: 1,
            failed: false,
            proof: Proof::Passed,
            standing,
        }
    }

    fn status(phase: Phase, completed: Option<i64>) -> ImageRolloutStatus {
        let completion_time = completed.map(|seconds| Time(at(seconds)));
        ImageRolloutStatus {
            phase,
            current_batch: 1,
            completion_time: completion_time.clone(),
            batches: vec![BatchStatus { completion_time, ..BatchStatus::default() }],
            ..ImageRolloutStatus::default()
        }
    }

    const RUNS: Standing = Standing::Released(Evidence::Running);

    #[test]
    fn what_is_proven() {
        let view = DeviceView { name: "a".into(), ..DeviceView::default() };
        let found = |release: i64, finding: Finding| Proofs {
            devices: [("a".to_owned(), DeviceFinding { release: at(release).as_second(), finding })].into(),
            ..Proofs::default()
        };
        let why = || "web: no".to_owned();
        let progressing = status(Phase::Progressing, None);
        let complete = status(Phase::Soaking, Some(20));
        for (standing, proofs, status, expected) in [
            (RUNS, Proofs::default(), &progressing, Proof::Pending),
            (RUNS, found(10, Finding::Passed), &progressing, Proof::Passed),
            (RUNS, found(10, Finding::Failed(why())), &progressing, Proof::Failed),
            (RUNS, found(10, Finding::Unknown(why())), &progressing, Proof::Unknown),
            // Of an earlier release.
            (RUNS, found(9, Finding::Passed), &progressing, Proof::Pending),
            // A complete batch is the record; but what is found since counts more.
            (RUNS, Proofs::default(), &complete, Proof::Passed),
            (RUNS, found(10, Finding::Failed(why())), &complete, Proof::Failed),
            // A latecomer to it is not part of that record.
            (RUNS, Proofs::default(), &status(Phase::Soaking, Some(9)), Proof::Pending),
            // It was told, ran and was looked at within a second.
            (RUNS, Proofs::default(), &status(Phase::Soaking, Some(10)), Proof::Passed),
            (Standing::Released(Evidence::NotRunning), Proofs::default(), &progressing, Proof::Passed),
        ] {
            let proof = proofs.proof(&member(&view, 10, standing), &rules(), Some(status), at(30));
            assert_eq!(proof, expected, "{standing:?} {proofs:?} {:?}", status.phase);
        }
        let mut none = rules();
        none.probes.clear();
        assert_eq!(Proofs::default().proof(&member(&view, 10, RUNS), &none, Some(&progressing), at(30)), Proof::Passed);
        let ended = status(Phase::Completed, Some(5));
        for (now, expected) in [(610, Proof::Pending), (611, Proof::Passed)] {
            assert_eq!(
                Proofs::default().proof(&member(&view, 10, RUNS), &rules(), Some(&ended), at(now)),
                expected,
                "{now}"
            );
        }
    }

    #[test]
    fn who_is_looked_at() {
        let view = DeviceView::default();
        let base = member(&view, 10, RUNS);
        let running = status(Phase::Progressing, None);
        for (what, member, status, expected) in [
            ("pending", Member { proof: Proof::Pending, ..base }, &running, Look::Once),
            ("unknown", Member { proof: Proof::Unknown, ..base }, &running, Look::Once),
            ("failed", Member { proof: Proof::Failed, ..base }, &running, Look::Keep),
            ("passed", base, &running, Look::Again),
            ("passed, earlier batch", Member { batch: 2, ..base }, &running, Look::No),
            ("on record", Member { failed: true, proof: Proof::Pending, ..base }, &running, Look::No),
            ("not running", Member { standing: Standing::Unreleased, ..base }, &running, Look::No),
            ("going back", Member { proof: Proof::Pending, ..base }, &status(Phase::RollingBack, None), Look::No),
            ("judged", Member { proof: Proof::Pending, ..base }, &status(Phase::Completed, Some(10)), Look::No),
            ("latecomer", Member { proof: Proof::Pending, ..base }, &status(Phase::Completed, Some(9)), Look::Once),
            ("latecomer that passed", base, &status(Phase::Completed, Some(9)), Look::No),
        ] {
            assert_eq!(look(&member, &rules(), status), expected, "{what}");
        }
    }
}
