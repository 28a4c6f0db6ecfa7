//! The loop: planner passes, devices, presence, the clock. In a fixed order, which tells a story that can be compared,
//! or in an order drawn from a seed, with stale plans and crashes between any two writes.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use tranche::api::rollout::{ImageRolloutStatus, Phase};
use tranche::api::{ImageRollout, ImageUpdatePolicy, ROLLOUT_FINALIZER};
use tranche::controller::gather::Snapshot;
use tranche::plan::policy::{Beside, plan_policy};
use tranche::plan::validated::ValidatedPolicy;
use tranche::plan::{Action, Change, FinalizerChange, Plan, StatusWrite};

use super::build;
use super::world::{Refused, World, names};

/// Seconds between two polls of an agent, and so of a step while anything moves.
const TICK: i64 = 10;
/// Seconds between two words of the gateway while nothing moves: less than what counts as silence.
const QUIET: i64 = 50;
/// Long enough for absences to count.
const PATIENCE: i64 = 900;
/// More steps than any story takes.
const MAX_STEPS: usize = 4000;
/// More passes than any state takes until nothing is left to write.
const MAX_PASSES: usize = 40;

/// Small and seeded: splitmix64.
#[derive(Clone, Debug)]
pub struct Rng(pub u64);

impl Rng {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, n: usize) -> usize {
        usize::try_from(self.next() % (n.max(1) as u64)).unwrap()
    }

    /// True in so many of a hundred cases.
    pub fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for index in (1..items.len()).rev() {
            items.swap(index, self.below(index + 1));
        }
    }
}

/// A plan, and the revision of the rollout that it was made of.
pub struct Planned {
    name: String,
    revision: Option<String>,
    plan: Plan,
}

/// A world and its loop.
pub struct Sim {
    pub world: World,
    /// `None`: fixed order.
    pub rng: Option<Rng>,
    due: Option<Timestamp>,
    busy: bool,
    shown: BTreeMap<String, (Phase, String)>,
}

impl Sim {
    pub fn new(rng: Option<Rng>) -> Self {
        Self { world: World::new(), rng, due: None, busy: true, shown: BTreeMap::new() }
    }

    // === what people do ===

    pub fn policy(&mut self, name: &str, spec: &serde_json::Value) {
        let policy = build::policy(name, spec);
        self.world.tell("people", &format!("policy {name}"));
        self.world.policies.insert(name.to_owned(), policy);
        self.busy = true;
    }

    pub fn edit_policy(&mut self, name: &str, edit: impl FnOnce(&mut ImageUpdatePolicy)) {
        let policy = self.world.policies.get_mut(name).expect("the policy");
        edit(policy);
        *policy.metadata.generation.get_or_insert(1) += 1;
        self.busy = true;
    }

    /// `count` devices `d01`… that declare `web: acme/web:v1`.
    pub fn fleet(&mut self, count: usize) {
        for index in 1..=count {
            self.world.add_device(build::device(&format!("d{index:02}"), &[("web", "acme/web:v1")]));
        }
        self.world.tell("people", &format!("{count} devices that declare acme/web:v1"));
    }

    pub fn rollout(&mut self, name: &str, policy: &str, tag: &str, spec: &serde_json::Value) {
        let rollout = build::rollout(name, policy, tag, self.world.now, spec);
        self.world.tell("people", &format!("rollout {name} of {tag} for {policy}"));
        self.world.store_rollout(rollout);
        self.busy = true;
    }

    /// An edit of a rollout, with the words for it.
    pub fn person(
        &mut self,
        what: &str,
        rollout: &str,
        edit: impl FnOnce(&mut tranche::api::rollout::ImageRolloutSpec),
    ) {
        self.world.tell("people", &format!("{rollout}: {what}"));
        self.world.edit_rollout(rollout, edit);
        self.busy = true;
    }

    /// Anything else that happens to the world.
    pub fn happens(&mut self, who: &str, what: &str, change: impl FnOnce(&mut World)) {
        self.world.tell(who, what);
        change(&mut self.world);
        self.busy = true;
    }

    // === the loop ===

    /// Goes on until `reached`.
    pub fn until(&mut self, what: &str, reached: impl Fn(&World) -> bool) {
        for _ in 0..MAX_STEPS {
            if reached(&self.world) {
                return;
            }
            if !self.step() && !self.wait_and_see() {
                break;
            }
        }
        self.settle();
        assert!(reached(&self.world), "never reached: {what}\n{}", self.story());
    }

    /// Goes on for so long.
    pub fn run_for(&mut self, seconds: i64) {
        let until = self.world.now + SignedDuration::from_secs(seconds);
        while self.world.now < until {
            self.busy = true;
            self.step();
        }
        self.settle();
    }

