//! Whether the observer would notice: what it looks at is tampered with as a bug would, one line of the Never list at a
//! time. Each has to be found, and found by the line that it breaks.

use std::sync::Arc;

use serde_json::{Value, json};

use super::drive::History;
use super::observer::facts::{applying, entry, image, is_forward, phase};
use super::observer::{BACK, END, FOREIGN, IDLE, LIMIT, OFFER, ORDER, OTHER, PUSH, REASON, STOP, judge};
use super::run;
use crate::support::apiserver::store::Revision;

/// Changes a history; whether there was anything to change.
type Tamper = fn(&mut History) -> bool;

const TAMPERS: [(&str, &str, Tamper); 14] = [
    ("a device that was not released is told the image", BACK, told_what_it_was_not_released),
    ("a device is told another one's state", OTHER, told_another_ones),
    ("the gate is open though the rollout is paused", STOP, told_while_paused),
    ("a device that is held is released", OFFER, released_while_held),
    ("a device is released in a batch that is not open", OFFER, released_too_early),
    ("a rollout that is halted releases", OFFER, released_while_halted),
    ("maxConcurrent is not looked at", LIMIT, limit_of_one),
    ("the next batch opens without a soak", ORDER, no_soak),
    ("the next batch opens in spite of failures", ORDER, failures_do_not_count),
    ("one push makes two rollouts", PUSH, made_twice),
    ("a device is sent back to an image that is not its own", BACK, sent_back_elsewhere),
    ("what people declare is overwritten", FOREIGN, declares_for_people),
    ("a settled system writes", IDLE, writes_on),
    ("an end is not the end", END, comes_back),
];

#[test]
fn every_tampering_is_found() {
    let mut left: Vec<_> = TAMPERS.iter().chain([&("nobody is told why", REASON, says_nothing as Tamper)]).collect();
    for seed in 1..=40 {
        if left.is_empty() {
            return;
        }
        let history = run(seed);
        assert!(judge(&history).broken.is_empty(), "seed {seed}");
        left.retain(|(what, line, tamper)| {
            let mut tampered = copy(&history);
            if !tamper(&mut tampered) {
                return true;
            }
            let found = judge(&tampered).broken;
            assert!(
                found.iter().any(|broken| broken.line == *line),
                "{what}, in seed {seed}: not found among {found:#?}"
            );
            false
        });
    }
    let left: Vec<_> = left.iter().map(|(what, _, _)| what).collect();
    assert!(left.is_empty(), "no seed had an occasion for: {left:?}");
}

fn copy(history: &History) -> History {
    History {
        log: history.log.clone(),
        requests: history.requests.clone(),
        told: history.told.clone(),
        polls: history.polls.clone(),
        personalities: history.personalities.clone(),
        trespasses: history.trespasses.clone(),
        two_controllers: history.two_controllers.clone(),
        faults: history.faults.clone(),
        turns: history.turns.clone(),
        ..*history
    }
}

fn is_of(plural: &'static str) -> impl Fn(&Revision) -> bool {
    move |revision| revision.key.0 == plural
}

fn change(revision: &mut Revision, change: impl FnOnce(&mut Value)) {
    change(Arc::make_mut(&mut revision.object));
}

/// The first revision with which a controller releases a device, by its place in the log.
fn release(history: &History, wanted: impl Fn(&Value) -> bool) -> Option<usize> {
    // One controller that is never killed: what is on its way then is no excuse.
    if !history.two_controllers.is_empty() || history.turns.contains_key("controller killed") {
        return None;
    }
    let released = |revision: &Revision| {
        let device = &*revision.object;
        revision.key.0 == "devices"
            && revision.by == "controller"
            && entry(device).is_some_and(|entry| is_forward(device, entry) && wanted(entry))
    };
    let at = history.log.iter().position(released)?;
    let before = history.log[..at].iter().rev().find(|other| other.key == history.log[at].key)?;
    (entry(&before.object) != entry(&history.log[at].object)).then_some(at)
}

/// Changes every revision of a rollout.
fn change_rollout(history: &mut History, name: &str, mut with: impl FnMut(&mut Value)) {
    for revision in
        history.log.iter_mut().filter(|revision| revision.key.0 == "imagerollouts" && revision.key.2 == name)
    {
        change(revision, &mut with);
    }
}

fn told_what_it_was_not_released(history: &mut History) -> bool {
    let Some(poll) = history.polls.iter_mut().find(|poll| poll.status == 200) else { return false };
    poll.images = vec!["acme/web:v7".into()];
    true
}

fn told_another_ones(history: &mut History) -> bool {
    let mut polls = history.polls.iter_mut().filter(|poll| poll.status == 200);
    let Some(etag) = polls.next().map(|poll| (poll.device.clone(), poll.etag.clone())) else { return false };
    polls.find(|poll| poll.device != etag.0).map(|poll| poll.etag = etag.1).is_some()
}

fn told_while_paused(history: &mut History) -> bool {
    let Some(at) = release(history, |_| true) else { return false };
    let (name, revision) = (history.log[at].key.2.clone(), &history.log[at]);
    let entry = applying(&revision.object).unwrap().clone();
    let told = image(&revision.object, &entry);
    let was_told = |poll: &crate::support::live::devices::Polled| *poll.device == *name && poll.images.contains(&told);
    if !history.polls.iter().any(was_told) {
        return false;
    }
    change_rollout(history, entry["rollout"].as_str().unwrap(), |rollout| rollout["spec"]["paused"] = json!(true));
    true
}

fn released_while_held(history: &mut History) -> bool {
    let Some(at) = release(history, |_| true) else { return false };
    change(&mut history.log[at], |device| device["spec"]["hold"] = json!(true));
    true
}

