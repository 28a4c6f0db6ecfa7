//! What an operator does who is in a hurry.

use std::time::Duration;

use rand::RngExt as _;
use rand::rngs::StdRng;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep, sleep_until};

use crate::support::live::{World, rollout};

/// The last can't be pulled, and the first is what everybody started with.
const TAGS: [&str; 6] = ["v1", "v1.1.0", "v1.2.0", "v2.0.0", "v2.1.0", "bad"];

/// Something that is put right later.
#[derive(Clone, Debug)]
enum Remedy {
    /// An object as it was, or as somebody makes it anew.
    Object(&'static str, Value),
    /// A field of an object as it was, past every check: so does a newer version that is rolled out again.
    Upgrade(&'static str, String, &'static str, Value),
}

pub struct Operator {
    pub world: World,
    /// What was done when, for people.
    pub acts: Vec<String>,
    pub(super) rng: StdRng,
    start: Instant,
    remedies: Vec<(Instant, Remedy)>,
}

/// One mistake, as it is drawn.
#[derive(Clone, Copy, Debug)]
enum Mistake {
    Pushes,
    EditsBatches,
    EditsSelector,
    EditsPolicy,
    DeletesPolicy,
    AddsRival,
    DeletesRollout,
    ForcesDeletion,
    EditsRollout,
    FlipsPause,
    DeletesDevice,
    HoldsDevice,
    DeclaresImage,
    EmptiesNamespace,
    Downgrades,
    Restarts,
}

const MISTAKES: [Mistake; 20] = [
    Mistake::Pushes,
    Mistake::Pushes,
    Mistake::Pushes,
    Mistake::EditsBatches,
    Mistake::EditsSelector,
    Mistake::EditsPolicy,
    Mistake::EditsPolicy,
    Mistake::DeletesPolicy,
    Mistake::AddsRival,
    Mistake::DeletesRollout,
    Mistake::ForcesDeletion,
    Mistake::EditsRollout,
    Mistake::EditsRollout,
    Mistake::FlipsPause,
    Mistake::DeletesDevice,
    Mistake::HoldsDevice,
    Mistake::DeclaresImage,
    Mistake::EmptiesNamespace,
    Mistake::Downgrades,
    Mistake::Restarts,
];

impl Operator {
    pub fn new(world: World, rng: StdRng) -> Self {
        Self { world, acts: Vec::new(), rng, start: Instant::now(), remedies: Vec::new() }
    }

    /// Something has to be going on.
    pub async fn begin(&mut self) {
        let policy = self.draw_policy();
        self.create("imageupdatepolicies", policy).await;
        self.push(3).await;
    }

    pub fn count(&mut self) -> usize {
        self.rng.random_range(5..=15)
    }

    /// At the same moment, within seconds, or after minutes.
    pub fn pause(&mut self) -> Duration {
        let most = self.pick(&[0, 3_000, 30_000, 120_000]);
        Duration::from_millis(self.rng.random_range(0..=most))
    }

    /// Time passes, and what is due is put right.
    pub async fn wait_until(&mut self, end: Instant) {
        while let Some(next) = self.remedies.iter().position(|(at, _)| *at <= end) {
            let next = (next..self.remedies.len()).min_by_key(|index| self.remedies[*index].0).unwrap();
            let (at, remedy) = self.remedies.remove(next);
            sleep_until(at).await;
            match remedy {
                Remedy::Object(plural, object) => self.create(plural, object).await,
                Remedy::Upgrade(plural, name, pointer, value) => {
                    self.set_past_checks(plural, &name, pointer, &value);
                }
            }
        }
        sleep_until(end).await;
    }

    /// Everything is put right that is going to be.
    pub async fn finish(&mut self) {
        while let Some(last) = self.remedies.iter().map(|(at, _)| *at).max() {
            self.wait_until(last).await;
        }
    }

