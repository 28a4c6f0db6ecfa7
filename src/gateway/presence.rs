//! Tells the controller who was seen when, without a write per device and poll.
//!
//! Each device's time is one atomic number beside its record. Objects of about a thousand devices are written coarsely,
//! and sooner when a device turns up that was away. Replicas merge: each writes what it knows on top of what is there,
//! with the later time winning, under the object's resourceVersion.
//!
//! An object is written even when nothing in it changed. Its `asOf` says how far the knowledge reaches; without it,
//! silent gateways would look like silent devices.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures::StreamExt as _;
use jiff::Timestamp;
use kube::api::{DeleteParams, ListParams, ObjectMeta, PostParams, Preconditions};
use kube::{Api, ResourceExt as _};
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout};

use super::Gateway;
use super::cache::{Cache, PARTS, name_hash};
use super::record::Record;
use crate::api::DevicePresence;
use crate::api::presence::DevicePresenceSpec;
use crate::api::time::whole_seconds;

/// Devices to an object: it has about 60 KiB then, well below what etcd takes.
const DEVICES_PER_SHARD: usize = 1000;
/// A device unseen for so many seconds has turned up again, and its object is written early. Three polls of an agent's
/// default interval: a fleet that polls once a minute must not have every object written each second.
const TURNED_UP: i64 = 180;
/// Clocks of replicas may differ by so many seconds; what lies further ahead is not believed.
const MAX_SKEW: i64 = 60;
/// Gateways that said nothing for longer have been away: a restart takes less.
const SILENCE: Duration = Duration::from_secs(30);
/// Bounds of the time between two writes of one object.
const MIN_INTERVAL: Duration = Duration::from_secs(5);
const MAX_INTERVAL: Duration = Duration::from_secs(60);
/// A device that turns up waits this long for others to turn up with it.
const COALESCE: Duration = Duration::from_secs(1);
/// Early writes of one object keep this distance for each object there is: at most 50 a second in all, also when a
/// whole fleet turns up at once.
const EARLY_GAP_PER_SHARD: Duration = Duration::from_millis(20);
/// Objects written at once.
const CONCURRENT: usize = 4;
/// Attempts when other replicas write the same object.
const ATTEMPTS: usize = 5;
/// One attempt.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);
/// After a failure.
const RETRY: Duration = Duration::from_secs(2);

/// What polls and reports leave for the publisher.
#[derive(Debug)]
pub struct Presence {
    interval: Option<Duration>,
    /// How many objects there are now.
    count: AtomicU64,
    /// Objects with a device that turned up.
    early: Mutex<HashSet<u64>>,
    wake: Notify,
}

impl Presence {
    /// With a fixed interval, or one that grows with the fleet.
    #[must_use]
    pub fn new(interval: Option<Duration>) -> Self {
        Self { interval, count: AtomicU64::new(1), early: Mutex::default(), wake: Notify::new() }
    }

    /// A device was seen.
    pub fn see(&self, record: &Record, now: Timestamp) {
        let now = now.as_second();
        let before = record.shared.see(now);
        let count = self.count.load(Ordering::Relaxed);
        let interval = i64::try_from(self.interval(count).as_secs()).unwrap_or(i64::MAX / 2);
        let away = TURNED_UP.max(2 * interval);
        if now.saturating_sub(before) > away {
            self.early.lock().insert(name_hash(&record.name) % count);
            self.wake.notify_one();
        }
    }

    fn interval(&self, count: u64) -> Duration {
        self.interval.unwrap_or_else(|| Duration::from_secs(count).clamp(MIN_INTERVAL, MAX_INTERVAL))
    }
}

/// How many objects so many devices take: a power of two, so that a fleet that grows moves rarely.
#[must_use]
pub fn shard_count(devices: usize) -> u64 {
    devices.div_ceil(DEVICES_PER_SHARD).next_power_of_two() as u64
}

/// When each object is due.
struct Schedule {
    count: u64,
    interval: Duration,
    due: Vec<Instant>,
    written: Vec<Option<Instant>>,
}

