//! Polls.

use std::time::Duration;

use axum::body::Body;
use http::{Method, Request, StatusCode};
use serde_json::{Value, json};

use super::fixture::{A, B, Fixture, KEY_A, KEY_B, device, released};

#[tokio::test]
async fn a_poll_and_its_tag() {
    let fixture = Fixture::with_devices();
    let first = fixture.poll(A, KEY_A, None).await;
    assert_eq!(first.status, StatusCode::OK);
    assert_eq!(first.header("content-type"), "application/json");
    assert_eq!(
        first.json(),
        json!({A: {
            "apps": {"1001": {"appName": "web", "services": [{
                "serviceId": 1, "serviceName": "web", "imageName": "acme/web:v2", "config": {"image": "acme/web:v2"},
            }]}},
            "config": {"intervals": {"a": 1}}, "version": 3, "needs_deployment": false, "last_deployed_at": null,
        }})
    );
    let tag = first.header("etag").to_owned();
    let bare = tag.trim_matches('"').to_owned();
    for asked in [tag.clone(), bare.clone(), format!("W/{tag}"), format!("\"x\", {tag}"), "*".to_owned()] {
        let again = fixture.poll(A, KEY_A, Some(&asked)).await;
        assert_eq!((again.status, again.body.len()), (StatusCode::NOT_MODIFIED, 0), "{asked}");
        assert_eq!(again.header("etag"), tag);
    }
    assert_eq!(fixture.poll(A, KEY_A, Some("\"other\"")).await.status, StatusCode::OK);
    assert!(fixture.api.requests().is_empty(), "no poll reads the API");

    // A write that changes nothing for the device keeps the tag; one that does, doesn't.
    let mut device = released(A, KEY_A);
    device["metadata"]["generation"] = json!(9);
    fixture.apply(&device);
    assert_eq!(fixture.poll(A, KEY_A, Some(&tag)).await.status, StatusCode::NOT_MODIFIED);
    device["spec"]["config"] = json!({"intervals": {"a": 2}});
    fixture.apply(&device);
    let changed = fixture.poll(A, KEY_A, Some(&tag)).await;
    assert_eq!((changed.status, &changed.json()[A]["version"]), (StatusCode::OK, &json!(9)));
}

#[tokio::test]
async fn the_answer_is_keyed_as_the_device_spells_itself() {
    let fixture = Fixture::with_devices();
    let upper = A.to_uppercase();
    assert_eq!(fixture.poll(&upper, KEY_A, None).await.image(&upper), "acme/web:v2");
}

#[tokio::test]
async fn every_refusal_looks_the_same() {
    let fixture = Fixture::with_devices();
    let unknown = "7f0c0000-0000-4000-8000-0000000000ff";
    let bare = |uuid: &str| Request::get(format!("/api/v1/device/{uuid}/state")).body(Body::empty()).unwrap();
    let long = "k".repeat(4000);
    let refusals = [
        fixture.poll(unknown, "wrong", None).await,
        fixture.poll(unknown, KEY_A, None).await,
        fixture.poll(A, "wrong", None).await,
        fixture.poll(A, "", None).await,
        fixture.poll(A, &long, None).await,
        fixture.poll(A, KEY_B, None).await,
        fixture.call(bare(A)).await,
        fixture.call(bare(unknown)).await,
        fixture.call(bare("%00")).await,
        fixture.report("wrong", "{}").await,
        fixture.call(Request::patch("/api/v1/device/state").body("{".into()).unwrap()).await,
    ];
    for refusal in &refusals {
        assert_eq!(refusal.status, StatusCode::UNAUTHORIZED);
        assert!(refusal.is_problem());
        assert_eq!(refusal.body, refusals[0].body);
        assert_eq!(refusal.headers, refusals[0].headers);
    }
    let bearer = Request::get(format!("/api/v1/device/{A}/state"))
        .header("authorization", format!("Bearer {KEY_A}"))
        .body(Body::empty());
    assert_eq!(fixture.call(bearer.unwrap()).await.status, StatusCode::OK);
    assert_eq!(fixture.metrics.gateway.polls_refused.get(), 9);
}

#[tokio::test]
async fn routes_that_are_not_there() {
    let fixture = Fixture::with_devices();
    let call = |method: Method, path: &str| {
        fixture.call(Request::builder().method(method).uri(path).body(Body::empty()).unwrap())
    };
    for path in ["/", "/api/v1/device", "/api/v1/device/x/state/", "/api/v2/device/state"] {
        let answer = call(Method::GET, path).await;
        assert_eq!(answer.status, StatusCode::NOT_FOUND, "{path}");
        assert!(answer.is_problem());
    }
    let answer = call(Method::POST, &format!("/api/v1/device/{A}/state")).await;
    assert_eq!((answer.status, answer.header("allow")), (StatusCode::METHOD_NOT_ALLOWED, "GET,HEAD"));
    assert!(answer.is_problem());
    let answer = call(Method::GET, "/api/v1/device/state").await;
    assert_eq!((answer.status, answer.header("allow")), (StatusCode::METHOD_NOT_ALLOWED, "PATCH"));
}

