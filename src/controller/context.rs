//! What every pass shares.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use futures::Stream;
use futures::channel::mpsc;
use kube::core::DeserializeGuard;
use kube::runtime::events::{Recorder, Reporter};
use kube::runtime::reflector::{ObjectRef, Store};
use kube::{Client, Resource as _, ResourceExt as _};
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::Instant;

use super::metrics::ControllerMetrics;
use crate::api::{ImageRollout, ImageUpdatePolicy};
use crate::clock::Clock;

use super::backoff::Backoff;
use super::devices::{DeviceIndex, is_older};
use super::poll::Polls;
use super::probes::Probes;
use super::resolve::Answers;
use crate::oci::Registries;
use crate::record;
use crate::resolver::Resolver;

/// Reference to a rollout as the runtime knows it.
pub type RolloutRef = ObjectRef<DeserializeGuard<ImageRollout>>;
/// Reference to a policy as the runtime knows it.
pub type PolicyRef = ObjectRef<DeserializeGuard<ImageUpdatePolicy>>;

/// Rollouts that may wait to be triggered; more are dropped and found by the next flush. Far more than can be active.
const TRIGGER_QUEUE: usize = 4096;
/// Unreadable objects that are remembered. Beyond that all are told once more, which changes nothing on them.
const TOLD: usize = 4096;
/// One status write a second for a rollout whose figures move. Gates are written at once, and what they take is taken
/// from the figures.
pub const STATUS_INTERVAL: Duration = Duration::from_secs(1);
/// Figures are never held back for longer, however quickly gates move.
pub const STATUS_DELAY: Duration = Duration::from_secs(5);

/// The watch caches of rollouts and policies.
type Stores = (Store<DeserializeGuard<ImageRollout>>, Store<DeserializeGuard<ImageUpdatePolicy>>);

/// Held while a rollout that has not started decides whether to.
type Turn = Arc<tokio::sync::Mutex<()>>;

/// What every pass shares.
pub struct Context {
    /// The API server.
    pub client: Client,
    /// The namespace served; `None`: all.
    pub namespace: Option<String>,
    /// The devices.
    pub devices: DeviceIndex,
    /// Pauses after failures of rollouts.
    pub rollout_backoff: Backoff<RolloutRef>,
    /// Pauses after failures of policies.
    pub policy_backoff: Backoff<PolicyRef>,
    /// Publisher of Events.
    pub events: Recorder,
    /// Makes rollouts of what polling finds.
    pub recorder: record::Recorder,
    /// What registries say of the tags of rollouts.
    pub answers: Answers,
    /// Where the polling of policies stands.
    pub polls: Polls,
    /// Health checks of devices.
    pub probes: Probes,
    /// Counters.
    pub metrics: ControllerMetrics,
    /// What the planner is told to be now.
    pub clock: Clock,
    stores: OnceLock<Stores>,
    /// Whether both were listed completely once.
    listed: watch::Sender<bool>,
    /// Rollouts as our own last write left them, until the watch has caught up; and when figures may be written again.
    written: Mutex<HashMap<RolloutRef, (ImageRollout, Instant)>>,
    /// One turn a policy, by namespace and name.
    starting: Mutex<HashMap<(String, String), Turn>>,
    /// Generations of objects, by UID, that were told that they can't be read.
    told: Mutex<HashMap<String, Option<i64>>>,
    trigger: mpsc::Sender<RolloutRef>,
    triggered: Mutex<Option<mpsc::Receiver<RolloutRef>>>,
    policy_trigger: mpsc::Sender<PolicyRef>,
    policies_triggered: Mutex<Option<mpsc::Receiver<PolicyRef>>>,
}

