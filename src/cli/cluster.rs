//! What commands that talk to a cluster share: which cluster and namespace, whole lists, errors in plain words.

use anyhow::{Context as _, anyhow};
use clap::Args;
use k8s_openapi::NamespaceResourceScope;
use kube::api::ListParams;
use kube::{Api, Client, Resource};
use serde::de::DeserializeOwned;

/// Objects of one page of a list.
const PAGE: u32 = 500;

/// Which namespace; the cluster is the one that KUBECONFIG names.
#[derive(Args, Clone, Debug)]
pub struct ClusterArgs {
    /// Namespace of policies, rollouts and devices [default: the kubeconfig's]
    #[arg(short, long, env = "TRANCHE_NAMESPACE")]
    pub namespace: Option<String>,
}

/// A cluster and a namespace of it.
pub struct Cluster {
    client: Client,
    /// The namespace.
    pub namespace: String,
}

impl std::fmt::Debug for Cluster {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cluster").field("namespace", &self.namespace).finish_non_exhaustive()
    }
}

impl Cluster {
    /// The one that the arguments and KUBECONFIG name.
    ///
    /// # Errors
    /// When none is configured.
    pub async fn connect(args: &ClusterArgs) -> anyhow::Result<Self> {
        let (client, default) = crate::kubeclient::connect().await?;
        Ok(Self { client, namespace: args.namespace.clone().unwrap_or(default) })
    }

    /// The API of a kind in the namespace.
    #[must_use]
    pub fn api<K>(&self) -> Api<K>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
    {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// An object by its name.
    ///
    /// # Errors
    /// When it isn't there, can't be had, or can't be read.
    pub async fn get<K>(&self, name: &str) -> anyhow::Result<K>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Clone + DeserializeOwned + std::fmt::Debug,
    {
        let kind = K::kind(&());
        match self.api::<K>().get_opt(name).await {
            Ok(Some(object)) => Ok(object),
            Ok(None) => Err(anyhow!(
                "there is no {kind} {name} in namespace {0}; `kubectl get {1} -n {0}` lists them",
                self.namespace,
                K::plural(&())
            )),
            Err(error) => Err(error).with_context(|| format!("reading {kind} {name} in namespace {}", self.namespace)),
        }
    }

    /// Every object of a kind, in pages.
    ///
    /// # Errors
    /// When they can't be had, or one can't be read.
    pub async fn list<K>(&self) -> anyhow::Result<Vec<K>>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Clone + DeserializeOwned + std::fmt::Debug,
    {
        let api = self.api::<K>();
        let mut objects = Vec::new();
        let mut page = ListParams::default().limit(PAGE);
        loop {
            let list = api
                .list(&page)
                .await
                .with_context(|| format!("listing {} in namespace {}", K::plural(&()), self.namespace))?;
            objects.extend(list.items);
            match list.metadata.continue_.filter(|token| !token.is_empty()) {
                Some(token) => page.continue_token = Some(token),
                None => return Ok(objects),
            }
        }
    }
}
