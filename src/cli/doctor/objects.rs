//! The objects of the namespace: are gateway and controller alive, is everything ready, is something stuck.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::{Resource, ResourceExt as _};

use super::{Finding, count, few};
use crate::api::RegistryWebhook;
use crate::api::condition::{self, Condition, READY, STALLED};
use crate::api::rollout::Phase;
use crate::cli::cluster::Cluster;
use crate::cli::fault::Fault;
use crate::cli::rollouts::phase_of;
use crate::cli::words::{age, span};
use crate::cli::world::World;

/// A controller that lives has looked at a change after so long.
const SETTLED: std::time::Duration = std::time::Duration::from_secs(3);
/// An object that is being deleted for longer is stuck, seconds.
const STUCK: i64 = 600;
/// A sighting so far in the future is a gateway's clock that is wrong, seconds.
const AHEAD: i64 = 60;

/// All of them.
pub async fn all(cluster: &Cluster) -> Vec<Finding> {
    const CHECK: &str = "objects";
    let (world, webhooks) = tokio::join!(World::read(cluster), cluster.list_readable::<RegistryWebhook>());
    let mut world = match world {
        Ok(world) => world,
        Err(error) => {
            let why = error.downcast_ref::<Fault>().map_or_else(|| error.to_string(), |fault| fault.brief().to_owned());
            return vec![Finding::unknown(CHECK, format!("can't be looked at: {why}"))];
        }
    };
    let may_see_webhooks = webhooks.is_ok();
    let webhooks = world.those_of(webhooks);
    let now = crate::clock::now();
    let mut findings = vec![gateway(&world, &cluster.namespace, now)];
    findings.push(controller(cluster, &world).await);
    findings.extend(policies(&world));
    if may_see_webhooks {
        findings.extend(receivers(&webhooks));
    }
    findings.extend(waiting(&world));
    findings.extend(stuck(&world, now));
    findings.push(readable(&world));
    findings
}

/// Whether a gateway has written lately who is there.
fn gateway(world: &World, namespace: &str, now: Timestamp) -> Finding {
    const CHECK: &str = "gateway";
    const ADVICE: &str = "start `tranche run gateway`, or look at its log; without it no rollout moves";
    let index = world.objects.index();
    let knowledge = index.knowledge(namespace);
    let Some(as_of) = knowledge.as_of else {
        if !world.refused.is_empty() {
            return Finding::unknown(CHECK, "can't be told: not all objects could be looked at");
        }
        return Finding::bad(CHECK, "none has ever said which devices are there", ADVICE);
    };
    let silent = now.as_second() - as_of.as_second();
    if silent < -AHEAD {
        let text = format!("its clock, or this machine's, is wrong: it writes of {} in the future", span(-silent));
        return Finding::bad(CHECK, text, "synchronise the clocks (NTP) of the nodes");
    }
    if silent > knowledge.silent_after() {
        return Finding::bad(CHECK, format!("none has said anything for {}", span(silent)), ADVICE);
    }
    let devices = index.devices(namespace);
    let seen = devices.iter().filter(|known| known.seen > i64::MIN).count();
    let text = format!("one wrote {} ago; it has seen {seen} of {}", span(silent), count(devices.len(), "device"));
    Finding::good(CHECK, text)
}

/// Whether somebody looks at what changes. One that was changed a moment ago is given a moment.
async fn controller(cluster: &Cluster, world: &World) -> Finding {
    const CHECK: &str = "controller";
    let behind = lagging(world);
    if world.objects.policies.is_empty() && world.objects.rollouts.is_empty() {
        return Finding::unknown(CHECK, "there is neither policy nor rollout by which to see it");
    }
    let behind = if behind.is_empty() {
        behind
    } else {
        tokio::time::sleep(SETTLED).await;
        match World::read(cluster).await {
            Ok(later) => lagging(&later).into_iter().filter(|name| behind.contains(name)).collect(),
            Err(_) => behind,
        }
    };
    verdict_on_controller(&behind)
}

fn verdict_on_controller(behind: &[String]) -> Finding {
    const CHECK: &str = "controller";
    if behind.is_empty() {
        return Finding::good(CHECK, "it has looked at every policy and rollout");
    }
    let text = format!("it has not looked at the latest change of {}", few(behind));
    Finding::bad(CHECK, text, "start `tranche run controller`, or look at its log")
}

