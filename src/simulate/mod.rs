//! A fleet of devices that poll, pull, restart and report as the real agent does, and some that fail, flap, lie or go
//! silent: what `tranche simulate` runs, and what tests put before a gateway.
//!
//! Each device is a pure state machine ([`agent`]) that is told the time and the answers, so all of them together
//! need one task, one heap of wake-up times and a bounded number of requests under way. Given the same seed and the
//! same answers at the same times a device does the same, and adding devices changes none of those before.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::task::JoinSet;
use tokio::time::Instant;

pub mod agent;
pub mod engine;
pub mod http;
pub mod identity;
pub mod personality;
pub mod provision;
pub mod reporter;
pub mod tally;
pub mod wire;
pub mod world;

pub use agent::Agent;
pub use identity::Identity;
pub use personality::{Personality, Shares};
pub use tally::{Observation, Tally, What};
pub use world::{BadImage, Pace, World};

use agent::{Action, Answer, Input};
use http::{Http, HttpError};
use reporter::Delivery;

/// Requests under way at once. Enough for 10,000 devices that poll every second over a local network, and far below
/// the files that a process may open.
const MAX_REQUESTS: usize = 512;

/// What to simulate.
#[derive(Clone, Debug)]
pub struct FleetConfig {
    /// Where the devices poll: `http://host:port`.
    pub server: String,
    /// How many there are.
    pub devices: u32,
    /// Which fleet: part of what names and keys are derived from.
    pub fleet: String,
    /// What names, keys, personalities and chance are derived from.
    pub seed: u64,
    /// Who is not healthy.
    pub shares: Shares,
    /// Images and pace.
    pub world: World,
}

/// Told of everything that happens on a device, as it happens. Must not block.
pub type Observer = Box<dyn FnMut(&Observation) + Send>;

/// A fleet, ready to run.
pub struct Fleet {
    http: Http,
    agents: Vec<Agent>,
    started: Instant,
    /// What each device's newest entry in `wakes` says. Older entries are void.
    planned: Vec<Option<Duration>>,
    wakes: BinaryHeap<Reverse<(Duration, u32)>>,
    /// Requests that wait for their turn. At most two a device: one poll and one report.
    waiting: VecDeque<(u32, Action)>,
    requests: JoinSet<(u32, Input)>,
    tally: Arc<Mutex<Tally>>,
    observer: Observer,
}

impl std::fmt::Debug for Fleet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Fleet").field("devices", &self.agents.len()).finish_non_exhaustive()
    }
}

impl FleetConfig {
    /// Who the devices are, in order.
    pub fn identities(&self) -> impl Iterator<Item = Identity> + '_ {
        (0..self.devices).map(|index| Identity::derive(self.seed, &self.fleet, index))
    }
}

impl Fleet {
    /// A fleet that starts now.
    ///
    /// # Errors
    /// When the server's address is none, or the HTTP client can't be set up.
    pub fn new(config: &FleetConfig, observer: Observer) -> Result<Self, HttpError> {
        let http = Http::new(&config.server)?;
        let world = Arc::new(config.world.clone());
        let agents: Vec<Agent> = config
            .identities()
            .map(|identity| {
                let personality = config.shares.personality(config.seed, identity.index);
                let rng = Identity::rng(config.seed, identity.index);
                Agent::new(Duration::ZERO, identity, personality, world.clone(), rng)
            })
            .collect();
        let tally = Tally::new(config.devices);
        let mut fleet = Self {
            http,
            planned: vec![None; agents.len()],
            agents,
            started: Instant::now(),
            wakes: BinaryHeap::new(),
            waiting: VecDeque::new(),
            requests: JoinSet::new(),
            tally: Arc::new(Mutex::new(tally)),
            observer,
        };
        for index in 0..config.devices {
            fleet.plan(index);
        }
        Ok(fleet)
    }

    /// The sums, as they grow.
    #[must_use]
    pub fn tally(&self) -> Arc<Mutex<Tally>> {
        self.tally.clone()
    }

    /// Runs the devices until `shutdown` is done, and drops what is under way then, as a power cut would.
    pub async fn run(mut self, shutdown: impl Future<Output = ()>) -> Tally {
        tokio::pin!(shutdown);
        loop {
            while self.requests.len() < MAX_REQUESTS
                && let Some((index, action)) = self.waiting.pop_front()
            {
                self.spawn(index, action);
            }
            let next = self.wakes.peek().map(|Reverse((at, _))| self.started + *at);
            tokio::select! {
                () = &mut shutdown => break,
                Some(done) = self.requests.join_next() => match done {
                    Ok((index, input)) => self.step(index, input),
                    Err(error) => resume(error),
                },
                () = sleep_until(next) => self.wake(),
            }
        }
        self.requests.shutdown().await;
        self.tally.lock().clone()
    }

    /// Wakes every device whose time has come.
    fn wake(&mut self) {
        let now = self.started.elapsed();
        while let Some(Reverse((at, index))) = self.wakes.peek().copied()
            && at <= now
        {
            self.wakes.pop();
            if self.planned[index as usize] == Some(at) {
                self.planned[index as usize] = None;
                self.step(index, Input::Wake);
            }
        }
    }

    fn step(&mut self, index: u32, input: Input) {
        self.count(&input);
        let now = self.started.elapsed();
        for action in self.agents[index as usize].step(now, input) {
            if let Action::Observed(event) = &action {
                self.tally.lock().observe(index, event);
                let device = &self.agents[index as usize].identity().uuid;
                (self.observer)(&Observation::new(crate::clock::now(), device, event));
            } else {
                self.waiting.push_back((index, action));
            }
        }
        self.plan(index);
    }

    fn plan(&mut self, index: u32) {
        let wake = self.agents[index as usize].wake();
        if wake != self.planned[index as usize] {
            self.planned[index as usize] = wake;
            self.wakes.extend(wake.map(|at| Reverse((at, index))));
        }
    }

    fn spawn(&mut self, index: u32, action: Action) {
        let http = self.http.clone();
        let device = self.agents[index as usize].identity().clone();
        match action {
            Action::Poll { if_none_match } => {
                self.requests
                    .spawn(async move { (index, Input::Polled(http.poll(&device, if_none_match.as_deref()).await)) });
            }
            Action::Report(report) => {
                self.requests.spawn(async move { (index, Input::Reported(http.report(&device, report).await)) });
            }
            Action::Observed(_) => {}
        }
    }

    fn count(&self, input: &Input) {
        let mut tally = self.tally.lock();
        match input {
            Input::Wake => {}
            Input::Polled(answer) => {
                tally.polls += 1;
                match answer {
                    Answer::Unchanged => tally.unchanged += 1,
                    Answer::Failed => tally.failed_polls += 1,
                    Answer::Target { .. } => {}
                }
            }
            Input::Reported(delivery) => {
                tally.reports += 1;
                tally.failed_reports += u64::from(*delivery != Delivery::Accepted);
            }
        }
    }
}

/// A request that panicked is a bug here, never something to go on from. None is ever cancelled.
fn resume(error: tokio::task::JoinError) {
    if let Ok(panic) = error.try_into_panic() {
        std::panic::resume_unwind(panic);
    }
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}
