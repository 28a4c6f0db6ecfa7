//! What can happen in a state.

use crate::fleet::Fleet;
use crate::state::{Cache, Controller, NUISANCES, Nuisance, Objects, ROLLOUTS, State};

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

impl Fleet {
    pub fn controller_steps(&self, state: &State, steps: &mut Vec<Step>) {
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

    pub fn device_steps(&self, state: &State, steps: &mut Vec<Step>) {
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

    pub fn person_steps(&self, state: &State, steps: &mut Vec<Step>) {
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
        let calm = State { left: [0; NUISANCES], ..*state };
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
}
