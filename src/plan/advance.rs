//! A rollout that runs: judge the batches, then open the next one or say what keeps it shut.
//!
//! The error gate comes first, and for every open batch: more failures than the budget allows stop the rollout at once,
//! whatever else holds. Then the success gates, in this order: pause, halt, verdicts, soak, window, approval.

use jiff::Timestamp;

use crate::api::policy::FailureAction;
use crate::api::rollout::Phase;
use crate::api::time::whole_seconds;

use super::progress::{Clock, Progress, Tally};
use super::proof::{Finding, Proof};
use super::report::WaitingOn;
use super::subject::Subject;
use super::validated::Rules;
use super::window::{Opening, opening};
use super::{Pass, approval, budget, cohort, lifecycle, release, rollback, status};

/// Devices that couldn't be looked at are looked at again about so often, and what keeps them from it may go away.
const LOOK_AGAIN: jiff::SignedDuration = jiff::SignedDuration::from_secs(30);

/// The members' progress, in their order, and the sums per batch.
pub(crate) struct Judged {
    pub(crate) progress: Vec<(u8, Progress)>,
    pub(crate) tallies: Vec<Tally>,
}

pub(crate) fn judge(pass: &Pass<'_>, clock: &Clock) -> Judged {
    let boundaries: Vec<u64> =
        pass.status.batches.iter().map(|batch| u64::from_str_radix(&batch.boundary, 16).unwrap_or(u64::MAX)).collect();
    let mut tallies = vec![Tally::default(); boundaries.len()];
    let mut progress = Vec::with_capacity(pass.observed.members.len());
    let excluded = pass.spec().roll_back_devices.iter().map(String::as_str).collect();
    for member in pass.observed.members {
        let batch = cohort::batch_of(member, &boundaries);
        let at = Progress::of(member, clock, &excluded);
        if let Some(tally) = tallies.get_mut(batch.wrapping_sub(1)) {
            tally.add(member, at, clock);
        }
        progress.push((u8::try_from(batch).unwrap_or(u8::MAX), at));
    }
    Judged { progress, tallies }
}

pub(crate) fn run(pass: &mut Pass<'_>, subject: &Subject) {
    let rules = &subject.rules;
    let was_stopped = matches!(pass.old.phase, Phase::Paused) || pass.old.halted.is_some();
    let acknowledged = pass.spec().acknowledged_failures;
    let still_halted = pass.old.halted.as_ref().is_some_and(|halted| acknowledged < halted.failures);
    let stopped = pass.spec().paused || still_halted;
    if was_stopped && !stopped {
        pass.status.resume_time = Some(whole_seconds(pass.now));
    }
    let resumed = pass.status.resume_time.as_ref().map(|time| time.0);
    let clock = Clock::new(rules, pass.observed.knowledge, resumed, stopped);
    let judged = judge(pass, &clock);
    store(pass, &judged);

    budget::judge(pass, rules, &judged, still_halted);
    if pass.status.halted.is_some() && rules.action == FailureAction::RollBackAll {
        rollback::begin(pass, "the failure budget was exceeded");
        release::verdicts(pass, subject, &judged);
        return rollback::everything(pass, subject);
    }
    release::verdicts(pass, subject, &judged);
    rollback::single_devices(pass, subject, &judged);
    if !pass.spec().paused && pass.status.halted.is_none() {
        release::withdraw(pass, subject, &judged, &clock);
    }

    let gate = gates(pass, rules, &judged);
    match gate {
        Gate::Done => {
            lifecycle::end(pass, Phase::Completed, &completed_message(pass));
            return;
        }
        Gate::Shut => {}
    }
    if may_release(pass, rules) {
        release::open_batches(pass, subject, &judged);
    }
}

fn store(pass: &mut Pass<'_>, judged: &Judged) {
    for (batch, tally) in pass.status.batches.iter_mut().zip(&judged.tallies) {
        tally.store(batch);
    }
    pass.conflicts = judged.tallies.iter().map(|tally| tally.conflict).sum();
    pass.status.totals = Some(super::progress::totals(&pass.status.batches));
    status::failed_devices(pass, judged);
    status::unchecked_devices(pass, judged);
}

enum Gate {
    /// Every batch has passed.
    Done,
    /// Something is waited for; the pass says what.
    Shut,
}

