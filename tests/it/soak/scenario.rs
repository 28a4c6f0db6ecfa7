//! What a seed stands for: fleet, policy, pushes, what people do, and what goes wrong.

use std::time::Duration;

use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{RngExt as _, SeedableRng as _};
use serde_json::{Value, json};
use tranche::simulate::Personality;

use super::weather::{Weather, seconds};

/// Everything begins and goes wrong within this time; then it gets calm.
pub const STORM: Duration = Duration::from_secs(15 * 60);

#[derive(Debug)]
pub struct Scenario {
    pub seed: u64,
    pub personalities: Vec<Personality>,
    /// `spec` of the policy.
    pub policy: Value,
    pub pushes: Vec<Push>,
    pub acts: Vec<(Duration, Act)>,
    pub turns: Vec<(Duration, Turn)>,
    pub gateways: usize,
    pub weather: Weather,
}

/// An image that somebody wants out.
#[derive(Clone, Debug)]
pub struct Push {
    pub at: Duration,
    pub tag: String,
    /// When a registry tells of it; a person makes the rollout otherwise.
    pub deliveries: Vec<Duration>,
}

/// What a person does. Rollouts and devices are chosen by number among those that are there then.
#[derive(Clone, Debug)]
pub enum Act {
    Pause(usize),
    Resume(usize),
    Acknowledge(usize),
    Approve(usize),
    Cancel(usize),
    RollBack(usize),
    RollBackDevice(usize, usize),
    Delete(usize),
    Hold(usize, bool),
    /// Somebody declares another image for a device.
    Declare(usize, &'static str),
    /// A device asks with its own key for another one's state, and reports on its behalf.
    Trespass(usize, usize),
}

/// What happens to the parts.
#[derive(Clone, Debug)]
pub enum Turn {
    KillController,
    StopController,
    /// A second controller runs beside the first for so long.
    SecondController(Duration),
    RestartGateway(usize),
    /// Its clock is that many seconds off for so long. Parts: controllers, gateways, API server.
    ClockJump(usize, i64, Duration),
    /// The API server forgets the past.
    Compact,
    /// The API server refuses everything for so long.
    Down(Duration),
}

impl Scenario {
    pub fn draw(seed: u64) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let personalities = fleet(&mut rng);
        let policy = policy(&mut rng, personalities.len());
        let pushes = pushes(&mut rng);
        let acts = acts(&mut rng, &pushes);
        let turns = turns(&mut rng, &pushes);
        let gateways = if rng.random_ratio(1, 3) { 2 } else { 1 };
        let weather = Weather::draw(seed, &mut rng);
        Self { seed, personalities, policy, pushes, acts, turns, gateways, weather }
    }
}

/// Healthy devices, and more or fewer of all others among them.
fn fleet(rng: &mut StdRng) -> Vec<Personality> {
    use Personality::{Dead, Fails, Flaps, Healthy, Lies, Offline, Oversize, Replays, SlowPull};
    let odd = [SlowPull, Fails, Flaps, Dead, Offline, Lies, Replays];
    let size = rng.random_range(5..=40);
    let share = *[0.0, 0.1, 0.3, 0.6].choose(rng).unwrap();
    let one = |rng: &mut StdRng| if rng.random_bool(share) { *odd.choose(rng).unwrap() } else { Healthy };
    let mut fleet: Vec<Personality> = (0..size).map(|_| one(rng)).collect();
    // One is enough: most of a run's time would go into its reports.
    if rng.random_ratio(1, 4) {
        fleet[0] = Oversize;
    }
    fleet
}

