//! Reports.

use std::io::Write as _;
use std::sync::atomic::Ordering;

use axum::body::Body;
use flate2::Compression;
use flate2::write::GzEncoder;
use http::{Request, StatusCode};
use serde_json::{Value, json};

use super::fixture::{A, Answer, B, Fixture, KEY_A, KEY_B, REPORT, device, state};

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn of(device: &str, state: &Value) -> String {
    json!({device: state}).to_string()
}

async fn encoded(fixture: &Fixture, coding: &str, body: Vec<u8>) -> Answer {
    let request = Request::patch(REPORT)
        .header("x-device-api-key", KEY_B)
        .header("content-encoding", coding)
        .body(Body::from(body));
    fixture.call(request.unwrap()).await
}

#[tokio::test]
async fn the_first_report_is_written_and_its_repetition_is_not() {
    let fixture = Fixture::with_devices();
    let report = of(B, &state("acme/web:v1", "running", Some(3)));
    let answer = fixture.report(KEY_B, report.clone()).await;
    assert_eq!((answer.status, answer.json()), (StatusCode::OK, json!({"status": "ok"})));
    let writes = fixture.api.take_writes();
    assert_eq!(writes.len(), 1);
    let write = &writes[0];
    assert_eq!(write.path, format!("/apis/tranche.dev/v1alpha1/namespaces/default/devices/{B}/status"));
    assert!(write.query.contains("force=true") && write.query.contains("fieldManager=tranche-gateway"), "{write:?}");
    assert_eq!(
        write.body["status"]["services"],
        json!([{"app": "1001", "id": 1, "name": "web", "image": "acme/web:v1", "status": "running"}])
    );
    assert_eq!(write.body["status"]["conditions"][0]["type"], "InSync");
    assert_eq!(write.body["status"]["conditions"][0]["status"], "True");

    // Before the watch shows the write, and after.
    assert_eq!(fixture.report(KEY_B, report.clone()).await.status, StatusCode::OK);
    assert_eq!(encoded(&fixture, "gzip", gzip(report.as_bytes())).await.status, StatusCode::OK);
    fixture.catch_up(B);
    assert_eq!(fixture.report(KEY_B, report).await.status, StatusCode::OK);
    assert!(fixture.api.take_writes().is_empty());
    assert_eq!(fixture.metrics.gateway.reports_unchanged.get(), 3);

    // Something else happens to the device.
    let exited = gzip(of(B, &state("acme/web:v1", "exited", Some(3))).as_bytes());
    assert_eq!(encoded(&fixture, "gzip", exited).await.status, StatusCode::OK);
    let writes = fixture.api.take_writes();
    assert_eq!(writes.len(), 1);
    assert_eq!(writes[0].body["status"]["conditions"][0]["reason"], "ServiceNotRunning");
}

#[tokio::test]
async fn a_container_that_is_made_anew_is_a_restart() {
    let fixture = Fixture::with_devices();
    let mut restarts = Vec::new();
    for (image, container) in
        [("acme/web:v1", "a"), ("acme/web:v1", "b"), ("acme/web:v1", "b"), ("acme/web:v1", "c"), ("acme/web:v2", "d")]
    {
        let mut state = state(image, "running", Some(3));
        state["apps"]["1001"]["services"][0]["containerId"] = json!(container.repeat(64));
        assert_eq!(fixture.report(KEY_B, of(B, &state)).await.status, StatusCode::OK);
        fixture.catch_up(B);
        for write in fixture.api.take_writes() {
            let service = &write.body["status"]["services"][0];
            assert_eq!(service["container"], json!(container.repeat(12)));
            restarts.push(service["restarts"].as_i64().unwrap_or_default());
        }
    }
    assert_eq!(restarts, [0, 1, 2, 0], "another image begins anew, and the same again is no news");
}

#[tokio::test]
async fn another_replicas_write_is_what_counts_once_it_is_shown() {
    let fixture = Fixture::with_devices();
    let v1 = of(B, &state("acme/web:v1", "running", Some(3)));
    let v2 = of(B, &state("acme/web:v2", "running", Some(3)));
    fixture.report(KEY_B, v1.clone()).await;
    let mut object = fixture.api.get("devices", B).unwrap();
    object["status"]["services"][0]["image"] = json!("acme/web:v2");
    object["status"]["conditions"][0]["status"] = json!("False");
    fixture.apply(&object);
    fixture.api.take_writes();
    fixture.report(KEY_B, v2).await;
    assert!(fixture.api.take_writes().is_empty());
    fixture.report(KEY_B, v1).await;
    assert_eq!(fixture.api.take_writes().len(), 1);
}

