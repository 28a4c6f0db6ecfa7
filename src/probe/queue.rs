//! What is looked at next. Pure but for the instants it is given: holds no task, timer or connection.
//!
//! A check that waits is an entry here and nothing else. It waits for its time, then in line for one of the places; where
//! its host has all of its places taken, it stands aside and holds up no other host.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::hash::Hash;
use std::sync::Arc;

use tokio::time::Instant;

use super::schedule::Tally;

/// What became of adding a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Added {
    /// It will be looked at.
    New,
    /// It is there already, and goes on as it was.
    Known,
    /// There are as many as there may be. Add it again later.
    Full,
}

/// How many at once.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub(super) checks: usize,
    pub(super) at_once: usize,
    pub(super) per_host: usize,
}

struct Entry<K, J> {
    key: K,
    job: Arc<J>,
    begun: Option<Instant>,
    attempts: u32,
    tally: Tally,
    place: Place,
}

#[derive(Clone, Copy)]
enum Place {
    /// Waits for this instant.
    Due(Instant),
    /// In line.
    Ready,
    /// Is looked at now.
    Running,
}

#[derive(Default)]
struct HostState {
    running: usize,
    waiting: VecDeque<u64>,
}

/// A look that begins now.
pub(super) struct Start<J> {
    pub(super) id: u64,
    pub(super) job: Arc<J>,
    pub(super) host: Option<Box<str>>,
    /// From 1.
    pub(super) attempt: u32,
}

/// What a look counts on.
pub(super) struct Looked<'a, J> {
    pub(super) job: &'a Arc<J>,
    pub(super) tally: &'a mut Tally,
}

/// A check that is over.
pub(super) struct Over<K> {
    pub(super) key: K,
    pub(super) attempts: u32,
    pub(super) begun: Option<Instant>,
}

/// Checks that wait or run.
pub(super) struct Queue<K, J> {
    limits: Limits,
    keys: HashMap<K, u64>,
    entries: HashMap<u64, Entry<K, J>>,
    due: BTreeSet<(Instant, u64)>,
    /// May name entries that are gone, as may the lines of hosts. With the host that a place was handed on for: who is gone
    /// can't take it, and the next of that host must.
    ready: VecDeque<(u64, Option<Box<str>>)>,
    hosts: HashMap<Box<str>, HostState>,
    running: usize,
    next: u64,
    /// Looks whose check was removed, to be broken off.
    cancelled: Vec<u64>,
}

impl<K: Clone + Eq + Hash, J> Queue<K, J> {
    pub(super) fn new(limits: Limits) -> Self {
        Self {
            limits,
            keys: HashMap::new(),
            entries: HashMap::new(),
            due: BTreeSet::new(),
            ready: VecDeque::new(),
            hosts: HashMap::new(),
            running: 0,
            next: 0,
            cancelled: Vec::new(),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn contains(&self, key: &K) -> bool {
        self.keys.contains_key(key)
    }

    pub(super) fn add(&mut self, key: K, job: Arc<J>, at: Instant) -> Added {
        if self.keys.contains_key(&key) {
            return Added::Known;
        }
        if self.entries.len() >= self.limits.checks {
            return Added::Full;
        }
        let id = self.next;
        self.next += 1;
        self.keys.insert(key.clone(), id);
        let (place, tally) = (Place::Due(at), Tally::default());
        self.entries.insert(id, Entry { key, job, begun: None, attempts: 0, tally, place });
        self.due.insert((at, id));
        Added::New
    }

    /// Whether it was there. A look at it is broken off; its place is free once it has ended.
    pub(super) fn remove(&mut self, key: &K) -> bool {
        let Some(id) = self.keys.remove(key) else { return false };
        match self.entries.remove(&id).map(|entry| entry.place) {
            Some(Place::Due(at)) => drop(self.due.remove(&(at, id))),
            Some(Place::Running) => self.cancelled.push(id),
            Some(Place::Ready) | None => {}
        }
        true
    }

    pub(super) fn take_cancelled(&mut self) -> Vec<u64> {
        std::mem::take(&mut self.cancelled)
    }

    /// Puts in line what is due.
    pub(super) fn promote(&mut self, now: Instant) {
        while let Some((at, id)) = self.due.first().copied().filter(|(at, _)| *at <= now) {
            self.due.remove(&(at, id));
            if let Some(entry) = self.entries.get_mut(&id) {
                entry.place = Place::Ready;
                self.ready.push_back((id, None));
            }
        }
    }

    pub(super) fn next_due(&self) -> Option<Instant> {
        self.due.first().map(|(at, _)| *at)
    }

    /// The next look, if there is a place for it.
    pub(super) fn start(&mut self, now: Instant, host_of: impl Fn(&J) -> Option<Box<str>>) -> Option<Start<J>> {
        while self.running < self.limits.at_once {
            let (id, handed) = self.ready.pop_front()?;
            let Some(entry) = self.entries.get_mut(&id) else {
                if let Some(host) = handed {
                    self.hand_on(&host);
                }
                continue;
            };
            let host = host_of(&entry.job);
            if let Some(host) = &host {
                let state = self.hosts.entry(host.clone()).or_default();
                if state.running >= self.limits.per_host {
                    state.waiting.push_back(id);
                    continue;
                }
                state.running += 1;
            }
            self.running += 1;
            entry.place = Place::Running;
            entry.attempts += 1;
            entry.begun.get_or_insert(now);
            return Some(Start { id, job: Arc::clone(&entry.job), host, attempt: entry.attempts });
        }
        None
    }

    /// A look has ended, in whatever way: its place is free. The next of its host takes it.
    pub(super) fn ended(&mut self, host: Option<&str>) {
        self.running -= 1;
        let Some((host, state)) = host.and_then(|host| Some((host, self.hosts.get_mut(host)?))) else { return };
        state.running -= 1;
        self.hand_on(host);
    }

    /// Puts the next of a host's line in front of all others, and forgets a host that has no more.
    fn hand_on(&mut self, host: &str) {
        let Some(state) = self.hosts.get_mut(host) else { return };
        while let Some(id) = state.waiting.pop_front() {
            if self.entries.contains_key(&id) {
                self.ready.push_front((id, Some(host.into())));
                break;
            }
        }
        if state.running == 0 && state.waiting.is_empty() {
            self.hosts.remove(host);
        }
    }

    /// The check that a look was of, unless it was removed.
    pub(super) fn looked(&mut self, id: u64) -> Option<Looked<'_, J>> {
        self.entries.get_mut(&id).map(|Entry { job, tally, .. }| Looked { job, tally })
    }

    /// It is looked at again.
    pub(super) fn again(&mut self, id: u64, at: Instant) {
        if let Some(entry) = self.entries.get_mut(&id) {
            entry.place = Place::Due(at);
            self.due.insert((at, id));
        }
    }

    /// It is over.
    pub(super) fn over(&mut self, id: u64) -> Option<Over<K>> {
        let Entry { key, attempts, begun, .. } = self.entries.remove(&id)?;
        self.keys.remove(&key);
        Some(Over { key, attempts, begun })
    }
}

#[cfg(test)]
#[path = "queue_tests.rs"]
mod tests;
