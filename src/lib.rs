//! Tranche (placeholder for the architecture page)
pub mod api;
pub mod cli;
pub mod clock;
pub mod controller;
pub mod gateway;
pub mod kubeclient;
pub mod manage;
pub mod metrics;
pub mod ops;
pub mod plan;
pub mod problem;
pub mod registry;
pub mod server;
pub mod shutdown;
pub mod simulate;
pub mod telemetry;
