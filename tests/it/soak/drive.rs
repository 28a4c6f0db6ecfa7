//! Lives a scenario through: a whole Tranche in virtual time, in the weather of the seed, until it is calm and quiet.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, sleep_until};
use tranche::clock::Clock;
use tranche::controller::metrics::ControllerMetrics;
use tranche::controller::probes::Probes;
use tranche::controller::{self, Context};
use tranche::shutdown::Shutdown;
use tranche::simulate::agent::Agent;
use tranche::simulate::provision::{ImageSource, device};
use tranche::simulate::{Identity, Personality};

use super::dice::roll;
use super::observer::liveness::is_settled;
use super::people;
use super::scenario::{STORM, Scenario, Turn};
use super::weather::{Kind, Passing};
use crate::support::apiserver::faults::Seen;
use crate::support::apiserver::network::Told;
use crate::support::apiserver::store::Revision;
use crate::support::apiserver::{ApiServer, NAMESPACE};
use crate::support::live::devices::{Door, Doorway, Polled, live};
use crate::support::live::{FLEET, gateway_named, images, registries};

const CONTROLLERS: [&str; 2] = ["controller", "other controller"];
const GATEWAYS: [&str; 2] = ["gateway", "other gateway"];
/// A rollout that neither ends nor says what it waits for by then never will.
const PATIENCE: Duration = Duration::from_secs(3 * 3600);
/// How often gateways tell who is there.
const PRESENCE: Duration = Duration::from_secs(30);
/// So long nothing may be written.
pub const QUIET: Duration = Duration::from_secs(600);

/// Everything that is left of a run: what the API server stored and was asked, what its clients were told, and what
/// devices were answered.
pub struct History {
    pub seed: u64,
    pub begin: Instant,
    pub log: Vec<Revision>,
    pub requests: Vec<Seen>,
    pub told: Vec<Told>,
    pub polls: Vec<Polled>,
    pub personalities: BTreeMap<String, Personality>,
    pub trespasses: Vec<people::Trespass>,
    /// When two controllers ran.
    pub two_controllers: Vec<(Instant, Instant)>,
    /// Whether some clock was off at some time, by how much at most.
    pub worst_clock: i64,
    pub faults: BTreeMap<Kind, u64>,
    pub turns: BTreeMap<&'static str, u64>,
    /// Since when everything is calm, and since when it has to be quiet; `None` where it never came to that.
    pub quiet: Option<Instant>,
    pub end: Instant,
}

struct Part {
    name: &'static str,
    task: JoinHandle<()>,
    shutdown: Shutdown,
}

pub struct Stage {
    pub api: Arc<ApiServer>,
    pub begin: Instant,
    pub door: Door,
    pub identities: Vec<Identity>,
    offsets: [Arc<AtomicI64>; 5],
    clocks: Vec<Clock>,
    controllers: [Option<Part>; 2],
    gateways: Vec<Option<Part>>,
    devices: Vec<(Personality, JoinHandle<()>)>,
    two_controllers: Vec<(Instant, Instant)>,
    worst_clock: i64,
    counts: BTreeMap<&'static str, u64>,
}

/// Lives through it.
pub async fn run(scenario: &Scenario) -> History {
    let (mut stage, weather) = Stage::set(scenario).await;
    stage.storm(scenario).await;
    let quiet = stage.calm(scenario).await;
    for part in stage.controllers.iter().chain(&stage.gateways).flatten() {
        part.task.abort();
    }
    let personality = |(identity, (personality, _)): (&Identity, &(Personality, JoinHandle<()>))| {
        (identity.uuid.to_string(), *personality)
    };
    History {
        seed: scenario.seed,
        begin: stage.begin,
        log: stage.api.log(),
        requests: stage.api.requests(),
        told: stage.api.told(),
        polls: std::mem::take(&mut *stage.door.polls.lock()),
        personalities: stage.identities.iter().zip(&stage.devices).map(personality).collect(),
        trespasses: people::TRESPASSES.with_borrow_mut(std::mem::take),
        two_controllers: stage.two_controllers,
        worst_clock: stage.worst_clock,
        faults: weather.counts.lock().clone(),
        turns: stage.counts,
        quiet,
        end: Instant::now(),
    }
}

/// Virtual time, off by what the offset says.
fn clock(seed: u64, start: Instant, offset: Arc<AtomicI64>) -> Clock {
    let begin: Timestamp = "2026-11-02T08:00:00Z".parse().unwrap();
    let draws = AtomicI64::new(0);
    let now = move || {
        begin
            + SignedDuration::try_from(start.elapsed()).unwrap()
            + SignedDuration::from_secs(offset.load(Ordering::SeqCst))
    };
    Clock::new(now).with_chance(move || {
        let draw = draws.fetch_add(1, Ordering::SeqCst);
        (roll(seed, ("chance", draw)) % 1_000_000) as f64 / 1e6
    })
}

