//! What the API server says of the rollouts: every version of them, from the watch, so that nothing is missed.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::StreamExt as _;
use kube::runtime::watcher::{self, Event};
use kube::runtime::{WatchStreamExt as _, watcher as watch};
use kube::{Api, ResourceExt as _};
use parking_lot::Mutex;
use tokio::task::JoinHandle;
use tranche::api::ImageRollout;
use tranche::api::rollout::{ImageRolloutStatus, Phase};

/// One rollout's story.
#[derive(Clone, Default)]
pub struct Record {
    /// Its newest status.
    pub status: ImageRolloutStatus,
    /// Every phase that it was seen in, in order.
    pub phases: Vec<Phase>,
    /// How many devices were in the open batches whenever one opened, in order.
    pub opened: Vec<i32>,
    /// What must never be seen, and was.
    pub violations: Vec<String>,
}

/// Follows all rollouts of a namespace.
pub struct Follower {
    records: Arc<Mutex<BTreeMap<String, Record>>>,
    task: JoinHandle<()>,
}

impl Follower {
    pub fn start(api: Api<ImageRollout>) -> Self {
        let records = Arc::new(Mutex::new(BTreeMap::<String, Record>::new()));
        let shared = records.clone();
        let task = tokio::spawn(async move {
            let events = watch(api, watcher::Config::default()).default_backoff();
            let mut events = std::pin::pin!(events);
            while let Some(event) = events.next().await {
                match event {
                    Ok(Event::Apply(rollout) | Event::InitApply(rollout)) => {
                        shared.lock().entry(rollout.name_any()).or_default().see(&rollout);
                    }
                    // The watch begins again by itself; what a record holds is kept.
                    Ok(Event::Delete(_) | Event::Init | Event::InitDone) | Err(_) => {}
                }
            }
        });
        Self { records, task }
    }

    pub fn record(&self, rollout: &str) -> Option<Record> {
        self.records.lock().get(rollout).cloned()
    }

    /// How many rollouts were ever seen.
    pub fn count(&self) -> usize {
        self.records.lock().len()
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Record {
    fn see(&mut self, rollout: &ImageRollout) {
        let Some(status) = &rollout.status else { return };
        self.status = status.clone();
        if self.phases.last() != Some(&status.phase) {
            self.phases.push(status.phase);
        }
        let open = usize::try_from(status.current_batch).unwrap_or_default();
        let allowed: i32 = status.batches.iter().take(open).map(|batch| batch.devices).sum();
        if open > self.opened.len() {
            self.opened.push(allowed);
        }
        let released = status.totals.as_ref().map_or(0, |totals| totals.released);
        if released > allowed {
            self.violations.push(format!("{released} devices were released while batches of {allowed} were open"));
        }
    }

    /// Whether it was seen in these phases in this order, whatever lay between.
    pub fn went_through(&self, phases: &[Phase]) -> bool {
        let mut seen = self.phases.iter();
        phases.iter().all(|phase| seen.any(|seen| seen == phase))
    }

    /// Its phases, as a line.
    pub fn path(&self) -> String {
        self.phases.iter().map(|phase| phase.as_str()).collect::<Vec<_>>().join(" → ")
    }

    /// The first line of its history of that type.
    pub fn history(&self, type_: &str) -> Option<&str> {
        self.status.history.iter().find(|line| line.type_ == type_).map(|line| line.message.as_str())
    }
}
