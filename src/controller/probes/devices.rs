//! What is known of a rollout's devices, and when each is looked at next.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use super::{About, Key, Target, key};
use crate::plan::proof::{Look, look};
use crate::plan::{Observed, Plan, Subject};
use crate::probe::batch::Finished;
use crate::probe::template::{Values, address};
use crate::probe::{self, Added, Check, Engine, Job, Kind, Network, Outcome};

/// What couldn't be looked at is looked at again after so long.
pub(super) const RETRY: Duration = Duration::from_secs(30);
/// A healthy device of a batch that soaks, too; or after the check's own interval, if that is longer.
const RECHECK: Duration = Duration::from_secs(60);

/// A device that a pass wants to know of.
#[derive(Clone, Debug)]
pub(super) struct WantedDevice {
    look: Look,
    name: Arc<str>,
    display_name: Option<Arc<str>>,
    release: i64,
    batch: u8,
    address: Option<IpAddr>,
}

/// The devices that a pass wants to know of.
pub(super) fn wanted(observed: &Observed<'_>, subject: &Subject, plan: &Plan) -> Vec<WantedDevice> {
    if subject.rules.probes.is_empty() {
        return Vec::new();
    }
    observed
        .members
        .iter()
        .filter_map(|member| {
            let look = look(member, &subject.rules, &plan.status);
            (look != Look::No).then(|| WantedDevice {
                look,
                name: member.view.name.as_str().into(),
                display_name: member.view.display_name.as_deref().map(Into::into),
                release: member.since,
                batch: member.batch,
                address: member.view.address.as_deref().and_then(address),
            })
        })
        .collect()
}

/// A rollout's devices that are looked at, by name.
#[derive(Debug, Default)]
pub(super) struct Devices(HashMap<Arc<str>, Device>);

/// One of them.
#[derive(Debug)]
pub(super) struct Device {
    release: i64,
    pub(super) batch: u8,
    address: Option<IpAddr>,
    /// In the order of the rollout's checks of devices.
    found: Vec<Found>,
}

#[derive(Debug, Default)]
struct Found {
    /// Whether the engine has it.
    waits: bool,
    last: Option<Finished>,
    /// It had passed, and nothing came back from it since. Whether that is its fault is for [`super::weigh`] to say.
    silent: Option<Finished>,
}

impl Found {
    fn keep(&mut self, finished: Finished) {
        let passed = self.last.as_ref().is_some_and(|last| last.outcome == Outcome::Passed);
        match &finished.outcome {
            // That it can't be seen now doesn't take back what was seen.
            Outcome::Unknown { .. } if passed => {}
            Outcome::Failed { .. } if passed && finished.outcome.is_silence() => {
                self.silent.get_or_insert(finished);
            }
            Outcome::Passed | Outcome::Failed { .. } | Outcome::Unknown { .. } => {
                (self.last, self.silent) = (Some(finished), None);
            }
        }
    }
}

impl Device {
    fn new(wanted: &WantedDevice, checks: usize) -> Self {
        let found = (0..checks).map(|_| Found::default()).collect();
        Self { release: wanted.release, batch: wanted.batch, address: wanted.address, found }
    }

    /// The release that it is looked at for, Unix seconds.
    pub(super) fn release(&self) -> i64 {
        self.release
    }

    /// What one check found last; and that it found nothing since, if so.
    pub(super) fn last(&self, check: usize) -> (Option<&Finished>, Option<&Finished>) {
        self.found.get(check).map_or((None, None), |found| (found.last.as_ref(), found.silent.as_ref()))
    }

    fn stop(&self, name: &Arc<str>, engine: &Engine<Key, Network>, uid: &Arc<str>) {
        let about = About::Device { name: Arc::clone(name), release: self.release };
        for (check, _) in self.found.iter().enumerate().filter(|(_, found)| found.waits) {
            engine.remove(&key(uid, &about, check));
        }
    }
}

impl Devices {
    pub(super) fn iter(&self) -> impl ExactSizeIterator<Item = (&Arc<str>, &Device)> {
        self.0.iter()
    }

    /// Keeps a result. Whether it was waited for.
    pub(super) fn found(&mut self, name: &str, release: i64, check: usize, outcome: Outcome, at: Duration) -> bool {
        let device = self.0.get_mut(name).filter(|device| device.release == release);
        let Some(found) = device.and_then(|device| device.found.get_mut(check)) else { return false };
        found.waits = false;
        found.keep(Finished { outcome, at });
        true
    }

    /// Looks at these and at no others.
    pub(super) fn want(&mut self, target: &Target<'_>, wanted: Vec<WantedDevice>) {
        let names: HashSet<&str> = wanted.iter().map(|wanted| &*wanted.name).collect();
        self.0.retain(|name, device| {
            let stays = names.contains(&**name);
            if !stays {
                device.stop(name, target.engine, &target.uid);
            }
            stays
        });
        for wanted in wanted {
            let checks = target.checks.devices.len();
            let device = self.0.entry(Arc::clone(&wanted.name)).or_insert_with(|| Device::new(&wanted, checks));
            let differs = device.release != wanted.release || device.address != wanted.address;
            if differs || device.found.len() != checks {
                device.stop(&wanted.name, target.engine, &target.uid);
                *device = Device::new(&wanted, checks);
            }
            device.batch = wanted.batch;
            device.look(target, &wanted);
        }
    }

    /// Looks at none any more.
    pub(super) fn stop(&self, engine: &Engine<Key, Network>, uid: &Arc<str>) {
        self.0.iter().for_each(|(name, device)| device.stop(name, engine, uid));
    }
}

impl Device {
    /// Gives the engine what it doesn't have.
    fn look(&mut self, target: &Target<'_>, wanted: &WantedDevice) {
        let about = About::Device { name: Arc::clone(&wanted.name), release: wanted.release };
        let values = || Values {
            device_ip: wanted.address,
            device_name: wanted.display_name.clone().unwrap_or_else(|| Arc::clone(&wanted.name)),
            device_uuid: Arc::clone(&wanted.name),
            namespace: Arc::clone(&target.namespace),
            image: Arc::clone(&target.image),
            tag: Arc::clone(&target.tag),
        };
        for (index, (found, check)) in self.found.iter_mut().zip(&target.checks.devices).enumerate() {
            let Ok(check) = check else { continue };
            let Some(delay) = next_look(found, wanted.look, check) else { continue };
            // The Job of a look that had a result says nothing new.
            let since = if found.last.is_none() { wanted.release } else { target.now.as_second() };
            let subject = probe::Subject::Device { values: values(), since };
            let job = Job { check: Arc::clone(check), subject, rollout: Arc::clone(&target.rollout) };
            found.waits = match target.engine.add_after(target.key(&about, index), Arc::new(job), delay) {
                Added::New | Added::Known => true,
                Added::Full => false,
            };
        }
    }
}

/// When a check is to look next, if it isn't waiting to.
fn next_look(found: &Found, look: Look, check: &Check) -> Option<Duration> {
    if found.waits || look == Look::Keep {
        return None;
    }
    // A Job is a pod: one for each device is what was asked for, and not one a minute.
    let again = look == Look::Again && !matches!(check.kind, Kind::Job(_));
    match found.last.as_ref().map(|last| &last.outcome) {
        None => Some(check.schedule.initial_delay()),
        // A failure, as long as it isn't believed: all fell silent at once.
        Some(Outcome::Unknown { .. } | Outcome::Failed { .. }) => Some(RETRY.max(check.schedule.interval())),
        Some(Outcome::Passed) => again.then(|| RECHECK.max(check.schedule.interval())),
    }
}
