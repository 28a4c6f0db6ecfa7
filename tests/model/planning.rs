//! From what a controller sees to the writes it will make: the real planner, asked once per view and remembered.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::RwLock;
use serde_json::json;
use tranche::api::rollout::ImageRolloutStatus;
use tranche::api::{Device, ImageRollout, ImageUpdatePolicy, ROLLOUT_FINALIZER};
use tranche::controller::devices::Known;
use tranche::controller::gather::Snapshot;
use tranche::plan::observed::{DeviceView, Knowledge};
use tranche::plan::{Action, Change, FinalizerChange, Plan, StatusWrite, WaitingOn};

use crate::mutants::Mutant;
use crate::objects::{self, DeviceFacts, Image, RolloutFacts, Table, canonical, key, time};
use crate::state::{DEVICES, Objects, ROLLOUTS, device_bit, rollout_bit};

/// The revision of every object in every view. That a write carries it is what counts; whether it still holds is kept
/// in the state.
const REVISION: &str = "1";

/// What one controller looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct View {
    pub rollout: usize,
    pub objects: Objects,
    pub tick: u8,
    pub away: [u8; DEVICES],
}

/// A plan of which something is to be written.
pub struct Planned {
    pub rollout: usize,
    pub change: ToRollout,
    /// Whether it is figures alone, which may have to wait.
    pub figures: bool,
    /// Whether the write to the rollout carries its revision.
    pub guarded: bool,
    pub actions: Vec<(usize, Action)>,
}

/// The write to the rollout itself.
pub enum ToRollout {
    None,
    Finalizer,
    Status(Box<ImageRolloutStatus>),
}

/// The planner's answer to a view.
#[derive(Clone, Copy, Debug)]
pub struct Answer {
    /// 0: nothing to write.
    pub plan: u16,
    /// What the rollout says it waits for can be waited for: it has ended, or somebody or some time is named.
    pub has_reason: bool,
    /// It wants to be called again.
    pub due: bool,
}

/// The planner with its memory, and the contents of all objects.
pub struct Catalogue {
    pub rollouts: Table<RolloutFacts>,
    pub devices: Table<DeviceFacts>,
    pub plans: Table<Planned>,
    answers: RwLock<HashMap<View, Answer>>,
    written: RwLock<HashMap<(u16, u8, u16), u16>>,
    policy: ImageUpdatePolicy,
    mutant: Option<Mutant>,
}

impl Catalogue {
    pub fn new(policy: ImageUpdatePolicy, mutant: Option<Mutant>) -> Self {
        let policy = match mutant {
            Some(Mutant::BudgetOffByOne) => {
                with(&policy, |spec| spec["failurePolicy"]["maxFailureRate"] = json!("100%"))
            }
            Some(Mutant::NoSoak) => with(&policy, |spec| spec["strategy"]["batchDelay"] = json!("0s")),
            Some(Mutant::NoLimit) => with(&policy, |spec| {
                spec["strategy"].as_object_mut().expect("a strategy").remove("maxConcurrent");
            }),
            Some(_) | None => policy,
        };
        Self {
            rollouts: Table::new(),
            devices: Table::new(),
            plans: Table::new(),
            answers: RwLock::default(),
            written: RwLock::default(),
            policy,
            mutant,
        }
    }

    pub fn rollout_id(&self, rollout: ImageRollout) -> u16 {
        self.rollouts.id(key(&rollout), || RolloutFacts::new(rollout))
    }

    pub fn device_id(&self, device: Device) -> u16 {
        self.devices.id(key(&device), || DeviceFacts::new(device))
    }

    /// How often the real planner was asked.
    pub fn asked(&self) -> usize {
        self.answers.read().len()
    }

    pub fn answer(&self, view: View) -> Answer {
        if let Some(answer) = self.answers.read().get(&view) {
            return *answer;
        }
        let answer = self.ask(&view);
        self.answers.write().insert(view, answer);
        answer
    }

