//! Things that go away under a running rollout: the rollout itself in each phase, its policy.

use serde_json::json;
use tranche::api::rollout::{DesiredState, Phase};

use super::tell;
use crate::plan_support::build::WEB;
use crate::plan_support::sim::{Sim, status};
use crate::plan_support::world::World;

fn runs(world: &World, tag: &str) -> usize {
    let image = format!("{WEB}:{tag}");
    world.agents.values().filter(|agent| agent.running.values().all(|(i, s)| *i == image && s == "running")).count()
}

/// Ten devices; the rollout is deleted once `when` holds. Nobody may change sides after that.
fn deleted(name: &str, prepare: impl Fn(&mut Sim)) {
    tell(name, |sim| {
        sim.policy("web", &json!({ "strategy": { "batchDelay": "10m" }, "failurePolicy": { "maxFailureRate": "0%" } }));
        sim.fleet(10);
        sim.rollout("web-v2", "web", "v2", &json!({}));
        prepare(sim);
        sim.happens("people", "web-v2 is deleted", |world| world.delete_rollout("web-v2"));
        sim.finish();
        assert!(sim.world.rollouts.is_empty(), "{}", sim.story());
        sim.run_for(120);
        assert_eq!(runs(&sim.world, "v1") + runs(&sim.world, "v2"), 10, "{}", sim.story());
        for device in sim.world.devices.values() {
            for entry in &device.spec.images {
                let told = entry.image.clone().unwrap_or_else(|| format!("{WEB}:v1"));
                let agent = &sim.world.agents[&crate::plan_support::gate::name(device)];
                assert!(agent.running.values().all(|(image, _)| *image == told), "what is told is what runs");
            }
        }
    });
}

fn second_batch(sim: &mut Sim) {
    sim.until("batch 2 is released", |world| {
        status(world, "web-v2").totals.as_ref().is_some_and(|totals| totals.released > 1)
    });
}

#[test]
fn deleted_before_the_start() {
    deleted("deleted_pending", |_| {});
}

#[test]
fn deleted_while_progressing() {
    deleted("deleted_progressing", second_batch);
}

#[test]
fn deleted_while_soaking() {
    deleted("deleted_soaking", |sim| {
        sim.until("soaking", |world| status(world, "web-v2").phase == Phase::Soaking);
    });
}

#[test]
fn deleted_while_paused() {
    deleted("deleted_paused", |sim| {
        second_batch(sim);
        sim.person("pauses", "web-v2", |spec| spec.paused = true);
        sim.finish();
    });
}

#[test]
fn deleted_while_halted() {
    deleted("deleted_halted", |sim| {
        second_batch(sim);
        let mut bad = sim.world.devices.values().filter_map(|d| d.spec.images.first().filter(|e| e.batch == 2).map(|_| d));
        let bad = crate::plan_support::gate::name(bad.next_back().unwrap());
        sim.world.agents.get_mut(&bad).unwrap().bad.insert(":v2".into());
        sim.until("halted, or the device had it already", |world| {
            matches!(status(world, "web-v2").phase, Phase::Halted | Phase::Completed)
        });
    });
}

#[test]
fn deleted_while_cancelled() {
    deleted("deleted_cancelled", |sim| {
        second_batch(sim);
        sim.person("cancels", "web-v2", |spec| spec.desired_state = DesiredState::Cancelled);
        sim.finish();
    });
}

#[test]
fn deleted_while_rolling_back() {
    deleted("deleted_rolling_back", |sim| {
        second_batch(sim);
        sim.person("rolls back", "web-v2", |spec| spec.desired_state = DesiredState::RolledBack);
        sim.until("on the way", |world| status(world, "web-v2").rollback_time.is_some());
    });
}

#[test]
fn deleted_after_completion() {
    deleted("deleted_completed", |sim| sim.finish());
}

#[test]
fn policy_deleted_mid_way() {
    tell("policy_deleted", |sim| {
        sim.policy("web", &json!({}));
        sim.fleet(10);
        sim.rollout("web-v2", "web", "v2", &json!({}));
        sim.until("batch 1 is open", |world| status(world, "web-v2").current_batch == 1);
        sim.happens("people", "the policy is deleted", |world| drop(world.policies.remove("web")));
        sim.rollout("web-v3", "web", "v3", &json!({}));
        sim.finish();
        // A rollout goes by the plan in its own status.
        assert_eq!(sim.phase("web-v2"), Phase::Completed, "{}", sim.story());
        assert!(sim.status("web-v3").message.contains("does not exist"), "{}", sim.story());
        assert_eq!(runs(&sim.world, "v2"), 10);
    });
}

#[test]
fn policy_invalid_and_suspended_mid_way() {
    tell("policy_invalid_and_suspended", |sim| {
        sim.policy("web", &json!({}));
        sim.fleet(10);
        sim.rollout("web-v2", "web", "v2", &json!({}));
        sim.until("batch 1 is open", |world| status(world, "web-v2").current_batch == 1);
        sim.edit_policy("web", |policy| policy.spec.image.pattern = "acme/web:[".into());
        sim.rollout("web-v3", "web", "v3", &json!({}));
        sim.until("v2 is done", |world| status(world, "web-v2").phase == Phase::Completed);
        sim.finish();
        assert!(sim.status("web-v3").message.contains("can't be followed"), "{}", sim.story());
        sim.edit_policy("web", |policy| {
            policy.spec.image.pattern = "acme/web:*".into();
            policy.spec.suspend = true;
        });
        sim.finish();
        assert!(sim.status("web-v3").message.contains("suspended"), "{}", sim.story());
        sim.edit_policy("web", |policy| policy.spec.suspend = false);
        sim.finish();
        assert_eq!(sim.phase("web-v3"), Phase::Completed, "{}", sim.story());
        assert_eq!(runs(&sim.world, "v3"), 10);
    });
}

#[test]
fn old_rollouts_are_pruned() {
    tell("pruned", |sim| {
        sim.policy("web", &json!({ "historyLimit": 1, "strategy": { "type": "Auto" } }));
        sim.fleet(3);
        for tag in ["v2", "v3", "v4", "v5"] {
            sim.run_for(60);
            sim.rollout(&format!("web-{tag}"), "web", tag, &json!({}));
            sim.finish();
        }
        let left: Vec<&str> = sim.world.rollouts.keys().map(String::as_str).collect();
        assert_eq!(left, ["web-v4", "web-v5"], "{}", sim.story());
        assert_eq!(runs(&sim.world, "v5"), 3);
    });
}
