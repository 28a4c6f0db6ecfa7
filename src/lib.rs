//! Tranche (placeholder for the architecture page)
pub mod api;
pub mod clock;
pub mod problem;
pub mod registry;
