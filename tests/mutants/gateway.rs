//! What a device is told, without the server around it. Mutated are `record` and `target`, which apply the gate.

pub mod etag;
pub mod identity;
pub mod record;
pub mod rollouts;
pub mod shared;
pub mod target;