impl Context {
    /// For one process, which goes by that clock, asks these registries and looks at devices so.
    #[must_use]
    pub fn new(
        client: Client,
        namespace: Option<String>,
        metrics: ControllerMetrics,
        clock: Clock,
        registries: Registries,
        probes: Probes,
    ) -> Arc<Self> {
        let (trigger, triggered) = mpsc::channel(TRIGGER_QUEUE);
        let (policy_trigger, policies_triggered) = mpsc::channel(TRIGGER_QUEUE);
        let resolver = Resolver::new(client.clone(), registries);
        let reporter = Reporter { controller: "tranche-controller".into(), instance: std::env::var("HOSTNAME").ok() };
        Arc::new(Self {
            events: Recorder::new(client.clone(), reporter),
            recorder: record::Recorder::new(client.clone(), resolver.clone()),
            answers: Answers::new(resolver),
            polls: Polls::default(),
            probes,
            client,
            namespace,
            devices: DeviceIndex::default(),
            rollout_backoff: Backoff::default(),
            policy_backoff: Backoff::default(),
            metrics,
            clock,
            stores: OnceLock::new(),
            listed: watch::channel(false).0,
            written: Mutex::default(),
            starting: Mutex::default(),
            told: Mutex::default(),
            trigger,
            triggered: Mutex::new(Some(triggered)),
            policy_trigger,
            policies_triggered: Mutex::new(Some(policies_triggered)),
        })
    }

    pub(crate) fn set_stores(
        &self,
        rollouts: Store<DeserializeGuard<ImageRollout>>,
        policies: Store<DeserializeGuard<ImageUpdatePolicy>>,
    ) {
        // Set once, by `run`, before anything reads it.
        let _ = self.stores.set((rollouts, policies));
    }

    /// Waits until rollouts and policies were listed completely once. Each controller's own list is not enough: a
    /// rollout whose policy is merely not listed yet must not be taken for one without.
    pub(crate) async fn stores_ready(&self) {
        // This context holds the sender.
        let _ = self.listed.subscribe().wait_for(|listed| *listed).await;
    }

    /// Has [`Self::stores_ready`] return once it may. To be polled by the task that runs the controllers, and by no
    /// other: a store wakes only one of those that wait for it, whoever asked last, and the controllers wait for theirs.
    pub(crate) async fn tell_when_listed(&self) {
        if let Some((rollouts, policies)) = self.stores.get() {
            // An error means that a store's writer is gone, and with it the controller that would ask.
            let _ = futures::future::join(rollouts.wait_until_ready(), policies.wait_until_ready()).await;
        }
        self.listed.send_replace(true);
    }

