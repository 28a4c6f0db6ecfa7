//! Looks by Jobs, with an API server that answers as it is told, in time that is paused.

use std::collections::VecDeque;
use std::sync::Arc;

use kube::client::Body;
use parking_lot::Mutex;
use serde_json::json;
use tokio::time::Instant;

use super::super::fixture::{job_check, pod, values};
use super::*;

const UID: &str = "3b241101-e2bb-4255-8caf-4136c566a962";

/// An answer: its status, and what is in it.
#[derive(Clone, Debug)]
enum Say {
    Status(u16, &'static str, &'static str),
    Job(Value),
    Silence,
}

#[derive(Clone, Default)]
struct Server {
    /// To the requests in this order; the last goes on for ever.
    answers: Arc<Mutex<VecDeque<Say>>>,
    seen: Arc<Mutex<Vec<String>>>,
}

impl Server {
    fn client(answers: &[Say]) -> (Client, Self) {
        let server = Self { answers: Arc::new(Mutex::new(answers.iter().cloned().collect())), ..Self::default() };
        let at = server.clone();
        let service = tower::service_fn(move |request: http::Request<Body>| {
            at.seen.lock().push(format!("{} {}", request.method(), request.uri()));
            let mut answers = at.answers.lock();
            let say = if answers.len() > 1 { answers.pop_front() } else { answers.front().cloned() };
            async move {
                let (status, body) = match say.expect("an answer") {
                    Say::Silence => std::future::pending().await,
                    Say::Job(job) => (200, job),
                    Say::Status(code, reason, message) => {
                        let (kind, status) = ("Status", "Failure");
                        (
                            code,
                            json!({"kind": kind, "status": status, "code": code, "reason": reason, "message": message}),
                        )
                    }
                };
                let body = Body::from(body.to_string().into_bytes());
                Ok::<_, std::convert::Infallible>(
                    http::Response::builder().status(status).body(body).expect("an answer"),
                )
            }
        });
        (Client::new(service, "default"), server)
    }

    fn seen(&self, method: &str) -> usize {
        self.seen.lock().iter().filter(|request| request.starts_with(method)).count()
    }
}

fn job(status: &Value) -> Say {
    let owners = json!([{"apiVersion": "tranche.dev/v1alpha1", "kind": "ImageRollout", "name": "app-1", "uid": UID}]);
    Say::Job(json!({
        "metadata": {"name": "app-1-x", "ownerReferences": owners},
        "spec": {"template": {}, "podFailurePolicy": {"rules": []}},
        "status": status,
    }))
}

fn ended(kind: &str, reason: &str) -> Say {
    job(
        &json!({"startTime": "2026-11-02T09:30:00Z", "conditions": [{"type": kind, "status": "True", "reason": reason}]}),
    )
}

fn begun(ready: i32) -> Say {
    job(&json!({"startTime": "2026-11-02T09:30:00Z", "active": 1, "ready": ready}))
}

/// What a look with a timeout of 30 s says, how many seconds it took, and what was asked.
async fn look(answers: &[Say]) -> (String, u64, Server) {
    let (client, server) = Server::client(answers);
    let rollout = Rollout { name: "app-1".into(), uid: UID.into() };
    let (values, timeout) = (values(""), Duration::from_secs(30));
    let order = Order { check: "test", values: &values, since: 1, rollout: &rollout, attempt: 1, timeout };
    let begin = Instant::now();
    let outcome = job_check(&pod()).look(&Jobs::new(client), &order).await;
    (outcome.to_string(), begin.elapsed().as_secs(), server)
}

