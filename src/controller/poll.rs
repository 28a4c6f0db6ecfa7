//! Asks registries for pushes that no webhook told of, for policies with `spec.image.pollInterval`.
//!
//! What it finds goes the way of a webhook's push: the same decision, the same name, the same one rollout. What the
//! policy's rollouts show to be known costs the API server nothing.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use futures::stream::FuturesUnordered;
use futures::{FutureExt as _, StreamExt as _};
use jiff::{SignedDuration, Timestamp};
use kube::ResourceExt as _;
use parking_lot::Mutex;
use tokio::time::MissedTickBehavior;

use crate::api::policy::Offer;
use crate::api::rollout::{ImageRollout, TriggerType};
use crate::api::{ImageRef, ImageUpdatePolicy};
use crate::oci::{Known, Tags};
use crate::plan::follow::Follow;
use crate::plan::policy::Polled;
use crate::plan::subject::resolved_image;
use crate::plan::validated::ValidatedPolicy;
use crate::record::{RecordError, Recorded};
use crate::registry::PushEvent;
use crate::registry::claim::Claim;
use crate::registry::intake::{Decision, decide};
use crate::resolver::AskError;
use crate::shutdown::Shutdown;

use super::context::{Context, PolicyRef};

/// How often due policies are looked for.
const ROUND: Duration = Duration::from_secs(1);
/// Policies whose registries are asked at the same time.
const CONCURRENCY: usize = 8;
/// The first look comes within so long of the start, whatever the interval.
const FIRST: Duration = Duration::from_secs(10);
/// Longest pause after failures.
const MAX_PAUSE: Duration = Duration::from_secs(3600);
/// Name of the trigger in `spec.trigger.receiver`.
const RECEIVER: &str = "poll";

/// Where each policy's polling stands, by UID.
#[derive(Debug, Default)]
pub struct Polls(Mutex<HashMap<String, Poll>>);

#[derive(Debug, Default)]
struct Poll {
    /// Of the policy that the rest is about.
    generation: Option<i64>,
    due: Option<Timestamp>,
    failures: u32,
    /// What the registry let us say of its list, and the highest version that was in it.
    listed: Option<(Known, Option<String>)>,
    polled: Option<Polled>,
}

