//! Objects with every field set, so that every constraint has a place where it can be broken. Where two fields exclude
//! each other there are several objects.

use serde_json::{Value, json};

const TIME: &str = "2026-11-02T09:30:00Z";

/// Of every kind.
pub fn all() -> Vec<Value> {
    [policies(), rollouts(), devices(), webhooks(), presences()].concat()
}

/// The ones of a kind.
pub fn of(kind: &str) -> Vec<Value> {
    all().into_iter().filter(|object| object["kind"] == kind).collect()
}

fn object(kind: &str, name: &str, spec: &Value, status: &Value) -> Value {
    let mut object =
        json!({ "apiVersion": "tranche.dev/v1alpha1", "kind": kind, "metadata": { "name": name }, "spec": spec });
    if !status.is_null() {
        object["status"] = status.clone();
    }
    object
}

fn selector() -> Value {
    json!({
        "matchLabels": { "tranche.dev/fleet": "plant-a" },
        "matchExpressions": [{ "key": "line", "operator": "In", "values": ["1", "2"] }],
    })
}

/// One of each kind, all with a schedule: what is left out the API server fills in.
fn health_checks() -> Value {
    let mut checks = json!([
        {
            "name": "web",
            "http": {
                "url": "https://{device_ip}:80/health", "method": "POST", "headers": headers(), "expectedStatus": 200,
                "bodyContains": "ok", "bodyMatches": "^ok$", "tls": tls(),
            },
        },
        { "name": "ranges", "http": { "url": "http://{device_ip}/", "method": "GET", "expectedStatus": "200-299,304" } },
        { "name": "port", "tcp": { "host": "{device_ip}", "port": 80 }, "timeout": "500ms", "retries": 0 },
        { "name": "running", "container": { "service": "web", "maxRestarts": 5 }, "timeout": "1m30s", "retries": 20 },
        { "name": "own", "webhook": { "url": "https://judge.example/check", "headers": headers(), "tls": tls() } },
        { "name": "script", "job": { "template": { "spec": { "containers": [{ "name": "check", "image": "check" }] } } } },
        {
            "name": "errors",
            "analysis": {
                "url": "http://prometheus:9090", "query": "sum(rate(errors{image=\"{{image}}\"}[5m]))",
                "min": "0", "max": "0.05", "headers": headers(), "tls": tls(),
            },
        },
    ]);
    for check in checks.as_array_mut().unwrap() {
        let mut schedule = json!({
            "timeout": "30s", "retries": 3, "interval": "5s", "initialDelay": "10s", "successThreshold": 2,
        });
        merge(&mut schedule, check);
        *check = schedule;
    }
    checks
}

fn headers() -> Value {
    json!([
        { "name": "Authorization", "secretKeyRef": { "name": "check", "key": "authorization" } },
        { "name": "X-Line", "value": "3" },
    ])
}

fn tls() -> Value {
    json!({ "caSecretRef": { "name": "check-ca" }, "serverName": "device.example", "insecureSkipVerify": false })
}

fn windows() -> Value {
    json!([{ "days": ["Mon", "Tue"], "start": "22:00", "end": "04:00", "timeZone": "Europe/Berlin", "deny": true }])
}

fn failure_policy() -> Value {
    json!({ "maxFailureRate": "20%", "minSample": 5, "action": "Pause", "rollBackFailedDevices": true })
}

fn condition() -> Value {
    json!({
        "type": "Ready", "status": "True", "reason": "Ready", "message": "", "observedGeneration": 1,
        "lastTransitionTime": TIME,
    })
}