    /// Goes on until nothing happens any more without somebody's doing.
    pub fn finish(&mut self) {
        for _ in 0..MAX_STEPS {
            if !self.step() && !self.wait_and_see() {
                return;
            }
        }
        panic!("it never comes to rest\n{}", self.story());
    }

    /// Nothing is left to wait for but that absences begin to count. Whether that changed anything.
    fn wait_and_see(&mut self) -> bool {
        self.settle();
        self.pass_time(self.world.now + SignedDuration::from_secs(PATIENCE));
        self.busy = self.settle();
        self.busy || self.due.is_some()
    }

    /// One step. False when nothing is left to wait for.
    pub fn step(&mut self) -> bool {
        match self.rng.take() {
            None => self.step_in_order(),
            Some(mut rng) => {
                let goes_on = self.step_at_random(&mut rng);
                self.rng = Some(rng);
                goes_on
            }
        }
    }

    fn step_in_order(&mut self) -> bool {
        let tick = self.world.now + SignedDuration::from_secs(TICK);
        let next = if self.busy { Some(tick) } else { self.due.map(|due| due.max(tick)) };
        let Some(next) = next else { return false };
        self.settle();
        self.pass_time(next);
        let agents: Vec<String> = self.world.agents.keys().cloned().collect();
        agents.iter().for_each(|name| self.world.poll(name));
        self.world.publish();
        let lines = self.world.log.len();
        self.world.tell_devices();
        let moved = self.world.log.len() > lines;
        let wrote = self.settle();
        self.busy = moved || wrote || self.is_pulling();
        true
    }

    /// Nothing moves until then, but gateways go on speaking of who is there.
    fn pass_time(&mut self, until: Timestamp) {
        while self.world.now < until {
            self.world.now = until.min(self.world.now + SignedDuration::from_secs(QUIET));
            if self.world.gateway {
                let now = self.world.now.as_second();
                let online = self.world.agents.iter().filter(|(_, agent)| agent.online).map(|(name, _)| name.clone());
                let seen: Vec<(String, i64)> = online.map(|name| (name, now)).collect();
                self.world.seen.extend(seen);
                self.world.publish();
            }
        }
    }

    fn step_at_random(&mut self, rng: &mut Rng) -> bool {
        if !self.busy {
            let Some(due) = self.due else { return false };
            self.pass_time(due);
        }
        self.world.now += SignedDuration::from_secs(1 + i64::try_from(rng.below(15)).unwrap());
        let mut held_back: Vec<Planned> = Vec::new();
        let mut moves: Vec<Option<String>> = self.world.agents.keys().cloned().map(Some).collect();
        moves.extend((0..=self.world.rollouts.len()).map(|_| None));
        rng.shuffle(&mut moves);
        let lines = self.world.log.len();
        let mut wrote = false;
        for next in moves {
            match next {
                Some(agent) if rng.chance(80) => self.world.poll(&agent),
                Some(_) => {}
                None if rng.chance(60) => self.world.publish(),
                None => {
                    let names: Vec<String> = self.world.rollouts.keys().cloned().collect();
                    if names.is_empty() {
                        continue;
                    }
                    let name = names[rng.below(names.len())].clone();
                    let planned = self.planned(&name);
                    if rng.chance(25) {
                        // Another controller, or a slow one: it acts on what it saw, later.
                        held_back.push(planned);
                    } else {
                        let crash = rng.chance(20).then(|| rng.below(4));
                        wrote |= self.carry_out(planned, crash);
                    }
                }
            }
        }
        for planned in held_back {
            wrote |= self.carry_out(planned, None);
        }
        self.world.tell_devices();
        let moved = self.world.log.len() > lines;
        if rng.chance(30) || !(moved || wrote) {
            // Everybody was heard, so that rest is rest.
            let agents: Vec<String> = self.world.agents.keys().cloned().collect();
            agents.iter().for_each(|name| self.world.poll(name));
            self.world.publish();
            let lines = self.world.log.len();
            self.world.tell_devices();
            wrote |= self.settle() || self.world.log.len() > lines;
        }
        self.busy = moved || wrote || self.is_pulling();
        true
    }

    fn is_pulling(&self) -> bool {
        self.world.agents.values().any(|agent| agent.ready.is_some())
    }

    // === the controller ===

