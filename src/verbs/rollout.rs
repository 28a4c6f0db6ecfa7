//! Verbs on a rollout that is there.

use serde_json::{Value, json};

use super::{Candidate, Decision, Effect, Person, Verb, patch};
use crate::api::ImageRollout;
use crate::api::policy::StrategyType;
use crate::api::rollout::{BatchStatus, DesiredState, ImageRolloutStatus, Phase, Totals};
use crate::plan::approval;

/// Most devices that can be named in a rollout; the bound of the CRD.
const MAX_DEVICES: usize = 1000;

/// A verb that doesn't fit where the rollout stands.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct Conflict {
    /// Where it stands.
    pub phase: Phase,
    /// Why the verb doesn't fit, and what does.
    pub text: String,
}

/// What `verb` comes to for `rollout`.
///
/// # Errors
/// When it doesn't fit where the rollout stands.
pub fn decide(rollout: &ImageRollout, verb: &Verb, person: &Person) -> Result<Decision, Conflict> {
    let view = View::of(rollout);
    let step = match verb {
        Verb::Pause => view.pause(),
        Verb::Resume => view.resume(),
        Verb::Approve { batch } => view.approve(*batch),
        Verb::Cancel => view.cancel(),
        Verb::RollBack => view.roll_back(),
        Verb::RollBackDevice { device } => view.roll_back_device(device),
    }?;
    Ok(match step {
        Step::Already(text) => Decision::Already { text },
        Step::Change(spec, effect) => {
            Decision::Change { patch: patch(rollout, &spec, &person.act(verb.event(), rollout)), effect }
        }
    })
}

enum Step {
    Change(Value, Effect),
    Already(String),
}

type Decided = Result<Step, Conflict>;

struct View<'a> {
    rollout: &'a ImageRollout,
    name: &'a str,
    status: Option<&'a ImageRolloutStatus>,
    phase: Phase,
    totals: Option<&'a Totals>,
}

impl<'a> View<'a> {
    fn of(rollout: &'a ImageRollout) -> Self {
        let status = rollout.status.as_ref();
        Self {
            rollout,
            name: rollout.metadata.name.as_deref().unwrap_or_default(),
            status,
            phase: status.map(|status| status.phase).unwrap_or_default(),
            totals: status.and_then(|status| status.totals.as_ref()),
        }
    }

    fn conflict<T>(&self, text: String) -> Result<T, Conflict> {
        Err(Conflict { phase: self.phase, text })
    }

    /// Refuses what only makes sense while the rollout may still go forward.
    fn going(&self, verb: &str) -> Result<(), Conflict> {
        let Self { name, phase, .. } = *self;
        match self.rollout.spec.desired_state {
            DesiredState::RolledBack => {
                return self.conflict(format!("rollout {name} goes back ({phase}): there is nothing to {verb}"));
            }
            DesiredState::Cancelled => {
                return self.conflict(format!("rollout {name} is cancelled ({phase}): there is nothing to {verb}"));
            }
            DesiredState::Active => {}
        }
        if phase == Phase::RollingBack {
            return self.conflict(format!("rollout {name} goes back ({phase}): there is nothing to {verb}"));
        }
        if phase.is_terminal() {
            return self.conflict(format!("rollout {name} has ended ({phase}): there is nothing to {verb}"));
        }
        Ok(())
    }

    /// Devices that could still move forward.
    fn ahead(&self) -> Option<i32> {
        self.totals.map(|totals| (totals.devices - totals.updated - totals.rolled_back).max(0))
    }

    fn running(&self) -> Option<i32> {
        self.totals.map(|totals| totals.updated)
    }

    fn pause(&self) -> Decided {
        self.going("pause")?;
        if self.rollout.spec.paused {
            return Ok(Step::Already(format!("rollout {} is paused already", self.name)));
        }
        let text = match (self.ahead(), self.running()) {
            (Some(ahead), Some(running)) => {
                format!("{}; {} it", wait(ahead), keep(running))
            }
            _ => "no device moves forward until it is resumed".into(),
        };
        Ok(Step::Change(json!({ "paused": true }), Effect { devices: self.ahead(), text }))
    }

    fn resume(&self) -> Decided {
        self.going("resume")?;
        let halted = self.status.and_then(|status| status.halted.as_ref());
        let spec = &self.rollout.spec;
        // Told already, and the controller has not seen it yet.
        let halted = halted.filter(|halted| halted.failures > spec.acknowledged_failures);
        let (change, cause) = match (spec.paused, halted) {
            (false, None) => {
                return Ok(Step::Already(format!(
                    "rollout {} is neither paused nor halted ({})",
                    self.name, self.phase
                )));
            }
            (true, None) => (json!({ "paused": false }), String::new()),
            (paused, Some(halted)) => {
                let mut change = json!({ "acknowledgedFailures": halted.failures });
                if paused {
                    change["paused"] = json!(false);
                }
                (change, format!("; {} failures are acknowledged", halted.failures))
            }
        };
        let text = match self.ahead() {
            Some(ahead) => format!("{ahead} devices that don't run it yet may go on{cause}"),
            None => format!("it goes on{cause}"),
        };
        Ok(Step::Change(change, Effect { devices: self.ahead(), text }))
    }

