//! Scenarios: a policy, a fleet, and what may go wrong how often. Each is visited to its last state.

use jiff::SignedDuration;
use serde_json::{Value, json};
use tranche::api::ImageUpdatePolicy;

use crate::never::Terms;
use crate::objects;
use crate::state::{NUISANCES, Nuisance};

/// What is tried together.
#[derive(Clone, Copy, Debug)]
pub struct Scenario {
    pub name: &'static str,
    pub devices: usize,
    /// How many devices the first of the two batches has.
    pub first_batch: usize,
    /// Failures tolerated, percent of a batch.
    pub rate: usize,
    pub max_concurrent: Option<usize>,
    /// `failurePolicy.action`.
    pub action: &'static str,
    /// Only the first batch is approved at first.
    pub approval: bool,
    /// How often time passes.
    pub ticks: u8,
    pub nuisances: &'static [(Nuisance, u8)],
}

/// A fleet of three in two batches, nothing tolerated, nothing goes wrong.
pub const CALM: Scenario = Scenario {
    name: "calm",
    devices: 3,
    first_batch: 1,
    rate: 0,
    max_concurrent: None,
    action: "Pause",
    approval: false,
    ticks: 2,
    nuisances: &[],
};

/// Together more than a million states. What multiplies them is how much is going on at once, so each looks at a few
/// nuisances only; what all have in common is two controllers that may act in any order.
pub const ALL: &[Scenario] = &[
    Scenario { name: "crashes", ticks: 2, nuisances: &[(Nuisance::Crash, 1), (Nuisance::Throttle, 1)], ..CALM },
    Scenario {
        name: "lost answers",
        devices: 2,
        ticks: 2,
        nuisances: &[(Nuisance::Crash, 1), (Nuisance::LostAnswer, 2), (Nuisance::Throttle, 1)],
        ..CALM
    },
    Scenario {
        name: "old views",
        ticks: 1,
        nuisances: &[(Nuisance::StalePlan, 1), (Nuisance::StalePoll, 1), (Nuisance::Failure, 1)],
        ..CALM
    },
    Scenario { name: "a stop", ticks: 1, nuisances: &[(Nuisance::Pause, 1), (Nuisance::Crash, 1)], ..CALM },
    Scenario {
        name: "a stop, and a gateway that is late",
        devices: 2,
        ticks: 1,
        nuisances: &[(Nuisance::Pause, 1), (Nuisance::StalePoll, 1), (Nuisance::Failure, 1)],
        ..CALM
    },
    Scenario { name: "a rollback", first_batch: 2, ticks: 0, nuisances: &[(Nuisance::RollBack, 1)], ..CALM },
    Scenario {
        name: "a rollback, and crashes",
        devices: 2,
        ticks: 1,
        nuisances: &[(Nuisance::RollBack, 1), (Nuisance::Crash, 1), (Nuisance::Failure, 1)],
        ..CALM
    },
    Scenario {
        name: "a cancellation",
        devices: 2,
        ticks: 1,
        nuisances: &[(Nuisance::Cancel, 1), (Nuisance::Crash, 1), (Nuisance::Failure, 1)],
        ..CALM
    },
    Scenario {
        name: "a newer image",
        devices: 2,
        ticks: 1,
        nuisances: &[(Nuisance::Push, 1), (Nuisance::Crash, 1)],
        ..CALM
    },
    Scenario {
        name: "a newer image that fails",
        devices: 2,
        ticks: 1,
        action: "RollBackAll",
        nuisances: &[(Nuisance::Push, 1), (Nuisance::Failure, 1)],
        ..CALM
    },
    Scenario { name: "a push told twice", devices: 2, ticks: 1, nuisances: &[(Nuisance::Redelivery, 1)], ..CALM },
    Scenario {
        name: "failures within the budget and beyond",
        first_batch: 2,
        rate: 50,
        ticks: 1,
        nuisances: &[(Nuisance::Failure, 1)],
        ..CALM
    },
    Scenario {
        name: "failures acknowledged",
        devices: 2,
        ticks: 2,
        nuisances: &[(Nuisance::Failure, 1), (Nuisance::Acknowledge, 1)],
        ..CALM
    },
    Scenario {
        name: "one at a time, somebody away",
        first_batch: 2,
        max_concurrent: Some(1),
        ticks: 1,
        nuisances: &[(Nuisance::Absence, 1)],
        ..CALM
    },
    Scenario {
        name: "held, and declared anew",
        devices: 2,
        ticks: 1,
        nuisances: &[(Nuisance::Hold, 2), (Nuisance::Declare, 1)],
        ..CALM
    },
    Scenario {
        name: "approval, four devices",
        devices: 4,
        approval: true,
        first_batch: 2,
        max_concurrent: Some(1),
        ticks: 1,
        nuisances: &[(Nuisance::Approve, 1)],
        ..CALM
    },
];

impl Scenario {
    pub fn policy(&self) -> ImageUpdatePolicy {
        let mut strategy = json!({ "batches": [{ "size": self.first_batch }, { "size": "100%" }] });
        if let Some(limit) = self.max_concurrent {
            strategy["maxConcurrent"] = Value::from(limit);
        }
        objects::policy(&json!({
            "strategy": strategy,
            "failurePolicy": { "maxFailureRate": format!("{}%", self.rate), "action": self.action },
        }))
    }

    pub fn terms(&self) -> Terms {
        Terms {
            rate: self.rate,
            max_concurrent: self.max_concurrent,
            soak: SignedDuration::from_mins(5),
            rolls_back_failed: true,
        }
    }

    pub fn left(&self) -> [u8; NUISANCES] {
        let mut left = [0; NUISANCES];
        for (nuisance, times) in self.nuisances {
            left[*nuisance as usize] = *times;
        }
        left
    }
}
