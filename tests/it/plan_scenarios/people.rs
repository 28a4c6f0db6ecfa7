//! What people do to a rollout on its way: pause, cancel, roll back, hold, push again, edit, delete.

use serde_json::json;
use tranche::api::rollout::{DesiredState, Phase};

use super::tell;
use crate::plan_support::build::{WEB, digest};
use crate::plan_support::gate::name;
use crate::plan_support::sim::{Sim, status};
use crate::plan_support::world::World;

/// A fleet of ten, on its way to v2: the canary runs it, the second batch of four is released.
fn second_batch(sim: &mut Sim, policy: &serde_json::Value) {
    sim.policy("web", policy);
    sim.fleet(10);
    sim.rollout("web-v2", "web", "v2", &json!({}));
    sim.until("batch 2 is released", |world| released(world, "web-v2") > 1);
}

fn released(world: &World, rollout: &str) -> i32 {
    status(world, rollout).totals.as_ref().map_or(0, |totals| totals.released)
}

fn runs(world: &World, tag: &str) -> usize {
    let image = format!("{WEB}:{tag}");
    world.agents.values().filter(|agent| agent.running.values().all(|(i, s)| *i == image && s == "running")).count()
}

#[test]
fn pause_and_resume() {
    tell("pause_and_resume", |sim| {
        second_batch(sim, &json!({}));
        sim.person("pauses", "web-v2", |spec| spec.paused = true);
        sim.run_for(1800);
        assert_eq!(sim.phase("web-v2"), Phase::Paused, "{}", sim.story());
        assert_eq!(runs(&sim.world, "v2") + runs(&sim.world, "v1"), 10, "nobody is left half way\n{}", sim.story());
        sim.person("resumes", "web-v2", |spec| spec.paused = false);
        sim.finish();
        // The deadline started again: half an hour of pause is nobody's failure.
        assert_eq!(sim.status("web-v2").totals.as_ref().unwrap().failed, 0, "{}", sim.story());
        assert_eq!(sim.phase("web-v2"), Phase::Completed);
    });
}

#[test]
fn cancel() {
    tell("cancel", |sim| {
        second_batch(sim, &json!({}));
        sim.person("cancels", "web-v2", |spec| spec.desired_state = DesiredState::Cancelled);
        sim.run_for(1200);
        sim.finish();
        assert_eq!(sim.phase("web-v2"), Phase::Cancelled, "{}", sim.story());
        assert!(runs(&sim.world, "v2") >= 1, "devices that run it keep it");
        assert!(runs(&sim.world, "v1") >= 5, "nobody else gets it");
    });
}

#[test]
fn cancel_keeps_what_runs_though_an_older_rollout_is_the_latest_again() {
    tell("cancel_after_an_older_one", |sim| {
        sim.policy("web", &json!({}));
        sim.fleet(10);
        sim.rollout("web-v2", "web", "v2", &json!({}));
        sim.finish();
        sim.run_for(60);
        sim.rollout("web-v3", "web", "v3", &json!({}));
        sim.until("some run v3", |world| runs(world, "v3") >= 1);
        sim.person("cancels", "web-v3", |spec| spec.desired_state = DesiredState::Cancelled);
        sim.finish();
        assert_eq!(sim.phase("web-v3"), Phase::Cancelled, "{}", sim.story());
        assert!(runs(&sim.world, "v3") >= 1, "{}", sim.story());
        assert_eq!(runs(&sim.world, "v3") + runs(&sim.world, "v2"), 10, "{}", sim.story());
    });
}

#[test]
fn roll_back_mid_way() {
    tell("roll_back_mid_way", |sim| {
        second_batch(sim, &json!({}));
        sim.person("rolls back", "web-v2", |spec| spec.desired_state = DesiredState::RolledBack);
        sim.finish();
        assert_eq!(sim.phase("web-v2"), Phase::RolledBack, "{}", sim.story());
        assert_eq!(runs(&sim.world, "v1"), 10, "{}", sim.story());
    });
}

#[test]
fn roll_back_after_completion() {
    tell("roll_back_completed", |sim| {
        sim.policy("web", &json!({}));
        sim.fleet(10);
        sim.rollout("web-v2", "web", "v2", &json!({}));
        sim.finish();
        sim.happens("people", "d04 is held", |world| world.edit_device("d04", |spec| spec.hold = true));
        sim.person("rolls back", "web-v2", |spec| spec.desired_state = DesiredState::RolledBack);
        sim.finish();
        assert_eq!(sim.phase("web-v2"), Phase::RolledBack, "{}", sim.story());
        // A hold keeps a device from moving forward, not from going back.
        assert_eq!(runs(&sim.world, "v1"), 10, "{}", sim.story());
    });
}

