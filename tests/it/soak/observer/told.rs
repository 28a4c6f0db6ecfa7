//! Lines 1, 4 and 6, by what devices were told: every answer that moves a device.
//!
//! Judged twice. By what the gateway's own watches had delivered at that moment, to the letter; and by what was true not
//! longer ago than the gateway may go by its cache.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use super::facts::{Row, applying, declared, failed, image, is_forward, previous, row, runs, short, text};
use super::past::Past;
use super::{BACK, Findings, OFFER, OTHER, STOP};
use crate::soak::drive::History;
use crate::support::apiserver::network::What;
use crate::support::live::devices::Polled;

/// `staleAfter` of the gateways, and a second for what is rounded.
const STALE_AFTER: Duration = Duration::from_secs(121);

/// What a gateway knows, as far as its watches told it.
#[derive(Default)]
struct View<'a> {
    objects: BTreeMap<(&'a str, &'a str), Arc<Value>>,
}

/// What an answer was, given some state of device and rollout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    /// What `apps` declares, or the way back.
    Plain,
    /// Forward, and the gate is open.
    Forward,
    /// Forward past a shut gate, since the device is seen running the image.
    SeenRunning,
    /// Forward past a shut gate.
    Stopped(Row),
    /// Forward in spite of its own failure, or its hold.
    Barred,
    /// Neither its image nor its previous one.
    Strange,
}

pub fn judge(history: &History, findings: &mut Findings) {
    let devices = Past::of(&history.log, "devices");
    let rollouts = Past::of(&history.log, "imagerollouts");
    let mut holds: BTreeMap<&str, String> = BTreeMap::new();
    let mut tags: BTreeMap<&str, &str> = BTreeMap::new();
    let mut views: BTreeMap<&str, View<'_>> = BTreeMap::new();
    let mut told = history.told.iter().peekable();
    for poll in &history.polls {
        // Before this moment; what comes in the very same one may or may not count.
        while let Some(next) = told.next_if(|told| told.at < poll.at) {
            views.entry(next.actor).or_default().learn(&next.plural, next.what, [&devices, &rollouts], &history.log);
        }
        if poll.status != 200 {
            continue;
        }
        let device = &*poll.device;
        if let Some(etag) = &poll.etag {
            let owner = *tags.entry(etag).or_insert(device);
            findings.demand(owner == device, poll.at, OTHER, || format!("{device} and {owner} share the tag {etag}"));
        }
        findings.demand(poll.images.len() == 1, poll.at, OTHER, || format!("{device} is told {:?}", poll.images));
        let Some(image) = poll.images.first().map(|image| short(image)) else { continue };
        let moves = holds.get(device).is_none_or(|held| held != image);
        if poll.received {
            holds.insert(device, image.to_owned());
        }
        if !moves {
            continue;
        }
        let now: Vec<_> =
            told.clone().take_while(|told| told.at == poll.at).filter(|told| told.actor == poll.gateway).collect();
        let mut candidates = vec![views.entry(poll.gateway).or_default().clone()];
        for told in now {
            let mut next = candidates[candidates.len() - 1].clone();
            next.learn(&told.plural, told.what, [&devices, &rollouts], &history.log);
            candidates.push(next);
        }
        let by_view: Vec<Answer> = candidates.iter().filter_map(|view| view.answer(device, image)).collect();
        by_what_it_knew(poll, image, &by_view, findings);
        let goes_back = by_view.contains(&Answer::Plain);
        by_what_was_true(poll, image, goes_back, [&devices, &rollouts], findings);
    }
}

/// What the gateway's watches had told it must allow the answer.
fn by_what_it_knew(poll: &Polled, image: &str, answers: &[Answer], findings: &mut Findings) {
    let device = &poll.device;
    let best = answers.iter().copied().find(|answer| matches!(answer, Answer::Plain | Answer::Forward));
    let best = best
        .or_else(|| answers.iter().copied().find(|answer| *answer == Answer::SeenRunning))
        .or(answers.first().copied());
    for line in [OFFER, STOP, BACK] {
        findings.look(line);
    }
    let say = |what: &str| format!("{} tells {device} {image}: {what}", poll.gateway);
    match best {
        Some(Answer::Plain | Answer::Forward) => {}
        // Who is seen running the image keeps it, but is not sent there once more: a report may come late.
        Some(Answer::SeenRunning) => {
            findings.broken(poll.at, STOP, say("it had been sent back, and its rollout is stopped still"));
        }
        Some(Answer::Stopped(row)) => {
            findings.broken(poll.at, STOP, say(&format!("its rollout is {row:?}, and it knew")));
        }
        Some(Answer::Barred) => findings.broken(poll.at, OFFER, say("the device is held or has failed, and it knew")),
        Some(Answer::Strange) => findings.broken(poll.at, BACK, say("neither its image nor its previous one")),
        None => findings.broken(poll.at, OFFER, say("it does not know that device")),
    }
}

