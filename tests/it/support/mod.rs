//! What several tests need: a real control plane, the real binary, and a way to wait.

pub mod audit;
pub mod controlplane;
pub mod process;
pub mod wait;
