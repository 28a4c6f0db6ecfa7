//! Health checks as the controller runs them: what is looked at, and what was found.
//!
//! A pass says which devices (and which batch) it wants to know of ([`Probes::want`]); whoever is not wanted any more is
//! forgotten. What was found goes into the next pass ([`Probes::proofs`]), which a result brings about as a change of a
//! device does. Nothing is stored: which devices have a verdict is read from the rollout's status, so after a restart those
//! without one are looked at again and no others.
//!
//! | file | what it holds |
//! | --- | --- |
//! | `checks.rs` | a rollout's checks, with what their Secrets hold |
//! | `devices.rs` | what is known of devices, and when each is looked at next |
//! | `weigh.rs` | what results come to: for a device, and in the light of its batch |
//! | `batch.rs` | what is known of the batch that soaks |

mod batch;
mod checks;
mod devices;
mod weigh;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, OnceLock};

use ipnet::IpNet;
use parking_lot::Mutex;
use tokio::time::Instant;

use super::context::Context;
use super::devices::Mark;
use crate::api::ImageRollout;
use crate::oci::AddressRules;
use crate::plan::proof::{DeviceFinding, Proofs};
use crate::plan::{Observed, Plan, Subject};
use crate::probe::{self, Engine, Guard, Names, Network, Report, Settings};
use crate::shutdown::Shutdown;

use batch::{Soaking, SoakingBatch};
use checks::Checks;
use devices::{Devices, WantedDevice};

/// One check of one device since one release, or of one batch since it was complete.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Key {
    rollout: Arc<str>,
    about: About,
    /// Index among the rollout's checks of that sort.
    check: u8,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum About {
    /// Times in Unix seconds.
    Device {
        name: Arc<str>,
        release: i64,
    },
    Batch {
        number: usize,
        complete: i64,
    },
}

/// The checks that run, and what they found.
#[derive(Debug)]
pub struct Probes {
    network: Network,
    allowed: Vec<IpNet>,
    engine: OnceLock<Engine<Key, Network>>,
    begun: Instant,
    /// By UID.
    rollouts: Mutex<HashMap<Arc<str>, Rollout>>,
}

/// A rollout that is looked at.
#[derive(Debug)]
struct Rollout {
    mark: Mark,
    checks: Arc<Checks>,
    devices: Devices,
    batch: Option<SoakingBatch>,
}

/// What a pass wants to know of.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    devices: Vec<WantedDevice>,
    batch: Option<Soaking>,
}

/// What a pass wants to know of, as the world is once its status is stored.
#[must_use]
pub fn wanted(observed: &Observed<'_>, plan: &Plan) -> Wanted {
    let Ok(subject) = observed.subject else { return Wanted::default() };
    Wanted { devices: devices::wanted(observed, subject, plan), batch: batch::wanted(subject, plan) }
}

/// What looks for one rollout have in common.
struct Target<'a> {
    engine: &'a Engine<Key, Network>,
    uid: Arc<str>,
    rollout: Arc<probe::Rollout>,
    now: jiff::Timestamp,
    namespace: Arc<str>,
    image: Arc<str>,
    tag: Arc<str>,
    checks: Arc<Checks>,
}

impl Target<'_> {
    fn key(&self, about: &About, check: usize) -> Key {
        key(&self.uid, about, check)
    }
}

fn key(uid: &Arc<str>, about: &About, check: usize) -> Key {
    let check = u8::try_from(check).unwrap_or(u8::MAX);
    Key { rollout: Arc::clone(uid), about: about.clone(), check }
}

impl Default for Probes {
    /// Devices' own addresses alone, by the system's names.
    fn default() -> Self {
        let guard = Guard::new(AddressRules::default(), Names::system());
        Self::new(Network { guard, jobs: None }, Vec::new())
    }
}

impl Probes {
    /// Looks over this network; a device's check may reach `allowed` networks beside the device itself.
    #[must_use]
    pub fn new(network: Network, allowed: Vec<IpNet>) -> Self {
        let rollouts = Mutex::default();
        Self { network, allowed, engine: OnceLock::new(), begun: Instant::now(), rollouts }
    }

