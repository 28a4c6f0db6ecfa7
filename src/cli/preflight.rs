//! Before anything runs: are the kinds installed, and may we read them? A watch that fails says so only in the log,
//! over and over; a process that won't start says it once.

use std::time::Duration;

use anyhow::bail;
use kube::api::ListParams;
use kube::{Api, Client};
use serde::de::DeserializeOwned;

use crate::api::{Device, DevicePresence, ImageRollout, ImageUpdatePolicy, RegistryWebhook};
use crate::shutdown::Shutdown;

/// Kinds that are being installed at the same time, and API servers that are starting, get so long.
const PATIENCE: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(500);

/// Waits until every kind can be listed.
///
/// # Errors
/// When one can't be after a minute, with what to do about it.
pub async fn wait_for_kinds(client: &Client, namespace: &str, shutdown: &Shutdown) -> anyhow::Result<()> {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    let mut told = false;
    loop {
        let Err(error) = look(client, namespace).await else { return Ok(()) };
        let text = advice(&error, namespace);
        if tokio::time::Instant::now() >= deadline {
            bail!(text);
        }
        if !told {
            tracing::warn!("waiting for the cluster: {text}");
            told = true;
        }
        tokio::select! {
            () = tokio::time::sleep(PAUSE) => {}
            () = shutdown.requested() => return Ok(()),
        }
    }
}

async fn look(client: &Client, namespace: &str) -> Result<(), kube::Error> {
    one::<ImageUpdatePolicy>(client, namespace).await?;
    one::<ImageRollout>(client, namespace).await?;
    one::<Device>(client, namespace).await?;
    one::<RegistryWebhook>(client, namespace).await?;
    one::<DevicePresence>(client, namespace).await
}

async fn one<K>(client: &Client, namespace: &str) -> Result<(), kube::Error>
where
    K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>
        + Clone
        + std::fmt::Debug
        + DeserializeOwned,
{
    // Whether the objects in it can be read is not the question here.
    let api: Api<kube::core::PartialObjectMeta<K>> = Api::namespaced(client.clone(), namespace);
    tokio::time::timeout(Duration::from_secs(10), api.list_metadata(&ListParams::default().limit(1)))
        .await
        .map_or_else(|_| Err(kube::Error::Service("no answer within 10 s".into())), |result| result.map(|_| ()))
}

fn advice(error: &kube::Error, namespace: &str) -> String {
    match error {
        kube::Error::Api(status) if status.is_not_found() => {
            "its kinds are not installed: tranche crds | kubectl apply --server-side -f -".into()
        }
        kube::Error::Api(status) if status.is_forbidden() => format!(
            "this identity may not list Tranche's kinds in namespace {namespace}: {}; \
             the roles in charts/tranche say what it needs",
            status.message
        ),
        other => format!("the API server does not answer: {}", crate::controller::rollout::chain(other)),
    }
}