    /// Passes until nothing is left to write; then shows that another pass changes nothing, now and until it wants to
    /// be called again. Whether anything was written.
    pub fn settle(&mut self) -> bool {
        let mut wrote = false;
        for pass in 0.. {
            assert!(pass < MAX_PASSES, "the planner never comes to rest\n{}", self.story());
            let mut news = false;
            for name in self.world.rollouts.keys().cloned().collect::<Vec<_>>() {
                let planned = self.planned(&name);
                news |= self.carry_out(planned, None);
            }
            for name in self.world.policies.keys().cloned().collect::<Vec<_>>() {
                news |= self.policy_pass(&name);
            }
            if !news {
                break;
            }
            wrote = true;
        }
        self.tell_phases();
        self.due = None;
        for name in self.world.rollouts.keys().cloned().collect::<Vec<_>>() {
            let plan = self.plan(&name);
            self.assert_at_rest(&name, &plan, "a second plan");
            let now = self.world.now;
            let until = plan.requeue_at.unwrap_or(now + SignedDuration::from_hours(48));
            let almost = (until - SignedDuration::from_millis(1)).max(now);
            for at in [now + almost.duration_since(now) / 2, almost] {
                let later = self.plan_at(&name, at);
                assert!(
                    later.actions.is_empty() && later.write != StatusWrite::Transition,
                    "{name}: at {at} something changes, but the plan of {now} only wants to be called at {:?}: {:?}\n{}",
                    plan.requeue_at,
                    later.status,
                    self.story()
                );
            }
            self.due = [self.due, plan.requeue_at].into_iter().flatten().min();
        }
        wrote
    }

    fn assert_at_rest(&self, name: &str, plan: &Plan, what: &str) {
        assert!(
            plan.write == StatusWrite::None && plan.actions.is_empty() && plan.finalizer == FinalizerChange::Keep,
            "{name}: {what} is not empty: {plan:?}\n{}",
            self.story()
        );
    }

    fn planned(&self, name: &str) -> Planned {
        let revision = self.world.rollouts[name].metadata.resource_version.clone();
        Planned { name: name.to_owned(), revision, plan: self.plan(name) }
    }

    /// What the planner says now.
    pub fn plan(&self, name: &str) -> Plan {
        self.plan_at(name, self.world.now)
    }

    /// What the planner would say then, if nothing else changed.
    pub fn plan_at(&self, name: &str, now: Timestamp) -> Plan {
        let (plan, ()) = self.snapshot(name).plan(now, |_, _| ());
        assert!(plan.requeue_at.is_none_or(|at| at > now), "{name}: wants to be called at {:?}", plan.requeue_at);
        plan
    }

    /// What the planner looks at.
    pub fn snapshot(&self, name: &str) -> Snapshot {
        let world = &self.world;
        let rollout = world.rollouts[name].clone();
        let policy = world.policies.get(&rollout.spec.policy_ref.name).cloned().map(Ok);
        let all: Vec<ImageRollout> = world.rollouts.values().cloned().collect();
        Snapshot::new(rollout, policy, &all, world.views(), world.presence()).among(world.policies.values())
    }

    /// Status first, then devices. `crash`: only so many of the writes are made. Whether anything was written.
    fn carry_out(&mut self, planned: Planned, crash: Option<usize>) -> bool {
        let mut left = crash.unwrap_or(usize::MAX);
        let Planned { name, revision, plan } = planned;
        let Plan { status, write, finalizer, actions, waiting_on: _, requeue_at: _ } = plan;
        let Some(rollout) = self.world.rollouts.get(&name).cloned() else { return false };
        let is_stale = rollout.metadata.resource_version != revision;
        if is_stale && (write != StatusWrite::None || finalizer != FinalizerChange::Keep) {
            return false;
        }
        match finalizer {
            FinalizerChange::Keep => {}
            FinalizerChange::Add => {
                let mut rollout = rollout;
                rollout.metadata.finalizers = Some(vec![ROLLOUT_FINALIZER.into()]);
                self.world.store_rollout(rollout);
                return true;
            }
            FinalizerChange::Remove => {
                self.world.judge(|watch, world| watch.rollout_gone(world, &rollout));
                self.world.rollouts.remove(&name);
                self.world.tell("controller", &format!("{name}: is gone"));
                return true;
            }
        }
        let mut wrote = false;
        if write != StatusWrite::None {
            if left == 0 {
                return wrote;
            }
            left -= 1;
            self.store_status(rollout, status);
            wrote = true;
        }
        self.tell_actions(&name, &actions);
        for action in actions {
            if left == 0 {
                return wrote;
            }
            left -= 1;
            wrote |= self.act(&action);
        }
        wrote
    }

