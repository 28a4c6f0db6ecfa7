//! What can happen in a state, and what comes of it.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::{Mutex, RwLock};
use stateright::{Model, Property};
use tranche::api::ImageRollout;
use tranche::api::rollout::DesiredState;
use tranche::gateway::etag::{self, ImagePart};
use tranche::gateway::record::Record;
use tranche::gateway::rollouts::Rollouts;
use tranche::gateway::shared::Interner;

use crate::build::WEB;
use crate::mutants::Mutant;
use crate::never::{self, Scene, promise};
use crate::objects::{self, DeviceFacts, Image, RolloutFacts};
use crate::planning::{Answer, Catalogue, ToRollout, View};
use crate::rest;
use crate::scenario::Scenario;
use crate::state::{
    Agent, CONTROLLERS, Cache, Controller, DEVICES, Nuisance, Objects, ROLLOUTS, State, device_bit, rollout_bit,
};

/// One step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// A controller makes a plan; parts of what it looks at may be old.
    Plan {
        controller: usize,
        rollout: usize,
        stale: Stale,
        throttled: bool,
    },
    /// A controller makes a write of its plan; the answer may be lost.
    Write {
        controller: usize,
        write: u8,
        lost: bool,
    },
    /// A controller dies and comes back with nothing in its hands.
    Crash {
        controller: usize,
    },
    /// A device asks and is told.
    Poll {
        device: usize,
        stale: Stale,
    },
    /// The gateway's watch catches up.
    GatewaySees,
    /// A device runs what it was told, or fails to.
    Run {
        device: usize,
        ok: bool,
    },
    /// What a device runs is stored.
    Report {
        device: usize,
    },
    Leave {
        device: usize,
    },
    Return {
        device: usize,
    },
    /// A person edits a rollout.
    Edit {
        rollout: usize,
        edit: Edit,
    },
    /// A person holds a device, or lets it go.
    Hold {
        device: usize,
    },
    /// A person declares another image.
    Declare {
        device: usize,
    },
    Push,
    Redeliver,
    /// Time passes, enough for any deadline, soak or absence.
    Tick,
}

/// Which parts of a view are old.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stale {
    Nothing,
    Rollouts,
    Devices,
    Both,
}

/// What a person writes into a rollout's spec.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Edit {
    Pause,
    Resume,
    Cancel,
    RollBack,
    Acknowledge,
    Approve,
}

/// The model: a scenario, the planner with its memory, perhaps a bug.
pub struct Fleet {
    pub scenario: Scenario,
    pub catalogue: Catalogue,
    pub mutant: Option<Mutant>,
    offers: RwLock<HashMap<(u16, [u16; ROLLOUTS], Image), Image>>,
    edits: RwLock<HashMap<(u16, Edit), u16>>,
    pub settled: Mutex<std::collections::HashSet<u64>>,
}

impl Fleet {
    pub fn new(scenario: Scenario, mutant: Option<Mutant>) -> Self {
        Self {
            catalogue: Catalogue::new(scenario.policy(), mutant),
            scenario,
            mutant,
            offers: RwLock::default(),
            edits: RwLock::default(),
            settled: Mutex::default(),
        }
    }

    pub fn rollout(&self, id: u16) -> Option<Arc<RolloutFacts>> {
        (id != 0).then(|| self.catalogue.rollouts.get(id))
    }

    pub fn device(&self, id: u16) -> Option<Arc<DeviceFacts>> {
        (id != 0).then(|| self.catalogue.devices.get(id))
    }

    /// Indexes of the devices that there are.
    pub fn devices(&self) -> std::ops::Range<usize> {
        0..self.scenario.devices
    }

    /// What the planner says of a rollout as it is stored now.
    pub fn answer(&self, state: &State, rollout: usize) -> Answer {
        self.answer_to(state, rollout, state.stored)
    }

    fn answer_to(&self, state: &State, rollout: usize, objects: Objects) -> Answer {
        let away = std::array::from_fn(|device| state.agents[device].away);
        self.catalogue.answer(View { rollout, objects, tick: state.tick, away })
    }

