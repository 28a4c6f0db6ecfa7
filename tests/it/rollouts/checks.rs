//! Health checks: the controller looks at devices, and what it sees decides.

use std::collections::BTreeMap;

use k8s_openapi::api::batch::v1::Job;
use kube::api::{ListParams, Patch, PatchParams};
use kube::{Api, ResourceExt as _};
use serde_json::{Value, json};
use tranche::api::ImageUpdatePolicy;
use tranche::api::rollout::Phase;

use super::stage::{Stage, policy};
use crate::job_check::complete;
use crate::support::controlplane::{ControlPlane, User};
use crate::support::fake::{Fake, Seen, reply};
use crate::support::process::{Settings, Tranche};
use crate::support::wait::until;

/// Looks may be taken at servers of this test.
const HERE: [&str; 4] = ["--check-networks", "127.0.0.0/8", "--check-allow-addresses", "127.0.0.0/8"];

async fn stage(purpose: &str, devices: u32, spec: &Value) -> Stage {
    let plane = ControlPlane::shared();
    let namespace = plane.namespace(purpose).await;
    let mut settings = Settings::new(&plane.kubeconfig(User::Admin), &namespace);
    settings.more = HERE.to_vec();
    let client = plane.client(User::Admin).await;
    let secret = json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": { "name": "judge", "namespace": namespace },
        "stringData": { "token": "Bearer hunter2" },
    });
    let secrets: Api<k8s_openapi::api::core::v1::Secret> = Api::namespaced(client, &namespace);
    secrets.patch("judge", &PatchParams::apply("test"), &Patch::Apply(&secret)).await.unwrap();
    Stage::set_with(plane, settings, devices, spec).await
}

fn device_of(seen: &Seen) -> String {
    seen.path.split('/').nth(1).unwrap_or_default().to_owned()
}

/// How often each device was looked at.
fn looks(fake: &Fake) -> BTreeMap<String, usize> {
    let mut looks = BTreeMap::new();
    for seen in fake.seen() {
        *looks.entry(device_of(&seen)).or_default() += 1;
    }
    looks
}

