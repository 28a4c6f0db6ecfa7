//! Rollouts that go on: happy ones, bad images, budgets, soaks, limits.

use serde_json::json;
use tranche::api::rollout::Phase;

use super::{tell, tell_often};
use crate::plan_support::build::WEB;
use crate::plan_support::sim::{Sim, status};

/// Every device runs the tag.
fn all_run(sim: &Sim, tag: &str) -> bool {
    let image = format!("{WEB}:{tag}");
    sim.world.agents.values().all(|agent| agent.running.values().all(|(i, s)| *i == image && s == "running"))
}

fn told(sim: &Sim, tag: &str) -> usize {
    let image = format!("{WEB}:{tag}");
    sim.world.agents.values().filter(|agent| agent.held.values().any(|held| *held == image)).count()
}

fn happy(name: &str, devices: usize) {
    tell_often(name, if devices > 10 { 1 } else { 6 }, |sim| {
        sim.policy("web", &json!({ "strategy": { "batchDelay": "30m" } }));
        sim.fleet(devices);
        sim.rollout("web-v2", "web", "v2", &json!({}));
        sim.finish();
        assert_eq!(sim.phase("web-v2"), Phase::Completed, "{}", sim.story());
        assert!(all_run(sim, "v2"));
    });
}

#[test]
fn happy_10() {
    happy("happy_10", 10);
}

#[test]
fn happy_50() {
    happy("happy_50", 50);
}

#[test]
fn happy_100() {
    happy("happy_100", 100);
}

#[test]
fn bad_image_goes_back_everywhere() {
    tell("bad_image_roll_back_all", |sim| {
        sim.policy("web", &json!({ "failurePolicy": { "maxFailureRate": "0%", "action": "RollBackAll" } }));
        sim.fleet(20);
        sim.world.agents.values_mut().for_each(|agent| agent.bad = [":v2".to_owned()].into());
        sim.rollout("web-v2", "web", "v2", &json!({}));
        sim.until("rolled back", |world| status(world, "web-v2").phase == Phase::RolledBack);
        sim.finish();
        assert!(all_run(sim, "v1"), "{}", sim.story());
        let rejected = &sim.world.policies["web"].status.as_ref().unwrap().rejected;
        assert_eq!(rejected.len(), 1, "{rejected:?}");
    });
}

#[test]
fn pause_acknowledge_go_on() {
    tell("pause_acknowledge_go_on", |sim| {
        sim.policy("web", &json!({ "failurePolicy": { "maxFailureRate": "20%" } }));
        sim.fleet(20);
        // All of the first batch fails, and one device later on, which the budget of its batch allows.
        sim.rollout("web-v2", "web", "v2", &json!({}));
        sim.until("batch 1 is released", |world| {
            status(world, "web-v2").batches.first().is_some_and(|b| b.released == 2)
        });
        let bad: Vec<String> = sim
            .world
            .devices
            .values()
            .filter(|d| !d.spec.images.is_empty())
            .map(crate::plan_support::gate::name)
            .collect();
        for name in &bad {
            sim.world.agents.get_mut(name).unwrap().bad.insert(":v2".into());
        }
        sim.until("halted", |world| status(world, "web-v2").phase == Phase::Halted);
        assert!(told(sim, "v2") <= 2);
        let other = sim.world.agents.keys().find(|name| !bad.contains(name)).unwrap().clone();
        sim.world.agents.get_mut(&other).unwrap().bad.insert(":v2".into());
        sim.finish();
        // In random order the two of the first batch may fail one after the other.
        while let Some(halted) = sim.status("web-v2").halted.clone() {
            assert_eq!(halted.batch, 1, "the budget of the last batch allows one failure\n{}", sim.story());
            let failures = halted.failures;
            sim.person(&format!("acknowledges {failures} failures"), "web-v2", |spec| {
                spec.acknowledged_failures = failures;
            });
            sim.finish();
        }
        assert_eq!(sim.phase("web-v2"), Phase::Completed, "{}", sim.story());
        assert_eq!(sim.status("web-v2").totals.as_ref().unwrap().failed, 3);
    });
}