    /// What the real gateway tells a device, given what it has seen.
    pub fn offer(&self, device: u16, rollouts: [u16; ROLLOUTS], held: Image) -> Image {
        let key = (device, rollouts, held);
        if let Some(image) = self.offers.read().get(&key) {
            return *image;
        }
        let facts = self.catalogue.devices.get(device);
        let known = Rollouts::default();
        for rollout in rollouts.iter().filter_map(|id| self.rollout(*id)) {
            let mut object = rollout.object.clone();
            if self.mutant == Some(Mutant::GateIgnoresStatus) {
                object.status = None;
                object.spec.paused = false;
            }
            known.apply(&object);
        }
        let record = Record::project(&facts.object, None, &Interner::default(), &known);
        let entry = facts.entry.as_ref().filter(|entry| entry.applies);
        // The tag of the state that it holds, as far as the gate reads it: one part for the image.
        let tag = etag::etag("", "", "", [ImagePart::of(WEB, Some(&held.reference()))]);
        let choice = record.choose(record.offers(true), etag::asked([&tag]).next());
        let apps = record.apps_told(choice);
        let told = Image::ALL.into_iter().find(|image| apps.contains(&format!("acme/web:{}", image.tag())));
        let mut told = told.expect("an image of the model");
        if let (Some(Mutant::GateIgnored), Some(entry)) = (self.mutant, entry) {
            told = entry.image;
        }
        self.offers.write().insert(key, told);
        told
    }

    fn edited(&self, rollout: u16, edit: Edit) -> Option<u16> {
        if let Some(id) = self.edits.read().get(&(rollout, edit)) {
            return (*id != rollout).then_some(*id);
        }
        let facts = self.catalogue.rollouts.get(rollout);
        let mut object: ImageRollout = facts.object.clone();
        let spec = &mut object.spec;
        match edit {
            Edit::Pause => spec.paused = true,
            Edit::Resume => spec.paused = false,
            Edit::Cancel if spec.desired_state == DesiredState::Active => spec.desired_state = DesiredState::Cancelled,
            Edit::Cancel => {}
            Edit::RollBack => spec.desired_state = DesiredState::RolledBack,
            Edit::Acknowledge => {
                let failures = facts.status.halted.as_ref().map_or(0, |halted| halted.failures);
                spec.acknowledged_failures = spec.acknowledged_failures.max(failures);
            }
            Edit::Approve => spec.approved_batches = spec.approved_batches.map(|_| 2),
        }
        let id = if object == facts.object {
            rollout
        } else {
            *object.metadata.generation.get_or_insert(1) += 1;
            self.catalogue.rollout_id(object)
        };
        self.edits.write().insert((rollout, edit), id);
        (id != rollout).then_some(id)
    }

    /// What a controller or the gateway looks at.
    fn seen(&self, state: &State, cache: &Cache, stale: Stale) -> Objects {
        match stale {
            Stale::Nothing => state.stored,
            Stale::Rollouts => Objects { rollouts: cache.seen.rollouts, ..state.stored },
            Stale::Devices => Objects { devices: cache.seen.devices, ..state.stored },
            Stale::Both => cache.seen,
        }
    }

    fn scene<'a>(&self, state: &'a State, devices: &'a [Option<Arc<DeviceFacts>>; DEVICES]) -> Scene<'a> {
        Scene { terms: self.scenario.terms(), tick: state.tick, devices, agents: &state.agents }
    }

    fn all_devices(&self, state: &State) -> [Option<Arc<DeviceFacts>>; DEVICES] {
        std::array::from_fn(|device| self.device(state.stored.devices[device]))
    }

    // === what can happen ===

    fn controller_steps(&self, state: &State, steps: &mut Vec<Step>) {
        for (controller, at) in state.controllers.iter().enumerate() {
            if controller > 0 && state.controllers[controller - 1] == *at {
                // The two are alike; what one of them does is all there is.
                continue;
            }
            if at.plan == 0 {
                self.plan_steps(state, controller, at, steps);
                continue;
            }
            let next = self.catalogue.next_writes(at.left);
            for write in (0..8).filter(|write| next >> write & 1 == 1) {
                steps.push(Step::Write { controller, write, lost: false });
                if state.left(Nuisance::LostAnswer) {
                    steps.push(Step::Write { controller, write, lost: true });
                }
            }
            if state.left(Nuisance::Crash) {
                steps.push(Step::Crash { controller });
            }
        }
    }

