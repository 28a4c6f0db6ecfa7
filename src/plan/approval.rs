//! What `spec.approvedBatches` lets through: the planner opens batches by it, and what people do is answered by it.
//!
//! It is a cap: whoever says 1 sees no second batch, whatever the policy says. Two things follow from whom the number is
//! about. The number of a batch that waits for approval is an answer to that batch, so it doesn't hold back those after
//! it which wait for nobody. And a number beyond the open batch is the only thing that lets it pass while nobody of it is
//! there: nobody says that by approving the batch itself.

use crate::api::policy::StrategyType;
use crate::api::rollout::BatchStatus;

/// Whether a batch, counted from 1, may open as far as approval goes.
#[must_use]
pub fn may_open(approved: Option<i32>, strategy: StrategyType, batches: &[BatchStatus], number: usize) -> bool {
    let asks = |number: usize| strategy == StrategyType::Manual || flag(batches, number);
    let Some(approved) = approved else { return !asks(number) };
    let approved = usize::try_from(approved).unwrap_or_default();
    let answers = strategy != StrategyType::Manual && flag(batches, approved);
    approved >= number || (answers && !(approved + 1..=number).any(asks))
}

/// Whether a person has said that the rollout goes on after a batch, counted from 1, though nobody of it is there.
#[must_use]
pub fn goes_on_without(approved: Option<i32>, number: usize) -> bool {
    approved.is_some_and(|approved| usize::try_from(approved).is_ok_and(|approved| approved > number))
}

/// Whether an open batch can't pass because nobody of it is there, by the figures in the rollout's status.
#[must_use]
pub fn nobody_is_there(batch: &BatchStatus) -> bool {
    batch.start_time.is_some()
        && batch.completion_time.is_none()
        && batch.devices > 0
        && batch.deferred >= batch.devices
}

/// Whether a batch, counted from 1, waits for approval by itself.
fn flag(batches: &[BatchStatus], number: usize) -> bool {
    number.checked_sub(1).and_then(|index| batches.get(index)).is_some_and(|batch| batch.approval)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `a`: waits for approval.
    fn batches(flags: &str) -> Vec<BatchStatus> {
        flags.chars().map(|flag| BatchStatus { approval: flag == 'a', ..BatchStatus::default() }).collect()
    }

    #[test]
    fn a_number_is_a_cap_and_answers_the_batch_that_asked() {
        for (strategy, flags, approved, open) in [
            (StrategyType::Staged, "...", None, 3),
            (StrategyType::Staged, "...", Some(0), 0),
            (StrategyType::Staged, "...", Some(1), 1),
            (StrategyType::Staged, ".a.", None, 1),
            (StrategyType::Staged, ".a.", Some(1), 1),
            (StrategyType::Staged, ".a.", Some(2), 3),
            (StrategyType::Staged, ".a..a.", Some(2), 4),
            (StrategyType::Staged, ".a..a.", Some(3), 3),
            (StrategyType::Staged, ".a..a.", Some(5), 6),
            (StrategyType::Staged, ".a.", Some(20), 3),
            (StrategyType::Scheduled, ".a.", Some(2), 3),
            (StrategyType::Manual, "...", None, 0),
            (StrategyType::Manual, "...", Some(2), 2),
            (StrategyType::Manual, ".a.", Some(2), 2),
        ] {
            let batches = batches(flags);
            let may = |number: &usize| may_open(approved, strategy, &batches, *number);
            let opened = (1..=batches.len()).take_while(may).count();
            assert_eq!(opened, open, "{strategy:?} {flags} {approved:?}");
        }
    }

    #[test]
    fn an_open_batch_without_anybody() {
        let start = Some(crate::api::time::whole_seconds(jiff::Timestamp::UNIX_EPOCH));
        let batch =
            |devices, deferred| BatchStatus { devices, deferred, start_time: start.clone(), ..Default::default() };
        for (batch, nobody) in [
            (batch(3, 3), true),
            (batch(3, 2), false),
            // Nothing to prove.
            (batch(0, 0), false),
            (BatchStatus { start_time: None, ..batch(3, 3) }, false),
            // Somebody has said to go on, or somebody was there.
            (BatchStatus { completion_time: start.clone(), ..batch(3, 3) }, false),
        ] {
            assert_eq!(nobody_is_there(&batch), nobody, "{batch:?}");
        }
    }

    #[test]
    fn only_a_later_number_goes_on_without_anybody() {
        for (approved, goes) in [(None, false), (Some(0), false), (Some(2), false), (Some(3), true), (Some(-1), false)]
        {
            assert_eq!(goes_on_without(approved, 2), goes, "{approved:?}");
        }
    }
}
