//! The API server as the demo uses it: installs what the story needs, and takes it away again.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, bail};
use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::runtime::{conditions, wait};
use kube::{Api, Client, Config, ResourceExt as _};
use serde::Deserialize as _;
use serde_json::json;
use tokio::process::Command;
use tranche::api::{Device, ImageRollout, ImageUpdatePolicy};

/// Everything of the demo lives here, so that it can be taken away as a whole.
pub const NAMESPACE: &str = "tranche-demo";
/// Field manager of what the demo applies.
const MANAGER: &str = "tranche-demo";
/// The demo's policy, as it stands among the examples.
const POLICY: &str = include_str!("../examples/demo-policy.yaml");
/// A CRD is served, and a namespace is gone, long before that.
const PATIENCE: Duration = Duration::from_secs(60);
/// Between two looks at something that is on its way.
const LOOK: Duration = Duration::from_millis(200);

/// An API server, and what the demo put there.
pub struct Cluster {
    pub client: Client,
    pub url: String,
    pub version: String,
    installed: Vec<CustomResourceDefinition>,
    has_namespace: bool,
}

impl Cluster {
    /// The one that `kubeconfig` names.
    pub async fn connect(kubeconfig: &Path) -> anyhow::Result<Self> {
        let at = || format!("cannot use {}", kubeconfig.display());
        let file = Kubeconfig::read_from(kubeconfig).with_context(at)?;
        let mut config = Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await.with_context(at)?;
        config.connect_timeout = Some(Duration::from_secs(5));
        let url = config.cluster_url.to_string().trim_end_matches('/').to_owned();
        let client = tranche::kubeclient::with_config(config).with_context(at)?;
        let version = client.apiserver_version().await.with_context(|| format!("{url} does not answer"))?.git_version;
        Ok(Self { client, url, version, installed: Vec::new(), has_namespace: false })
    }

    /// Installs those kinds that `tranche crds` prints and the cluster doesn't have, and says how many those are.
    pub async fn install_crds(&mut self, tranche: &Path) -> anyhow::Result<(usize, usize)> {
        let output = Command::new(tranche).arg("crds").output().await.context("cannot run tranche crds")?;
        if !output.status.success() {
            bail!("tranche crds: {}", String::from_utf8_lossy(&output.stderr).trim());
        }
        let yaml = String::from_utf8(output.stdout).context("tranche crds prints no text")?;
        let api: Api<CustomResourceDefinition> = Api::all(self.client.clone());
        let mut known = 0;
        for document in serde_yaml::Deserializer::from_str(&yaml) {
            let crd = CustomResourceDefinition::deserialize(document).context("tranche crds prints no CRD")?;
            let name = crd.name_any();
            known += 1;
            // Kinds that are there belong to somebody who may run a real fleet with them.
            if api.get_opt(&name).await.with_context(|| format!("cannot read CRD {name}"))?.is_some() {
                continue;
            }
            apply(&api, &name, &crd).await?;
            self.installed.push(crd);
            let served = wait::await_condition(api.clone(), &name, conditions::is_crd_established());
            tokio::time::timeout(PATIENCE, served)
                .await
                .with_context(|| format!("CRD {name} is not served"))?
                .with_context(|| format!("cannot watch CRD {name}"))?;
        }
        Ok((self.installed.len(), known))
    }

    /// Creates the demo's namespace, and its policy in it.
    pub async fn install_policy(&mut self) -> anyhow::Result<ImageUpdatePolicy> {
        let namespaces: Api<Namespace> = Api::all(self.client.clone());
        let namespace = Namespace {
            metadata: kube::core::ObjectMeta { name: Some(NAMESPACE.into()), ..Default::default() },
            ..Default::default()
        };
        match namespaces.create(&PostParams::default(), &namespace).await {
            Ok(_) => self.has_namespace = true,
            Err(kube::Error::Api(status)) if status.is_already_exists() => {
                bail!("namespace {NAMESPACE} exists already: delete it first (kubectl delete namespace {NAMESPACE})")
            }
            Err(error) => return Err(error).context("cannot create the demo's namespace"),
        }
        let policy: ImageUpdatePolicy = serde_yaml::from_str(POLICY).context("examples/demo-policy.yaml")?;
        let api = Api::namespaced(self.client.clone(), NAMESPACE);
        apply(&api, &policy.name_any(), &policy).await
    }

    pub fn rollouts(&self) -> Api<ImageRollout> {
        Api::namespaced(self.client.clone(), NAMESPACE)
    }

    pub async fn policy(&self, name: &str) -> anyhow::Result<ImageUpdatePolicy> {
        let api: Api<ImageUpdatePolicy> = Api::namespaced(self.client.clone(), NAMESPACE);
        api.get(name).await.context("cannot read the policy")
    }

    pub async fn devices(&self) -> anyhow::Result<Vec<Device>> {
        let api: Api<Device> = Api::namespaced(self.client.clone(), NAMESPACE);
        Ok(api.list(&ListParams::default()).await.context("cannot list devices")?.items)
    }

    /// Deletes the rollouts. Needs a controller that runs: it releases each only when no device hangs on it.
    pub async fn delete_rollouts(&self) -> anyhow::Result<()> {
        if !self.has_namespace {
            return Ok(());
        }
        let api = self.rollouts();
        api.delete_collection(&DeleteParams::default(), &ListParams::default())
            .await
            .context("cannot delete the rollouts")?;
        gone(async || Ok(api.list_metadata(&ListParams::default()).await?.items.is_empty()))
            .await
            .context("the rollouts stay")
    }

    /// Deletes everything else that the demo brought.
    pub async fn delete_rest(&self) -> anyhow::Result<()> {
        if self.has_namespace {
            let api: Api<Namespace> = Api::all(self.client.clone());
            api.delete(NAMESPACE, &DeleteParams::default()).await.context("cannot delete the namespace")?;
            gone(async || Ok(api.get_metadata_opt(NAMESPACE).await?.is_none())).await.context("the namespace stays")?;
        }
        let api: Api<CustomResourceDefinition> = Api::all(self.client.clone());
        for crd in &self.installed {
            let name = crd.name_any();
            api.delete(&name, &DeleteParams::default()).await.with_context(|| format!("cannot delete CRD {name}"))?;
        }
        Ok(())
    }
}

async fn apply<K>(api: &Api<K>, name: &str, object: &K) -> anyhow::Result<K>
where
    K: kube::Resource<DynamicType = ()> + Clone + serde::Serialize + serde::de::DeserializeOwned + std::fmt::Debug,
{
    let mut json = serde_json::to_value(object).with_context(|| format!("cannot write {name}"))?;
    json["apiVersion"] = json!(K::api_version(&()));
    json["kind"] = json!(K::kind(&()));
    api.patch(name, &PatchParams::apply(MANAGER).force(), &Patch::Apply(&json))
        .await
        .with_context(|| format!("cannot apply {} {name}", K::kind(&())))
}

/// Waits until `done` says so.
async fn gone(done: impl AsyncFn() -> kube::Result<bool>) -> anyhow::Result<()> {
    let all = async {
        while !done().await? {
            tokio::time::sleep(LOOK).await;
        }
        Ok(())
    };
    tokio::time::timeout(PATIENCE, all).await.context("still there after a minute")?
}
