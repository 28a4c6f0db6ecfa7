//! Tranche (placeholder for the architecture page)
pub mod api;
pub mod cli;
pub mod clock;
pub mod controller;
pub mod kubeclient;
pub mod manage;
pub mod plan;
pub mod problem;
pub mod registry;
pub mod shutdown;
pub mod simulate;
