//! One device, as a pure state machine: time and answers come in, requests and observations come out.
//!
//! It behaves as today's agent does on the wire, the awkward parts included: the first poll after a start is never
//! conditional, targets are compared by content, the version in a report is the one last polled rather than the one
//! applied, an image that can't be pulled costs the device the container it had, and nothing is reported while
//! nothing changes. No clock, no network, no randomness but its own: a test runs a week of it in a millisecond.

use std::sync::Arc;
use std::time::Duration;

use rand::RngExt as _;
use rand::rngs::StdRng;
use serde_json::Map;

use super::engine::{Container, Engine, Env, Event, Outcome};
use super::identity::Identity;
use super::personality::Personality;
use super::reporter::{Delivery, Reporter, Sender};
use super::wire::{Report, Target};
use super::world::World;

/// One new target in so many is reported at once, before any of it is applied: new version, old image.
const EARLY_REPORT_ONE_IN: u32 = 4;

/// What comes in.
#[derive(Debug)]
pub enum Input {
    /// The time that [`Agent::wake`] named.
    Wake,
    /// The poll under way was answered.
    Polled(Answer),
    /// The report under way ended.
    Reported(Delivery),
}

/// A poll's answer.
#[derive(Debug)]
pub enum Answer {
    /// 304.
    Unchanged,
    /// 200.
    Target {
        /// To be sent back, to the letter.
        etag: Option<Arc<str>>,
        /// Target and version; absent when the answer has no entry for this device.
        state: Option<(Target, i64)>,
    },
    /// Anything else.
    Failed,
}

/// What goes out.
#[derive(Debug)]
pub enum Action {
    /// Ask for the target; answer with [`Input::Polled`].
    Poll {
        /// `If-None-Match`.
        if_none_match: Option<Arc<str>>,
    },
    /// Send a report; answer with [`Input::Reported`].
    Report(Report),
    /// Something happened on the device.
    Observed(Event),
}

/// One device.
#[derive(Debug)]
pub struct Agent {
    identity: Identity,
    personality: Personality,
    world: Arc<World>,
    rng: StdRng,
    link: Link,
    target: Option<Target>,
    version: i64,
    engine: Engine,
    reporter: Reporter,
}

/// The device's side of the connection.
#[derive(Debug)]
struct Link {
    etag: Option<Arc<str>>,
    /// `None` while a poll is under way, and for ever on a dead device.
    next_poll: Option<Duration>,
    failures: u32,
    /// When it is next out of reach, and until when.
    silence: Option<(Duration, Duration)>,
}

// === impl Agent ===

impl Agent {
    /// A device that starts at `now`. Its first poll comes at a random time within one interval, as in a fleet that
    /// was not switched on by one hand.
    #[must_use]
    pub fn new(
        now: Duration,
        identity: Identity,
        personality: Personality,
        world: Arc<World>,
        mut rng: StdRng,
    ) -> Self {
        let first = now + world.pace.poll.mul_f64(rng.random_range(0.0..1.0));
        let mut reporter = Reporter::default();
        let mut link = Link { etag: None, next_poll: None, failures: 0, silence: None };
        if personality != Personality::Dead {
            // An agent reports once before its first poll: nothing runs yet, version 1.
            reporter.want(first, true);
            link.next_poll = Some(first);
        }
        if personality == Personality::Offline {
            link.silence = Some(next_silence(first, &world, &mut rng));
        }
        Self { identity, personality, world, rng, link, target: None, version: 1, engine: Engine::default(), reporter }
    }

    /// Who it is.
    #[must_use]
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// What kind of device it is.
    #[must_use]
    pub fn personality(&self) -> Personality {
        self.personality
    }

    /// What runs on it.
    #[must_use]
    pub fn containers(&self) -> &[Container] {
        self.engine.containers()
    }

    /// When it next needs an [`Input::Wake`]. `None`: not before one of its requests is answered, or never.
    #[must_use]
    pub fn wake(&self) -> Option<Duration> {
        self.link.next_poll.into_iter().chain(self.reporter.wake()).chain(self.engine.wake()).min()
    }

