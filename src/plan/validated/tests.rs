use serde_json::{Value, json};

use super::*;
use crate::plan::fixture::{at, policy};

fn valid(spec: &Value) -> Result<ValidatedPolicy, String> {
    ValidatedPolicy::new(&policy(spec)).map_err(|error| error.to_string())
}

fn batches(sizes: &[Value]) -> Value {
    json!({ "strategy": { "batches": sizes.iter().map(|size| json!({ "size": size })).collect::<Vec<_>>() } })
}

#[test]
fn sizes_grow_and_end_with_everybody() {
    let many =
        |count: u8| -> Vec<Value> { (0..count).map(|index| json!(format!("{}%", 101 - count + index))).collect() };
    for (sizes, fits) in [
        (vec![json!("100%")], true),
        (vec![json!("1%"), json!("100%")], true),
        (vec![json!(1), json!("10%"), json!(5), json!("100%")], true),
        (many(20), true),
        (many(21), false),
        (vec![json!("50%")], false),
        (vec![json!(5)], false),
        (vec![json!("50%"), json!("50%"), json!("100%")], false),
        (vec![json!("50%"), json!("20%"), json!("100%")], false),
        (vec![json!(5), json!(5), json!("100%")], false),
        (vec![json!(5), json!("10%"), json!(3), json!("100%")], false),
        (vec![json!("101%"), json!("100%")], false),
    ] {
        assert_eq!(valid(&batches(&sizes)).is_ok(), fits, "{sizes:?}");
    }
    for nothing in [json!(0), json!("0"), json!("0%"), json!("-1%"), json!("some"), json!("1.5%")] {
        let error = valid(&batches(&[nothing.clone(), json!("100%")])).unwrap_err();
        assert!(error.starts_with("spec.strategy.batches[0].size: "), "{nothing}: {error}");
    }
}

#[test]
fn shares_are_whole_and_at_most_all() {
    let rate = |text: &str| valid(&json!({ "failurePolicy": { "maxFailureRate": text } }));
    for (text, fits) in [("0%", true), ("100%", true), ("101%", false), ("20.5%", false), ("20", false)] {
        assert_eq!(rate(text).is_ok(), fits, "{text}");
    }
    let rules = rate("30%").unwrap().rules;
    let tolerated = [-1, 0, 1, 3, 4, 10, i32::MAX].map(|devices| rules.tolerated(0, devices));
    assert_eq!(tolerated, [0, 0, 0, 0, 1, 3, 644_245_094]);
    assert_eq!(rules.tolerated(9, 100), 0, "there is no such batch");
}

#[test]
fn devices_are_claimed_by_label_or_by_name() {
    let claims = |devices: Value| {
        let mut policy = policy(&json!({}));
        policy.spec.devices = serde_json::from_value(devices).unwrap();
        ValidatedPolicy::new(&policy).map(|valid| {
            let labels = |fleet: &str| [("fleet".to_owned(), fleet.to_owned())].into();
            [("d", "a"), ("d", "b"), ("e", "a"), ("e", "b")]
                .map(|(name, fleet)| valid.rules.claims(name, &labels(fleet)))
        })
    };
    let by_label = json!({ "selector": { "matchLabels": { "fleet": "a" } } });
    assert_eq!(claims(by_label), Ok([true, false, true, false]));
    assert_eq!(claims(json!({ "selector": {} })), Ok([true; 4]));
    assert_eq!(claims(json!({ "names": ["d"] })), Ok([true, true, false, false]));
    assert_eq!(claims(json!({})), Err(Invalid::Claim));
    assert_eq!(claims(json!({ "selector": {}, "names": ["d"] })), Err(Invalid::Claim));
    let odd = json!({ "selector": { "matchExpressions": [{ "key": "a", "operator": "Like", "values": ["b"] }] } });
    let error = claims(odd).unwrap_err().to_string();
    assert_eq!(error, "spec.devices.selector: selector: \"Like\" is not one of In, NotIn, Exists, DoesNotExist");
}

/// What a rollout keeps is all that its policy said, so that it goes on by it whatever becomes of the policy.
#[test]
fn a_rollout_keeps_what_its_policy_said() {
    let canaries = json!({ "matchLabels": { "canary": "yes" } });
    let spec = json!({
        "image": { "offer": "Tag" },
        "strategy": {
            "type": "Scheduled", "maxConcurrent": 7, "batchDelay": "30m",
            "batches": [
                { "size": 5, "selector": canaries, "delay": "1h", "maxFailureRate": "1%", "approval": true },
                { "size": "100%" },
            ],
            "windows": [{ "start": "22:00", "end": "23:00" }],
        },
        "failurePolicy": { "maxFailureRate": "7%", "action": "RollBackAll", "rollBackFailedDevices": false, "minSample": 3 },
    });
    let (plan, batches) = valid(&spec).unwrap().resolve(at(0), 12, &[10, u64::MAX]);
    let kept = serde_json::to_value(&plan).unwrap();
    assert_eq!((&kept["devicesAtStart"], &kept["policyGeneration"]), (&json!(12), &json!(1)));
    assert_eq!(
        (&kept["offer"], &kept["strategy"], &kept["maxConcurrent"]),
        (&json!("Tag"), &json!("Scheduled"), &json!(7))
    );
    let first = serde_json::to_value(&batches[0]).unwrap();
    for (field, value) in [
        ("size", json!("5")),
        ("boundary", json!("000000000000000a")),
        ("selector", canaries),
        ("maxFailureRate", json!("1%")),
        ("approval", json!(true)),
    ] {
        assert_eq!(first[field], value, "{field}");
    }
    let rules = Rules::new(&plan, &batches).unwrap();
    assert_eq!(rules.delays, [SignedDuration::from_hours(1), SignedDuration::from_mins(30)]);
    assert_eq!((rules.max_failure_percents, rules.min_sample), (vec![1, 7], 3));
    assert_eq!((rules.action, rules.roll_back_failed), (FailureAction::RollBackAll, false));
    assert_eq!((rules.deadline, rules.offline_after, rules.windows.len()), (600, 120, 1));
}

#[test]
fn durations_do_not_run_backwards() {
    for field in ["updateDeadline", "offlineAfter"] {
        assert_eq!(valid(&json!({ field: "-5m" })).unwrap_err(), format!("{field} must not be negative"));
    }
    assert!(valid(&json!({ "strategy": { "batchDelay": "-1s" } })).is_err());
}

#[test]
fn windows_that_never_open_are_refused() {
    let windows = |second: Value| json!({ "strategy": { "windows": [{ "start": "22:00", "end": "23:00" }, second] } });
    assert!(valid(&windows(json!({ "start": "22:30", "end": "23:30", "deny": true }))).is_ok());
    let error = valid(&windows(json!({ "start": "21:00", "end": "23:30", "deny": true }))).unwrap_err();
    assert!(error.contains("never open"), "{error}");
}
