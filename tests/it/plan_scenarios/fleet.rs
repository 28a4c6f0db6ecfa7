//! Fleets that are not all there, and gateways that are not.

use serde_json::json;
use tranche::api::rollout::Phase;

use super::tell;
use crate::plan_support::build::{WEB, device};
use crate::plan_support::gate::name;
use crate::plan_support::sim::{Sim, status};
use crate::plan_support::world::World;

fn runs(world: &World, tag: &str) -> usize {
    let image = format!("{WEB}:{tag}");
    world.agents.values().filter(|agent| agent.running.values().all(|(i, s)| *i == image && s == "running")).count()
}

fn switch(sim: &mut Sim, devices: &[&str], online: bool) {
    let what = if online { "turn up" } else { "are switched off" };
    sim.happens("devices", &format!("{} {what}", devices.join(" ")), |world| {
        for device in devices {
            world.agents.get_mut(*device).unwrap().online = online;
        }
    });
}

#[test]
fn latecomers_during_and_after() {
    tell("latecomers", |sim| {
        sim.policy("web", &json!({ "strategy": { "batchDelay": "10m" } }));
        sim.fleet(10);
        switch(sim, &["d05", "d07", "d02"], false);
        sim.rollout("web-v2", "web", "v2", &json!({}));
        sim.until("batch 3 is open", |world| status(world, "web-v2").current_batch == 3);
        switch(sim, &["d05"], true);
        sim.until("it gets there", |world| status(world, "web-v2").phase == Phase::Completed);
        sim.finish();
        assert_eq!((runs(&sim.world, "v2"), runs(&sim.world, "v1")), (8, 2), "{}", sim.story());
        // One that comes after the end, one that comes and fails: it goes back alone.
        sim.world.agents.get_mut("d02").unwrap().bad.insert(":v2".into());
        switch(sim, &["d07", "d02"], true);
        sim.happens("people", "d11 is enrolled", |world| world.add_device(device("d11", &[("web", "acme/web:v1")])));
        sim.run_for(1200);
        sim.finish();
        assert_eq!(sim.phase("web-v2"), Phase::Completed, "{}", sim.story());
        assert_eq!((runs(&sim.world, "v2"), runs(&sim.world, "v1")), (10, 1), "{}", sim.story());
        assert!(sim.world.devices["d02"].spec.images[0].rolled_back, "{}", sim.story());
    });
}

#[test]
fn away_between_release_and_poll() {
    tell("unfetched", |sim| {
        sim.policy("web", &json!({ "strategy": { "type": "Auto" }, "failurePolicy": { "maxFailureRate": "0%" } }));
        sim.fleet(4);
        sim.rollout("web-v2", "web", "v2", &json!({}));
        sim.until("everybody was seen", |world| world.known() > 0);
        sim.settle();
        // Released, and gone before it could ask.
        switch(sim, &["d03"], false);
        sim.until("done without it", |world| status(world, "web-v2").phase == Phase::Completed);
        sim.run_for(3600);
        assert_eq!(runs(&sim.world, "v2"), 3, "{}", sim.story());
        assert_eq!(sim.status("web-v2").totals.as_ref().unwrap().deferred, 1, "{}", sim.story());
        switch(sim, &["d03"], true);
        sim.run_for(60);
        sim.finish();
        assert_eq!(runs(&sim.world, "v2"), 4, "{}", sim.story());
        assert_eq!(sim.status("web-v2").totals.as_ref().unwrap().failed, 0, "{}", sim.story());
    });
}

#[test]
fn away_between_release_and_poll_and_back_during_the_rollout() {
    tell("unfetched_and_back", |sim| {
        sim.policy(
            "web",
            &json!({
                "strategy": { "batches": [{ "size": 4 }, { "size": "100%" }], "batchDelay": "2h" },
                "failurePolicy": { "maxFailureRate": "0%", "action": "RollBackAll" },
            }),
        );
        sim.fleet(8);
        sim.rollout("web-v2", "web", "v2", &json!({}));
        sim.until("batch 1 is released", |world| {
            status(world, "web-v2").batches.first().is_some_and(|b| b.released == 4)
        });
        let gone = sim.world.devices.values().find(|d| {
            d.spec
                .images
                .first()
                .is_some_and(|e| !sim.world.agents[&name(d)].held.values().any(|i| Some(i) == e.image.as_ref()))
        });
        // In random order everybody may have fetched it already.
        let Some(gone) = gone.map(name) else { return };
        switch(sim, &[&gone], false);
        sim.run_for(3600);
        switch(sim, &[&gone], true);
        sim.run_for(600);
        sim.finish();
        assert_eq!(sim.phase("web-v2"), Phase::Completed, "{}", sim.story());
        assert_eq!(runs(&sim.world, "v2"), 8, "{}", sim.story());
    });
}

