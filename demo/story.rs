//! The story: a fleet, a good image, a bad image. Tells it, and checks every sentence of it.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use serde_json::{Value, json};
use tokio::process::Command;
use tranche::api::ImageRef;

use crate::Args;
use crate::checks;
use crate::children::Children;
use crate::cluster::{Cluster, NAMESPACE};
use crate::follow::{Follower, Record};
use crate::stage::Stage;
use crate::testimony::Testimony;
use crate::view;

/// How many devices there are.
pub const DEVICES: usize = 20;
/// What they run at first, the push that is good, and the one that is bad.
pub const OLD: &str = "iotistic/myapp:v1.0.0";
pub const GOOD: &str = "iotistic/myapp:v2.0.1";
pub const BAD: &str = "iotistic/myapp:v2.1.0";
/// Their label `tranche.dev/fleet`, which the demo's policy selects.
const FLEET: &str = "demo";
/// One act takes a fraction of it, also on a machine that is busy.
const PATIENCE: Duration = Duration::from_secs(120);
/// Between two looks at what moves.
const LOOK: Duration = Duration::from_millis(100);

/// Everything that the story plays with.
pub struct Story {
    args: Args,
    dir: PathBuf,
    pub stage: Stage,
    pub children: Children,
    pub cluster: Option<Cluster>,
    kubeconfig: PathBuf,
    listen: String,
    ops: String,
    secret: String,
    testimony: Testimony,
    follower: Option<Follower>,
}

impl Story {
    pub fn new(args: Args, dir: PathBuf, children: Children) -> anyhow::Result<Self> {
        let (listen, ops) = free_addresses().context("no free port")?;
        let secret = rand::random::<[u8; 32]>().iter().map(|byte| format!("{byte:02x}")).collect();
        let kubeconfig = args.kubeconfig.clone().unwrap_or_else(|| dir.join("control-plane/kubeconfig"));
        let testimony = Testimony::new(dir.join("observations.jsonl"));
        Ok(Self {
            args,
            dir,
            stage: Stage::new(),
            children,
            cluster: None,
            kubeconfig,
            listen,
            ops,
            secret,
            testimony,
            follower: None,
        })
    }

    /// From the first scene to the last.
    pub async fn tell(&mut self) -> anyhow::Result<()> {
        self.stage.title("Tranche: a good image, and one that is not");
        self.api_server().await?;
        self.tranche().await?;
        self.fleet().await?;
        self.good_image().await?;
        self.bad_image().await
    }

    async fn api_server(&mut self) -> anyhow::Result<()> {
        self.stage.act("A Kubernetes API server");
        if self.args.kubeconfig.is_none() {
            let program = self.args.control_plane.clone().context("--control-plane or --kubeconfig is needed")?;
            let mut command = Command::new(&program);
            command.arg("up").arg("--dir").arg(self.dir.join("control-plane"));
            let up = self.children.start_until_ready("control plane", command, PATIENCE);
            self.stage.during("starting etcd, kube-apiserver and kube-controller-manager", up).await?;
        }
        let cluster = Cluster::connect(&self.kubeconfig).await?;
        self.stage.say(format_args!("Kubernetes {} at {}", cluster.version, cluster.url));
        self.cluster = Some(cluster);
        Ok(())
    }

    async fn tranche(&mut self) -> anyhow::Result<()> {
        self.stage.act("Tranche");
        let tranche = self.args.tranche.clone();
        let cluster = self.cluster.as_mut().context("no cluster")?;
        let (new, all) = self.stage.during("installing the kinds", cluster.install_crds(&tranche)).await?;
        self.stage.say(format_args!("{all} kinds of tranche.dev, {new} of them installed now"));
        let policy = cluster.install_policy().await?;
        let spec = &policy.spec;
        let sizes: Vec<String> = spec.strategy.batches.iter().map(|batch| view::size(&batch.size)).collect();
        self.stage.say(format_args!(
            "policy {}: {} in batches of {}, at most {} may fail",
            policy.metadata.name.as_deref().unwrap_or_default(),
            spec.image.pattern,
            sizes.join(", "),
            spec.failure_policy.max_failure_rate,
        ));
        self.follower = Some(Follower::start(cluster.rollouts()));

        let mut command = Command::new(&tranche);
        command.args(["run", "--namespace", NAMESPACE, "--listen", &self.listen, "--ops-listen", &self.ops]);
        // The secret goes by environment: arguments are for everyone on the machine to read.
        command.env("KUBECONFIG", &self.kubeconfig).env("DOCKER_WEBHOOK_SECRET", &self.secret);
        self.children.start("tranche", command)?;
        let ready = ready(format!("http://{}/readyz", self.ops));
        self.stage.during("starting controller, gateway and webhooks", ready).await?;
        self.stage.say(format_args!("controller, gateway and webhooks at http://{}", self.listen));
        Ok(())
    }

