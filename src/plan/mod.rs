//! The planner: what to do next, from what was observed and the time. No client, clock, randomness or environment.

pub mod services;
