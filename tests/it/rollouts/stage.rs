//! What every act needs: a namespace, the real binary, a policy, and devices that poll.

use std::sync::Arc;
use std::time::Duration;

use kube::api::{ListParams, Patch, PatchParams};
use kube::{Api, Client, ResourceExt as _};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tranche::api::rollout::{ImageRolloutStatus, Phase};
use tranche::api::{Device, ImageRollout, ImageUpdatePolicy};
use tranche::shutdown::Shutdown;
use tranche::simulate::provision::{ImageSource, provision};
use tranche::simulate::{Fleet, FleetConfig, Pace, Shares, Tally, World};

use crate::support::controlplane::{ControlPlane, User};
use crate::support::process::{SECRET, Settings, Tranche};
use crate::support::wait::until;

/// The image that devices start with.
pub const OLD: &str = "iotistic/myapp:v1.0.0";
/// What names, keys and chance of the devices are derived from.
pub const SEED: u64 = 7;

pub struct Stage {
    pub client: Client,
    pub namespace: String,
    pub settings: Settings,
    pub tranche: Option<Tranche>,
    tally: Arc<Mutex<Tally>>,
    devices: u32,
    fleet: Shutdown,
}

impl Drop for Stage {
    fn drop(&mut self) {
        self.fleet.request();
    }
}

/// The policy of these tests, with `spec` merged in; null removes a field.
pub fn policy(spec: &Value) -> Value {
    let mut policy = json!({
        "apiVersion": "tranche.dev/v1alpha1",
        "kind": "ImageUpdatePolicy",
        "metadata": { "name": "myapp" },
        "spec": {
            // No registry runs here that could be asked for a digest.
            "image": { "pattern": "iotistic/myapp:*", "offer": "Tag" },
            "devices": { "selector": { "matchLabels": { "tranche.dev/fleet": "test" } } },
            "strategy": { "batches": [{"size": "20%"}, {"size": "100%"}] },
            "failurePolicy": { "action": "RollBackAll" },
            "updateDeadline": "6s",
            "offlineAfter": "30s",
        }
    });
    merge(&mut policy["spec"], spec);
    policy
}

fn merge(into: &mut Value, from: &Value) {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => {
            for (key, value) in from {
                if value.is_null() {
                    into.remove(key);
                    continue;
                }
                merge(into.entry(key.clone()).or_insert(Value::Null), value);
            }
        }
        (into, from) => *into = from.clone(),
    }
}

impl Stage {
    /// On the shared control plane.
    pub async fn set(purpose: &str, devices: u32, spec: &Value) -> Self {
        Self::set_on(ControlPlane::shared(), purpose, devices, spec).await
    }

    /// Devices that run [`OLD`] and have reported it, a policy that is ready, and Tranche.
    pub async fn set_on(plane: &ControlPlane, purpose: &str, devices: u32, spec: &Value) -> Self {
        let namespace = plane.namespace(purpose).await;
        let settings = Settings::new(&plane.kubeconfig(User::Admin), &namespace);
        Self::set_with(plane, settings, devices, spec).await
    }

    /// The same, with Tranche started in some way of its own.
    pub async fn set_with(plane: &ControlPlane, settings: Settings, devices: u32, spec: &Value) -> Self {
        Self::set_from(plane, settings, OLD, devices, spec).await
    }

    /// The same, with devices that start with some other image.
    pub async fn set_from(plane: &ControlPlane, settings: Settings, old: &str, devices: u32, spec: &Value) -> Self {
        let stage = Self::build(plane, settings, old, devices, Shares::default(), spec).await;
        stage.until_ready().await;
        stage
    }

    /// The same, without waiting for anybody, and with some devices that are not healthy.
    pub async fn build(
        plane: &ControlPlane,
        mut settings: Settings,
        old: &str,
        devices: u32,
        shares: Shares,
        spec: &Value,
    ) -> Self {
        let namespace = settings.namespace.clone();
        let client = plane.client(User::Admin).await;
        let tranche = Tranche::start(&settings).await;
        settings.listen = tranche.listen();
        let config = FleetConfig {
            server: tranche.url.clone(),
            devices,
            fleet: "test".into(),
            seed: SEED,
            shares,
            world: World {
                pace: Pace { poll: Duration::from_millis(200), pull: Duration::from_millis(50) },
                base: old.parse().unwrap(),
                bad: vec!["v9.9.9".parse().unwrap()],
            },
        };
        let source = ImageSource { written: old, parsed: &config.world.base };
        provision(&client, &namespace, "test", &source, config.identities()).await.unwrap();
        let fleet = Fleet::new(&config, Box::new(|_| {})).unwrap();
        let tally = fleet.tally();
        let stop = Shutdown::new();
        tokio::spawn(fleet.run(stop.clone().wait()));
        let stage = Self { client, namespace, settings, tranche: Some(tranche), tally, devices, fleet: stop };
        let policies: Api<ImageUpdatePolicy> = stage.api();
        let body = policy(spec);
        policies.patch("myapp", &PatchParams::apply("test"), &Patch::Apply(&body)).await.unwrap();
        stage
    }

