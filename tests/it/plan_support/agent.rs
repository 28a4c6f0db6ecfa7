//! A device agent as a small mutator: it polls, takes time to pull, runs what it was told or fails on it, and reports.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use tranche::api::device::ReportedService;

use super::gate::Images;

/// A service by application and name.
pub type Key = (String, String);

/// One agent. The device object knows nothing of it but what it reports.
#[derive(Clone, Debug)]
pub struct Agent {
    /// Whether it reaches the gateway.
    pub online: bool,
    /// Seconds from being told an image to running it.
    pub pull: i64,
    /// Images that do not come up here, by a part of their name.
    pub bad: BTreeSet<String>,
    /// The state it holds: what it was told last. Its `If-None-Match` proves that.
    pub held: Images,
    /// What its engine has, image and container state.
    pub running: BTreeMap<Key, (String, String)>,
    /// When the pull will be done.
    pub ready: Option<Timestamp>,
    /// Whether it sends reports besides polling.
    pub reports: bool,
    /// What it reports instead of the truth.
    pub lie: Option<Vec<ReportedService>>,
}

impl Agent {
    /// One that runs what it was told so far.
    pub fn running(images: &Images) -> Self {
        let running = images.iter().map(|(key, image)| (key.clone(), (image.clone(), "running".to_owned()))).collect();
        Self {
            online: true,
            pull: 20,
            bad: BTreeSet::new(),
            held: images.clone(),
            running,
            ready: None,
            reports: true,
            lie: None,
        }
    }

    /// Takes what the gateway says. Whether it was news.
    pub fn take(&mut self, told: Images, now: Timestamp) -> bool {
        if told == self.held {
            return false;
        }
        let is_running = told.iter().all(|(key, image)| self.running.get(key).is_some_and(|(i, _)| i == image))
            && told.len() == self.running.len();
        self.held = told;
        self.ready = (!is_running).then(|| now + SignedDuration::from_secs(self.pull));
        true
    }

    /// Does what is due. Whether containers changed.
    pub fn work(&mut self, now: Timestamp) -> bool {
        if self.ready.is_none_or(|ready| ready > now) {
            return false;
        }
        self.ready = None;
        self.running = self
            .held
            .iter()
            .map(|(key, image)| {
                let fails = self.bad.iter().any(|part| image.contains(part.as_str()));
                (key.clone(), (image.clone(), if fails { "exited" } else { "running" }.to_owned()))
            })
            .collect();
        true
    }

    /// Its report: every container.
    pub fn report(&self) -> Vec<ReportedService> {
        if let Some(lie) = &self.lie {
            return lie.clone();
        }
        let services = self.running.iter().map(|((app, name), (image, status))| ReportedService {
            app: app.clone(),
            id: None,
            name: name.clone(),
            image: image.clone(),
            status: status.clone(),
            ..ReportedService::default()
        });
        services.collect()
    }
}