    async fn fleet(&mut self) -> anyhow::Result<()> {
        self.stage.act(&format!("{DEVICES} devices on {}", view::tag(OLD)));
        let mut command = Command::new(&self.args.tranche);
        command.args(["simulate", "--namespace", NAMESPACE, "--fleet", FLEET, "--image", OLD]);
        command.args(["--devices", &DEVICES.to_string(), "--server", &format!("http://{}", self.listen)]);
        command.args(["--poll-interval", "1s", "--pull-time", "500ms", "--bad-tag", view::tag(BAD)]);
        command.arg("--observations").arg(self.dir.join("observations.jsonl")).env("KUBECONFIG", &self.kubeconfig);
        self.children.start("devices", command)?;
        let old = canonical(OLD)?;
        let deadline = tokio::time::Instant::now() + PATIENCE;
        let known = loop {
            self.testimony.listen()?;
            self.stage.show(&view::of_fleet(&self.testimony, self.stage.paint, &old, DEVICES));
            let known = match self.testimony.running(&old) {
                DEVICES => checks::reported(&self.cluster()?.devices().await?, OLD),
                _ => 0,
            };
            if known == DEVICES || tokio::time::Instant::now() > deadline {
                break known;
            }
            tokio::time::sleep(LOOK).await;
        };
        self.stage.check(
            "every device runs it, and the API server knows",
            checks::equal(&(DEVICES, DEVICES), &(self.testimony.running(&old), known), |(say, know)| {
                format!("{say} say so, {know} are known to")
            }),
        );
        ensure!(known == DEVICES, "the fleet did not come up");
        Ok(())
    }

    async fn good_image(&mut self) -> anyhow::Result<()> {
        let (old, good) = (canonical(OLD)?, canonical(GOOD)?);
        self.stage.act(&format!("A push: {GOOD}"));
        let rollout = self.push(GOOD).await?;
        let record = self.watch(&rollout, &old, &good).await?;
        self.patience_with(|told| told.running(&good) == DEVICES).await?;
        checks::staged(&mut self.stage, &record, &self.testimony, &good);
        Ok(())
    }

    async fn bad_image(&mut self) -> anyhow::Result<()> {
        let (good, bad) = (canonical(GOOD)?, canonical(BAD)?);
        self.stage.act(&format!("A push that is no good: {BAD}"));
        self.testimony.mark(&good);
        let rollout = self.push(BAD).await?;
        let record = self.watch(&rollout, &good, &bad).await?;
        self.patience_with(|told| told.running(&good) == DEVICES).await?;
        let released = checks::told_by(&self.cluster()?.devices().await?, &rollout);
        checks::halted(&mut self.stage, &record, &self.testimony, &released, &good, &bad);
        let policy = self.cluster()?.policy("myapp").await?;
        checks::remembered(&mut self.stage, &policy, BAD);
        let rollouts = self.follower.as_ref().map_or(0, Follower::count);
        self.stage.check("two pushes made two rollouts", checks::equal(&2, &rollouts, |n| format!("{n} seen")));
        Ok(())
    }

    /// Tells Tranche of a push as Docker Hub does, and returns the rollout that it names.
    async fn push(&mut self, image: &str) -> anyhow::Result<String> {
        let (name, tag) = image.split_once(':').context("an image with a tag")?;
        let body = json!({
            "push_data": { "tag": tag, "pusher": "ci", "pushed_at": 1_417_566_161 },
            "repository": { "repo_name": name, "namespace": "iotistic", "name": "myapp", "status": "Active" },
        });
        let url = format!("http://{}{WEBHOOK}", self.listen);
        let request = http()?.post(url).bearer_auth(&self.secret).json(&body);
        let response = request.send().await.context("the webhook does not answer")?;
        let status = response.status();
        let text = response.text().await.context("the webhook's answer broke off")?;
        let answer: Value = serde_json::from_str(&text).unwrap_or_default();
        let Some(rollout) = answer["rollout_id"].as_str() else { bail!("the webhook answered {status}: {text}") };
        self.stage.say(format_args!("Docker Hub → POST {WEBHOOK} → {}: rollout {rollout}", status.as_u16()));
        Ok(rollout.to_owned())
    }

