//! Tranche (placeholder for the architecture page)
pub mod api;
pub mod clock;
pub mod gateway;
pub mod metrics;
pub mod plan;
pub mod problem;
pub mod server;