    fn plan_steps(&self, state: &State, controller: usize, at: &Controller, steps: &mut Vec<Step>) {
        for rollout in (0..ROLLOUTS).filter(|rollout| state.stored.rollouts[*rollout] != 0) {
            let mut offer = |stale: Stale, objects: Objects| {
                if objects.rollouts[rollout] == 0 {
                    return;
                }
                let answer = self.answer_to(state, rollout, objects);
                if answer.plan == 0 {
                    return;
                }
                steps.push(Step::Plan { controller, rollout, stale, throttled: false });
                let planned = self.catalogue.plans.get(answer.plan);
                if planned.figures && !planned.actions.is_empty() && state.left(Nuisance::Throttle) {
                    steps.push(Step::Plan { controller, rollout, stale, throttled: true });
                }
            };
            offer(Stale::Nothing, state.stored);
            if state.left(Nuisance::StalePlan) {
                for stale in [Stale::Rollouts, Stale::Devices, Stale::Both] {
                    let objects = self.seen(state, &at.cache, stale);
                    if at.cache != Cache::default() && objects != state.stored {
                        offer(stale, objects);
                    }
                }
            }
        }
    }

    fn device_steps(&self, state: &State, steps: &mut Vec<Step>) {
        for device in self.devices() {
            let agent = &state.agents[device];
            let id = state.stored.devices[device];
            if agent.told != agent.runs {
                steps.push(Step::Run { device, ok: true });
                if state.left(Nuisance::Failure) {
                    steps.push(Step::Run { device, ok: false });
                }
            }
            if agent.away != 0 {
                steps.push(Step::Return { device });
                continue;
            }
            if self.offer(id, state.stored.rollouts, agent.told) != agent.told {
                steps.push(Step::Poll { device, stale: Stale::Nothing });
            }
            if state.left(Nuisance::StalePoll) && state.gateway != Cache::default() {
                for stale in [Stale::Rollouts, Stale::Devices, Stale::Both] {
                    let seen = self.seen(state, &state.gateway, stale);
                    if seen != state.stored && self.offer(seen.devices[device], seen.rollouts, agent.told) != agent.told
                    {
                        steps.push(Step::Poll { device, stale });
                    }
                }
            }
            if self.catalogue.devices.get(id).reported != Some((agent.runs, agent.ok)) {
                steps.push(Step::Report { device });
            }
            if state.left(Nuisance::Absence) {
                steps.push(Step::Leave { device });
            }
            if state.left(Nuisance::Hold) {
                steps.push(Step::Hold { device });
            }
            if state.left(Nuisance::Declare) {
                steps.push(Step::Declare { device });
            }
        }
    }

    fn person_steps(&self, state: &State, steps: &mut Vec<Step>) {
        let edits = [
            (Edit::Pause, Some(Nuisance::Pause)),
            (Edit::Resume, None),
            (Edit::Cancel, Some(Nuisance::Cancel)),
            (Edit::RollBack, Some(Nuisance::RollBack)),
            (Edit::Acknowledge, Some(Nuisance::Acknowledge)),
            (Edit::Approve, Some(Nuisance::Approve)),
        ];
        for rollout in (0..ROLLOUTS).filter(|rollout| state.stored.rollouts[*rollout] != 0) {
            for (edit, nuisance) in edits {
                let may = nuisance.is_none_or(|nuisance| state.left(nuisance));
                if may && self.edited(state.stored.rollouts[rollout], edit).is_some() {
                    steps.push(Step::Edit { rollout, edit });
                }
            }
        }
        if state.left(Nuisance::Push) && state.stored.rollouts[1] == 0 {
            steps.push(Step::Push);
        }
        if state.left(Nuisance::Redelivery) && state.stored.rollouts[1] == 0 {
            steps.push(Step::Redeliver);
        }
        if state.tick < self.scenario.ticks {
            steps.push(Step::Tick);
        }
    }