impl Stage {
    async fn set(scenario: &Scenario) -> (Self, Arc<Passing>) {
        let seed = scenario.seed;
        fastrand::seed(seed);
        let start = Instant::now();
        let offsets: [Arc<AtomicI64>; 5] = std::array::from_fn(|_| Arc::default());
        let clocks: Vec<Clock> = offsets.iter().map(|offset| clock(seed, start, offset.clone())).collect();
        let api = ApiServer::new(clocks[4].clone());
        let identities: Vec<Identity> = (0..scenario.personalities.len())
            .map(|index| Identity::derive(seed, FLEET, u32::try_from(index).unwrap()))
            .collect();
        let world = Arc::new(images());
        let source = ImageSource { written: "acme/web:v1", parsed: &world.base };
        for identity in &identities {
            api.put("devices", &serde_json::to_value(device(identity, FLEET, &source)).unwrap());
        }
        // Long enough for every device to have reported.
        let begin = start + Duration::from_secs(90);
        let weather = Passing::new(scenario.weather.clone(), begin);
        drop(api.set_network(weather.clone()));
        let door: Door = Arc::new(Doorway::default());
        let passing = weather.clone();
        *door.choice.lock() = Some(Box::new(move |device| {
            let which = roll(seed, ("gateway", device, Instant::now() - start)) % 2;
            (usize::try_from(which).unwrap(), passing.answer_arrives(device))
        }));
        let sightings = Arc::default();
        let mut devices = Vec::new();
        for (identity, personality) in identities.iter().zip(&scenario.personalities) {
            let rng = Identity::rng(seed, identity.index);
            let agent = Agent::new(Duration::from_secs(2), identity.clone(), *personality, world.clone(), rng);
            let task = tokio::spawn(live(agent, start, door.clone(), Arc::clone(&sightings)));
            devices.push((*personality, task));
        }
        let mut stage = Self {
            api,
            begin,
            door,
            identities,
            offsets,
            clocks,
            controllers: [None, None],
            gateways: (0..scenario.gateways).map(|_| None).collect(),
            devices,
            two_controllers: Vec::new(),
            worst_clock: 0,
            counts: BTreeMap::new(),
        };
        for index in 0..scenario.gateways {
            stage.start_gateway(index);
        }
        stage.start_controller(0);
        people::declare_policy(&stage.api, &scenario.policy).await;
        sleep_until(begin).await;
        (stage, weather)
    }

    fn start_controller(&mut self, index: usize) {
        let shutdown = Shutdown::new();
        let name = CONTROLLERS[index];
        let (client, metrics) = (self.api.client(name), ControllerMetrics::default());
        let context = Context::new(
            client,
            Some(NAMESPACE.into()),
            metrics,
            self.clocks[index].clone(),
            registries(),
            Probes::default(),
        );
        let run = controller::run(context, shutdown.clone());
        let task = tokio::spawn(async move { run.await.unwrap() });
        self.controllers[index] = Some(Part { name, task, shutdown });
        if index == 1 {
            self.two_controllers.push((Instant::now(), Instant::now() + PATIENCE));
        }
    }

    fn kill_controller(&mut self, index: usize) {
        if let Some(part) = self.controllers[index].take() {
            part.task.abort();
            if index == 1
                && let Some((_, until)) = self.two_controllers.last_mut()
            {
                *until = Instant::now();
            }
        }
    }

    fn start_gateway(&mut self, index: usize) {
        let name = GATEWAYS[index];
        let ((task, shutdown), router) = gateway_named(&self.api, &self.clocks[2 + index], name, PRESENCE);
        self.gateways[index] = Some(Part { name, task, shutdown });
        let mut routers = self.door.routers.lock();
        routers.retain(|(other, _)| *other != name);
        routers.push((name, router));
        routers.sort_by_key(|(name, _)| *name);
    }

    fn kill_gateway(&mut self, index: usize) {
        if let Some(part) = self.gateways.get_mut(index).and_then(Option::take) {
            part.task.abort();
            self.door.routers.lock().retain(|(name, _)| *name != part.name);
        }
    }

    fn count(&mut self, what: &'static str) {
        *self.counts.entry(what).or_default() += 1;
    }

