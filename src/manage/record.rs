//! Puts rollouts into the API server, once each.
//!
//! Decides only what the API server's answer means. `AlreadyExists` is the ordinary fate of a push that is told twice; the
//! object is then read and compared, since a registry may only be told "done" when a rollout of *this* image is there.

use std::time::Duration;

use futures::{StreamExt as _, TryStreamExt as _, stream};
use kube::api::PostParams;
use kube::{Api, Client, ResourceExt as _};

use crate::api::ImageRollout;
use crate::api::condition::truncate;
use crate::registry::Reason;
use crate::registry::intake::Creation;

/// Field manager of rollouts made from pushes.
const WEBHOOK_MANAGER: &str = "tranche-webhook";
/// For one rollout, reading back included. Below the ten seconds that registries wait, so that they hear of it.
const RECORD_TIMEOUT: Duration = Duration::from_secs(8);
/// Rollouts of one delivery that are created side by side. One push concerns a policy or two; this keeps a namespace full
/// of policies from turning one delivery into a burst.
const CONCURRENT_CREATES: usize = 8;
/// Longest excerpt of the API server's complaint that is passed on.
const MAX_COMPLAINT: usize = 300;

/// What became of a rollout that should exist.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Recorded {
    /// It is there, by this call.
    Created,
    /// It was there.
    Existed,
    /// It is not there, and trying again won't change that.
    Ignored(Reason),
}

/// It may or may not be there: the registry must try again.
#[derive(Debug, thiserror::Error)]
pub(super) enum RecordError {
    /// No answer.
    #[error("the API server did not answer in time")]
    Timeout(#[source] tokio::time::error::Elapsed),
    /// Creating.
    #[error("the rollout could not be created")]
    Create(#[source] kube::Error),
    /// Reading the one that is there.
    #[error("the rollout that is there could not be read")]
    Read(#[source] kube::Error),
}

/// Records rollouts; the results are in their order.
pub(super) async fn record_all(client: &Client, creations: &[Creation]) -> Result<Vec<Recorded>, RecordError> {
    let calls: Vec<_> =
        creations.iter().map(|creation| tokio::time::timeout(RECORD_TIMEOUT, record(client, creation))).collect();
    stream::iter(calls)
        .buffered(CONCURRENT_CREATES)
        .map(|result| result.map_err(RecordError::Timeout)?)
        .try_collect()
        .await
}

async fn record(client: &Client, Creation { policy, terms: _, rollout }: &Creation) -> Result<Recorded, RecordError> {
    let api: Api<ImageRollout> = Api::namespaced(client.clone(), &policy.namespace);
    let params = PostParams { field_manager: Some(WEBHOOK_MANAGER.into()), ..PostParams::default() };
    let name = rollout.name_any();
    match api.create(&params, rollout).await {
        Ok(_) => {
            tracing::info!(%policy, rollout = name, image = %shown(rollout), "rollout created");
            Ok(Recorded::Created)
        }
        Err(kube::Error::Api(status)) if status.is_already_exists() => {
            let existing = api.get(&name).await.map_err(RecordError::Read)?;
            Ok(compare(&existing, rollout))
        }
        Err(kube::Error::Api(status)) if status.is_invalid() || status.code == 400 => {
            tracing::warn!(%policy, rollout = name, message = status.message, "the API server refused a rollout");
            Ok(Recorded::Ignored(Reason::Refused(truncate(status.message.clone(), MAX_COMPLAINT))))
        }
        Err(error) => Err(RecordError::Create(error)),
    }
}

fn compare(existing: &ImageRollout, wanted: &ImageRollout) -> Recorded {
    let rollout = wanted.name_any();
    if existing.spec.image != wanted.spec.image || existing.spec.policy_ref != wanted.spec.policy_ref {
        Recorded::Ignored(Reason::NameTaken { rollout })
    } else if existing.metadata.deletion_timestamp.is_some() {
        Recorded::Ignored(Reason::BeingDeleted { rollout })
    } else {
        Recorded::Existed
    }
}

fn shown(rollout: &ImageRollout) -> String {
    let image = &rollout.spec.image;
    format!("{}:{}", image.repository, image.tag.as_deref().unwrap_or_default())
}
