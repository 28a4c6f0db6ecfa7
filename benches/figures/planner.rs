//! How `plan` grows with the fleet, and what it takes for a million devices.

use std::alloc::System;
use std::hint::black_box;

use rustix::time::{ClockId, clock_gettime};
use stats_alloc::{Region, StatsAlloc};
use tranche::plan::{Observed, plan};

use crate::row::Row;
use crate::stats::{growth, median};
use crate::world::{Look, Stage, World, now};

const SIZES: [usize; 4] = [1_000, 10_000, 100_000, 1_000_000];
/// Odd, so that there is a middle one. Sizes take turns, so that a busy moment hits all of them.
const ROUNDS: usize = 11;
/// One sample takes at least so many seconds: a small fleet is planned often enough to be timed.
const SAMPLE: f64 = 0.01;
/// Gathering is not what is promised about here, and takes long.
const GATHERINGS: usize = 3;
const MAX_EXPONENT: f64 = 1.05;
const MAX_MILLIS: f64 = 150.0;
const MAX_KILOBYTES: f64 = 0.25;

/// Rows of `plan` alone, over devices that are ready, and of the gathering before it.
pub fn measure(allocator: &StatsAlloc<System>) -> anyhow::Result<Vec<Row>> {
    let mut worlds: Vec<World> = SIZES.iter().map(|size| World::new(*size)).collect::<anyhow::Result<_>>()?;
    let mut rows = Vec::new();
    for (stage, name) in [(Stage::Start, "start"), (Stage::Middle, "middle"), (Stage::Settled, "settled")] {
        worlds.iter_mut().try_for_each(|world| world.advance(stage))?;
        rows.extend(at_stage(&worlds, name, allocator)?);
    }
    Ok(rows)
}

fn at_stage(worlds: &[World], stage: &str, allocator: &StatsAlloc<System>) -> anyhow::Result<Vec<Row>> {
    let looks: Vec<Look<'_>> = worlds.iter().map(World::look).collect::<anyhow::Result<_>>()?;
    let observed: Vec<Observed<'_>> = looks.iter().map(Look::observed).collect();
    let mut samples = vec![Vec::new(); SIZES.len()];
    for _ in 0..ROUNDS {
        for (observed, samples) in observed.iter().zip(&mut samples) {
            samples.push(seconds(|| drop(black_box(plan(black_box(observed), now())))));
        }
    }
    let largest = observed.len() - 1;
    let region = Region::new(allocator);
    drop(black_box(plan(&observed[largest], now())));
    // Everything that was asked for, also what was given back before the end: the peak can't be above it.
    let allocated = region.change().bytes_allocated as f64;
    let gathering: Vec<f64> = (0..GATHERINGS).map(|_| seconds(|| drop(black_box(looks[largest].gather())))).collect();
    let medians: Vec<f64> = samples.iter().map(|samples| median(samples)).collect();
    let points: Vec<(f64, f64)> = SIZES.iter().map(|size| *size as f64).zip(medians.iter().copied()).collect();
    let slowest = medians[largest];
    let mut rows = vec![
        Row::limited(format!("plan, {stage}: growth exponent, 1k to 1M devices"), growth(&points), "", MAX_EXPONENT),
        Row::limited(format!("plan, {stage}: 1M devices"), slowest * 1e3, "ms CPU", MAX_MILLIS),
        Row::limited(
            format!("plan, {stage}: allocated, 1M devices"),
            allocated / SIZES[largest] as f64 / 1024.0,
            "KB/device",
            MAX_KILOBYTES,
        ),
    ];
    for (size, time) in points {
        rows.push(Row::known(format!("plan, {stage}: {size} devices"), time / size * 1e9, "ns/device"));
    }
    rows.push(Row::known(format!("gather, {stage}: 1M devices"), median(&gathering) * 1e3, "ms CPU"));
    Ok(rows)
}

/// Processor seconds of this thread for one run of `work`, repeated until there is enough to time.
pub fn seconds(work: impl Fn()) -> f64 {
    let started = processor_time();
    let mut runs = 0.0;
    loop {
        work();
        runs += 1.0;
        let taken = processor_time() - started;
        if taken >= SAMPLE {
            return taken / runs;
        }
    }
}

/// Seconds. What others do on this machine meanwhile does not count.
fn processor_time() -> f64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}
