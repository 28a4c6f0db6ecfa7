use super::*;

fn row(value: Value) -> Row {
    serde_json::from_value(value).unwrap()
}

fn spec(value: Value) -> Result<Value, String> {
    let mut spec = Map::new();
    row(value).apply(&mut spec).map(|()| Value::Object(spec)).map_err(|error| error.to_string())
}

#[test]
fn a_row_is_a_policy() {
    let full = json!({
        "image_pattern": "iotistic/myapp:*", "update_strategy": "staged", "staged_batches": 3, "batch_delay_minutes": 30,
        "health_check_enabled": true, "health_check_timeout_seconds": 300, "auto_rollback_enabled": true,
        "max_failure_rate": 0.2, "enabled": true,
        "health_check_config": {
            "type": "http", "endpoint": "http://{device_ip}:80/health", "expectedStatusCode": 200, "timeout": 30, "retries": 3,
        },
    });
    assert_eq!(
        spec(full.clone()).unwrap(),
        json!({
            "suspend": false,
            "image": {"pattern": "iotistic/myapp:*"},
            "devices": {"selector": {}},
            "strategy": {"type": "Staged", "batches": [{"size": "10%"}, {"size": "50%"}, {"size": "100%"}], "batchDelay": "30m"},
            "healthChecks": [{
                "name": "health", "timeout": "30s", "retries": 3,
                "http": {"url": "http://{device_ip}:80/health", "expectedStatus": 200},
            }],
            "failurePolicy": {"rollBackFailedDevices": true, "maxFailureRate": "20%"},
        })
    );
    let spec: ImageUpdatePolicySpec = serde_json::from_value(spec(full.clone()).unwrap()).unwrap();
    let mut back = json!(Row::of(&spec));
    // Ours says what the predecessor's left open.
    assert_eq!(back["health_check_config"].as_object_mut().unwrap().remove("interval_seconds"), Some(json!(2)));
    back["health_check_timeout_seconds"] = json!(300);
    assert_eq!(back, full);
}

#[test]
fn the_example_of_its_documents() {
    let value = json!({
        "image_pattern": "a/b:*", "update_strategy": "staged", "staged_batches": 4, "batch_delay_minutes": 0,
        "health_check_enabled": true,
    });
    let spec = spec(value).unwrap();
    assert_eq!(
        spec["strategy"]["batches"],
        json!([{"size": "25%"}, {"size": "50%"}, {"size": "75%"}, {"size": "100%"}])
    );
    assert_eq!(spec["healthChecks"][0]["http"]["url"], "http://{device_ip}:80/health");
}

#[test]
fn health_checks_of_both_spellings() {
    let check = |config: Value| {
        spec(json!({"image_pattern": "a", "health_check_config": config})).map(|spec| spec["healthChecks"][0].clone())
    };
    for (config, wanted) in [
        (
            json!({"type": "tcp", "host": "{device_ip}", "port": 1883, "timeout": 10}),
            json!({"name": "health", "tcp": {"host": "{device_ip}", "port": 1883}, "timeout": "10s"}),
        ),
        (
            json!({"type": "container", "containerName": "nodered", "timeout": 60}),
            json!({"name": "health", "container": {"service": "nodered"}, "timeout": "60s"}),
        ),
        (json!({"type": "container_running"}), json!({"name": "health", "container": {}})),
        (
            json!({"type": "http", "endpoint": "http://x/", "expected_status": 204, "timeout_seconds": 5, "retry_count": 1, "interval_seconds": 9}),
            json!({"name": "health", "http": {"url": "http://x/", "expectedStatus": 204}, "timeout": "5s", "retries": 1, "interval": "9s"}),
        ),
        (
            json!({"endpoint": "http://x/", "expectedBody": "ok"}),
            json!({"name": "health", "http": {"url": "http://x/", "expectedStatus": 200, "bodyContains": "ok"}}),
        ),
    ] {
        assert_eq!(check(config.clone()).unwrap(), wanted, "{config}");
    }
    for (config, why) in [(json!({"type": "custom"}), "webhook check"), (json!({"type": "tcp"}), "needs a port")] {
        assert!(check(config).unwrap_err().contains(why));
    }
}

#[test]
fn what_it_cannot_say_is_refused() {
    for (value, field) in [
        (json!({}), "image_pattern: "),
        (json!({"image_pattern": "a", "update_strategy": "scheduled"}), "update_strategy: "),
        (json!({"image_pattern": "a", "staged_batches": 21}), "staged_batches: "),
        (json!({"image_pattern": "a", "max_failure_rate": 1.5}), "max_failure_rate: "),
    ] {
        assert!(spec(value.clone()).unwrap_err().starts_with(field), "{value}");
    }
}

