//! Health checks as the controller runs them: which devices are looked at, and what was found.
//!
//! A pass says which devices it wants to know of ([`Probes::want`]); whoever is not wanted any more is forgotten. What was
//! found goes into the next pass ([`Probes::proofs`]), which a result brings about as a change of a device does. Nothing is
//! stored: which devices have a verdict is read from the rollout's status, so after a restart those without one are looked
//! at again and no others.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use ipnet::IpNet;
use kube::{Api, ResourceExt as _};
use parking_lot::Mutex;
use tokio::time::{Instant, timeout};

use super::context::Context;
use super::devices::Mark;
use crate::api::ImageRollout;
use crate::api::check::{HealthCheck, SecretKeyRef};
use crate::oci::AddressRules;
use crate::plan::proof::{DeviceFinding, Finding, Look, Proofs, look};
use crate::plan::{Observed, Subject};
use crate::probe::batch::{Finished, settle};
use crate::probe::policy::{Secrets, secrets_of};
use crate::probe::template::{Values, address};
use crate::probe::{self, Added, Check, Engine, Guard, Job, Names, Network, Outcome, Report, Settings};
use crate::shutdown::Shutdown;

/// A device that couldn't be looked at is looked at again after so long.
const RETRY: Duration = Duration::from_secs(30);
/// A healthy device of a batch that soaks, too; or after the check's own interval, if that is longer.
const RECHECK: Duration = Duration::from_secs(60);
/// Secrets are read anew after so long: they are rotated.
const READ_AGAIN: Duration = Duration::from_secs(300);
/// Reading one Secret.
const SECRET_TIMEOUT: Duration = Duration::from_secs(5);

/// One check of one device since one release.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Key {
    rollout: Arc<str>,
    device: Arc<str>,
    release: i64,
    check: u8,
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

/// A rollout whose devices are looked at.
#[derive(Debug)]
struct Rollout {
    mark: Mark,
    checks: Arc<Checks>,
    devices: HashMap<Arc<str>, Device>,
}

/// A rollout's checks of devices, ready to run.
#[derive(Debug)]
struct Checks {
    read: Instant,
    /// Each, or why it can't be run: a Secret that isn't there.
    all: Vec<Result<Arc<Check>, String>>,
}

#[derive(Debug)]
struct Device {
    release: i64,
    batch: u8,
    address: Option<IpAddr>,
    /// In the order of [`Checks`].
    found: Vec<Found>,
}

#[derive(Debug, Default)]
struct Found {
    /// Whether the engine has it.
    waits: bool,
    last: Option<Finished>,
}

/// A device that a pass wants to know of.
#[derive(Clone, Debug)]
pub struct Wanted {
    look: Look,
    device: Arc<str>,
    display_name: Option<Arc<str>>,
    release: i64,
    batch: u8,
    address: Option<IpAddr>,
}