#[tokio::test]
async fn replays_and_reports_without_apps_prove_only_life() {
    let fixture = Fixture::with_devices();
    fixture.report(KEY_B, of(B, &state("acme/web:v1", "running", Some(3)))).await;
    fixture.api.take_writes();
    for old in [
        state("acme/web:v0", "exited", None),
        state("acme/web:v0", "exited", Some(2)),
        json!({"apps": null, "version": 3}),
        json!({"is_online": true}),
        json!({}),
    ] {
        assert_eq!(fixture.report(KEY_B, of(B, &old)).await.status, StatusCode::OK, "{old}");
    }
    assert!(fixture.api.take_writes().is_empty());
    assert_eq!(fixture.metrics.gateway.reports_liveness.get(), 5);
    assert!(fixture.cache.by_name(B).unwrap().shared.seen() > 0);
}

#[tokio::test]
async fn nobody_reports_for_another_device() {
    let fixture = Fixture::with_devices();
    let good = state("acme/web:v1", "running", Some(3));
    let mut bodies = vec![];
    for body in [
        json!({A: good}),
        json!({"7f0c0000-0000-4000-8000-0000000000ff": good}),
        json!({A: good, B: good}),
        json!({B: good, "uuid": A}),
    ] {
        let answer = fixture.report(KEY_B, body.to_string()).await;
        assert_eq!(answer.status, StatusCode::FORBIDDEN, "{body}");
        assert!(answer.is_problem());
        bodies.push(answer.body);
    }
    assert!(bodies.windows(2).all(|pair| pair[0] == pair[1]), "it doesn't tell whether the other exists");
    assert!(fixture.api.take_writes().is_empty());
}

