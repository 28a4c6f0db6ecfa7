//! The exhaustive model: the real planner and the real gateway among two controllers, devices and people, in every order
//! of events. `make model` runs it; a broken promise is told step by step.
//!
//! # What is real
//!
//! `Snapshot::plan`, which is what the controller calls, decides every write; `gateway::record::Record` decides every
//! answer to a device; `registry::intake` names rollouts. Both are asked once per view and remembered, which is why a
//! million states take a minute. The objects are real ones, specs and statuses included.
//!
//! # What is modelled
//!
//! | | |
//! | --- | --- |
//! | API server | one revision per write; a write that carries another revision is refused; a person's edit carries none |
//! | controllers | two, alike, no leader: each has a cache, plans on it, and makes the plan's writes one by one, the rollout first, then devices in any order; it may crash between any two, lose an answer after the commit, put figures off, or plan on an old view of rollouts, devices or both |
//! | gateway | answers from what is stored, or from an old view of rollouts, the device or both |
//! | devices | ask, run or fail what they were told, report, each in its own time; go away and come back; are held; are declared another image |
//! | people | pause, resume, cancel, roll back, acknowledge, approve; push a newer image; a push comes twice |
//! | time | a few instants, each beyond every deadline, soak and absence that was running |
//!
//! Each scenario (`scenario`) bounds how often each nuisance comes, and is visited to its last state. The promises are
//! judged at each step by code that knows no planner (`never`), rest and reasons by following every state's run to its
//! end (`rest`). Bugs on purpose (`mutants`) show that the judges see.
//!
//! # What makes it small, and loses nothing
//!
//! Revisions are one bit per object and view, "is still the one that was seen": revisions never come back, and nothing
//! else is ever asked of them. A write whose precondition has gone is refused at once. The two controllers have no names.
//! History, and the times at which conditions changed, are not kept: only people read them.
//!
//! # What is not modelled
//!
//! - More than two rollouts, four devices, two batches; one policy; one service per device. So nothing of rivals and
//!   field managers, nor of promise 9 (a device has no way here to ask for another).
//! - Deletion of anything; a registry that is asked; windows, `notBefore`; a policy that changes.
//! - Gateways that fall silent, and presence that is late: who is there is known at once.
//! - A watch that brings old revisions one after the other: a view is of some moment, per kind, and then of another.
//! - All nuisances together: each scenario has a few.
//!
//! # What is not promised
//!
//! - `maxConcurrent` does not count devices that were away or held. Presence has no revision, so a controller that lost
//!   its lease with a release in its hand makes it, although the other one chose another device meanwhile because that
//!   one had gone away or come back; and letting go of a held device makes it count again.
//! - A stop shuts the gate, not the hand of a controller: a release decided before it may still be written after it, and
//!   is then held back by the gate. So promise 4 is about what devices are told.
//! - Acknowledged is a stop that the answering gateway has seen.
//! - A verdict, for promise 3, is that a device was seen running the image at some time, or has Failed on record: what
//!   it does between a controller's look and its write nobody can hold against the write. A soak counts from the
//!   batch's stored completion.
#![allow(clippy::unwrap_used, reason = "a test that meets the unexpected should stop there")]

#[path = "../it/plan_support/build.rs"]
#[allow(dead_code, reason = "a kit shared with other tests")]
mod build;
mod effects;
mod fleet;
mod mutants;
mod never;
mod objects;
mod planning;
mod rest;
mod scenario;
mod state;
mod steps;
mod trace;

use std::collections::BTreeSet;
use std::time::Instant;

use stateright::{Checker, DiscoveryClassification, HasDiscoveries, Model as _};

use fleet::Fleet;
use mutants::Mutant;
use scenario::Scenario;

/// Fewer than that would be no proof worth the name.
const LEAST: usize = 1_000_000;

/// Visits a scenario to its last state, or to the first broken promise.
fn visit(scenario: Scenario, mutant: Option<Mutant>) -> impl Checker<Fleet> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    Fleet::new(scenario, mutant).checker().threads(threads).finish_when(HasDiscoveries::AnyFailures).spawn_bfs().join()
}

fn is_broken(checker: &impl Checker<Fleet>, property: &str) -> bool {
    matches!(checker.discovery_classification(property), DiscoveryClassification::Counterexample)
}

/// `MODEL_SCENARIO`: only those of which the name has this in it.
fn wanted(scenario: &Scenario) -> bool {
    std::env::var("MODEL_SCENARIO").ok().is_none_or(|part| scenario.name.contains(&part))
}

#[test]
fn every_order_of_events() {
    let begun = Instant::now();
    let (mut states, mut seen) = (0, BTreeSet::new());
    for scenario in scenario::ALL.iter().filter(|scenario| wanted(scenario)) {
        let since = Instant::now();
        let checker = visit(*scenario, None);
        let fleet = checker.model();
        println!(
            "{:>8} states, depth {:>2}, {:>5} plans, {:>5.1} s: {}",
            checker.unique_state_count(),
            checker.max_depth(),
            fleet.catalogue.asked(),
            since.elapsed().as_secs_f32(),
            scenario.name
        );
        states += checker.unique_state_count();
        for (name, path) in checker.discoveries() {
            assert!(!is_broken(&checker, name), "{}: broken: {name}\n{}", scenario.name, trace::story(fleet, path));
            seen.insert(name);
        }
    }
    println!("unique states: {states} in {:.0} s", begun.elapsed().as_secs_f32());
    if std::env::var_os("MODEL_SCENARIO").is_none() {
        assert_eq!(seen.len(), 2, "what must be possible was never seen: only {seen:?}");
        assert!(states >= LEAST, "only {states} states");
    }
}

#[test]
fn every_mutant_is_found() {
    for mutant in Mutant::ALL {
        let scenario = scenario::ALL.iter().find(|scenario| scenario.name == mutant.scenario()).unwrap();
        let checker = visit(*scenario, Some(mutant));
        let broken = checker.discoveries().into_iter().find(|(name, _)| is_broken(&checker, name));
        let Some((name, path)) = broken else {
            panic!("{mutant:?} is not found in {} states of {}", checker.unique_state_count(), scenario.name)
        };
        println!("mutant found: {mutant:?}: {name}, after {} steps", path.into_actions().len());
    }
}