    fn ask(&self, view: &View) -> Answer {
        let facts = self.rollouts.get(view.objects.rollouts[view.rollout]);
        let snapshot = self.snapshot(view, &facts);
        let (mut plan, ()) = snapshot.plan(time(view.tick), |_, _| ());
        if let Some(mutant) = self.mutant {
            mutant.tamper(&mut plan, &facts, view.objects.rollouts.iter().filter(|id| **id != 0).count() > 1);
        }
        assert!(plan.requeue_at.is_none_or(|at| at > time(view.tick)), "wants to be called at {:?}", plan.requeue_at);
        let has_reason = has_reason(&plan);
        let due = plan.requeue_at.is_some();
        Answer { plan: self.planned(view, plan), has_reason, due }
    }

    fn snapshot(&self, view: &View, facts: &RolloutFacts) -> Snapshot {
        let now = time(view.tick);
        let all: Vec<ImageRollout> = view
            .objects
            .rollouts
            .iter()
            .filter(|id| **id != 0)
            .map(|id| self.rollouts.get(*id).object.clone())
            .collect();
        let devices = (0..DEVICES).filter(|index| view.objects.devices[*index] != 0).map(|index| {
            let seen = match view.away[index] {
                0 => now,
                left => time(left - 1),
            };
            Known { view: self.device_view(view.objects.devices[index]), seen: seen.as_second() }
        });
        let knowledge =
            Knowledge { as_of: Some(now), since: Some(time(0) - jiff::SignedDuration::from_hours(1)), interval: 10 };
        let mut rollout = facts.object.clone();
        if self.mutant == Some(Mutant::ReleaseWhilePaused) {
            rollout.spec.paused = false;
        }
        Snapshot::new(rollout, Some(Ok(self.policy.clone())), &all, devices.collect(), knowledge).among([&self.policy])
    }

    fn device_view(&self, id: u16) -> Arc<DeviceView> {
        let facts = self.devices.get(id);
        let mutated = |change: &dyn Fn(&mut Device)| {
            let mut device = facts.object.clone();
            change(&mut device);
            Arc::new(DeviceView::new(&device))
        };
        match (self.mutant, &facts.entry) {
            (Some(Mutant::VersionIsVerdict), Some(entry)) => {
                mutated(&|device| objects::report(device, entry.image, true))
            }
            (Some(Mutant::OverwritesDeclared), _) if facts.declared == Image::V9 => mutated(&|device| {
                objects::declare(device, Image::V1);
            }),
            (Some(_) | None, _) => Arc::clone(&facts.view),
        }
    }

    /// Keeps a plan of which something is to be written.
    fn planned(&self, view: &View, plan: Plan) -> u16 {
        let Plan { status, write, finalizer, actions, waiting_on: _, requeue_at: _ } = plan;
        let change = match (finalizer, write) {
            (FinalizerChange::Add, _) => ToRollout::Finalizer,
            (FinalizerChange::Remove, _) => unreachable!("nobody deletes a rollout here"),
            (FinalizerChange::Keep, StatusWrite::None) => ToRollout::None,
            (FinalizerChange::Keep, StatusWrite::Figures | StatusWrite::Transition) => {
                ToRollout::Status(Box::new(canonical(status)))
            }
        };
        if matches!(change, ToRollout::None) && actions.is_empty() {
            return 0;
        }
        let index_of = |name: &str| {
            let named = |id: &u16| *id != 0 && self.devices.get(*id).name == name;
            view.objects.devices.iter().position(named).expect("a device of the view")
        };
        let actions: Vec<(usize, Action)> =
            actions.into_iter().map(|action| (index_of(&action.device), action)).collect();
        let what = match &change {
            ToRollout::None => String::new(),
            ToRollout::Finalizer => "finalizer".into(),
            ToRollout::Status(status) => key(status),
        };
        let figures = write == StatusWrite::Figures;
        let text = format!("{} {figures} {what} {actions:?}", view.rollout);
        self.plans.id(text, || Planned {
            rollout: view.rollout,
            change,
            figures,
            guarded: self.mutant != Some(Mutant::StatusWithoutRevision),
            actions,
        })
    }