#[test]
fn one_device_goes_back() {
    tell("one_device_goes_back", |sim| {
        sim.policy("web", &json!({ "strategy": { "batchDelay": "10m" } }));
        sim.fleet(10);
        sim.rollout("web-v2", "web", "v2", &json!({}));
        sim.until("batch 2 is open", |world| status(world, "web-v2").current_batch == 2);
        // d01 is the canary; d02 is in the last batch and was never told.
        sim.person("names d01 and d02", "web-v2", |spec| {
            spec.roll_back_devices = vec!["d01".into(), "d02".into()];
        });
        sim.finish();
        assert_eq!(sim.phase("web-v2"), Phase::Completed, "{}", sim.story());
        assert_eq!((runs(&sim.world, "v1"), runs(&sim.world, "v2")), (2, 8), "{}", sim.story());
        sim.person("names d03 too", "web-v2", |spec| spec.roll_back_devices.push("d03".into()));
        sim.finish();
        assert_eq!(runs(&sim.world, "v1"), 3, "{}", sim.story());
    });
}

fn pushed_again(name: &str, on_new_image: &str, check: impl Fn(&mut Sim)) {
    tell(name, |sim| {
        second_batch(sim, &json!({ "onNewImage": on_new_image }));
        sim.rollout("web-v3", "web", "v3", &json!({}));
        sim.finish();
        check(sim);
    });
}

#[test]
fn a_newer_image_takes_over() {
    pushed_again("replace", "Replace", |sim| {
        let phases = (sim.phase("web-v2"), sim.phase("web-v3"));
        // In random order the first may have been done before the second came.
        assert!(matches!(phases.0, Phase::Superseded | Phase::Completed), "{}", sim.story());
        assert_eq!(phases.1, Phase::Completed, "{}", sim.story());
        assert_eq!(runs(&sim.world, "v3"), 10);
    });
}

#[test]
fn a_newer_image_waits() {
    pushed_again("queue", "Queue", |sim| {
        assert_eq!((sim.phase("web-v2"), sim.phase("web-v3")), (Phase::Completed, Phase::Completed), "{}", sim.story());
        assert_eq!(runs(&sim.world, "v3"), 10);
    });
}

#[test]
fn a_newer_image_is_ignored() {
    pushed_again("ignore", "Ignore", |sim| {
        assert_eq!(sim.phase("web-v2"), Phase::Completed, "{}", sim.story());
        assert!(matches!(sim.phase("web-v3"), Phase::Superseded | Phase::Completed), "{}", sim.story());
    });
}

#[test]
fn a_rollout_that_cannot_start_takes_nothing_over() {
    tell("stuck_rollouts", |sim| {
        sim.policy("web", &json!({ "image": { "pattern": "acme/web:v*" } }));
        sim.fleet(10);
        sim.rollout("web-v2", "web", "v2", &json!({}));
        sim.until("batch 1 is open", |world| status(world, "web-v2").current_batch == 1);
        sim.world.now += jiff::SignedDuration::from_secs(60);
        sim.rollout("web-nightly", "web", "nightly", &json!({}));
        sim.finish();
        assert_eq!(sim.phase("web-v2"), Phase::Completed, "{}", sim.story());
        assert_eq!(sim.phase("web-nightly"), Phase::Pending);
        // Nor does it keep others from starting.
        sim.world.now += jiff::SignedDuration::from_secs(60);
        sim.rollout("web-v3", "web", "v3", &json!({}));
        sim.finish();
        assert_eq!(sim.phase("web-v3"), Phase::Completed, "{}", sim.story());
        assert_eq!(sim.phase("web-nightly"), Phase::Superseded, "{}", sim.story());
    });
}

