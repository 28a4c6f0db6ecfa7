//! The real control plane of the tests, with a user of its own for everyone whose calls are counted.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::PostParams;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::runtime::{conditions, wait};
use kube::{Api, Client, Config, ResourceExt as _};
use serde_json::json;
use tempfile::TempDir;
use tokio::process::Command;

use crate::process::{Process, free_address};

/// Names the program.
const PROGRAM: &str = "TRANCHE_CONTROLPLANE";
/// User of the processes that are measured.
pub const TRANCHE: &str = "tranche";
/// User of the simulated devices' maker.
const FLEET: &str = "fleet";
/// A kind is served long before that.
const PATIENCE: Duration = Duration::from_secs(30);

/// A control plane with our kinds.
pub struct ControlPlane {
    /// As the admin.
    pub client: Client,
    folder: TempDir,
    _process: Process,
}

impl ControlPlane {
    /// Starts it.
    pub async fn start() -> anyhow::Result<Self> {
        let program =
            std::env::var_os(PROGRAM).with_context(|| format!("{PROGRAM} names no program; use `make bench`"))?;
        let folder = TempDir::with_prefix("tranche-bench-")?;
        let users = folder.path().join("users");
        std::fs::write(&users, format!("{TRANCHE},system:masters\n{FLEET},system:masters\n"))?;
        let mut command = Command::new(program);
        command.args(["up", "--dir"]).arg(folder.path().join("cp")).arg("--users-file").arg(users);
        let mut process = Process::start("controlplane", command, folder.path())?;
        process.until_it_says("ready").await?;
        let file = Kubeconfig::read_from(folder.path().join("cp/kubeconfig"))?;
        let config = Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await?;
        let client = tranche::kubeclient::with_config(config)?;
        install_kinds(&client).await?;
        Ok(Self { client, folder, _process: process })
    }

    /// Where logs go.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// What the API server was asked.
    pub fn audit_log(&self) -> PathBuf {
        self.folder.path().join("cp/audit.log")
    }

    /// A namespace of that name.
    pub async fn namespace(&self, name: &str) -> anyhow::Result<()> {
        let namespace: Namespace = serde_json::from_value(json!({"metadata": {"name": name}}))?;
        Api::all(self.client.clone()).create(&PostParams::default(), &namespace).await.context("no namespace")?;
        Ok(())
    }

    /// Starts `tranche run` with these components, on one processor if asked to; answers when it is ready.
    pub async fn tranche(
        &self,
        namespace: &str,
        components: &[&str],
        mut command: Command,
    ) -> anyhow::Result<(Process, String)> {
        let (listen, ops) = (free_address()?, free_address()?);
        command.arg("run").args(components);
        command.args(["--namespace", namespace, "--listen", &listen, "--ops-listen", &ops]);
        command.env("KUBECONFIG", self.kubeconfig(TRANCHE));
        let mut process = Process::start("tranche", command, self.folder())?;
        let ready = format!("http://{ops}/readyz");
        process.until(async || reqwest::get(&ready).await.is_ok_and(|answer| answer.status().is_success())).await?;
        Ok((process, listen))
    }

    /// Starts `tranche simulate`.
    pub fn simulate(&self, namespace: &str, server: &str, args: &[&str]) -> anyhow::Result<Process> {
        let mut command = Command::new(binary());
        command.args(["simulate", "--namespace", namespace, "--server", &format!("http://{server}")]).args(args);
        command.env("KUBECONFIG", self.kubeconfig(FLEET));
        Process::start("simulate", command, self.folder())
    }

    /// The kubeconfig of somebody who looks on.
    pub fn user_kubeconfig(&self) -> PathBuf {
        self.kubeconfig(FLEET)
    }

    /// Their token.
    pub fn token(&self) -> anyhow::Result<String> {
        let file: serde_json::Value = serde_yaml::from_str(&std::fs::read_to_string(self.user_kubeconfig())?)?;
        Ok(file.pointer("/users/0/user/token").and_then(|token| token.as_str()).context("no token")?.to_owned())
    }

    fn kubeconfig(&self, user: &str) -> PathBuf {
        self.folder.path().join(format!("cp/kubeconfig-{user}"))
    }
}

/// The program that is measured, built with this bench.
pub fn binary() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_tranche"))
}

async fn install_kinds(client: &Client) -> anyhow::Result<()> {
    let api: Api<CustomResourceDefinition> = Api::all(client.clone());
    for crd in tranche::api::crds() {
        let name = crd.name_any();
        api.create(&PostParams::default(), &crd).await.with_context(|| format!("CRD {name}"))?;
        let served = wait::await_condition(api.clone(), &name, conditions::is_crd_established());
        tokio::time::timeout(PATIENCE, served).await.with_context(|| format!("CRD {name} is not served"))??;
    }
    Ok(())
}