fn released_too_early(history: &mut History) -> bool {
    let Some(at) = release(history, |_| true) else { return false };
    change(&mut history.log[at], |device| device["spec"]["images"][0]["batch"] = json!(9));
    let rollout = history.log[at].object["spec"]["images"][0]["rollout"].clone();
    phase_then(history, at, rollout.as_str().unwrap()) != "Completed"
}

fn phase_then(history: &History, at: usize, rollout: &str) -> String {
    let mut before = history.log[..at].iter().rev();
    let last = before.find(|revision| revision.key.0 == "imagerollouts" && revision.key.2 == rollout);
    last.map(|revision| phase(&revision.object).to_owned()).unwrap_or_default()
}

fn released_while_halted(history: &mut History) -> bool {
    let Some(at) = release(history, |_| true) else { return false };
    let rollout = history.log[at].object["spec"]["images"][0]["rollout"].as_str().unwrap().to_owned();
    let halted = json!({"time": "2026-11-02T08:00:00Z", "batch": 1, "failures": 1});
    change_rollout(history, &rollout, |rollout| rollout["status"]["halted"] = halted.clone());
    true
}

fn limit_of_one(history: &mut History) -> bool {
    if !history.two_controllers.is_empty() {
        return false;
    }
    let unlimited = |revision: &Revision| {
        let plan = &revision.object["status"]["plan"];
        plan["maxConcurrent"].as_i64().is_some_and(|limit| limit >= 5)
            && revision.object["status"]["batches"][0]["released"].as_i64().is_some_and(|released| released >= 5)
    };
    let Some(found) = history.log.iter().find(|revision| is_of("imagerollouts")(revision) && unlimited(revision))
    else {
        return false;
    };
    let name = found.key.2.clone();
    change_rollout(history, &name, |rollout| {
        if rollout["status"]["plan"].is_object() {
            rollout["status"]["plan"]["maxConcurrent"] = json!(1);
        }
    });
    true
}

/// The first revision with which a second batch opens.
fn opening(history: &History) -> Option<usize> {
    let open = |revision: &Revision| revision.object["status"]["currentBatch"] == 2;
    history.log.iter().position(|revision| is_of("imagerollouts")(revision) && open(revision))
}

fn no_soak(history: &mut History) -> bool {
    let Some(at) = opening(history) else { return false };
    let batch = &history.log[at].object["status"]["batches"][0];
    if batch["delay"].as_str().is_none_or(|delay| delay.starts_with('0')) || batch["healthy"] == 0 {
        return false;
    }
    let opened = history.log[at].object["status"]["batches"][1]["startTime"].clone();
    change(&mut history.log[at], |rollout| rollout["status"]["batches"][0]["completionTime"] = opened);
    history.two_controllers.is_empty()
}

fn failures_do_not_count(history: &mut History) -> bool {
    let Some(at) = opening(history) else { return false };
    let rollout = history.log[at].object["metadata"]["name"].clone();
    let update = json!([{"repository": "docker.io/acme/web", "rollout": rollout, "verdict": "Failed", "reason": "x",
                         "message": "", "time": "2026-11-02T08:00:00Z"}]);
    if history.log[at].object["status"]["plan"]["failurePolicy"]["maxFailureRate"] == "100%" {
        return false;
    }
    let mut any = false;
    for revision in history.log[..at].iter_mut().filter(|revision| revision.key.0 == "devices") {
        if revision.object["spec"]["images"][0]["rollout"] == rollout {
            any = true;
            change(revision, |device| device["status"]["updates"] = update.clone());
        }
    }
    any
}

fn made_twice(history: &mut History) -> bool {
    let made = |revision: &Revision| {
        revision.type_ == "ADDED"
            && is_of("imagerollouts")(revision)
            && revision.object["spec"]["trigger"]["type"] == "Webhook"
    };
    let Some(at) = history.log.iter().position(made) else { return false };
    let mut again = history.log[at].clone();
    again.key.2.push('x');
    history.log.insert(at + 1, again);
    true
}

fn sent_back_elsewhere(history: &mut History) -> bool {
    let back = |revision: &Revision| {
        is_of("devices")(revision)
            && revision.by == "controller"
            && revision.object["spec"]["images"][0]["rolledBack"] == true
    };
    let Some(at) = history.log.iter().position(back) else { return false };
    change(&mut history.log[at], |device| {
        device["spec"]["images"][0]["image"] = json!("docker.io/acme/web:v0");
        device["spec"]["images"][0]["previous"] = json!("docker.io/acme/web:v0");
    });
    true
}

fn declares_for_people(history: &mut History) -> bool {
    let Some(at) = release(history, |_| true) else { return false };
    change(&mut history.log[at], |device| device["spec"]["apps"] = json!({}));
    true
}

fn writes_on(history: &mut History) -> bool {
    let write = history.requests.iter().find(|seen| seen.is_write() && seen.is_of("imagerollouts/status"));
    let Some(mut write) = write.cloned() else { return false };
    write.at = history.end;
    history.requests.push(write);
    true
}

fn comes_back(history: &mut History) -> bool {
    let last = history
        .log
        .iter()
        .rev()
        .find(|revision| is_of("imagerollouts")(revision) && phase(&revision.object) == "Completed");
    let Some(mut again) = last.cloned().filter(|last| last.type_ == "MODIFIED") else { return false };
    change(&mut again, |rollout| rollout["status"]["phase"] = json!("Progressing"));
    history.log.push(again);
    true
}

fn says_nothing(history: &mut History) -> bool {
    let said = |revision: &Revision| {
        is_of("imagerollouts")(revision) && revision.object["status"]["observedGeneration"].is_i64()
    };
    let Some(at) = history.log.iter().position(said) else { return false };
    change(&mut history.log[at], |rollout| rollout["status"]["message"] = json!(""));
    true
}
