//! The engine with a prober that does as it is told, in time that is paused: an hour passes in no time, and every run is
//! the same.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;
use crate::probe::verdict::Failure;

/// What looks at a job do, one after the other; the last goes on for ever.
#[derive(Clone, Copy, Debug)]
enum Step {
    Pass(u64),
    Fail(u64),
    Doubt(u64),
    /// Never ends by itself.
    Hang,
    Panic,
}

struct Fake {
    host: Option<u32>,
    schedule: Schedule,
    steps: Vec<Step>,
    /// What a look has beyond its timeout, seconds.
    more: u64,
    looks: AtomicUsize,
    /// When looks began, seconds.
    begun: Mutex<Vec<f64>>,
}

#[derive(Clone, Default)]
struct Watch(Arc<Counts>);

#[derive(Default)]
struct Counts {
    now: AtomicUsize,
    peak: AtomicUsize,
    by_host: Mutex<HashMap<u32, (usize, usize)>>,
    begin: Mutex<Option<Instant>>,
}

/// Counts a look out, also when it is broken off.
struct Out(Arc<Counts>, Option<u32>);

impl Drop for Out {
    fn drop(&mut self) {
        self.0.now.fetch_sub(1, Ordering::SeqCst);
        if let Some(host) = self.1 {
            self.0.by_host.lock().entry(host).or_default().0 -= 1;
        }
    }
}

impl Watch {
    fn enter(&self, host: Option<u32>) -> Out {
        let now = self.0.now.fetch_add(1, Ordering::SeqCst) + 1;
        self.0.peak.fetch_max(now, Ordering::SeqCst);
        if let Some(host) = host {
            let mut hosts = self.0.by_host.lock();
            let (now, peak) = hosts.entry(host).or_default();
            *now += 1;
            *peak = (*peak).max(*now);
        }
        Out(Arc::clone(&self.0), host)
    }

    fn seconds(&self) -> f64 {
        let begin = *self.0.begin.lock().get_or_insert_with(Instant::now);
        (Instant::now() - begin).as_secs_f64()
    }
}

impl Prober for Watch {
    type Job = Fake;

    fn schedule<'a>(&self, job: &'a Fake) -> &'a Schedule {
        &job.schedule
    }

    fn host(&self, job: &Fake) -> Option<Box<str>> {
        job.host.map(|host| host.to_string().into())
    }

    fn patience(&self, job: &Fake) -> Duration {
        job.schedule.timeout() + Duration::from_secs(job.more)
    }

    async fn look(&self, job: &Fake, attempt: u32) -> Outcome {
        let _out = self.enter(job.host);
        job.begun.lock().push(self.seconds());
        let n = job.looks.fetch_add(1, Ordering::SeqCst);
        assert_eq!(n + 1, attempt as usize, "attempts are counted from 1");
        let n = n.min(job.steps.len() - 1);
        let wait = async |seconds| tokio::time::sleep(Duration::from_secs(seconds)).await;
        match job.steps[n] {
            Step::Pass(seconds) => {
                wait(seconds).await;
                Outcome::Passed
            }
            Step::Fail(seconds) => {
                wait(seconds).await;
                Outcome::failed(Failure::Unanswered, "silent")
            }
            Step::Doubt(seconds) => {
                wait(seconds).await;
                Outcome::unknown(Doubt::Dns, "no name")
            }
            Step::Hang => std::future::pending().await,
            Step::Panic => panic!("as told"),
        }
    }
}

fn schedule(initial_delay: u64, interval: u64, timeout: u64, retries: u32, successes: u32) -> Schedule {
    let seconds = Duration::from_secs;
    Schedule::new(seconds(initial_delay), seconds(interval), seconds(timeout), retries, successes).expect("a good one")
}

fn job(host: Option<u32>, schedule: Schedule, steps: &[Step]) -> Arc<Fake> {
    Arc::new(Fake {
        host,
        schedule,
        steps: steps.to_vec(),
        more: 0,
        looks: AtomicUsize::new(0),
        begun: Mutex::default(),
    })
}

