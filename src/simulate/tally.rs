//! What a fleet did and saw, added up. The devices' own testimony: nothing here was asked of the server.

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::engine::Event;
use crate::api::image::written_name;

/// How many images are counted one by one. A simulator that runs for months sees more, and only the first matter.
const MAX_IMAGES: usize = 1000;

/// Something that happened on a device. One line of an observations file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Observation {
    /// When.
    pub time: Timestamp,
    /// Name of the `Device`.
    pub device: Arc<str>,
    /// What.
    pub event: What,
    /// The image, as the server named it.
    pub image: Arc<str>,
}

/// What became of an image on a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum What {
    /// The server named it in a target.
    Offered,
    /// A container with it was started.
    Running,
    /// The last container with it was removed.
    Removed,
}

/// The sums.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// Devices in the fleet.
    pub devices: u32,
    /// Polls answered, whatever the answer.
    pub polls: u64,
    /// Of these, 304.
    pub unchanged: u64,
    /// Of these, neither 200 nor 304, or no answer at all.
    pub failed_polls: u64,
    /// Reports that ended, replays included.
    pub reports: u64,
    /// Of these, refused or lost.
    pub failed_reports: u64,
    images: BTreeMap<Arc<str>, ImageTally>,
}

/// One image's sums.
#[derive(Clone, Debug, Default)]
struct ImageTally {
    offered: HashSet<u32>,
    running: HashSet<u32>,
}

// === impl Observation ===

impl Observation {
    /// `event` on `device` at `time`.
    #[must_use]
    pub fn new(time: Timestamp, device: &Arc<str>, event: &Event) -> Self {
        let (event, image) = match event {
            Event::Offered(image) => (What::Offered, image),
            Event::Running(image) => (What::Running, image),
            Event::Removed(image) => (What::Removed, image),
        };
        Self { time, device: device.clone(), event, image: image.clone() }
    }
}

// === impl Tally ===

impl Tally {
    /// Nothing happened yet on so many devices.
    #[must_use]
    pub fn new(devices: u32) -> Self {
        Self { devices, ..Self::default() }
    }

    /// Counts what happened on the device at `index`.
    pub fn observe(&mut self, index: u32, event: &Event) {
        let (Event::Offered(image) | Event::Running(image) | Event::Removed(image)) = event;
        if !self.images.contains_key(image) && self.images.len() >= MAX_IMAGES {
            return;
        }
        let tally = self.images.entry(image.clone()).or_default();
        match event {
            Event::Offered(_) => tally.offered.insert(index),
            Event::Running(_) => tally.running.insert(index),
            Event::Removed(_) => tally.running.remove(&index),
        };
    }

    /// Every image seen, with how many devices were ever offered it and how many run it now.
    pub fn images(&self) -> impl Iterator<Item = (&str, usize, usize)> {
        self.images.iter().map(|(image, tally)| (image.as_ref(), tally.offered.len(), tally.running.len()))
    }

    /// How many devices run `image` now, as the server spells it.
    #[must_use]
    pub fn running(&self, image: &str) -> usize {
        self.images.get(image).map_or(0, |tally| tally.running.len())
    }

    /// How many devices were ever offered `image`, as the server spells it.
    #[must_use]
    pub fn offered(&self, image: &str) -> usize {
        self.images.get(image).map_or(0, |tally| tally.offered.len())
    }

    /// The last words: a line an image.
    #[must_use]
    pub fn summary(&self) -> String {
        let mut lines = vec![self.to_string()];
        lines.extend(
            self.images()
                .map(|(image, offered, running)| format!("  {image}: offered to {offered}, running on {running}")),
        );
        lines.join("\n")
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let repositories: HashSet<&str> = self.images.keys().map(|image| written_name(image)).collect();
        // One repository in the whole fleet is the common case, and then its name is known.
        let short = |image: &'_ str| match image[written_name(image).len()..].trim_start_matches([':', '@']) {
            tag if !tag.is_empty() && repositories.len() == 1 => tag.to_owned(),
            _ => image.to_owned(),
        };
        let running = self.images().filter(|(_, _, running)| *running > 0);
        let running: Vec<String> =
            running.map(|(image, _, running)| format!("{running} on {}", short(image))).collect();
        let running = if running.is_empty() { "none runs anything".into() } else { running.join(", ") };
        write!(f, "{} devices: {running}", self.devices)?;
        write!(f, " | polls {} (304: {}", self.polls, self.unchanged)?;
        if self.failed_polls > 0 {
            write!(f, ", failed: {}", self.failed_polls)?;
        }
        write!(f, ") reports {}", self.reports)?;
        if self.failed_reports > 0 {
            write!(f, " (failed: {})", self.failed_reports)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_in_one_line() {
        let (v1, v2): (Arc<str>, Arc<str>) = ("acme/app:v1".into(), "acme/app:v2".into());
        let mut tally = Tally { devices: 3, polls: 12, unchanged: 7, reports: 4, ..Tally::default() };
        assert_eq!(tally.to_string(), "3 devices: none runs anything | polls 12 (304: 7) reports 4");
        for index in 0..3 {
            tally.observe(index, &Event::Offered(v1.clone()));
            tally.observe(index, &Event::Running(v1.clone()));
        }
        tally.observe(1, &Event::Offered(v2.clone()));
        tally.observe(1, &Event::Removed(v1));
        tally.observe(1, &Event::Running(v2));
        assert_eq!(tally.to_string(), "3 devices: 2 on v1, 1 on v2 | polls 12 (304: 7) reports 4");
        assert_eq!((tally.offered("acme/app:v1"), tally.running("acme/app:v1")), (3, 2));
        tally.observe(2, &Event::Running("other:v2".into()));
        tally.failed_polls = 1;
        let line = tally.to_string();
        assert!(line.contains("2 on acme/app:v1, 1 on acme/app:v2, 1 on other:v2"), "{line}");
        assert!(line.contains("(304: 7, failed: 1)"), "{line}");
        assert!(tally.summary().contains("\n  acme/app:v1: offered to 3, running on 2"), "{}", tally.summary());
    }

    #[test]
    fn an_observation_is_one_line_of_json() {
        let time = Timestamp::from_second(1_800_000_000).expect("in range");
        let observation = Observation::new(time, &"u".into(), &Event::Offered("acme/app:v2".into()));
        let line = serde_json::to_string(&observation).expect("JSON");
        assert_eq!(line, r#"{"time":"2027-01-15T08:00:00Z","device":"u","event":"offered","image":"acme/app:v2"}"#);
        assert_eq!(serde_json::from_str::<Observation>(&line).expect("the same"), observation);
    }
}
