//! The judgement, over projected objects.

use serde_json::{Value, json};

use super::*;
use crate::api::Device;
use crate::gateway::rollouts::Rollouts;
use crate::gateway::shared::Interner;

const RELEASED: &str = "2026-01-01T00:00:00Z";

fn at(seconds: i64) -> Timestamp {
    let released: Timestamp = RELEASED.parse().unwrap();
    released + jiff::SignedDuration::from_secs(seconds)
}

/// A device that declares web v1; `entry` says whether a rollout released v2 to it.
fn record(generation: i64, entry: bool, status: &Value) -> Record {
    let mut object = json!({
        "apiVersion": "tranche.dev/v1alpha1", "kind": "Device",
        "metadata": {"name": "d", "generation": generation},
        "spec": {"apps": {"1": {"services": [
            {"serviceId": 1, "serviceName": "web", "imageName": "acme/web:v1"},
            {"serviceId": 2, "serviceName": "db", "imageName": "redis:7"},
        ]}}},
        "status": status,
    });
    if entry {
        object["spec"]["images"] = json!([{
            "repository": "docker.io/acme/web", "image": "docker.io/acme/web:v2", "previous": "docker.io/acme/web:v1",
            "declared": "docker.io/acme/web:v1", "rollout": "r", "batch": 1, "releaseTime": RELEASED,
        }]);
    }
    let device: Device = serde_json::from_value(object).unwrap();
    let rollouts = Rollouts::default();
    rollouts.gone("r");
    Record::project(&device, None, &Interner::default(), &rollouts)
}

fn service(id: i64, image: &str, status: &str) -> ReportedService {
    ReportedService {
        app: "1".into(),
        id: Some(id),
        name: String::new(),
        image: image.into(),
        status: status.into(),
        ..ReportedService::default()
    }
}

fn report(web: &str, version: Option<i64>) -> Report {
    Report {
        services: Some(vec![service(2, "redis:7", "running"), service(1, web, "running")]),
        version,
        ..Report::default()
    }
}

fn known(record: &Record, report: Report) -> Reported {
    let Judgement::Write(write) = judge(record, &record.reported, report, true, at(0)) else {
        panic!("a first report is written")
    };
    write.reported(|text| text.into())
}

fn written(judgement: Judgement) -> Value {
    let Judgement::Write(write) = judgement else { panic!("{judgement:?}") };
    write.body("d")
}

#[test]
fn a_first_report_is_written_whole() {
    let record = record(3, false, &json!({}));
    let mut first = report("acme/web:v1", Some(3));
    first.address = Some("10.0.0.7".into());
    first.agent_version = Some("1.0".into());
    let body = written(judge(&record, &record.reported, first, true, at(5)));
    assert_eq!(
        body,
        json!({
            "apiVersion": "tranche.dev/v1alpha1", "kind": "Device", "metadata": {"name": "d"},
            "status": {
                "services": [
                    {"app": "1", "id": 1, "image": "acme/web:v1", "status": "running"},
                    {"app": "1", "id": 2, "image": "redis:7", "status": "running"},
                ],
                "address": "10.0.0.7", "agentVersion": "1.0", "reportedVersion": 3,
                "lastSeenTime": "2026-01-01T00:00:05Z", "observedGeneration": 3,
                "conditions": [{
                    "type": "InSync", "status": "True", "reason": "InSync",
                    "message": "every service runs the image that the device is told",
                    "lastTransitionTime": "2026-01-01T00:00:05Z", "observedGeneration": 3,
                }],
            },
        })
    );
    // Projected again, as the watch will show it, it is what this replica remembers of its own write.
    let shown = super::tests::record(3, false, &body["status"]);
    let again = {
        let mut again = report("acme/web:v1", Some(3));
        again.address = Some("10.0.0.7".into());
        again.agent_version = Some("1.0".into());
        again
    };
    assert_eq!(judge(&shown, &shown.reported, again, true, at(500)), Judgement::Unchanged);
}

#[test]
fn what_is_news_and_what_is_not() {
    let record = record(3, false, &json!({}));
    let known = known(&record, Report { address: Some("10.0.0.7".into()), ..report("acme/web:v1", Some(3)) });
    let judge = |report| judge(&record, &known, report, true, at(1000));
    assert_eq!(judge(report("acme/web:v1", Some(3))), Judgement::Unchanged);
    assert_eq!(judge(report("acme/web:v1", Some(9))), Judgement::Unchanged, "a higher version alone is no news");
    let mut reordered = report("acme/web:v1", Some(3));
    reordered.services.as_mut().unwrap().reverse();
    assert_eq!(judge(reordered), Judgement::Unchanged);
    for news in [
        report("acme/web:v2", Some(3)),
        Report { address: Some("10.0.0.8".into()), ..report("acme/web:v1", Some(3)) },
        Report { agent_version: Some("2".into()), ..report("acme/web:v1", Some(3)) },
        Report { services: Some(vec![]), ..report("acme/web:v1", Some(3)) },
    ] {
        let body = written(judge(news.clone()));
        let address = news.address.unwrap_or("10.0.0.7".into());
        assert_eq!(body["status"]["address"], address, "what a report leaves out is kept");
    }
}