impl Schedule {
    /// All of them spread over one interval, the first at once.
    fn new(count: u64, interval: Duration, now: Instant) -> Self {
        let spread = |shard: u64| now + interval.mul_f64(shard as f64 / count as f64);
        let due: Vec<_> = (0..count).map(spread).collect();
        Self { count, interval, written: vec![None; due.len()], due }
    }

    /// Objects that are wanted early, each as soon as the distance to its last write allows.
    fn hurry(&mut self, early: HashSet<u64>, now: Instant) {
        let coalesce = COALESCE.min(self.interval / 2);
        let count = u32::try_from(self.count).unwrap_or(u32::MAX);
        let gap = EARLY_GAP_PER_SHARD.saturating_mul(count).max(coalesce).min(self.interval);
        for shard in early {
            let Ok(index) = usize::try_from(shard) else { continue };
            let (Some(due), Some(written)) = (self.due.get_mut(index), self.written.get(index)) else { continue };
            let soon = written.map_or(now, |written| written + gap).max(now + coalesce);
            *due = soon.min(*due);
        }
    }

    fn take_due(&self, now: Instant) -> Vec<usize> {
        (0..self.due.len()).filter(|shard| self.due[*shard] <= now).collect()
    }

    fn written(&mut self, shard: usize, ok: bool, now: Instant) {
        if ok {
            self.written[shard] = Some(now);
        }
        self.due[shard] = now + if ok { self.interval } else { RETRY.min(self.interval) };
    }

    fn next(&self, now: Instant) -> Instant {
        self.due.iter().min().copied().unwrap_or(now + self.interval)
    }
}

/// Publishes for ever, once the cache is complete.
pub async fn publish(gateway: Arc<Gateway>) {
    if gateway.progress.subscribe().wait_for(|progress| progress.devices_listed).await.is_err() {
        return;
    }
    let presence = &gateway.presence;
    let api: Api<DevicePresence> = Api::namespaced(gateway.client.clone(), &gateway.config.namespace);
    let mut schedule = Schedule::new(0, Duration::ZERO, Instant::now());
    let mut sweep_at = Instant::now();
    loop {
        let count = shard_count(gateway.cache.len());
        let now = Instant::now();
        if count != schedule.count {
            presence.count.store(count, Ordering::Relaxed);
            schedule = Schedule::new(count, presence.interval(count), now);
        }
        schedule.hurry(std::mem::take(&mut *presence.early.lock()), now);
        let interval = schedule.interval;
        let mut writes = futures::stream::iter(schedule.take_due(now))
            .map(|shard| {
                let (api, gateway) = (&api, &gateway);
                async move { (shard, write(api, gateway, count, shard as u64, interval).await) }
            })
            .buffer_unordered(CONCURRENT);
        while let Some((shard, result)) = writes.next().await {
            let metrics = &gateway.metrics.gateway;
            match &result {
                Ok(()) => metrics.presence_done.inc(),
                // Which says so itself, and is ordinary in the first second of a process.
                Err(_) if !gateway.is_live() => metrics.presence_failed.inc(),
                Err(error) => {
                    tracing::warn!(shard, error = &**error, "presence could not be published, trying again");
                    metrics.presence_failed.inc()
                }
            };
            schedule.written(shard, result.is_ok(), Instant::now());
        }
        drop(writes);
        if Instant::now() >= sweep_at {
            sweep_at = Instant::now() + 2 * interval;
            if let Err(error) =
                timeout(WRITE_TIMEOUT, sweep(&api, count, gateway.config.clock.now())).await.unwrap_or(Ok(()))
            {
                tracing::debug!(%error, "old presence objects could not be removed");
            }
        }
        tokio::select! {
            () = tokio::time::sleep_until(schedule.next(Instant::now())) => {}
            () = presence.wake.notified() => {}
        }
    }
}

