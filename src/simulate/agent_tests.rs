//! Devices in virtual time, against a server that is a closure.

use std::collections::BTreeSet;
use std::io::Read as _;

use proptest::prelude::*;
use rand::SeedableRng as _;
use serde_json::{Value, json};

use super::*;
use crate::simulate::wire::parse_target;
use crate::simulate::world::{BadImage, Pace};

const POLL: Duration = Duration::from_secs(10);
const PULL: Duration = Duration::from_secs(1);

/// A server with one device: what it is told, and what it said.
struct Lab {
    agent: Agent,
    now: Duration,
    image: Option<&'static str>,
    version: i64,
    /// Answers nothing while false.
    up: bool,
    log: Vec<String>,
    reports: Vec<(Duration, Value)>,
    polls: Vec<(Duration, Option<String>)>,
}

impl Lab {
    fn new(personality: Personality, seed: u64) -> Self {
        let world = World {
            pace: Pace { poll: POLL, pull: PULL },
            base: "acme/app:v1".parse().expect("a reference"),
            bad: vec![BadImage::Tag("bad".into())],
        };
        let identity = Identity::derive(seed, "lab", 0);
        let agent = Agent::new(Duration::ZERO, identity, personality, Arc::new(world), StdRng::seed_from_u64(seed));
        Self {
            agent,
            now: Duration::ZERO,
            image: Some("acme/app:v1"),
            version: 1,
            up: true,
            log: Vec::new(),
            reports: Vec::new(),
            polls: Vec::new(),
        }
    }

    fn target(&mut self, image: &'static str) {
        self.image = Some(image);
        self.version += 1;
    }

    /// Lives on for so long; every request is answered at once.
    fn run(&mut self, time: Duration) {
        let end = self.now + time;
        let mut steps = 0;
        while let Some(at) = self.agent.wake().filter(|at| *at <= end) {
            assert!(at >= self.now || steps < 10_000, "never in the past, never a hot loop");
            steps += 1;
            assert!(steps < 10_000, "a hot loop at {:?}", self.now);
            self.now = self.now.max(at);
            self.step(Input::Wake);
        }
        self.now = end;
    }

    fn step(&mut self, input: Input) {
        for action in self.agent.step(self.now, input) {
            let answer = match action {
                Action::Observed(event) => {
                    self.log.push(format!("{event:?}"));
                    continue;
                }
                Action::Poll { if_none_match } => self.poll(if_none_match.as_deref()),
                Action::Report(report) => self.report(&report),
            };
            self.step(answer);
        }
    }

    fn poll(&mut self, if_none_match: Option<&str>) -> Input {
        self.polls.push((self.now, if_none_match.map(Into::into)));
        let etag = format!("\"{}\"", self.version);
        Input::Polled(if !self.up {
            Answer::Failed
        } else if if_none_match == Some(&etag) {
            Answer::Unchanged
        } else {
            let services: Vec<Value> =
                self.image.iter().map(|i| json!({ "serviceId": 1, "serviceName": "app", "imageName": i })).collect();
            let uuid = self.agent.identity().uuid.clone();
            let apps = json!({ "1001": { "appName": "app", "services": services } });
            let body = json!({ &*uuid: { "apps": apps, "config": {}, "version": self.version } });
            let state = parse_target(body.to_string().as_bytes(), &uuid).expect("JSON");
            Answer::Target { etag: Some(etag.into()), state }
        })
    }

    fn report(&mut self, report: &Report) -> Input {
        let mut json = String::new();
        if report.gzip {
            flate2::read::GzDecoder::new(&*report.body).read_to_string(&mut json).expect("gzip");
        } else {
            json = String::from_utf8(report.body.clone()).expect("UTF-8");
        }
        let mut body: Value = serde_json::from_str(&json).expect("JSON");
        if self.up {
            self.reports.push((self.now, body[&*self.agent.identity().uuid].take()));
        }
        Input::Reported(if self.up { Delivery::Accepted } else { Delivery::Lost })
    }

