//! What several tests need: an API server (a real one, or one in the process), the real binary, a real
//! registry, and a way to wait.
#![allow(dead_code, reason = "a kit for tests to come as well as for those that are here")]

pub mod apiserver;
pub mod audit;
pub mod controlplane;
pub mod fake;
pub mod history;
pub mod live;
pub mod page;
pub mod process;
pub mod proxy;
pub mod registry;
pub mod shell;
pub mod wait;
