//! The one integration-test binary.
#![allow(clippy::unwrap_used, reason = "a test that meets the unexpected should stop there")]

mod chart;
mod cli;
mod conformance;
mod crash_points;
mod crds;
mod docs;
mod enrolment;
mod examples;
mod fleet;
mod gateway;
mod invariants;
mod job_check;
mod layering;
mod oci;
mod operations;
mod payloads;
mod plan_properties;
mod plan_scenarios;
mod plan_support;
mod predecessor;
mod readme;
mod reconcile;
mod rest;
mod rollouts;
mod safety;
mod soak;
mod support;
mod watches;
mod webhook;
