//! A device's containers: what runs, and the pull, stop, remove and start that lead to what should.
//!
//! Pure: time and chance come in with each call. Level-based like the agent's own planner: after every step it looks
//! again at what is wanted and takes the first difference, so a target that changes half way needs no special case.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use rand::RngExt as _;
use rand::rngs::StdRng;

use super::identity::hex;
use super::personality::{Personality, SLOW_PULL_FACTOR};
use super::wire::Service;
use super::world::World;

/// How many pulled images a device keeps. An update and the way back from it need two.
const CACHED_IMAGES: usize = 4;
/// The agent tries a pull three times, waiting once and then twice the retry time between, before it gives up.
const PULL_ATTEMPTS: u32 = 3;

/// One container.
#[derive(Clone, Debug)]
pub struct Container {
    /// What it was made from.
    pub service: Arc<Service>,
    /// The image it runs.
    pub image: Arc<str>,
    /// 64 hexadecimal digits; new with every start.
    pub id: String,
    /// As the engine says it.
    pub status: Status,
    /// When a flapping container goes on to its next status.
    flaps_at: Option<Duration>,
}

/// A container's status in the engine's words; those of them that simulated containers have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// It runs.
    Running,
    /// It ended.
    Exited,
    /// The engine is about to start it again.
    Restarting,
}

/// What became of an image on the device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The server named it in a target for the first time since the target before.
    Offered(Arc<str>),
    /// A container with it was started.
    Running(Arc<str>),
    /// The last container with it was removed.
    Removed(Arc<str>),
}

/// What the engine works with.
pub struct Env<'a> {
    /// The device's own chance.
    pub rng: &'a mut StdRng,
    /// What all devices share.
    pub world: &'a World,
    /// What kind of device it is.
    pub personality: Personality,
}

/// What passed since the last call.
#[derive(Debug, Default)]
pub struct Outcome {
    /// In order.
    pub events: Vec<Event>,
    /// A reconciliation came to its end: nothing is left to do, or left to try.
    pub reconciled: bool,
    /// A container changed by itself.
    pub changed: bool,
}

/// A device's container engine and the planner on top of it.
#[derive(Debug, Default)]
pub struct Engine {
    containers: Vec<Container>,
    wanted: Vec<Arc<Service>>,
    /// Services whose image could not be had. Not tried again before the target changes.
    given_up: Vec<Arc<Service>>,
    cached: VecDeque<Arc<str>>,
    busy: Option<(Duration, Step)>,
}

#[derive(Debug)]
enum Step {
    /// The agent waits a moment after a new target: more may follow.
    Debounce,
    Pull(Arc<Service>, Arc<str>),
    Start(Arc<Service>, Arc<str>),
}

// === impl Status ===

impl Status {
    /// The engine's word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Exited => "exited",
            Self::Restarting => "restarting",
        }
    }
}

// === impl Engine ===

impl Engine {
    /// The containers there are.
    #[must_use]
    pub fn containers(&self) -> &[Container] {
        &self.containers
    }

    /// When it next needs to be called.
    #[must_use]
    pub fn wake(&self) -> Option<Duration> {
        let flaps = self.containers.iter().filter_map(|container| container.flaps_at);
        flaps.chain(self.busy.as_ref().map(|(until, _)| *until)).min()
    }

    /// From now on these services should run, and nothing else. Whatever was going on is dropped.
    pub fn retarget(&mut self, now: Duration, services: &[Arc<Service>], env: &Env<'_>) {
        self.wanted = services.to_vec();
        self.given_up.clear();
        self.busy = Some((now + env.world.pace.debounce(), Step::Debounce));
    }

    /// Does what is due at `now`.
    pub fn advance(&mut self, now: Duration, env: &mut Env<'_>) -> Outcome {
        let mut outcome = Outcome::default();
        // Each turn ends one step, and a target of n services has at most 2n + 1 of them.
        while let Some((until, step)) = self.busy.take() {
            if until > now {
                self.busy = Some((until, step));
                break;
            }
            match step {
                Step::Debounce => {}
                Step::Pull(service, image) => self.pulled(until, service, image, &mut outcome, env),
                Step::Start(service, image) => self.started(until, service, image, &mut outcome, env),
            }
            if self.busy.is_none() {
                self.begin_next(until, &mut outcome, env);
            }
        }
        for container in &mut self.containers {
            while container.flaps_at.is_some_and(|at| at <= now) {
                container.flap(env);
                outcome.changed = true;
            }
        }
        outcome
    }