    fn running(&self) -> Vec<&str> {
        self.agent.containers().iter().map(|container| container.image.as_ref()).collect()
    }

    /// Version, image and status of the last report.
    fn last(&self) -> (Option<i64>, Option<&str>, Option<&str>) {
        let (_, report) = self.reports.last().expect("a report");
        let service = &report["apps"]["1001"]["services"][0];
        (report["version"].as_i64(), service["imageName"].as_str(), service["status"].as_str())
    }
}

#[test]
fn a_healthy_device_runs_what_it_is_told_and_then_is_quiet() {
    let mut lab = Lab::new(Personality::Healthy, 1);
    lab.run(POLL * 2);
    assert_eq!(lab.last(), (Some(1), Some("acme/app:v1"), Some("running")));
    assert_eq!(lab.polls[0].1, None, "the first poll is not conditional");
    let (_, boot) = &lab.reports[0];
    assert_eq!(
        (boot["apps"].clone(), boot["version"].clone()),
        (json!({}), json!(1)),
        "it reports before its first poll"
    );
    assert!(boot["agent_version"].is_string() && boot["local_ip"].is_string());

    let reports = lab.reports.len();
    lab.run(POLL * 50);
    assert_eq!(lab.reports.len(), reports, "no keep-alive");
    assert!(lab.polls.last().is_some_and(|(_, etag)| etag.as_deref() == Some("\"1\"")));

    lab.target("acme/app:v2");
    lab.run(POLL * 2);
    assert_eq!(lab.last(), (Some(2), Some("acme/app:v2"), Some("running")));
    assert_eq!(
        lab.log,
        [
            r#"Offered("acme/app:v1")"#,
            r#"Running("acme/app:v1")"#,
            r#"Offered("acme/app:v2")"#,
            r#"Removed("acme/app:v1")"#,
            r#"Running("acme/app:v2")"#
        ]
    );
}

#[test]
fn the_same_content_under_a_new_version_restarts_nothing() {
    let mut lab = Lab::new(Personality::Healthy, 2);
    lab.run(POLL * 2);
    let id = lab.agent.containers()[0].id.clone();
    lab.target("acme/app:v1");
    lab.run(POLL * 5);
    assert_eq!(lab.agent.containers()[0].id, id);
}

#[test]
fn a_new_version_is_sometimes_reported_before_it_runs() {
    let early = (0..40).filter(|seed| {
        let mut lab = Lab::new(Personality::Healthy, *seed);
        lab.run(POLL * 2);
        lab.target("acme/app:v2");
        lab.run(POLL * 2);
        lab.reports.iter().any(|(_, report)| {
            report["version"] == 2 && report["apps"]["1001"]["services"][0]["imageName"] == "acme/app:v1"
        })
    });
    assert!((1..40).contains(&early.count()));
}

#[test]
fn a_bad_image_costs_the_container_and_the_old_target_heals() {
    for (personality, image) in [(Personality::Healthy, "acme/app:bad"), (Personality::Fails, "acme/app:v2")] {
        let mut lab = Lab::new(personality, 3);
        lab.run(POLL * 2);
        lab.target(image);
        lab.run(POLL * 3);
        assert_eq!(lab.running(), [""; 0], "the old container is gone");
        let (_, report) = lab.reports.last().expect("a report");
        assert_eq!((&report["apps"], &report["version"]), (&json!({}), &json!(2)), "and that is reported");
        lab.target("acme/app:v1");
        lab.run(POLL * 2);
        assert_eq!(lab.last(), (Some(3), Some("acme/app:v1"), Some("running")));
    }
}

