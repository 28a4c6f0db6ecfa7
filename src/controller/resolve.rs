//! Asks registries what the tags of rollouts stand for, and remembers the answers until the rollouts have started.
//!
//! A pass never waits for a registry: it takes the answer that is there, has the question asked if that is all it waits for,
//! and is triggered again by the answer. Nothing is lost when the process ends: whoever comes next asks again.

use std::collections::HashMap;
use std::time::Duration;

use futures::channel::mpsc;
use futures::{StreamExt as _, stream};
use jiff::{SignedDuration, Timestamp};
use kube::ResourceExt as _;
use parking_lot::Mutex;

use crate::api::policy::RegistryAccess;
use crate::api::{ImageRef, ImageRollout, ImageUpdatePolicy};
use crate::clock::Clock;
use crate::oci::ManifestKind;
use crate::plan::Resolution;
use crate::plan::resolution::{MISMATCH_AGAIN, is_needed};
use crate::plan::subject::rollout_image;
use crate::resolver::{AskError, Resolver};
use crate::shutdown::Shutdown;

use super::backoff::jittered;
use super::context::{Context, RolloutRef, rollout_ref};

/// Questions in flight. Each registry is asked a few at a time anyhow; this bounds what many registries add up to.
const CONCURRENCY: usize = 16;
/// Questions that may wait; what doesn't fit is asked by a later pass.
const QUEUE: usize = 1024;
/// Answers that are remembered. Only rollouts that have not started have one.
const MAX_ANSWERS: usize = 4096;
/// First pause after a question without an answer.
const MIN_PAUSE: Duration = Duration::from_secs(5);
/// An answer is good for so long. What waits for longer is asked anew: the tag may have been moved meanwhile, and whoever
/// pushed was told that this rollout stands for it.
const FRESH: SignedDuration = SignedDuration::from_secs(15);
/// Longest pause by our own account: a registry that is back finds its rollouts going on within five minutes.
const MAX_PAUSE: Duration = Duration::from_secs(300);

/// What registries said, by the UID of the rollout.
#[derive(Debug)]
pub struct Answers {
    resolver: Resolver,
    known: Mutex<HashMap<String, Answer>>,
    ask: mpsc::Sender<Question>,
    asked: Mutex<Option<mpsc::Receiver<Question>>>,
}

#[derive(Clone, Debug)]
struct Answer {
    resolution: Resolution,
    /// Asked how.
    how: RegistryAccess,
    asking: bool,
    /// When it is asked again.
    again: Timestamp,
    /// Since when it says something else than was announced.
    other_since: Option<Timestamp>,
    failures: u32,
}

#[derive(Debug)]
struct Question {
    uid: String,
    namespace: String,
    rollout: RolloutRef,
    image: ImageRef,
    how: RegistryAccess,
}

impl Answers {
    /// None yet; asks through `resolver`.
    #[must_use]
    pub fn new(resolver: Resolver) -> Self {
        let (ask, asked) = mpsc::channel(QUEUE);
        Self { resolver, known: Mutex::default(), ask, asked: Mutex::new(Some(asked)) }
    }

    /// Through which registries are asked.
    pub(super) fn resolver(&self) -> &Resolver {
        &self.resolver
    }

    /// What is known of a rollout's tag now. An answer that is no longer fresh counts as none.
    pub fn resolution(&self, rollout: &ImageRollout, policy: Option<&ImageUpdatePolicy>, now: Timestamp) -> Resolution {
        let uid = rollout.uid().unwrap_or_default();
        let Some(how) = how_to_ask(rollout, policy) else {
            self.known.lock().remove(&uid);
            return Resolution::Unasked;
        };
        match self.known.lock().get(&uid) {
            Some(Answer { resolution: Resolution::Digest(_), again, .. }) if *again <= now => Resolution::Asked,
            Some(answer) if answer.how == how => answer.resolution.clone(),
            Some(_) | None => Resolution::Asked,
        }
    }