fn policies() -> Vec<Value> {
    let spec = json!({
        "suspend": false,
        "image": {
            "pattern": "iotistic/myapp:*", "offer": "Digest", "pollInterval": "5m",
            "registry": {
                "pullSecretRef": { "name": "pull" }, "caSecretRef": { "name": "authorities" }, "plainHttp": false,
            },
        },
        "tags": {
            "semver": ">=2.0.0", "pattern": "^v(?P<version>.+)$", "exclude": ["-rc"], "allowDowngrade": false,
        },
        "devices": { "selector": selector() },
        "strategy": {
            "type": "Staged",
            "batches": [
                { "size": 1, "selector": selector(), "delay": "24h", "maxFailureRate": "5%", "approval": true },
                { "size": "100%", "approval": false },
            ],
            "batchDelay": "30m",
            "maxConcurrent": 500,
            "windows": windows(),
        },
        "healthChecks": health_checks(),
        "failurePolicy": failure_policy(),
        "updateDeadline": "15m",
        "offlineAfter": "10m",
        "onNewImage": "Replace",
        "forgiven": [{ "image": "docker.io/iotistic/myapp:v1", "time": TIME }],
        "historyLimit": 10,
    });
    let status = json!({
        "observedGeneration": 1,
        "latest": { "image": "docker.io/iotistic/myapp:v2", "rollout": "myapp-1", "tag": "v2" },
        "activeRollout": "myapp-1",
        "rejected": [{ "image": "docker.io/iotistic/myapp:v1", "rollout": "myapp-0", "time": TIME }],
        "conditions": [condition()],
    });
    let mut by_name = spec.clone();
    by_name["devices"] = json!({ "names": ["device-1"] });
    vec![
        object("ImageUpdatePolicy", "full", &spec, &status),
        object("ImageUpdatePolicy", "full-by-name", &by_name, &status),
    ]
}

fn rollouts() -> Vec<Value> {
    let spec = json!({
        "policyRef": { "name": "myapp" },
        "image": {
            "repository": "docker.io/iotistic/myapp",
            "tag": "v2.0.1",
            "digest": format!("sha256:{}", "0f".repeat(32)),
        },
        "trigger": {
            "type": "Webhook", "receiver": "dockerhub", "deliveryID": "1", "actor": "ci",
            "time": "2026-11-02T09:30:00.123456Z",
        },
        "paused": false,
        "notBefore": TIME,
        "approvedBatches": 1,
        "acknowledgedFailures": 0,
        "rollBackDevices": ["device-1"],
        "desiredState": "Active",
    });
    let figures = json!({
        "devices": 3, "released": 2, "updated": 1, "healthy": 1, "failed": 1, "rolledBack": 0, "deferred": 0,
    });
    let mut batch = figures.clone();
    let more = json!({
        "size": "10%", "boundary": "00ff00ff00ff00ff", "selector": selector(), "delay": "30m", "approval": true,
        "maxFailureRate": "5%",
        "acknowledged": 0,
        "failedAnalysis": { "time": TIME, "message": "errors failed: 3 is more than 0", "acknowledged": true },
        "startTime": TIME, "completionTime": TIME,
    });
    merge(&mut batch, &more);
    let status = json!({
        "observedGeneration": 1,
        "phase": "Halted",
        "message": "waiting for a person",
        "image": "docker.io/iotistic/myapp:v2.0.1",
        "digest": format!("sha256:{}", "0f".repeat(32)),
        "progress": "1/3",
        "plan": {
            "policyGeneration": 1, "startTime": TIME, "devicesAtStart": 3, "devices": { "selector": selector() },
            "offer": "Tag", "strategy": "Staged", "maxConcurrent": 500, "windows": windows(),
            "healthChecks": health_checks(), "failurePolicy": failure_policy(), "updateDeadline": "15m",
            "offlineAfter": "10m",
        },
        "currentBatch": 1,
        "totals": figures,
        "batches": [batch],
        "halted": { "time": TIME, "batch": 1, "failures": 1 },
        "resumeTime": TIME,
        "rollbackTime": TIME,
        "completionTime": TIME,
        "failedDevices": [{ "name": "device-1", "reason": "DeadlineExceeded", "message": "no answer" }],
        "uncheckedDevices": [{ "name": "device-2", "message": "web: no way to 10.0.0.2 (NoRoute)" }],
        "history": [{ "time": TIME, "type": "BatchStarted", "message": "batch 1 of 3" }],
        "conditions": [condition()],
    });
    let mut by_name = status.clone();
    by_name["plan"]["devices"] = json!({ "names": ["device-1"] });
    vec![object("ImageRollout", "full", &spec, &status), object("ImageRollout", "full-by-name", &spec, &by_name)]
}

