//! What commands that talk to a cluster share: which cluster and namespace, objects and lists of them, refusals in
//! plain words.

use std::path::PathBuf;

use clap::Args;
use http::{HeaderValue, Request as HttpRequest, header};
use k8s_openapi::NamespaceResourceScope;
use kube::api::{ListParams, ObjectMeta, Patch, PatchParams};
use kube::core::PartialObjectMeta;
use kube::{Api, Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use serde_json::Value;
use serde_json::value::RawValue;

use super::fault::{Code, Fault, Request, close_to, singular};
use crate::api::table;

/// Objects of one page of a list. A page costs the API server as much as it has objects left to give, so that kubectl's 500
/// take several times as long for a hundred thousand; and two pages of these are some 20 MB at most.
const PAGE: u32 = 2_500;
/// Names that are looked through for one that may have been meant.
const LOOKED_THROUGH: u32 = 1_000;
/// Names that are told where none was meant.
const TOLD: usize = 5;

/// A kind of ours.
pub trait Kind: Resource<Scope = NamespaceResourceScope, DynamicType = ()> {}
impl<K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>> Kind for K {}

/// Which cluster, and which namespace of it; the same words as kubectl's.
#[derive(Args, Clone, Debug, Default)]
pub struct ClusterArgs {
    /// Namespace of policies, rollouts and devices [default: the kubeconfig's]
    #[arg(short, long, env = "TRANCHE_NAMESPACE", hide_env = true, help_heading = "Cluster")]
    pub namespace: Option<String>,
    /// Context of the kubeconfig [default: its current one]
    #[arg(long, help_heading = "Cluster")]
    pub context: Option<String>,
    /// The kubeconfig [default: KUBECONFIG, else ~/.kube/config]
    #[arg(long, value_name = "FILE", help_heading = "Cluster")]
    pub kubeconfig: Option<PathBuf>,
}

/// A cluster and a namespace of it.
pub struct Cluster {
    /// Its API server.
    pub client: Client,
    /// The namespace.
    pub namespace: String,
}

impl std::fmt::Debug for Cluster {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cluster").field("namespace", &self.namespace).finish_non_exhaustive()
    }
}

/// The head of a list of which the items are left as they came.
#[derive(serde::Deserialize)]
struct RawList<'a> {
    #[serde(default)]
    metadata: RawMeta,
    #[serde(borrow, default)]
    items: Vec<&'a RawValue>,
}

#[derive(Default, serde::Deserialize)]
struct RawMeta {
    #[serde(default, rename = "continue")]
    token: Option<String>,
}

impl Cluster {
    /// The one that the arguments and KUBECONFIG name.
    ///
    /// # Errors
    /// When none is configured.
    pub async fn connect(args: &ClusterArgs) -> anyhow::Result<Self> {
        let ClusterArgs { namespace, context, kubeconfig } = args;
        let (client, default) = if context.is_some() || kubeconfig.is_some() {
            crate::kubeclient::connect_to(kubeconfig.as_deref(), context.clone()).await?
        } else {
            crate::kubeclient::connect().await?
        };
        Ok(Self { client, namespace: namespace.clone().unwrap_or(default) })
    }

    /// The API of a kind in the namespace.
    #[must_use]
    pub fn api<K: Kind>(&self) -> Api<K> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// An object by its name.
    ///
    /// # Errors
    /// When it isn't there, can't be had, or can't be read.
    pub async fn get<K>(&self, name: &str) -> anyhow::Result<K>
    where
        K: Kind + Clone + DeserializeOwned + std::fmt::Debug,
    {
        let value = self.get_value::<K>(name).await?;
        serde_json::from_value(value).map_err(|error| {
            let kind = K::kind(&());
            Fault::new(Code::Error, format!("{kind} {name} is not as this tranche knows it: {error}")).into()
        })
    }

