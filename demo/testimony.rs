//! What the devices themselves say: read from the simulator's observations, never asked of the server. Images are in
//! their canonical form.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::File;
use std::io::{BufRead as _, BufReader, ErrorKind};
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context as _;
use jiff::Timestamp;
use tranche::api::ImageRef;
use tranche::simulate::{Observation, What};

/// The devices' story so far.
pub struct Testimony {
    path: PathBuf,
    reader: Option<BufReader<File>>,
    /// A line that was not whole yet.
    partial: String,
    /// What each device runs; `None` once it ran something and now runs nothing.
    runs: BTreeMap<Arc<str>, Option<Arc<str>>>,
    /// When each device was first offered each image.
    offered: HashMap<Arc<str>, BTreeMap<Arc<str>, Timestamp>>,
    /// The fewest devices that ran each image at once, since [`Testimony::mark`].
    fewest: HashMap<Arc<str>, usize>,
}

impl Testimony {
    pub fn new(path: PathBuf) -> Self {
        Self {
            path,
            reader: None,
            partial: String::new(),
            runs: BTreeMap::new(),
            offered: HashMap::new(),
            fewest: HashMap::new(),
        }
    }

    /// Hears what was said since the last time.
    pub fn listen(&mut self) -> anyhow::Result<()> {
        if self.reader.is_none() {
            match File::open(&self.path) {
                Ok(file) => self.reader = Some(BufReader::new(file)),
                Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
                Err(error) => return Err(error).context("cannot read the devices' observations"),
            }
        }
        let Some(mut reader) = self.reader.take() else { return Ok(()) };
        while reader.read_line(&mut self.partial).context("cannot read the devices' observations")? > 0 {
            if self.partial.ends_with('\n') {
                let line = std::mem::take(&mut self.partial);
                self.hear(serde_json::from_str(&line).context("an observation is not as expected")?);
            }
        }
        self.reader = Some(reader);
        Ok(())
    }

    fn hear(&mut self, Observation { time, device, event, image }: Observation) {
        // However the server spells it.
        let image = image.parse::<ImageRef>().map_or(image, |image| image.to_string().into());
        match event {
            What::Offered => {
                self.offered.entry(image).or_default().entry(device).or_insert(time);
            }
            What::Running => {
                self.runs.insert(device, Some(image));
            }
            What::Removed => {
                let before = self.runs.insert(device, None);
                // The count of the image that it ran goes down by one, and only that can be a new low.
                let left = self.running(&image);
                if before.flatten().as_ref() == Some(&image)
                    && let Some(fewest) = self.fewest.get_mut(&image)
                {
                    *fewest = left.min(*fewest);
                }
            }
        }
    }

    /// From now on, remembers the fewest devices that run `image` at once.
    pub fn mark(&mut self, image: &str) {
        self.fewest = HashMap::from([(image.into(), self.running(image))]);
    }

    pub fn fewest(&self, image: &str) -> usize {
        self.fewest.get(image).copied().unwrap_or_default()
    }

    /// Each device that ever ran anything, and what it runs.
    pub fn devices(&self) -> impl Iterator<Item = Option<&str>> {
        self.runs.values().map(Option::as_deref)
    }

    pub fn running(&self, image: &str) -> usize {
        self.devices().filter(|runs| *runs == Some(image)).count()
    }

    /// The devices that were ever offered `image`.
    pub fn offered(&self, image: &str) -> BTreeSet<Arc<str>> {
        self.offered.get(image).map(|devices| devices.keys().cloned().collect()).unwrap_or_default()
    }

    /// How many devices had been offered `image` before `time`.
    pub fn offered_before(&self, image: &str, time: Timestamp) -> usize {
        self.offered.get(image).map_or(0, |devices| devices.values().filter(|at| **at < time).count())
    }

    /// How many of `devices` run `image`.
    pub fn running_of(&self, devices: &BTreeSet<Arc<str>>, image: &str) -> usize {
        let runs = |device: &Arc<str>| self.runs.get(device).and_then(Option::as_deref) == Some(image);
        devices.iter().filter(|device| runs(device)).count()
    }
}
