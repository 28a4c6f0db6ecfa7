//! The one integration-test binary.

mod examples;
mod fleet;
mod webhook;