    pub async fn errs(&mut self) {
        match self.pick(&MISTAKES) {
            Mistake::Pushes => {
                let tag = self.rng.random_range(0..TAGS.len());
                self.push(tag).await;
            }
            Mistake::EditsBatches => {
                let batches = self.draw_batches();
                self.edit("imageupdatepolicies", "web", json!({"spec": {"strategy": {"batches": batches}}})).await;
            }
            Mistake::EditsSelector => {
                let devices = self.draw_devices();
                self.edit("imageupdatepolicies", "web", json!({"spec": {"devices": devices}})).await;
            }
            Mistake::EditsPolicy => {
                let change = self.draw_change();
                self.edit("imageupdatepolicies", "web", json!({"spec": change})).await;
            }
            Mistake::DeletesPolicy => {
                self.delete("imageupdatepolicies", "web");
                let policy = self.draw_policy();
                self.later(Remedy::Object("imageupdatepolicies", policy));
            }
            Mistake::AddsRival => {
                let mut rival = self.draw_policy();
                rival["metadata"]["name"] = json!("rival");
                rival["spec"]["devices"] = json!({"names": [self.a_device()]});
                self.create("imageupdatepolicies", rival).await;
            }
            Mistake::DeletesRollout => self.delete_rollout(),
            Mistake::ForcesDeletion => {
                if let Some(name) = self.a_rollout() {
                    self.edit("imagerollouts", &name, json!({"metadata": {"finalizers": null}})).await;
                    self.delete("imagerollouts", &name);
                }
            }
            Mistake::EditsRollout => {
                if let Some(name) = self.a_rollout() {
                    let spec = self.draw_wish();
                    self.edit("imagerollouts", &name, json!({"spec": spec})).await;
                }
            }
            Mistake::FlipsPause => self.flip_pause().await,
            Mistake::DeletesDevice => {
                let name = self.a_device();
                self.delete("devices", &name);
                let device = self.provisioned(&name);
                self.later(Remedy::Object("devices", device));
            }
            Mistake::HoldsDevice => {
                let (name, hold) = (self.a_device(), self.rng.random_bool(0.6));
                self.edit("devices", &name, json!({"spec": {"hold": hold}})).await;
            }
            Mistake::DeclaresImage => self.declare().await,
            Mistake::EmptiesNamespace => self.empty_namespace(),
            Mistake::Downgrades => self.downgrade(),
            Mistake::Restarts => self.restart().await,
        }
    }

    async fn push(&mut self, tag: usize) {
        let mut rollout = rollout(TAGS[tag], &json!({}));
        if self.rng.random_bool(0.5) {
            rollout["spec"]["trigger"] = json!({"type": "Webhook", "receiver": "dockerhub"});
        }
        self.create("imagerollouts", rollout).await;
    }

    fn delete_rollout(&mut self) {
        let Some(name) = self.a_rollout() else { return };
        let old = self.world.api.get("imagerollouts", &name).unwrap();
        self.delete("imagerollouts", &name);
        if self.rng.random_bool(0.5) {
            let again = json!({"metadata": {"name": name}, "spec": old["spec"]});
            self.later(Remedy::Object("imagerollouts", again));
        }
    }

    async fn flip_pause(&mut self) {
        let Some(name) = self.a_rollout() else { return };
        for _ in 0..self.rng.random_range(2..8) {
            let paused = self.rng.random_bool(0.5);
            self.edit("imagerollouts", &name, json!({"spec": {"paused": paused}})).await;
            sleep(Duration::from_millis(self.rng.random_range(0..400))).await;
        }
        self.edit("imagerollouts", &name, json!({"spec": {"paused": false}})).await;
    }

