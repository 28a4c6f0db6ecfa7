//! What goes wrong on the way to the API server and back, and for how long: drawn from the seed, decided message by message.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use parking_lot::Mutex;
use rand::RngExt as _;
use rand::rngs::StdRng;
use tokio::time::Instant;

use super::dice::{happens, roll};
use super::scenario::STORM;
use crate::support::apiserver::faults::{Fault, Seen};
use crate::support::apiserver::network::{How, Network, Passage, Way};
use crate::support::apiserver::store::Revision;

/// The longest that a single event of a watch is held back.
pub const LONGEST_DELAY: Duration = Duration::from_secs(20);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    Conflict,
    TooMany,
    ServerError,
    Unavailable,
    GatewayTimeout,
    /// Done, and answered with 500 or 504.
    Lie,
    CutBefore,
    /// Done, and the answer is lost.
    CutAfter,
    Slow,
    /// Whatever is sent is held up until it is over, and then cut.
    Hang,
    LoseEvents,
    DelayEvents,
    RepeatEvents,
    ReorderEvents,
    /// Between devices and gateways: answers are lost.
    LoseAnswers,
}

const KINDS: [Kind; 15] = [
    Kind::Conflict,
    Kind::TooMany,
    Kind::ServerError,
    Kind::Unavailable,
    Kind::GatewayTimeout,
    Kind::Lie,
    Kind::CutBefore,
    Kind::CutAfter,
    Kind::Slow,
    Kind::Hang,
    Kind::LoseEvents,
    Kind::DelayEvents,
    Kind::RepeatEvents,
    Kind::ReorderEvents,
    Kind::LoseAnswers,
];

/// Some time in which one thing goes wrong, for some.
#[derive(Clone, Debug)]
pub struct Episode {
    pub kind: Kind,
    pub time: Range<Duration>,
    /// Of the clients, one bit each; see [`number`].
    pub clients: u8,
    pub in_a_thousand: u64,
}

#[derive(Clone, Debug, Default)]
pub struct Weather {
    pub seed: u64,
    pub episodes: Vec<Episode>,
}

/// Some whole number of milliseconds.
pub fn seconds(rng: &mut StdRng, range: Range<u64>) -> Duration {
    Duration::from_millis(rng.random_range(range.start * 1000..range.end * 1000))
}

fn number(actor: &str) -> u8 {
    match actor {
        "controller" => 0,
        "other controller" => 1,
        "gateway" => 2,
        "other gateway" => 3,
        "registry" => 4,
        _ => 7,
    }
}

impl Weather {
    pub fn draw(seed: u64, rng: &mut StdRng) -> Self {
        let count = rng.random_range(0..10);
        let episode = |_| {
            let kind = KINDS[rng.random_range(0..KINDS.len())];
            let from = seconds(rng, 0..STORM.as_secs() - 300);
            let longest = if kind == Kind::Hang { 60 } else { 300 };
            Episode {
                kind,
                time: from..from + seconds(rng, 1..longest),
                clients: if rng.random_bool(0.5) { 0x1f } else { 1 << rng.random_range(0..5) },
                in_a_thousand: [30, 200, 600, 1000][rng.random_range(0..4)],
            }
        };
        Self { seed, episodes: (0..count).map(episode).collect() }
    }
}

/// The weather as it passes.
pub struct Passing {
    weather: Weather,
    begin: Instant,
    /// How often each message was sent.
    sent: Mutex<BTreeMap<u64, u64>>,
    counted: Mutex<BTreeSet<u64>>,
    pub counts: Mutex<BTreeMap<Kind, u64>>,
}

impl Passing {
    pub fn new(weather: Weather, begin: Instant) -> Arc<Self> {
        Arc::new(Self { weather, begin, sent: Mutex::default(), counted: Mutex::default(), counts: Mutex::default() })
    }

    /// Episodes that concern a client at that moment.
    fn at(&self, at: Instant, client: u8) -> impl Iterator<Item = &Episode> {
        let time = at.saturating_duration_since(self.begin);
        let begun = at >= self.begin;
        self.weather.episodes.iter().filter(move |episode| {
            begun && episode.time.contains(&time) && client < 7 && episode.clients >> client & 1 == 1
        })
    }

    fn count(&self, kind: Kind) {
        *self.counts.lock().entry(kind).or_default() += 1;
    }

    /// Whether the answer of a gateway reaches the device.
    pub fn answer_arrives(&self, device: &str) -> bool {
        let now = Instant::now() - self.begin;
        let lost = self.at(Instant::now(), 2).any(|episode| {
            episode.kind == Kind::LoseAnswers
                && happens(self.weather.seed, ("answer", device, now), episode.in_a_thousand / 2)
        });
        if lost {
            self.count(Kind::LoseAnswers);
        }
        !lost
    }