    async fn until_ready(&self) {
        let policies: Api<ImageUpdatePolicy> = self.api();
        until("the policy to be ready and every device to be seen running", async || {
            let policy = policies.get("myapp").await.map_err(|error| error.to_string())?;
            let ready = json!(policy.status).to_string();
            let devices = self.list().await;
            let running = devices.iter().filter(|device| {
                let status = device.status.clone().unwrap_or_default();
                status.services.is_some_and(|services| !services.is_empty())
                    && tranche::api::condition::is_true(&status.conditions, "Connected")
            });
            match (ready.contains(r#""status":"True""#), running.count()) {
                (true, count) if count == self.devices as usize => Ok(()),
                (_, count) => Err(format!("{count} devices; policy {ready}")),
            }
        })
        .await;
    }

    pub fn api<K>(&self) -> Api<K>
    where
        K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>,
    {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    pub fn tranche(&self) -> &Tranche {
        self.tranche.as_ref().expect("it runs")
    }

    /// A registry's push; the rollout's name.
    pub async fn push(&self, tag: &str) -> String {
        self.told_push(tag).await.unwrap_or_else(|answer| panic!("no rollout: {answer}"))
    }

    /// The same, where the policy may not be known yet; what was answered instead of the name.
    pub async fn told_push(&self, tag: &str) -> Result<String, String> {
        let answer = self.deliver(tag).await;
        answer["rollout_id"].as_str().map(str::to_owned).ok_or_else(|| answer.to_string())
    }

    /// A registry's push; the answer to it.
    pub async fn deliver(&self, tag: &str) -> Value {
        let body = json!({"repository": {"repo_name": "iotistic/myapp"}, "push_data": {"tag": tag}});
        let request = reqwest::Client::new().post(format!("{}/api/v1/webhooks/docker-registry", self.tranche().url));
        request.bearer_auth(SECRET).json(&body).send().await.unwrap().json().await.unwrap()
    }

    /// What `tranche` prints when a person types this, with the namespace's kubeconfig; errors as well.
    pub fn says(&self, args: &[&str]) -> String {
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_tranche"))
            .args(args)
            .args(["--namespace", &self.namespace])
            .env("KUBECONFIG", &self.settings.kubeconfig)
            .output()
            .unwrap();
        String::from_utf8([output.stdout, output.stderr].concat()).unwrap()
    }

    pub async fn status(&self, rollout: &str) -> ImageRolloutStatus {
        self.api::<ImageRollout>().get(rollout).await.unwrap().status.unwrap_or_default()
    }

    /// Waits until the rollout's status is as wanted.
    pub async fn until(
        &self,
        rollout: &str,
        what: &str,
        wanted: impl Fn(&ImageRolloutStatus) -> bool,
    ) -> ImageRolloutStatus {
        until(&format!("{rollout}: {what}"), async || {
            // An API server that is down is one of the things that these tests bring about.
            let rollout = self.api::<ImageRollout>().get(rollout).await.map_err(|error| error.to_string())?;
            let status = rollout.status.unwrap_or_default();
            if wanted(&status) { Ok(status) } else { Err(format!("{}: {}", status.phase, status.message)) }
        })
        .await
    }

    pub async fn until_phase(&self, rollout: &str, phase: Phase) -> ImageRolloutStatus {
        self.until(rollout, phase.as_str(), |status| status.phase == phase).await
    }

    /// A person's edit of the rollout's spec.
    pub async fn edit(&self, rollout: &str, spec: Value) {
        let api: Api<ImageRollout> = self.api();
        api.patch(rollout, &PatchParams::default(), &Patch::Merge(json!({ "spec": spec }))).await.unwrap();
    }

    pub async fn list(&self) -> Vec<Device> {
        self.api::<Device>().list(&ListParams::default()).await.map(|list| list.items).unwrap_or_default()
    }

    /// Names of the devices that a rollout has released and not sent back.
    pub async fn released(&self, rollout: &str) -> Vec<String> {
        let mut names: Vec<String> = self
            .list()
            .await
            .iter()
            .filter(|device| device.spec.images.iter().any(|entry| entry.rollout == rollout && !entry.rolled_back))
            .map(|device| device.name_any())
            .collect();
        names.sort();
        names
    }

    /// How many devices were ever told an image, in their own words.
    pub fn ever_told(&self, tag: &str) -> usize {
        self.ever_told_image(&format!("iotistic/myapp:{tag}"))
    }

    /// The same, of an image of any name.
    pub fn ever_told_image(&self, image: &str) -> usize {
        self.tally.lock().offered(image)
    }

    /// How many devices run an image, in their own words.
    pub fn running(&self, tag: &str) -> usize {
        self.running_image(&format!("iotistic/myapp:{tag}"))
    }

    /// The same, of an image of any name.
    pub fn running_image(&self, image: &str) -> usize {
        self.tally.lock().running(image)
    }

    /// Waits until every device has had its answer a few times over, however the polls fall.
    pub async fn let_everybody_poll(&self) {
        let polls = || self.tally.lock().polls;
        let enough = polls() + 5 * u64::from(self.devices);
        until(
            "a few polls of every device",
            async || if polls() >= enough { Ok(()) } else { Err(polls().to_string()) },
        )
        .await;
    }

    /// Waits until so many devices run an image, in their own words.
    pub async fn until_running(&self, tag: &str, count: usize) {
        until(&format!("{count} devices to run {tag}"), async || {
            let running = self.running(tag);
            if running == count { Ok(()) } else { Err(format!("{running} do; {}", self.tally.lock())) }
        })
        .await;
    }

    /// The types of a rollout's history, without repetition.
    pub fn types(status: &ImageRolloutStatus) -> Vec<&str> {
        let mut types: Vec<&str> = status.history.iter().map(|line| line.type_.as_str()).collect();
        types.dedup();
        types
    }
}