fn policy(rng: &mut StdRng, devices: usize) -> Value {
    let delay = *["0s", "20s", "90s"].choose(rng).unwrap();
    let sizes: &[&str] =
        [&["100%"][..], &["50%", "100%"], &["10%", "50%", "100%"], &["20%", "40%", "60%", "100%"]].choose(rng).unwrap();
    let batch = |size: &&str| json!({"size": size});
    let mut batches: Vec<Value> = sizes.iter().map(batch).collect();
    if batches.len() > 1 && rng.random_ratio(1, 4) {
        batches[0]["size"] = json!(rng.random_range(1..=3));
    }
    if rng.random_ratio(1, 4) {
        let index = rng.random_range(0..batches.len());
        batches[index]["approval"] = json!(true);
    }
    let type_ = *["Staged", "Staged", "Staged", "Staged", "Manual", "Auto", "Scheduled"].choose(rng).unwrap();
    let mut strategy = json!({"type": type_, "batchDelay": delay});
    if type_ != "Auto" {
        strategy["batches"] = json!(batches);
    }
    if rng.random_bool(0.6) {
        strategy["maxConcurrent"] = json!(rng.random_range(1..=devices.div_ceil(2)));
    }
    if type_ == "Scheduled" {
        // Everything begins at eight. Open now and then, and from some time in the storm on for good.
        let (start, end) = (rng.random_range(0..5), rng.random_range(6..11));
        strategy["windows"] = json!([
            {"start": format!("08:{start:02}"), "end": format!("08:{end:02}")},
            {"start": "08:14", "end": "07:59"},
        ]);
    }
    let mut failure = json!({
        "maxFailureRate": *["0%", "20%", "50%", "100%"].choose(rng).unwrap(),
        "action": *["Pause", "RollBackBatch", "RollBackAll"].choose(rng).unwrap(),
        "rollBackFailedDevices": rng.random_bool(0.7),
    });
    if rng.random_ratio(1, 5) {
        failure["minSample"] = json!(rng.random_range(1..=5));
    }
    json!({
        "image": {"pattern": "acme/web:*", "offer": "Tag"},
        "strategy": strategy,
        "failurePolicy": failure,
        "updateDeadline": *["60s", "120s", "240s"].choose(rng).unwrap(),
        "offlineAfter": *["60s", "180s", "600s"].choose(rng).unwrap(),
        "onNewImage": *["Replace", "Replace", "Queue", "Ignore"].choose(rng).unwrap(),
        "historyLimit": *[1, 10].choose(rng).unwrap(),
    })
}

fn pushes(rng: &mut StdRng) -> Vec<Push> {
    let mut at = seconds(rng, 1..30);
    let one = |(number, rng): (usize, &mut StdRng)| {
        let tag = if rng.random_ratio(1, 4) { format!("bad{number}") } else { format!("v{}", number + 2) };
        let mut told = at;
        let mut deliveries = Vec::new();
        if rng.random_bool(0.7) {
            for _ in 0..rng.random_range(1..=3) {
                deliveries.push(told);
                told += seconds(rng, 0..20);
            }
        }
        let push = Push { at, tag, deliveries };
        at += seconds(rng, 1..500);
        push
    };
    let count = rng.random_range(1..=3);
    let mut one = one;
    (0..count).map(|number| one((number, &mut *rng))).collect()
}

/// Some time in the storm, as a rule while something is rolled out.
fn moment(rng: &mut StdRng, pushes: &[Push], latest: u64) -> Duration {
    if rng.random_ratio(1, 3) {
        return seconds(rng, 0..latest);
    }
    let after = pushes.choose(rng).unwrap().at + seconds(rng, 0..200);
    after.min(Duration::from_secs(latest))
}

fn acts(rng: &mut StdRng, pushes: &[Push]) -> Vec<(Duration, Act)> {
    let count = rng.random_range(0..10);
    let mut acts: Vec<(Duration, Act)> = (0..count)
        .map(|_| {
            let (one, other) = (rng.random_range(0..1000), rng.random_range(0..1000));
            let act = match rng.random_range(0..20) {
                0..=2 => Act::Pause(one),
                3..=5 => Act::Resume(one),
                6 | 7 => Act::Acknowledge(one),
                8 | 9 => Act::Approve(one),
                10 => Act::Cancel(one),
                11 => Act::RollBack(one),
                12 => Act::RollBackDevice(one, other),
                13 => Act::Delete(one),
                14 | 15 => Act::Hold(one, true),
                16 => Act::Hold(one, false),
                17 | 18 => Act::Declare(one, ["acme/web:v2", "acme/web:v9", "acme/web:v1"][other % 3]),
                _ => Act::Trespass(one, other),
            };
            (moment(rng, pushes, STORM.as_secs()), act)
        })
        .collect();
    acts.sort_by_key(|(at, _)| *at);
    acts
}

fn turns(rng: &mut StdRng, pushes: &[Push]) -> Vec<(Duration, Turn)> {
    let count = rng.random_range(0..7);
    let mut turns: Vec<(Duration, Turn)> = (0..count)
        .map(|_| {
            let turn = match rng.random_range(0..13) {
                0 | 1 => Turn::KillController,
                2 => Turn::StopController,
                3 | 4 => Turn::SecondController(seconds(rng, 10..400)),
                5 | 6 => Turn::RestartGateway(rng.random_range(0..2)),
                7..=9 => {
                    let off = *[-600, -90, -5, -2, -1, 1, 2, 5, 90, 600].choose(rng).unwrap();
                    Turn::ClockJump(rng.random_range(0..5), off, seconds(rng, 10..400))
                }
                10 | 11 => Turn::Compact,
                _ => Turn::Down(seconds(rng, 1..200)),
            };
            (moment(rng, pushes, STORM.as_secs() - 400), turn)
        })
        .collect();
    turns.sort_by_key(|(at, _)| *at);
    turns
}
