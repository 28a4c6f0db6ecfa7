//! The management REST API of the real binary, on the real control plane, by people of different rights.

mod devices;
mod follow;
mod kit;
mod page;
mod policies;
mod refusals;
mod rights;
mod schema;
mod stream;
mod verbs;

pub use kit::{Door, bind};
