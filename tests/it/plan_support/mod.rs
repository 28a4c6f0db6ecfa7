//! A world in memory for planner tests: objects, devices that poll, a gate, a clock; and a loop that runs them.
//!
//! Nothing here sleeps, reads a clock or draws a random number that is not seeded. The only product code in the loop is
//! the planner (through `Snapshot`, the same way the controller comes to a plan); everything it is judged by is
//! written a second time in `invariants`.
#![allow(dead_code, reason = "a kit for tests to come as well as for those that are here")]

pub mod agent;
pub mod build;
pub mod gate;
pub mod golden;
pub mod sim;
pub mod world;