    fn approve(&self, batch: Option<usize>) -> Decided {
        self.going("approve")?;
        let (name, batches) = (self.name, self.batches());
        let open = self.status.map_or(0, |status| usize::try_from(status.current_batch).unwrap_or_default());
        let deserted = self.deserted(open);
        // After the last batch comes the end, which somebody has to want while nothing is proven.
        let last = batches.len() + usize::from(deserted && open == batches.len());
        let started = !batches.is_empty();
        let wanted = batch.unwrap_or(open + 1);
        if wanted == 0 || (started && batch.is_some_and(|batch| batch > last)) {
            return self.conflict(format!("rollout {name} has batches 1 to {}", batches.len()));
        }
        if started && wanted > last {
            return Ok(Step::Already(format!("every batch of rollout {name} is open already")));
        }
        if wanted <= open {
            return Ok(Step::Already(format!("batch {wanted} of rollout {name} is open already")));
        }
        if !deserted && (open + 1..=wanted).all(|number| self.may_open(number)) {
            return Ok(Step::Already(format!("batch {wanted} of rollout {name} is approved already")));
        }
        let inside = batches.get(open..wanted.min(batches.len())).unwrap_or_default();
        let devices = started.then(|| inside.iter().map(|batch| batch.devices).sum());
        let mut text = match (inside.last(), devices) {
            (Some(batch), Some(devices)) => format!("batch {wanted} ({}) may open: {devices} devices", batch.size),
            (None, Some(_)) => format!("it may end, though nobody of batch {open} is there"),
            _ => format!("batch {wanted} may open"),
        };
        if deserted && !inside.is_empty() {
            text += &format!(", though nobody of batch {open} is there");
        }
        // The number is a cap. Whoever lets one batch through must know that the next ones wait for them from now on.
        if (wanted + 1..=batches.len()).any(|number| self.may_open(number) && !self.would_open(wanted, number)) {
            text += "; each one after it waits for approval, too";
        }
        Ok(Step::Change(json!({ "approvedBatches": wanted }), Effect { devices, text }))
    }

    fn batches(&self) -> &'a [BatchStatus] {
        self.status.map(|status| status.batches.as_slice()).unwrap_or_default()
    }

    /// Whether the open batch can't pass because nobody of it is there, and nobody has said to go on without them.
    fn deserted(&self, open: usize) -> bool {
        let batch = open.checked_sub(1).and_then(|index| self.batches().get(index));
        batch.is_some_and(approval::nobody_is_there)
            && !approval::goes_on_without(self.rollout.spec.approved_batches, open)
    }

    fn may_open(&self, number: usize) -> bool {
        approval::may_open(self.rollout.spec.approved_batches, self.strategy(), self.batches(), number)
    }

    fn would_open(&self, approved: usize, number: usize) -> bool {
        approval::may_open(i32::try_from(approved).ok(), self.strategy(), self.batches(), number)
    }

    /// That of the rollout once it has started. Before, what its policy asks for isn't known here.
    fn strategy(&self) -> StrategyType {
        self.status.and_then(|status| status.plan.as_ref()).map(|plan| plan.strategy).unwrap_or_default()
    }

    fn cancel(&self) -> Decided {
        if self.rollout.spec.desired_state == DesiredState::Cancelled {
            return Ok(Step::Already(format!("rollout {} is cancelled already", self.name)));
        }
        self.going("cancel")?;
        let text = match (self.ahead(), self.running()) {
            (Some(ahead), Some(running)) => format!("{ahead} devices never get it; {} it", keep(running)),
            _ => "it ends before it started".into(),
        };
        Ok(Step::Change(json!({ "desiredState": "Cancelled" }), Effect { devices: self.ahead(), text }))
    }

    fn roll_back(&self) -> Decided {
        if self.rollout.spec.desired_state == DesiredState::RolledBack
            || matches!(self.phase, Phase::RollingBack | Phase::RolledBack)
        {
            return Ok(Step::Already(format!("rollout {} goes back already ({})", self.name, self.phase)));
        }
        self.was_started("roll back")?;
        let devices = self.totals.map(|totals| (totals.released - totals.rolled_back).max(0));
        let text = match devices {
            Some(devices) => format!("{devices} devices go back, each to its own previous image"),
            None => "nothing was released: it ends".into(),
        };
        Ok(Step::Change(json!({ "desiredState": "RolledBack" }), Effect { devices, text }))
    }

    fn roll_back_device(&self, candidate: &Candidate) -> Decided {
        let (spec, device) = (&self.rollout.spec, &candidate.name);
        if spec.roll_back_devices.contains(device) {
            return Ok(Step::Already(format!("device {device} goes back already")));
        }
        if let Some(why) = candidate.is_not_of(self.rollout) {
            return self.conflict(why);
        }
        if spec.desired_state == DesiredState::RolledBack
            || matches!(self.phase, Phase::RollingBack | Phase::RolledBack)
        {
            return Ok(Step::Already(format!("every device of rollout {} goes back ({})", self.name, self.phase)));
        }
        self.was_started("roll back")?;
        if spec.roll_back_devices.len() >= MAX_DEVICES {
            return self.conflict(format!(
                "rollout {} sends {MAX_DEVICES} single devices back, and no more can be named: roll all of it back",
                self.name
            ));
        }
        let mut devices = spec.roll_back_devices.clone();
        devices.push(device.clone());
        let text = format!("device {device} goes back to its own previous image");
        Ok(Step::Change(json!({ "rollBackDevices": devices }), Effect { devices: Some(1), text }))
    }

    /// Refuses what makes no sense for a rollout that ended without having told anybody anything.
    fn was_started(&self, verb: &str) -> Result<(), Conflict> {
        let has_plan = self.status.is_some_and(|status| status.plan.is_some());
        if self.phase.is_terminal() && !has_plan {
            return self.conflict(format!(
                "rollout {} ended before anything was released ({}): there is nothing to {verb}",
                self.name, self.phase
            ));
        }
        Ok(())
    }
}

fn keep(running: i32) -> String {
    if running == 1 { "1 device that runs it keeps".into() } else { format!("{running} devices that run it keep") }
}

fn wait(ahead: i32) -> String {
    if ahead == 1 { "1 device waits".into() } else { format!("{ahead} devices wait") }
}
