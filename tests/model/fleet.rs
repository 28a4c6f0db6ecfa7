//! The model: what is remembered between steps, where it begins, and what must hold.

use std::collections::{HashMap, HashSet};
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
use crate::never::{Scene, promise};
use crate::objects::{self, DeviceFacts, Image, RolloutFacts};
use crate::planning::{Answer, Catalogue, View};
use crate::rest;
use crate::scenario::Scenario;
use crate::state::{Agent, CONTROLLERS, Cache, Controller, DEVICES, Nuisance, Objects, ROLLOUTS, State};
use crate::steps::{Edit, Stale, Step};

/// A device's content, what its gateway has seen of rollouts, and the image whose tag it brings.
type Asked = (u16, [u16; ROLLOUTS], Image);

/// The model: a scenario, the planner with its memory, perhaps a bug.
pub struct Fleet {
    pub scenario: Scenario,
    pub catalogue: Catalogue,
    pub mutant: Option<Mutant>,
    offers: RwLock<HashMap<Asked, Image>>,
    edits: RwLock<HashMap<(u16, Edit), u16>>,
    pub settled: Mutex<HashSet<u64>>,
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

    pub fn answer_to(&self, state: &State, rollout: usize, objects: Objects) -> Answer {
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
        let is_back = entry.is_some_and(|entry| entry.previous == held);
        let proves = !(is_back && self.mutant == Some(Mutant::GateBelievesLateReports));
        let choice = record.choose(record.offers(true), etag::asked([&tag]).next().filter(|_| proves));
        let apps = record.apps_told(choice);
        let told = Image::ALL.into_iter().find(|image| apps.contains(&format!("acme/web:{}", image.tag())));
        let mut told = told.expect("an image of the model");
        if let (Some(Mutant::GateIgnored), Some(entry)) = (self.mutant, entry) {
            told = entry.image;
        }
        self.offers.write().insert(key, told);
        told
    }

    pub fn edited(&self, rollout: u16, edit: Edit) -> Option<u16> {
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
    pub fn seen(&self, state: &State, cache: &Cache, stale: Stale) -> Objects {
        match stale {
            Stale::Nothing => state.stored,
            Stale::Rollouts => Objects { rollouts: cache.seen.rollouts, ..state.stored },
            Stale::Devices => Objects { devices: cache.seen.devices, ..state.stored },
            Stale::Both => cache.seen,
        }
    }

    pub fn scene<'a>(&self, state: &'a State, devices: &'a [Option<Arc<DeviceFacts>>; DEVICES]) -> Scene<'a> {
        Scene { terms: self.scenario.terms(), tick: state.tick, devices, agents: &state.agents }
    }

    pub fn all_devices(&self, state: &State) -> [Option<Arc<DeviceFacts>>; DEVICES] {
        std::array::from_fn(|device| self.device(state.stored.devices[device]))
    }
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
