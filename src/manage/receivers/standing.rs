//! How a receiver stands: its path, its condition, and the status that should be stored.
//!
//! Pure, and the same on every replica, so that they agree on what is written and a settled receiver is not written at
//! all.

use jiff::Timestamp;

use crate::api::RegistryWebhook;
use crate::api::condition::{READY, condition, find, merge};
use crate::api::webhook::{LastDelivery, RegistryWebhookStatus};
use crate::manage::HOOKS_PATH;

use super::secrets::Known;
use super::tally::Delta;
use super::terms::Terms;

/// How a receiver stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Path of its URL, where it has one.
    pub path: Option<String>,
    /// Whether deliveries can be taken.
    pub ready: bool,
    /// The condition's reason.
    pub reason: &'static str,
    /// The condition's message.
    pub message: String,
}

/// Judges a receiver; `None` while nothing is known of its Secret. `token` is the last part of its path.
#[must_use]
pub fn judge(terms: &Result<Terms, String>, known: &Known, token: Option<&str>) -> Option<Standing> {
    let not_ready = |reason, message| Some(Standing { path: None, ready: false, reason, message });
    let terms = match terms {
        Ok(terms) => terms,
        Err(why) => return not_ready("InvalidSpec", why.clone()),
    };
    match known {
        Known::Nothing => None,
        Known::Fault(fault) => not_ready(fault.reason(), fault.message(&terms.secret)),
        Known::Secrets(_) => {
            let (reason, message) = if terms.suspend {
                ("Suspended", "deliveries are answered and ignored: set spec.suspend to false to take them")
            } else {
                ("Ready", "deliveries to status.path are taken")
            };
            let path = token.map(|token| format!("{HOOKS_PATH}/{token}"));
            Some(Standing { path, ready: true, reason, message: message.into() })
        }
    }
}

/// Whether the stored status already says how the receiver stands.
#[must_use]
pub fn is_told(object: &RegistryWebhook, standing: &Standing) -> bool {
    let Some(status) = &object.status else { return false };
    let wanted = [condition(
        READY,
        standing.ready,
        standing.reason,
        standing.message.as_str(),
        object.metadata.generation,
        Timestamp::UNIX_EPOCH,
    )];
    let mut stored = find(&status.conditions, READY).cloned().into_iter().collect::<Vec<_>>();
    for condition in &mut stored {
        condition.last_transition_time.0 = Timestamp::UNIX_EPOCH;
    }
    status.observed_generation == object.metadata.generation && status.path == standing.path && stored == wanted
}

/// The status as it should be, with what came in since.
#[must_use]
pub fn status(object: &RegistryWebhook, standing: &Standing, delta: &Delta, now: Timestamp) -> RegistryWebhookStatus {
    let old = object.status.clone().unwrap_or_default();
    let Standing { path, ready, reason, message } = standing;
    let Delta { accepted, ignored, rejected, last } = delta;
    let now = Timestamp::from_second(now.as_second()).unwrap_or(now);
    let ready = condition(READY, *ready, reason, message.as_str(), object.metadata.generation, now);
    RegistryWebhookStatus {
        observed_generation: object.metadata.generation,
        path: path.clone(),
        last_delivery: later(old.last_delivery, last.clone()),
        accepted: old.accepted.saturating_add(*accepted),
        ignored: old.ignored.saturating_add(*ignored),
        rejected: old.rejected.saturating_add(*rejected),
        conditions: merge(&old.conditions, vec![ready]),
    }
}

/// Another replica may have seen a later one.
fn later(stored: Option<LastDelivery>, ours: Option<LastDelivery>) -> Option<LastDelivery> {
    match (stored, ours) {
        (Some(stored), Some(ours)) => Some(if stored.time.0 > ours.time.0 { stored } else { ours }),
        (stored, ours) => ours.or(stored),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::secrets::Fault;
    use super::*;
    use crate::registry::signature::Secret;

    fn object(spec: &serde_json::Value) -> RegistryWebhook {
        serde_json::from_value(json!({
            "apiVersion": "tranche.dev/v1alpha1", "kind": "RegistryWebhook",
            "metadata": {"name": "hub", "namespace": "plant", "generation": 3}, "spec": spec,
        }))
        .expect("an object")
    }

    fn known() -> Known {
        Known::Secrets(Secret::new("a-secret-of-some-length").expect("a secret").into())
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).expect("a time")
    }

    fn judged(object: &RegistryWebhook, known: &Known) -> Option<Standing> {
        judge(&Terms::of(&object.spec), known, Some("token"))
    }

    #[test]
    fn how_it_stands() {
        let plain = json!({"secretRef": {"name": "hook"}});
        let suspended = json!({"secretRef": {"name": "hook"}, "suspend": true});
        let invalid = json!({"secretRef": {"name": "hook"}, "repositories": ["a b"]});
        for (spec, known, expected) in [
            (&plain, Known::Nothing, None),
            (&plain, known(), Some(("Ready", true, Some("/hooks/token")))),
            (&suspended, known(), Some(("Suspended", true, Some("/hooks/token")))),
            (&plain, Known::Fault(Fault::Missing), Some(("SecretMissing", false, None))),
            (&suspended, Known::Fault(Fault::TooShort), Some(("SecretTooShort", false, None))),
            (&invalid, Known::Nothing, Some(("InvalidSpec", false, None))),
        ] {
            let standing = judged(&object(spec), &known);
            let seen = standing.as_ref().map(|standing| (standing.reason, standing.ready, standing.path.as_deref()));
            assert_eq!(seen, expected, "{spec}");
        }
    }

    #[test]
    fn what_is_told_is_not_told_again() {
        let mut object = object(&json!({"secretRef": {"name": "hook"}}));
        let standing = judged(&object, &known()).expect("a standing");
        assert!(!is_told(&object, &standing));
        object.status = Some(status(&object, &standing, &Delta::default(), at(10)));
        assert!(is_told(&object, &standing));
        assert_eq!(object.status, Some(status(&object, &standing, &Delta::default(), at(99))), "the time stays");
        object.metadata.generation = Some(4);
        assert!(!is_told(&object, &standing), "another generation");
        object.metadata.generation = Some(3);
        let missing = judged(&object, &Known::Fault(Fault::Missing)).expect("a standing");
        assert!(!is_told(&object, &missing));
        let after = status(&object, &missing, &Delta::default(), at(99));
        assert_eq!(after.conditions[0].last_transition_time.0, at(99));
        assert_eq!(after.path, None);
    }

    #[test]
    fn counts_are_added() {
        let mut object = object(&json!({"secretRef": {"name": "hook"}}));
        let standing = judged(&object, &known()).expect("a standing");
        let last = |second, message: &str| {
            let time = k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(at(second));
            Some(LastDelivery { time, delivery_id: None, message: message.into() })
        };
        let delta = Delta { accepted: 2, ignored: 1, rejected: 0, last: last(50, "ours") };
        object.status = Some(status(&object, &standing, &delta, at(60)));
        let earlier = Delta { accepted: 1, ignored: 0, rejected: 4, last: last(40, "another's") };
        let after = status(&object, &standing, &earlier, at(61));
        assert_eq!((after.accepted, after.ignored, after.rejected), (3, 1, 4));
        assert_eq!(after.last_delivery.map(|last| last.message), Some("ours".into()));
    }
}