#[tokio::test(flavor = "multi_thread")]
async fn every_device_is_looked_at_before_it_counts() {
    let health = Fake::start(|_| reply(204)).await;
    let judge = Fake::start(|seen| {
        let authentic = seen.header("authorization") == Some("Bearer hunter2");
        reply(200).body(if authentic { r#"{"healthy": true}"# } else { r#"{"healthy": false, "reason": "who?"}"# })
    })
    .await;
    let stage = stage(
        "checks-good",
        10,
        &json!({ "healthChecks": [
            { "name": "web", "http": {
                "url": format!("http://{}/{{device_uuid}}/{{tag}}", health.host), "expectedStatus": "200-299" } },
            { "name": "judge", "webhook": {
                "url": format!("http://{}/judge", judge.host),
                "headers": [{ "name": "Authorization", "secretKeyRef": { "name": "judge", "key": "token" } }] } },
            { "name": "containers", "container": {} },
        ] }),
    )
    .await;
    let rollout = stage.push("v2.0.0").await;
    let done = stage.until_phase(&rollout, Phase::Completed).await;
    assert_eq!(done.totals.unwrap().healthy, 10);
    let looked = looks(&health);
    assert_eq!(looked.len(), 10, "{looked:?}");
    assert!(health.seen().iter().all(|seen| seen.path.ends_with("/v2.0.0")));
    let judged: Vec<Value> = judge.seen().iter().map(|seen| serde_json::from_str(&seen.body).unwrap()).collect();
    assert_eq!(judged.len(), 10);
    assert!(judged.iter().all(|body| body["check"] == "judge" && body["rollout"] == json!(rollout)), "{judged:?}");
    assert!(!stage.tranche().log().contains("hunter2"), "a secret is in the log");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_image_that_runs_and_does_not_answer_goes_back() {
    let health = Fake::start(|seen| reply(if seen.path.ends_with("/v3.0.0") { 500 } else { 200 })).await;
    let url = format!("http://{}/{{device_uuid}}/{{tag}}", health.host);
    let check = json!([{ "name": "web", "http": { "url": url }, "retries": 1, "interval": "50ms" }]);
    let stage = stage("checks-bad", 10, &json!({ "healthChecks": check })).await;
    let rollout = stage.push("v3.0.0").await;
    let done = stage.until_phase(&rollout, Phase::RolledBack).await;
    stage.until_running("v1.0.0", 10).await;
    assert_eq!(stage.ever_told("v3.0.0"), 2, "eight devices never saw it");
    let failed = done.failed_devices.first().unwrap_or_else(|| panic!("{done:?}"));
    assert_eq!(failed.reason, "HealthCheckFailed");
    assert!(failed.message.starts_with("health check web failed: "), "{}", failed.message);
    assert!(looks(&health).values().all(|looks| *looks == 2), "two looks are enough: {:?}", looks(&health));
}

/// What can't be seen is no verdict, and is said. A restart looks again at those that have none.
#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_seen_is_said_and_looked_at_again() {
    let health = Fake::start(|_| reply(200)).await;
    let judge = Fake::start(|seen| {
        // The service that judges is broken for all but one device, and says nothing about them.
        reply(if seen.body.contains("v2.0.0") { 500 } else { 200 })
    })
    .await;
    let mut stage = stage(
        "checks-unknown",
        5,
        &json!({ "healthChecks": [
            { "name": "web", "http": { "url": format!("http://{}/{{device_uuid}}/", health.host) } },
            { "name": "judge", "webhook": { "url": format!("http://{}/", judge.host) }, "retries": 0 },
        ] }),
    )
    .await;
    let rollout = stage.push("v2.0.0").await;
    let status =
        stage.until(&rollout, "said that it can't be seen", |status| status.message.contains("can't be checked")).await;
    assert!(status.message.contains("judge: the webhook did not judge the device"), "{}", status.message);
    let ready = status.conditions.iter().find(|condition| condition.type_ == "Ready").unwrap();
    assert_eq!(ready.reason, "HealthUnknown");
    let device = &status.unchecked_devices[0].name;
    let said = stage.says(&["rollouts", "why", &rollout]);
    assert!(
        said.starts_with(&format!("{rollout}: Progressing, batch 1/2\n  1 devices of batch 1 can't be checked")),
        "{said}"
    );
    assert!(said.ends_with("    others: 4 BatchNotOpen\n"), "{said}");
    let said = stage.says(&["rollouts", "why", &rollout, device]);
    let expected =
        format!("{device} (batch 1): runs the image, but can't be checked: judge: the webhook did not judge");
    assert!(said.starts_with(&expected), "{said}");
    // Longer than the deadline of 6 s: a device can be unseen for ever without being called bad.
    // The two checks are looked at in either order.
    let before = until("the one device of the first batch to be looked at", async || {
        let now = looks(&health);
        if now.len() == 1 { Ok(now) } else { Err(format!("{now:?}")) }
    })
    .await;
    stage.tranche.take().expect("it runs").kill();
    stage.tranche = Some(Tranche::start(&stage.settings).await);
    until("the device to be looked at again", async || {
        let now = looks(&health);
        if now.values().sum::<usize>() > before.values().sum() { Ok(()) } else { Err(format!("{now:?}")) }
    })
    .await;
    let status = stage.status(&rollout).await;
    assert_eq!((status.current_batch, status.totals.unwrap_or_default().failed), (1, 0), "{}", status.message);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_check_that_can_never_work_is_told_before_anything_starts() {
    let stage = stage("checks-invalid", 2, &json!({})).await;
    let api: Api<ImageUpdatePolicy> = stage.api();
    for (check, why) in [
        (json!({ "http": { "url": "http://{device_id}/" } }), "the url is wrong: {device_id} is no placeholder"),
        (
            json!({ "http": { "url": "http://{device_ip}/", "bodyMatches": "(" } }),
            "bodyMatches is no regular expression",
        ),
        (json!({ "webhook": { "url": "http://{device_ip}/" } }), "the host of a webhook must not have placeholders"),
    ] {
        let mut named = check.clone();
        named["name"] = json!("web");
        let body = policy(&json!({ "healthChecks": [named] }));
        api.patch("myapp", &PatchParams::apply("test"), &Patch::Apply(&body)).await.unwrap();
        until("the policy to say so", async || {
            let policy = api.get("myapp").await.unwrap();
            let conditions = policy.status.unwrap_or_default().conditions;
            let ready = conditions.iter().find(|condition| condition.type_ == "Ready").ok_or("no condition")?;
            let says = ready.status == "False" && ready.message.contains(why);
            if says { Ok(()) } else { Err(format!("{ready:?}")) }
        })
        .await;
    }
    let rollout = stage.push("v2.0.0").await;
    let status = stage.until(&rollout, "waiting", |status| !status.message.is_empty()).await;
    assert_eq!((status.phase, status.plan), (Phase::Pending, None));
    assert!(status.message.contains("policy myapp can't be followed: spec.healthChecks[web]"), "{}", status.message);
}

/// What Prometheus answers to a query whose result is one number.
fn sample(value: &str) -> String {
    let result = json!([{ "metric": { "job": "app" }, "value": [1_762_075_800, value] }]);
    json!({ "status": "success", "data": { "resultType": "vector", "result": result } }).to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_is_analysed_while_it_soaks() {
    let prometheus = Fake::start(|seen| {
        let errors = if seen.body.contains("v3.0.0") { "3" } else { "0" };
        reply(200).header("content-type", "application/json").body(sample(errors))
    })
    .await;
    let query = "sum(errors{tag=\"{{tag}}\",batch=\"{{batch}}\"})";
    let spec = json!({
        "strategy": { "batchDelay": "1s" },
        "healthChecks": [{
            "name": "errors", "retries": 0,
            "analysis": { "url": format!("http://{}", prometheus.host), "query": query, "max": "0.5" },
        }],
    });
    let stage = stage("checks-analysis", 10, &spec).await;
    let good = stage.push("v2.0.0").await;
    stage.until_phase(&good, Phase::Completed).await;
    let asked = prometheus.seen();
    for batch in ["1", "2"] {
        let asks = |seen: &Seen| seen.path == "/api/v1/query" && seen.body.contains(&format!("batch%3D%22{batch}%22"));
        assert!(asked.iter().any(asks), "batch {batch}: {:?}", asked.iter().map(|seen| &seen.body).collect::<Vec<_>>());
    }
    let bad = stage.push("v3.0.0").await;
    let halted = stage.until(&bad, "halted or going back", |status| status.rollback_time.is_some()).await;
    let failed = halted.batches[0].failed_analysis.as_ref().expect("on record");
    assert!(failed.message.starts_with("errors failed: "), "{}", failed.message);
    let done = stage.until_phase(&bad, Phase::RolledBack).await;
    let said = done.history.iter().find(|line| line.type_ == "RolloutHalted").expect("said");
    assert!(said.message.starts_with("an analysis of batch 1 failed, errors failed: "), "{}", said.message);
    stage.until_running("v2.0.0", 10).await;
    assert_eq!(stage.ever_told("v3.0.0"), 2, "eight devices never saw it");
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_judge_devices_if_the_api_server_would_make_them() {
    let template = |image: &Value| {
        let container = json!({ "name": "test", "image": image });
        json!([{ "name": "self-test", "job": { "template": { "spec": { "containers": [container] } } } }])
    };
    let stage = stage("checks-job", 5, &json!({ "healthChecks": template(&json!("acme/test:1")) })).await;
    let rollout = stage.push("v2.0.0").await;
    let jobs: Api<Job> = stage.api();
    let mut finished: Vec<String> = Vec::new();
    until("every device's Job to be made and to end", async || {
        for job in jobs.list(&ListParams::default()).await.unwrap().items {
            if !finished.contains(&job.name_any()) {
                complete(&jobs, &job).await;
                finished.push(job.name_any());
            }
        }
        if finished.len() == 5 { Ok(()) } else { Err(format!("{finished:?}")) }
    })
    .await;
    let done = stage.until_phase(&rollout, Phase::Completed).await;
    assert_eq!(done.totals.unwrap().healthy, 5);
    // A template that the API server refuses is told on the policy, and nothing starts.
    let policies: Api<ImageUpdatePolicy> = stage.api();
    let body = policy(&json!({ "healthChecks": template(&json!(null)) }));
    policies.patch("myapp", &PatchParams::apply("test"), &Patch::Apply(&body)).await.unwrap();
    let rollout = stage.push("v3.0.0").await;
    let why = "spec.healthChecks[self-test]: the API server refuses its Job";
    let status = stage.until(&rollout, "refused", |status| status.message.contains(why)).await;
    assert_eq!((status.phase, status.plan), (Phase::Pending, None));
}