    /// What happens without anybody's doing, one step at a time, in an order in which everybody gets a turn.
    pub fn fair_step(&self, state: &State) -> Option<Step> {
        let mut steps = Vec::new();
        let calm = State { left: [0; crate::state::NUISANCES], ..*state };
        self.controller_steps(&calm, &mut steps);
        self.device_steps(&calm, &mut steps);
        steps.retain(|step| !matches!(step, Step::Return { .. }));
        let waits = || self.rollouts(state).any(|rollout| self.answer(state, rollout).due);
        steps.first().copied().or_else(|| (state.tick < self.scenario.ticks && waits()).then_some(Step::Tick))
    }

    pub fn rollouts(&self, state: &State) -> impl Iterator<Item = usize> {
        let rollouts = state.stored.rollouts;
        (0..ROLLOUTS).filter(move |rollout| rollouts[*rollout] != 0)
    }

    // === what comes of it ===

    pub fn take(&self, before: &State, step: Step) -> State {
        let mut state = *before;
        match step {
            Step::Plan { controller, rollout, stale, throttled } => {
                self.plan(&mut state, controller, rollout, stale, throttled);
            }
            Step::Write { controller, write, lost } => self.write(&mut state, controller, write, lost),
            Step::Crash { controller } => {
                state.spend(Nuisance::Crash);
                let cache = Cache { seen: state.stored, fresh: u8::MAX };
                state.controllers[controller] = Controller { cache, ..Controller::default() };
            }
            Step::Poll { device, stale } => self.poll(&mut state, device, stale),
            Step::GatewaySees => state.gateway = Cache { seen: state.stored, fresh: u8::MAX },
            Step::Run { device, ok } => {
                if !ok {
                    state.spend(Nuisance::Failure);
                }
                let agent = &mut state.agents[device];
                agent.runs = agent.told;
                agent.ok = ok;
            }
            Step::Report { device } => {
                let Agent { runs, ok, .. } = state.agents[device];
                if ok {
                    state.agents[device].known |= runs.bit();
                }
                self.change_device(&mut state, device, |object| objects::report(object, runs, ok));
            }
            Step::Leave { device } => {
                state.spend(Nuisance::Absence);
                state.agents[device].away = state.tick + 1;
                state.agents[device].excused = true;
            }
            Step::Return { device } => state.agents[device].away = 0,
            Step::Edit { rollout, edit } => self.edit(&mut state, rollout, edit),
            Step::Hold { device } => {
                state.spend(Nuisance::Hold);
                state.agents[device].excused = true;
                self.change_device(&mut state, device, |object| {
                    object.spec.hold = !object.spec.hold;
                    *object.metadata.generation.get_or_insert(1) += 1;
                });
            }
            Step::Declare { device } => {
                state.spend(Nuisance::Declare);
                state.agents[device].excused = true;
                self.change_device(&mut state, device, |object| objects::declare(object, Image::V9));
            }
            Step::Push => {
                state.spend(Nuisance::Push);
                state.stored.rollouts[1] = self.catalogue.rollout_id(objects::rollout(Image::V3, state.tick, None));
                state.touch(rollout_bit(1));
            }
            Step::Redeliver => {
                state.spend(Nuisance::Redelivery);
                self.redeliver(&mut state);
            }
            Step::Tick => state.tick += 1,
        }
        state.tidy(|controller| match controller.plan {
            0 => (0, 0),
            plan => self.catalogue.needs(plan, controller.left, controller.fresh),
        });
        state
    }

    fn plan(&self, state: &mut State, controller: usize, rollout: usize, stale: Stale, throttled: bool) {
        if stale != Stale::Nothing {
            state.spend(Nuisance::StalePlan);
        }
        let cache = state.controllers[controller].cache;
        let objects = self.seen(state, &cache, stale);
        let plan = self.answer_to(state, rollout, objects).plan;
        let mut left = self.catalogue.writes(plan);
        if throttled {
            state.spend(Nuisance::Throttle);
            left &= !1;
        }
        let rollouts = (0..ROLLOUTS).fold(0, |bits, rollout| bits | rollout_bit(rollout));
        let fresh = match stale {
            Stale::Nothing => u8::MAX,
            Stale::Rollouts => cache.fresh | !rollouts,
            Stale::Devices => cache.fresh | rollouts,
            Stale::Both => cache.fresh,
        };
        let cache = Cache { seen: objects, fresh };
        state.controllers[controller] = Controller { plan, left, fresh, cache };
    }

