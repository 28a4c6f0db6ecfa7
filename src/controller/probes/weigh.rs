//! What results come to: for a device all of its checks together, and in the light of its batch.

use std::collections::HashMap;

use super::checks::{Ready, Unready};
use super::devices::Devices;
use crate::plan::proof::Finding;
use crate::probe::Outcome;
use crate::probe::batch::{Finished, MIN_ALL, settle};

/// The results as they count, device by device in the order of the map: what a whole batch shows may be about us.
pub(super) fn weigh(devices: &Devices, checks: &[Ready]) -> Vec<Vec<Option<Outcome>>> {
    let mut weighed: Vec<Vec<Option<Outcome>>> = devices.iter().map(|_| Vec::new()).collect();
    for (index, check) in checks.iter().enumerate() {
        let mut batches: HashMap<u8, Vec<(usize, Known<'_>)>> = HashMap::new();
        for (at, (_, device)) in devices.iter().enumerate() {
            batches.entry(device.batch).or_default().push((at, device.last(index)));
        }
        let instant = check.as_ref().map(|check| check.schedule.longest()).unwrap_or_default();
        for (_, results) in batches {
            let (places, known): (Vec<usize>, Vec<Known<'_>>) = results.into_iter().unzip();
            let mut results = since_they_passed(&known);
            settle(&mut results, instant);
            for (at, result) in places.into_iter().zip(results) {
                weighed[at].push(result.map(|finished| finished.outcome));
            }
        }
    }
    weighed
}

/// What was found last, and that nothing came back since, if so.
type Known<'a> = (Option<&'a Finished>, Option<&'a Finished>);

/// The results of a batch, of which some devices had passed and then fell silent. That is their fault if anybody of the
/// batch has answered since; until then they are as they were.
fn since_they_passed(known: &[Known<'_>]) -> Vec<Option<Finished>> {
    let answered = |last: &Finished| match &last.outcome {
        Outcome::Passed | Outcome::Failed { .. } => !last.outcome.is_silence(),
        Outcome::Unknown { .. } => false,
    };
    let heard = known.iter().filter_map(|(last, _)| last.filter(|last| answered(last))).map(|last| last.at).max();
    let one = |(last, silent): &Known<'_>| match silent {
        Some(silent) if known.len() < MIN_ALL || heard > Some(silent.at) => Some((*silent).clone()),
        Some(_) | None => last.cloned(),
    };
    known.iter().map(one).collect()
}

/// All checks of a device together: what fails it first, then what is not known, then what is still to come.
pub(super) fn finding(checks: &[Ready], outcomes: &[Option<Outcome>]) -> Finding {
    let mut all = Finding::Passed;
    for (check, outcome) in checks.iter().zip(outcomes) {
        all = match (all, one(check, outcome.as_ref())) {
            (_, Finding::Failed(why)) => return Finding::Failed(why),
            (Finding::Unknown(why), _) => Finding::Unknown(why),
            (Finding::Pending, Finding::Passed) => Finding::Pending,
            (_, next) => next,
        };
    }
    all
}

/// What one check says.
pub(super) fn one(check: &Ready, outcome: Option<&Outcome>) -> Finding {
    let name = match check {
        Ok(check) => &check.name,
        Err(Unready { name, why }) => return Finding::Unknown(format!("{name}: {why}")),
    };
    match outcome {
        None => Finding::Pending,
        Some(Outcome::Passed) => Finding::Passed,
        Some(Outcome::Failed { reason, message }) => {
            Finding::Failed(format!("{name} failed: {message} ({})", reason.as_str()))
        }
        Some(Outcome::Unknown { reason, message }) => {
            Finding::Unknown(format!("{name}: {message} ({})", reason.as_str()))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use serde_json::json;

    use super::*;
    use crate::probe::{Check, Doubt, Failure};

    /// Seconds, and whether it passed, fell silent or was refused.
    fn finished(at: u64, what: char) -> Finished {
        let outcome = match what {
            'P' => Outcome::Passed,
            'S' => Outcome::failed(Failure::Unanswered, ""),
            _ => Outcome::failed(Failure::Refused, ""),
        };
        Finished { outcome, at: Duration::from_secs(at) }
    }

    #[test]
    fn who_falls_silent_has_failed_once_somebody_else_has_answered() {
        let passed = |at| (Some(finished(at, 'P')), None);
        let silent = |at, since| (Some(finished(at, 'P')), Some(finished(since, 'S')));
        for (what, known, expected) in [
            ("nobody was heard since", vec![silent(1, 60), passed(2), passed(3)], "PPP"),
            ("somebody was", vec![silent(1, 60), passed(61), passed(3)], "SPP"),
            ("all are silent, one after the other", vec![silent(1, 60), silent(2, 61), silent(3, 62)], "PPP"),
            ("one before the other was heard", vec![silent(1, 60), silent(2, 63), passed(62)], "SPP"),
            ("a refusal is an answer", vec![silent(1, 60), (Some(finished(61, 'R')), None), passed(3)], "SRP"),
            ("two of two: nobody else to ask", vec![silent(1, 60), passed(2)], "SP"),
        ] {
            let known: Vec<Known<'_>> = known.iter().map(|(last, silent)| (last.as_ref(), silent.as_ref())).collect();
            let shown: String = since_they_passed(&known)
                .iter()
                .map(|result| match result.as_ref().map(|result| &result.outcome) {
                    Some(Outcome::Passed) => 'P',
                    Some(Outcome::Failed { reason: Failure::Unanswered, .. }) => 'S',
                    Some(Outcome::Failed { .. }) => 'R',
                    Some(Outcome::Unknown { .. }) | None => '-',
                })
                .collect();
            assert_eq!(shown, expected, "{what}");
        }
    }

    #[test]
    fn all_checks_of_a_device() {
        let check = |name: &str| -> Ready {
            let spec = serde_json::from_value(json!({ "name": name, "tcp": { "port": 80 } })).expect("a check");
            Ok(Arc::new(Check::of(&spec, &[], None).expect("good").expect("one")))
        };
        let passed = || Some(Outcome::Passed);
        let failed = || Some(Outcome::failed(Failure::Refused, "nobody listens"));
        let unknown = || Some(Outcome::unknown(Doubt::Dns, "no such name"));
        let no_secret = || -> Ready { Err(Unready { name: "c".into(), why: "key x of Secret s is not there".into() }) };
        let says_failed = Finding::Failed("b failed: nobody listens (Refused)".into());
        let says_unknown = Finding::Unknown("b: no such name (Dns)".into());
        for (checks, outcomes, expected) in [
            (vec![], vec![], Finding::Passed),
            (vec![check("a"), check("b")], vec![passed(), passed()], Finding::Passed),
            (vec![check("a"), check("b")], vec![passed(), None], Finding::Pending),
            (vec![check("a"), check("b")], vec![None, passed()], Finding::Pending),
            (vec![check("a"), check("b")], vec![None, unknown()], says_unknown.clone()),
            (vec![check("b"), check("a")], vec![unknown(), None], says_unknown.clone()),
            (vec![check("b"), check("a")], vec![unknown(), passed()], says_unknown),
            (vec![check("a"), check("b")], vec![unknown(), failed()], says_failed.clone()),
            (vec![check("a"), check("b")], vec![None, failed()], says_failed.clone()),
            (vec![no_secret(), check("b")], vec![None, failed()], says_failed),
            (
                vec![check("a"), no_secret()],
                vec![passed(), None],
                Finding::Unknown("c: key x of Secret s is not there".into()),
            ),
        ] {
            let shown = format!("{outcomes:?}");
            assert_eq!(finding(&checks, &outcomes), expected, "{shown}");
        }
    }
}