/// Completes and opens batches as far as the gates allow.
fn gates(pass: &mut Pass<'_>, rules: &Rules, judged: &Judged) -> Gate {
    let count = pass.status.batches.len();
    loop {
        let current = usize::try_from(pass.status.current_batch).unwrap_or_default().min(count);
        if current > 0
            && let Err(why) = passed(pass, rules, &judged.tallies[current - 1], current)
        {
            stopped(pass, rules, judged);
            for reason in why {
                pass.wait(reason);
            }
            return Gate::Shut;
        }
        if stopped(pass, rules, judged) {
            return Gate::Shut;
        }
        if current == count {
            // Latecomers of earlier batches held up no batch after theirs; but they are waited for before the end,
            // because devices are not judged any more after it.
            let Some(late) = judged.tallies.iter().position(|tally| !tally.is_decided()) else { return Gate::Done };
            pass.enter(Phase::Progressing);
            for reason in undecided(pass, rules, &judged.tallies[late], late + 1, false) {
                pass.wait(reason);
            }
            return Gate::Shut;
        }
        if let Err(why) = may_open(pass, rules, current + 1) {
            pass.wait(why);
            return Gate::Shut;
        }
        let devices = judged.tallies[current].devices;
        let size = pass.status.batches[current].size.clone();
        pass.status.batches[current].start_time = Some(whole_seconds(pass.now));
        pass.status.current_batch = i32::try_from(current + 1).unwrap_or(i32::MAX);
        status::note(pass, "BatchStarted", format!("batch {} of {count} ({size}): {devices} devices", current + 1));
        pass.enter(Phase::Progressing);
    }
}

/// Pause and halt: says so, and whether either holds.
fn stopped(pass: &mut Pass<'_>, rules: &Rules, judged: &Judged) -> bool {
    let mut is_stopped = false;
    if pass.spec().paused {
        pass.enter(Phase::Paused);
        pass.wait(WaitingOn::Paused);
        is_stopped = true;
    }
    if let Some(halted) = pass.status.halted.clone() {
        if !is_stopped {
            pass.enter(Phase::Halted);
        }
        let why = budget::why(pass, rules, judged, &halted);
        pass.wait(WaitingOn::Halted { why, failures: halted.failures });
        is_stopped = true;
    }
    is_stopped
}

/// Whether an open batch is decided and has soaked; keeps its completion time.
fn passed(pass: &mut Pass<'_>, rules: &Rules, tally: &Tally, number: usize) -> Result<(), Vec<WaitingOn>> {
    let index = number - 1;
    let nobody = tally.devices > 0 && tally.judged() == 0;
    let waved_through = approval::goes_on_without(pass.spec().approved_batches, number);
    let is_halted = pass.status.halted.is_some();
    if !tally.is_decided() || is_halted || (nobody && !waved_through) {
        // The soak is continuous: it starts again when a device loses its verdict or comes late to the batch.
        pass.status.batches[index].completion_time = None;
        pass.enter(Phase::Progressing);
        return Err(undecided(pass, rules, tally, number, nobody));
    }
    let done_at = match &pass.status.batches[index].completion_time {
        Some(time) => time.0,
        None => {
            let time = whole_seconds(pass.now);
            let at = time.0;
            pass.status.batches[index].completion_time = Some(time);
            let Tally { healthy, failed, deferred, .. } = *tally;
            status::note_once(
                pass,
                "BatchCompleted",
                format!("batch {number}:"),
                &format!(" {healthy} healthy, {failed} failed, {deferred} deferred"),
            );
            at
        }
    };
    let is_last = number == pass.status.batches.len();
    let delay = rules.delays.get(index).copied().unwrap_or_default();
    if tally.judged() == tally.excused {
        return Ok(());
    }
    if is_last || delay.is_zero() {
        return analysed(pass, rules, number, done_at);
    }
    // Stored times are whole seconds, rounded down; a soak must never be shorter than promised.
    let until = done_at.saturating_add(delay).and_then(|until| until.checked_add(jiff::SignedDuration::from_secs(1)));
    match until {
        Ok(until) if pass.now >= until => analysed(pass, rules, number, until),
        Ok(until) => {
            pass.requeue(until);
            pass.enter(Phase::Soaking);
            Err(vec![WaitingOn::Soak { batch: number, until }])
        }
        Err(_) => Err(vec![WaitingOn::Soak { batch: number, until: Timestamp::MAX }]),
    }
}

