//! What comes of a step.

use std::sync::Arc;

use crate::fleet::Fleet;
use crate::mutants::Mutant;
use crate::never::{self, promise};
use crate::objects::{self, Image, RolloutFacts};
use crate::planning::ToRollout;
use crate::state::{Agent, Cache, Controller, DEVICES, Nuisance, Objects, ROLLOUTS, State, device_bit, rollout_bit};
use crate::steps::{Edit, Stale, Step};

impl Fleet {
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