    /// An object as the API server has it, without the marks of who wrote which field.
    ///
    /// # Errors
    /// When it isn't there or can't be had.
    pub async fn get_value<K: Kind + Clone + DeserializeOwned + std::fmt::Debug>(
        &self,
        name: &str,
    ) -> anyhow::Result<Value> {
        // What can't be a name isn't asked for: it would be another path.
        let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.');
        if name.is_empty() || !name.chars().all(is_name) {
            let kind = singular(&K::plural(&())).to_owned();
            return Err(
                Fault::new(Code::NotFound, format!("there is no {kind} {name:?}: nothing can be named so")).into()
            );
        }
        let path = format!("{}/{name}", K::url_path(&(), Some(&self.namespace)));
        match self.client.request::<Value>(get(&path)?).await {
            Ok(mut value) => {
                without_managers(&mut value);
                Ok(value)
            }
            Err(kube::Error::Api(status)) if status.is_not_found() => {
                Err(self.missing::<K>(name, kube::Error::Api(status)).await.into())
            }
            Err(error) => Err(request::<K>("get", Some(name), &self.namespace).refused(&error).into()),
        }
    }

    /// That an object isn't there; with the name that was probably meant.
    async fn missing<K: Kind + Clone + DeserializeOwned + std::fmt::Debug>(
        &self,
        name: &str,
        error: kube::Error,
    ) -> Fault {
        let plural = K::plural(&()).into_owned();
        let api: Api<PartialObjectMeta<K>> = Api::namespaced(self.client.clone(), &self.namespace);
        let params = ListParams::default().limit(LOOKED_THROUGH);
        let Ok(list) = api.list_metadata(&params).await else {
            return request::<K>("get", Some(name), &self.namespace).refused(&error);
        };
        let names: Vec<String> = list.items.iter().map(ResourceExt::name_any).collect();
        let hint = match (close_to(name, &names), names.as_slice()) {
            (Some(close), _) => format!("; did you mean {close}?"),
            (None, []) => {
                format!("; there is none at all: is it the right namespace (-n)? `kubectl get {plural} -A` lists all")
            }
            (None, few) => {
                let more = few.len().saturating_sub(TOLD);
                let told = few[..few.len().min(TOLD)].join(", ");
                if more == 0 { format!("; there is {told}") } else { format!("; there is {told} and {more} more") }
            }
        };
        let text = format!("there is no {} {name} in namespace {}{hint}", singular(&plural), self.namespace);
        Fault::new(Code::NotFound, text)
    }

    /// Every object of a kind that can be read, and of the others what is wrong with them.
    ///
    /// # Errors
    /// When they can't be had.
    pub async fn list_readable<K>(&self) -> anyhow::Result<(Vec<K>, Vec<String>)>
    where
        K: Kind + DeserializeOwned,
    {
        let (mut objects, mut unreadable) = (Vec::new(), Vec::new());
        self.pages::<K>(ListParams::default(), |items| {
            for item in items {
                match serde_json::from_str(item.get()) {
                    Ok(object) => objects.push(object),
                    Err(error) => unreadable.push(complaint::<K>(item, &error)),
                }
            }
            Ok(true)
        })
        .await?;
        Ok((objects, unreadable))
    }

    /// Every object of a kind as it came, page by page, while the next page is already on its way. `take` says whether
    /// to go on.
    ///
    /// # Errors
    /// When they can't be had, or `take` fails.
    pub async fn pages<K: Kind>(
        &self,
        mut params: ListParams,
        mut take: impl FnMut(&[&RawValue]) -> anyhow::Result<bool>,
    ) -> anyhow::Result<()> {
        let path = K::url_path(&(), Some(&self.namespace));
        let fetch = |params: &ListParams| -> anyhow::Result<_> {
            let request = kube::core::Request::new(path.as_str()).list(params)?;
            let client = self.client.clone();
            Ok(tokio::spawn(async move { client.request_text(request).await }))
        };
        if params.limit.is_none_or(|limit| limit > PAGE) {
            params.limit = Some(PAGE);
        }
        let mut next = Some(fetch(&params)?);
        while let Some(page) = next.take() {
            let text = page.await?.map_err(|error| self.unlisted::<K>(&error))?;
            let list: RawList<'_> = serde_json::from_str(&text).map_err(|error| self.unreadable::<K>(error))?;
            if let Some(token) = list.metadata.token.filter(|token| !token.is_empty()) {
                params.continue_token = Some(token);
                next = Some(fetch(&params)?);
            }
            if !take(&list.items)? {
                break;
            }
        }
        Ok(())
    }

