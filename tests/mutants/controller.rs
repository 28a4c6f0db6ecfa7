//! What gathers objects for the planner; not mutated.

pub mod devices;
pub mod gather;
