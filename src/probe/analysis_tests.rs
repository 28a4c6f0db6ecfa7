//! What answers of Prometheus say, in the form that it documents.

use serde_json::{Value as Json, json};

use super::*;

fn spec() -> AnalysisSpec {
    let text = |text: &str| Some(text.to_owned());
    AnalysisSpec {
        url: "http://prometheus.monitoring:9090".into(),
        query: r#"sum(rate(errors{image="{{image}}"}[5m]))"#.into(),
        min: text("0.01"),
        max: text("0.05"),
        ..AnalysisSpec::default()
    }
}

fn vector(samples: &[(&str, &str)]) -> Json {
    let samples = samples.iter().map(|(device, value)| {
        let metric = if device.is_empty() { json!({}) } else { json!({"__name__": "errors", "device": device}) };
        json!({"metric": metric, "value": [1_435_781_451.781, value]})
    });
    json!({"status": "success", "data": {"resultType": "vector", "result": samples.collect::<Vec<_>>()}})
}

fn scalar(value: &str) -> Json {
    json!({"status": "success", "data": {"resultType": "scalar", "result": [1_435_781_451.781, value]}})
}

fn judged(check: &AnalysisCheck, status: u16, body: &Json, cut: bool) -> String {
    let status = StatusCode::from_u16(status).expect("a status");
    let body = body.as_str().map_or_else(|| body.to_string(), str::to_owned).into();
    check.bounds.judge(&Answer { status, headers: HeaderMap::new(), body, cut }).to_string()
}

#[test]
fn numbers() {
    let check = AnalysisCheck::parse(&spec()).expect("good");
    for (body, expected) in [
        (vector(&[("", "0.03")]), "passed"),
        (vector(&[("", "0.01"), ("b", "0.05")]), "passed"),
        (vector(&[("", "5e-02")]), "passed"),
        (scalar("0.05"), "passed"),
        (scalar("0.050000001"), "failed (Judged): 0.050000001 is more than 0.05"),
        (scalar("0"), "failed (Judged): 0 is less than 0.01"),
        (scalar("+Inf"), "failed (Judged): +Inf is more than 0.05"),
        (scalar("-Inf"), "failed (Judged): -Inf is less than 0.01"),
        (
            vector(&[("a", "0.02"), ("b", "0.12")]),
            r#"failed (Judged): 0.12 is more than 0.05, of {__name__="errors", device="b"}"#,
        ),
        (vector(&[("a", "NaN"), ("b", "0.12")]), "failed (Judged): 0.12"),
        (
            vector(&[("a", "0.02"), ("b", "NaN")]),
            "unknown (NotJudged): Prometheus did not judge the batch: a sample is NaN",
        ),
        (scalar("NaN"), "unknown (NotJudged)"),
        (scalar("many"), "unknown (NotJudged)"),
        (vector(&[]), "unknown (NotJudged): Prometheus did not judge the batch: the query gives no samples"),
    ] {
        let said = judged(&check, 200, &body, false);
        assert!(said.starts_with(expected), "{body}: {said}");
    }
    // A bound that isn't set bounds nothing.
    for (min, max, value, expected) in
        [(Some("1"), None, "+Inf", "passed"), (None, Some("1"), "-Inf", "passed"), (None, Some("-1"), "0", "failed")]
    {
        let (min, max) = (min.map(str::to_owned), max.map(str::to_owned));
        let check = AnalysisCheck::parse(&AnalysisSpec { min, max, ..spec() }).expect("good");
        assert!(judged(&check, 200, &scalar(value), false).starts_with(expected), "{value}");
    }
}

