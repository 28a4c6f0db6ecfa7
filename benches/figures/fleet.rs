//! Rollouts over a fleet of polling devices on a real API server: what they write, and how quickly they go on.

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use kube::Api;
use kube::api::{ListParams, PostParams};
use serde_json::json;
use tokio::process::Command;
use tranche::api::rollout::Phase;
use tranche::api::{Device, FLEET_LABEL, ImageRef, ImageRollout, ImageUpdatePolicy};

use crate::audit::{Audit, Writes, count, per_object};
use crate::cluster::{ControlPlane, TRANCHE, binary};
use crate::follow::Follower;
use crate::row::Row;
use crate::stats::{median, percentile};

const NAMESPACE: &str = "fleet";
const DEVICES: usize = 1000;
/// 5%, 10%, … 100%: as many batches as there may be, for as many samples as there can be.
const BATCHES: usize = 20;
const ROLLOUTS: usize = 3;
/// How long a settled system is watched.
const SETTLED: Duration = Duration::from_secs(60);
/// Two rounds of presence: nothing that was on its way is still on its way after.
const QUIET: Duration = Duration::from_secs(10);
/// Figures may be written so long after the end.
const TAIL: Duration = Duration::from_secs(2);
const MAX_WRITES_PER_DEVICE: f64 = 2.0;
const MAX_STATUS_PER_SECOND: f64 = 1.0;
const MAX_GAP: f64 = 1.0;

/// What one rollout took.
struct Story {
    seconds: f64,
    writes: Writes,
    gaps: Vec<f64>,
}

/// Writes per device, writes of a settled system, and the pause between batches.
pub async fn measure(control_plane: &ControlPlane) -> anyhow::Result<Vec<Row>> {
    control_plane.namespace(NAMESPACE).await?;
    create_policy(control_plane).await?;
    let mut audit = Audit::new(control_plane.audit_log())?;
    let components = ["controller", "gateway"];
    let (_tranche, server) = control_plane.tranche(NAMESPACE, &components, Command::new(binary())).await?;
    let devices = DEVICES.to_string();
    let args = ["--fleet", NAMESPACE, "--devices", &devices, "--image", "acme/app:v0", "--poll-interval", "1s"];
    let args = [&args[..], &["--pull-time", "200ms"]].concat();
    let _fleet = control_plane.simulate(NAMESPACE, &server, &args)?;
    let api: Api<Device> = Api::namespaced(control_plane.client.clone(), NAMESPACE);
    wait_for_reports(&api).await?;
    settle(&mut audit).await?;
    let follower = Follower::start(api);

    let mut stories = Vec::new();
    for version in 1..=ROLLOUTS {
        stories.push(roll_out(control_plane, &mut audit, &follower, version).await?);
    }
    settle(&mut audit).await?;
    tokio::time::sleep(SETTLED).await;
    let idle = audit.writes(TRANCHE)?;
    Ok(rows(&stories, &idle))
}

fn rows(stories: &[Story], idle: &Writes) -> Vec<Row> {
    let per_device: Vec<f64> = stories
        .iter()
        .flat_map(|story| per_object(&story.writes, "devices").into_values())
        .map(|count| count as f64)
        .collect();
    let sum = |kind: &str| stories.iter().map(|story| count(&story.writes, kind)).sum::<usize>() as f64;
    let status: usize =
        stories.iter().flat_map(|story| story.writes.get("imagerollouts/status")).flat_map(|r| r.values()).sum();
    let seconds: f64 = stories.iter().map(|story| story.seconds).sum();
    let rollouts = stories.len() as f64;
    let updates = stories.len() * DEVICES;
    let besides = sum("imagerollouts") - status as f64 + sum("events") + sum("imageupdatepolicies");
    let gaps: Vec<f64> = stories.iter().flat_map(|story| story.gaps.iter().copied()).collect();
    let settled: usize = unexpected(idle).map(|(_, count)| count).sum();
    unexpected(idle).for_each(|(resource, count)| println!("the settled system wrote {count} {resource}"));
    vec![
        Row::limited(
            format!("API writes for a device that updates and succeeds, mean of {updates}"),
            sum("devices") / updates as f64,
            "writes",
            MAX_WRITES_PER_DEVICE,
        ),
        Row::limited(
            "API writes for a device that updates and succeeds, the most of all",
            percentile(&per_device, 1.0),
            "writes",
            MAX_WRITES_PER_DEVICE,
        ),
        Row::limited(
            format!("status writes of a rollout, over {seconds:.0} s and {} batches", stories.len() * BATCHES),
            status as f64 / seconds,
            "writes/s",
            MAX_STATUS_PER_SECOND,
        ),
        Row::known("other API writes of a rollout (events, finalizer, policy)", besides / rollouts, "writes"),
        Row::limited("API writes of a settled system in 60 s", settled as f64, "writes", 0.0),
        Row::known("API writes of a settled system in 60 s: presence", count(idle, "devicepresences") as f64, "writes"),
        Row::limited(
            format!("last report of a batch to first release of the next, p99 of {}", gaps.len()),
            percentile(&gaps, 0.99),
            "s",
            MAX_GAP,
        ),
        Row::known("last report of a batch to first release of the next, median", median(&gaps), "s"),
    ]
}

