//! Registry pushes through the real program into a real API server: how long until the rollout is stored, and what a storm
//! of repeated deliveries comes to.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use kube::Api;
use kube::api::{ListParams, PostParams};
use serde_json::{Value, json};
use tokio::process::Command;
use tranche::api::{ImageRollout, ImageUpdatePolicy};

use crate::cluster::{ControlPlane, binary};
use crate::row::Row;
use crate::stats::{median, percentile};

const NAMESPACE: &str = "pushes";
const SECRET: &str = "a-secret-of-the-bench-and-of-nothing-else";
const POLICIES: usize = 1000;
/// Pushes a second, at a steady pace: what comes late doesn't hold up what is due.
const RATE: u32 = 50;
const PUSHES: usize = 1000;
/// The storm: so many images, each told so often, all at once.
const IMAGES: usize = 100;
const TIMES: usize = 10;
const MAX_STORED: f64 = 50.0;

/// The time until a rollout is stored, and the storm.
pub async fn measure(control_plane: &ControlPlane) -> anyhow::Result<Vec<Row>> {
    control_plane.namespace(NAMESPACE).await?;
    create_policies(control_plane).await?;
    let mut command = Command::new(binary());
    command.env("DOCKER_WEBHOOK_SECRET", SECRET);
    let (_tranche, server) = control_plane.tranche(NAMESPACE, &["api"], command).await?;
    let url = format!("http://{server}/api/v1/webhooks/docker-registry");
    let client = reqwest::Client::new();
    let rollouts: Api<ImageRollout> = Api::namespaced(control_plane.client.clone(), NAMESPACE);

    let stored = steady(&client, &url).await?;
    let count = rollouts_of(&rollouts, "v1").await?;
    ensure!(count == PUSHES, "{PUSHES} pushes made {count} rollouts");
    let answers = storm(&client, &url).await?;
    let made = rollouts_of(&rollouts, "v2").await?;
    let errors: usize = answers.iter().filter(|(status, _)| !matches!(status, 200 | 429)).map(|(_, count)| count).sum();
    let later = answers.get(&429).copied().unwrap_or_default();
    Ok(vec![
        Row::limited(
            format!("push to stored rollout, {RATE} a second, {POLICIES} policies, p99 of {PUSHES}"),
            percentile(&stored, 0.99),
            "ms",
            MAX_STORED,
        ),
        Row::known("push to stored rollout, median", median(&stored), "ms"),
        Row::limited(
            format!("{} deliveries at once of {IMAGES} images: rollouts too many or too few", IMAGES * TIMES),
            made.abs_diff(IMAGES) as f64,
            "rollouts",
            0.0,
        ),
        Row::limited("the same: answers other than 200 and 429", errors as f64, "answers", 0.0),
        Row::known("the same: told to come again (429)", later as f64, "answers"),
    ])
}

async fn create_policies(control_plane: &ControlPlane) -> anyhow::Result<()> {
    let api: Api<ImageUpdatePolicy> = Api::namespaced(control_plane.client.clone(), NAMESPACE);
    stream::iter(0..POLICIES)
        .map(|index| {
            let api = api.clone();
            async move {
                let policy = serde_json::from_value(json!({
                    "metadata": {"name": format!("app-{index}")},
                    "spec": {
                        "image": {"pattern": format!("acme/app-{index}:*"), "offer": "Tag"},
                        "devices": {"names": ["nobody"]},
                    },
                }))?;
                api.create(&PostParams::default(), &policy).await.context("no policy")?;
                anyhow::Ok(())
            }
        })
        .buffer_unordered(16)
        .try_collect::<()>()
        .await
}

/// A push of each image at a steady pace; milliseconds from the request to the answer that says "created".
async fn steady(client: &reqwest::Client, url: &str) -> anyhow::Result<Vec<f64>> {
    let start = tokio::time::Instant::now();
    let pushes = (0..PUSHES).map(|index| {
        let (client, url) = (client.clone(), url.to_owned());
        tokio::spawn(async move {
            tokio::time::sleep_until(start + Duration::from_secs(1) * u32::try_from(index)? / RATE).await;
            // Half of the registries of the world tell a digest.
            let digest = (index % 2 == 0).then(|| format!("sha256:{index:064x}"));
            let body = json!({"image": format!("docker.io/acme/app-{index}:v1"), "digest": digest});
            let sent = Instant::now();
            let answer = client.post(url).bearer_auth(SECRET).json(&body).send().await?.error_for_status()?;
            let answer: Value = answer.json().await?;
            ensure!(answer["rollouts"][0]["created"] == true, "a push made nothing: {answer}");
            Ok(sent.elapsed().as_secs_f64() * 1000.0)
        })
    });
    futures::future::try_join_all(pushes).await?.into_iter().collect()
}

/// Everything at once; whoever is told to come again does. How often each status was answered.
async fn storm(client: &reqwest::Client, url: &str) -> anyhow::Result<BTreeMap<u16, usize>> {
    let deliveries = (0..IMAGES * TIMES).map(|index| {
        let (client, url) = (client.clone(), url.to_owned());
        tokio::spawn(async move {
            let body = json!({"image": format!("docker.io/acme/app-{}:v2", index % IMAGES)});
            let mut statuses = Vec::new();
            loop {
                let answer = client.post(&url).bearer_auth(SECRET).json(&body).send().await?;
                statuses.push(answer.status().as_u16());
                if answer.status() != reqwest::StatusCode::TOO_MANY_REQUESTS {
                    return anyhow::Ok(statuses);
                }
                let wait = answer.headers().get("retry-after").and_then(|wait| wait.to_str().ok()?.parse().ok());
                tokio::time::sleep(Duration::from_secs(wait.context("a 429 without Retry-After")?)).await;
            }
        })
    });
    let mut counts = BTreeMap::new();
    for statuses in futures::future::try_join_all(deliveries).await? {
        statuses?.into_iter().for_each(|status| *counts.entry(status).or_default() += 1);
    }
    Ok(counts)
}

async fn rollouts_of(api: &Api<ImageRollout>, tag: &str) -> anyhow::Result<usize> {
    let all = api.list(&ListParams::default()).await?;
    Ok(all.iter().filter(|rollout| rollout.spec.image.tag.as_deref() == Some(tag)).count())
}