#[test]
fn what_it_does_not_speak_of_stays() {
    let before = json!({
        "image": {"pattern": "a:*", "offer": "Tag"}, "devices": {"names": ["d"]}, "updateDeadline": "1m",
        "strategy": {"type": "Scheduled", "windows": [{"start": "22:00", "end": "04:00"}], "maxConcurrent": 7},
        "healthChecks": [{"name": "web", "tcp": {"port": 80}}],
    });
    let mut spec = before.as_object().unwrap().clone();
    row(json!({"batch_delay_minutes": 5, "enabled": false, "health_check_enabled": true})).apply(&mut spec).unwrap();
    let mut wanted = before;
    wanted["strategy"]["batchDelay"] = json!("5m");
    wanted["suspend"] = json!(true);
    assert_eq!(Value::Object(spec), wanted);
}

#[test]
fn one_field_of_a_check_changes_that_field() {
    let before = json!({
        "image": {"pattern": "a:*"}, "devices": {"selector": {}},
        "healthChecks": [
            {"name": "web", "timeout": "500ms", "http": {"url": "https://x/", "method": "HEAD"}},
            {"name": "port", "tcp": {"port": 80}},
        ],
    });
    let changed = |value: Value| -> Result<Value, String> {
        let known: ImageUpdatePolicySpec = serde_json::from_value(before.clone()).unwrap();
        let mut spec = before.as_object().unwrap().clone();
        row(value).unlike(&Row::of(&known)).apply(&mut spec).map_err(|error| error.to_string())?;
        Ok(spec.get("healthChecks").cloned().unwrap_or_default())
    };
    let with = |path: &str, value: Value| {
        let mut spec = before["healthChecks"].clone();
        *spec.pointer_mut(path).unwrap() = value;
        spec
    };
    assert_eq!(changed(json!({"health_check_timeout_seconds": 1})).unwrap(), before["healthChecks"], "as it was read");
    assert_eq!(changed(json!({"health_check_timeout_seconds": 5})).unwrap(), with("/0/timeout", json!("5s")));
    let config = json!({"health_check_config": {"type": "http", "endpoint": "https://y/", "timeout": 1}});
    assert_eq!(changed(config).unwrap(), with("/0/http/url", json!("https://y/")));
    let other = changed(json!({"health_check_config": {"type": "tcp", "port": 443}})).unwrap();
    assert_eq!((&other[0]["name"], &other[0]["tcp"]["port"]), (&json!("web"), &json!(443)), "of another kind");
    assert!(other[0].get("http").is_none());
    assert_eq!(other.as_array().unwrap()[1..], before["healthChecks"].as_array().unwrap()[1..], "the others stay");
    assert!(changed(json!({"health_check_config": {"port": 443}})).unwrap_err().contains("say its type"));
    assert!(changed(json!({"health_check_enabled": false})).is_ok_and(|checks| checks.is_null()));
}

#[test]
fn a_number_of_batches_removes_no_gate() {
    let with = |batches: Value| {
        let mut spec =
            json!({"image": {"pattern": "a:*"}, "strategy": {"batches": batches}}).as_object().unwrap().clone();
        row(json!({"staged_batches": 2})).apply(&mut spec).map(|()| spec["strategy"]["batches"].clone())
    };
    let refused = with(json!([{"size": "50%", "approval": true}, {"size": "100%"}])).unwrap_err().to_string();
    assert!(refused.contains("batches have approval") && refused.contains("spec.strategy.batches"), "{refused}");
    assert_eq!(with(json!([{"size": "100%", "approval": false}])).unwrap(), json!([{"size": "50%"}, {"size": "100%"}]));
}

#[test]
fn rates_are_rounded_down() {
    for (rate, wanted) in [(0.0, "0%"), (0.29, "29%"), (0.125, "12%"), (0.57, "57%"), (1.0, "100%")] {
        assert_eq!(
            spec(json!({"image_pattern": "a", "max_failure_rate": rate})).unwrap()["failurePolicy"]["maxFailureRate"],
            wanted
        );
    }
}

#[test]
fn names_are_made_from_patterns() {
    let name = |pattern: &str| row(json!({"image_pattern": pattern})).name().unwrap();
    assert!(name("iotistic/myapp:*").starts_with("iotistic-myapp-"), "{}", name("iotistic/myapp:*"));
    assert_eq!(name("a/b"), name("a/b"));
    assert_ne!(name("a/b:*"), name("a-b:*"));
    assert!(name("*").starts_with("any-"));
    assert!(name(&"long/".repeat(30)).len() <= 48);
}
