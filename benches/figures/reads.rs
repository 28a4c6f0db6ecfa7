//! Long lists for people: the REST API and the command line over a thousand rollouts and a hundred thousand devices.

use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use k8s_openapi::NamespaceResourceScope;
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Resource, ResourceExt as _};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::io::AsyncReadExt as _;
use tokio::process::Command;
use tranche::api::{Device, ImageRollout, ImageUpdatePolicy};

use crate::cluster::{ControlPlane, binary};
use crate::process::peak_memory;
use crate::row::Row;
use crate::stats::{median, percentile};

const NAMESPACE: &str = "reads";
const DEVICES: usize = 100_000;
const ROLLOUTS: usize = 1000;
/// Requests for the list of rollouts.
const ASKED: usize = 300;
/// Times that the long list is fetched.
const FETCHED: usize = 5;
/// Starts of the command line.
const STARTS: usize = 21;
/// Calls to the API server at once while objects are made.
const AT_ONCE: usize = 16;
const MAX_LIST: f64 = 100.0;
const MAX_FIRST_BYTE: f64 = 100.0;
const MAX_COMMAND: f64 = 10.0;
const MAX_MEMORY: f64 = 300.0;
const MAX_START: f64 = 50.0;

/// Lists, over HTTP and in a terminal.
pub async fn measure(control_plane: &ControlPlane) -> anyhow::Result<Vec<Row>> {
    control_plane.namespace(NAMESPACE).await?;
    let started = Instant::now();
    fill(control_plane).await?;
    println!("{DEVICES} devices and {ROLLOUTS} rollouts made in {:.0} s", started.elapsed().as_secs_f64());
    let mut command = Command::new(binary());
    command.env("DOCKER_WEBHOOK_SECRET", "a-secret-of-the-bench-and-of-nothing-else");
    let (process, server) = control_plane.tranche(NAMESPACE, &["api"], command).await?;
    let token = control_plane.token()?;
    let client = reqwest::Client::new();
    let get = |path: &str| client.get(format!("http://{server}/api/v1{path}")).bearer_auth(&token);

    let mut lists = Vec::new();
    for _ in 0..ASKED {
        let asked = Instant::now();
        let answer: Value = get("/rollouts").send().await?.error_for_status()?.json().await?;
        lists.push(asked.elapsed().as_secs_f64() * 1000.0);
        ensure!(answer["pagination"]["total"] == ROLLOUTS, "not all rollouts: {}", answer["pagination"]);
    }
    let before = peak_memory(process.id()?)?;
    let (mut first, mut whole) = (Vec::new(), Vec::new());
    for _ in 0..FETCHED {
        let asked = Instant::now();
        let mut answer = get("/rollouts/app-0/devices").send().await?.error_for_status()?;
        let mut size = answer.chunk().await?.context("no body")?.len();
        first.push(asked.elapsed().as_secs_f64() * 1000.0);
        while let Some(chunk) = answer.chunk().await? {
            size += chunk.len();
        }
        whole.push(asked.elapsed().as_secs_f64());
        ensure!(size > DEVICES * 36, "only {size} bytes for {DEVICES} devices");
    }
    let after = peak_memory(process.id()?)?;
    let (seconds, memory) = devices_list(control_plane).await?;
    let mut starts = Vec::new();
    for _ in 0..STARTS {
        let started = Instant::now();
        let output = Command::new(binary()).args(["rollouts", "list", "--help"]).output().await?;
        ensure!(output.status.success(), "no help");
        starts.push(started.elapsed().as_secs_f64() * 1000.0);
    }
    Ok(vec![
        Row::limited(
            format!("GET /rollouts of {ROLLOUTS} beside {DEVICES} devices, p99 of {ASKED}"),
            percentile(&lists, 0.99),
            "ms",
            MAX_LIST,
        ),
        Row::known("GET /rollouts, median", median(&lists), "ms"),
        Row::limited(
            format!("GET /rollouts/ID/devices of {DEVICES}, first byte, the slowest of {FETCHED}"),
            percentile(&first, 1.0),
            "ms",
            MAX_FIRST_BYTE,
        ),
        Row::known("GET /rollouts/ID/devices, the whole list", median(&whole), "s"),
        Row::known("GET /rollouts/ID/devices, what the server's memory grew by at its peak", after - before, "MB"),
        Row::limited(format!("tranche devices list of {DEVICES}"), seconds, "s", MAX_COMMAND),
        Row::limited(format!("tranche devices list of {DEVICES}, memory at its peak"), memory, "MB", MAX_MEMORY),
        Row::limited("command line, start to end of `rollouts list --help`", median(&starts), "ms", MAX_START),
    ])
}

/// Seconds and megabytes of the command.
async fn devices_list(control_plane: &ControlPlane) -> anyhow::Result<(f64, f64)> {
    let started = Instant::now();
    let mut command = Command::new(binary());
    command.args(["devices", "list", "--namespace", NAMESPACE]);
    command.env("KUBECONFIG", control_plane.user_kubeconfig());
    let mut child = command.stdout(Stdio::piped()).kill_on_drop(true).spawn()?;
    let id = child.id().context("it is gone")?;
    let mut out = child.stdout.take().context("no output")?;
    let (mut lines, mut peak, mut buffer) = (0, 0.0, vec![0; 1 << 16]);
    loop {
        let read = out.read(&mut buffer).await?;
        if read == 0 {
            break;
        }
        lines += buffer[..read].iter().filter(|byte| **byte == b'\n').count();
        // Gone once it has ended, so it is asked while it writes.
        peak = peak_memory(id).unwrap_or(peak);
    }
    ensure!(child.wait().await?.success(), "it failed");
    ensure!(lines == DEVICES + 1, "{lines} lines for {DEVICES} devices");
    Ok((started.elapsed().as_secs_f64(), peak))
}

