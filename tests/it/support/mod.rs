//! What several tests need: an API server (a real one, or one in the process), the real binary, and a way to wait.

pub mod apiserver;
pub mod audit;
pub mod controlplane;
pub mod live;
pub mod process;
pub mod wait;
