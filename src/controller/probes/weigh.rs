//! What results come to: for a device all of its checks together, and in the light of its batch.

use std::collections::HashMap;

use super::checks::{Ready, Unready};
use super::devices::Devices;
use crate::plan::proof::Finding;
use crate::probe::Outcome;
use crate::probe::batch::{Finished, settle};

/// The results as they count, device by device in the order of the map: what a whole batch shows may be about us.
pub(super) fn weigh(devices: &Devices, checks: &[Ready]) -> Vec<Vec<Option<Outcome>>> {
    let mut weighed: Vec<Vec<Option<Outcome>>> = devices.iter().map(|_| Vec::new()).collect();
    for (index, check) in checks.iter().enumerate() {
        let mut batches: HashMap<u8, Vec<(usize, Option<Finished>)>> = HashMap::new();
        for (at, (_, device)) in devices.iter().enumerate() {
            batches.entry(device.batch).or_default().push((at, device.last(index).cloned()));
        }
        let instant = check.as_ref().map(|check| check.schedule.longest()).unwrap_or_default();
        for (_, results) in batches {
            let (places, mut results): (Vec<usize>, Vec<Option<Finished>>) = results.into_iter().unzip();
            settle(&mut results, instant);
            for (at, result) in places.into_iter().zip(results) {
                weighed[at].push(result.map(|finished| finished.outcome));
            }
        }
    }
    weighed
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

    use serde_json::json;

    use super::*;
    use crate::probe::{Check, Doubt, Failure};

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