#[test]
fn a_service_without_image_name_can_not_be_started() {
    let mut lab = Lab::new(Personality::Healthy, 4);
    lab.run(POLL * 2);
    let body = json!({ "u": { "apps": { "1001": { "services": [
        { "serviceId": 1, "serviceName": "app", "config": { "image": "acme/app:v2" } }
    ] } }, "version": 2 } });
    let state = parse_target(body.to_string().as_bytes(), "u").expect("JSON");
    lab.step(Input::Polled(Answer::Target { etag: None, state }));
    lab.run(POLL / 2);
    assert_eq!(lab.running(), [""; 0]);
}

#[test]
fn a_slow_pull_keeps_the_old_container_meanwhile() {
    let mut lab = Lab::new(Personality::SlowPull, 5);
    lab.run(POLL * 6);
    lab.target("acme/app:v2");
    lab.run(POLL + PULL * 5);
    assert_eq!(lab.running(), ["acme/app:v1"]);
    lab.run(PULL * 30);
    assert_eq!(lab.running(), ["acme/app:v2"]);
    lab.target("acme/app:v1");
    lab.run(POLL + PULL * 2);
    assert_eq!(lab.running(), ["acme/app:v1"], "the way back is in its cache");
}

#[test]
fn a_flapping_device_reports_each_turn() {
    let mut lab = Lab::new(Personality::Flaps, 6);
    lab.run(POLL * 20);
    assert_eq!(lab.last().2, Some("running"), "not on its first image");
    let before = lab.reports.len();
    lab.target("acme/app:v2");
    lab.run(POLL * 40);
    let seen: BTreeSet<(String, bool)> = lab.reports[before..]
        .iter()
        .map(|(_, report)| &report["apps"]["1001"]["services"][0])
        .filter(|service| service["imageName"] == "acme/app:v2")
        .map(|service| (service["status"].as_str().unwrap_or_default().to_owned(), service["state"].is_string()))
        .collect();
    let expected = [("exited", true), ("restarting", false), ("running", true)];
    assert_eq!(seen, expected.map(|(status, state)| (status.to_owned(), state)).into());
    lab.target("acme/app:v1");
    lab.run(POLL * 2);
    let quiet = lab.reports.len();
    lab.run(POLL * 40);
    assert_eq!(lab.reports.len(), quiet, "back on its first image it is calm again");
}

#[test]
fn a_dead_device_does_nothing() {
    let mut lab = Lab::new(Personality::Dead, 7);
    lab.run(POLL * 100);
    assert!(lab.polls.is_empty() && lab.reports.is_empty() && lab.agent.wake().is_none());
}

#[test]
fn an_offline_device_comes_and_goes() {
    let mut lab = Lab::new(Personality::Offline, 8);
    lab.run(POLL * 300);
    let gaps = lab.polls.windows(2).filter(|pair| pair[1].0 - pair[0].0 > POLL * 15).count();
    assert!((3..=10).contains(&gaps), "{gaps} times gone in 300 intervals");
}

#[test]
fn a_lying_device_claims_the_version_and_keeps_the_image() {
    let mut lab = Lab::new(Personality::Lies, 9);
    lab.run(POLL * 2);
    lab.target("acme/app:v2");
    lab.run(POLL * 5);
    assert_eq!(lab.last(), (Some(2), Some("acme/app:v1"), Some("running")));
    assert_eq!(lab.running(), ["acme/app:v1"]);
}

#[test]
fn replays_have_no_version_and_tell_of_the_past() {
    let mut lab = Lab::new(Personality::Replays, 10);
    lab.run(POLL * 2);
    lab.target("acme/app:v2");
    lab.run(POLL * 60);
    let replays: Vec<&Value> = lab.reports.iter().map(|(_, r)| r).filter(|r| r["version"].is_null()).collect();
    assert!(replays.len() > 5, "{} replays", replays.len());
    assert!(replays.iter().any(|r| r["apps"] == json!({})), "even of the time before anything ran");
    assert!(replays.iter().all(|r| r["agent_version"].is_null() && r["is_online"] == true));
}