    /// Shows a rollout until it ends, and returns its story.
    async fn watch(&mut self, rollout: &str, old: &str, new: &str) -> anyhow::Result<Record> {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            self.testimony.listen()?;
            let record = self.follower.as_ref().and_then(|follower| follower.record(rollout)).unwrap_or_default();
            self.stage.show(&view::of_rollout(&record, &self.testimony, self.stage.paint, old, new));
            if record.status.phase.is_terminal() {
                return Ok(record);
            }
            if tokio::time::Instant::now() > deadline {
                let (phase, message) = (record.status.phase, &record.status.message);
                bail!("rollout {rollout} did not end within {PATIENCE:?}; it is {phase}: {message}");
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// What the API server knows, the devices have said a moment before; their word may still be on its way here.
    async fn patience_with(&mut self, said: impl Fn(&Testimony) -> bool) -> anyhow::Result<()> {
        let deadline = tokio::time::Instant::now() + Duration::from_secs(5);
        while !said(&self.testimony) && tokio::time::Instant::now() < deadline {
            self.testimony.listen()?;
            tokio::time::sleep(LOOK).await;
        }
        Ok(())
    }

    fn cluster(&self) -> anyhow::Result<&Cluster> {
        self.cluster.as_ref().context("no cluster")
    }

    /// How to look around, for `--keep`.
    pub fn look_around(&mut self) -> anyhow::Result<()> {
        let header = self.dir.join("webhook-header");
        // In a folder that only this user can enter. A secret in curl's arguments could be read by everyone.
        std::fs::write(&header, format!("Authorization: Bearer {}\n", self.secret)).context("cannot write a file")?;
        let kubectl = match (&self.args.control_plane, in_path("kubectl")) {
            (Some(own), false) => format!("{} kubectl", own.display()),
            _ => "kubectl".into(),
        };
        let observations = self.dir.join("observations.jsonl");
        self.stage.act("Everything is left running: look around from another terminal");
        let lines = [
            format!("export KUBECONFIG={}", self.kubeconfig.display()),
            format!("{kubectl} -n {NAMESPACE} get iup,iro,idev"),
            format!("{kubectl} -n {NAMESPACE} describe iro"),
            format!("curl -s http://{}/metrics | grep tranche", self.ops),
            format!("tail -f {}", observations.display()),
            String::new(),
            "# another push".into(),
            format!("curl -s -H @{} -H 'Content-Type: application/json' \\", header.display()),
            "  -d '{\"push_data\":{\"tag\":\"v2.2.0\"},\"repository\":{\"repo_name\":\"iotistic/myapp\"}}' \\".into(),
            format!("  http://{}{WEBHOOK}", self.listen),
        ];
        for line in lines {
            self.stage.say(line);
        }
        println!("\n  Ctrl-C ends it.");
        Ok(())
    }

    /// Stops everything, and takes away what was put into somebody's own cluster.
    pub async fn clean_up(mut self) -> anyhow::Result<()> {
        let Self { args, stage, children, cluster, .. } = &mut self;
        let foreign = cluster.as_ref().filter(|_| args.kubeconfig.is_some());
        stage.during("stopping everything", take_down(children, foreign)).await
    }
}

/// In the order in which one needs the other.
async fn take_down(children: &mut Children, foreign: Option<&Cluster>) -> anyhow::Result<()> {
    children.stop("devices").await;
    let rollouts = match foreign {
        Some(cluster) => cluster.delete_rollouts().await,
        None => Ok(()),
    };
    children.stop("tranche").await;
    let rest = match foreign {
        Some(cluster) => cluster.delete_rest().await,
        None => Ok(()),
    };
    children.stop("control plane").await;
    rollouts.and(rest)
}

const WEBHOOK: &str = "/api/v1/webhooks/docker-registry";

/// A client for one request after the other, to this machine only.
fn http() -> anyhow::Result<reqwest::Client> {
    reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(10)).build().context("no HTTP client")
}

async fn ready(url: String) -> anyhow::Result<()> {
    let client = http()?;
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        // Refused at first, then 503 for a while.
        let last = match client.get(&url).send().await {
            Ok(response) if response.status().is_success() => return Ok(()),
            Ok(response) => response.text().await.unwrap_or_default(),
            Err(error) => error.to_string(),
        };
        ensure!(tokio::time::Instant::now() < deadline, "tranche is not ready after {PATIENCE:?}: {last}");
        tokio::time::sleep(LOOK).await;
    }
}

/// Two addresses that were free a moment ago, for devices and for operators.
fn free_addresses() -> std::io::Result<(String, String)> {
    let (a, b) = (std::net::TcpListener::bind("127.0.0.1:0")?, std::net::TcpListener::bind("127.0.0.1:0")?);
    Ok((a.local_addr()?.to_string(), b.local_addr()?.to_string()))
}

fn canonical(image: &str) -> anyhow::Result<String> {
    Ok(image.parse::<ImageRef>().context("an image of the demo")?.to_string())
}

fn in_path(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
}
