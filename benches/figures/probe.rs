//! What health checks cost: looks at healthy devices on loopback, and memory of checks that wait.

use std::alloc::System;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use rustix::time::{ClockId, clock_gettime};
use stats_alloc::{Region, StatsAlloc};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::mpsc;
use tranche::oci::AddressRules;
use tranche::probe::http::{HttpCheck, HttpSpec};
use tranche::probe::template::Values;
use tranche::probe::{
    Added, Check, Engine, Guard, Job, Kind, Names, Network, Outcome, Report, Rollout, Schedule, Settings, Subject,
};
use tranche::shutdown::Shutdown;

use crate::row::Row;
use crate::stats::median;

const DEVICES: u32 = 10_000;
/// Odd, so that there is a middle one.
const ROUNDS: usize = 7;
const MIN_PER_SECOND: f64 = 3_000.0;
const SWEPT: u32 = 1_000;
/// Three looks of 30 s, the pauses between them, and little else.
const MAX_SWEEP: f64 = 100.0;
const WAITING: u32 = 100_000;
const MAX_KILOBYTES: f64 = 2.0;
const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 3\r\n\r\nok\n";

/// Rows of looks for a second of processor time, and of bytes for a check that waits.
pub fn measure(allocator: &StatsAlloc<System>) -> anyhow::Result<Vec<Row>> {
    // Threads of their own: an engine's processor time is its thread's, and runtimes don't start within another.
    std::thread::scope(|scope| {
        let measured = scope.spawn(|| {
            let mut rows = looks()?;
            rows.push(waiting(allocator)?);
            Ok(rows)
        });
        measured.join().map_err(|_| anyhow::anyhow!("a panic"))?
    })
}

/// Devices that answer at once, each with an address of its own, by another thread.
fn looks() -> anyhow::Result<Vec<Row>> {
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let (tell, told) = std::sync::mpsc::channel();
    let server = std::thread::spawn(move || -> anyhow::Result<()> {
        runtime()?.block_on(async {
            let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).await?;
            tell.send(listener.local_addr()?.port())?;
            tokio::select! {
                served = serve(listener) => served,
                _ = stopped => Ok(()),
            }
        })
    });
    let port = told.recv().context("the server didn't start")?;
    let (mut per_cpu, mut per_wall) = (Vec::new(), Vec::new());
    runtime()?.block_on(async {
        let (engine, mut results) = engine()?;
        let check = check(port, "health", Duration::ZERO)?;
        for _ in 0..ROUNDS {
            let (cpu, wall) = (processor_time(), Instant::now());
            add(&engine, &check, DEVICES)?;
            anyhow::ensure!(taken(&mut results, DEVICES).await? == DEVICES, "they are healthy");
            per_cpu.push(f64::from(DEVICES) / (processor_time() - cpu));
            per_wall.push(f64::from(DEVICES) / wall.elapsed().as_secs_f64());
        }
        anyhow::Ok(())
    })?;
    let sweep = runtime()?.block_on(sweep(port))?;
    // Where it's gone, it has said why.
    let _ = stop.send(());
    server.join().map_err(|_| anyhow::anyhow!("the server panicked"))??;
    Ok(vec![
        Row::at_least("10,000 healthy HTTP checks on loopback", median(&per_cpu), "/s of one core", MIN_PER_SECOND),
        Row::known("10,000 healthy HTTP checks on loopback, by the clock", median(&per_wall), "/s"),
        sweep,
    ])
}

/// As policies have it by default, at a fleet of which every tenth device takes the connection and says nothing.
async fn sweep(port: u16) -> anyhow::Result<Row> {
    let (engine, mut results) = engine()?;
    let check = check(port, "sweep", Duration::ZERO)?;
    let wall = Instant::now();
    add(&engine, &check, SWEPT)?;
    let passed = taken(&mut results, SWEPT).await?;
    anyhow::ensure!(passed == SWEPT * 9 / 10, "{passed} are healthy");
    let seconds = wall.elapsed().as_secs_f64();
    Ok(Row::limited("a sweep of 1,000 devices, 10% dead, by the clock", seconds, "s", MAX_SWEEP))
}

/// Whether whoever is asked so is dead.
fn is_dead(request: &[u8]) -> bool {
    let line = request.split(|byte| *byte == b'\r').next().unwrap_or_default();
    line.starts_with(b"GET /sweep") && line.ends_with(b"7 HTTP/1.1")
}

