//! Lines 5, 8, 9 and 10: one push is one rollout, quiet is quiet, nobody gets at another device, ends stay.

use std::collections::BTreeMap;

use super::facts::{is_terminal, phase, text};
use super::{END, Findings, IDLE, OTHER, PUSH};
use crate::soak::drive::History;

/// Requests in ten quiet minutes: each gateway publishes presence every ten seconds and sets its watches up once a minute;
/// a controller hardly asks for anything.
const ASKED: usize = 400;

pub fn judge(history: &History, findings: &mut Findings) {
    ends_stay(history, findings);
    one_push_is_one_rollout(history, findings);
    quiet_is_quiet(history, findings);
    for trespass in &history.trespasses {
        findings.demand(matches!(trespass.status, 401 | 403 | 404 | 503), history.begin, OTHER, || {
            format!("{} with another device's key, and was answered {}", trespass.what, trespass.status)
        });
    }
}

fn ends_stay(history: &History, findings: &mut Findings) {
    let mut rollouts = BTreeMap::new();
    for revision in history.log.iter().filter(|revision| revision.key.0 == "imagerollouts") {
        let (name, after) = (revision.key.2.as_str(), &*revision.object);
        if revision.type_ == "DELETED" {
            rollouts.remove(name);
            continue;
        }
        let Some(before) = rollouts.insert(name, revision.object.clone()) else { continue };
        if is_terminal(&before) {
            let same_spec = before["status"]["observedGeneration"] == after["status"]["observedGeneration"];
            let changed = phase(&before) != phase(after);
            findings.demand(!(changed && same_spec), revision.at, END, || {
                format!("{name} went from {} to {} though its spec is the same", phase(&before), phase(after))
            });
        }
    }
}

fn one_push_is_one_rollout(history: &History, findings: &mut Findings) {
    let mut there: BTreeMap<String, String> = BTreeMap::new();
    for revision in history.log.iter().filter(|revision| revision.key.0 == "imagerollouts") {
        let object = &*revision.object;
        if text(object, "/spec/trigger/type") != "Webhook" {
            continue;
        }
        let push = format!(
            "{} {}:{}",
            text(object, "/spec/policyRef/name"),
            text(object, "/spec/image/repository"),
            text(object, "/spec/image/tag")
        );
        match revision.type_ {
            "ADDED" => {
                let other = there.insert(push.clone(), revision.key.2.clone());
                findings.demand(other.is_none(), revision.at, PUSH, || {
                    format!("{push} is {other:?} already, and {} as well", revision.key.2)
                });
            }
            "DELETED" => drop(there.remove(&push)),
            _ => {}
        }
    }
}

fn quiet_is_quiet(history: &History, findings: &mut Findings) {
    let Some(quiet) = history.quiet else { return };
    let mut asked: BTreeMap<&str, usize> = BTreeMap::new();
    for seen in history.requests.iter().filter(|seen| seen.at >= quiet && seen.actor != "person") {
        *asked.entry(seen.actor).or_default() += 1;
        let is_idle = !seen.is_write() || seen.is_of("devicepresences");
        findings.demand(is_idle, seen.at, IDLE, || {
            format!("{} wrote {} {} {:?} though all is settled", seen.actor, seen.path, seen.body, seen.answer)
        });
    }
    for (actor, count) in asked {
        findings.demand(count <= ASKED, quiet, IDLE, || format!("{actor} sent {count} requests though all is settled"));
    }
}