    pub(crate) fn take_trigger(&self) -> impl Stream<Item = RolloutRef> + Send + 'static {
        futures::stream::StreamExt::flatten(futures::stream::iter(self.triggered.lock().take()))
    }

    /// Has a rollout looked at soon.
    pub fn trigger(&self, rollout: RolloutRef) {
        // A full queue means that thousands are waiting already; the next flush or resync brings this one again.
        let _ = self.trigger.clone().try_send(rollout);
    }

    pub(crate) fn take_policy_trigger(&self) -> impl Stream<Item = PolicyRef> + Send + 'static {
        futures::stream::StreamExt::flatten(futures::stream::iter(self.policies_triggered.lock().take()))
    }

    /// Has a policy looked at soon.
    pub fn look_at_policy(&self, policy: PolicyRef) {
        // As above; the resync brings it.
        let _ = self.policy_trigger.clone().try_send(policy);
    }

    /// Has all policies looked at soon.
    pub(crate) fn look_at_every_policy(&self) {
        let Some((_, policies)) = self.stores.get() else { return };
        for policy in policies.state() {
            self.look_at_policy(ObjectRef::from_obj(&*policy));
        }
    }

    /// All rollouts of all namespaces that are served.
    pub(crate) fn every_rollout(&self) -> Vec<RolloutRef> {
        let Some((rollouts, _)) = self.stores.get() else { return Vec::new() };
        rollouts.state().iter().map(|rollout| ObjectRef::from_obj(&**rollout)).collect()
    }

    /// The readable policies that poll.
    #[must_use]
    pub fn polling_policies(&self) -> Vec<Arc<DeserializeGuard<ImageUpdatePolicy>>> {
        let Some((_, store)) = self.stores.get() else { return Vec::new() };
        let mut policies = store.state();
        policies.retain(|guard| {
            guard.0.as_ref().is_ok_and(|policy| {
                policy.spec.image.poll_interval.is_some()
                    && !policy.spec.suspend
                    && policy.metadata.deletion_timestamp.is_none()
            })
        });
        policies
    }

    /// Rollouts of a namespace that satisfy a condition.
    pub fn rollouts_where(&self, namespace: Option<&str>, wanted: impl Fn(&ImageRollout) -> bool) -> Vec<RolloutRef> {
        self.rollouts(namespace).iter().filter(|rollout| wanted(rollout)).map(rollout_ref).collect()
    }

    /// Every readable rollout of a namespace, each at least as new as our own last write of it, by name: the store has
    /// them in another order each time, and what is decided must not depend on it.
    #[must_use]
    pub fn rollouts(&self, namespace: Option<&str>) -> Vec<ImageRollout> {
        let Some((store, _)) = self.stores.get() else { return Vec::new() };
        let mut rollouts: Vec<ImageRollout> = store
            .state()
            .into_iter()
            .filter(|guard| guard.namespace().as_deref() == namespace)
            .filter_map(|guard| guard.0.as_ref().ok().cloned())
            .map(|rollout| self.freshest(rollout))
            .collect();
        rollouts.sort_unstable_by(|a, b| a.metadata.name.cmp(&b.metadata.name));
        rollouts
    }

    /// A policy, `None` if there is none, and the parser's words if it can't be read.
    #[must_use]
    pub fn policy(&self, namespace: &str, name: &str) -> Option<Result<ImageUpdatePolicy, String>> {
        let (_, store) = self.stores.get()?;
        let guard = store.get(&ObjectRef::new(name).within(namespace))?;
        Some(match &guard.0 {
            Ok(policy) => Ok(policy.clone()),
            Err(invalid) => Err(invalid.error.clone()),
        })
    }

    /// Every policy of a namespace, readable or not.
    #[must_use]
    pub fn policies(&self, namespace: &str) -> Vec<Arc<DeserializeGuard<ImageUpdatePolicy>>> {
        let Some((_, store)) = self.stores.get() else { return Vec::new() };
        let mut policies = store.state();
        policies.retain(|policy| policy.meta().namespace.as_deref() == Some(namespace));
        policies.sort_unstable_by(|a, b| a.meta().name.cmp(&b.meta().name));
        policies
    }

    /// The rollout, or what our own last write made of it if the watch has not brought that yet.
    #[must_use]
    pub fn freshest(&self, rollout: ImageRollout) -> ImageRollout {
        let key = rollout_ref(&rollout);
        let mut written = self.written.lock();
        match written.get(&key) {
            Some((ours, _))
                if ours.uid() == rollout.uid()
                    && is_older(
                        &rollout.resource_version().unwrap_or_default(),
                        &ours.resource_version().unwrap_or_default(),
                    ) =>
            {
                ours.clone()
            }
            Some((ours, _)) if ours.uid() != rollout.uid() => {
                written.remove(&key);
                rollout
            }
            Some(_) | None => rollout,
        }
    }

    /// Remembers what a write of ours made of a rollout.
    pub fn wrote(&self, rollout: &ImageRollout) {
        let (key, now) = (rollout_ref(rollout), Instant::now());
        let mut written = self.written.lock();
        let due = figures_due(written.get(&key).map(|(_, due)| *due), now);
        written.insert(key, (rollout.clone(), due));
    }

    /// How long until the rollout's figures may be written again.
    #[must_use]
    pub fn until_next_status(&self, rollout: &RolloutRef) -> Option<Duration> {
        let written = self.written.lock();
        let (_, due) = written.get(rollout)?;
        due.checked_duration_since(Instant::now()).filter(|left| !left.is_zero())
    }

    pub(crate) fn is_told(&self, uid: &str, generation: Option<i64>) -> bool {
        self.told.lock().get(uid) == Some(&generation)
    }

    pub(crate) fn told(&self, uid: &str, generation: Option<i64>) {
        let mut told = self.told.lock();
        if told.len() >= TOLD {
            told.clear();
        }
        told.insert(uid.to_owned(), generation);
    }

    /// What rollouts of one policy that have not started hold while they decide whether to. `None` for one that has.
    pub(crate) fn turn_to_start(&self, rollout: &ImageRollout) -> Option<Turn> {
        if rollout.status.as_ref().is_some_and(|status| status.plan.is_some() || status.phase.is_terminal()) {
            return None;
        }
        let key = (rollout.metadata.namespace.clone().unwrap_or_default(), rollout.spec.policy_ref.name.clone());
        let mut starting = self.starting.lock();
        // Those that nobody holds any more.
        starting.retain(|_, turn| Arc::strong_count(turn) > 1);
        Some(Arc::clone(starting.entry(key).or_default()))
    }

    /// Forgets a rollout that is gone.
    pub fn forget(&self, rollout: &RolloutRef) {
        self.written.lock().remove(rollout);
        self.rollout_backoff.succeeded(rollout);
    }
}