    /// Has the registry asked, where that is due: for a rollout that waits for nothing else.
    pub fn ask(&self, rollout: &ImageRollout, policy: Option<&ImageUpdatePolicy>, now: Timestamp) {
        let (Some(how), Ok(image)) = (how_to_ask(rollout, policy), rollout_image(&rollout.spec)) else { return };
        let uid = rollout.uid().unwrap_or_default();
        let mut known = self.known.lock();
        if known.len() >= MAX_ANSWERS && !known.contains_key(&uid) {
            known.retain(|_, answer| answer.asking);
        }
        let answer = known.entry(uid.clone()).or_insert_with(|| Answer {
            resolution: Resolution::Asked,
            how: how.clone(),
            asking: false,
            again: now,
            other_since: None,
            failures: 0,
        });
        if answer.how != how {
            // Whoever mends the policy is not left waiting.
            *answer = Answer { how: how.clone(), again: now, failures: 0, ..answer.clone() };
        }
        if answer.asking || answer.again > now {
            return;
        }
        let namespace = rollout.namespace().unwrap_or_default();
        let question = Question { uid, namespace, rollout: rollout_ref(rollout), image, how };
        answer.asking = self.ask.clone().try_send(question).is_ok();
        if !answer.asking {
            answer.again = now + SignedDuration::from_secs(5);
            let why = "too many questions are waiting".to_owned();
            answer.resolution = Resolution::NoAnswer { why, again: answer.again };
        }
    }

    /// Answers questions until `shutdown`.
    pub(super) async fn serve(&self, context: &Context, shutdown: Shutdown) {
        let questions = stream::iter(self.asked.lock().take()).flatten();
        questions
            .take_until(shutdown.wait())
            .for_each_concurrent(CONCURRENCY, |question| async move {
                let Question { uid, namespace, rollout, image, how } = question;
                let answer = self.resolver.manifest(&namespace, &image, &how).await;
                let now = context.clock.now();
                if let Err(error) = &answer {
                    tracing::info!(
                        rollout = rollout.name,
                        reason = error.reason(),
                        "no word from the registry: {error}"
                    );
                }
                if let Some(known) = self.known.lock().get_mut(&uid) {
                    known.asking = false;
                    match answer {
                        // It was asked in another way than the policy says by now.
                        _ if known.how != how => known.again = now,
                        Ok(manifest) => {
                            let is_other = image.digest.as_ref().is_some_and(|announced| *announced != manifest.digest);
                            known.failures = 0;
                            known.other_since = is_other.then(|| known.other_since.unwrap_or(now));
                            known.again = now + if is_other { MISMATCH_AGAIN } else { FRESH };
                            known.resolution = match manifest.kind {
                                ManifestKind::Image | ManifestKind::Index => match known.other_since {
                                    Some(since) => Resolution::Other { digest: manifest.digest, since },
                                    None => Resolution::Digest(manifest.digest),
                                },
                                ManifestKind::HelmChart => Resolution::NotAnImage("a Helm chart".into()),
                                ManifestKind::Artifact(what) => Resolution::NotAnImage(format!("an artifact ({what})")),
                            };
                        }
                        Err(error) => {
                            let again = now + pause(&context.clock, known.failures, &error);
                            known.failures = known.failures.saturating_add(1);
                            known.again = again;
                            known.resolution = Resolution::NoAnswer { why: error.to_string(), again };
                        }
                    }
                }
                context.trigger(rollout);
            })
            .await;
    }
}

/// How the registry of a rollout is asked, if it is: not once the rollout has started, and not where the tag is offered.
fn how_to_ask(rollout: &ImageRollout, policy: Option<&ImageUpdatePolicy>) -> Option<RegistryAccess> {
    let started = rollout.status.as_ref().is_some_and(|status| status.plan.is_some() || status.phase.is_terminal());
    let policy = policy?;
    let is_asked =
        !started && rollout.metadata.deletion_timestamp.is_none() && is_needed(&rollout.spec, policy.spec.image.offer);
    is_asked.then(|| policy.spec.image.registry.clone().unwrap_or_default())
}

/// Until the next try.
fn pause(clock: &Clock, failures: u32, error: &AskError) -> SignedDuration {
    let doubled = MIN_PAUSE.saturating_mul(1 << failures.min(10)).min(MAX_PAUSE);
    // What a person must mend is not mended within seconds; but once it is, nobody should wait long.
    let ours = if error.may_pass() { doubled } else { doubled.max(MIN_PAUSE * 6) };
    let pause = jittered(clock, ours).max(error.retry_after().unwrap_or_default());
    SignedDuration::try_from(pause).unwrap_or(SignedDuration::from_mins(5))
}