/// Policies and rollouts whose status is not about their spec.
fn lagging(world: &World) -> Vec<String> {
    let policies = world.objects.policies.iter().map(|policy| {
        (name("policy", policy), policy.status.as_ref().and_then(|status| status.observed_generation), &policy.metadata)
    });
    let rollouts = world.objects.rollouts.iter().map(|rollout| {
        (
            name("rollout", rollout),
            rollout.status.as_ref().and_then(|status| status.observed_generation),
            &rollout.metadata,
        )
    });
    policies
        .chain(rollouts)
        .filter(|(_, observed, meta)| meta.deletion_timestamp.is_none() && *observed != meta.generation)
        .map(|(name, _, _)| name)
        .collect()
}

fn policies(world: &World) -> Vec<Finding> {
    const CHECK: &str = "policies";
    let mut findings = Vec::new();
    for policy in &world.objects.policies {
        let conditions = policy.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default();
        if let Some(ready) = untrue(conditions) {
            let text = format!("{} can't be followed: {}", policy.name_any(), ready.message);
            findings.push(Finding::bad(CHECK, text, format!("kubectl edit iup {}", policy.name_any())));
        } else if policy.spec.suspend {
            let text = format!("{} is paused: no rollout starts", policy.name_any());
            findings.push(Finding::warn(CHECK, text, format!("tranche policies resume {}", policy.name_any())));
        }
        if let Some(polled) = condition::find(conditions, condition::POLLED).filter(|polled| polled.status != "True") {
            let text = format!("{}: the registry does not answer: {}", policy.name_any(), polled.message);
            findings.push(Finding::warn(
                CHECK,
                text,
                "see spec.image.registry of the policy, and the controller's network",
            ));
        }
    }
    if findings.is_empty() {
        let policies = match world.objects.policies.len() {
            1 => "1 policy, and it is ready".to_owned(),
            several => format!("{several} policies, all of them ready"),
        };
        findings.push(match world.objects.policies.len() {
            0 => Finding::unknown(CHECK, "there is none: nothing is ever rolled out"),
            _ => Finding::good(CHECK, policies),
        });
    }
    findings
}

fn receivers(webhooks: &[RegistryWebhook]) -> Vec<Finding> {
    const CHECK: &str = "webhooks";
    let bad: Vec<Finding> = webhooks
        .iter()
        .filter_map(|webhook| {
            let conditions = webhook.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default();
            let why = match condition::find(conditions, READY) {
                None => "no api has looked at it; is `tranche run api` running?".to_owned(),
                Some(ready) if ready.status == "True" => return None,
                Some(ready) => ready.message.clone(),
            };
            let name = webhook.name_any();
            Some(Finding::bad(
                CHECK,
                format!("{name} takes no deliveries: {why}"),
                format!("kubectl describe rwh {name}"),
            ))
        })
        .collect();
    match (bad.is_empty(), webhooks.len()) {
        (false, _) => bad,
        (true, 0) => {
            vec![Finding::unknown(CHECK, "no RegistryWebhook; the first URL is open if DOCKER_WEBHOOK_SECRET is set")]
        }
        (true, several) => vec![Finding::good(CHECK, format!("{} ready", count(several, "receiver")))],
    }
}

/// Rollouts that only a person gets going again.
fn waiting(world: &World) -> Vec<Finding> {
    const CHECK: &str = "rollouts";
    let mut findings = Vec::new();
    for rollout in &world.objects.rollouts {
        let (name, phase) = (rollout.name_any(), phase_of(rollout));
        let status = rollout.status.clone().unwrap_or_default();
        let found = format!("{name} is {phase}: {}", status.message);
        let next = match phase {
            Phase::Halted => format!("tranche rollouts why {name}; then resume, or rollback"),
            Phase::Paused => format!("tranche rollouts resume {name}"),
            Phase::AwaitingApproval => format!("tranche rollouts approve {name}"),
            Phase::Pending | Phase::Progressing | Phase::Soaking | Phase::RollingBack => {
                if !condition::is_true(&status.conditions, STALLED) {
                    continue;
                }
                format!("tranche rollouts why {name}")
            }
            Phase::Completed | Phase::RolledBack | Phase::Cancelled | Phase::Superseded | Phase::Failed => continue,
        };
        findings.push(Finding::warn(CHECK, found, next));
    }
    if findings.is_empty() {
        let active = world.objects.rollouts.iter().filter(|rollout| !phase_of(rollout).is_terminal()).count();
        findings.push(Finding::good(CHECK, format!("none waits for a person; {active} running")));
    }
    findings
}