/// Whether every analysis of a batch has passed since it was to be asked for the last time.
fn analysed(pass: &mut Pass<'_>, rules: &Rules, batch: usize, since: Timestamp) -> Result<(), Vec<WaitingOn>> {
    if rules.analyses.is_empty() || pass.status.batches[batch - 1].failed_analysis.is_some() {
        return Ok(());
    }
    let waits = rules.analyses.iter().find_map(|analysis| {
        let found = pass.observed.proofs.analysis(batch, analysis).filter(|found| found.at >= since);
        let why = match found.map(|found| &found.finding) {
            Some(Finding::Passed) => return None,
            Some(Finding::Unknown(why)) => Some(why.clone()),
            Some(Finding::Pending | Finding::Failed(_)) | None => None,
        };
        Some(WaitingOn::Analysis { batch, analysis: analysis.clone(), why })
    });
    let Some(waits) = waits else { return Ok(()) };
    pass.enter(Phase::Soaking);
    pass.requeue(pass.now + LOOK_AGAIN);
    Err(vec![waits])
}

fn undecided(pass: &mut Pass<'_>, rules: &Rules, tally: &Tally, number: usize, nobody: bool) -> Vec<WaitingOn> {
    let mut why = Vec::new();
    if nobody {
        why.push(WaitingOn::NobodyThere { batch: number, devices: tally.devices });
    }
    if let Some(limit) = rules.max_concurrent
        && tally.waiting > 0
        && usize::try_from(tally.updating).unwrap_or_default() >= limit
    {
        why.push(WaitingOn::Capacity { batch: number, limit, unreleased: tally.waiting });
    }
    if !tally.is_decided()
        && let Some(silent) = pass.gateway_silence()
    {
        why.insert(0, silent);
    }
    if let Some(doubt) = doubt(pass, tally, number) {
        why.push(doubt);
        pass.requeue(pass.now + LOOK_AGAIN);
    }
    if tally.waiting > 0 {
        if let Some(time) = lifecycle::not_before(pass) {
            why.insert(0, WaitingOn::NotBefore { time });
            pass.requeue(time);
        }
        if let Opening::Shut(opens) = opening(&rules.windows, pass.now) {
            why.insert(0, WaitingOn::Window { opens });
            opens.inspect(|opens| pass.requeue(*opens));
        }
    }
    if !tally.is_decided() {
        tally.first_due.inspect(|due| pass.requeue_second(*due));
        why.push(WaitingOn::Verdicts {
            batch: number,
            pending: tally.pending(),
            devices: tally.judged(),
            deadline: tally.first_due.and_then(|due| Timestamp::from_second(due).ok()),
        });
    }
    why
}

/// Devices that run the image and can't be looked at, and one of them.
fn doubt(pass: &Pass<'_>, tally: &Tally, batch: usize) -> Option<WaitingOn> {
    let judged = pass.observed.members.iter();
    let doubtful = judged.filter(|member| usize::from(member.batch) == batch && member.proof == Proof::Unknown);
    let first = (tally.doubtful > 0).then(|| doubtful.min_by_key(|member| &member.view.name))??;
    let (device, why) = (first.view.name.clone(), pass.observed.doubt(first).to_owned());
    Some(WaitingOn::Probe { batch, devices: tally.doubtful, device, why })
}

/// Window, time and approval of the next batch.
fn may_open(pass: &mut Pass<'_>, rules: &Rules, number: usize) -> Result<(), WaitingOn> {
    let idle = if number == 1 { Phase::Pending } else { Phase::Progressing };
    if let Some(time) = lifecycle::not_before(pass) {
        pass.enter(idle);
        pass.requeue(time);
        return Err(WaitingOn::NotBefore { time });
    }
    if let Opening::Shut(opens) = opening(&rules.windows, pass.now) {
        pass.enter(idle);
        opens.inspect(|opens| pass.requeue(*opens));
        return Err(WaitingOn::Window { opens });
    }
    if !approval::may_open(pass.spec().approved_batches, rules.strategy, &pass.status.batches, number) {
        pass.enter(Phase::AwaitingApproval);
        return Err(WaitingOn::Approval { batch: number });
    }
    Ok(())
}

/// Whether devices of open batches may be released in this pass.
pub(crate) fn may_release(pass: &Pass<'_>, rules: &Rules) -> bool {
    !pass.spec().paused
        && pass.status.halted.is_none()
        && lifecycle::not_before(pass).is_none()
        && pass.gateway_silence().is_none()
        && !matches!(opening(&rules.windows, pass.now), Opening::Shut(_))
}

fn completed_message(pass: &Pass<'_>) -> String {
    let totals = pass.status.totals.clone().unwrap_or_default();
    let mut text = format!("{} of {} devices run it", totals.healthy, totals.devices);
    for (count, what) in [(totals.failed, "failed"), (totals.deferred, "deferred until they turn up")] {
        if count > 0 {
            text.push_str(&format!(", {count} {what}"));
        }
    }
    text
}

#[cfg(test)]
mod tests;
