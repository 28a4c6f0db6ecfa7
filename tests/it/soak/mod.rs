//! Deterministic simulation: the real controller and the real gateway on an API server in the process, in virtual time, with
//! a fleet, a policy, pushes, people and a fault plan that are all drawn from one number.
//!
//! | step | file |
//! | --- | --- |
//! | what a seed stands for | [`scenario`], [`weather`], by the chance of [`dice`] |
//! | living it through | [`drive`], [`people`] |
//! | judging what is left of it | [`observer`] |
//! | saying what was found and exercised | [`report`] |
//!
//! `make soak SEEDS=100000 SEED=1` runs as many as one likes. A seed that fails prints the line that replays it, and a seed
//! is the same story each time.

mod dice;
mod drive;
mod observer;
mod people;
mod report;
mod scenario;
mod tampered;
mod weather;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use drive::History;
use scenario::Scenario;

/// One run, on a runtime of its own.
fn run(seed: u64) -> History {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    runtime.block_on(drive::run(&Scenario::draw(seed)))
}

fn variable(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().filter(|text| !text.is_empty()).map_or(default, |text| text.parse().unwrap())
}

/// All seeds, on as many threads as there are processors. The first that fails, by number, is told of.
#[test]
fn two_hundred_seeds() {
    let (first, count) = (variable("SOAK_SEED", 1), variable("SOAK_SEEDS", 200));
    let next = Arc::new(AtomicU64::new(first));
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let work = move || {
        let mut sums = report::Sums::default();
        let mut failures = Vec::new();
        loop {
            let seed = next.fetch_add(1, Ordering::SeqCst);
            if seed >= first + count {
                return (sums, failures);
            }
            let history = run(seed);
            let findings = observer::judge(&history);
            sums.take_in(&history, &findings);
            if !findings.broken.is_empty() {
                let failure = report::failure(&history, &findings);
                println!("{failure}");
                failures.push(seed);
            }
        }
    };
    let workers: Vec<_> = (0..threads).map(|_| std::thread::spawn(work.clone())).collect();
    let mut sums = report::Sums::default();
    let mut failures = Vec::new();
    for worker in workers {
        let (more, failed) = worker.join().unwrap();
        sums.merge(more);
        failures.extend(failed);
    }
    println!("{sums}");
    failures.sort_unstable();
    assert!(failures.is_empty(), "these seeds fail: {failures:?}; replay: make soak SEEDS=1 SEED={}", failures[0]);
    if count >= 200 {
        assert!(sums.idle().is_empty(), "never looked at: {:?}", sums.idle());
    }
}

#[test]
fn the_same_seed_is_the_same_story() {
    for seed in 1..=variable("SOAK_TWICE", 6) {
        let (one, other) = (run(seed), run(seed));
        let differ = report::lines(&one).zip(report::lines(&other)).find(|(one, other)| one != other);
        assert!(differ.is_none(), "seed {seed}: {differ:#?}");
        assert_eq!(report::fingerprint(&one), report::fingerprint(&other), "seed {seed}");
    }
}
