//! What is known of the batch that soaks: the word of its analyses.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use super::checks::{Ready, Unready};
use super::devices::RETRY;
use super::{About, Key, Target, key, weigh};
use crate::plan::proof::BatchFinding;
use crate::plan::{Plan, Subject};
use crate::probe::{self, Added, Check, Engine, Job, Network, Outcome};

/// Prometheus is asked no more often, whatever a check's interval: it has news every quarter of a minute or so.
const LEAST_INTERVAL: Duration = Duration::from_secs(10);

/// A batch that a pass wants to know of.
#[derive(Clone, Debug)]
pub(super) struct Soaking {
    number: usize,
    complete: Timestamp,
    /// When its soak is over: what counts is what is said after that.
    until: Timestamp,
}

/// The current batch, once its devices have their verdicts.
pub(super) fn wanted(subject: &Subject, plan: &Plan) -> Option<Soaking> {
    let number = usize::try_from(plan.status.current_batch).ok()?;
    let batch = plan.status.batches.get(number.checked_sub(1)?)?;
    if subject.rules.analyses.is_empty() || plan.status.phase.is_terminal() || plan.status.rollback_time.is_some() {
        return None;
    }
    let complete = batch.completion_time.as_ref().filter(|_| batch.failed_analysis.is_none())?.0;
    let delay = subject.rules.delays.get(number - 1).copied().unwrap_or_default();
    let until = complete.saturating_add(delay).unwrap_or(Timestamp::MAX);
    Some(Soaking { number, complete, until })
}

/// A batch that is being analysed.
#[derive(Debug)]
pub(super) struct SoakingBatch {
    number: usize,
    complete: Timestamp,
    found: Vec<Found>,
}

#[derive(Debug, Default)]
struct Found {
    /// Whether the engine has it.
    waits: bool,
    last: Option<(Outcome, Timestamp)>,
}

/// Analyses this batch, or none.
pub(super) fn want(known: &mut Option<SoakingBatch>, target: &Target<'_>, wanted: Option<Soaking>) {
    let analyses = target.checks.batches.len();
    let same = |batch: &SoakingBatch| {
        wanted.as_ref().is_some_and(|wanted| batch.is(wanted.number, wanted.complete.as_second()))
            && batch.found.len() == analyses
    };
    if let Some(old) = known.take_if(|batch| !same(batch)) {
        old.stop(target.engine, &target.uid);
    }
    if let Some(wanted) = wanted {
        let found = || (0..analyses).map(|_| Found::default()).collect();
        let Soaking { number, complete, until } = wanted;
        known.get_or_insert_with(|| SoakingBatch { number, complete, found: found() }).ask(target, until);
    }
}

impl SoakingBatch {
    pub(super) fn number(&self) -> usize {
        self.number
    }

    /// Whether it is this one, complete since that second.
    pub(super) fn is(&self, number: usize, complete: i64) -> bool {
        self.number == number && self.complete.as_second() == complete
    }

    fn about(&self) -> About {
        About::Batch { number: self.number, complete: self.complete.as_second() }
    }

    /// Gives the engine what it doesn't have.
    fn ask(&mut self, target: &Target<'_>, until: Timestamp) {
        let about = self.about();
        for (index, (found, check)) in self.found.iter_mut().zip(&target.checks.batches).enumerate() {
            let Ok(check) = check else { continue };
            let Some(delay) = next_question(found, check, target.now, until) else { continue };
            let batch = probe::Batch {
                namespace: Arc::clone(&target.namespace),
                image: Arc::clone(&target.image),
                tag: Arc::clone(&target.tag),
                number: u32::try_from(self.number).unwrap_or(u32::MAX),
            };
            let subject = probe::Subject::Batch(batch);
            let job = Job { check: Arc::clone(check), subject, rollout: Arc::clone(&target.rollout) };
            found.waits = match target.engine.add_after(target.key(&about, index), Arc::new(job), delay) {
                Added::New | Added::Known => true,
                Added::Full => false,
            };
        }
    }

    /// Keeps an answer. Whether it was waited for.
    pub(super) fn found(&mut self, check: usize, outcome: Outcome, now: Timestamp) -> bool {
        let Some(found) = self.found.get_mut(check) else { return false };
        found.waits = false;
        found.last = Some((outcome, now));
        true
    }

    /// What the analyses say.
    pub(super) fn findings(&self, checks: &[Ready]) -> Vec<BatchFinding> {
        let of = |(check, found): (&Ready, &Found)| BatchFinding {
            analysis: match check {
                Ok(check) => check.name.to_string(),
                Err(Unready { name, why: _ }) => name.clone(),
            },
            // One that can't be asked has been asked for the last time.
            at: match (check, &found.last) {
                (Ok(_), Some((_, at))) => *at,
                (Ok(_), None) => Timestamp::MIN,
                (Err(_), _) => Timestamp::MAX,
            },
            finding: weigh::one(check, found.last.as_ref().map(|(outcome, _)| outcome)),
        };
        checks.iter().zip(&self.found).map(of).collect()
    }

    /// Analyses it no longer.
    pub(super) fn stop(&self, engine: &Engine<Key, Network>, uid: &Arc<str>) {
        for (check, _) in self.found.iter().enumerate().filter(|(_, found)| found.waits) {
            engine.remove(&key(uid, &self.about(), check));
        }
    }
}

/// When Prometheus is to be asked next, if it isn't being asked: in the check's rhythm, and as soon as the soak is over.
fn next_question(found: &Found, check: &Check, now: Timestamp, until: Timestamp) -> Option<Duration> {
    if found.waits {
        return None;
    }
    let left = Duration::try_from(until.duration_since(now)).unwrap_or_default();
    // Stored times are whole seconds, and the planner waits until the next one.
    let left = left + Duration::from_secs(1);
    match &found.last {
        None => Some(check.schedule.initial_delay()),
        Some((Outcome::Unknown { .. }, _)) => Some(RETRY),
        // The planner has it, and will make it known that it is enough.
        Some((Outcome::Passed | Outcome::Failed { .. }, at)) if *at > until => {
            Some(check.schedule.interval().max(LEAST_INTERVAL))
        }
        Some((Outcome::Passed | Outcome::Failed { .. }, _)) => {
            Some(check.schedule.interval().max(LEAST_INTERVAL).min(left))
        }
    }
}
