//! The planner, what stands between it and the objects, and the part of the gateway that applies the gate; with the
//! tests that judge them. Paths are those of the tree that `run` lays out.

#[cfg(test)]
extern crate self as tranche;

pub use tranche_pure::{api, registry};

pub mod controller;
pub mod enrol;
pub mod gateway;
pub mod plan;
pub mod probe;

#[cfg(test)]
#[path = "../tests/it/invariants.rs"]
mod invariants;
#[cfg(test)]
#[path = "../tests/it/plan_properties.rs"]
mod plan_properties;
#[cfg(test)]
#[path = "../tests/it/plan_scenarios/mod.rs"]
mod plan_scenarios;
#[cfg(test)]
#[path = "../tests/it/plan_support/mod.rs"]
mod plan_support;
