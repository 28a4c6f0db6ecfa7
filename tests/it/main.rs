//! The one integration-test binary.

mod examples;
mod gateway;
mod webhook;