#[test]
fn nobody_of_a_batch_is_there() {
    tell("nobody_there", |sim| {
        sim.policy("web", &json!({ "strategy": { "batches": [{ "size": 2 }, { "size": "100%" }] } }));
        sim.fleet(10);
        // d01 and d05 are the first batch.
        switch(sim, &["d01", "d05"], false);
        sim.rollout("web-v2", "web", "v2", &json!({}));
        sim.run_for(600);
        sim.finish();
        assert_eq!(sim.phase("web-v2"), Phase::Progressing, "{}", sim.story());
        assert!(sim.status("web-v2").message.contains("nothing is proven"), "{}", sim.story());
        sim.person("waves the empty batch through", "web-v2", |spec| spec.approved_batches = Some(2));
        sim.finish();
        assert_eq!(sim.phase("web-v2"), Phase::Completed, "{}", sim.story());
        assert_eq!(runs(&sim.world, "v2"), 8, "{}", sim.story());
    });
}

#[test]
fn no_gateway_for_an_hour() {
    tell("gateway_silent", |sim| {
        sim.policy("web", &json!({ "failurePolicy": { "maxFailureRate": "0%" } }));
        sim.fleet(10);
        sim.rollout("web-v2", "web", "v2", &json!({}));
        sim.until("batch 2 is released", |world| {
            status(world, "web-v2").totals.as_ref().is_some_and(|totals| totals.released > 1)
        });
        sim.happens("gateway", "is down", |world| world.gateway = false);
        sim.run_for(3600);
        let failed = sim.status("web-v2").totals.as_ref().unwrap().failed;
        assert_eq!(failed, 0, "silence of the gateway is nobody's failure\n{}", sim.story());
        sim.happens("gateway", "is back", |world| world.gateway = true);
        sim.finish();
        assert_eq!(sim.phase("web-v2"), Phase::Completed, "{}", sim.story());
    });
}

#[test]
fn devices_vanish_and_a_halt_stays() {
    tell("devices_deleted", |sim| {
        sim.policy("web", &json!({ "failurePolicy": { "maxFailureRate": "0%" } }));
        sim.fleet(10);
        sim.world.agents.values_mut().for_each(|agent| agent.bad = [":v2".to_owned()].into());
        sim.rollout("web-v2", "web", "v2", &json!({}));
        sim.until("halted", |world| status(world, "web-v2").phase == Phase::Halted);
        let failed = sim.status("web-v2").failed_devices[0].name.clone();
        sim.happens("people", "the failed device is deleted", |world| world.delete_device(&failed));
        sim.finish();
        assert_eq!(sim.phase("web-v2"), Phase::Halted, "{}", sim.story());
        sim.world.agents.values_mut().for_each(|agent| agent.bad.clear());
        sim.person("acknowledges it", "web-v2", |spec| spec.acknowledged_failures = 1);
        sim.finish();
        assert_eq!(sim.phase("web-v2"), Phase::Completed, "{}", sim.story());
        assert_eq!(runs(&sim.world, "v2"), 9, "{}", sim.story());
    });
}

#[test]
fn several_services_of_one_repository() {
    tell("mixed_services", |sim| {
        sim.policy("web", &json!({ "failurePolicy": { "maxFailureRate": "100%" } }));
        let services = [("front", "acme/web:v1"), ("back", "docker.io/acme/web:v1"), ("db", "postgres:16")];
        for index in 1..=4 {
            sim.world.add_device(device(&format!("d{index:02}"), &services));
        }
        // Two that run different images: one reference could not bring both back, so what apps declares does.
        let mixed = [("front", "acme/web:v0"), ("back", "acme/web:v1")];
        sim.world.add_device(device("d05", &mixed));
        sim.world.add_device(device("d06", &[("db", "postgres:16")]));
        sim.world.agents.get_mut("d05").unwrap().bad.insert(":v2".into());
        sim.rollout("web-v2", "web", "v2", &json!({}));
        sim.finish();
        assert_eq!(sim.phase("web-v2"), Phase::Completed, "{}", sim.story());
        let running = |device: &str| -> Vec<String> {
            sim.world.agents[device]
                .running
                .values()
                .map(|(image, _)| image.rsplit_once(':').unwrap().1.to_owned())
                .collect()
        };
        assert_eq!(running("d01"), ["v2", "16", "v2"]);
        assert_eq!(running("d05"), ["v1", "v0"], "{}", sim.story());
        assert_eq!(running("d06"), ["16"]);
    });
}
