//! Puts rollouts into the API server, once each.
//!
//! Decides only what the API server's answer means. `AlreadyExists` is the ordinary fate of a push that is told twice; the
//! object is then read and compared, since a registry may only be told "done" when a rollout of *this* image is there. A tag
//! that was moved is another image: its rollout gets a name of its own (see [`crate::registry::intake`]).

use std::time::Duration;

use futures::{StreamExt as _, TryStreamExt as _, stream};
use kube::api::PostParams;
use kube::{Api, Client, ResourceExt as _};
use tokio::time::timeout;

use crate::api::condition::truncate;
use crate::api::policy::Offer;
use crate::api::rollout::DesiredState;
use crate::api::{ImageRef, ImageRollout};
use crate::registry::Reason;
use crate::registry::intake::{Creation, digest_name};
use crate::resolver::{AskError, Resolver};

/// Field manager of rollouts made from pushes.
const WEBHOOK_MANAGER: &str = "tranche-webhook";
/// For one rollout, reading back included. Below the ten seconds that registries wait, so that they hear of it.
const RECORD_TIMEOUT: Duration = Duration::from_secs(8);
/// For the registry to say what a tag stands for, where that decides whether there is anything to make: Harbor waits three
/// seconds for its answer.
const ASK_TIMEOUT: Duration = Duration::from_millis(2500);
/// Rollouts of one delivery that are created side by side. One push concerns a policy or two; this keeps a namespace full
/// of policies from turning one delivery into a burst.
const CONCURRENT_CREATES: usize = 8;
/// Longest excerpt of the API server's complaint that is passed on.
const MAX_COMPLAINT: usize = 300;

/// What became of a rollout that should exist.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Recorded {
    /// It is there, by this call, under that name.
    Created(String),
    /// It was there, under that name.
    Existed(String),
    /// It is not there, and trying again won't change that.
    Ignored(Reason),
}

/// It may or may not be there: whoever told of the push must try again.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// No answer.
    #[error("the API server did not answer in time")]
    Timeout(#[source] tokio::time::error::Elapsed),
    /// Creating.
    #[error("the rollout could not be created")]
    Create(#[source] kube::Error),
    /// Reading the one that is there.
    #[error("the rollout that is there could not be read")]
    Read(#[source] kube::Error),
    /// The one of that name is going away.
    #[error("the rollout {0} of this image is being deleted")]
    BeingDeleted(String),
    /// The registry doesn't say whether a tag was moved.
    #[error("the registry does not say whether {image} was moved")]
    Registry {
        /// The image.
        image: String,
        /// Why; no error when it took too long.
        #[source]
        error: Option<AskError>,
    },
}

/// Records rollouts.
#[derive(Clone)]
pub struct Recorder {
    client: Client,
    resolver: Resolver,
}

impl std::fmt::Debug for Recorder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Recorder").finish_non_exhaustive()
    }
}

/// A rollout that is there, as far as it matters to a push.
enum There {
    /// It is this push's.
    Same,
    /// It is of other bits under the same tag.
    Other,
    /// Only the registry can tell.
    Unknown,
    /// It is of another image altogether.
    Taken,
}

impl Recorder {
    /// Creates rollouts with `client`, and asks registries through `resolver`.
    #[must_use]
    pub fn new(client: Client, resolver: Resolver) -> Self {
        Self { client, resolver }
    }

    /// Records rollouts; the results are in their order.
    ///
    /// # Errors
    /// The first that can't be known to be there.
    pub async fn record_all(&self, creations: &[Creation]) -> Result<Vec<Recorded>, RecordError> {
        let calls: Vec<_> = creations.iter().map(|creation| timeout(RECORD_TIMEOUT, self.record(creation))).collect();
        stream::iter(calls)
            .buffered(CONCURRENT_CREATES)
            .map(|result| result.map_err(RecordError::Timeout)?)
            .try_collect()
            .await
    }

