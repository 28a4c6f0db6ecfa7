//! When a device reports, and what: changes at once, nothing while nothing changes, and what could not be delivered
//! later on, stripped. Pure.

use std::collections::VecDeque;
use std::time::Duration;

use rand::RngExt as _;
use rand::rngs::StdRng;
use serde_json::{Map, Value};

use super::engine::Container;
use super::personality::Personality;
use super::wire::{self, Report, Size};
use super::world::Pace;

/// How many undelivered reports a device keeps. The agent keeps 1000; nobody learns more from those than from these,
/// and 10,000 devices in one process have to share its memory.
const QUEUE: usize = 32;
/// How many old reports a replaying device remembers.
const ALBUM: usize = 4;
/// One poll in so many makes a replaying device send an old report.
const REPLAY_ONE_IN: u32 = 3;

/// What became of a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// 2xx.
    Accepted,
    /// 4xx: the same again would be refused again.
    Refused,
    /// Anything else.
    Lost,
}

/// The device that reports.
pub struct Sender<'a> {
    /// Its name.
    pub uuid: &'a str,
    /// Its position in the fleet.
    pub index: u32,
    /// The version that it last polled, applied or not.
    pub version: i64,
    /// What runs.
    pub containers: &'a [Container],
    /// Its configuration.
    pub config: &'a Map<String, Value>,
    /// What kind of device it is.
    pub personality: Personality,
}

/// A device's reporter. At most one report is under way.
#[derive(Debug, Default)]
pub struct Reporter {
    /// A live report is due; whether it says everything there is to say.
    due: Option<(Duration, bool)>,
    /// `apps` of the report under way, and whether it is live.
    sending: Option<(Value, bool)>,
    /// `apps` of reports that were not delivered, oldest first.
    queue: VecDeque<Value>,
    /// When the first of the queue may go.
    drain_at: Option<Duration>,
    /// `apps` of old reports that a replaying device sends again.
    album: VecDeque<Value>,
    sent: u32,
}

impl Reporter {
    /// A live report is due at `at`, or earlier if one was due already. `full` adds configuration and metrics, as
    /// the agent does when it starts and after each reconciliation.
    pub fn want(&mut self, at: Duration, full: bool) {
        self.due = Some(match self.due {
            Some((earlier, was_full)) => (earlier.min(at), was_full || full),
            None => (at, full),
        });
    }

    /// The server answered a poll: what waits in the queue may go now, and a replaying device may feel like it.
    pub fn connected(&mut self, now: Duration, personality: Personality, rng: &mut StdRng) {
        if personality == Personality::Replays
            && !self.album.is_empty()
            && self.queue.len() < QUEUE
            && rng.random_ratio(1, REPLAY_ONE_IN)
        {
            let old = rng.random_range(0..self.album.len());
            self.queue.push_back(self.album[old].clone());
        }
        if !self.queue.is_empty() && self.drain_at.is_none() {
            self.drain_at = Some(now);
        }
    }

    /// The server could not be reached: nothing is taken from the queue until it can.
    pub fn disconnected(&mut self) {
        self.drain_at = None;
    }

    /// Nothing is sent before `until`.
    pub fn defer(&mut self, until: Duration) {
        self.due = self.due.map(|(at, full)| (at.max(until), full));
        self.drain_at = self.drain_at.map(|at| at.max(until));
    }

    /// The report under way ended.
    pub fn delivered(&mut self, now: Duration, delivery: Delivery, pace: &Pace, personality: Personality) {
        let Some((apps, live)) = self.sending.take() else { return };
        match (delivery, live) {
            (Delivery::Accepted, true) => {
                if personality == Personality::Replays {
                    self.album.truncate(ALBUM - 1);
                    self.album.push_front(apps);
                }
            }
            (Delivery::Accepted | Delivery::Refused, false) => {}
            (Delivery::Refused | Delivery::Lost, true) => {
                self.enqueue(apps);
                self.want(now + pace.metrics(), true);
            }
            (Delivery::Lost, false) => {
                self.queue.push_front(apps);
                self.drain_at = None;
            }
        }
        if delivery != Delivery::Lost && !self.queue.is_empty() {
            self.drain_at = Some(now + pace.drain());
        }
    }

    /// When it next needs to be asked for a report.
    #[must_use]
    pub fn wake(&self) -> Option<Duration> {
        if self.sending.is_some() {
            return None;
        }
        let queued = self.drain_at.filter(|_| !self.queue.is_empty());
        self.due.map(|(at, _)| at).into_iter().chain(queued).min()
    }

    /// The report that is due at `now`, if one is.
    pub fn next(&mut self, now: Duration, sender: &Sender<'_>) -> Option<Report> {
        if self.sending.is_some() {
            return None;
        }
        if let Some((at, full)) = self.due
            && at <= now
        {
            self.due = None;
            self.sent = self.sent.wrapping_add(1);
            self.sending = Some((wire::apps(sender.containers), true));
            let size = match sender.personality {
                Personality::Oversize if self.sent % 2 == 1 => Size::Huge,
                Personality::Oversize => Size::Bomb,
                Personality::Healthy
                | Personality::SlowPull
                | Personality::Fails
                | Personality::Flaps
                | Personality::Dead
                | Personality::Offline
                | Personality::Lies
                | Personality::Replays => Size::Ordinary,
            };
            let config = full.then_some(sender.config);
            return Some(wire::live_report(sender.uuid, sender.index, sender.version, sender.containers, config, size));
        }
        if self.drain_at.is_some_and(|at| at <= now)
            && let Some(apps) = self.queue.pop_front()
        {
            self.drain_at = None;
            self.sending = Some((apps.clone(), false));
            return Some(wire::replayed_report(sender.uuid, apps));
        }
        None
    }

    fn enqueue(&mut self, apps: Value) {
        if self.queue.len() == QUEUE {
            self.queue.pop_front();
        }
        self.queue.push_back(apps);
    }
}