#[test]
fn bad_batch_goes_back_alone() {
    tell("roll_back_batch", |sim| {
        sim.policy(
            "web",
            &json!({
                "strategy": { "batches": [{ "size": 2 }, { "size": 10 }, { "size": "100%" }] },
                "failurePolicy": { "maxFailureRate": "0%", "action": "RollBackBatch" },
            }),
        );
        sim.fleet(20);
        sim.rollout("web-v2", "web", "v2", &json!({}));
        sim.until("batch 2 is open", |world| status(world, "web-v2").current_batch == 2);
        let second = sim.world.devices.values().find(|d| d.spec.images.first().is_none_or(|e| e.batch == 2));
        let second = crate::plan_support::gate::name(second.unwrap());
        sim.world.agents.get_mut(&second).unwrap().bad.insert(":v2".into());
        sim.until("halted or done", |world| {
            let phase = status(world, "web-v2").phase;
            phase == Phase::Halted || phase == Phase::Completed
        });
        sim.finish();
        if sim.phase("web-v2") == Phase::Halted {
            // Only the batch of the device that failed goes back.
            let batch = sim.status("web-v2").halted.as_ref().unwrap().batch;
            for device in sim.world.devices.values() {
                for entry in &device.spec.images {
                    assert_eq!(entry.rolled_back, entry.batch == batch, "{}", sim.story());
                }
            }
        }
    });
}

#[test]
fn failed_devices_stay_where_they_are_if_the_policy_says_so() {
    tell("no_roll_back_of_failed", |sim| {
        sim.policy("web", &json!({ "failurePolicy": { "maxFailureRate": "50%", "rollBackFailedDevices": false } }));
        sim.fleet(10);
        sim.world.agents.get_mut("d03").unwrap().bad.insert(":v2".into());
        sim.rollout("web-v2", "web", "v2", &json!({}));
        sim.finish();
        let expected = sim.status("web-v2").batches[0].devices == 1 && sim.phase("web-v2") == Phase::Halted;
        assert!(expected || sim.phase("web-v2") == Phase::Completed, "{}", sim.story());
        assert!(!sim.world.devices["d03"].spec.images.iter().any(|entry| entry.rolled_back));
    });
}

#[test]
fn few_at_once() {
    tell("max_concurrent", |sim| {
        sim.policy("web", &json!({ "strategy": { "type": "Auto", "maxConcurrent": 3 } }));
        sim.fleet(10);
        sim.rollout("web-v2", "web", "v2", &json!({}));
        sim.finish();
        assert_eq!(sim.phase("web-v2"), Phase::Completed, "{}", sim.story());
    });
}

#[test]
fn each_batch_waits_for_a_person() {
    tell("manual_approval", |sim| {
        sim.policy("web", &json!({ "strategy": { "type": "Manual" } }));
        sim.fleet(10);
        sim.rollout("web-v2", "web", "v2", &json!({}));
        sim.finish();
        for approved in 1..=3 {
            assert_eq!(sim.phase("web-v2"), Phase::AwaitingApproval, "{}", sim.story());
            sim.person(&format!("approves batch {approved}"), "web-v2", |spec| spec.approved_batches = Some(approved));
            sim.finish();
        }
        assert_eq!(sim.phase("web-v2"), Phase::Completed, "{}", sim.story());
    });
}

#[test]
fn only_at_night() {
    tell("windows", |sim| {
        // The story begins at 08:00 UTC; the window opens at 20:00 UTC for ten minutes, which is not enough for all.
        let window = json!({ "start": "22:00", "end": "22:10", "timeZone": "Europe/Berlin" });
        sim.policy("web", &json!({ "strategy": { "type": "Scheduled", "windows": [window], "batchDelay": "6m" } }));
        sim.fleet(10);
        sim.rollout("web-v2", "web", "v2", &json!({}));
        sim.finish();
        assert_eq!(sim.phase("web-v2"), Phase::Completed, "{}", sim.story());
    });
}

#[test]
fn a_device_that_falls_back_while_it_is_watched() {
    tell("falls_back_while_soaking", |sim| {
        sim.policy("web", &json!({ "strategy": { "batchDelay": "1h" }, "failurePolicy": { "maxFailureRate": "0%" } }));
        sim.fleet(10);
        sim.rollout("web-v2", "web", "v2", &json!({}));
        sim.until("soaking", |world| status(world, "web-v2").phase == Phase::Soaking);
        sim.run_for(1200);
        let canary = sim
            .world
            .devices
            .values()
            .find(|d| !d.spec.images.is_empty())
            .map(crate::plan_support::gate::name)
            .unwrap();
        sim.happens("devices", "the canary's container dies", |world| {
            let agent = world.agents.get_mut(&canary).unwrap();
            agent.running.values_mut().for_each(|(_, status)| *status = "exited".into());
        });
        sim.until("halted", |world| status(world, "web-v2").phase == Phase::Halted);
        assert!(told(sim, "v2") <= 1, "{}", sim.story());
    });
}