/// Name of one object.
#[must_use]
pub fn shard_name(count: u64, shard: u64) -> String {
    format!("presence-{count}-{shard}")
}

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Reads one object, merges, writes it under its resourceVersion.
async fn write(
    api: &Api<DevicePresence>,
    gateway: &Gateway,
    count: u64,
    shard: u64,
    interval: Duration,
) -> Result<(), BoxError> {
    if !gateway.is_live() {
        // It offers nothing new to anybody now, and must not say that devices had their chance.
        return Err("the watches are stale".into());
    }
    let name = shard_name(count, shard);
    for _ in 0..ATTEMPTS {
        let attempt = async {
            let there = api.get_opt(&name).await?;
            let now = gateway.config.clock.now();
            let object = merged(&gateway.cache, count, shard, interval, there, now);
            if object.metadata.resource_version.is_some() {
                api.replace(&name, &PostParams::default(), &object).await
            } else {
                api.create(&PostParams::default(), &object).await
            }
        };
        match timeout(WRITE_TIMEOUT, attempt).await? {
            Ok(_) => return Ok(()),
            // Another replica was faster.
            Err(kube::Error::Api(status))
                if status.is_conflict() || status.is_already_exists() || status.is_not_found() => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err("other replicas kept writing the same object".into())
}

/// What is there and what this replica knows, the later time of each device. Devices that no longer exist are dropped.
fn merged(
    cache: &Cache,
    count: u64,
    shard: u64,
    interval: Duration,
    there: Option<DevicePresence>,
    now: Timestamp,
) -> DevicePresence {
    let as_of = whole_seconds(now);
    let (metadata, before, since) = match there {
        Some(DevicePresence { metadata, spec }) => {
            let silence = Duration::try_from(now.duration_since(spec.as_of.0)).unwrap_or_default();
            let unbroken = silence <= SILENCE.max(3 * interval);
            (metadata, spec.seen, spec.since.filter(|_| unbroken))
        }
        None => (ObjectMeta { name: Some(shard_name(count, shard)), ..ObjectMeta::default() }, BTreeMap::new(), None),
    };
    let mut seen = BTreeMap::new();
    for part in parts(count, shard) {
        cache.for_each_in(part, |record| {
            if name_hash(&record.name) % count != shard {
                return;
            }
            // A replica whose clock runs ahead must not make devices look present until real time has caught up.
            if let Some(elsewhere) = before.get(&*record.name).filter(|at| **at <= as_of.0.as_second() + MAX_SKEW) {
                record.shared.see(*elsewhere);
            }
            let at = record.shared.seen();
            if at > 0 {
                seen.insert(record.name.to_string(), at);
            }
        });
    }
    let since = Some(since.unwrap_or_else(|| as_of.clone()));
    let spec = DevicePresenceSpec { as_of, since, interval: interval.into(), seen };
    DevicePresence { metadata: ObjectMeta { managed_fields: None, ..metadata }, spec }
}

/// The parts of the cache that hold a shard's devices: both go by the same hash, and both counts are powers of two.
fn parts(count: u64, shard: u64) -> impl Iterator<Item = usize> {
    let parts = PARTS as u64;
    let (first, step) = if count >= parts { (shard % parts, parts) } else { (shard, count) };
    // Both are at most PARTS.
    (first as usize..PARTS).step_by(step as usize)
}

/// Removes objects of another count that nobody has written for two of their intervals.
async fn sweep(api: &Api<DevicePresence>, count: u64, now: Timestamp) -> kube::Result<()> {
    for object in api.list_metadata(&ListParams::default()).await? {
        let name = object.name_any();
        let other = name.strip_prefix("presence-").and_then(|rest| rest.split_once('-'));
        let Some((other, _)) = other.filter(|(other, _)| other.parse() != Ok(count)) else { continue };
        tracing::debug!(name, other, "an object of another count");
        let Some(object) = api.get_opt(&name).await? else { continue };
        let age = now.as_second() - object.spec.as_of.0.as_second();
        let interval = Duration::from(object.spec.interval);
        if age.max(0).unsigned_abs() < (2 * interval).as_secs().max(1) {
            continue;
        }
        let precondition = Preconditions { resource_version: object.metadata.resource_version, uid: None };
        let params = DeleteParams { preconditions: Some(precondition), ..DeleteParams::default() };
        match api.delete(&name, &params).await {
            Ok(_) => tracing::info!(name, "removed a presence object of another count"),
            Err(kube::Error::Api(status)) if status.is_not_found() || status.is_conflict() => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
