//! What is drawn: policies and edits that make sense, and some that don't.

use rand::RngExt as _;
use serde_json::{Value, json};
use tranche::simulate::Identity;
use tranche::simulate::provision::{ImageSource, device};

use super::mistakes::Operator;
use crate::support::live::{FLEET, policy};

const DESIRED: [&str; 3] = ["Active", "Cancelled", "RolledBack"];

impl Operator {
    pub(super) fn draw_policy(&mut self) -> Value {
        let batches = self.draw_batches();
        let strategy = json!({"type": "Staged", "batches": batches, "batchDelay": self.pick(&["0s", "1m"])});
        let mut policy = policy(&json!({"strategy": strategy}));
        for _ in 0..2 {
            let change = self.draw_change();
            merge(&mut policy["spec"], &change);
        }
        policy
    }

    pub(super) fn draw_batches(&mut self) -> Value {
        match self.rng.random_range(0..10) {
            0 => json!([{"size": "100%"}]),
            1 => json!([{"size": 1}, {"size": "100%"}]),
            2 => json!([{"size": "20%"}, {"size": "60%"}, {"size": "100%"}]),
            3 => json!([{"size": "50%"}, {"size": "100%", "approval": true}]),
            // Makes no sense.
            4 => json!([{"size": "80%"}, {"size": "20%"}]),
            _ => json!([{"size": "50%"}, {"size": "100%"}]),
        }
    }

    pub(super) fn draw_devices(&mut self) -> Value {
        let everybody = json!({"matchLabels": {tranche::api::FLEET_LABEL: FLEET}});
        match self.rng.random_range(0..8) {
            0 => json!({"selector": {"matchLabels": {tranche::api::FLEET_LABEL: "nobody"}}, "names": null}),
            1 => json!({"selector": null, "names": [self.a_device(), self.a_device()]}),
            // Makes no sense.
            2 => json!({"selector": everybody, "names": [self.a_device()]}),
            _ => json!({"selector": everybody, "names": null}),
        }
    }

    /// Of a policy's spec.
    pub(super) fn draw_change(&mut self) -> Value {
        match self.rng.random_range(0..10) {
            0 => json!({"suspend": self.rng.random_bool(0.3)}),
            1 => json!({"onNewImage": self.pick(&["Replace", "Queue", "Ignore"])}),
            2 => json!({"failurePolicy": {"action": self.pick(&["Pause", "RollBackBatch", "RollBackAll"])}}),
            3 => json!({"failurePolicy": {"maxFailureRate": self.pick(&["0%", "34%", "100%"])}}),
            4 => json!({"failurePolicy": {"rollBackFailedDevices": self.rng.random_bool(0.5)}}),
            5 => json!({"strategy": {"maxConcurrent": self.rng.random_range(1..3)}}),
            6 => json!({"strategy": {"type": self.pick(&["Staged", "Auto", "Manual"])}}),
            7 => json!({"updateDeadline": self.pick(&["30s", "3m", "5m"])}),
            8 => json!({"offlineAfter": self.pick(&["1m", "5m"])}),
            _ => {
                json!({"historyLimit": self.rng.random_range(1..4), "image": {"pattern": self.pick(&["acme/web:*", "acme/*", "acme/web:v*"])}})
            }
        }
    }

    /// Of a rollout's spec.
    pub(super) fn draw_wish(&mut self) -> Value {
        let soon = self.world.clock.now() + jiff::SignedDuration::from_secs(self.rng.random_range(-300..600));
        match self.rng.random_range(0..7) {
            0 | 1 => json!({"desiredState": self.pick(&DESIRED)}),
            2 => json!({"acknowledgedFailures": self.rng.random_range(0..4)}),
            3 => json!({"approvedBatches": self.rng.random_range(0..4)}),
            4 => json!({"rollBackDevices": [self.a_device()]}),
            5 => json!({"paused": self.rng.random_bool(0.7)}),
            _ => json!({"notBefore": tranche::api::time::whole_seconds(soon)}),
        }
    }

    pub(super) fn a_device(&mut self) -> String {
        let index = self.rng.random_range(0..self.world.identities.len());
        self.world.identities[index].uuid.to_string()
    }

    pub(super) fn a_rollout(&mut self) -> Option<String> {
        let names = self.world.api.names("imagerollouts");
        (!names.is_empty()).then(|| names[self.rng.random_range(0..names.len())].clone())
    }

    /// A device as the fleet was started with it.
    pub(super) fn provisioned(&self, name: &str) -> Value {
        let identity: &Identity = self.world.identities.iter().find(|identity| *identity.uuid == *name).unwrap();
        let image = "acme/web:v1".parse().unwrap();
        serde_json::to_value(device(identity, FLEET, &ImageSource { written: "acme/web:v1", parsed: &image })).unwrap()
    }

    pub(super) fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.rng.random_range(0..from.len())]
    }
}

fn merge(into: &mut Value, from: &Value) {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => {
            for (key, value) in from {
                merge(into.entry(key.clone()).or_insert(Value::Null), value);
            }
        }
        (into, from) => *into = from.clone(),
    }
}