    /// Whether a write to a device carries UID and revision of what was looked at.
    fn is_guarded(&self, action: &Action) -> bool {
        self.mutant != Some(Mutant::DeviceWithoutRevision)
            && action.resource_version == REVISION
            && action.uid == format!("uid-{}", action.device)
    }

    /// For the writes left of a plan: the objects that they carry a precondition on, and the writes among them that
    /// are refused from now on, given the objects that are still as they were.
    pub fn needs(&self, plan: u16, left: u8, fresh: u8) -> (u8, u8) {
        let planned = self.plans.get(plan);
        let (mut needs, mut refused) = (0, 0);
        if left & 1 == 1 && planned.guarded {
            needs |= rollout_bit(planned.rollout);
            if fresh & rollout_bit(planned.rollout) == 0 {
                refused |= 1;
            }
        }
        for (index, (device, action)) in planned.actions.iter().enumerate() {
            let write = 1 << (index + 1);
            if left & write != 0 && self.is_guarded(action) {
                needs |= device_bit(*device);
                if fresh & device_bit(*device) == 0 {
                    refused |= write;
                }
            }
        }
        (needs, refused)
    }

    /// Which writes of a plan may be made next.
    pub fn next_writes(&self, left: u8) -> u8 {
        let status_first = self.mutant != Some(Mutant::DevicesFirst);
        let devices_left = left & !1;
        match (left & 1 == 1, status_first) {
            (true, true) => 1,
            (true, false) if devices_left == 0 => 1,
            (true | false, _) => devices_left,
        }
    }

    /// All writes of a plan.
    pub fn writes(&self, plan: u16) -> u8 {
        let planned = self.plans.get(plan);
        let rollout = u8::from(!matches!(planned.change, ToRollout::None));
        planned.actions.iter().enumerate().fold(rollout, |all, (index, _)| all | 1 << (index + 1))
    }

    /// The content of an object after a write to it.
    pub fn after(&self, plan: u16, write: u8, before: u16) -> u16 {
        let key = (plan, write, before);
        if let Some(after) = self.written.read().get(&key) {
            return *after;
        }
        let planned = self.plans.get(plan);
        let after = if write == 0 {
            let mut rollout = self.rollouts.get(before).object.clone();
            match &planned.change {
                ToRollout::None => {}
                ToRollout::Finalizer => rollout.metadata.finalizers = Some(vec![ROLLOUT_FINALIZER.into()]),
                ToRollout::Status(status) => rollout.status = Some((**status).clone()),
            }
            self.rollout_id(rollout)
        } else {
            let mut device = self.devices.get(before).object.clone();
            match &planned.actions[usize::from(write) - 1].1.change {
                Change::Images { manager: _, entries } => device.spec.images = entries.clone(),
                Change::Verdicts { updates } => device.status.get_or_insert_default().updates = updates.clone(),
            }
            self.device_id(device)
        };
        self.written.write().insert(key, after);
        after
    }
}

fn with(policy: &ImageUpdatePolicy, change: impl FnOnce(&mut serde_json::Value)) -> ImageUpdatePolicy {
    let mut value = serde_json::to_value(policy).expect("JSON");
    change(&mut value["spec"]);
    serde_json::from_value(value).expect("a policy")
}

/// Whether a rollout of which nothing is to be written has ended, or names what can still move it: a time, a person,
/// another rollout.
fn has_reason(plan: &Plan) -> bool {
    if plan.status.message.is_empty() {
        return false;
    }
    let names_somebody = |on: &WaitingOn| {
        matches!(
            on,
            WaitingOn::Paused
                | WaitingOn::Halted { .. }
                | WaitingOn::Approval { .. }
                | WaitingOn::NobodyThere { .. }
                | WaitingOn::OlderRollout { .. }
                | WaitingOn::Queue { .. }
        )
    };
    plan.status.phase.is_terminal()
        || plan.waiting_on.iter().any(names_somebody)
        || (!plan.waiting_on.is_empty() && plan.requeue_at.is_some())
}

/// Sets of objects are bytes.
const _: () = assert!(ROLLOUTS + DEVICES <= 8);
