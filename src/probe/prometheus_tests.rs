//! Analyses of a small Prometheus on loopback, which speaks as it documents: a form that is posted to `/api/v1/query`, and
//! JSON that answers it.

use serde_json::json;

use super::super::analysis::AnalysisSpec;
use super::super::fixture::{job_check, pod};
use super::*;

fn analysis(spec: &AnalysisSpec) -> Kind {
    Kind::Analysis(Box::new(AnalysisCheck::parse(spec).expect("a good check")))
}

fn of_batch(kind: Kind, timeout: Duration, tag: &str) -> Job {
    let (namespace, image) = ("plant-a".into(), format!("docker.io/acme/app:{tag}").into());
    let batch = Batch { namespace, image, tag: tag.into(), number: 2 };
    Job { subject: Subject::Batch(batch), ..job(kind, timeout, "") }
}

fn vector(value: &str) -> String {
    let metric = json!({"__name__": "errors", "instance": "localhost:9090"});
    let result = json!([{"metric": metric, "value": [1_435_781_451.781, value]}]);
    json!({"status": "success", "data": {"resultType": "vector", "result": result}}).to_string()
}

#[tokio::test]
async fn analyses() {
    let server = Server::start(|path| match path {
        "/good/api/v1/query" => answer("200 OK", "Content-Type: application/json\r\n", &vector("0.02")),
        "/bad/api/v1/query" => answer("200 OK", "", &vector("0.2")),
        "/wide/api/v1/query" => answer("200 OK", "", &format!("{}{}", " ".repeat(200 << 10), vector("0.2"))),
        "/wrong/api/v1/query" => {
            let error = json!({"status": "error", "errorType": "execution", "error": "many-to-many matching"});
            answer("422 Unprocessable Entity", "", &error.to_string())
        }
        "/elsewhere/api/v1/query" => answer("307 Temporary Redirect", "Location: /good/api/v1/query\r\n", ""),
        "/slow/api/v1/query" => (Vec::new(), true),
        "/huge/api/v1/query" => answer("200 OK", "", &format!("{}{}", " ".repeat(2 << 20), vector("0.2"))),
        _ => answer("404 Not Found", "", "404 page not found"),
    })
    .await;
    let (_socket, closed) = nobody(Ipv4Addr::LOCALHOST);
    let spec = |url: String| AnalysisSpec {
        url,
        query: "max(errors{tag=\"{{tag}}\",batch=\"{{batch}}\"}) + 0".into(),
        max: Some("0.05".into()),
        headers: vec![("X-Scope-OrgID".into(), HeaderText::Secret(Secret::new("plant")))],
        ..AnalysisSpec::default()
    };
    for (path, timeout, expected) in [
        ("/good", AMPLE, "passed"),
        ("/bad/", AMPLE, "failed (Judged): 0.2 is more than 0.05, of {__name__=\"errors\", instance="),
        ("/wide", AMPLE, "failed (Judged): 0.2 is more than 0.05"),
        (
            "/wrong",
            AMPLE,
            "unknown (NotJudged): Prometheus did not judge the batch: status 422, execution: many-to-many",
        ),
        ("/elsewhere", AMPLE, "unknown (NotJudged): Prometheus did not judge the batch: it answered with status 307"),
        ("/slow", SHORT, "unknown (NotJudged)"),
        ("/huge", AMPLE, "unknown (NotJudged)"),
        ("/none", AMPLE, "unknown (NotJudged): Prometheus did not judge the batch: it answered with status 404"),
    ] {
        let kind = analysis(&spec(format!("http://{}{path}", server.address)));
        let outcome = network("127.0.0.0/8").look(&of_batch(kind, timeout, "v2"), 1).await;
        assert!(outcome.to_string().starts_with(expected), "{path}: {outcome}");
    }
    assert_eq!(server.seen().len(), 8, "the redirect is not followed");
    let request = server.seen().remove(0);
    let (head, body) = request.split_once("\r\n\r\n").expect("a body");
    let head = head.to_ascii_lowercase();
    assert!(head.starts_with("post /good/api/v1/query http/1.1\r\n"), "{head}");
    assert!(head.contains("content-type: application/x-www-form-urlencoded") && head.contains("x-scope-orgid: plant"));
    assert_eq!(body, "query=max%28errors%7Btag%3D%22v2%22%2Cbatch%3D%222%22%7D%29+%2B+0");

    let at = |url: String| of_batch(analysis(&spec(url)), AMPLE, "v2");
    let outcome = network("127.0.0.0/8").look(&at(format!("http://{closed}")), 1).await;
    assert_is(&outcome, "unknown (NotJudged)");
    let outcome = network("").look(&at(format!("http://{}/good", server.address)), 1).await;
    assert_is(&outcome, "unknown (AddressRefused)");
    assert_eq!(server.connections(), 8);
    let job = at(format!("http://{}/good", server.address));
    assert_eq!(network("").host(&job).as_deref(), Some("127.0.0.1"));
}

/// Neither is looked at by what is of the other.
#[tokio::test]
async fn of_devices_or_of_batches() {
    let url = "http://127.0.0.1:9".to_owned();
    let spec = AnalysisSpec { url, query: "up".into(), min: Some("1".into()), ..AnalysisSpec::default() };
    let network = network("127.0.0.0/8");
    for job in [job(analysis(&spec), AMPLE, "127.0.0.1"), of_batch(tcp(9), AMPLE, "v2")] {
        assert_is(&network.look(&job, 1).await, "unknown (Internal)");
        assert_eq!(network.host(&job), None);
    }
}

#[tokio::test]
async fn without_a_client_no_jobs_are_made() {
    let job = job(Kind::Job(Box::new(job_check(&pod()))), AMPLE, "127.0.0.1");
    let network = network("127.0.0.0/8");
    assert_is(&network.look(&job, 1).await, "unknown (NotJudged)");
    assert!(network.patience(&job) > AMPLE, "its end takes a while to be seen");
    // Looks are limited by host, so Jobs are by their number of these.
    let hosts: std::collections::BTreeSet<_> = (0..1000)
        .map(|n| {
            let values = Values { device_uuid: format!("device-{n}").into(), ..values("") };
            network.host(&Job {
                subject: Subject::Device { values, since: 0 },
                check: job.check.clone(),
                rollout: rollout(),
            })
        })
        .collect();
    assert_eq!(hosts.len(), 8);
}