fn settings() -> Settings {
    Settings { spread: Duration::ZERO, seed: 1, ..Settings::default() }
}

type Running = (Engine<u32, Watch>, mpsc::Receiver<Report<u32>>, Watch);

fn start(settings: &Settings) -> Running {
    let watch = Watch::default();
    watch.seconds();
    let (engine, results) = Engine::start(watch.clone(), settings, Shutdown::new());
    (engine, results, watch)
}

#[tokio::test(start_paused = true)]
async fn looks_are_on_time() {
    for (what, schedule, steps, label, expected) in [
        ("at once", schedule(0, 10, 5, 2, 1), &[Step::Pass(1)][..], "Passed", &[0.0][..]),
        ("later", schedule(60, 10, 5, 2, 1), &[Step::Pass(1)], "Passed", &[60.0]),
        ("retries", schedule(0, 10, 5, 2, 1), &[Step::Fail(1)], "Unanswered", &[0.0, 11.0, 22.0]),
        (
            "recovers",
            schedule(0, 10, 5, 2, 1),
            &[Step::Fail(1), Step::Doubt(2), Step::Pass(0)],
            "Passed",
            &[0.0, 11.0, 23.0],
        ),
        ("no retry", schedule(0, 10, 5, 0, 1), &[Step::Doubt(1)], "Dns", &[0.0]),
        ("three times", schedule(5, 10, 5, 0, 3), &[Step::Pass(0)], "Passed", &[5.0, 15.0, 25.0]),
        ("hangs", schedule(0, 10, 5, 1, 1), &[Step::Hang], "Internal", &[0.0, 16.0]),
        ("panics", schedule(0, 10, 5, 1, 1), &[Step::Panic, Step::Pass(0)], "Passed", &[0.0, 10.0]),
    ] {
        let (engine, mut results, _watch) = start(&settings());
        let job = job(None, schedule, steps);
        assert_eq!(engine.add(7, Arc::clone(&job)), Added::New);
        let report = results.recv().await.expect("a result");
        assert_eq!((report.key, report.outcome.label()), (7, label), "{what}");
        assert_eq!(report.facts.attempts as usize, expected.len(), "{what}");
        let begun = job.begun.lock().clone();
        assert_eq!(begun.len(), expected.len(), "{what}");
        for (n, (begun, expected)) in begun.iter().zip(expected).enumerate() {
            // Pauses of 10 s are longer by up to 1 s; and nothing is ever early.
            let late = begun - expected;
            assert!((-0.001..=n as f64 + 0.01).contains(&late), "{what}: look {n} at {begun}, not {expected}");
        }
        assert!(engine.is_empty(), "{what}");
    }
}

/// A look that follows something else's own end has time beyond its timeout, and no more than that.
#[tokio::test(start_paused = true)]
async fn patience() {
    for (more, takes, label, expected) in
        [(20, 24, "Passed", 24.0), (20, 27, "Internal", 26.0), (0, 7, "Internal", 6.0)]
    {
        let (engine, mut results, watch) = start(&settings());
        let mut job = job(None, schedule(0, 1, 5, 0, 1), &[Step::Pass(takes)]);
        Arc::get_mut(&mut job).expect("not shared yet").more = more;
        assert_eq!(engine.add(1, job), Added::New);
        assert_eq!(results.recv().await.expect("a result").outcome.label(), label);
        assert!((watch.seconds() - expected).abs() < 0.01, "{} s, not {expected}", watch.seconds());
    }
}