/// When figures may be written again after a write at `now`, if they were due at `before`.
fn figures_due(before: Option<Instant>, now: Instant) -> Instant {
    (before.map_or(now, |before| before.max(now)) + STATUS_INTERVAL).min(now + STATUS_DELAY)
}

/// Reference to a rollout.
#[must_use]
pub fn rollout_ref(rollout: &ImageRollout) -> RolloutRef {
    let meta = rollout.meta();
    ObjectRef::new(meta.name.as_deref().unwrap_or_default()).within(meta.namespace.as_deref().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use kube::runtime::{reflector, watcher};

    use super::*;
    use crate::oci::AddressRules;

    /// A store by itself wakes only the one that asked last; all others would wait for ever.
    #[tokio::test]
    async fn everybody_who_waits_for_the_lists_is_woken() {
        let nobody = tower::service_fn(|_: http::Request<kube::client::Body>| async {
            Ok::<_, std::convert::Infallible>(http::Response::new(kube::client::Body::empty()))
        });
        let context = Context::new(
            Client::new(nobody, "default"),
            None,
            ControllerMetrics::default(),
            Clock::default(),
            Registries::new(AddressRules::default(), Clock::default()),
            Probes::default(),
        );
        let (rollouts, mut rollouts_writer) = reflector::store();
        let (policies, mut policies_writer) = reflector::store();
        context.set_stores(rollouts, policies);
        let mut passes = tokio::task::JoinSet::new();
        for _ in 0..5 {
            let context = Arc::clone(&context);
            passes.spawn(async move { context.stores_ready().await });
        }
        let teller = Arc::clone(&context);
        passes.spawn(async move { teller.tell_when_listed().await });
        tokio::task::yield_now().await;
        rollouts_writer.apply_watcher_event(&watcher::Event::Init);
        rollouts_writer.apply_watcher_event(&watcher::Event::InitDone);
        tokio::task::yield_now().await;
        assert!(passes.try_join_next().is_none(), "one list is not both");
        policies_writer.apply_watcher_event(&watcher::Event::Init);
        policies_writer.apply_watcher_event(&watcher::Event::InitDone);
        let all = tokio::time::timeout(Duration::from_secs(30), passes.join_all()).await;
        assert!(all.is_ok(), "somebody waits for ever");
    }

    #[test]
    fn gates_are_taken_from_the_figures() {
        let start = Instant::now();
        let after = |millis| start + Duration::from_millis(millis);
        let first = figures_due(None, start);
        assert_eq!(first, after(1000));
        let gate = figures_due(Some(first), after(300));
        assert_eq!(gate, after(2000), "two writes, two seconds");
        assert_eq!(figures_due(Some(gate), after(9000)), after(10_000), "what was not used is not saved up");
        let many = (0..100).fold(first, |due, _| figures_due(Some(due), after(300)));
        assert_eq!(many, after(300) + STATUS_DELAY);
    }
}