    #[expect(clippy::needless_pass_by_value, reason = "what is stored is given away")]
    fn store_status(&mut self, mut rollout: ImageRollout, status: ImageRolloutStatus) {
        let name = rollout.metadata.name.clone().unwrap_or_default();
        let before = rollout.clone();
        let old = before.status.clone().unwrap_or_default();
        for line in status.history.iter().filter(|line| !old.history.contains(line)) {
            self.world.tell("controller", &format!("{name}: {}: {}", line.type_, line.message));
        }
        // As the API server would keep it.
        let text = serde_json::to_string(&status).expect("JSON");
        rollout.status = Some(serde_json::from_str(&text).expect("what was written can be read"));
        assert_eq!(rollout.status.as_ref(), Some(&status), "{name}: the status does not survive being stored");
        self.world.store_rollout(rollout);
        let after = self.world.rollouts[&name].clone();
        self.world.judge(|watch, world| watch.status_written(world, &before, &after));
    }

    fn act(&mut self, action: &Action) -> bool {
        let Action { device, uid, resource_version, reason, change } = action;
        let same = self.world.devices.get(device).is_some_and(|device| device.metadata.uid.as_ref() == Some(uid));
        if !same {
            return false;
        }
        let result = match change {
            Change::Images { manager, entries } => self.world.apply_images(device, resource_version, manager, entries),
            Change::Verdicts { updates } => self.world.store_verdicts(device, resource_version, updates),
        };
        if let Err(refused) = &result
            && (self.rng.is_none() || *refused == Refused::Owned)
        {
            self.world.tell("apiserver", &format!("{} of {device} is refused: {refused:?}", reason.as_str()));
        }
        result.is_ok()
    }

    fn tell_actions(&mut self, name: &str, actions: &[Action]) {
        let mut groups: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for action in actions {
            let batch = match &action.change {
                Change::Images { manager: _, entries } => {
                    entries.iter().find(|entry| entry.rollout == name).map(|entry| entry.batch)
                }
                Change::Verdicts { .. } => None,
            };
            let batch = batch.map(|batch| format!(" (batch {batch})")).unwrap_or_default();
            groups.entry(format!("{}{batch}", action.reason.as_str())).or_default().insert(action.device.clone());
        }
        for (what, devices) in groups {
            self.world.tell("controller", &format!("{name}: {what}: {}", names(&devices)));
        }
    }

    fn tell_phases(&mut self) {
        for (name, rollout) in self.world.rollouts.clone() {
            let Some(status) = rollout.status else { continue };
            let now = (status.phase, status.message.clone());
            if self.shown.get(&name) != Some(&now) {
                self.world.tell("status", &format!("{name}: {}: {}", now.0, now.1));
                self.shown.insert(name, now);
            }
        }
    }

    fn policy_pass(&mut self, name: &str) -> bool {
        let policy = self.world.policies[name].clone();
        let of_it = |rollout: &&ImageRollout| rollout.spec.policy_ref.name == name;
        let rollouts: Vec<&ImageRollout> = self.world.rollouts.values().filter(of_it).collect();
        let plan =
            plan_policy(&policy, ValidatedPolicy::new(&policy).as_ref(), &rollouts, &Beside::default(), self.world.now);
        assert_eq!(plan.changed, policy.status.as_ref() != Some(&plan.status), "{name}: {:?}", plan.status);
        let wrote = plan.changed || !plan.prune.is_empty();
        if plan.changed {
            self.world.policies.get_mut(name).expect("the policy").status = Some(plan.status);
        }
        for old in plan.prune {
            self.world.tell("controller", &format!("{name}: prunes {old}"));
            self.world.delete_rollout(&old);
        }
        wrote
    }

    // === what came of it ===

    pub fn status(&self, rollout: &str) -> &ImageRolloutStatus {
        status(&self.world, rollout)
    }

    pub fn phase(&self, rollout: &str) -> Phase {
        self.status(rollout).phase
    }

    /// Everything told so far, for messages of failed tests.
    pub fn story(&self) -> String {
        let seed = self.rng.as_ref().map(|rng| format!("(random order, state {})\n", rng.0)).unwrap_or_default();
        seed + &self.world.log.join("\n")
    }

    /// The time, as people write it.
    pub fn time(&self, seconds: i64) -> Time {
        Time(self.world.now + SignedDuration::from_secs(seconds))
    }
}

/// Status of a rollout; the empty one before the first.
pub fn status<'a>(world: &'a World, rollout: &str) -> &'a ImageRolloutStatus {
    static EMPTY: std::sync::LazyLock<ImageRolloutStatus> = std::sync::LazyLock::new(ImageRolloutStatus::default);
    world.rollouts.get(rollout).and_then(|rollout| rollout.status.as_ref()).unwrap_or(&EMPTY)
}
