//! Pushes, as registries tell of them.
pub mod pattern;
pub mod tags;