#[test]
fn an_outage_is_waited_out_and_made_up_for() {
    let mut lab = Lab::new(Personality::Healthy, 11);
    lab.run(POLL * 2);
    lab.target("acme/app:v2");
    // The device gets its target and the server goes away before it can report.
    while lab.polls.last().is_none_or(|(_, etag)| etag.as_deref() != Some("\"2\"")) {
        let served = lab.log.contains(&r#"Offered("acme/app:v2")"#.to_owned());
        lab.up = !served;
        lab.run(PULL / 10);
    }
    let (polls, from) = (lab.polls.len(), lab.now);
    lab.run(POLL * 60);
    let polls = lab.polls.len() - polls;
    assert!((5..=14).contains(&polls), "{polls} polls in 60 intervals: backoff, with a bound");
    lab.up = true;
    lab.run(POLL * 30);
    let late: Vec<&Value> = lab.reports.iter().filter(|(at, _)| *at > from).map(|(_, report)| report).collect();
    assert!(late.iter().any(|report| report["version"].is_null()), "the queued report, stripped");
    let live =
        |report: &&&Value| report["version"] == 2 && report["apps"]["1001"]["services"][0]["status"] == "running";
    assert_eq!(late.iter().filter(live).count(), 1, "and one live one");
    let reports = lab.reports.len();
    lab.run(POLL * 50);
    assert_eq!(lab.reports.len(), reports, "then quiet again");
}

#[test]
fn an_oversize_report_is_huge_or_a_bomb() {
    let mut lab = Lab::new(Personality::Oversize, 12);
    lab.run(POLL * 2);
    assert!(
        lab.reports.len() >= 2
            && lab.reports.iter().all(|(_, r)| r["padding"].as_str().is_some_and(|p| p.len() > 1 << 20))
    );
}

fn personality() -> impl Strategy<Value = Personality> {
    proptest::sample::select(vec![
        Personality::Healthy,
        Personality::SlowPull,
        Personality::Fails,
        Personality::Flaps,
        Personality::Dead,
        Personality::Offline,
        Personality::Lies,
        Personality::Replays,
    ])
}

/// One device's life under changing targets and outages, as text.
fn life(seed: u64, personality: Personality, script: &[(u8, u8)]) -> (Lab, String) {
    let mut lab = Lab::new(personality, seed);
    for (what, polls) in script {
        match what % 5 {
            0 => lab.target("acme/app:v1"),
            1 => lab.target("acme/app:v2"),
            2 => lab.target("acme/app:bad"),
            3 => lab.up = !lab.up,
            _ => {}
        }
        lab.run(POLL * u32::from(*polls) / 8);
    }
    let text = format!("{:?}\n{:?}\n{:?}", lab.log, lab.reports, lab.polls);
    (lab, text)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn the_same_seed_is_the_same_life(
        seed: u64, personality in personality(), script in proptest::collection::vec((any::<u8>(), any::<u8>()), 1..12)
    ) {
        prop_assert_eq!(life(seed, personality, &script).1, life(seed, personality, &script).1);
    }

    /// Whatever happened before: with a server that is up and a good target, every device that can ends up running it.
    #[test]
    fn every_device_that_can_gets_there(
        seed: u64, personality in personality(), script in proptest::collection::vec((any::<u8>(), any::<u8>()), 1..12)
    ) {
        let (mut lab, _) = life(seed, personality, &script);
        lab.up = true;
        lab.target("acme/app:v1");
        lab.run(POLL * 120);
        match personality {
            Personality::Dead => prop_assert!(lab.running().is_empty()),
            _ => {
                prop_assert_eq!(lab.running(), vec!["acme/app:v1"]);
                let live = lab.reports.iter().rev().find(|(_, report)| report["version"].is_i64());
                let (_, live) = live.expect("a live report");
                prop_assert_eq!(&live["apps"]["1001"]["services"][0]["imageName"], "acme/app:v1");
            }
        }
    }
}
