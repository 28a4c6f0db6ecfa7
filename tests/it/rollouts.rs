//! Rollouts from end to end: the real API server, the real binary, devices that poll over HTTP.

mod acts;
mod checks;
mod crashes;
mod outages;
mod people;
mod pod;
mod pushes;
pub(crate) mod stage;
mod writes;