#[tokio::test(start_paused = true)]
async fn followed_to_the_end() {
    let made = || job(&json!({}));
    let late = 30 + SETTLE.as_secs();
    let busy = || Say::Status(429, "TooManyRequests", "later");
    let down = || Say::Status(503, "ServiceUnavailable", "etcd is away");
    let there = || Say::Status(409, "AlreadyExists", "jobs.batch \"x\" already exists");
    let elsewhere =
        Say::Job(json!({"metadata": {"name": "app-1-x"}, "status": {"conditions": [{"type": "Complete"}]}}));
    let going = Say::Job(json!({"metadata": {
        "name": "app-1-x", "deletionTimestamp": "2026-11-02T09:30:00Z", "ownerReferences": [{
            "apiVersion": "x/v1", "kind": "X", "name": "app-1", "uid": UID,
        }],
    }}));
    for (what, answers, expected, seconds, posts) in [
        ("complete", vec![made(), made(), begun(1), ended("Complete", "")], "passed", 4, 1),
        ("there, and over", vec![there(), ended("Complete", "")], "passed", 0, 1),
        (
            "ran out of time",
            vec![made(), begun(1), begun(0), ended("Failed", "DeadlineExceeded")],
            "failed (Timeout)",
            4,
            1,
        ),
        (
            "never ran",
            vec![made(), begun(0), begun(0), ended("Failed", "DeadlineExceeded")],
            "unknown (NotJudged): the pod of Job app-1-x never ran",
            4,
            1,
        ),
        (
            "deleted",
            vec![made(), begun(1), Say::Status(404, "NotFound", "")],
            "unknown (NotJudged): somebody deleted",
            2,
            1,
        ),
        ("being deleted", vec![made(), going], "unknown (NotJudged): somebody deleted", 0, 1),
        ("somebody else's", vec![there(), elsewhere], "unknown (NotJudged): there is a Job", 0, 1),
        (
            "trouble that passes",
            vec![busy(), down(), made(), down(), busy(), begun(1), ended("Complete", "")],
            "passed",
            // Two pauses before it is made, and three until it is over.
            10,
            3,
        ),
        (
            "a quota that changes",
            vec![Say::Status(409, "Conflict", "the object has been modified"), made(), ended("Complete", "")],
            "passed",
            2,
            2,
        ),
        (
            "refused",
            vec![Say::Status(422, "Invalid", "Job.batch \"x\" is invalid: no image")],
            "unknown (NotJudged): its Job was refused: Job.batch \"x\" is invalid: no image",
            0,
            1,
        ),
        (
            "no right",
            vec![Say::Status(403, "Forbidden", "exceeded quota: small")],
            "unknown (NotJudged): its Job was refused: exceeded quota: small",
            0,
            1,
        ),
        (
            "no right to read",
            vec![made(), Say::Status(403, "Forbidden", "cannot get resource jobs")],
            "unknown (NotJudged): its Job app-1-",
            0,
            1,
        ),
        ("never made", vec![down()], "unknown (NotJudged): its Job could not be made: etcd is away", late, 23),
        ("never answered", vec![Say::Silence], "unknown (NotJudged): its Job could not be made: ServiceError", late, 4),
        ("never begun", vec![made()], "unknown (NotJudged): nobody has begun with its Job app-1-", late, 1),
        ("never over", vec![made(), begun(1)], "unknown (NotJudged): its Job app-1-", late, 1),
        ("lost sight of", vec![made(), begun(1), down()], "unknown (NotJudged): its Job app-1-", late, 1),
    ] {
        let (said, took, server) = look(&answers).await;
        assert!(said.starts_with(expected), "{what}: {said}");
        assert_eq!((took, server.seen("POST")), (seconds, posts), "{what}: {said}");
    }
}

#[tokio::test]
async fn tried_before() {
    let refusal = |code, message| vec![Say::Status(code, "Reason", message)];
    for (answers, expected) in [
        (vec![job(&json!({}))], "taken"),
        (refusal(422, "spec is invalid"), "spec is invalid"),
        (refusal(400, "unknown field"), "unknown field"),
        (refusal(403, "User cannot create resource jobs"), "User cannot create resource jobs"),
        (refusal(403, "jobs.batch is forbidden: exceeded quota: small, requested: 1"), "not now"),
        (refusal(404, "namespaces not found"), "not now"),
        (refusal(429, "later"), "not now"),
        (refusal(500, "etcd is away"), "not now"),
    ] {
        let (client, server) = Server::client(&answers);
        let said = match refused(&client, "plant-a", &job_check(&pod())).await {
            Ok(refused) => refused.unwrap_or("taken".into()),
            Err(_) => "not now".into(),
        };
        assert_eq!(said, expected);
        let seen = server.seen.lock().join("\n");
        assert!(
            seen.starts_with("POST /apis/batch/v1/namespaces/plant-a/jobs?") && seen.contains("dryRun=All"),
            "{seen}"
        );
    }
}
