//! Whatever the API server accepts, Tranche can read, and write again. An object that it can't would be left alone with its author none the
//! wiser.

use serde_json::{Value, json};
use tranche::api::{Device, ImageRollout, ImageUpdatePolicy};

use super::bounds::{ask, full_at, place};
use super::schema::Step;

/// Spellings at the edge, by kind and field. Some are refused, which is as good.
fn odd_ones() -> Vec<(&'static str, &'static [&'static str], Vec<Value>)> {
    let durations: Vec<Value> = [
        "0s",
        "1.5h",
        "0.001s",
        "1ms1s",
        "007m",
        "1s1s1s",
        "1.h",
        ".5h",
        "1d",
        "+1h",
        "-1h",
        "1H",
        "1 h",
        "1us",
        "1µs",
        "999999h",
        "999999h999999h999999h999999h",
        "999999h999999h99999h",
        "99999h99999h99999h",
        "99999h9999h0.001ms",
        "999999999.123456789s",
        "9999999999.999999999s",
        "999999999999999.9999s",
        "99999.999h",
        "999999.999h",
    ]
    .map(Value::from)
    .into();
    let times: Vec<Value> = [
        "2026-12-01T22:00:00+02:00",
        "2026-12-01T22:00:00.123456789Z",
        "2026-12-01t22:00:00z",
        "2026-12-01T22:00:00",
        "2026-12-01 22:00:00Z",
        "2026-12-01T22:00:60Z",
        "2026-12-01T24:00:00Z",
        "2026-02-30T22:00:00Z",
        "2026-12-01T22:00Z",
        "2026-12-01",
        "9999-12-31T23:59:59Z",
        "10000-01-01T00:00:00Z",
        "2026-12-01T22:00:00+25:00",
        "2026-12-01T22:00:00,5Z",
    ]
    .map(Value::from)
    .into();
    let numbers = || vec![json!(3.0), json!(3.5), json!("3"), json!(1e1), json!(true)];
    vec![
        ("ImageUpdatePolicy", &["spec", "updateDeadline"], durations.clone()),
        ("ImageUpdatePolicy", &["spec", "strategy", "batchDelay"], durations),
        ("ImageUpdatePolicy", &["spec", "historyLimit"], numbers()),
        ("ImageUpdatePolicy", &["spec", "strategy", "batches", "", "size"], numbers()),
        (
            "ImageUpdatePolicy",
            &["spec", "failurePolicy", "maxFailureRate"],
            ["00%", "020%", "20.5%", "20 %"].map(Value::from).into(),
        ),
        ("ImageUpdatePolicy", &["spec", "healthChecks"], vec![json!([]), Value::Null]),
        ("ImageUpdatePolicy", &["spec", "strategy"], vec![json!({}), Value::Null]),
        ("ImageUpdatePolicy", &["spec", "devices", "selector"], vec![json!({}), json!({"matchLabels": {"a": ""}})]),
        ("ImageRollout", &["spec", "notBefore"], times.clone()),
        ("ImageRollout", &["spec", "trigger", "time"], times),
        ("ImageRollout", &["spec", "approvedBatches"], numbers()),
        ("ImageRollout", &["spec", "acknowledgedFailures"], vec![json!(10_000_000), json!(3.0), Value::Null]),
        ("ImageRollout", &["spec", "paused"], vec![json!("true"), json!(1), Value::Null]),
        ("Device", &["spec", "hold"], vec![json!("true"), Value::Null]),
        ("Device", &["spec", "config"], vec![json!({ "a": null }), json!([]), Value::Null]),
        ("Device", &["spec", "apps"], vec![json!({ "1": {} }), json!({ "1": { "services": null } }), Value::Null]),
    ]
}

#[tokio::test]
async fn what_is_accepted_can_be_read() {
    let (client, namespace) = place("crds-readable").await;
    let mut accepted = 0;
    for (kind, path, values) in odd_ones() {
        let path: Vec<Step> = path
            .iter()
            .map(|step| if step.is_empty() { Step::Item } else { Step::Field((*step).to_owned()) })
            .collect();
        for value in values {
            let (mut object, pointer, field) = full_at(kind, &path);
            *object.pointer_mut(&pointer).expect("located") = value.clone();
            let Ok(stored) = ask(&client, &namespace, &object).await else { continue };
            accepted += 1;
            let read = match kind {
                "ImageUpdatePolicy" => serde_json::from_value::<ImageUpdatePolicy>(stored).map(|read| json!(read.spec)),
                "ImageRollout" => serde_json::from_value::<ImageRollout>(stored).map(|read| json!(read.spec)),
                _ => serde_json::from_value::<Device>(stored).map(|read| json!(read.spec)),
            };
            match read {
                Err(error) => panic!("{kind} {field}: {value} is accepted, and can't be read: {error}"),
                // As a rollout keeps the durations of its policy.
                Ok(spec) => object["spec"] = spec,
            }
            let again = ask(&client, &namespace, &object).await;
            assert!(again.is_ok(), "{kind} {field}: {value} was read and can't be written again: {again:?}");
        }
    }
    assert!(accepted > 15, "only {accepted} of these are accepted");
}