    /// Takes what came in at `now` and says what to do. At most one poll and one report are ever under way.
    pub fn step(&mut self, now: Duration, input: Input) -> Vec<Action> {
        let mut actions = Vec::new();
        match input {
            Input::Wake => {}
            Input::Polled(answer) => self.polled(now, answer, &mut actions),
            Input::Reported(delivery) => self.reporter.delivered(now, delivery, &self.world.pace, self.personality),
        }
        self.run_engine(now, &mut actions);
        match self.silent_until(now) {
            // Its containers live on, its requests wait.
            Some(until) => {
                self.link.next_poll = self.link.next_poll.map(|at| at.max(until));
                self.reporter.defer(until);
            }
            None => self.send(now, &mut actions),
        }
        actions
    }

    fn polled(&mut self, now: Duration, answer: Answer, actions: &mut Vec<Action>) {
        let state = match answer {
            Answer::Failed => {
                self.link.failures = self.link.failures.saturating_add(1);
                let jitter = self.rng.random_range(0.7..1.3);
                self.link.next_poll = Some(now + self.world.pace.backoff(self.link.failures).mul_f64(jitter));
                self.reporter.disconnected();
                return;
            }
            Answer::Unchanged => None,
            Answer::Target { etag, state } => {
                if state.is_some() {
                    self.link.etag = etag;
                }
                state
            }
        };
        self.link.failures = 0;
        self.link.next_poll = Some(now + self.world.pace.poll);
        self.reporter.connected(now, self.personality, &mut self.rng);
        let Some((target, version)) = state else { return };
        self.version = version;
        if self.target.as_ref() != Some(&target) {
            self.retarget(now, target, actions);
        }
    }

    fn retarget(&mut self, now: Duration, target: Target, actions: &mut Vec<Action>) {
        let had = |image: &Arc<str>| {
            let before = self.target.iter().flat_map(|target| &target.services);
            before.filter_map(|service| service.image.as_ref()).any(|known| known == image)
        };
        let images: Vec<Arc<str>> = target.services.iter().filter_map(|service| service.image.clone()).collect();
        for (i, image) in images.iter().enumerate() {
            if !had(image) && !images[..i].contains(image) {
                actions.push(Action::Observed(Event::Offered(image.clone())));
            }
        }
        if self.rng.random_ratio(1, EARLY_REPORT_ONE_IN) {
            self.reporter.want(now, false);
        }
        if self.personality == Personality::Lies && images.iter().any(|image| self.world.is_new(image)) {
            self.reporter.want(now + self.world.pace.debounce(), true);
        } else {
            let env = Env { rng: &mut self.rng, world: &self.world, personality: self.personality };
            self.engine.retarget(now, &target.services, &env);
        }
        self.target = Some(target);
    }

    fn run_engine(&mut self, now: Duration, actions: &mut Vec<Action>) {
        let mut env = Env { rng: &mut self.rng, world: &self.world, personality: self.personality };
        let Outcome { events, reconciled, changed } = self.engine.advance(now, &mut env);
        actions.extend(events.into_iter().map(Action::Observed));
        if reconciled || changed {
            // A finished reconciliation is always reported, even where nothing runs any more; so the loss of a
            // container to a bad image does reach the server.
            self.reporter.want(now, reconciled);
        }
    }

    fn send(&mut self, now: Duration, actions: &mut Vec<Action>) {
        let no_config = Map::new();
        let sender = Sender {
            uuid: &self.identity.uuid,
            index: self.identity.index,
            version: self.version,
            containers: self.engine.containers(),
            config: self.target.as_ref().map_or(&no_config, |target| &target.config),
            personality: self.personality,
        };
        if let Some(report) = self.reporter.next(now, &sender) {
            actions.push(Action::Report(report));
        }
        if self.link.next_poll.is_some_and(|at| at <= now) {
            self.link.next_poll = None;
            actions.push(Action::Poll { if_none_match: self.link.etag.clone() });
        }
    }

    /// Until when it is out of reach, if it is; plans the next silence once one is over.
    fn silent_until(&mut self, now: Duration) -> Option<Duration> {
        let (from, until) = self.link.silence?;
        if now >= until {
            self.link.silence = Some(next_silence(now, &self.world, &mut self.rng));
            return None;
        }
        (now >= from).then_some(until)
    }
}

/// In reach for 10 to 40 polls, then gone for 20 to 60.
fn next_silence(now: Duration, world: &World, rng: &mut StdRng) -> (Duration, Duration) {
    let from = now + world.pace.poll.mul_f64(rng.random_range(10.0..40.0));
    (from, from + world.pace.poll.mul_f64(rng.random_range(20.0..60.0)))
}

#[cfg(test)]
#[path = "agent_tests.rs"]
mod tests;