    fn write(&self, state: &mut State, controller: usize, write: u8, lost: bool) {
        let Controller { plan, .. } = state.controllers[controller];
        let planned = self.catalogue.plans.get(plan);
        if lost {
            state.spend(Nuisance::LostAnswer);
        }
        state.controllers[controller].left &= !(1 << write);
        let devices = self.all_devices(state);
        let (bit, broken);
        if write == 0 {
            let rollout = planned.rollout;
            let id = state.stored.rollouts[rollout];
            let after = self.catalogue.after(plan, 0, id);
            let facts = (self.catalogue.rollouts.get(id), self.catalogue.rollouts.get(after));
            broken = never::status_written(&self.scene(state, &devices), &facts.0, &facts.1);
            state.stored.rollouts[rollout] = after;
            bit = rollout_bit(rollout);
            if lost && !matches!(planned.change, ToRollout::None) {
                // Taken for a failure: the pass ends there.
                state.controllers[controller].left = 0;
            }
            if matches!(planned.change, ToRollout::Finalizer) {
                state.controllers[controller].left = 0;
            }
        } else {
            let device = planned.actions[usize::from(write) - 1].0;
            let id = state.stored.devices[device];
            let after = self.catalogue.after(plan, write, id);
            let (old, new) = (self.catalogue.devices.get(id), self.catalogue.devices.get(after));
            let rollout = new.entry.as_ref().and_then(|entry| self.rollout_named(state, &entry.rollout));
            let scene = self.scene(state, &devices);
            broken = never::device_written(&scene, rollout.as_deref(), &old, &new, &state.agents[device]);
            state.stored.devices[device] = after;
            bit = device_bit(device);
        }
        state.touch(bit);
        if !lost {
            // A controller takes what it wrote into its own cache.
            let cache = &mut state.controllers[controller].cache;
            cache.fresh |= bit;
            cache.seen = with(cache.seen, bit, state.stored);
        }
        state.broken = broken;
    }

    fn rollout_named(&self, state: &State, name: &str) -> Option<Arc<RolloutFacts>> {
        state.stored.rollouts.iter().filter_map(|id| self.rollout(*id)).find(|rollout| rollout.name == name)
    }

    fn poll(&self, state: &mut State, device: usize, stale: Stale) {
        if stale != Stale::Nothing {
            state.spend(Nuisance::StalePoll);
        }
        let seen = self.seen(state, &state.gateway, stale);
        let held = state.agents[device].told;
        let told = self.offer(seen.devices[device], seen.rollouts, held);
        let facts = self.catalogue.devices.get(seen.devices[device]);
        let named = |ids: [u16; ROLLOUTS]| {
            let entry = facts.entry.as_ref()?;
            ids.iter().filter_map(|id| self.rollout(*id)).find(|rollout| rollout.name == entry.rollout)
        };
        let (by_gateway, stored) = (named(seen.rollouts), named(state.stored.rollouts));
        state.broken = never::told(self.scenario.terms(), &facts, by_gateway.as_deref(), stored.as_deref(), held, told);
        state.agents[device].told = told;
        if stale == Stale::Nothing {
            state.gateway = Cache { seen: state.stored, fresh: u8::MAX };
        }
    }

    fn change_device(&self, state: &mut State, device: usize, change: impl FnOnce(&mut tranche::api::Device)) {
        let mut object = self.catalogue.devices.get(state.stored.devices[device]).object.clone();
        change(&mut object);
        state.stored.devices[device] = self.catalogue.device_id(object);
        state.touch(device_bit(device));
    }

    fn edit(&self, state: &mut State, rollout: usize, edit: Edit) {
        match edit {
            Edit::Pause => state.spend(Nuisance::Pause),
            Edit::Resume => {}
            Edit::Cancel => state.spend(Nuisance::Cancel),
            Edit::RollBack => state.spend(Nuisance::RollBack),
            Edit::Acknowledge => state.spend(Nuisance::Acknowledge),
            Edit::Approve => state.spend(Nuisance::Approve),
        }
        if let Some(id) = self.edited(state.stored.rollouts[rollout], edit) {
            state.stored.rollouts[rollout] = id;
            state.touch(rollout_bit(rollout));
        }
    }

