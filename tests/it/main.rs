//! The one integration-test binary.

mod examples;
mod invariants;
mod plan_scenarios;
mod support;
mod webhook;