#[tokio::test(start_paused = true)]
async fn the_same_chance_is_the_same_run() {
    let mut runs = Vec::new();
    for seed in [1, 1, 2] {
        let (engine, mut results, _watch) = start(&Settings { spread: Duration::from_secs(10), seed, ..settings() });
        let jobs: Vec<_> = (0..20).map(|_| job(None, schedule(0, 10, 5, 2, 1), &[Step::Fail(1)])).collect();
        for (key, job) in (0..).zip(&jobs) {
            assert_eq!(engine.add(key, Arc::clone(job)), Added::New);
        }
        let mut order = Vec::new();
        for _ in &jobs {
            order.push(results.recv().await.expect("a result").key);
        }
        let begun: Vec<Vec<f64>> = jobs.iter().map(|job| job.begun.lock().clone()).collect();
        assert!(begun.iter().flatten().all(|at| *at < 10.0 + 2.0 * 12.1), "{begun:?}");
        runs.push((order, begun));
    }
    assert_eq!(runs[0], runs[1]);
    assert_ne!(runs[0], runs[2]);
    assert_ne!(runs[0].0, (0..20).collect::<Vec<_>>(), "they are spread");
}

#[tokio::test(start_paused = true)]
async fn a_thousand_of_which_a_hundred_are_dead() {
    let (engine, mut results, watch) = start(&Settings { spread: SPREAD, ..settings() });
    let begin = Instant::now();
    for n in 0..1_000 {
        // As the default: 30 s, three looks.
        let steps = if n % 10 == 0 { [Step::Fail(30)] } else { [Step::Pass(1)] };
        assert_eq!(engine.add(n, job(Some(n), Schedule::default(), &steps)), Added::New);
    }
    let (mut passed, mut failed) = (0, 0);
    for _ in 0..1_000 {
        match results.recv().await.expect("a result").outcome {
            Outcome::Passed => passed += 1,
            Outcome::Failed { .. } => failed += 1,
            Outcome::Unknown { .. } => {}
        }
    }
    let took = (Instant::now() - begin).as_secs_f64();
    assert_eq!((passed, failed), (900, 100));
    assert!(took < 100.0, "{took} s");
    assert!(watch.0.peak.load(Ordering::SeqCst) <= AT_ONCE);
}

#[tokio::test(start_paused = true)]
async fn never_more_than_there_are_places() {
    let (engine, mut results, watch) = start(&Settings { at_once: 16, per_host: 3, ..settings() });
    for n in 0..400 {
        let steps = [Step::Fail(u64::from(n % 7)), Step::Pass(1)];
        assert_eq!(engine.add(n, job(Some(n % 11), schedule(0, 1, 30, 2, 1), &steps)), Added::New);
        if n % 5 == 0 {
            tokio::task::yield_now().await;
            assert!(engine.remove(&n));
        }
    }
    for _ in 0..320 {
        let report = results.recv().await.expect("a result");
        assert_ne!(report.key % 5, 0, "removed");
        assert_eq!((report.outcome, report.facts.attempts), (Outcome::Passed, 2));
    }
    assert!(engine.is_empty());
    assert_eq!(watch.0.peak.load(Ordering::SeqCst), 16);
    assert!(watch.0.by_host.lock().values().all(|(now, peak)| *now == 0 && *peak == 3));
}

#[tokio::test(start_paused = true)]
async fn a_host_that_hangs_holds_up_no_other() {
    let (engine, mut results, watch) = start(&Settings { at_once: 16, per_host: 2, ..settings() });
    for n in 0..100 {
        assert_eq!(engine.add(n, job(Some(0), schedule(0, 1, 300, 0, 1), &[Step::Fail(300)])), Added::New);
    }
    for n in 100..200 {
        assert_eq!(engine.add(n, job(Some(n), schedule(0, 1, 300, 0, 1), &[Step::Pass(1)])), Added::New);
    }
    for _ in 0..100 {
        assert_eq!(results.recv().await.expect("a result").outcome, Outcome::Passed);
    }
    assert!(watch.seconds() < 10.0, "{}", watch.seconds());
}