    /// Everything that the seed has in store, in its order.
    async fn storm(&mut self, scenario: &Scenario) {
        #[derive(Clone, Debug)]
        enum Event {
            Push(usize, Option<usize>),
            Act(usize),
            Turn(usize),
            Undo(Undo),
        }
        let mut agenda: BTreeMap<(Duration, usize), Event> = BTreeMap::new();
        let add = |agenda: &mut BTreeMap<_, _>, at: Duration, event| {
            let number = agenda.len();
            agenda.insert((at, number), event);
        };
        for (number, push) in scenario.pushes.iter().enumerate() {
            if push.deliveries.is_empty() {
                add(&mut agenda, push.at, Event::Push(number, None));
            }
            for (time, at) in push.deliveries.iter().enumerate() {
                add(&mut agenda, *at, Event::Push(number, Some(time)));
            }
        }
        for (number, (at, _)) in scenario.acts.iter().enumerate() {
            add(&mut agenda, *at, Event::Act(number));
        }
        for (number, (at, _)) in scenario.turns.iter().enumerate() {
            add(&mut agenda, *at, Event::Turn(number));
        }
        add(&mut agenda, STORM, Event::Undo(Undo::Nothing));
        while let Some(((at, _), event)) = agenda.pop_first() {
            sleep_until(self.begin + at).await;
            match event {
                Event::Push(number, Some(time)) => {
                    people::deliver(&self.api, self.clocks[3].clone(), scenario.pushes[number].clone(), time);
                }
                Event::Push(number, None) => people::create(&self.api, &scenario.pushes[number]).await,
                Event::Act(number) => people::act(self, &scenario.acts[number].1).await,
                Event::Turn(number) => {
                    if let Some((after, undo)) = self.turn(&scenario.turns[number].1) {
                        let number = 1000 + agenda.len();
                        agenda.insert((at + after, number), Event::Undo(undo));
                    }
                }
                Event::Undo(undo) => self.undo(undo),
            }
        }
    }

    fn turn(&mut self, turn: &Turn) -> Option<(Duration, Undo)> {
        match turn {
            Turn::KillController => {
                self.count("controller killed");
                self.kill_controller(0);
                Some((Duration::from_secs(3), Undo::Controller))
            }
            Turn::StopController => {
                self.count("controller stopped");
                // What it has in hand it finishes.
                if let Some(part) = self.controllers[0].take() {
                    part.shutdown.request();
                }
                Some((Duration::from_secs(1), Undo::Controller))
            }
            Turn::SecondController(time) => {
                if self.controllers[1].is_some() {
                    return None;
                }
                self.count("second controller");
                self.start_controller(1);
                Some((*time, Undo::SecondController))
            }
            Turn::RestartGateway(index) => {
                self.count("gateway restarted");
                let index = index % self.gateways.len();
                self.kill_gateway(index);
                Some((Duration::from_secs(5), Undo::Gateway(index)))
            }
            Turn::ClockJump(part, off, time) => {
                self.count("clock jumped");
                let part = part % 5;
                self.worst_clock = self.worst_clock.max(off.abs());
                self.offsets[part].store(*off, Ordering::SeqCst);
                Some((*time, Undo::Clock(part)))
            }
            Turn::Compact => {
                self.count("past forgotten");
                self.api.compact();
                None
            }
            Turn::Down(time) => {
                self.count("API server down");
                self.api.set_down(true);
                Some((*time, Undo::Down))
            }
        }
    }

    fn undo(&mut self, undo: Undo) {
        match undo {
            Undo::Nothing => {}
            Undo::Controller if self.controllers[0].is_none() => self.start_controller(0),
            Undo::Controller => {}
            Undo::SecondController => self.kill_controller(1),
            Undo::Gateway(index) if self.gateways[index].is_none() => self.start_gateway(index),
            Undo::Gateway(_) => {}
            Undo::Clock(part) => self.offsets[part].store(0, Ordering::SeqCst),
            Undo::Down => self.api.set_down(false),
        }
    }

    /// People resume what they paused, noisy devices fall silent, and everybody waits. Since when it is quiet, if it ever is.
    async fn calm(&mut self, scenario: &Scenario) -> Option<Instant> {
        people::resume_all(&self.api).await;
        for (personality, task) in &self.devices {
            if matches!(personality, Personality::Flaps | Personality::Offline | Personality::Oversize) {
                task.abort();
            }
        }
        let offline: kube::core::Duration = scenario.policy["offlineAfter"].as_str().unwrap().parse().unwrap();
        // Those that fell silent count as away by then.
        sleep(Duration::from(offline) + Duration::from_secs(300)).await;
        let give_up = Instant::now() + PATIENCE;
        let settled = |stage: &Self| stage.rollouts().iter().all(|rollout| is_settled(rollout).is_ok());
        while Instant::now() < give_up {
            if settled(self) {
                sleep(Duration::from_secs(120)).await;
                // It may have been the moment between the end of one and the start of the next.
                if settled(self) {
                    let quiet = Instant::now();
                    sleep(QUIET).await;
                    return Some(quiet);
                }
            }
            sleep(Duration::from_secs(10)).await;
        }
        None
    }

    /// Rollouts by name.
    pub fn rollouts(&self) -> Vec<Arc<Value>> {
        self.api.list("imagerollouts")
    }
}

#[derive(Clone, Copy, Debug)]
enum Undo {
    Nothing,
    Controller,
    SecondController,
    Gateway(usize),
    Clock(usize),
    Down,
}
