//! `job` checks against a real API server, by somebody with no more rights than they need. No kubelet and no Job controller
//! run here: the test plays both, by writing the status of Jobs as they do.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::batch::v1::Job as KubernetesJob;
use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::{Api, Client, ResourceExt as _};
use serde_json::{Value, json};
use tranche::api::ImageRollout;
use tranche::probe::job::{JobCheck, refused};
use tranche::probe::template::{Values, address};
use tranche::probe::{
    Added, Check, Engine, Guard, Job, Jobs, Kind, Names, Network, Outcome, Prober as _, Report, Rollout, Schedule,
    Settings, Subject,
};
use tranche::shutdown::Shutdown;

use crate::support::controlplane::{ControlPlane, User};
use crate::support::wait::until;

/// What the controller needs for `job` checks, and nothing else.
const RIGHTS: [&str; 2] = ["create", "get"];

struct Place {
    namespace: String,
    admin: Client,
    /// Who looks.
    client: Client,
    jobs: Api<KubernetesJob>,
    rollout: Arc<Rollout>,
}

fn kind<T: serde::de::DeserializeOwned>(object: Value) -> T {
    serde_json::from_value(object).expect("a good object")
}

impl Place {
    async fn new(purpose: &str) -> Self {
        let plane = ControlPlane::shared();
        let (admin, client) = (plane.client(User::Admin).await, plane.client(User::Nobody).await);
        let namespace = plane.namespace(purpose).await;
        let roles: Api<Role> = Api::namespaced(admin.clone(), &namespace);
        let rules = json!([{ "apiGroups": ["batch"], "resources": ["jobs"], "verbs": RIGHTS }]);
        let role = kind(json!({ "metadata": { "name": "jobs" }, "rules": rules }));
        roles.create(&PostParams::default(), &role).await.expect("a role");
        let bindings: Api<RoleBinding> = Api::namespaced(admin.clone(), &namespace);
        let binding = kind(json!({
            "metadata": { "name": "jobs" },
            "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "jobs" },
            "subjects": [{ "apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "nobody" }],
        }));
        bindings.create(&PostParams::default(), &binding).await.expect("a binding");
        let rollouts: Api<ImageRollout> = Api::namespaced(admin.clone(), &namespace);
        let rollout: ImageRollout = kind(json!({
            "apiVersion": "tranche.dev/v1alpha1", "kind": "ImageRollout", "metadata": { "name": "app-1" },
            "spec": { "policyRef": { "name": "app" }, "image": { "repository": "docker.io/acme/app", "tag": "v2" } },
        }));
        let rollout = rollouts.create(&PostParams::default(), &rollout).await.expect("a rollout");
        let uid = rollout.uid().expect("stored");
        let rollout = Arc::new(Rollout { name: rollout.name_any().into(), uid: uid.into() });
        let jobs = Api::namespaced(admin.clone(), &namespace);
        let place = Self { namespace, admin, client, jobs, rollout };
        until("the rights to be known", async || {
            let answer = refused(&place.client, &place.namespace, &check(&template())).await;
            match answer.map_err(|error| error.to_string())? {
                None => Ok(()),
                Some(reason) => Err(reason),
            }
        })
        .await;
        place
    }

    fn network(&self) -> Network {
        let guard = Guard::new("".parse().expect("rules"), Names::system());
        Network { guard, jobs: Some(Jobs::new(self.client.clone())) }
    }

    fn look_at(&self, device: &str, timeout: Duration) -> Job {
        let schedule = Schedule::new(Duration::ZERO, Duration::ZERO, timeout, 1, 1).expect("a good one");
        let kind = Kind::Job(Box::new(check(&template())));
        let values = Values {
            device_ip: address("10.1.2.3"),
            device_name: "line 3".into(),
            device_uuid: device.into(),
            namespace: self.namespace.as_str().into(),
            image: "docker.io/acme/app:v2".into(),
            tag: "v2".into(),
        };
        Job {
            check: Arc::new(Check { name: "self-test".into(), kind, schedule, allowed: Vec::new() }),
            subject: Subject::Device { values, since: 1_762_075_800 },
            rollout: Arc::clone(&self.rollout),
        }
    }

    async fn jobs_of(&self, device: &str) -> Vec<KubernetesJob> {
        let params = ListParams::default().labels(&format!("tranche.dev/device={device}"));
        self.jobs.list(&params).await.expect("a list").items
    }

    /// The one Job of a device, once it is there.
    async fn made(&self, device: &str) -> KubernetesJob {
        until(&format!("a Job for {device}"), async || {
            let mut jobs = self.jobs_of(device).await;
            match jobs.pop() {
                Some(job) if jobs.is_empty() => Ok(job),
                _ => Err(format!("{} Jobs", jobs.len())),
            }
        })
        .await
    }

    /// As the Job controller would.
    async fn status(&self, job: &KubernetesJob, status: Value) {
        let params = PatchParams::default();
        let patch = Patch::Merge(json!({ "status": status }));
        self.jobs.patch_status(&job.name_any(), &params, &patch).await.expect("the status is taken");
    }

    async fn fail(&self, job: &KubernetesJob, reason: &str, message: &str) {
        let conditions = ["FailureTarget", "Failed"].map(|kind| condition(kind, reason, message));
        self.status(job, json!({ "startTime": START, "active": 0, "ready": 0, "conditions": conditions })).await;
    }

    async fn complete(&self, job: &KubernetesJob) {
        complete(&self.jobs, job).await;
    }
}

/// Ends a Job well, as the Job controller would.
pub async fn complete(jobs: &Api<KubernetesJob>, job: &KubernetesJob) {
    let conditions = ["SuccessCriteriaMet", "Complete"].map(|kind| condition(kind, "CompletionsReached", ""));
    let status = json!({
        "startTime": START, "completionTime": START, "succeeded": 1, "active": 0, "ready": 0, "conditions": conditions,
    });
    let patch = Patch::Merge(json!({ "status": status }));
    jobs.patch_status(&job.name_any(), &PatchParams::default(), &patch).await.expect("the status is taken");
}

const START: &str = "2026-11-02T09:30:00Z";
/// Ample: what is waited for here happens by the test's own doing.
const AMPLE: Duration = Duration::from_secs(120);

fn condition(kind: &str, reason: &str, message: &str) -> Value {
    json!({ "type": kind, "status": "True", "reason": reason, "message": message, "lastTransitionTime": START })
}

fn template() -> Value {
    json!({ "spec": { "containers": [{ "name": "main", "image": "acme/self-test:1", "args": ["$(DEVICE_IP)"] }] } })
}

fn check(template: &Value) -> JobCheck {
    JobCheck::parse(template.as_object().expect("an object")).expect("a good template")
}

fn assert_is(outcome: &Outcome, expected: &str) {
    assert!(outcome.to_string().starts_with(expected), "{outcome}, expected {expected}");
}

#[tokio::test]
async fn its_end_is_the_verdict() {
    let place = Place::new("job-ends").await;
    let network = place.network();
    let exit = |code: u8, rule: u8| {
        format!("Container main for pod x/y failed with exit code {code} matching FailJob rule at index {rule}")
    };
    let deadline = "Job was active longer than specified deadline".to_owned();
    let ends = [
        ("good", None, "passed"),
        ("bad", Some(("PodFailurePolicy", exit(3, 2))), "failed (Judged): its Job app-1-"),
        ("missing", Some(("PodFailurePolicy", exit(127, 1))), "unknown (NotJudged): the command of Job app-1-"),
        ("stuck", Some(("DeadlineExceeded", deadline)), "unknown (NotJudged): the pod of Job app-1-"),
    ];
    for (device, end, expected) in ends {
        let job = place.look_at(device, AMPLE);
        let plays = async {
            let job = place.made(device).await;
            place.status(&job, json!({ "startTime": START, "active": 1, "ready": 0 })).await;
            match end {
                None => place.complete(&job).await,
                Some((reason, message)) => place.fail(&job, reason, &message).await,
            }
        };
        let (outcome, ()) = tokio::join!(network.look(&job, 1), plays);
        assert_is(&outcome, expected);
    }
}

#[tokio::test]
async fn what_is_made() {
    let place = Place::new("job-made").await;
    let network = place.network();
    let look = place.look_at("line-3", AMPLE);
    let plays = async {
        let job = place.made("line-3").await;
        place.complete(&job).await;
        job
    };
    let (outcome, job) = tokio::join!(network.look(&look, 1), plays);
    assert_eq!(outcome, Outcome::Passed);
    let owner = &job.owner_references()[0];
    assert_eq!((owner.kind.as_str(), &*owner.uid), ("ImageRollout", &*place.rollout.uid));
    let labels = [
        ("app.kubernetes.io/managed-by", "tranche"),
        ("tranche.dev/rollout", "app-1"),
        ("tranche.dev/check", "self-test"),
    ];
    for (name, value) in labels {
        assert_eq!(job.labels().get(name).map(String::as_str), Some(value), "{name}");
    }
    let spec = job.spec.expect("a spec");
    assert_eq!((spec.backoff_limit, spec.active_deadline_seconds, spec.suspend), (Some(0), Some(120), Some(false)));
    assert_eq!(spec.ttl_seconds_after_finished, Some(600));
    assert_eq!(spec.pod_failure_policy.map(|policy| policy.rules.len()), Some(3));
    let pod = spec.template.spec.expect("a spec");
    assert_eq!(pod.restart_policy.as_deref(), Some("Never"));
    let env = pod.containers[0].env.clone().expect("an environment");
    let value =
        |name: &str| env.iter().find(|variable| variable.name == name).and_then(|variable| variable.value.clone());
    assert_eq!((value("DEVICE_IP"), value("DEVICE_NAME")), (Some("10.1.2.3".into()), Some("line 3".into())));
}

/// Seen running, then out of time.
#[tokio::test]
async fn too_slow() {
    let place = Place::new("job-slow").await;
    let network = place.network();
    let job = place.look_at("slow", AMPLE);
    let look = network.look(&job, 1);
    let plays = async {
        let job = place.made("slow").await;
        place.status(&job, json!({ "startTime": START, "active": 1, "ready": 1 })).await;
        job
    };
    tokio::pin!(look);
    // It looks every two seconds, so that it has seen the pod run is known by the time alone; a second look that found it
    // ended would say that it never ran.
    let job = tokio::select! {
        outcome = &mut look => panic!("nothing has ended: {outcome}"),
        job = plays => job,
    };
    let reads = async || {
        let log = std::fs::read_to_string(ControlPlane::shared().audit_log()).expect("a log");
        let read = |line: &&str| line.contains(&job.name_any()) && line.contains(r#""verb":"get""#);
        log.lines().filter(read).count()
    };
    let before = reads().await;
    let seen = until("it to be read twice more", async || match reads().await {
        now if now >= before + 2 => Ok(()),
        now => Err(format!("{now} reads, {before} before")),
    });
    tokio::select! {
        outcome = &mut look => panic!("nothing has ended: {outcome}"),
        () = seen => {}
    }
    place.fail(&job, "DeadlineExceeded", "Job was active longer than specified deadline").await;
    assert_is(&look.await, "failed (Timeout): its Job app-1-");
}

/// A controller that was restarted takes the same look again: it finds the Job, whether it is over or not.
#[tokio::test]
async fn restarts_make_no_second_job() {
    let place = Place::new("job-restart").await;
    let job = place.look_at("one", AMPLE);
    let (first, second) = (place.network(), place.network());
    let made = tokio::select! {
        outcome = first.look(&job, 1) => panic!("nothing has ended: {outcome}"),
        made = place.made("one") => made,
    };
    // The first look is broken off, as by the end of its process.
    let (outcome, ()) = tokio::join!(second.look(&job, 1), place.complete(&made));
    assert_eq!(outcome, Outcome::Passed);
    assert_eq!(place.network().look(&job, 1).await, Outcome::Passed, "it is over, and still there");
    assert_eq!(place.jobs_of("one").await.len(), 1);
    assert_eq!(place.made("one").await.uid(), made.uid());
    // Another attempt is another Job.
    let plays = async {
        let made = until("a second Job", async || {
            let jobs = place.jobs_of("one").await;
            jobs.into_iter().find(|job| job.uid() != made.uid()).ok_or("none".to_owned())
        });
        place.fail(&made.await, "BackoffLimitExceeded", "Job has reached the specified backoff limit").await;
    };
    let (outcome, ()) = tokio::join!(second.look(&job, 2), plays);
    assert_is(&outcome, "unknown (NotJudged): the pod of Job app-1-");
    // Nor is one made of what somebody deleted.
    let gone = place.look_at("gone", AMPLE);
    let plays = async {
        let made = place.made("gone").await;
        place.jobs.delete(&made.name_any(), &DeleteParams::background()).await.expect("it is deleted");
    };
    let (outcome, ()) = tokio::join!(first.look(&gone, 1), plays);
    assert_is(&outcome, "unknown (NotJudged): somebody deleted its Job app-1-");
}

/// Attempts as the engine counts them: the first fails, the second passes.
#[tokio::test]
async fn attempts_by_the_engine() {
    let place = Place::new("job-engine").await;
    let settings = Settings { spread: Duration::ZERO, seed: 1, ..Settings::default() };
    let (engine, mut results) = Engine::start(place.network(), &settings, Shutdown::new());
    assert_eq!(engine.add(1, Arc::new(place.look_at("one", AMPLE))), Added::New);
    let first = place.made("one").await;
    let message = "Container main for pod x/y failed with exit code 1 matching FailJob rule at index 2";
    place.fail(&first, "PodFailurePolicy", message).await;
    let second = until("a second Job", async || {
        let jobs = place.jobs_of("one").await;
        jobs.into_iter().find(|job| job.uid() != first.uid()).ok_or("none".to_owned())
    });
    place.complete(&second.await).await;
    let Report { key, outcome, facts } = results.recv().await.expect("a result");
    assert_eq!((key, outcome, facts.attempts), (1, Outcome::Passed, 2));
}

#[tokio::test]
async fn what_the_api_server_refuses() {
    let place = Place::new("job-refused").await;
    let spec = |container: Value| json!({ "spec": { "containers": [container] } });
    for (template, expected) in [
        (spec(json!({ "name": "main" })), "spec.template.spec.containers[0].image: Required value"),
        (spec(json!({ "name": "Main!", "image": "a" })), "spec.template.spec.containers[0].name: Invalid value"),
        (
            spec(json!({ "name": "main", "image": "a", "comand": ["x"] })),
            "unknown field \"spec.template.spec.containers[0].comand\"",
        ),
        (
            spec(json!({ "name": "main", "image": "a", "volumeMounts": [{ "name": "x", "mountPath": "/x" }] })),
            "volumeMounts[0].name: Not found",
        ),
    ] {
        let answer = refused(&place.client, &place.namespace, &check(&template)).await.expect("an answer");
        assert!(answer.as_deref().is_some_and(|reason| reason.contains(expected)), "{answer:?}, expected {expected}");
    }
    let good = check(&template());
    assert_eq!(refused(&place.client, &place.namespace, &good).await.expect("an answer"), None);
    assert!(place.jobs.list(&ListParams::default()).await.expect("a list").items.is_empty(), "nothing is made");

    // Without the right to make Jobs, no check of this kind can work.
    let elsewhere = ControlPlane::shared().namespace("job-no-rights").await;
    let answer = refused(&place.client, &elsewhere, &good).await.expect("an answer");
    assert!(answer.as_deref().is_some_and(|reason| reason.contains("cannot create resource \"jobs\"")), "{answer:?}");
    // What is full now may be empty later, and says nothing of the template.
    let quota = kind(json!({ "metadata": { "name": "none" }, "spec": { "hard": { "count/jobs.batch": "0" } } }));
    let quotas: Api<k8s_openapi::api::core::v1::ResourceQuota> = Api::namespaced(place.admin.clone(), &place.namespace);
    let quota = quotas.create(&PostParams::default(), &quota).await.expect("a quota");
    let used = json!({ "status": { "hard": { "count/jobs.batch": "0" }, "used": { "count/jobs.batch": "0" } } });
    quotas.patch_status(&quota.name_any(), &PatchParams::default(), &Patch::Merge(used)).await.expect("counted");
    until("the quota to be known", async || match refused(&place.client, &place.namespace, &good).await {
        Err(_) => Ok(()),
        Ok(answer) => Err(format!("{answer:?}")),
    })
    .await;
    let outcome = place.network().look(&place.look_at("one", AMPLE), 1).await;
    assert_is(&outcome, "unknown (NotJudged): its Job was refused: jobs.batch ");
    assert!(outcome.to_string().contains("exceeded quota: none"), "{outcome}");
}