async fn fill(control_plane: &ControlPlane) -> anyhow::Result<()> {
    create::<ImageUpdatePolicy>(control_plane, 1, |_| {
        json!({
            "metadata": {"name": "app"},
            "spec": {"image": {"pattern": "acme/app:*", "offer": "Tag"}, "devices": {"selector": {}}},
        })
    })
    .await?;
    create::<ImageRollout>(control_plane, ROLLOUTS, |index| {
        json!({
            "metadata": {"name": format!("app-{index}"), "labels": {"tranche.dev/policy": "app"}},
            "spec": {"policyRef": {"name": "app"}, "image": {"repository": "docker.io/acme/app", "tag": format!("v{index}")}},
        })
    })
    .await?;
    let api: Api<ImageRollout> = Api::namespaced(control_plane.client.clone(), NAMESPACE);
    stream::iter(0..ROLLOUTS)
        .map(|index| {
            let api = api.clone();
            async move {
                let patch = Patch::Merge(json!({ "status": status(index) }));
                api.patch_status(&format!("app-{index}"), &PatchParams::default(), &patch)
                    .await
                    .context("no status")?;
                anyhow::Ok(())
            }
        })
        .buffer_unordered(AT_ONCE)
        .try_collect::<()>()
        .await?;
    create::<Device>(control_plane, DEVICES, |index| {
        let image = json!({
            "repository": "docker.io/acme/app", "image": "docker.io/acme/app:v0", "previous": "acme/app:v", "declared": "acme/app:v",
            "rollout": "app-0", "batch": 1 + index % 3, "releaseTime": "2026-01-01T00:00:00Z",
        });
        json!({
            "metadata": {"name": format!("00000000-0000-4000-8000-{index:012x}"), "labels": {"tranche.dev/fleet": "plant-a"}},
            "spec": {
                "displayName": format!("line-{index}"),
                "apps": {"1001": {"appName": "app", "services": [{"serviceId": 1, "serviceName": "app", "imageName": "acme/app:v"}]}},
                "images": [image],
            },
        })
    })
    .await
}

/// As a rollout has it after three batches.
fn status(index: usize) -> Value {
    let batch = |size: &str, boundary: &str, devices: usize| {
        json!({
            "size": size, "boundary": boundary, "devices": devices, "released": devices, "updated": devices, "healthy": devices,
            "startTime": "2026-01-01T00:00:00Z", "completionTime": "2026-01-01T00:10:00Z",
        })
    };
    let line = |kind: &str| json!({"time": "2026-01-01T00:00:00Z", "type": kind, "message": "batch 1 of 3 (10%): 10000 devices"});
    let told =
        ["RolloutCreated", "BatchStarted", "BatchCompleted", "BatchStarted", "BatchCompleted", "RolloutCompleted"];
    let history: Vec<Value> = told.into_iter().map(line).collect();
    json!({
        "observedGeneration": 1, "phase": "Completed", "message": "100000 of 100000 devices run it", "currentBatch": 3, "progress": "3/3",
        "image": format!("docker.io/acme/app:v{index}"), "completionTime": "2026-01-01T01:00:00Z",
        "totals": {"devices": DEVICES, "released": DEVICES, "updated": DEVICES, "healthy": DEVICES, "failed": 0, "rolledBack": 0, "deferred": 0},
        "batches": [
            batch("10%", "1999999999999999", DEVICES / 10), batch("50%", "8000000000000000", DEVICES * 4 / 10),
            batch("100%", "ffffffffffffffff", DEVICES / 2),
        ],
        "plan": {
            "startTime": "2025-12-31T23:00:00Z", "devicesAtStart": DEVICES, "devices": {"selector": {}}, "offer": "Tag", "strategy": "Staged",
            "failurePolicy": {"maxFailureRate": "20%"}, "updateDeadline": "15m", "offlineAfter": "10m",
        },
        "history": history,
    })
}

async fn create<K>(control_plane: &ControlPlane, count: usize, object: impl Fn(usize) -> Value) -> anyhow::Result<()>
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
        + Clone
        + std::fmt::Debug
        + Serialize
        + DeserializeOwned,
{
    let api: Api<K> = Api::namespaced(control_plane.client.clone(), NAMESPACE);
    stream::iter((0..count).map(|index| {
        let (api, object) = (api.clone(), object(index));
        async move {
            let object: K = serde_json::from_value(object)?;
            let name = object.name_any();
            tokio::time::timeout(Duration::from_secs(30), api.create(&PostParams::default(), &object))
                .await
                .with_context(|| format!("{name}: no answer"))?
                .with_context(|| format!("no {name}"))?;
            anyhow::Ok(())
        }
    }))
    .buffer_unordered(AT_ONCE)
    .try_collect::<()>()
    .await
}