/// Objects that are being deleted and don't go.
fn stuck(world: &World, now: Timestamp) -> Option<Finding> {
    fn going<K: Resource<DynamicType = ()>>(objects: &[K]) -> impl Iterator<Item = (String, &ObjectMeta)> {
        objects.iter().map(|object| (name(&K::kind(&()), object), object.meta()))
    }
    let objects = &world.objects;
    let all = going(&objects.policies).chain(going(&objects.rollouts)).chain(going(&objects.devices));
    let stuck: BTreeMap<String, Timestamp> = all
        .filter_map(|(name, meta)| Some((name, meta.deletion_timestamp.as_ref()?.0)))
        .filter(|(_, since)| now.as_second() - since.as_second() > STUCK)
        .collect();
    let oldest = stuck.values().min()?;
    let names: Vec<String> = stuck.keys().cloned().collect();
    let text = format!("being deleted, for up to {}: {}", age(Some(*oldest), now), few(&names));
    let advice = "a rollout goes once no device's answer hangs on it: `kubectl describe` says what it waits for; is a controller running?";
    Some(Finding::bad("deletions", text, advice))
}

/// Objects that this binary can't read are invisible to controller and gateway as well; those that the person may not
/// read are not.
fn readable(world: &World) -> Finding {
    const CHECK: &str = "objects";
    if !world.unreadable.is_empty() {
        let text = format!("{}: {}", count(world.unreadable.len(), "problem"), few(&world.unreadable));
        return Finding::bad(
            CHECK,
            text,
            "mend them with kubectl edit: controller and gateway leave them alone until then",
        );
    }
    if !world.refused.is_empty() {
        let why: Vec<String> = world.refused.iter().map(|why| brief(why)).collect();
        return Finding::unknown(CHECK, format!("not all of them could be looked at: {}", few(&why)));
    }
    Finding::good(CHECK, format!("all can be read; {}", count(world.objects.devices.len(), "device")))
}

/// A refusal without what to do about it, which is said of the rights.
fn brief(why: &str) -> String {
    why.split("; ").next().unwrap_or_default().to_owned()
}

/// The condition Ready, where it is there and not True.
fn untrue(conditions: &[Condition]) -> Option<&Condition> {
    condition::find(conditions, READY).filter(|ready| ready.status != "True")
}

