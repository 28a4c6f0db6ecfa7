//! What is said of a run: its fingerprint, what went on before something broke, and what was exercised over all runs.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::hash::{DefaultHasher, Hash, Hasher as _};

use serde_json::Value;
use tokio::time::Instant;

use super::drive::History;
use super::observer::{Findings, LINES};

/// Revisions that are shown before the first that broke something, and after it.
const BEFORE: usize = 30;

/// Of everything that happened: the same for the same seed.
pub fn fingerprint(history: &History) -> u64 {
    let mut hasher = DefaultHasher::new();
    for line in lines(history) {
        line.hash(&mut hasher);
    }
    hasher.finish()
}

/// Everything that happened, a line each. Events have names and times off the wall, so only what they say counts.
pub fn lines(history: &History) -> impl Iterator<Item = String> {
    let stored = history.log.iter().map(|revision| {
        let at = revision.at - history.begin.min(revision.at);
        let object = &revision.object;
        let said = if revision.key.0 == "events" {
            format!("{} {}", object["regarding"]["name"], object["note"])
        } else {
            format!("{} {} {}", revision.key.2, object["spec"], object["status"])
        };
        format!("{at:?} {} {} {} {} {said}", revision.version, revision.by, revision.type_, revision.key.0)
    });
    let answered = history.polls.iter().map(|poll| {
        let at = poll.at - history.begin.min(poll.at);
        format!("{at:?} {} {} {} {:?} {}", poll.device, poll.gateway, poll.status, poll.images, poll.received)
    });
    stored.chain(answered)
}

/// What broke, the line that replays it, and what went on.
pub fn failure(history: &History, findings: &Findings) -> String {
    let mut text = format!("replay: make soak SEEDS=1 SEED={}\n", history.seed);
    let since = |at: Instant| match at.checked_duration_since(history.begin) {
        Some(after) => format!("{:>9.3}", after.as_secs_f64()),
        None => format!("{:>9.3}", -(history.begin - at).as_secs_f64()),
    };
    for broken in findings.broken.iter().take(8) {
        let _ = writeln!(text, "  {} s  never {}: {}", since(broken.at), broken.line, broken.what);
    }
    let first = findings.broken.first().map_or(history.end, |broken| broken.at);
    let mut trace: Vec<(Instant, String)> = Vec::new();
    for revision in
        history.log.iter().filter(|revision| !matches!(revision.key.0.as_str(), "events" | "devicepresences"))
    {
        let line = format!(
            "{} {} {} {}",
            revision.by,
            revision.type_,
            revision.version,
            brief(&revision.key.0, &revision.object)
        );
        trace.push((revision.at, line));
    }
    for poll in history.polls.iter().filter(|poll| poll.status == 200) {
        trace.push((
            poll.at,
            format!(
                "{} tells {} {:?}{}",
                poll.gateway,
                poll.device,
                poll.images,
                if poll.received { "" } else { ", lost" }
            ),
        ));
    }
    for seen in history
        .requests
        .iter()
        .filter(|seen| seen.is_write() && !seen.is_of("events") && !seen.is_of("devicepresences"))
    {
        if seen.answer.is_none_or(|answer| !answer.is_success()) {
            trace.push((
                seen.at,
                format!("{} {} {} was answered {:?} {}", seen.actor, seen.method, seen.path, seen.answer, seen.refusal),
            ));
        }
    }
    trace.sort_by_key(|(at, _)| *at);
    let at = trace.partition_point(|(at, _)| *at <= first);
    let range = at.saturating_sub(BEFORE)..(at + 5).min(trace.len());
    let _ = writeln!(text, "what went on ({:?}, faults {:?}):", history.turns, history.faults);
    for (at, line) in &trace[range] {
        let _ = writeln!(text, "  {} s  {line}", since(*at));
    }
    text
}

fn brief(plural: &str, object: &Value) -> String {
    let name = object["metadata"]["name"].as_str().unwrap_or_default();
    let (spec, status) = (&object["spec"], &object["status"]);
    match plural {
        "devices" => {
            let services = status["services"].as_array().into_iter().flatten();
            let runs: Vec<String> =
                services.map(|service| format!("{} {}", service["image"], service["status"])).collect();
            format!("{name} entry {} hold {} runs {runs:?} updates {}", spec["images"], spec["hold"], status["updates"])
        }
        "imagerollouts" => {
            let batches: Vec<String> = status["batches"]
                .as_array()
                .into_iter()
                .flatten()
                .map(|batch| {
                    format!("{}/{}/{}/{}", batch["devices"], batch["released"], batch["healthy"], batch["failed"])
                })
                .collect();
            format!(
                "{name} paused {} {} {} batch {} {batches:?} {}",
                spec["paused"], spec["desiredState"], status["phase"], status["currentBatch"], status["message"]
            )
        }
        _ => format!("{plural} {name}"),
    }
}

/// What was exercised, over many runs.
#[derive(Default)]
pub struct Sums {
    seeds: u64,
    counts: BTreeMap<String, u64>,
}

impl Sums {
    fn add(&mut self, what: String, count: u64) {
        *self.counts.entry(what).or_default() += count;
    }

    pub fn take_in(&mut self, history: &History, findings: &Findings) {
        self.seeds += 1;
        for line in LINES {
            self.add(format!("never {line}: looked at"), findings.looked.get(line).copied().unwrap_or_default());
        }
        for (gap, count) in &findings.excused {
            self.add(format!("known gap, {gap}"), *count);
        }
        for (kind, count) in &history.faults {
            self.add(format!("fault {kind:?}"), *count);
        }
        for (turn, count) in &history.turns {
            self.add(format!("turn, {turn}"), *count);
        }
        for personality in history.personalities.values() {
            self.add(format!("devices, {personality}"), 1);
        }
        self.add("polls answered".into(), history.polls.len() as u64);
        self.add("revisions".into(), history.log.len() as u64);
        let mut last: BTreeMap<&str, &Value> = BTreeMap::new();
        for revision in history.log.iter().filter(|revision| revision.key.0 == "imagerollouts") {
            last.insert(&revision.key.2, &revision.object);
        }
        for rollout in last.values() {
            let phase = rollout["status"]["phase"].as_str().unwrap_or("unseen");
            self.add(format!("rollouts, {phase}"), 1);
        }
    }

    pub fn merge(&mut self, other: Self) {
        self.seeds += other.seeds;
        for (what, count) in other.counts {
            self.add(what, count);
        }
    }

    /// Lines that were never looked at.
    pub fn idle(&self) -> Vec<String> {
        let looked = |line: &&str| self.counts.get(&format!("never {line}: looked at")).is_none_or(|count| *count == 0);
        LINES.iter().copied().filter(looked).map(str::to_owned).collect()
    }
}

impl std::fmt::Display for Sums {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (what, count) in &self.counts {
            writeln!(f, "{count:>10}  {what}")?;
        }
        write!(f, "seeds: {}", self.seeds)
    }
}