/// Why a look found nothing out.
#[derive(Debug, thiserror::Error)]
enum PollError {
    #[error("the policy can't be followed")]
    Invalid,
    #[error(transparent)]
    Ask(#[from] AskError),
    #[error(transparent)]
    Record(#[from] RecordError),
}

impl Polls {
    /// How the last look of a policy went; `None` while there was none.
    pub fn of(&self, policy: &ImageUpdatePolicy) -> Option<Polled> {
        policy.spec.image.poll_interval?;
        self.0.lock().get(policy.metadata.uid.as_deref()?)?.polled.clone()
    }
}

/// Polls until `shutdown`.
pub(super) async fn serve(context: Arc<Context>, shutdown: Shutdown) {
    let mut ticks = tokio::time::interval(ROUND);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut looks = FuturesUnordered::new();
    let mut looking: HashSet<String> = HashSet::new();
    loop {
        tokio::select! {
            () = shutdown.requested() => return,
            Some(uid) = looks.next(), if !looks.is_empty() => {
                let uid: String = uid;
                looking.remove(&uid);
                continue;
            }
            _ = ticks.tick() => {}
        }
        for policy in context.due_polls() {
            let uid = policy.uid().unwrap_or_default();
            if looks.len() < CONCURRENCY && looking.insert(uid.clone()) {
                let context = Arc::clone(&context);
                looks.push(async move { look(&context, &policy).map(|()| uid).await }.boxed());
            }
        }
    }
}

impl Context {
    /// Policies whose turn it is.
    fn due_polls(&self) -> Vec<ImageUpdatePolicy> {
        let now = self.clock.now();
        let guards = self.polling_policies();
        let policies = || guards.iter().filter_map(|guard| guard.0.as_ref().ok());
        let there: HashSet<&str> = policies().filter_map(|policy| policy.metadata.uid.as_deref()).collect();
        let mut polls = self.polls.0.lock();
        polls.retain(|uid, _| there.contains(uid.as_str()));
        let is_due = |policy: &&ImageUpdatePolicy| {
            let poll = polls.entry(policy.uid().unwrap_or_default()).or_default();
            if poll.generation != policy.metadata.generation {
                // Other rules may find other tags in the same list, and whoever mends something is not left waiting.
                *poll = Poll { generation: policy.metadata.generation, polled: poll.polled.take(), ..Poll::default() };
            }
            // Spread over the first seconds: after a restart all policies are new.
            *poll.due.get_or_insert_with(|| now + signed(self.clock.within(FIRST))) <= now
        };
        policies().filter(is_due).cloned().collect()
    }
}

/// One look for one policy.
async fn look(context: &Context, policy: &ImageUpdatePolicy) {
    let uid = policy.uid().unwrap_or_default();
    let result = find(context, policy, &uid).await;
    let now = context.clock.now();
    let interval = policy.spec.image.poll_interval.map_or(MAX_PAUSE, Duration::from);
    let changed = {
        let mut polls = context.polls.0.lock();
        let Some(poll) = polls.get_mut(&uid) else { return };
        let (pause, polled) = match &result {
            Ok(()) => {
                poll.failures = 0;
                (interval, Polled::Good)
            }
            Err(error) => {
                let wait = match error {
                    PollError::Ask(error) => error.retry_after(),
                    PollError::Record(_) | PollError::Invalid => None,
                };
                let pause = interval.saturating_mul(1 << poll.failures.min(10)).min(MAX_PAUSE.max(interval));
                poll.failures = poll.failures.saturating_add(1);
                (pause.max(wait.unwrap_or_default()), error.polled())
            }
        };
        poll.due = Some(now + signed(super::backoff::jittered(&context.clock, pause)));
        let changed = poll.polled.as_ref().is_none_or(|before| !before.is_same(&polled));
        if changed {
            poll.polled = Some(polled);
        }
        changed
    };
    if let Err(error) = result {
        tracing::info!(policy = policy.name_any(), "polling found nothing out: {error}");
    }
    if changed {
        context.look_at_policy(PolicyRef::new(&policy.name_any()).within(&policy.namespace().unwrap_or_default()));
    }
}

async fn find(context: &Context, policy: &ImageUpdatePolicy, uid: &str) -> Result<(), PollError> {
    // Without a valid policy there is nothing to follow, and the policy says so itself.
    let Ok(valid) = ValidatedPolicy::new(policy) else { return Err(PollError::Invalid) };
    let Ok(Some(follow)) = valid.follow() else { return Err(PollError::Invalid) };
    let namespace = policy.namespace().unwrap_or_default();
    let how = policy.spec.image.registry.clone().unwrap_or_default();
    let image = match follow {
        Follow::Tag(image) => image,
        Follow::Versions { repository } => {
            let listed = context.polls.0.lock().get(uid).and_then(|poll| poll.listed.clone());
            let known = listed.as_ref().map(|(known, _)| known);
            let highest = match context.answers.resolver().tags(&namespace, &repository, &how, known).await? {
                Tags::Unchanged => listed.and_then(|(_, highest)| highest),
                Tags::List { tags, truncated, known } => {
                    if truncated {
                        tracing::warn!(policy = policy.name_any(), repository, "the list of tags is cut off");
                    }
                    let highest = valid.highest(&repository, tags.iter().map(String::as_str)).map(ToOwned::to_owned);
                    if let Some(poll) = context.polls.0.lock().get_mut(uid) {
                        poll.listed = known.map(|known| (known, highest.clone()));
                    }
                    highest
                }
            };
            let Some(tag) = highest else { return Ok(()) };
            ImageRef { repository, tag: Some(tag), digest: None }
        }
    };
    let digest = context.answers.resolver().digest(&namespace, &image, &how).await?;
    let image = ImageRef { digest: Some(digest), ..image };
    let rollouts = context.rollouts(Some(&namespace));
    if rollouts.iter().any(|rollout| is_of(rollout, policy, &image)) {
        return Ok(());
    }
    let event = PushEvent { image, actor: None, delivery_id: None, receiver: RECEIVER };
    for decision in decide(&event, context.clock.now(), [&Claim::of(policy)]) {
        match decision {
            Decision::Create(mut creation) => {
                if let Some(trigger) = &mut creation.rollout.spec.trigger {
                    trigger.type_ = TriggerType::Poll;
                }
                let recorded = context.recorder.record_all(std::slice::from_ref(&creation)).await?;
                if let [Recorded::Ignored(reason)] = &recorded[..] {
                    tracing::info!(policy = policy.name_any(), reason = reason.label(), "found, and ignored: {reason}");
                }
            }
            Decision::Ignore(ignored) => {
                let reason = ignored.reason;
                tracing::debug!(policy = policy.name_any(), reason = reason.label(), "found, and ignored: {reason}");
            }
        }
    }
    Ok(())
}

/// Whether a rollout of the policy is of these bits, or will find out whether it is. Where devices are told the tag, and
/// nobody told the digest, it is: they would be told the same again.
fn is_of(rollout: &ImageRollout, policy: &ImageUpdatePolicy, image: &ImageRef) -> bool {
    let by_tag = policy.spec.image.offer == Offer::Tag;
    rollout.spec.policy_ref.name == policy.name_any()
        && resolved_image(rollout).is_ok_and(|there| {
            there.repository == image.repository
                && there.tag == image.tag
                && (there.digest == image.digest
                    || (there.digest.is_none()
                        && (by_tag || rollout.status.as_ref().is_none_or(|status| status.plan.is_none()))))
        })
}

impl PollError {
    fn polled(&self) -> Polled {
        let reason = match self {
            Self::Ask(error) => error.reason(),
            Self::Record(_) => "RolloutNotStored",
            Self::Invalid => "PolicyInvalid",
        };
        Polled::Failing { reason, why: self.to_string() }
    }
}

fn signed(duration: Duration) -> SignedDuration {
    SignedDuration::try_from(duration).unwrap_or(SignedDuration::from_hours(1))
}