#[test]
fn no_verdicts() {
    let check = AnalysisCheck::parse(&spec()).expect("good");
    let error = json!({"status": "error", "errorType": "bad_data", "error": "parse error: unexpected end"});
    let data = |kind: &str, result: Json| json!({"status": "success", "data": {"resultType": kind, "result": result}});
    let warned = |warning: &str| {
        let mut body = scalar("0.03");
        body["warnings"] = json!([warning]);
        body
    };
    let matrix = json!([{"metric": {}, "values": [[1_435_781_430.781, "1"]]}]);
    let histogram = json!([{"metric": {}, "histogram": [1_435_781_451.781, {"count": "60", "sum": "33"}]}]);
    for (status, body, cut, expected) in [
        (400, error.clone(), false, "status 400, bad_data: parse error: unexpected end"),
        (200, error, false, "status 200, bad_data"),
        (422, scalar("0.03"), false, "status 422"),
        (503, json!("<html>"), false, "it answered with status 503"),
        (302, json!(""), false, "it answered with status 302"),
        (200, json!(""), false, "its answer is not that of a query"),
        (200, json!({"status": "success"}), false, "status 200, error"),
        (200, json!({"status": "success", "data": {}}), false, "its answer is not that of a query"),
        (200, data("matrix", matrix), false, "the query gives a range"),
        (200, data("string", json!([1_435_781_451.781, "0.03"])), false, "the query gives a text"),
        (200, data("vector", histogram), false, "a sample is a histogram"),
        (200, data("streams", json!([])), false, "its answer is not that of a query"),
        (200, scalar("0.03"), true, "its answer is longer than 1 MiB"),
        (200, warned("remote read: no answer from store-2"), false, "it warns of the result: remote read"),
    ] {
        let said = judged(&check, status, &body, cut);
        let expected = format!("unknown (NotJudged): Prometheus did not judge the batch: {expected}");
        assert!(said.starts_with(&expected), "{status} {body}: {said}");
    }
    assert_eq!(judged(&check, 200, &warned("PromQL info: metric might not be a counter"), false), "passed");
}

#[test]
fn labels_are_bounded() {
    let check = AnalysisCheck::parse(&spec()).expect("good");
    let said = judged(&check, 200, &vector(&[(&"ü\n".repeat(500), "7")]), false);
    assert!(said.starts_with("failed (Judged): 7 is more than 0.05, of {__name__") && said.ends_with("…}"), "{said}");
    assert!(said.chars().count() < 200 && !said.contains('\n'), "{said}");
}

#[test]
fn refused() {
    let text = |text: &str| Some(text.to_owned());
    let max = |max: &str| AnalysisSpec { min: None, max: text(max), ..spec() };
    let url = |url: &str| AnalysisSpec { url: url.into(), ..spec() };
    for (spec, expected) in [
        (AnalysisSpec { min: None, max: None, ..spec() }, "an analysis needs min, max or both"),
        (AnalysisSpec { min: text("2"), max: text("1.99"), ..spec() }, "min must not be more than max"),
        (max("1e3"), "min and max must be decimal"),
        (max("NaN"), "min and max must be decimal"),
        (max("inf"), "min and max must be decimal"),
        (max("+1"), "min and max must be decimal"),
        (max(""), "min and max must be decimal"),
        (max("-"), "min and max must be decimal"),
        (max("1."), "min and max must be decimal"),
        (max(".5"), "min and max must be decimal"),
        (max("5%"), "min and max must be decimal"),
        (url("prometheus:9090"), "the url is wrong"),
        (url("http://{namespace}.example"), "the url of an analysis must not have placeholders"),
        (url("http://prometheus/{tag}"), "the url of an analysis must not have placeholders"),
        (url("http://me@prometheus"), "the url is wrong"),
        (AnalysisSpec { query: "up{{x}}".into(), ..spec() }, "the query is wrong: {{x}} is no placeholder"),
    ] {
        let error = AnalysisCheck::parse(&spec).expect_err(expected).sentence();
        assert!(error.starts_with(expected), "{error}, expected {expected}");
    }
    for (min, max) in [("1", "1"), ("-5", "-4.5"), ("0", "999999999999999.999999999")] {
        assert!(
            AnalysisCheck::parse(&AnalysisSpec { min: text(min), max: text(max), ..spec() }).is_ok(),
            "{min} {max}"
        );
    }
}

#[test]
fn where_it_is_asked() {
    for (url, expected) in [
        ("http://prometheus:9090", "http://prometheus:9090/api/v1/query"),
        ("http://prometheus:9090/", "http://prometheus:9090/api/v1/query"),
        ("https://metrics.example/prom/", "https://metrics.example/prom/api/v1/query"),
        ("https://metrics.example/prom?tenant=a", "https://metrics.example/prom/api/v1/query?tenant=a"),
    ] {
        let check = AnalysisCheck::parse(&AnalysisSpec { url: url.into(), ..spec() }).expect("good");
        assert_eq!(check.url.as_str(), expected);
    }
}