    fn fault(&self, seen: &Seen, key: u64, way: &mut Way) {
        let seed = self.weather.seed;
        for episode in self.at(seen.at, number(seen.actor)) {
            let kind = episode.kind;
            // The way is long, and only the first of several mishaps counts.
            if way.fault.is_some() || !happens(seed, (kind, key), episode.in_a_thousand) {
                continue;
            }
            let refuse = |code| Some(Fault::Refuse(code));
            match kind {
                Kind::Conflict if seen.is_write() => way.fault = refuse(StatusCode::CONFLICT),
                Kind::TooMany => way.fault = refuse(StatusCode::TOO_MANY_REQUESTS),
                Kind::ServerError => way.fault = refuse(StatusCode::INTERNAL_SERVER_ERROR),
                Kind::Unavailable => way.fault = refuse(StatusCode::SERVICE_UNAVAILABLE),
                Kind::GatewayTimeout => way.fault = refuse(StatusCode::GATEWAY_TIMEOUT),
                Kind::Lie if seen.is_write() => {
                    let codes = [StatusCode::INTERNAL_SERVER_ERROR, StatusCode::GATEWAY_TIMEOUT];
                    way.fault = Some(Fault::LieAfter(codes[usize::from(key.is_multiple_of(2))]));
                }
                Kind::CutBefore => way.fault = Some(Fault::CutBefore),
                Kind::CutAfter => way.fault = Some(Fault::CutAfter),
                Kind::Slow => {
                    way.there += Duration::from_millis(roll(seed, ("slow", key)) % 4000);
                    way.back += Duration::from_millis(roll(seed, ("slow back", key)) % 4000);
                }
                Kind::Hang => {
                    let left = (self.begin + episode.time.end).saturating_duration_since(Instant::now());
                    let done = key.is_multiple_of(2);
                    way.fault = Some(if done { Fault::CutAfter } else { Fault::CutBefore });
                    *(if done { &mut way.back } else { &mut way.there }) += left;
                }
                Kind::Conflict
                | Kind::Lie
                | Kind::LoseEvents
                | Kind::DelayEvents
                | Kind::RepeatEvents
                | Kind::ReorderEvents
                | Kind::LoseAnswers => continue,
            }
            self.count(kind);
        }
    }
}

/// What a request says, apart from what is drawn anew or read off the wall each time.
fn words(seen: &Seen) -> (String, String) {
    if seen.is_of("events") {
        let body = &seen.body;
        return ("events".into(), format!("{}{}{}", body["regarding"]["name"], body["reason"], body["note"]));
    }
    (format!("{} {}?{}", seen.method, seen.path, seen.query), seen.body.to_string())
}

impl Network for Passing {
    fn request(&self, seen: &Seen) -> Way {
        let seed = self.weather.seed;
        let words = roll(seed, (seen.actor, words(seen)));
        let time = {
            let mut sent = self.sent.lock();
            let sent = sent.entry(words).or_default();
            *sent += 1;
            *sent
        };
        let key = roll(seed, (words, time));
        let there = Duration::from_millis(2 + key % 13);
        let back = Duration::from_millis(1 + key / 13 % 13);
        let mut way = Way { there, back, fault: None, key };
        self.fault(seen, key, &mut way);
        way
    }

    fn event(&self, actor: &'static str, watch: u64, revision: &Revision) -> Passage {
        let seed = self.weather.seed;
        let words = (actor, revision.key.0.as_str(), watch, revision.version);
        let mut passage = Passage { after: Duration::from_millis(2 + roll(seed, words) % 9), how: How::Once };
        for episode in self.at(revision.at, number(actor)) {
            // Some get through, else a watch that is set up again and again would look alive and tell nothing.
            if !happens(seed, (episode.kind, words), episode.in_a_thousand.min(600)) {
                continue;
            }
            match episode.kind {
                Kind::LoseEvents => passage.how = How::Lost,
                Kind::RepeatEvents => passage.how = How::Twice,
                Kind::ReorderEvents => passage.how = How::Swapped,
                Kind::DelayEvents => {
                    let longest = u64::try_from(LONGEST_DELAY.as_millis()).unwrap();
                    passage.after += Duration::from_millis(roll(seed, ("late", words)) % longest);
                }
                Kind::Conflict
                | Kind::TooMany
                | Kind::ServerError
                | Kind::Unavailable
                | Kind::GatewayTimeout
                | Kind::Lie
                | Kind::CutBefore
                | Kind::CutAfter
                | Kind::Slow
                | Kind::Hang
                | Kind::LoseAnswers => continue,
            }
            // A watch asks again and again until it is time.
            if self.counted.lock().insert(roll(seed, (episode.kind, words))) {
                self.count(episode.kind);
            }
        }
        passage
    }
}