    async fn declare(&mut self) {
        let name = self.a_device();
        let Some(device) = self.world.api.get("devices", &name) else { return };
        let mut apps = device["spec"]["apps"].clone();
        let tag = self.rng.random_range(0..TAGS.len() - 1);
        let image = format!("acme/web:{}", TAGS[tag]);
        for app in apps.as_object_mut().unwrap().values_mut() {
            app["services"][0]["imageName"] = json!(image);
            app["services"][0]["config"]["image"] = json!(image);
        }
        self.edit("devices", &name, json!({"spec": {"apps": apps}})).await;
    }

    /// As when the namespace is deleted, and made again from Git.
    fn empty_namespace(&mut self) {
        for plural in ["imagerollouts", "imageupdatepolicies", "devices", "devicepresences"] {
            for name in self.world.api.names(plural) {
                self.delete(plural, &name);
            }
        }
        let policy = self.draw_policy();
        self.later(Remedy::Object("imageupdatepolicies", policy));
        for identity in self.world.identities.clone() {
            let device = self.provisioned(&identity.uuid);
            self.later(Remedy::Object("devices", device));
        }
    }

    /// Objects hold what a newer version wrote: fields that this one doesn't know, and values that it can't read.
    fn downgrade(&mut self) {
        let (plural, name, pointer) = match self.rng.random_range(0..3) {
            0 => match self.a_rollout() {
                Some(name) => ("imagerollouts", name, "/spec/desiredState"),
                None => return,
            },
            1 => ("imageupdatepolicies", "web".to_owned(), "/spec/strategy/type"),
            _ => ("devices", self.a_device(), "/spec/hold"),
        };
        let Some(before) = self.world.api.get(plural, &name) else { return };
        let Some(known) = before.pointer(pointer).cloned() else { return };
        self.set_past_checks(plural, &name, pointer, &json!("SomethingNew"));
        self.later(Remedy::Upgrade(plural, name, pointer, known));
    }

    async fn restart(&mut self) {
        match self.rng.random_range(0..3) {
            0 => {
                self.note("kills the controller");
                self.world.kill_controller().await;
                self.world.start_controller();
            }
            1 => {
                self.note("stops the controller, and starts it a while later");
                self.world.stop_controller().await;
                sleep(Duration::from_secs(self.rng.random_range(0..300))).await;
                self.world.start_controller();
            }
            _ => {
                self.note("restarts the gateway");
                self.world.restart_gateway();
            }
        }
    }
}

/// How it is done.
impl Operator {
    fn note(&mut self, what: &str) {
        self.acts.push(format!("{:>10.3?} {what}", self.start.elapsed()));
    }

    fn later(&mut self, remedy: Remedy) {
        let most = self.pick(&[0, 2, 60, 300]);
        self.remedies.push((Instant::now() + Duration::from_secs(self.rng.random_range(0..=most)), remedy));
    }

    async fn create(&mut self, plural: &'static str, object: Value) {
        let name = object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        let result = self.world.api.create(plural, &object).await;
        self.note(&format!("creates {plural} {name} {}{}", object["spec"], refusal(result)));
    }

    async fn edit(&mut self, plural: &'static str, name: &str, patch: Value) {
        let result = self.world.api.edit(plural, name, &patch).await;
        self.note(&format!("edits {plural} {name} {patch}{}", refusal(result)));
    }

    fn delete(&mut self, plural: &'static str, name: &str) {
        self.world.api.delete(plural, name);
        self.note(&format!("deletes {plural} {name}"));
    }

    fn set_past_checks(&mut self, plural: &'static str, name: &str, pointer: &'static str, value: &Value) {
        let Some(object) = self.world.api.get(plural, name) else { return };
        let mut object = Value::clone(&object);
        let Some(field) = object.pointer_mut(pointer) else { return };
        *field = value.clone();
        object["spec"]["brandNew"] = json!({"field": 1});
        self.world.api.put(plural, &object);
        self.note(&format!("{plural} {name} has {pointer} {value}"));
    }
}

fn refusal(result: Result<(), kube::Error>) -> String {
    result.err().map(|error| format!(": {error}")).unwrap_or_default()
}