#[test]
fn hold_mid_way() {
    tell("hold", |sim| {
        sim.policy("web", &json!({ "strategy": { "type": "Auto" } }));
        sim.fleet(4);
        sim.happens("people", "d02 is held", |world| world.edit_device("d02", |spec| spec.hold = true));
        sim.rollout("web-v2", "web", "v2", &json!({}));
        sim.until("the others are released", |world| released(world, "web-v2") == 3);
        let held = sim.world.devices.values().find(|d| !d.spec.images.is_empty()).map(name).unwrap();
        sim.happens("people", &format!("{held} is held just after its release"), |world| {
            world.edit_device(&held, |spec| spec.hold = true);
        });
        sim.finish();
        assert_eq!(sim.phase("web-v2"), Phase::Completed, "{}", sim.story());
        sim.run_for(1200);
        for name in ["d02", &held] {
            sim.happens("people", &format!("{name} is no longer held"), |world| {
                world.edit_device(name, |spec| spec.hold = false);
            });
        }
        sim.finish();
        assert_eq!(runs(&sim.world, "v2"), 4, "{}", sim.story());
        assert_eq!(sim.status("web-v2").totals.as_ref().unwrap().failed, 0, "{}", sim.story());
    });
}

#[test]
fn git_declares_something_else() {
    tell("git_overrides", |sim| {
        second_batch(sim, &json!({}));
        // One that was released, one that was not.
        let was = sim.world.devices.values().find(|d| !d.spec.images.is_empty()).map(name).unwrap();
        for device in [was.as_str(), "d02"] {
            sim.happens("git", &format!("declares acme/web:v9 on {device}"), |world| {
                world.edit_device(device, |spec| {
                    spec.apps.get_mut("1001").unwrap()["services"][0]["imageName"] = "acme/web:v9".into();
                });
            });
        }
        sim.finish();
        assert_eq!(sim.phase("web-v2"), Phase::Completed, "{}", sim.story());
        assert!(sim.world.agents[&was].running.values().all(|(image, _)| image.ends_with(":v9")), "{}", sim.story());
        let conflict = sim.status("web-v2").conditions.iter().any(|c| c.type_ == "DevicesInConflict");
        assert!(conflict, "{}", sim.story());
        // Git agrees with the rollout: no conflict any more.
        sim.happens("git", "declares acme/web:v2 everywhere", |world| {
            for device in world.devices.keys().cloned().collect::<Vec<_>>() {
                world.edit_device(&device, |spec| {
                    spec.apps.get_mut("1001").unwrap()["services"][0]["imageName"] = "acme/web:v2".into();
                });
            }
        });
        sim.finish();
        let conflict = sim.status("web-v2").conditions.iter().any(|c| c.type_ == "DevicesInConflict");
        assert!(!conflict, "{}", sim.story());
        assert_eq!(runs(&sim.world, "v2"), 10, "{}", sim.story());
    });
}

#[test]
fn two_policies_claim_one_repository() {
    tell("two_policies", |sim| {
        sim.policy("web", &json!({ "strategy": { "type": "Auto" } }));
        sim.policy("other", &json!({ "strategy": { "type": "Auto" } }));
        sim.fleet(4);
        sim.rollout("web-v2", "web", "v2", &json!({}));
        sim.until("released", |world| released(world, "web-v2") == 4);
        sim.rollout("other-v3", "other", "v3", &json!({}));
        sim.finish();
        assert_eq!(sim.phase("web-v2"), Phase::Completed, "{}", sim.story());
        assert_eq!(runs(&sim.world, "v2"), 4, "{}", sim.story());
        let conflict = sim.status("other-v3").conditions.iter().any(|c| c.type_ == "DevicesInConflict");
        assert!(conflict && sim.phase("other-v3") == Phase::Progressing, "{}", sim.story());
    });
}

#[test]
fn the_very_bits() {
    tell("digest", |sim| {
        sim.policy("web", &json!({}));
        sim.fleet(3);
        sim.rollout("web-v2", "web", "v2", &json!({ "image": { "digest": digest('a') } }));
        sim.finish();
        assert_eq!(sim.phase("web-v2"), Phase::Completed, "{}", sim.story());
        let image = format!("{WEB}@{}", digest('a'));
        assert!(sim.world.agents.values().all(|a| a.running.values().all(|(i, _)| *i == image)), "{}", sim.story());
        // The tag moves: the same name, other bits.
        sim.run_for(60);
        sim.rollout("web-v2b", "web", "v2", &json!({ "image": { "digest": digest('b') } }));
        sim.finish();
        assert_eq!(sim.phase("web-v2b"), Phase::Completed, "{}", sim.story());
        assert!(sim.world.devices.values().all(|d| d.spec.images[0].previous == Some(image.clone())));
    });
}