    /// Runs the checks until `shutdown`, and has rollouts looked at when something was found.
    pub async fn serve(&self, context: &Context, shutdown: Shutdown) {
        let (engine, mut reports) = Engine::start(self.network.clone(), &Settings::default(), shutdown);
        // Set once: a context is run once.
        let _ = self.engine.set(engine);
        while let Some(report) = reports.recv().await {
            context.metrics.probed(report.outcome.label());
            if let Some(mark) = self.found(report, context.clock.now()) {
                context.devices.mark(mark);
            }
        }
    }

    /// Keeps a result. Says whose rollouts are to be looked at.
    fn found(&self, report: Report<Key>, now: jiff::Timestamp) -> Option<Mark> {
        let Report { key: Key { rollout, about, check }, outcome, facts: _ } = report;
        let mut rollouts = self.rollouts.lock();
        let rollout = rollouts.get_mut(&*rollout)?;
        let check = usize::from(check);
        let known = match &about {
            About::Device { name, release } => {
                rollout.devices.found(name, *release, check, outcome, self.begun.elapsed())
            }
            About::Batch { number, complete } => {
                let batch = rollout.batch.as_mut().filter(|batch| batch.is(*number, *complete));
                batch.is_some_and(|batch| batch.found(check, outcome, now))
            }
        };
        known.then(|| rollout.mark.clone())
    }

    /// What was found for a rollout.
    #[must_use]
    pub fn proofs(&self, uid: &str) -> Proofs {
        let rollouts = self.rollouts.lock();
        let Some(Rollout { mark: _, checks, devices, batch }) = rollouts.get(uid) else { return Proofs::default() };
        let weighed = weigh::weigh(devices, &checks.devices);
        let found = devices.iter().zip(weighed).map(|((name, device), outcomes)| {
            let finding = weigh::finding(&checks.devices, &outcomes);
            (name.to_string(), DeviceFinding { release: device.release(), finding })
        });
        let of_batch = batch.iter().map(|batch| (batch.number(), batch.findings(&checks.batches)));
        Proofs { devices: found.collect(), batches: of_batch.collect::<BTreeMap<_, _>>() }
    }

    /// Looks at this of a rollout, and at nothing else of it.
    pub async fn want(&self, context: &Context, rollout: &ImageRollout, subject: Option<&Subject>, wanted: Wanted) {
        let Some(uid) = rollout.metadata.uid.as_deref() else { return };
        let Wanted { devices, batch } = wanted;
        let (Some(subject), false) = (subject, devices.is_empty() && batch.is_none()) else { return self.forget(uid) };
        let Some(engine) = self.engine.get() else { return };
        let checks = self.checks(context, rollout, uid).await;
        let namespace: Arc<str> = rollout.metadata.namespace.as_deref().unwrap_or_default().into();
        let name = rollout.metadata.name.as_deref().unwrap_or_default();
        let target = Target {
            engine,
            uid: uid.into(),
            rollout: Arc::new(probe::Rollout { name: name.into(), uid: uid.into() }),
            now: context.clock.now(),
            image: subject.image.to_string().into(),
            tag: rollout.spec.image.tag.clone().unwrap_or_default().into(),
            checks: Arc::clone(&checks),
            namespace,
        };
        let mark = (target.namespace.to_string(), subject.image.repository.clone());
        let mut rollouts = self.rollouts.lock();
        let state = rollouts.entry(Arc::clone(&target.uid)).or_insert_with(|| Rollout {
            mark,
            checks: Arc::clone(&checks),
            devices: Devices::default(),
            batch: None,
        });
        state.checks = checks;
        state.devices.want(&target, devices);
        batch::want(&mut state.batch, &target, batch);
    }

    /// A rollout is gone, or there is nothing to know of it.
    pub fn forget(&self, uid: &str) {
        let Some((uid, state)) = self.rollouts.lock().remove_entry(uid) else { return };
        let Some(engine) = self.engine.get() else { return };
        state.devices.stop(engine, &uid);
        if let Some(batch) = state.batch {
            batch.stop(engine, &uid);
        }
    }

    /// A rollout's checks: those that are known, unless their Secrets are to be read anew.
    async fn checks(&self, context: &Context, rollout: &ImageRollout, uid: &str) -> Arc<Checks> {
        let known = self.rollouts.lock().get(uid).map(|known| Arc::clone(&known.checks));
        match known.filter(|known| known.is_fresh()) {
            Some(checks) => checks,
            None => Arc::new(Checks::read(&context.client, rollout, &self.allowed).await),
        }
    }
}
