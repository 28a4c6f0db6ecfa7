//! Thousands of checks at once. Decides when a look is taken; what it says is its [`Prober`]'s word, what looks come to is
//! the [`schedule`](super::schedule)'s.
//!
//! One task keeps time for all checks; one that waits is an entry in a queue and no task, timer or buffer. Each look
//! that is being taken is a task, of which there are a few hundred at most, and few for one host.
//!
//! Nothing is stored. After a restart the caller adds what has no stored verdict, and nothing else: adding is idempotent
//! by key, also while a look is being taken.

use std::collections::HashMap;
use std::fmt;
use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rand::RngExt as _;
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use tokio::sync::{Notify, mpsc};
use tokio::task::{AbortHandle, Id, JoinError, JoinSet};
use tokio::time::{Instant, sleep_until, timeout};

use super::queue::{Limits, Looked, Over, Queue, Start};
use super::schedule::{Next, Schedule};
use super::verdict::{Doubt, Outcome};
use crate::shutdown::Shutdown;

pub use super::queue::Added;

/// Looks at once. Each has a connection, some 20 KB; of the files that a process may open by default it is a quarter.
const AT_ONCE: usize = 256;
/// Looks at once at one host: a device with several checks, or a service that stands for many devices.
const PER_HOST: usize = 8;
/// Checks in all: a million devices with one each, within 2 GB.
const MAX_CHECKS: usize = 1_000_000;
/// First looks are spread over so long, so that a batch that is released at once isn't looked at in one instant.
const SPREAD: Duration = Duration::from_secs(1);
/// Pauses are longer by up to this share, so that checks drift apart.
const JITTER: f64 = 0.1;
/// Results that nobody has taken yet. Then no further look is taken, until somebody does.
const RESULTS: usize = 1024;
/// A prober ends by itself within its patience. One that doesn't is ended after this much more.
const GRACE: Duration = Duration::from_secs(1);

/// Takes looks.
pub trait Prober: Send + Sync + 'static {
    /// What is looked at: a check, and a device.
    type Job: Send + Sync + 'static;

    /// When its check looks.
    fn schedule<'a>(&self, job: &'a Self::Job) -> &'a Schedule;

    /// The host that is spoken to, by which looks are limited. Absent: there is none to limit.
    fn host(&self, job: &Self::Job) -> Option<Box<str>>;

    /// How long a look may take.
    fn patience(&self, job: &Self::Job) -> Duration {
        self.schedule(job).timeout()
    }

    /// One look, within its patience. `attempt`: the first of a check is 1.
    fn look(&self, job: &Self::Job, attempt: u32) -> impl Future<Output = Outcome> + Send;
}

/// How an engine runs.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Looks at once.
    pub at_once: usize,
    /// Looks at once at one host.
    pub per_host: usize,
    /// Checks in all.
    pub max_checks: usize,
    /// Over how long first looks are spread.
    pub spread: Duration,
    /// What chance begins with.
    pub seed: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            at_once: AT_ONCE,
            per_host: PER_HOST,
            max_checks: MAX_CHECKS,
            spread: SPREAD,
            // Nothing is kept secret by it, but replicas should not look in step.
            seed: rand::random(),
        }
    }
}

/// What a check came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report<K> {
    /// The check.
    pub key: K,
    /// The result.
    pub outcome: Outcome,
    /// How it was found.
    pub facts: Facts,
}

/// How a result was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Facts {
    /// Looks that were taken.
    pub attempts: u32,
    /// From the begin of the first to the end of the last.
    pub took: Duration,
    /// The last alone.
    pub last: Duration,
}

/// A handle on the checks. Clones share them.
pub struct Engine<K, P: Prober>(Arc<Shared<K, P>>);

struct Shared<K, P: Prober> {
    prober: Arc<P>,
    spread: Duration,
    state: Mutex<State<K, P::Job>>,
    changed: Notify,
}

struct State<K, J> {
    queue: Queue<K, J>,
    chance: StdRng,
}

/// What is known of a look while it is taken.
struct Look {
    id: u64,
    host: Option<Box<str>>,
    begun: Instant,
}

struct Scheduler<K, P: Prober> {
    shared: Arc<Shared<K, P>>,
    results: mpsc::Sender<Report<K>>,
    tasks: JoinSet<Outcome>,
    looks: HashMap<Id, Look>,
    aborts: HashMap<u64, AbortHandle>,
}

impl<K, P: Prober> Clone for Engine<K, P> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<K, P: Prober> fmt::Debug for Engine<K, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine").finish_non_exhaustive()
    }
}