/// The devices that a pass wants to know of, as the world is once its status is stored.
#[must_use]
pub fn wanted(observed: &Observed<'_>, plan: &crate::plan::Plan) -> Vec<Wanted> {
    let Ok(subject) = observed.subject else { return Vec::new() };
    if subject.rules.probes.is_empty() {
        return Vec::new();
    }
    observed
        .members
        .iter()
        .filter_map(|member| {
            let look = look(member, &subject.rules, &plan.status);
            (look != Look::No).then(|| Wanted {
                look,
                device: member.view.name.as_str().into(),
                display_name: member.view.display_name.as_deref().map(Into::into),
                release: member.since,
                batch: member.batch,
                address: member.view.address.as_deref().and_then(address),
            })
        })
        .collect()
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
            if let Some(mark) = self.found(report) {
                context.devices.mark(mark);
            }
        }
    }

    /// Keeps a result. Says whose rollouts are to be looked at.
    fn found(&self, report: Report<Key>) -> Option<Mark> {
        let Report { key, outcome, facts: _ } = report;
        let mut rollouts = self.rollouts.lock();
        let rollout = rollouts.get_mut(&*key.rollout)?;
        let device = rollout.devices.get_mut(&key.device).filter(|device| device.release == key.release)?;
        let found = device.found.get_mut(usize::from(key.check))?;
        found.waits = false;
        let passed = matches!(found.last, Some(Finished { outcome: Outcome::Passed, .. }));
        // That it can't be seen now doesn't take back what was seen.
        if !(passed && matches!(outcome, Outcome::Unknown { .. })) {
            found.last = Some(Finished { outcome, at: self.begun.elapsed() });
        }
        Some(rollout.mark.clone())
    }

    /// What was found of a rollout's devices.
    #[must_use]
    pub fn proofs(&self, uid: &str) -> Proofs {
        let rollouts = self.rollouts.lock();
        let Some(rollout) = rollouts.get(uid) else { return Proofs::default() };
        let weighed = weigh(rollout);
        let devices = rollout.devices.iter().zip(weighed).map(|((name, device), outcomes)| {
            let finding = finding(&rollout.checks, &outcomes);
            (name.to_string(), DeviceFinding { release: device.release, finding })
        });
        Proofs { devices: devices.collect(), ..Proofs::default() }
    }

    /// Looks at these devices of a rollout, and at no others of it.
    pub async fn want(
        &self,
        context: &Context,
        rollout: &ImageRollout,
        subject: Option<&Subject>,
        wanted: Vec<Wanted>,
    ) {
        let Some(uid) = rollout.uid() else { return };
        let (Some(subject), false) = (subject, wanted.is_empty()) else { return self.forget(&uid) };
        let Some(engine) = self.engine.get() else { return };
        let checks = self.checks(context, rollout, &uid).await;
        let namespace: Arc<str> = rollout.namespace().unwrap_or_default().into();
        let mark = (namespace.to_string(), subject.image.repository.clone());
        let target = Target {
            uid: uid.as_str().into(),
            rollout: Arc::new(probe::Rollout { name: rollout.name_any().into(), uid: uid.as_str().into() }),
            now: context.clock.now().as_second(),
            namespace,
            image: subject.image.to_string().into(),
            tag: rollout.spec.image.tag.clone().unwrap_or_default().into(),
            checks: Arc::clone(&checks),
        };
        let mut rollouts = self.rollouts.lock();
        let state = rollouts.entry(Arc::clone(&target.uid)).or_insert_with(|| Rollout {
            mark,
            checks: Arc::clone(&checks),
            devices: HashMap::new(),
        });
        state.checks = checks;
        let names: HashSet<&str> = wanted.iter().map(|wanted| &*wanted.device).collect();
        state.devices.retain(|name, device| {
            let stays = names.contains(&**name);
            if !stays {
                target.stop(engine, name, device);
            }
            stays
        });
        for wanted in wanted {
            target.look(engine, &mut state.devices, wanted);
        }
    }

    /// A rollout is gone, or has no devices to look at.
    pub fn forget(&self, uid: &str) {
        let Some(state) = self.rollouts.lock().remove(uid) else { return };
        let Some(engine) = self.engine.get() else { return };
        for (name, device) in &state.devices {
            stop(engine, &uid.into(), name, device);
        }
    }

    /// A rollout's checks, with what their Secrets hold.
    async fn checks(&self, context: &Context, rollout: &ImageRollout, uid: &str) -> Arc<Checks> {
        if let Some(known) = self.rollouts.lock().get(uid)
            && known.checks.read.elapsed() < if known.checks.all.iter().all(Result::is_ok) { READ_AGAIN } else { RETRY }
        {
            return Arc::clone(&known.checks);
        }
        let plan = rollout.status.as_ref().and_then(|status| status.plan.as_ref());
        let specs = plan.map(|plan| plan.health_checks.as_slice()).unwrap_or_default();
        let secrets = secrets(context, &rollout.namespace().unwrap_or_default(), specs).await;
        let all = specs
            .iter()
            .filter(|spec| spec.analysis.is_none())
            .filter_map(|spec| {
                let check = Check::of(spec, &self.allowed, Some(&secrets)).transpose()?;
                Some(check.map(Arc::new).map_err(|error| format!("{}: {}", spec.name, error.sentence())))
            })
            .collect();
        Arc::new(Checks { read: Instant::now(), all })
    }
}

/// What checks name of Secrets, as far as it can be read. What can't be is missing, and the check says so.
async fn secrets(context: &Context, namespace: &str, checks: &[HealthCheck]) -> Secrets {
    let api: Api<k8s_openapi::api::core::v1::Secret> = Api::namespaced(context.client.clone(), namespace);
    let mut found = Secrets::new();
    let mut read: HashMap<String, k8s_openapi::api::core::v1::Secret> = HashMap::new();
    for key in secrets_of(checks) {
        let SecretKeyRef { name, key: entry } = &key;
        if !read.contains_key(name) {
            match timeout(SECRET_TIMEOUT, api.get_opt(name)).await {
                Ok(Ok(Some(secret))) => drop(read.insert(name.clone(), secret)),
                Ok(Ok(None)) => {}
                Ok(Err(error)) => tracing::warn!(secret = name, %error, "a health check's Secret can't be read"),
                Err(_) => tracing::warn!(secret = name, "a health check's Secret was not read in time"),
            }
        }
        if let Some(value) = read.get(name).and_then(|secret| secret.data.as_ref()?.get(entry)) {
            found.insert(key, value.0.clone());
        }
    }
    found
}

/// What looks at the devices of one rollout have in common.
struct Target {
    uid: Arc<str>,
    rollout: Arc<probe::Rollout>,
    /// Unix seconds.
    now: i64,
    namespace: Arc<str>,
    image: Arc<str>,
    tag: Arc<str>,
    checks: Arc<Checks>,
}

