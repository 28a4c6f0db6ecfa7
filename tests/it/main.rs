//! The one integration-test binary.
#![allow(clippy::unwrap_used, reason = "a test that meets the unexpected should stop there")]

mod examples;
mod fleet;
mod gateway;
mod reconcile;
mod support;
mod webhook;
