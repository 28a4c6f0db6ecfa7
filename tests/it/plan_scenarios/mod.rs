//! Simulated rollouts. Each story runs in a fixed order, compared with its golden log, and in random order (stale plans,
//! crashes between writes, late presence) for many seeds without one. The Never list is judged at every step of both,
//! and every settled state is shown to be one: a second plan changes nothing, until the time it asked for.
//!
//! `PLAN_SEEDS=200 cargo test --test it plan_` looks for rarer orders; a failure prints the seed, and
//! `PLAN_SEED=17` runs that one alone.

use crate::plan_support::golden;
use crate::plan_support::sim::{Rng, Sim};

mod ends;
mod fleet;
mod going;
mod people;

/// How many random orders are tried of each story, unless the environment says otherwise.
const SEEDS: u64 = 6;

/// Runs a story in fixed order and compares it, then in random orders.
fn tell(name: &str, story: impl Fn(&mut Sim)) {
    tell_often(name, SEEDS, story);
}

/// As [`tell`], in so many random orders; large fleets take their time.
fn tell_often(name: &str, seeds: u64, story: impl Fn(&mut Sim)) {
    let only: Option<u64> = std::env::var("PLAN_SEED").ok().and_then(|seed| seed.parse().ok());
    if only.is_none() {
        let mut sim = Sim::new(None);
        story(&mut sim);
        assert!(sim.world.watch.looked > 0, "nobody looked");
        golden::compare(name, &sim.world.log);
    }
    let seeds = std::env::var("PLAN_SEEDS").ok().and_then(|seeds| seeds.parse().ok()).unwrap_or(seeds);
    for seed in only.map_or(0..seeds, |seed| seed..seed + 1) {
        let told = Told { name, seed };
        let mut sim = Sim::new(Some(Rng(seed)));
        story(&mut sim);
        drop(told);
    }
}

/// Names the seed when a story fails under it.
struct Told<'a> {
    name: &'a str,
    seed: u64,
}

impl Drop for Told<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("story {} failed in the random order of PLAN_SEED={}", self.name, self.seed);
        }
    }
}