    async fn record(&self, creation: &Creation) -> Result<Recorded, RecordError> {
        let Creation { policy, terms, rollout } = creation;
        let api: Api<ImageRollout> = Api::namespaced(self.client.clone(), &policy.namespace);
        let mut image = image_of(rollout);
        // The rollout that had the first name may be gone from the history, and this one still be there.
        if let Some(name) = digest_name(&policy.name, &image)
            && let Some(existing) = api.get_opt(&name).await.map_err(RecordError::Read)?
            && let There::Same = compare(&existing, rollout, terms.offer)
        {
            return being_there(&existing);
        }
        let existing = match create(&api, rollout).await? {
            Ok(recorded) => return Ok(recorded),
            Err(existing) => existing,
        };
        match compare(&existing, rollout, terms.offer) {
            There::Same => return being_there(&existing),
            There::Taken => return Ok(Recorded::Ignored(Reason::NameTaken { rollout: existing.name_any() })),
            There::Other => {}
            There::Unknown => match self.ask(creation, &image).await? {
                Ok(digest) => image.digest = Some(digest),
                Err(reason) => return Ok(Recorded::Ignored(reason)),
            },
        }
        let mut later = rollout.clone();
        later.spec.image.digest.clone_from(&image.digest);
        if let There::Same = compare(&existing, &later, terms.offer) {
            return being_there(&existing);
        }
        later.metadata.name = digest_name(&policy.name, &image);
        match create(&api, &later).await? {
            Ok(recorded) => Ok(recorded),
            Err(existing) => match compare(&existing, &later, terms.offer) {
                There::Same | There::Unknown => being_there(&existing),
                There::Other | There::Taken => {
                    Ok(Recorded::Ignored(Reason::NameTaken { rollout: existing.name_any() }))
                }
            },
        }
    }

    /// What the tag stands for now.
    async fn ask(&self, creation: &Creation, image: &ImageRef) -> Result<Result<String, Reason>, RecordError> {
        let Creation { policy, terms, rollout } = creation;
        let no_answer = |error| RecordError::Registry { image: image.to_string(), error };
        match timeout(ASK_TIMEOUT, self.resolver.digest(&policy.namespace, image, &terms.access)).await {
            Err(_) => Err(no_answer(None)),
            Ok(Err(error)) if error.may_pass() => Err(no_answer(Some(error))),
            Ok(Err(error)) => Ok(Err(Reason::DigestUnknown {
                image: image.to_string(),
                rollout: rollout.name_any(),
                why: truncate(error.to_string(), MAX_COMPLAINT),
            })),
            Ok(Ok(digest)) => Ok(Ok(digest)),
        }
    }
}

/// Creates a rollout, or answers with the one that has its name.
async fn create(
    api: &Api<ImageRollout>,
    rollout: &ImageRollout,
) -> Result<Result<Recorded, Box<ImageRollout>>, RecordError> {
    let params = PostParams { field_manager: Some(WEBHOOK_MANAGER.into()), ..PostParams::default() };
    let name = rollout.name_any();
    match api.create(&params, rollout).await {
        Ok(_) => {
            let policy = &rollout.spec.policy_ref.name;
            tracing::info!(policy, rollout = name, image = %image_of(rollout), "rollout created");
            Ok(Ok(Recorded::Created(name)))
        }
        Err(kube::Error::Api(status)) if status.is_already_exists() => {
            Ok(Err(Box::new(api.get(&name).await.map_err(RecordError::Read)?)))
        }
        Err(kube::Error::Api(status)) if status.is_invalid() || status.code == 400 => {
            tracing::warn!(rollout = name, message = status.message, "the API server refused a rollout");
            Ok(Ok(Recorded::Ignored(Reason::Refused(truncate(status.message.clone(), MAX_COMPLAINT)))))
        }
        Err(error) => Err(RecordError::Create(error)),
    }
}