/// Something that was true lately must allow the answer. A gateway whose watch of devices is away still obeys a rollback:
/// it then sends devices back by the entry that it last saw.
fn by_what_was_true(
    poll: &Polled,
    image: &str,
    goes_back: bool,
    [devices, rollouts]: [&Past<'_>; 2],
    findings: &mut Findings,
) {
    let from = poll.at.checked_sub(STALE_AFTER).unwrap_or(poll.at);
    let mut worst = None;
    for device in devices.between(&poll.device, from, poll.at).into_iter().flatten().rev() {
        let name = applying(device).map(|entry| text(entry, "/rollout")).unwrap_or_default();
        for rollout in rollouts.between(name, from, poll.at).into_iter().rev() {
            match answer(device, rollout.map(|rollout| &**rollout), image) {
                Answer::Plain | Answer::Forward | Answer::SeenRunning => return,
                other => worst = worst.or(Some(other)),
            }
        }
    }
    if goes_back {
        return findings.excuse("sent back by an entry that a watch which is away showed last");
    }
    let line = match worst {
        Some(Answer::Stopped(_)) => STOP,
        Some(Answer::Strange) => BACK,
        _ => OFFER,
    };
    findings.broken(
        poll.at,
        line,
        format!("{} tells {} {image}: {worst:?} for longer than staleAfter", poll.gateway, poll.device),
    );
}

fn answer(device: &Value, rollout: Option<&Value>, told: &str) -> Answer {
    let Some(entry) = applying(device) else {
        return if told == declared(device) { Answer::Plain } else { Answer::Strange };
    };
    if told == previous(device, entry) {
        return Answer::Plain;
    }
    if told != image(device, entry) || !is_forward(device, entry) {
        return Answer::Strange;
    }
    let name = text(device, "/metadata/name");
    let (row, running) = (row(rollout, name), runs(device, told));
    let rolls_back = rollout.is_none_or(|rollout| {
        rollout.pointer("/status/plan/failurePolicy/rollBackFailedDevices") != Some(&Value::Bool(false))
    });
    let has_failed = failed(device, text(entry, "/rollout"));
    if has_failed && (rolls_back && rollout.is_some() || row == Row::Halted) {
        return Answer::Barred;
    }
    match row {
        Row::Active if device["spec"]["hold"] == true && !running => Answer::Barred,
        Row::Active => Answer::Forward,
        Row::Held | Row::Halted if running => Answer::SeenRunning,
        Row::Held | Row::Halted | Row::RolledBack => Answer::Stopped(row),
    }
}

impl<'a> View<'a> {
    fn learn(
        &mut self,
        plural: &'a str,
        what: What,
        pasts: [&Past<'a>; 2],
        log: &'a [crate::support::apiserver::store::Revision],
    ) {
        let past = match plural {
            "devices" => pasts[0],
            "imagerollouts" => pasts[1],
            _ => return,
        };
        match what {
            What::List(version) => {
                self.objects.retain(|(kind, _), _| *kind != plural);
                for name in past.names() {
                    if let Some(object) = past.as_of(name, version) {
                        self.objects.insert((plural, name), object.clone());
                    }
                }
            }
            What::Event(version) => {
                let Ok(index) = log.binary_search_by_key(&version, |revision| revision.version) else { return };
                let revision = &log[index];
                let key = (plural, revision.key.2.as_str());
                if revision.type_ == "DELETED" {
                    self.objects.remove(&key);
                } else {
                    self.objects.insert(key, revision.object.clone());
                }
            }
        }
    }

    fn answer(&self, device: &str, told: &str) -> Option<Answer> {
        let device = self.objects.get(&("devices", device))?;
        let name = applying(device).map(|entry| text(entry, "/rollout")).unwrap_or_default();
        let rollout = self.objects.get(&("imagerollouts", name));
        Some(answer(device, rollout.map(|rollout| &**rollout), told))
    }
}

impl Clone for View<'_> {
    fn clone(&self) -> Self {
        Self { objects: self.objects.clone() }
    }
}