#[test]
fn reports_that_may_be_old_prove_only_life() {
    let fresh = record(5, false, &json!({}));
    assert_eq!(
        judge(&fresh, &fresh.reported, Report { version: Some(1), ..Report::default() }, true, at(0)),
        Judgement::Liveness,
        "without apps"
    );
    let known_4 = known(&fresh, report("acme/web:v1", Some(4)));
    let judged = |generation, known: &Reported, version| {
        judge(&record(generation, false, &json!({})), known, report("acme/web:v9", version), true, at(0))
    };
    assert_eq!(judged(5, &known_4, None), Judgement::Liveness, "replayed: its version is gone");
    assert_eq!(judged(5, &known_4, Some(3)), Judgement::Liveness, "older than the last");
    assert!(matches!(judged(5, &known_4, Some(4)), Judgement::Write(_)));
    assert!(matches!(judged(5, &known_4, Some(5)), Judgement::Write(_)));
    assert!(matches!(judged(2, &known_4, Some(2)), Judgement::Write(_)), "the object was made anew: versions restart");
    let never = known(&fresh, report("acme/web:v1", None));
    assert!(matches!(judged(5, &never, None), Judgement::Write(_)), "an agent that never sends versions");
    let learns = judge(&fresh, &never, report("acme/web:v1", Some(2)), true, at(0));
    assert_eq!(written(learns)["status"]["reportedVersion"], 2);
}

#[test]
fn one_write_for_an_update_that_succeeds() {
    let before = record(1, false, &json!({}));
    let known = known(&before, report("acme/web:v1", Some(1)));
    let released = record(2, true, &json!({}));
    // The agent has polled the new target and not applied it yet.
    assert_eq!(judge(&released, &known, report("acme/web:v1", Some(2)), true, at(1)), Judgement::Unchanged);
    let late = written(judge(&released, &known, report("acme/web:v1", Some(2)), true, at(60)));
    assert_eq!(late["status"]["conditions"][0]["reason"], "ImageDiffers");
    assert_eq!(late["status"]["conditions"][0]["lastTransitionTime"], "2026-01-01T00:01:00Z");
    let done = written(judge(&released, &known, report("acme/web:v2", Some(2)), true, at(9)));
    assert_eq!(done["status"]["conditions"][0]["reason"], "InSync");
    assert_eq!(done["status"]["conditions"][0]["lastTransitionTime"], RELEASED, "it never left");
    assert_eq!(done["status"]["conditions"][0]["observedGeneration"], 2);
}

#[test]
fn reasons() {
    let record = record(1, false, &json!({}));
    let reason = |services: Vec<ReportedService>| {
        let report = Report { services: Some(services), ..Report::default() };
        let body = written(judge(&record, &record.reported, report, true, at(0)));
        let condition = body["status"]["conditions"][0].clone();
        (condition["reason"].as_str().unwrap().to_owned(), condition["message"].as_str().unwrap().to_owned())
    };
    let db = service(2, "redis:7", "running");
    assert_eq!(reason(vec![service(1, "docker.io/acme/web:v1", "running"), db.clone()]).0, "InSync");
    let (why, message) = reason(vec![service(1, "acme/web:v0", "running"), db.clone()]);
    assert_eq!(
        (why.as_str(), message.as_str()),
        ("ImageDiffers", "service web has acme/web:v0 instead of acme/web:v1")
    );
    let (why, message) = reason(vec![service(1, "acme/web:v1", "exited"), db.clone()]);
    assert_eq!((why.as_str(), message.as_str()), ("ServiceNotRunning", "service web is exited"));
    let (why, message) = reason(vec![db.clone()]);
    assert_eq!((why.as_str(), message.as_str()), ("ServiceMissing", "service web was not reported"));
    assert_eq!(reason(vec![service(1, "sha256:abc", "running"), db.clone()]).0, "ImageDiffers");
    let both = vec![service(1, "acme/web:v0", "exited"), service(1, "acme/web:v1", "running"), db];
    assert_eq!(reason(both).0, "InSync", "the old container may still be there");
}

#[test]
fn services_that_are_told_to_stand_still() {
    let told = |state: &str| {
        BTreeMap::from([(
            "1".to_owned(),
            json!({"services": [{"serviceId": 1, "serviceName": "web", "imageName": "acme/web:v1", "state": state}]}),
        )])
    };
    let exited = [service(1, "acme/web:v1", "exited")];
    assert_eq!(in_sync(&told("running"), &exited).unwrap_err().reason, "ServiceNotRunning");
    assert_eq!(in_sync(&told("stopped"), &exited), Ok(()));
    assert_eq!(in_sync(&told("stopped"), &[]), Ok(()));
    assert_eq!(in_sync(&told("stopped"), &[service(1, "acme/web:v0", "exited")]).unwrap_err().reason, "ImageDiffers");
}