async fn serve(listener: TcpListener) -> anyhow::Result<()> {
    loop {
        let (mut stream, _) = listener.accept().await?;
        tokio::spawn(async move {
            let mut request = Vec::with_capacity(1024);
            while !request.ends_with(b"\r\n\r\n") {
                match stream.read_buf(&mut request).await {
                    Ok(0) | Err(_) => return,
                    Ok(_) => {}
                }
            }
            if is_dead(&request) {
                // Until the client has had enough.
                let _ = stream.read_buf(&mut request).await;
                return;
            }
            // A client that is gone doesn't matter here: it will say so.
            let _ = stream.write_all(ANSWER).await;
        });
    }
}

/// So many results; how many devices are healthy.
async fn taken(results: &mut mpsc::Receiver<Report<Arc<str>>>, devices: u32) -> anyhow::Result<u32> {
    let mut passed = 0;
    for _ in 0..devices {
        let report = results.recv().await.context("the engine ended")?;
        anyhow::ensure!(!matches!(report.outcome, Outcome::Unknown { .. }), "it was looked at: {}", report.outcome);
        passed += u32::from(report.outcome == Outcome::Passed);
    }
    Ok(passed)
}

/// All that a check takes that waits for its time: the engine's entry, its key, and the device's values.
fn waiting(allocator: &StatsAlloc<System>) -> anyhow::Result<Row> {
    runtime()?.block_on(async {
        let (engine, _results) = engine()?;
        let check = check(80, "health", Duration::from_secs(3600))?;
        let region = Region::new(allocator);
        add(&engine, &check, WAITING)?;
        tokio::task::yield_now().await;
        let change = region.change();
        anyhow::ensure!(engine.len() == WAITING as usize, "they all wait");
        let kept = change.bytes_allocated as f64 - change.bytes_deallocated as f64;
        let kilobytes = kept / f64::from(WAITING) / 1024.0;
        Ok(Row::limited("a check that waits, of 100,000", kilobytes, "KB", MAX_KILOBYTES))
    })
}

fn runtime() -> anyhow::Result<Runtime> {
    Ok(Builder::new_current_thread().enable_all().build()?)
}

type Checks = Engine<Arc<str>, Network>;

fn engine() -> anyhow::Result<(Checks, mpsc::Receiver<Report<Arc<str>>>)> {
    let rules: AddressRules = "127.0.0.0/8".parse()?;
    let settings = Settings { spread: Duration::ZERO, seed: 1, ..Settings::default() };
    let network = Network { guard: Guard::new(rules, Names::system()), jobs: None };
    Ok(Engine::start(network, &settings, Shutdown::new()))
}

fn check(port: u16, path: &str, initial_delay: Duration) -> anyhow::Result<Arc<Check>> {
    let url = format!("http://{{device_ip}}:{port}/{path}?of={{device_uuid}}");
    let spec = HttpSpec { url, body_contains: Some("ok".into()), ..HttpSpec::default() };
    let kind = Kind::Http(Box::new(HttpCheck::parse(&spec)?));
    let schedule = Schedule::new(initial_delay, Duration::from_secs(2), Duration::from_secs(30), 2, 1)?;
    Ok(Arc::new(Check { name: "web".into(), kind, schedule, allowed: Vec::new() }))
}

fn add(engine: &Checks, check: &Arc<Check>, devices: u32) -> anyhow::Result<()> {
    let [namespace, image, tag]: [Arc<str>; 3] = ["plant-a", "docker.io/acme/app:v2", "v2"].map(Into::into);
    let rollout = Arc::new(Rollout { name: "app-1".into(), uid: "11111111-0000-4000-8000-000000000000".into() });
    for n in 0..devices {
        // Loopback has room for 16 million devices.
        let address = IpAddr::from(Ipv4Addr::from(0x7f01_0000 + n));
        let values = Values {
            device_ip: Some(address),
            device_name: format!("line-{n}").into(),
            device_uuid: format!("00000000-0000-4000-8000-{n:012}").into(),
            namespace: Arc::clone(&namespace),
            image: Arc::clone(&image),
            tag: Arc::clone(&tag),
        };
        let key: Arc<str> = format!("app-1/00000000-0000-4000-8000-{n:012}/web").into();
        let subject = Subject::Device { values, since: i64::from(n) };
        let job = Job { check: Arc::clone(check), subject, rollout: Arc::clone(&rollout) };
        anyhow::ensure!(engine.add(key, Arc::new(job)) == Added::New, "it is a new one");
    }
    Ok(())
}

/// Seconds of this thread. What others do on this machine meanwhile does not count.
fn processor_time() -> f64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}
