//! The error gate: whether a batch has failed, by its devices or by an analysis, and the halt that follows.

use crate::api::condition::truncate;
use crate::api::rollout::{FailedAnalysis, Halted};
use crate::api::time::whole_seconds;

use super::advance::Judged;
use super::proof::Finding;
use super::validated::Rules;
use super::{Pass, status};

/// Longest message of a failed analysis; the bound of the CRD.
const MAX_MESSAGE: usize = 512;

/// The error gate. Failures that a person has acknowledged stay acknowledged in the batch where they happened: the
/// budget of every other batch is its own.
pub(super) fn judge(pass: &mut Pass<'_>, rules: &Rules, judged: &Judged, still_halted: bool) {
    analyses(pass, rules);
    let analysed = pass.status.batches.iter().filter(|batch| batch.failed_analysis.is_some()).count();
    let devices: i32 = judged.tallies.iter().map(|tally| tally.failed).sum();
    let failures = devices + i32::try_from(analysed).unwrap_or(i32::MAX);
    if failures <= pass.spec().acknowledged_failures {
        for (batch, tally) in pass.status.batches.iter_mut().zip(&judged.tallies) {
            batch.acknowledged = batch.acknowledged.max(tally.failed);
            batch.failed_analysis.iter_mut().for_each(|failed| failed.acknowledged = true);
        }
    }
    let tripped = judged
        .tallies
        .iter()
        .zip(&pass.status.batches)
        .take(usize::try_from(pass.status.current_batch).unwrap_or_default())
        .enumerate()
        .position(|(index, (tally, batch))| {
            let analysis = batch.failed_analysis.as_ref().is_some_and(|failed| !failed.acknowledged);
            let sampled = tally.is_decided() || tally.failed + tally.healthy >= rules.min_sample;
            analysis || (sampled && tally.failed > rules.tolerated(index, tally.judged()).max(batch.acknowledged))
        })
        .map(|index| i32::try_from(index + 1).unwrap_or(i32::MAX));
    pass.status.halted = match (&pass.old.halted, tripped) {
        // It stays halted until a person has seen what halted it, even if the failed devices go away.
        (Some(before), _) if still_halted => Some(Halted { failures: before.failures.max(failures), ..before.clone() }),
        (_, Some(batch)) => {
            let halted = Halted { time: whole_seconds(pass.now), batch, failures };
            status::note(pass, "RolloutHalted", why(pass, rules, judged, &halted));
            Some(halted)
        }
        (_, None) => None,
    };
}

/// Puts analyses on record that have failed. Only of the batch that is being watched: what comes later is about others.
fn analyses(pass: &mut Pass<'_>, rules: &Rules) {
    let number = usize::try_from(pass.status.current_batch).unwrap_or_default();
    let Some(batch) = number.checked_sub(1).and_then(|index| pass.status.batches.get_mut(index)) else { return };
    if batch.completion_time.is_none() || batch.failed_analysis.is_some() {
        return;
    }
    let found = rules.analyses.iter().filter_map(|name| pass.observed.proofs.analysis(number, name));
    let mut failed = found.filter_map(|found| match &found.finding {
        Finding::Failed(why) => Some(why),
        Finding::Passed | Finding::Pending | Finding::Unknown(_) => None,
    });
    batch.failed_analysis = failed.next().map(|why| FailedAnalysis {
        time: whole_seconds(pass.now),
        message: truncate(why.clone(), MAX_MESSAGE),
        acknowledged: false,
    });
}

/// Why a rollout is halted.
pub(super) fn why(pass: &Pass<'_>, rules: &Rules, judged: &Judged, halted: &Halted) -> String {
    let batch = usize::try_from(halted.batch).unwrap_or(1).max(1);
    let analysis = pass.status.batches.get(batch - 1).and_then(|batch| batch.failed_analysis.as_ref());
    if let Some(failed) = analysis.filter(|failed| !failed.acknowledged) {
        return format!("an analysis of batch {batch} failed, {}", failed.message);
    }
    let tally = judged.tallies.get(batch - 1).copied().unwrap_or_default();
    let (failed, devices) = (tally.failed, tally.judged());
    let tolerated = rules.tolerated(batch - 1, devices);
    format!("{failed} of {devices} devices of batch {batch} failed, {tolerated} tolerated")
}

#[cfg(test)]
mod tests;
