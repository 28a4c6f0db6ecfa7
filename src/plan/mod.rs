//! The planner: `plan(observed, now) -> Plan`, a pure function.
//!
//! No client, clock, randomness or environment. Every pass derives everything again from spec, status and devices, so
//! a crash between any two writes is healed by the next pass.
//!
//! # Status first, then devices
//!
//! A plan holds a status and actions on devices. The status is written first, with the rollout's resourceVersion as
//! precondition, and only if that write went through (or changed nothing) are the actions carried out. So a batch is
//! on record as open before anything in it is released; a rollback shuts the gate for every device at once before the
//! first entry is rewritten; and of two controllers that act at the same time one loses the status write and with
//! it the right to act.
//!
//! # The order of a pass
//!
//! | step | module |
//! | --- | --- |
//! | being deleted: tell devices what they are to run without this rollout | [`deletion`] |
//! | ended, rolled back, cancelled, superseded by a newer one | [`lifecycle`] |
//! | not started: what is missing; else fix the batches | [`lifecycle`], [`resolution`], [`cohort`] |
//! | sums per batch, failure budget (the error gate) | [`progress`], `budget` |
//! | complete, soak, open the next batch (the success gates) | [`advance`] |
//! | release, store verdicts, send back | [`release`], [`rollback`] |
//! | phase, message, conditions, history | [`status`] |
//!
//! What a released device is told at a given moment is the [`gate`]'s to say; the gateway asks it too.
//!
//! A device's place (batch, verdict, reason) is explained to people by [`explain`].

pub mod actions;
pub mod advance;
pub mod approval;
mod budget;
pub mod classify;
pub mod cohort;
mod container;
pub mod deletion;
pub mod explain;
#[cfg(test)]
mod fixture;
pub mod follow;
pub mod gate;
pub mod lifecycle;
pub mod observed;
pub mod policy;
pub mod progress;
pub mod proof;
pub mod release;
pub mod report;
pub mod resolution;
pub mod rivals;
pub mod rollback;
pub mod selector;
pub mod services;
pub mod sibling;
pub mod status;
pub mod stored;
pub mod subject;
pub mod validated;
pub mod window;

use jiff::Timestamp;

pub use actions::{Action, Change, Reason};
pub use observed::{DeviceView, Knowledge, Member, Observed, PolicyState, Sibling};
pub use proof::{Finding, Proof, Proofs};
pub use report::WaitingOn;
pub use resolution::Resolution;
pub use subject::Subject;
pub use validated::ValidatedPolicy;

use crate::api::condition;
use crate::api::rollout::{ImageRolloutStatus, Phase};

/// What one pass over one rollout decided.
#[derive(Debug)]
#[must_use = "a plan that nobody carries out changes nothing"]
pub struct Plan {
    /// The status as it should be; written before any action.
    pub status: ImageRolloutStatus,
    /// How much of it is news.
    pub write: StatusWrite,
    /// What to do with the rollout's finalizer. A change of it is a pass of its own.
    pub finalizer: FinalizerChange,
    /// Writes to devices, at most [`MAX_ACTIONS`]; the next pass goes on.
    pub actions: Vec<Action>,
    /// What it waits for, most telling first. Empty when it is done.
    pub waiting_on: Vec<WaitingOn>,
    /// When to look again, if nothing happens before. Always after the `now` of the pass.
    pub requeue_at: Option<Timestamp>,
}

/// How much of a status is news.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StatusWrite {
    /// Nothing: it must not be written.
    None,
    /// Only figures, texts or history; may wait for a second.
    Figures,
    /// A gate opened or shut: to be written at once.
    Transition,
}

/// What to do with the rollout's finalizer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FinalizerChange {
    /// Nothing.
    Keep,
    /// Add it before anything is released.
    Add,
    /// No device's answer hangs on the rollout any more: let it go.
    Remove,
}

/// Writes to devices in one pass. At some 2 ms of the API server's time each this keeps a pass within seconds, so that
/// a stop that comes in meanwhile is seen soon.
pub const MAX_ACTIONS: usize = 500;

/// Decides what to do about one rollout.
pub fn plan(observed: &Observed<'_>, now: Timestamp) -> Plan {
    let mut pass = Pass::new(observed, now);
    lifecycle::run(&mut pass);
    pass.finish()
}

/// The state of one pass; each step reads what the steps before it decided.
pub(crate) struct Pass<'a> {
    pub(crate) observed: &'a Observed<'a>,
    pub(crate) now: Timestamp,
    pub(crate) old: ImageRolloutStatus,
    pub(crate) status: ImageRolloutStatus,
    pub(crate) finalizer: FinalizerChange,
    pub(crate) actions: Vec<Action>,
    pub(crate) waiting_on: Vec<WaitingOn>,
    pub(crate) requeue_at: Option<Timestamp>,
    pub(crate) conflicts: i32,
    pub(crate) not_back: Option<String>,
    /// The line of history about what a person did, if this pass has one.
    pub(crate) told: Option<&'static str>,
}

impl<'a> Pass<'a> {
    fn new(observed: &'a Observed<'a>, now: Timestamp) -> Self {
        let mut old = observed.rollout.status.clone().unwrap_or_default();
        old.conditions = condition::ours(old.conditions);
        // What it writes must not look older than itself, whatever another controller's clock says.
        let start = old.plan.as_ref().map_or(now, |plan| plan.start_time.0);
        Self {
            observed,
            now: now.max(start),
            status: old.clone(),
            old,
            finalizer: FinalizerChange::Keep,
            actions: Vec::new(),
            waiting_on: Vec::new(),
            requeue_at: None,
            conflicts: 0,
            not_back: None,
            told: None,
        }
    }

    pub(crate) fn name(&self) -> &'a str {
        self.observed.rollout.metadata.name.as_deref().unwrap_or_default()
    }

    pub(crate) fn spec(&self) -> &'a crate::api::rollout::ImageRolloutSpec {
        &self.observed.rollout.spec
    }

    pub(crate) fn wait(&mut self, on: WaitingOn) {
        self.waiting_on.push(on);
    }

    /// Looks again at `at` at the latest.
    pub(crate) fn requeue(&mut self, at: Timestamp) {
        if at > self.now {
            self.requeue_at = Some(self.requeue_at.map_or(at, |before| before.min(at)));
        }
    }

    /// Looks again at `at`, Unix seconds.
    pub(crate) fn requeue_second(&mut self, at: i64) {
        if let Ok(at) = Timestamp::from_second(at) {
            self.requeue(at);
        }
    }

    /// Since when gateways are silent, if they are.
    pub(crate) fn gateway_silence(&self) -> Option<WaitingOn> {
        let knowledge = self.observed.knowledge;
        match knowledge.as_of {
            None => Some(WaitingOn::GatewaySilent { since: None }),
            Some(since) => {
                let silent = self.now.as_second().saturating_sub(since.as_second());
                (silent > knowledge.silent_after()).then_some(WaitingOn::GatewaySilent { since: Some(since) })
            }
        }
    }

    pub(crate) fn enter(&mut self, phase: Phase) {
        self.status.phase = phase;
    }

    fn finish(mut self) -> Plan {
        status::finish(&mut self);
        let write = status::compare(&self.old, &self.status);
        Plan {
            status: self.status,
            write,
            finalizer: self.finalizer,
            actions: self.actions,
            waiting_on: self.waiting_on,
            requeue_at: self.requeue_at,
        }
    }
}