impl<K: Clone + Eq + Hash + Send + 'static, P: Prober> Engine<K, P> {
    /// Starts the task that keeps time, until it is to stop or nobody takes results any more. Looks that are being taken
    /// then are broken off and nothing is said of them. Results must be taken: when too many wait, no look is taken.
    #[must_use]
    pub fn start(prober: P, settings: &Settings, shutdown: Shutdown) -> (Self, mpsc::Receiver<Report<K>>) {
        let Settings { at_once, per_host, max_checks, spread, seed } = *settings;
        let limits = Limits { checks: max_checks, at_once: at_once.max(1), per_host: per_host.max(1) };
        let shared = Arc::new(Shared {
            prober: Arc::new(prober),
            spread,
            state: Mutex::new(State { queue: Queue::new(limits), chance: StdRng::seed_from_u64(seed) }),
            changed: Notify::new(),
        });
        let (results, taken) = mpsc::channel(RESULTS);
        let scheduler = Scheduler {
            shared: Arc::clone(&shared),
            results,
            tasks: JoinSet::new(),
            looks: HashMap::new(),
            aborts: HashMap::new(),
        };
        tokio::spawn(scheduler.run(shutdown));
        (Self(shared), taken)
    }

    /// Checks something, once: until its result is sent, the same key is the same check.
    pub fn add(&self, key: K, job: Arc<P::Job>) -> Added {
        let delay = self.0.prober.schedule(&job).initial_delay();
        self.add_after(key, job, delay)
    }

    /// The same, with the first look after this long.
    pub fn add_after(&self, key: K, job: Arc<P::Job>, delay: Duration) -> Added {
        let mut state = self.0.state.lock();
        let spread = self.0.spread.mul_f64(state.chance.random_range(0.0..=1.0));
        let added = state.queue.add(key, job, Instant::now() + delay + spread);
        drop(state);
        match added {
            Added::New => self.0.changed.notify_one(),
            Added::Known | Added::Full => {}
        }
        added
    }

    /// Checks it no longer; whether it was checked. A look that is being taken is broken off. A result that was sent
    /// before may still be in the channel.
    pub fn remove(&self, key: &K) -> bool {
        let removed = self.0.state.lock().queue.remove(key);
        if removed {
            self.0.changed.notify_one();
        }
        removed
    }

    /// Whether it is being checked.
    #[must_use]
    pub fn contains(&self, key: &K) -> bool {
        self.0.state.lock().queue.contains(key)
    }

    /// How many are being checked.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.state.lock().queue.len()
    }

    /// Whether nothing is being checked.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl<K: Clone + Eq + Hash + Send + 'static, P: Prober> Scheduler<K, P> {
    async fn run(mut self, shutdown: Shutdown) {
        let stop = shutdown.wait();
        tokio::pin!(stop);
        loop {
            let due = self.begin();
            let wait = async {
                match due {
                    Some(due) => sleep_until(due).await,
                    None => std::future::pending().await,
                }
            };
            let report = tokio::select! {
                biased;
                () = &mut stop => return,
                () = self.results.closed() => return,
                Some(ended) = self.tasks.join_next_with_id() => self.end(ended),
                () = self.shared.changed.notified() => None,
                () = wait => None,
            };
            if let Some(report) = report {
                tokio::select! {
                    biased;
                    () = &mut stop => return,
                    sent = self.results.send(report) => if sent.is_err() { return },
                }
            }
        }
    }

    /// Begins the looks that there are places for, and breaks off those whose check was removed. Says when the next is due.
    fn begin(&mut self) -> Option<Instant> {
        let now = Instant::now();
        let shared = Arc::clone(&self.shared);
        let mut state = shared.state.lock();
        state.queue.promote(now);
        while let Some(start) = state.queue.start(now, |job| shared.prober.host(job)) {
            self.look(start, now);
        }
        for id in state.queue.take_cancelled() {
            if let Some(abort) = self.aborts.get(&id) {
                abort.abort();
            }
        }
        state.queue.next_due()
    }

    fn look(&mut self, start: Start<P::Job>, begun: Instant) {
        let Start { id, job, host, attempt } = start;
        let prober = Arc::clone(&self.shared.prober);
        let abort = self.tasks.spawn(async move {
            let patience = prober.patience(&job) + GRACE;
            match timeout(patience, prober.look(&job, attempt)).await {
                Ok(outcome) => outcome,
                Err(_) => Outcome::unknown(Doubt::Internal, "the look did not end by itself"),
            }
        });
        self.looks.insert(abort.id(), Look { id, host, begun });
        self.aborts.insert(id, abort);
    }

    /// Counts a look that has ended. A check that is over has a result.
    fn end(&mut self, ended: Result<(Id, Outcome), JoinError>) -> Option<Report<K>> {
        let (task, outcome) = match ended {
            Ok((task, outcome)) => (task, outcome),
            // Broken off, and its check is gone; or a panic, which is one look's and nobody else's.
            Err(error) => (error.id(), Outcome::unknown(Doubt::Internal, "the look ended badly")),
        };
        let Look { id, host, begun } = self.looks.remove(&task)?;
        self.aborts.remove(&id);
        let mut state = self.shared.state.lock();
        let State { queue, chance } = &mut *state;
        queue.ended(host.as_deref());
        let Looked { job, tally } = queue.looked(id)?;
        let now = Instant::now();
        match tally.count(self.shared.prober.schedule(job), outcome) {
            Next::After(pause) => {
                queue.again(id, now + pause.mul_f64(1.0 + chance.random_range(0.0..=JITTER)));
                None
            }
            Next::Done(outcome) => {
                let Over { key, attempts, begun: first } = queue.over(id)?;
                let facts = Facts { attempts, took: now - first.unwrap_or(begun), last: now - begun };
                Some(Report { key, outcome, facts })
            }
        }
    }
}

#[cfg(test)]
#[path = "engine_tests.rs"]
mod tests;
