//! The controller dies at every single write of a story, before it and after it, and comes back: the end is the same each
//! time, and nothing happens on the way that must not.
//!
//! A death after a write is the worse of the two: the write was stored, and nobody knows.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::{Instant, sleep};
use tranche::simulate::Personality::{self, Fails, Healthy};

use super::support::apiserver::faults::{Fault, nth_write};
use super::support::live::{World, policy, rollout};

/// Six devices, of which one can't pull what is new.
const DEVICES: [Personality; 6] = [Healthy, Healthy, Fails, Healthy, Healthy, Healthy];

/// What a person does, and what for.
#[derive(Clone, Copy, Debug)]
enum Story {
    /// Two batches; the bad device fails within the budget and goes back.
    Completes,
    /// Nobody can pull it: the first batch breaks the budget and everything goes back.
    RollsBack,
    /// Sent back by a person while it soaks, and deleted once it is back.
    TakenBack,
}

impl Story {
    async fn run(self, world: &World) {
        let tag = if let Self::RollsBack = self { "bad" } else { "v2" };
        world.api.create("imagerollouts", &rollout(tag, &json!({}))).await.unwrap();
        match self {
            Self::Completes => world.until_phase("web-v2", "Completed").await,
            Self::RollsBack => world.until_phase("web-bad", "RolledBack").await,
            Self::TakenBack => {
                world.until_phase("web-v2", "Soaking").await;
                let back = json!({"spec": {"desiredState": "RolledBack"}});
                world.api.edit("imagerollouts", "web-v2", &back).await.unwrap();
                world.until_phase("web-v2", "RolledBack").await;
                world.api.delete("imagerollouts", "web-v2");
                world.until("it is gone", |world| world.api.names("imagerollouts").is_empty()).await;
            }
        }
        sleep(Duration::from_secs(90)).await;
    }

    fn policy(self) -> Value {
        let (rate, delay) = match self {
            Self::Completes => ("50%", "10s"),
            Self::RollsBack => ("0%", "0s"),
            Self::TakenBack => ("50%", "1h"),
        };
        policy(&json!({
            "failurePolicy": {"action": "RollBackAll", "maxFailureRate": rate},
            "strategy": {"type": "Staged", "batches": [{"size": "50%"}, {"size": "100%"}], "batchDelay": delay, "maxConcurrent": 2},
            "updateDeadline": "1m",
        }))
    }

    /// Tells the story with that fault at that write; how it ended, and how many writes it took.
    async fn told(self, fault: Option<(usize, Fault)>) -> (BTreeMap<String, Value>, usize) {
        let world = World::new(&DEVICES).await;
        world.api.create("imageupdatepolicies", &self.policy()).await.unwrap();
        sleep(Duration::from_secs(10)).await;
        let begin = Instant::now();
        world.api.set_hook(fault.map(|(write, fault)| nth_write("controller", write, fault)));
        let revive = async {
            world.api.died(1).await;
            world.kill_controller().await;
            sleep(Duration::from_secs(3)).await;
            world.start_controller();
            std::future::pending::<()>().await;
        };
        tokio::select! {
            () = self.run(&world) => {}
            () = revive => unreachable!(),
        }
        world.check_never();
        let writes = world.writes_since(begin).iter().filter(|seen| seen.actor == "controller").count();
        (self.end(&world), writes)
    }

    /// What has to be the same, and none of what depends on when.
    fn end(self, world: &World) -> BTreeMap<String, Value> {
        // Whose time is up by the time that the first failure breaks the budget depends on when each was told.
        let verdicts_depend_on_time = matches!(self, Self::RollsBack);
        let mut end = BTreeMap::new();
        for rollout in world.api.list("imagerollouts") {
            let status = &rollout["status"];
            let batches = status["batches"].as_array().into_iter().flatten();
            let figures =
                |batch: &Value| json!([batch["boundary"], batch["healthy"], batch["failed"], batch["rolledBack"]]);
            let batches: Vec<Value> = if verdicts_depend_on_time { Vec::new() } else { batches.map(figures).collect() };
            let name = rollout["metadata"]["name"].as_str().unwrap().to_owned();
            end.insert(name, json!([status["phase"], batches, status["currentBatch"]]));
        }
        for device in world.api.list("devices") {
            let name = device["metadata"]["name"].as_str().unwrap().to_owned();
            let updates = if verdicts_depend_on_time { Value::Null } else { device["status"]["updates"].clone() };
            let images = without(&device["spec"]["images"], "releaseTime");
            end.insert(name, json!([images, without(&updates, "time"), device["status"]["services"]]));
        }
        end
    }

    fn walk(self, fault: Fault) {
        let tell = |fault| {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
            runtime.block_on(self.told(fault))
        };
        let (expected, writes) = tell(None);
        assert!(writes > 10, "a story of {writes} writes is none");
        for write in 1..=writes {
            println!("{self:?}: {fault:?} write {write} of {writes}");
            let (ended, _) = tell(Some((write, fault)));
            assert_eq!(ended, expected, "{self:?}: {fault:?} write {write} of {writes}");
        }
    }
}

fn without(list: &Value, field: &str) -> Value {
    let mut list = list.clone();
    for item in list.as_array_mut().into_iter().flatten() {
        item.as_object_mut().unwrap().remove(field);
    }
    list
}

#[test]
fn completes_though_it_dies_before_any_write() {
    Story::Completes.walk(Fault::DieBefore);
}

#[test]
fn completes_though_it_dies_after_any_write() {
    Story::Completes.walk(Fault::DieAfter);
}

#[test]
fn rolls_back_though_it_dies_before_any_write() {
    Story::RollsBack.walk(Fault::DieBefore);
}

#[test]
fn rolls_back_though_it_dies_after_any_write() {
    Story::RollsBack.walk(Fault::DieAfter);
}

#[test]
fn is_taken_back_though_it_dies_before_any_write() {
    Story::TakenBack.walk(Fault::DieBefore);
}

#[test]
fn is_taken_back_though_it_dies_after_any_write() {
    Story::TakenBack.walk(Fault::DieAfter);
}
