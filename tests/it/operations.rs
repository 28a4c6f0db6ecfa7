//! An operator's mistakes, in any order and at any moment: afterwards everything has ended or waits for something that it
//! names, every device runs what somebody gave it, nothing is written any more, and nothing happened that must not.
//!
//! A sequence is drawn from its seed. One that fails prints the seed and what was done.

use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use tokio::time::{Instant, sleep};
use tranche::simulate::Personality;

use super::support::live::{World, never};

mod draws;
mod ends;
mod mistakes;

use mistakes::Operator;

/// Sequences in each of the tests below.
const SEQUENCES: u64 = 25;
/// Once nothing was written for so long, nothing will be: every deadline, soak, pause between tries and time before
/// which nothing may start is shorter, and so is the time after which everything is looked at again.
const SILENCE: Duration = Duration::from_secs(11 * 60);
/// So long it may take at most.
const PATIENCE: Duration = Duration::from_secs(2 * 3600);

/// Up to six devices, of which some are of the kind that fleets have, too.
fn fleet(rng: &mut StdRng) -> Vec<Personality> {
    let kinds = [Personality::Fails, Personality::Dead, Personality::SlowPull];
    let of = |rng: &mut StdRng| match rng.random_range(0..10) {
        odd @ 0..3 => kinds[odd],
        _ => Personality::Healthy,
    };
    // Somebody has to be healthy, or nothing is ever rolled out.
    (0..rng.random_range(3..=5)).map(|_| of(rng)).chain([Personality::Healthy]).collect()
}

async fn sequence(seed: u64) {
    let mut rng = StdRng::seed_from_u64(seed);
    let fleet = fleet(&mut rng);
    let mut operator = Operator::new(World::new(&fleet).await, rng);
    operator.begin().await;
    for _ in 0..operator.count() {
        let pause = operator.pause();
        operator.wait_until(Instant::now() + pause).await;
        operator.errs().await;
    }
    operator.finish().await;
    let Operator { world, acts, .. } = operator;
    let end = Instant::now() + PATIENCE;
    let mut quiet = Instant::now();
    while quiet.elapsed() < SILENCE && Instant::now() < end {
        sleep(Duration::from_secs(60)).await;
        quiet = world.writes_since(quiet).last().map_or(quiet, |write| write.at + Duration::from_nanos(1));
    }
    let mut wrong = ends::judge(&world, &fleet);
    if quiet.elapsed() < SILENCE {
        let restless = world.writes_since(end - SILENCE);
        wrong.extend(
            restless
                .iter()
                .take(5)
                .map(|write| format!("in the end {} still writes {}: {}", write.actor, write.path, write.body)),
        );
    }
    wrong.extend(never::check(&world.api.log()));
    let (acts, wrong) = (acts.join("\n"), wrong.join("\n"));
    assert!(wrong.is_empty(), "SEED={seed}, {fleet:?}\n{acts}\n\n{wrong}\n{}", world.dump());
}

fn sequences(first: u64, count: u64) {
    for seed in first..first + count {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
        runtime.block_on(sequence(seed));
    }
}

#[test]
fn mistakes_one_to_twenty_five() {
    sequences(1, SEQUENCES);
}

#[test]
fn mistakes_to_fifty() {
    sequences(1 + SEQUENCES, SEQUENCES);
}

#[test]
fn mistakes_to_seventy_five() {
    sequences(1 + 2 * SEQUENCES, SEQUENCES);
}

#[test]
fn mistakes_to_a_hundred() {
    sequences(1 + 3 * SEQUENCES, SEQUENCES);
}

/// One again, or many more: `SEED=17 SEEDS=1 cargo test --test it operations -- --ignored`.
#[test]
#[ignore = "for a seed that failed, and for long runs"]
fn mistakes_on_request() {
    let number = |name: &str, default| std::env::var(name).map_or(default, |text| text.parse().unwrap());
    sequences(number("SEED", 101), number("SEEDS", 100));
}