/// The gate over HTTP: what each kind of device gets while the rollout is in each state.
#[tokio::test(start_paused = true)]
async fn the_gate_table() {
    let active = (json!({}), json!({"phase": "Progressing"}));
    let rows: [(&str, Value, Value, [&str; 3]); 8] = [
        ("active", active.0, active.1, ["v2", "v2", "v2"]),
        ("completed", json!({}), json!({"phase": "Completed"}), ["v2", "v2", "v2"]),
        ("paused", json!({"paused": true}), json!({"phase": "Progressing"}), ["v2", "v2", "v1"]),
        ("cancelled", json!({"desiredState": "Cancelled"}), json!({}), ["v2", "v2", "v1"]),
        ("superseded", json!({}), json!({"phase": "Superseded"}), ["v2", "v2", "v1"]),
        (
            "halted",
            json!({}),
            json!({"phase": "Halted", "halted": {"time": "2026-01-01T00:00:00Z", "batch": 1, "failures": 1}}),
            ["v2", "v1", "v1"],
        ),
        ("rolled back", json!({"desiredState": "RolledBack"}), json!({"phase": "Progressing"}), ["v1", "v1", "v1"]),
        ("rolling back", json!({}), json!({"phase": "RollingBack"}), ["v1", "v1", "v1"]),
    ];
    let running = json!({"services": [
        {"app": "1001", "id": 1, "name": "web", "image": "acme/web:v2", "status": "running"},
    ]});
    for (name, spec, status, told) in rows {
        let fixture = Fixture::with_devices();
        let tag = fixture.poll(A, KEY_A, None).await.header("etag").to_owned();
        fixture.rollout(&spec, &status);
        let image = |answer: super::fixture::Answer| match answer.status {
            // It was given v2 with that tag.
            StatusCode::NOT_MODIFIED => "acme/web:v2".to_owned(),
            _ => answer.image(A),
        };
        let other = image(fixture.poll(A, KEY_A, None).await);
        let holds = image(fixture.poll(A, KEY_A, Some(&tag)).await);
        let mut object = released(A, KEY_A);
        object["status"] = running.clone();
        fixture.apply(&object);
        let runs = image(fixture.poll(A, KEY_A, None).await);
        assert_eq!([runs, holds, other], told.map(|tag| format!("acme/web:{tag}")), "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn nobody_moves_forward_on_stale_knowledge() {
    let fixture = Fixture::with_devices();
    let tag = fixture.poll(A, KEY_A, None).await.header("etag").to_owned();
    tokio::time::advance(Duration::from_secs(119)).await;
    assert_eq!(fixture.poll(A, KEY_A, None).await.image(A), "acme/web:v2");
    tokio::time::advance(Duration::from_secs(2)).await;
    assert_eq!(fixture.poll(A, KEY_A, None).await.image(A), "acme/web:v1");
    assert_eq!(fixture.poll(A, KEY_A, Some(&tag)).await.status, StatusCode::NOT_MODIFIED, "it holds v2 already");
    assert_eq!(fixture.poll(B, KEY_B, None).await.image(B), "acme/web:v1", "others are answered on");
    fixture.gateway.note_alive();
    assert_eq!(fixture.poll(A, KEY_A, None).await.image(A), "acme/web:v2");
}

#[tokio::test]
async fn a_held_device_and_a_failed_one() {
    let fixture = Fixture::with_devices();
    let tag = fixture.poll(A, KEY_A, None).await.header("etag").to_owned();
    let mut object = released(A, KEY_A);
    object["spec"]["hold"] = json!(true);
    fixture.apply(&object);
    assert_eq!(fixture.poll(A, KEY_A, None).await.image(A), "acme/web:v1");
    assert_eq!(fixture.poll(A, KEY_A, Some(&tag)).await.status, StatusCode::NOT_MODIFIED);
    object["spec"]["hold"] = json!(false);
    object["status"] = json!({"updates": [{
        "repository": "docker.io/acme/web", "rollout": "r", "verdict": "Failed", "reason": "DeadlineExceeded",
        "message": "", "time": "2026-01-01T00:00:00Z",
    }]});
    fixture.apply(&object);
    assert_eq!(fixture.poll(A, KEY_A, Some(&tag)).await.image(A), "acme/web:v1");
}

#[tokio::test]
async fn an_edit_while_paused_reaches_the_device_and_its_image_stays() {
    let fixture = Fixture::with_devices();
    let tag = fixture.poll(A, KEY_A, None).await.header("etag").to_owned();
    fixture.rollout(&json!({"paused": true}), &json!({"phase": "Progressing"}));
    let mut object = released(A, KEY_A);
    object["spec"]["config"] = json!({"edited": true});
    fixture.apply(&object);
    let edited = fixture.poll(A, KEY_A, Some(&tag)).await;
    assert_eq!((edited.image(A).as_str(), &edited.json()[A]["config"]), ("acme/web:v2", &json!({"edited": true})));
    let again = fixture.poll(A, KEY_A, Some(edited.header("etag"))).await;
    assert_eq!(again.status, StatusCode::NOT_MODIFIED);
    assert_eq!(fixture.poll(A, KEY_A, None).await.image(A), "acme/web:v1");
}

#[tokio::test]
async fn a_rollout_nobody_has_seen() {
    let fixture = Fixture::new();
    fixture.apply(&released(A, KEY_A));
    assert_eq!(fixture.poll(A, KEY_A, None).await.image(A), "acme/web:v1");
    fixture.rollouts.gone("r");
    assert_eq!(fixture.poll(A, KEY_A, None).await.image(A), "acme/web:v2");
}

#[tokio::test]
async fn devices_that_come_and_go() {
    let fixture = Fixture::with_devices();
    fixture.cache.remove(B);
    assert_eq!(fixture.poll(B, KEY_B, None).await.status, StatusCode::UNAUTHORIZED);
    let mut keyless = device(B, KEY_B);
    keyless["spec"].as_object_mut().unwrap().remove("auth");
    fixture.apply(&keyless);
    assert_eq!(fixture.poll(B, KEY_B, None).await.status, StatusCode::UNAUTHORIZED);
    fixture.apply(&device(B, "another"));
    assert_eq!(fixture.poll(B, KEY_B, None).await.status, StatusCode::UNAUTHORIZED);
    assert_eq!(fixture.poll(B, "another", None).await.status, StatusCode::OK);
}
