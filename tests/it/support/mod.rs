//! What several of the test modules stand on.

pub mod apiserver;
pub mod devices;
pub mod never;
pub mod world;
