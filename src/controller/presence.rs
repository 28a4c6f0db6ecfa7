//! Condition `Connected` of devices, written when it flips and at no other time.

use std::sync::Arc;

use futures::StreamExt as _;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::api::{Patch, PatchParams};
use kube::{Api, Resource as _};
use serde_json::json;

use crate::api::Device;
use crate::api::condition::{CONNECTED, condition};
use crate::api::time::whole_seconds;

use super::context::Context;
use super::devices::Known;

/// Field manager of this condition alone: server-side apply drops what a manager no longer names, and verdicts are
/// written under another name.
const MANAGER: &str = "tranche-presence";
/// Unseen for so many of the gateways' intervals: disconnected. Agents poll once a minute by default.
const INTERVALS: i64 = 3;
/// And not before so many seconds: three polls of an agent's default interval.
const AT_LEAST: i64 = 180;
/// Flips that are written in one round; a fleet that comes back all at once is written over a few rounds.
const ROUND: usize = 500;
/// Writes at the same time.
const CONCURRENCY: usize = 8;

/// One flip.
#[derive(Debug, PartialEq, Eq)]
struct Flip {
    device: String,
    connected: bool,
    seen: jiff::Timestamp,
}

/// Looks at every device once and writes what flipped.
pub async fn round(context: &Arc<Context>, now: jiff::Timestamp) {
    for namespace in context.devices.namespaces() {
        let api: Api<Device> = Api::namespaced(context.client.clone(), &namespace);
        futures::stream::iter(flips(context, &namespace))
            .for_each_concurrent(CONCURRENCY, |flip| {
                let api = api.clone();
                async move {
                    match write(&api, &flip, now).await {
                        Ok(device) => {
                            context.metrics.wrote("Connected");
                            context.devices.apply_own(&device);
                        }
                        Err(error) => {
                            tracing::debug!(device = flip.device, %error, "Connected not written; again later");
                        }
                    }
                }
            })
            .await;
    }
}

fn flips(context: &Context, namespace: &str) -> Vec<Flip> {
    let knowledge = context.devices.knowledge(namespace);
    let Some(as_of) = knowledge.as_of else { return Vec::new() };
    let limit = AT_LEAST.max(INTERVALS * knowledge.interval);
    context
        .devices
        .devices(namespace)
        .iter()
        .filter(|known| !known.view.deleting)
        .filter_map(|Known { view, seen }| {
            // Never seen is not away: its gateway may not have spoken yet.
            let seen = jiff::Timestamp::from_second(*seen).ok()?;
            let connected = as_of.as_second() - seen.as_second() <= limit;
            (view.connected != Some(connected)).then(|| Flip { device: view.name.clone(), connected, seen })
        })
        .take(ROUND)
        .collect()
}

async fn write(api: &Api<Device>, flip: &Flip, now: jiff::Timestamp) -> Result<Device, kube::Error> {
    let (reason, message) = if flip.connected {
        ("Seen", "it polls or reports")
    } else {
        ("Unseen", "it neither polled nor reported lately")
    };
    let condition = condition(CONNECTED, flip.connected, reason, message, None, whole_seconds(now).0);
    let body = json!({
        "apiVersion": Device::api_version(&()),
        "kind": Device::kind(&()),
        "metadata": { "name": flip.device },
        "status": { "conditions": [condition], "lastSeenTime": Time(flip.seen) },
    });
    // A device deleted meanwhile would be refused, not created: an apply to the status of nothing is a 404.
    api.patch_status(&flip.device, &PatchParams::apply(MANAGER).force(), &Patch::Apply(&body)).await
}