impl Target {
    fn look(&self, engine: &Engine<Key, Network>, devices: &mut HashMap<Arc<str>, Device>, wanted: Wanted) {
        let Wanted { look, device: name, display_name, release, batch, address } = wanted;
        let fresh =
            || Device { release, batch, address, found: self.checks.all.iter().map(|_| Found::default()).collect() };
        let device = devices.entry(Arc::clone(&name)).or_insert_with(fresh);
        if device.release != release || device.address != address || device.found.len() != self.checks.all.len() {
            self.stop(engine, &name, device);
            *device = fresh();
        }
        device.batch = batch;
        let mut values = None;
        for (index, (found, check)) in device.found.iter_mut().zip(&self.checks.all).enumerate() {
            let Ok(check) = check else { continue };
            let Some(delay) = next_look(found, look, check) else { continue };
            let values: &Values = values.get_or_insert_with(|| Values {
                device_ip: address,
                device_name: display_name.clone().unwrap_or_else(|| Arc::clone(&name)),
                device_uuid: Arc::clone(&name),
                namespace: Arc::clone(&self.namespace),
                image: Arc::clone(&self.image),
                tag: Arc::clone(&self.tag),
            });
            // The Job of a look that had a result says nothing new.
            let since = if found.last.is_none() { release } else { self.now };
            let subject = probe::Subject::Device { values: values.clone(), since };
            let job = Job { check: Arc::clone(check), subject, rollout: Arc::clone(&self.rollout) };
            let key = key(&self.uid, &name, release, index);
            found.waits = match engine.add_after(key, Arc::new(job), delay) {
                Added::New | Added::Known => true,
                Added::Full => false,
            };
        }
    }

    fn stop(&self, engine: &Engine<Key, Network>, name: &Arc<str>, device: &Device) {
        stop(engine, &self.uid, name, device);
    }
}

fn stop(engine: &Engine<Key, Network>, uid: &Arc<str>, name: &Arc<str>, device: &Device) {
    for (index, found) in device.found.iter().enumerate() {
        if found.waits {
            engine.remove(&key(uid, name, device.release, index));
        }
    }
}

fn key(uid: &Arc<str>, device: &Arc<str>, release: i64, index: usize) -> Key {
    let check = u8::try_from(index).unwrap_or(u8::MAX);
    Key { rollout: Arc::clone(uid), device: Arc::clone(device), release, check }
}

/// When a check is to look next, if it isn't waiting to.
fn next_look(found: &Found, look: Look, check: &Check) -> Option<Duration> {
    if found.waits || look == Look::Keep {
        return None;
    }
    match found.last.as_ref().map(|last| &last.outcome) {
        None => Some(check.schedule.initial_delay()),
        Some(Outcome::Unknown { .. }) => Some(RETRY.max(check.schedule.interval())),
        // As long as it isn't believed: all fell silent at once.
        Some(Outcome::Failed { .. }) => Some(RETRY.max(check.schedule.interval())),
        Some(Outcome::Passed) if look == Look::Again => Some(RECHECK.max(check.schedule.interval())),
        Some(Outcome::Passed) => None,
    }
}

/// The results as they count, device by device in the order of the map: what a whole batch shows may be about us.
fn weigh(rollout: &Rollout) -> Vec<Vec<Option<Outcome>>> {
    let mut weighed: Vec<Vec<Option<Outcome>>> = rollout.devices.values().map(|_| Vec::new()).collect();
    for (index, check) in rollout.checks.all.iter().enumerate() {
        let mut batches: HashMap<u8, Vec<(usize, Option<Finished>)>> = HashMap::new();
        for (at, device) in rollout.devices.values().enumerate() {
            let last = device.found.get(index).and_then(|found| found.last.clone());
            batches.entry(device.batch).or_default().push((at, last));
        }
        let instant = check.as_ref().map(|check| check.schedule.longest()).unwrap_or_default();
        for (_, results) in batches {
            let (places, mut results): (Vec<usize>, Vec<Option<Finished>>) = results.into_iter().unzip();
            settle(&mut results, instant);
            for (at, result) in places.into_iter().zip(results) {
                weighed[at].push(result.map(|finished| finished.outcome));
            }
        }
    }
    weighed
}

/// All checks of a device together: what fails it first, then what is not known, then what is still to come.
fn finding(checks: &Checks, outcomes: &[Option<Outcome>]) -> Finding {
    let mut all = Finding::Passed;
    for (check, outcome) in checks.all.iter().zip(outcomes) {
        let next = match (check, outcome) {
            (Err(why), _) => Finding::Unknown(why.clone()),
            (Ok(_), None) => Finding::Pending,
            (Ok(_), Some(Outcome::Passed)) => Finding::Passed,
            (Ok(check), Some(Outcome::Failed { reason, message })) => {
                return Finding::Failed(format!("{} failed: {message} ({})", check.name, reason.as_str()));
            }
            (Ok(check), Some(Outcome::Unknown { reason, message })) => {
                Finding::Unknown(format!("{}: {message} ({})", check.name, reason.as_str()))
            }
        };
        all = match (all, next) {
            (Finding::Unknown(why), _) => Finding::Unknown(why),
            (Finding::Pending, Finding::Passed) => Finding::Pending,
            (_, next) => next,
        };
    }
    all
}
