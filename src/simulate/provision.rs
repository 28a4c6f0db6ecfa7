//! Makes a simulated fleet known: one `Device` object each, with the hash of its key.

use std::collections::BTreeMap;

use futures::{StreamExt as _, TryStreamExt as _, stream};
use kube::api::{ObjectMeta, PostParams};
use kube::{Api, Client};
use serde_json::json;

use super::identity::Identity;
use crate::api::device::{Device, DeviceAuth, DeviceSpec};
use crate::api::{FLEET_LABEL, ImageRef};

/// Requests to the API server at once: as much as its default fairness gives one user without a queue.
const CONCURRENCY: usize = 16;
/// Id of the one application of a simulated device.
const APP: &str = "1001";

/// Why a fleet could not be made known.
#[derive(Debug, thiserror::Error)]
pub enum ProvisionError {
    /// A `Device` can't be created.
    #[error("cannot create device {device}")]
    Create {
        /// Its name.
        device: String,
        /// What the API server says.
        #[source]
        source: Box<kube::Error>,
    },
    /// A `Device` that is there already can't be read.
    #[error("cannot read device {device}")]
    Read {
        /// Its name.
        device: String,
        /// What the API server says.
        #[source]
        source: Box<kube::Error>,
    },
    /// A `Device` of that name has another key.
    #[error(
        "device {0} exists with another key: another simulator made it, or someone gave it a key of its own; use another --seed or --fleet"
    )]
    OtherKey(String),
}

/// How many objects were made and how many were there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Provisioned {
    /// Created now.
    pub created: usize,
    /// There already, and left as they are.
    pub reused: usize,
}

/// Creates the `Device` of each of `identities` in `namespace`, running `image`. One that exists is left as it is, whatever it runs.
///
/// # Errors
/// When the API server refuses, or a device of the same name has another key.
pub async fn provision(
    client: &Client,
    namespace: &str,
    fleet: &str,
    image: &ImageSource<'_>,
    identities: impl Iterator<Item = Identity>,
) -> Result<Provisioned, ProvisionError> {
    let api: Api<Device> = Api::namespaced(client.clone(), namespace);
    stream::iter(identities.map(|identity| {
        let api = api.clone();
        async move { create(&api, &device(&identity, fleet, image), &identity).await }
    }))
    .buffer_unordered(CONCURRENCY)
    .try_fold(Provisioned::default(), async |sum, created| {
        Ok(Provisioned { created: sum.created + usize::from(created), reused: sum.reused + usize::from(!created) })
    })
    .await
}

/// The image that a fleet is declared to run.
#[derive(Clone, Debug)]
pub struct ImageSource<'a> {
    /// As people write it; it is declared in this very spelling.
    pub written: &'a str,
    /// What it means.
    pub parsed: &'a ImageRef,
}

/// Whether it was created, rather than there already.
async fn create(api: &Api<Device>, device: &Device, identity: &Identity) -> Result<bool, ProvisionError> {
    let name = || identity.uuid.to_string();
    match api.create(&PostParams::default(), device).await {
        Ok(_) => return Ok(true),
        Err(kube::Error::Api(status)) if status.is_already_exists() => {}
        Err(source) => return Err(ProvisionError::Create { device: name(), source: Box::new(source) }),
    }
    let existing = api
        .get(&identity.uuid)
        .await
        .map_err(|source| ProvisionError::Read { device: name(), source: Box::new(source) })?;
    if existing.spec.auth != device.spec.auth {
        return Err(ProvisionError::OtherKey(name()));
    }
    Ok(false)
}

/// The `Device` of one simulated device: one application with one service that runs `image`.
#[must_use]
pub fn device(identity: &Identity, fleet: &str, image: &ImageSource<'_>) -> Device {
    let name = image.parsed.repository.rsplit('/').next().unwrap_or("app");
    let app = json!({
        "appName": name,
        "services": [{
            "serviceId": 1,
            "serviceName": name,
            "imageName": image.written,
            "config": { "image": image.written, "restart": "unless-stopped" },
        }],
    });
    let labels = [
        (FLEET_LABEL, fleet),
        ("app.kubernetes.io/managed-by", "tranche-simulate"),
        ("app.kubernetes.io/part-of", "tranche"),
    ];
    Device {
        metadata: ObjectMeta {
            name: Some(identity.uuid.to_string()),
            labels: Some(labels.into_iter().map(|(key, value)| (key.into(), value.into())).collect()),
            ..ObjectMeta::default()
        },
        spec: DeviceSpec {
            display_name: Some(format!("{fleet}-{:05}", identity.index)),
            apps: BTreeMap::from([(APP.into(), app)]),
            auth: Some(DeviceAuth { key_hash: Some(identity.key.hash()), ..DeviceAuth::default() }),
            ..DeviceSpec::default()
        },
        status: None,
    }
}