fn compare(existing: &ImageRollout, wanted: &ImageRollout, offer: Offer) -> There {
    let (there, asked) = (&existing.spec.image, &wanted.spec.image);
    if existing.spec.policy_ref != wanted.spec.policy_ref
        || (&there.repository, &there.tag) != (&asked.repository, &asked.tag)
    {
        return There::Taken;
    }
    let status = existing.status.as_ref();
    let known = there.digest.as_ref().or(status.and_then(|status| status.digest.as_ref()));
    // It will ask the registry later than this push was made, and so roll out what was pushed.
    let will_ask = status.is_none_or(|status| status.plan.is_none() && !status.phase.is_terminal());
    // A person's word on this tag holds for every push of it that can't be told from the one that was stopped.
    let is_stopped = existing.spec.desired_state != DesiredState::Active;
    match (known, &asked.digest, offer) {
        (Some(known), Some(asked), _) => {
            if known == asked {
                There::Same
            } else {
                There::Other
            }
        }
        (None, _, _) | (_, None, _) if is_stopped => There::Same,
        (None, _, _) if will_ask => There::Same,
        // Devices are told the tag, and were.
        (Some(_) | None, Some(_) | None, Offer::Tag) => There::Same,
        (None, Some(_), Offer::Digest) => There::Other,
        (Some(_) | None, None, Offer::Digest) => There::Unknown,
    }
}

fn being_there(existing: &ImageRollout) -> Result<Recorded, RecordError> {
    match existing.metadata.deletion_timestamp {
        Some(_) => Err(RecordError::BeingDeleted(existing.name_any())),
        None => Ok(Recorded::Existed(existing.name_any())),
    }
}

fn image_of(rollout: &ImageRollout) -> ImageRef {
    let image = &rollout.spec.image;
    ImageRef { repository: image.repository.clone(), tag: image.tag.clone(), digest: image.digest.clone() }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn rollout(digest: Option<char>, status: &Value) -> ImageRollout {
        let digest = digest.map(|digit| format!("sha256:{}", digit.to_string().repeat(64)));
        serde_json::from_value(json!({
            "metadata": {"name": "app-1", "namespace": "default"},
            "spec": {"policyRef": {"name": "app"},
                     "image": {"repository": "docker.io/acme/app", "tag": "v2", "digest": digest}},
            "status": status,
        }))
        .expect("a rollout")
    }

    #[test]
    fn whose_it_is() {
        let new = json!({});
        let digest = |digit: char| json!({"digest": format!("sha256:{}", digit.to_string().repeat(64))});
        let ended = json!({"phase": "Superseded"});
        for (existing, wanted, offer, expected) in [
            (rollout(Some('1'), &new), Some('1'), Offer::Digest, "Same"),
            (rollout(Some('1'), &new), Some('2'), Offer::Digest, "Other"),
            (rollout(Some('1'), &new), Some('2'), Offer::Tag, "Other"),
            (rollout(Some('1'), &new), None, Offer::Digest, "Unknown"),
            (rollout(Some('1'), &new), None, Offer::Tag, "Same"),
            (rollout(None, &new), None, Offer::Digest, "Same"),
            (rollout(None, &new), Some('1'), Offer::Digest, "Same"),
            (rollout(None, &digest('1')), Some('1'), Offer::Digest, "Same"),
            (rollout(None, &digest('1')), Some('2'), Offer::Digest, "Other"),
            (rollout(None, &digest('1')), None, Offer::Digest, "Unknown"),
            (rollout(None, &ended), None, Offer::Digest, "Unknown"),
            (rollout(None, &ended), Some('1'), Offer::Digest, "Other"),
            (rollout(None, &ended), Some('1'), Offer::Tag, "Same"),
        ] {
            let found = match compare(&existing, &rollout(wanted, &json!({})), offer) {
                There::Same => "Same",
                There::Other => "Other",
                There::Unknown => "Unknown",
                There::Taken => "Taken",
            };
            assert_eq!(found, expected, "{:?} {wanted:?} {offer:?}", existing.spec.image);
        }
        let mut another = rollout(None, &json!({}));
        another.spec.image.tag = Some("v3".into());
        assert!(matches!(compare(&another, &rollout(None, &json!({})), Offer::Tag), There::Taken));
    }
}
