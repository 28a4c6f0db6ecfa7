//! `make bench`: the figures that Tranche promises, measured, in a table and in `target/bench/results.json`.
//!
//! What each figure means and what it was at last is in `benches/README.md`. Times are only compared within one run,
//! and everything is repeated and its median taken, because no machine that this runs on is quiet.
//!
//! `make bench` measures everything; `cargo bench --bench figures -- plan` only the planner (`match` the intake of
//! pushes, `probe` health checks, `push` the webhook, `poll` the gateway, `fleet` a rollout, `reads` long lists), and then writes no results.

mod audit;
mod client;
mod cluster;
mod fleet;
mod follow;
mod machine;
mod matching;
mod planner;
mod poll;
mod probe;
mod process;
mod reads;
mod row;
mod stats;
mod webhook;
mod world;

use std::alloc::System;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};

use cluster::ControlPlane;
use row::Row;

/// Counts allocations of this process. What is measured in other processes does not notice.
#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// No part takes half of it, also on a machine that is busy.
const PATIENCE: Duration = Duration::from_secs(600);
/// Where the results go; cargo runs benches in the package's folder.
const RESULTS: &str = "target/bench/results.json";

#[tokio::main]
async fn main() -> ExitCode {
    // Whoever came first has installed the same provider.
    let _ = rustls::crypto::ring::default_provider().install_default();
    match bench().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("not everything could be measured: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn bench() -> anyhow::Result<()> {
    // Cargo adds `--bench`.
    let wanted: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with('-')).collect();
    let wants = |part: &str| wanted.is_empty() || wanted.iter().any(|word| word == part);
    println!("{}", machine::describe());
    let mut rows: Vec<Row> = Vec::new();
    if wants("plan") {
        rows.extend(part("plan", async { planner::measure(ALLOCATOR) }).await?);
    }
    if wants("match") {
        rows.extend(part("match", async { matching::measure() }).await?);
    }
    if wants("probe") {
        rows.extend(part("probe", async { tokio::task::block_in_place(|| probe::measure(ALLOCATOR)) }).await?);
    }
    if wants("push") || wants("poll") || wants("fleet") || wants("reads") {
        let control_plane = ControlPlane::start().await?;
        if wants("push") {
            rows.extend(part("push", webhook::measure(&control_plane)).await?);
        }
        if wants("poll") {
            rows.extend(part("poll", poll::measure(&control_plane)).await?);
        }
        if wants("fleet") {
            rows.extend(part("fleet", fleet::measure(&control_plane)).await?);
        }
        if wants("reads") {
            rows.extend(part("reads", reads::measure(&control_plane)).await?);
        }
    }
    println!("\n{}", row::table(&rows));
    if wanted.is_empty() {
        row::store(&rows, Path::new(RESULTS)).with_context(|| format!("cannot write {RESULTS}"))?;
        println!("written to {RESULTS}");
    }
    Ok(())
}

/// One part, bounded in time.
async fn part(name: &str, measure: impl Future<Output = anyhow::Result<Vec<Row>>>) -> anyhow::Result<Vec<Row>> {
    let started = Instant::now();
    println!("measuring {name} …");
    let rows = tokio::time::timeout(PATIENCE, measure).await.context("it took too long")?.context(name.to_owned())?;
    println!("measured {name} in {:.0} s", started.elapsed().as_secs_f64());
    Ok(rows)
}