#[tokio::test(start_paused = true)]
async fn the_same_key_is_one_check() {
    let (engine, mut results, _watch) = start(&settings());
    let (first, second) =
        (job(None, schedule(0, 1, 30, 0, 1), &[Step::Pass(5)]), job(None, Schedule::default(), &[Step::Fail(0)]));
    assert_eq!(engine.add(1, Arc::clone(&first)), Added::New);
    assert_eq!(engine.add(1, Arc::clone(&second)), Added::Known);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(engine.contains(&1));
    assert_eq!(engine.add(1, Arc::clone(&second)), Added::Known, "it is being looked at");
    assert_eq!(results.recv().await.map(|report| report.outcome), Some(Outcome::Passed));
    assert_eq!((first.looks.load(Ordering::SeqCst), second.looks.load(Ordering::SeqCst)), (1, 0));
    assert!(results.try_recv().is_err());
    assert_eq!(engine.add(1, Arc::clone(&first)), Added::New, "once it is over, it may be checked anew");
    assert_eq!(results.recv().await.map(|report| report.key), Some(1));
}

#[tokio::test(start_paused = true)]
async fn what_is_removed_is_over() {
    let (engine, mut results, watch) = start(&Settings { at_once: 1, ..settings() });
    let one = || job(None, schedule(0, 1, 300, 0, 1), &[Step::Pass(100)]);
    let (running, queued, waiting) = (one(), one(), job(None, schedule(50, 1, 30, 0, 1), &[Step::Pass(0)]));
    for (key, job) in [(1, &running), (2, &queued), (3, &waiting)] {
        assert_eq!(engine.add(key, Arc::clone(job)), Added::New);
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(watch.0.now.load(Ordering::SeqCst), 1);
    assert!(engine.remove(&2) && engine.remove(&3) && engine.remove(&1) && !engine.remove(&1));
    assert!(engine.is_empty());
    let again = one();
    assert_eq!(engine.add(1, Arc::clone(&again)), Added::New, "the same key, another check");
    let report = results.recv().await.expect("a result");
    assert_eq!((report.key, report.facts.took), (1, Duration::from_secs(100)));
    let looks = [running, queued, waiting, again].map(|job| job.looks.load(Ordering::SeqCst));
    assert_eq!(looks, [1, 0, 0, 1]);
    assert!(results.try_recv().is_err());
}

#[tokio::test(start_paused = true)]
async fn bounds_and_the_end() {
    let (engine, results, _watch) = start(&Settings { max_checks: 2, ..settings() });
    let one = || job(None, schedule(10, 1, 30, 0, 1), &[Step::Pass(0)]);
    assert_eq!([1, 2, 3].map(|key| engine.add(key, one())), [Added::New, Added::New, Added::Full]);
    assert!(engine.remove(&1));
    assert_eq!(engine.add(3, one()), Added::New);
    // Nobody takes results any more.
    drop(results);
    let late = one();
    assert!(engine.remove(&3));
    assert_eq!(engine.add(4, Arc::clone(&late)), Added::New);
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(late.looks.load(Ordering::SeqCst), 0);

    let (shutdown, watch) = (Shutdown::new(), Watch::default());
    let (engine, mut results) = Engine::<u32, _>::start(watch.clone(), &settings(), shutdown.clone());
    assert_eq!(engine.add(1, job(None, schedule(0, 1, 30, 0, 1), &[Step::Hang])), Added::New);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(watch.0.now.load(Ordering::SeqCst), 1);
    shutdown.request();
    assert_eq!(results.recv().await, None);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(watch.0.now.load(Ordering::SeqCst), 0, "broken off");
}

/// Results that nobody takes hold looks up, and none is lost.
#[tokio::test(start_paused = true)]
async fn results_wait() {
    let (engine, mut results, watch) = start(&settings());
    let many = 2 * u32::try_from(RESULTS).expect("few");
    for n in 0..many {
        assert_eq!(engine.add(n, job(None, schedule(0, 1, 30, 0, 1), &[Step::Pass(0)])), Added::New);
    }
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert!(engine.len() >= RESULTS - 1 - AT_ONCE, "{}", engine.len());
    let mut seen = std::collections::HashSet::new();
    for _ in 0..many {
        assert!(seen.insert(results.recv().await.expect("a result").key));
    }
    assert!(engine.is_empty());
    assert_eq!(watch.0.now.load(Ordering::SeqCst), 0);
}
