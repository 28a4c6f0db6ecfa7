//! When all devices of a batch fall silent at once, it is us. Pure.

use std::time::Duration;

use super::verdict::{Doubt, Outcome};

/// So many devices at least: that one or two are dead says nothing about us.
pub const MIN_ALL: usize = 3;

/// One device's result, and when it came, from any common beginning.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finished {
    /// What was found.
    pub outcome: Outcome,
    /// When.
    pub at: Duration,
}

/// Whether these results, one of every device of a batch, are no evidence against the devices: every one of them is that
/// nothing came back at all, and they came within `instant` of each other. Who judges a batch passes what one check may
/// take ([`Schedule::longest`](super::schedule::Schedule::longest)): a large batch is looked at in several goes.
///
/// Refusals don't count, though they come all at once, too: a refusal is an answer, and just what a bad image makes of a
/// whole batch.
#[must_use]
pub fn is_ours(results: &[Finished], instant: Duration) -> bool {
    let (first, last) = (results.iter().map(|result| result.at).min(), results.iter().map(|result| result.at).max());
    results.len() >= MIN_ALL
        && results.iter().all(|result| result.outcome.is_silence())
        && last.zip(first).is_some_and(|(last, first)| last - first <= instant)
}

/// The results as they count: [`Doubt::AllAtOnce`] for all where [`is_ours`], else as they are.
pub fn reconsider(results: &mut [Finished], instant: Duration) {
    if !is_ours(results, instant) {
        return;
    }
    let message = format!("all {} devices were silent within {} s", results.len(), instant.as_secs());
    for result in results {
        result.outcome = Outcome::unknown(Doubt::AllAtOnce, &message);
    }
}

/// The results of a batch as they count while some are still to come: as long as nothing came back from anybody, it can't be
/// told yet whose fault that is, and nobody has a result. Once all have come, see [`reconsider`].
pub fn settle(results: &mut [Option<Finished>], instant: Duration) {
    let mut come: Vec<Finished> = results.iter().flatten().cloned().collect();
    if come.len() == results.len() {
        reconsider(&mut come, instant);
        for (result, reconsidered) in results.iter_mut().zip(come) {
            *result = Some(reconsidered);
        }
    } else if results.len() >= MIN_ALL && come.iter().all(|result| result.outcome.is_silence()) {
        results.fill(None);
    }
}

#[cfg(test)]
mod tests {
    use super::super::verdict::Failure;
    use super::*;

    const INSTANT: Duration = Duration::from_secs(5);

    fn at(seconds: u64, outcome: Outcome) -> Finished {
        Finished { outcome, at: Duration::from_secs(seconds) }
    }

    fn failed(reason: Failure) -> Outcome {
        Outcome::failed(reason, "")
    }

    #[test]
    fn nobody_is_judged_before_somebody_has_answered() {
        let silent = || Some(at(0, failed(Failure::Unanswered)));
        let passed = || Some(at(0, Outcome::Passed));
        for (what, results, expected) in [
            ("two silent of three", vec![silent(), silent(), None], "---"),
            ("one silent of two", vec![silent(), None], "F-"),
            ("one passed", vec![silent(), passed(), None], "FP-"),
            ("one refused", vec![silent(), Some(at(0, failed(Failure::Refused))), None], "FF-"),
            ("all silent", vec![silent(), silent(), silent()], "UUU"),
            ("all but one", vec![silent(), silent(), passed()], "FFP"),
            ("none yet", vec![None, None, None], "---"),
        ] {
            let mut results = results;
            settle(&mut results, INSTANT);
            let shown: String = results
                .iter()
                .map(|result| match result.as_ref().map(|result| &result.outcome) {
                    None => '-',
                    Some(Outcome::Passed) => 'P',
                    Some(Outcome::Failed { .. }) => 'F',
                    Some(Outcome::Unknown { .. }) => 'U',
                })
                .collect();
            assert_eq!(shown, expected, "{what}");
        }
    }

    #[test]
    fn all_or_not() {
        let silent = || failed(Failure::Unanswered);
        for (what, results, expected) in [
            ("nobody", vec![], false),
            ("one", vec![at(0, silent())], false),
            ("two", vec![at(0, silent()), at(0, silent())], false),
            ("three", vec![at(7, silent()), at(9, silent()), at(12, silent())], true),
            ("not at once", vec![at(7, silent()), at(9, silent()), at(13, silent())], false),
            ("one passed", vec![at(0, silent()), at(0, silent()), at(0, silent()), at(0, Outcome::Passed)], false),
            ("one refused", vec![at(0, silent()), at(0, silent()), at(0, failed(Failure::Refused))], false),
            ("all refused", vec![at(0, failed(Failure::Refused)); 9], false),
            ("all with status 500", vec![at(0, failed(Failure::Status)); 9], false),
            (
                "one unknown already",
                vec![at(0, silent()), at(0, silent()), at(0, Outcome::unknown(Doubt::Dns, ""))],
                false,
            ),
        ] {
            assert_eq!(is_ours(&results, INSTANT), expected, "{what}");
            let mut after = results.clone();
            reconsider(&mut after, INSTANT);
            if expected {
                assert!(after.iter().all(|result| result.outcome.label() == "AllAtOnce"), "{what}");
            } else {
                assert_eq!(after, results, "{what}");
            }
        }
    }
}