    /// The same push again. Its rollout is there already, by name, so that nothing is made.
    fn redeliver(&self, state: &mut State) {
        let delivery = (self.mutant == Some(Mutant::NameByDelivery)).then_some(2);
        let again = objects::rollout(Image::V2, state.tick, delivery);
        let name = again.metadata.name.clone().unwrap_or_default();
        if self.rollout_named(state, &name).is_some() {
            return;
        }
        if state.stored.rollouts.iter().filter_map(|id| self.rollout(*id)).any(|rollout| rollout.image == Image::V2) {
            state.broken |= promise::PUSH;
        }
        state.stored.rollouts[1] = self.catalogue.rollout_id(again);
        state.touch(rollout_bit(1));
    }
}

/// `objects` with one of them as it is in `stored`.
fn with(mut objects: Objects, bit: u8, stored: Objects) -> Objects {
    for rollout in 0..ROLLOUTS {
        if rollout_bit(rollout) == bit {
            objects.rollouts[rollout] = stored.rollouts[rollout];
        }
    }
    for device in 0..DEVICES {
        if device_bit(device) == bit {
            objects.devices[device] = stored.devices[device];
        }
    }
    objects
}

impl Model for Fleet {
    type State = State;
    type Action = Step;

    fn init_states(&self) -> Vec<State> {
        let mut stored = Objects::default();
        let mut agents = [Agent::default(); DEVICES];
        let mut first = objects::rollout(Image::V2, 0, None);
        first.spec.approved_batches = self.scenario.approval.then_some(1);
        stored.rollouts[0] = self.catalogue.rollout_id(first);
        for device in self.devices() {
            stored.devices[device] = self.catalogue.device_id(objects::device(device));
            agents[device] = Agent { ok: true, known: Image::V1.bit(), ..Agent::default() };
        }
        let cache = Cache { seen: stored, fresh: u8::MAX };
        let controllers = [Controller { cache, ..Controller::default() }; CONTROLLERS];
        let left = self.scenario.left();
        let mut state = State { stored, agents, controllers, gateway: cache, tick: 0, left, broken: 0 };
        state.tidy(|_| (0, 0));
        vec![state]
    }

    fn actions(&self, state: &State, steps: &mut Vec<Step>) {
        if state.broken != 0 {
            return;
        }
        self.controller_steps(state, steps);
        self.device_steps(state, steps);
        self.person_steps(state, steps);
        if state.left(Nuisance::StalePoll) && state.gateway.seen != state.stored {
            steps.push(Step::GatewaySees);
        }
    }

    fn next_state(&self, state: &State, step: Step) -> Option<State> {
        let next = self.take(state, step);
        (next != *state).then_some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("1 offers only what is allowed", |_, s: &State| s.broken & promise::OFFER == 0),
            Property::always("2 within the limit", |_, s: &State| s.broken & promise::LIMIT == 0),
            Property::always("3 batch by batch", |_, s: &State| s.broken & promise::ORDER == 0),
            Property::always("4 stop is stop", |_, s: &State| s.broken & promise::STOP == 0),
            Property::always("5 one push, one rollout", |_, s: &State| s.broken & promise::PUSH == 0),
            Property::always("6 back to its own previous", |_, s: &State| s.broken & promise::BACK == 0),
            Property::always("7 nobody's word overwritten", |_, s: &State| s.broken & promise::FOREIGN == 0),
            Property::always("8 no idle write", |_, s: &State| s.broken & promise::IDLE == 0),
            Property::always("8 comes to rest", |fleet, s| rest::comes_to_rest(fleet, s) != rest::Rest::Never),
            Property::always("10 the end is the end", |_, s: &State| s.broken & promise::END == 0),
            Property::always("unknown is no verdict", |_, s: &State| s.broken & promise::VERDICT == 0),
            Property::always("every status has a reason", |_, s: &State| s.broken & promise::REASON == 0),
            Property::always("rests for a named reason", |fleet, s| {
                rest::comes_to_rest(fleet, s) != rest::Rest::WithoutReason
            }),
            Property::always("rolled back is back", |fleet, s| rest::comes_to_rest(fleet, s) != rest::Rest::NotBack),
            Property::sometimes("an image reaches every device", rest::everybody_runs),
            Property::sometimes("a rollout goes back as a whole", rest::rolled_back),
        ]
    }
}
