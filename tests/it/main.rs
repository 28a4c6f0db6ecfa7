//! The one integration-test binary.
#![allow(clippy::unwrap_used, reason = "a test that meets the unexpected should stop there")]

mod crds;
mod examples;
mod fleet;
mod gateway;
mod layering;
mod rollouts;
mod support;
mod webhook;