/// What a settled system has no reason to write.
fn unexpected(writes: &Writes) -> impl Iterator<Item = (&str, usize)> {
    writes
        .iter()
        .filter(|(resource, _)| !matches!(resource.as_str(), "leases" | "devicepresences"))
        .map(|(resource, objects)| (resource.as_str(), objects.values().sum()))
}

async fn create_policy(control_plane: &ControlPlane) -> anyhow::Result<()> {
    let batches: Vec<_> = (1..=BATCHES).map(|batch| json!({"size": format!("{}%", batch * 100 / BATCHES)})).collect();
    let policy: ImageUpdatePolicy = serde_json::from_value(json!({
        "metadata": {"name": "app"},
        "spec": {
            "image": {"pattern": "acme/app:*", "offer": "Tag"},
            "devices": {"selector": {"matchLabels": {FLEET_LABEL: NAMESPACE}}},
            "strategy": {"type": "Staged", "batches": batches},
            "updateDeadline": "5m",
        },
    }))?;
    let api = Api::namespaced(control_plane.client.clone(), NAMESPACE);
    api.create(&PostParams::default(), &policy).await.context("no policy")?;
    Ok(())
}

/// Until every device has reported what it runs.
async fn wait_for_reports(api: &Api<Device>) -> anyhow::Result<()> {
    loop {
        let devices = api.list(&ListParams::default()).await?.items;
        let running = |device: &&Device| {
            device.status.iter().flat_map(|status| status.services.iter().flatten()).any(|service| service.is_running())
        };
        if devices.iter().filter(running).count() == DEVICES {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

/// Until Tranche has written nothing but presence for a while.
async fn settle(audit: &mut Audit) -> anyhow::Result<()> {
    loop {
        tokio::time::sleep(QUIET).await;
        let writes = audit.writes(TRANCHE)?;
        if unexpected(&writes).next().is_none() {
            return Ok(());
        }
    }
}

async fn roll_out(
    control_plane: &ControlPlane,
    audit: &mut Audit,
    follower: &Follower,
    version: usize,
) -> anyhow::Result<Story> {
    let (name, tag) = (format!("app-v{version}"), format!("v{version}"));
    follower.expect(&name, format!("docker.io/acme/app:{tag}").parse::<ImageRef>()?);
    let rollout: ImageRollout = serde_json::from_value(json!({
        "metadata": {"name": name},
        "spec": {"policyRef": {"name": "app"}, "image": {"repository": "docker.io/acme/app", "tag": tag}},
    }))?;
    let api: Api<ImageRollout> = Api::namespaced(control_plane.client.clone(), NAMESPACE);
    audit.skip()?;
    let started = Instant::now();
    api.create(&PostParams::default(), &rollout).await.context("no rollout")?;
    loop {
        tokio::time::sleep(Duration::from_millis(200)).await;
        let status = api.get(&name).await?.status.unwrap_or_default();
        ensure!(!status.phase.is_terminal() || status.phase == Phase::Completed, "{name}: {}", status.message);
        if status.phase == Phase::Completed {
            let healthy = status.totals.map(|totals| totals.healthy).unwrap_or_default();
            ensure!(usize::try_from(healthy) == Ok(DEVICES), "{name}: {}", status.message);
            println!("{name} completed in {:.1} s", started.elapsed().as_secs_f64());
            // The last writes for this rollout belong to it.
            tokio::time::sleep(TAIL).await;
            let writes = audit.writes(TRANCHE)?;
            return Ok(Story { seconds: started.elapsed().as_secs_f64(), writes, gaps: follower.gaps() });
        }
    }
}