    /// These columns of every object of a kind, some at a time; false if the cluster's kind doesn't have all of them, and
    /// nothing was taken.
    ///
    /// # Errors
    /// When they can't be had, or `take` fails.
    pub async fn columns<K: Kind, const N: usize>(
        &self,
        params: &ListParams,
        columns: [&str; N],
        mut take: impl FnMut(Vec<table::Cells<N>>) -> anyhow::Result<bool>,
    ) -> anyhow::Result<bool> {
        let path = K::url_path(&(), Some(&self.namespace));
        let mut request = kube::core::Request::new(path).list(params)?;
        let (name, value) = table::WITHOUT_OBJECTS;
        *request.uri_mut() = format!("{}&{name}={value}", request.uri()).parse()?;
        request.headers_mut().insert(header::ACCEPT, HeaderValue::from_static(table::ACCEPT));
        let text = self.client.request_text(request).await.map_err(|error| self.unlisted::<K>(&error))?;
        let table = table::Table::read(text.as_bytes()).map_err(|error| self.unreadable::<K>(error))?;
        let Some(mut cells) = table.cells(columns) else { return Ok(false) };
        loop {
            let some: Vec<table::Cells<N>> = cells.by_ref().take(PAGE as usize).collect();
            if some.is_empty() || !take(some)? {
                return Ok(true);
            }
        }
    }

    fn unlisted<K: Kind>(&self, error: &kube::Error) -> Fault {
        request::<K>("list", None, &self.namespace).refused(error)
    }

    fn unreadable<K: Kind>(&self, error: serde_json::Error) -> Fault {
        self.unlisted::<K>(&kube::Error::SerdeError(error))
    }

    /// Changes an object; the changed one.
    ///
    /// # Errors
    /// When the API server refuses; a conflict with another writer is the caller's, who reads again.
    pub async fn merge<K>(&self, name: &str, patch: &Value, dry_run: bool) -> Result<K, kube::Error>
    where
        K: Kind + Clone + DeserializeOwned + std::fmt::Debug,
    {
        let params = PatchParams { dry_run, field_manager: Some("tranche".into()), ..PatchParams::default() };
        self.api::<K>().patch(name, &params, &Patch::Merge(patch)).await
    }
}

/// What is asked of the API server about a kind.
#[must_use]
pub fn request<'a, K: Kind>(verb: &'static str, name: Option<&'a str>, namespace: &'a str) -> Request<'a> {
    let fixed = |word| match word {
        std::borrow::Cow::Borrowed(word) => word,
        std::borrow::Cow::Owned(_) => "objects",
    };
    Request { verb, plural: fixed(K::plural(&())), group: fixed(K::group(&())), name, namespace }
}

fn get(path: &str) -> anyhow::Result<HttpRequest<Vec<u8>>> {
    Ok(HttpRequest::get(path).body(Vec::new())?)
}

/// Why an object can't be read, with its name.
#[must_use]
pub fn complaint<K: Kind>(item: &RawValue, error: &serde_json::Error) -> String {
    #[derive(serde::Deserialize)]
    struct Named {
        metadata: ObjectMeta,
    }
    let name = serde_json::from_str::<Named>(item.get()).ok().and_then(|named| named.metadata.name);
    format!("{} {} can't be read: {error}", K::kind(&()), name.as_deref().unwrap_or("without a name"))
}

/// Takes out who wrote which field, as kubectl does: nobody reads it, and it is most of a small object.
pub fn without_managers(value: &mut Value) {
    if let Some(meta) = value.get_mut("metadata").and_then(Value::as_object_mut) {
        meta.remove("managedFields");
    }
}
