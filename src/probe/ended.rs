//! What the end of a check's Job says of the device. Pure.
//!
//! | the Job | outcome |
//! | --- | --- |
//! | is complete | Passed |
//! | has failed, since a container has ended badly | Failed |
//! | has failed, but its command could not be run, or its pod failed and no container did | Unknown |
//! | has run out of time, with a pod that was seen running | Failed |
//! | has run out of time, and no pod was ever seen running: none was made, scheduled or could pull its image | Unknown |

use k8s_openapi::api::batch::v1::{Job, JobCondition};

use super::manifest::NOT_RUN_RULE;
use super::verdict::{Doubt, Failure, Outcome};

/// Whether a pod of it is running now.
pub(super) fn is_running(job: &Job) -> bool {
    job.status.as_ref().and_then(|status| status.ready).is_some_and(|ready| ready > 0)
}

/// What a Job has come to, once it has. `ran`: whether a pod of it was ever seen running.
///
/// The end is known before everything is cleared up: `FailureTarget` and `SuccessCriteriaMet` are certain to become `Failed`
/// and `Complete`, once the last of its pods is gone.
pub(super) fn outcome(job: &Job, ran: bool) -> Option<Outcome> {
    let conditions = job.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    let find = |types: [&str; 2]| {
        conditions.iter().find(|condition| condition.status == "True" && types.contains(&condition.type_.as_str()))
    };
    if find(["Complete", "SuccessCriteriaMet"]).is_some() {
        return Some(Outcome::Passed);
    }
    let name = job.metadata.name.as_deref().unwrap_or_default();
    let has_rules = job.spec.as_ref().is_some_and(|spec| spec.pod_failure_policy.is_some());
    find(["Failed", "FailureTarget"]).map(|failed| of_failed(name, failed, has_rules, ran))
}

fn of_failed(name: &str, failed: &JobCondition, has_rules: bool, ran: bool) -> Outcome {
    let reason = failed.reason.as_deref().unwrap_or("no reason given");
    let message = failed.message.as_deref().unwrap_or("no message");
    match reason {
        "DeadlineExceeded" if ran => {
            Outcome::failed(Failure::Timeout, format!("its Job {name} did not end within its timeout"))
        }
        "DeadlineExceeded" => not_judged(&format!("the pod of Job {name} never ran within its timeout")),
        "PodFailurePolicy" if message.ends_with(NOT_RUN_RULE) => {
            not_judged(&format!("the command of Job {name} could not be run: {message}"))
        }
        // How a container ends is the matter of rules.
        "BackoffLimitExceeded" if has_rules => {
            not_judged(&format!("the pod of Job {name} failed, but none of its containers did"))
        }
        _ => Outcome::failed(Failure::Judged, format!("its Job {name} has failed ({reason}): {message}")),
    }
}

/// Nothing that the device could do anything about.
pub(super) fn not_judged(why: &str) -> Outcome {
    Outcome::unknown(Doubt::NotJudged, why)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn job(restarts: bool, conditions: &[(&str, &str, &str, &str)]) -> Job {
        let conditions: Vec<Value> = conditions
            .iter()
            .map(|(kind, status, reason, message)| {
                json!({"type": kind, "status": status, "reason": reason, "message": message})
            })
            .collect();
        let rules = if restarts { Value::Null } else { json!({"rules": []}) };
        let job = json!({
            "metadata": {"name": "app-1-x"},
            "spec": {"template": {}, "podFailurePolicy": rules},
            "status": {"conditions": conditions},
        });
        serde_json::from_value(job).expect("a Job")
    }

    #[test]
    fn ends() {
        let deadline = ("DeadlineExceeded", "Job was active longer than specified deadline");
        let backoff = ("BackoffLimitExceeded", "Job has reached the specified backoff limit");
        let exit = |code: u8, rule: u8| {
            let message = "Container main for pod plant-a/app-1-x-7b2 failed with exit code";
            ("PodFailurePolicy", format!("{message} {code} matching FailJob rule at index {rule}"))
        };
        let (missing, bad) = (exit(127, 1), exit(3, 2));
        let (missing, bad) = ((missing.0, missing.1.as_str()), (bad.0, bad.1.as_str()));
        let with =
            |kind: &str, (reason, message): (&str, &str), restarts| job(restarts, &[(kind, "True", reason, message)]);
        for (what, job, ran, expected) in [
            ("nothing", job(false, &[]), true, "none"),
            ("no status", Job::default(), true, "none"),
            ("complete", with("Complete", ("", ""), false), false, "passed"),
            ("all but complete", with("SuccessCriteriaMet", ("", ""), false), false, "passed"),
            ("not complete", job(false, &[("Complete", "False", "", "")]), false, "none"),
            ("suspended", with("Suspended", ("", ""), false), false, "none"),
            ("both", job(false, &[("FailureTarget", "False", "", ""), ("Complete", "True", "", "")]), true, "passed"),
            (
                "failed",
                with("Failed", bad, false),
                true,
                "failed (Judged): its Job app-1-x has failed (PodFailurePolicy)",
            ),
            ("about to fail", with("FailureTarget", bad, false), false, "failed (Judged): its Job app-1-x has failed"),
            ("restarted, failed", with("Failed", backoff, true), true, "failed (Judged)"),
            ("pod failed", with("Failed", backoff, false), true, "unknown (NotJudged): the pod of Job app-1-x failed"),
            ("no command", with("Failed", missing, false), true, "unknown (NotJudged): the command of Job app-1-x"),
            ("too long", with("Failed", deadline, false), true, "failed (Timeout)"),
            (
                "never ran",
                with("FailureTarget", deadline, false),
                false,
                "unknown (NotJudged): the pod of Job app-1-x never",
            ),
            ("something else", with("Failed", ("MaxFailedIndexesExceeded", ""), false), true, "failed (Judged)"),
        ] {
            let said = outcome(&job, ran).map_or("none".to_owned(), |outcome| outcome.to_string());
            assert!(said.starts_with(expected), "{what}: {said}");
        }
    }

    #[test]
    fn running() {
        for (status, expected) in [
            (json!({}), false),
            (json!({"active": 1}), false),
            (json!({"active": 1, "ready": 0}), false),
            (json!({"active": 1, "ready": 1}), true),
        ] {
            let job = serde_json::from_value(json!({"metadata": {}, "status": status})).expect("a Job");
            assert_eq!(is_running(&job), expected);
        }
    }
}