fn name(kind: &str, object: &impl Resource) -> String {
    format!("{} {}", kind.to_lowercase(), object.name_any())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::Grade;
    use super::*;
    use crate::cli::plan::Objects;

    const NOW: &str = "2026-12-01T12:00:00Z";

    fn now() -> Timestamp {
        NOW.parse().unwrap()
    }

    fn world(objects: &[Value]) -> World {
        let mut all = Objects::default();
        for object in objects {
            all.read(&object.to_string()).unwrap();
        }
        World { objects: all, unreadable: Vec::new(), refused: Vec::new() }
    }

    fn presence(as_of: &str) -> Value {
        json!({
            "kind": "DevicePresence", "metadata": {"name": "presence-1-0"},
            "spec": {"asOf": as_of, "interval": "5s", "seen": {"a": 1}},
        })
    }

    fn rollout(status: &Value) -> Value {
        json!({
            "kind": "ImageRollout", "metadata": {"name": "app-1", "generation": 2},
            "spec": {"policyRef": {"name": "app"}, "image": {"repository": "docker.io/acme/app", "tag": "v2"}},
            "status": status,
        })
    }

    #[test]
    fn gateways() {
        let device = json!({"kind": "Device", "metadata": {"name": "a"}, "spec": {}});
        let found = |as_of: &str| gateway(&world(&[presence(as_of), device.clone()]), "default", now());
        assert_eq!(found(NOW), Finding::good("gateway", "one wrote 0s ago; it has seen 1 of 1 device"));
        assert_eq!(found("2026-12-01T11:00:00Z").text, "none has said anything for 60m");
        assert!(found("2026-12-01T13:00:00Z").text.contains("60m in the future"));
        assert_eq!(gateway(&world(&[]), "default", now()).grade, Grade::Bad);
    }

    #[test]
    fn a_controller_that_does_not_look() {
        let seen = world(&[rollout(&json!({"observedGeneration": 2}))]);
        assert_eq!(verdict_on_controller(&lagging(&seen)).grade, Grade::Good);
        let behind = world(&[rollout(&json!({"observedGeneration": 1}))]);
        let found = verdict_on_controller(&lagging(&behind));
        assert_eq!((found.grade, found.text.contains("rollout app-1")), (Grade::Bad, true));
    }

    #[test]
    fn policies_that_are_not_ready() {
        let policy = |suspend: bool, conditions: Value| {
            world(&[json!({
                "kind": "ImageUpdatePolicy", "metadata": {"name": "app"},
                "spec": {"suspend": suspend, "image": {"pattern": "acme/app"}, "devices": {"names": ["a"]}},
                "status": {"conditions": conditions},
            })])
        };
        let condition = |type_: &str, status: &str| json!({"type": type_, "status": status, "reason": "R", "message": "why", "lastTransitionTime": NOW});
        let grades = |world: &World| policies(world).iter().map(|finding| finding.grade).collect::<Vec<_>>();
        assert_eq!(grades(&policy(false, json!([condition("Ready", "True")]))), [Grade::Good]);
        assert_eq!(grades(&policy(true, json!([condition("Ready", "True")]))), [Grade::Warn]);
        let both = policy(false, json!([condition("Ready", "False"), condition("Polled", "False")]));
        assert_eq!(grades(&both), [Grade::Bad, Grade::Warn]);
        assert_eq!(grades(&world(&[])), [Grade::Unknown]);
    }

    #[test]
    fn receivers_that_take_nothing() {
        let webhook = |status: Value| -> RegistryWebhook {
            serde_json::from_value(json!({
                "metadata": {"name": "hub"}, "spec": {"secretRef": {"name": "s"}}, "status": status,
            }))
            .unwrap()
        };
        let ready = json!({"type": "Ready", "status": "False", "reason": "R", "message": "no Secret s", "lastTransitionTime": NOW});
        let found = receivers(&[webhook(json!({"conditions": [ready]}))]);
        assert_eq!(found[0].text, "hub takes no deliveries: no Secret s");
        assert_eq!(receivers(&[webhook(json!({}))])[0].grade, Grade::Bad);
        assert_eq!(receivers(&[])[0].grade, Grade::Unknown);
    }

    #[test]
    fn rollouts_that_wait_for_a_person() {
        let found = |phase: &str| waiting(&world(&[rollout(&json!({"phase": phase, "message": "m"}))])).remove(0);
        assert_eq!(found("Halted").advice.unwrap(), "tranche rollouts why app-1; then resume, or rollback");
        assert_eq!(found("AwaitingApproval").grade, Grade::Warn);
        assert_eq!(found("Progressing").text, "none waits for a person; 1 running");
        assert_eq!(found("Failed").grade, Grade::Good);
        let stalled =
            json!({"type": "Stalled", "status": "True", "reason": "R", "message": "m", "lastTransitionTime": NOW});
        let stalled = rollout(&json!({"phase": "Pending", "message": "m", "conditions": [stalled]}));
        assert_eq!(waiting(&world(&[stalled]))[0].grade, Grade::Warn);
    }

    #[test]
    fn what_does_not_go() {
        let mut object = rollout(&json!({}));
        assert_eq!(stuck(&world(&[object.clone()]), now()), None);
        object["metadata"]["deletionTimestamp"] = json!("2026-12-01T11:55:00Z");
        assert_eq!(stuck(&world(&[object.clone()]), now()), None, "five minutes are fine");
        object["metadata"]["deletionTimestamp"] = json!("2026-12-01T11:30:00Z");
        let found = stuck(&world(&[object]), now()).unwrap();
        assert_eq!(found.text, "being deleted, for up to 30m: imagerollout app-1");
    }

    #[test]
    fn what_cannot_be_read() {
        let mut world = world(&[]);
        assert_eq!(readable(&world).grade, Grade::Good);
        world.refused.push("eve (you) may not list devices in namespace plant; ask for a role".into());
        let found = readable(&world);
        assert_eq!(found.grade, Grade::Unknown, "nothing is wrong with the objects");
        assert!(found.text.ends_with("eve (you) may not list devices in namespace plant"), "{}", found.text);
        assert_eq!(gateway(&world, "plant", now()).grade, Grade::Unknown, "its word may be among them");
        world.unreadable.push("Device x can't be read: y".into());
        let found = readable(&world);
        assert!(found.grade == Grade::Bad && found.text.contains("Device x"), "{}", found.text);
    }
}