#[tokio::test]
async fn bad_bodies() {
    let fixture = Fixture::with_devices();
    let deep = format!("{{\"{B}\":{{\"x\":{}{}}}}}", "[".repeat(100_000), "]".repeat(100_000));
    let bomb = gzip(&vec![b' '; 64 << 20]);
    let good = of(B, &state("acme/web:v1", "running", Some(3)));
    let truncated = gzip(good.as_bytes())[..40].to_vec();
    let noise: Vec<u8> = (0..300_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    for (what, coding, body, status) in [
        ("nothing", "identity", vec![], StatusCode::BAD_REQUEST),
        ("no JSON", "identity", b"{".to_vec(), StatusCode::BAD_REQUEST),
        ("no UTF-8", "identity", vec![0xff; 10], StatusCode::BAD_REQUEST),
        ("a list", "identity", b"[]".to_vec(), StatusCode::BAD_REQUEST),
        ("no device", "identity", b"{}".to_vec(), StatusCode::BAD_REQUEST),
        ("no state", "identity", of(B, &json!(7)).into_bytes(), StatusCode::BAD_REQUEST),
        ("apps of the wrong type", "identity", of(B, &json!({"apps": 7})).into_bytes(), StatusCode::BAD_REQUEST),
        ("deep", "identity", deep.into_bytes(), StatusCode::BAD_REQUEST),
        ("no gzip", "gzip", good.clone().into_bytes(), StatusCode::BAD_REQUEST),
        ("half a gzip", "gzip", truncated, StatusCode::BAD_REQUEST),
        ("a bomb", "gzip", bomb, StatusCode::PAYLOAD_TOO_LARGE),
        ("too long", "identity", vec![b' '; (1 << 20) + 1], StatusCode::PAYLOAD_TOO_LARGE),
        ("too long while compressed", "gzip", noise, StatusCode::PAYLOAD_TOO_LARGE),
        ("another coding", "br", good.into_bytes(), StatusCode::UNSUPPORTED_MEDIA_TYPE),
    ] {
        let answer = encoded(&fixture, coding, body).await;
        assert_eq!(answer.status, status, "{what}: {}", String::from_utf8_lossy(&answer.body));
        assert!(answer.is_problem(), "{what}");
    }
    assert!(fixture.api.take_writes().is_empty());
    assert_eq!(fixture.metrics.gateway.reports_refused.get(), 14);
}

#[tokio::test]
async fn without_the_api_server_the_device_is_asked_to_come_again() {
    let fixture = Fixture::with_devices();
    fixture.api.set_down(true);
    let report = of(B, &state("acme/web:v1", "running", Some(3)));
    let answer = fixture.report(KEY_B, report.clone()).await;
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(answer.is_problem() && !answer.header("retry-after").is_empty());
    assert!(fixture.cache.by_name(B).unwrap().shared.seen() > 0, "it lives all the same");
    fixture.api.set_down(false);
    fixture.api.take_writes();
    assert_eq!(fixture.report(KEY_B, report).await.status, StatusCode::OK);
    assert_eq!(fixture.api.take_writes().len(), 1, "a failed write is not remembered as done");
}

#[tokio::test(start_paused = true)]
async fn an_api_server_that_hangs_holds_nobody_up() {
    let fixture = Fixture::with_devices();
    fixture.api.hangs.store(true, Ordering::SeqCst);
    let answer = fixture.report(KEY_B, of(B, &state("acme/web:v1", "running", Some(3)))).await;
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
}

#[tokio::test(start_paused = true)]
async fn a_body_that_never_ends() {
    let fixture = Fixture::with_devices();
    let begun = futures::stream::once(async { Ok::<_, std::io::Error>(bytes::Bytes::from_static(b"{")) });
    let body = Body::from_stream(futures::StreamExt::chain(begun, futures::stream::pending()));
    let answer = fixture.report(KEY_B, body).await;
    assert_eq!(answer.status, StatusCode::REQUEST_TIMEOUT);
    assert!(answer.is_problem());
}

#[tokio::test]
async fn a_device_that_was_deleted_meanwhile() {
    let fixture = Fixture::with_devices();
    fixture.api.delete("devices", B);
    let answer = fixture.report(KEY_B, of(B, &state("acme/web:v1", "running", Some(3)))).await;
    assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn two_reports_at_once_are_weighed_one_after_the_other() {
    let fixture = Fixture::with_devices();
    let report = of(B, &state("acme/web:v1", "running", Some(3)));
    let answers = futures::future::join_all((0..8).map(|_| fixture.report(KEY_B, report.clone()))).await;
    assert!(answers.iter().all(|answer| answer.status == StatusCode::OK));
    assert_eq!(fixture.api.take_writes().len(), 1);
}

#[tokio::test]
async fn images_that_do_not_parse_are_kept_as_reported() {
    let fixture = Fixture::with_devices();
    fixture.apply(&device(B, KEY_B));
    let answer = fixture.report(KEY_B, of(B, &state("sha256:Not An Image", "running", None))).await;
    assert_eq!(answer.status, StatusCode::OK);
    let status = &fixture.api.take_writes()[0].body["status"];
    assert_eq!(status["services"][0]["image"], "sha256:Not An Image");
    assert_eq!(status["conditions"][0]["reason"], "ImageDiffers");
}

#[tokio::test]
async fn one_device_takes_up_two_places_at_most() {
    let fixture = Fixture::with_devices();
    let logs = format!("/api/v1/device/{B}/logs");
    for path in [REPORT, &logs] {
        let send = |key: &str, body: Body| {
            let request = if path == REPORT { Request::patch(path) } else { Request::post(path) };
            fixture.call(request.header("x-device-api-key", key).body(body).unwrap())
        };
        let silent = || Body::from_stream(futures::stream::pending::<Result<Vec<u8>, std::io::Error>>());
        {
            let (first, second) = (send(KEY_B, silent()), send(KEY_B, silent()));
            tokio::pin!(first, second);
            assert!(futures::poll!(&mut first).is_pending() && futures::poll!(&mut second).is_pending());
            let third = send(KEY_B, Body::from("{}")).await;
            assert_eq!(third.status, StatusCode::TOO_MANY_REQUESTS, "{path}");
            assert!(third.is_problem() && !third.header("retry-after").is_empty(), "{path}");
            if path == REPORT {
                let other = fixture.report(KEY_A, of(A, &state("acme/web:v1", "running", Some(3)))).await;
                assert_eq!(other.status, StatusCode::OK, "another device goes on");
            }
        }
        // They broke off.
        assert_ne!(send(KEY_B, Body::from("{}")).await.status, StatusCode::TOO_MANY_REQUESTS, "{path}");
    }
}
