use super::*;

fn wanted(value: Value) -> Wanted {
    serde_json::from_value(value).expect("a body")
}

/// More than a row can say, in every place.
fn full() -> ImageUpdatePolicySpec {
    let spec = json!({
        "image": {"pattern": "acme/app:*", "offer": "Tag"}, "devices": {"selector": {"matchLabels": {"line": "3"}}},
        "strategy": {
            "type": "Staged", "batchDelay": "90s",
            "batches": [{"size": 2, "delay": "5m"}, {"size": "50%", "approval": true}, {"size": "100%"}],
        },
        "healthChecks": [
            {
                "name": "web", "timeout": "500ms", "interval": "0s", "successThreshold": 3, "initialDelay": "20s",
                "http": {"url": "https://{device_ip}/health", "method": "HEAD", "headers": [{"name": "a", "value": "b"}]},
            },
            {"name": "port", "tcp": {"port": 80}},
        ],
    });
    serde_json::from_value(spec).expect("a spec")
}

/// What is read of it.
fn answer(spec: &ImageUpdatePolicySpec) -> Value {
    let mut answer = json!(Row::of(spec));
    for (field, value) in [
        ("id", json!("app")),
        ("name", json!("app")),
        ("uid", json!("u-1")),
        ("ready", json!(true)),
        ("message", Value::Null),
        ("latest_image", Value::Null),
        ("active_rollout", json!("app-1")),
        ("created_at", json!("2026-01-01T00:00:00Z")),
        ("spec", json!(spec)),
    ] {
        answer[field] = value;
    }
    answer
}

fn put(body: Value) -> Result<ImageUpdatePolicySpec, Refusal> {
    let spec = wanted(body).spec(Some(&full()))?;
    Ok(serde_json::from_value(Value::Object(spec)).expect("a spec"))
}

#[test]
fn what_was_read_can_be_sent_back_and_changes_nothing() {
    let schema = super::super::input::generator(true).into_root_schema_for::<Wanted>().to_value();
    super::super::bounds::conform(&schema, &answer(&full()), "body").expect("within its bounds");
    let mut row = answer(&full());
    row.as_object_mut().unwrap().remove("spec");
    for body in [answer(&full()), row, json!(Row::of(&full())), json!({"spec": full()})] {
        assert_eq!(put(body.clone()).unwrap(), full(), "{body}");
        assert!(!is_news(&wanted(body.clone()).spec(Some(&full())).unwrap(), &full()), "{body}");
    }
    // As a new one, under another name.
    assert!(wanted(answer(&full())).spec(None).is_ok());
}

#[test]
fn either_the_spec_or_the_row_of_an_answer_may_change() {
    let mut row = answer(&full());
    row["enabled"] = json!(false);
    let mut suspended = full();
    suspended.suspend = true;
    assert_eq!(put(row).unwrap(), suspended);
    let mut spec = answer(&full());
    spec["spec"]["suspend"] = json!(true);
    assert_eq!(put(spec.clone()).unwrap(), suspended);
    spec["enabled"] = json!(false);
    assert_eq!(put(spec.clone()).unwrap(), suspended, "both say so");
    spec["max_failure_rate"] = json!(0.5);
    assert!(matches!(put(spec), Err(Refusal::Body(_))), "they differ");
    let mut part = answer(&full());
    part.as_object_mut().unwrap().retain(|field, _| matches!(field.as_str(), "spec" | "enabled"));
    assert!(matches!(put(part), Err(Refusal::Body(_))), "a row that nobody read beside a spec");
}

#[test]
fn a_field_that_there_is_not_is_news() {
    let with = |path: &str, value: Value| {
        let mut spec = json!(full());
        *spec.pointer_mut(path).unwrap() = value;
        is_news(spec.as_object().unwrap(), &full())
    };
    assert!(!with("/image", json!({"pattern": "acme/app:*", "offer": "Tag"})));
    assert!(with("/image", json!({"pattern": "acme/app:*", "offer": "Tag", "colour": "red"})));
    assert!(with("/healthChecks/1/tcp", json!({"port": 80, "colour": "red"})));
}
