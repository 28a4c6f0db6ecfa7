//! Devices as the API server shows them: who was told what, who runs it, and when that was seen.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use futures::StreamExt as _;
use kube::runtime::WatchStreamExt as _;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, ResourceExt as _};
use parking_lot::Mutex;
use tokio::task::JoinHandle;
use tranche::api::{Device, ImageRef};

/// Follows the devices of a namespace on behalf of one rollout at a time.
pub struct Follower {
    seen: Arc<Mutex<Seen>>,
    task: JoinHandle<()>,
}

/// What was seen of one rollout.
#[derive(Default)]
struct Seen {
    rollout: String,
    image: Option<ImageRef>,
    /// By batch.
    batches: BTreeMap<i32, Batch>,
    /// By device: whether it was counted as running the image.
    runs: BTreeMap<String, bool>,
}

#[derive(Default)]
struct Batch {
    first_release: Option<Instant>,
    last_report: Option<Instant>,
}

impl Follower {
    /// Begins to watch.
    pub fn start(api: Api<Device>) -> Self {
        let seen = Arc::<Mutex<Seen>>::default();
        let shared = seen.clone();
        let task = tokio::spawn(async move {
            let events = watcher(api, watcher::Config::default()).default_backoff();
            let mut events = std::pin::pin!(events);
            while let Some(event) = events.next().await {
                match event {
                    Ok(Event::Apply(device) | Event::InitApply(device)) => shared.lock().see(&device, Instant::now()),
                    // The watch begins again by itself.
                    Ok(Event::Delete(_) | Event::Init | Event::InitDone) | Err(_) => {}
                }
            }
        });
        Self { seen, task }
    }

    /// Looks at this rollout from now on.
    pub fn expect(&self, rollout: &str, image: ImageRef) {
        *self.seen.lock() = Seen { rollout: rollout.to_owned(), image: Some(image), ..Seen::default() };
    }

    /// From the last report of each batch to the first release of the next, seconds.
    pub fn gaps(&self) -> Vec<f64> {
        let seen = self.seen.lock();
        let batches: Vec<&Batch> = seen.batches.values().collect();
        batches
            .windows(2)
            .filter_map(|pair| Some(pair[1].first_release?.duration_since(pair[0].last_report?).as_secs_f64()))
            .collect()
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Seen {
    fn see(&mut self, device: &Device, at: Instant) {
        let Some(image) = &self.image else { return };
        let Some(entry) = device.spec.images.iter().find(|entry| entry.rollout == self.rollout) else { return };
        let batch = self.batches.entry(entry.batch).or_default();
        batch.first_release.get_or_insert(at);
        let runs = device.status.iter().flat_map(|status| status.services.iter().flatten()).any(|service| {
            service.is_running() && service.image.parse::<ImageRef>().is_ok_and(|running| running.same_image(image))
        });
        let before = self.runs.insert(device.name_any(), runs);
        if runs && before != Some(true) {
            batch.last_report = Some(at);
        }
    }
}