    /// Starts on the first difference between what runs and what should.
    fn begin_next(&mut self, now: Duration, outcome: &mut Outcome, env: &mut Env<'_>) {
        while let Some(unwanted) =
            self.containers.iter().position(|c| !self.wanted.iter().any(|wanted| wanted.is_same_as(&c.service)))
        {
            self.remove(unwanted, outcome);
        }
        loop {
            let Some(service) = self.first_difference() else {
                outcome.reconciled = true;
                return;
            };
            if let Some(image) = service.image.clone() {
                let takes = self.pull_time(&image, env);
                self.busy = Some((now + takes, Step::Pull(service, image)));
                return;
            }
            self.give_up(service, outcome);
        }
    }

    fn first_difference(&self) -> Option<Arc<Service>> {
        let runs = |service: &Arc<Service>| self.containers.iter().any(|container| container.service == *service);
        self.wanted.iter().find(|service| !runs(service) && !self.given_up.contains(service)).cloned()
    }

    fn pull_time(&self, image: &Arc<str>, env: &mut Env<'_>) -> Duration {
        if self.cached.contains(image) {
            return Duration::ZERO;
        }
        let pace = &env.world.pace;
        let mut once = pace.pull.mul_f64(env.rng.random_range(0.5..1.5));
        if env.personality == Personality::SlowPull {
            once *= SLOW_PULL_FACTOR;
        }
        if env.world.fails(env.personality, image) { once * PULL_ATTEMPTS + pace.pull_retry() * 3 } else { once }
    }

    fn pulled(
        &mut self,
        now: Duration,
        service: Arc<Service>,
        image: Arc<str>,
        outcome: &mut Outcome,
        env: &mut Env<'_>,
    ) {
        if env.world.fails(env.personality, &image) {
            // A failed step does not stop the later ones: the old container goes all the same.
            return self.give_up(service, outcome);
        }
        if !self.cached.contains(&image) {
            self.cached.truncate(CACHED_IMAGES - 1);
            self.cached.push_front(image.clone());
        }
        self.remove_old(&service, outcome);
        self.busy = Some((now + env.world.pace.start(), Step::Start(service, image)));
    }

    fn started(
        &mut self,
        now: Duration,
        service: Arc<Service>,
        image: Arc<str>,
        outcome: &mut Outcome,
        env: &mut Env<'_>,
    ) {
        let flaps = env.personality == Personality::Flaps && env.world.is_new(&image);
        let flaps_at = flaps.then(|| now + env.world.pace.poll.mul_f64(env.rng.random_range(1.0..3.0)));
        outcome.events.push(Event::Running(image.clone()));
        let id = container_id(env.rng);
        self.containers.push(Container { service, image, id, status: Status::Running, flaps_at });
    }

    fn give_up(&mut self, service: Arc<Service>, outcome: &mut Outcome) {
        self.remove_old(&service, outcome);
        self.given_up.push(service);
    }

    fn remove_old(&mut self, service: &Service, outcome: &mut Outcome) {
        if let Some(old) = self.containers.iter().position(|container| container.service.is_same_as(service)) {
            self.remove(old, outcome);
        }
    }

    fn remove(&mut self, index: usize, outcome: &mut Outcome) {
        let image = self.containers.remove(index).image;
        if !self.containers.iter().any(|container| container.image == image) {
            outcome.events.push(Event::Removed(image));
        }
    }
}

// === impl Container ===

impl Container {
    /// On to the next status: it ends, is restarted by the engine, and runs as a new container.
    fn flap(&mut self, env: &mut Env<'_>) {
        let (next, after) = match self.status {
            Status::Running => (Status::Exited, 0.5),
            Status::Exited => (Status::Restarting, 0.5),
            Status::Restarting => (Status::Running, env.rng.random_range(1.0..3.0)),
        };
        if next == Status::Running {
            self.id = container_id(env.rng);
        }
        self.status = next;
        self.flaps_at = self.flaps_at.map(|at| at + env.world.pace.poll.mul_f64(after));
    }
}

fn container_id(rng: &mut StdRng) -> String {
    hex(&rng.random::<[u8; 32]>())
}