fn devices() -> Vec<Value> {
    let spec = json!({
        "displayName": "line-1",
        "apps": { "1001": { "appId": 1001, "appName": "web", "services": [{
            "serviceId": 1, "serviceName": "web", "imageName": "iotistic/myapp:v1",
            "config": { "image": "iotistic/myapp:v1", "ports": ["80:80"] },
        }] } },
        "config": { "logging": { "level": "info" } },
        "hold": false,
        "auth": {
            "keyHash": format!("sha256:{}", "0f".repeat(32)),
            "publicKey": "-----BEGIN PUBLIC KEY-----",
            "previousKeyHash": format!("sha256:{}", "0e".repeat(32)),
            "previousKeyExpires": TIME,
            "revoked": true,
            "reenrol": TIME,
            "enrolment": { "challenge": "Y2hhbGxlbmdl", "expires": TIME, "completed": true, "since": TIME },
        },
        "images": [{
            "repository": "docker.io/iotistic/myapp", "image": "docker.io/iotistic/myapp:v2",
            "previous": "docker.io/iotistic/myapp:v1", "declared": "docker.io/iotistic/myapp:v1",
            "rollout": "myapp-1", "batch": 1, "releaseTime": TIME, "rolledBack": false,
        }],
    });
    let status = json!({
        "observedGeneration": 1,
        "address": "10.0.0.7",
        "agentVersion": "1.0.0",
        "reportedVersion": 2,
        "lastSeenTime": TIME,
        "services": [{ "app": "1001", "id": 1, "name": "web", "image": "iotistic/myapp:v2", "status": "running",
            "container": "0123456789ab", "restarts": 2, "health": "healthy" }],
        "updates": [{
            "repository": "docker.io/iotistic/myapp", "rollout": "myapp-1", "verdict": "Failed",
            "reason": "DeadlineExceeded", "message": "no answer", "time": TIME,
        }],
        "conditions": [condition()],
    });
    vec![object("Device", "full", &spec, &status)]
}

fn webhooks() -> Vec<Value> {
    let spec = json!({
        "type": "Nexus",
        "secretRef": { "name": "hook" },
        "registry": "registry.local:5000",
        "repositories": ["registry.local:5000/team-a/*"],
        "policySelector": selector(),
        "oidc": {
            "issuer": "https://accounts.google.com",
            "audience": "https://tranche.example.com",
            "email": "push@project.iam.gserviceaccount.com",
            "jwksURL": "https://www.googleapis.com/oauth2/v3/certs",
        },
        "suspend": false,
    });
    let status = json!({
        "observedGeneration": 1,
        "path": format!("/hooks/{}", "0f".repeat(32)),
        "lastDelivery": { "time": TIME, "deliveryID": "1", "message": "made myapp-0123456789" },
        "accepted": 3,
        "ignored": 2,
        "rejected": 1,
        "conditions": [condition()],
    });
    vec![object("RegistryWebhook", "full", &spec, &status)]
}

fn presences() -> Vec<Value> {
    let spec = json!({ "asOf": TIME, "since": TIME, "interval": "5s", "seen": { "device-1": 1_793_000_000 } });
    vec![object("DevicePresence", "full", &spec, &Value::Null)]
}

/// Lays `patch` over `object`, as a merge patch does.
pub fn merge(object: &mut Value, patch: &Value) {
    match (object, patch) {
        (Value::Object(object), Value::Object(patch)) => {
            for (key, value) in patch {
                merge(object.entry(key).or_insert(Value::Null), value);
            }
        }
        (object, patch) => *object = patch.clone(),
    }
}
