//! Asks registries what the tags of rollouts stand for, and remembers the answers until the rollouts have started.
//!
//! A pass never waits for a registry: it takes the answer that is there, has the question asked if it is due, and is
//! triggered again by the answer. Nothing is lost when the process ends: whoever comes next asks again.

use std::collections::HashMap;
use std::time::Duration;

use futures::channel::mpsc;
use futures::{StreamExt as _, stream};
use jiff::{SignedDuration, Timestamp};
use kube::ResourceExt as _;
use parking_lot::Mutex;

use crate::api::policy::RegistryAccess;
use crate::api::{ImageRef, ImageRollout, ImageUpdatePolicy};
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
    /// When it may be asked again; `None`: the answer stands.
    again: Option<Timestamp>,
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

    /// What is known of a rollout's tag now. Has it asked for where that is due.
    pub fn resolution(&self, rollout: &ImageRollout, policy: Option<&ImageUpdatePolicy>, now: Timestamp) -> Resolution {
        let uid = rollout.uid().unwrap_or_default();
        let started = rollout.status.as_ref().is_some_and(|status| status.plan.is_some() || status.phase.is_terminal());
        let Some(policy) = policy.filter(|policy| {
            !started
                && !policy.spec.suspend
                && rollout.metadata.deletion_timestamp.is_none()
                && is_needed(&rollout.spec, policy.spec.image.offer)
        }) else {
            self.known.lock().remove(&uid);
            return Resolution::Unasked;
        };
        // What can't be read is told by the planner.
        let Ok(image) = rollout_image(&rollout.spec) else { return Resolution::Unasked };
        let how = policy.spec.image.registry.clone().unwrap_or_default();
        let mut known = self.known.lock();
        if known.len() >= MAX_ANSWERS && !known.contains_key(&uid) {
            known.retain(|_, answer| answer.asking);
        }
        let answer = known.entry(uid.clone()).or_insert_with(|| Answer {
            resolution: Resolution::Asked,
            how: how.clone(),
            asking: false,
            again: Some(now),
            failures: 0,
        });
        if answer.how != how {
            // Whoever mends the policy is not left waiting.
            answer.how.clone_from(&how);
            answer.again = Some(now);
        }
        if answer.resolution.digest().is_some_and(|found| image.digest.as_deref().is_some_and(|it| it != found)) {
            answer.again = answer.again.or(Some(now + MISMATCH_AGAIN));
        }
        if !answer.asking && answer.again.is_some_and(|again| again <= now) {
            let namespace = rollout.namespace().unwrap_or_default();
            let question = Question { uid, namespace, rollout: rollout_ref(rollout), image, how };
            answer.asking = self.ask.clone().try_send(question).is_ok();
            if !answer.asking {
                let why = "too many questions are waiting".to_owned();
                answer.resolution = Resolution::NoAnswer { why, again: now + SignedDuration::from_secs(5) };
            }
        }
        answer.resolution.clone()
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
                        Ok(manifest) => {
                            known.failures = 0;
                            known.again = None;
                            known.resolution = match manifest.kind {
                                ManifestKind::Image | ManifestKind::Index => Resolution::Digest(manifest.digest),
                                ManifestKind::HelmChart => Resolution::NotAnImage("a Helm chart".into()),
                                ManifestKind::Artifact(what) => Resolution::NotAnImage(format!("an artifact ({what})")),
                            };
                        }
                        Err(error) => {
                            let again = now + pause(known.failures, &error);
                            known.failures = known.failures.saturating_add(1);
                            known.again = Some(again);
                            known.resolution = Resolution::NoAnswer { why: error.to_string(), again };
                        }
                    }
                }
                context.trigger(rollout);
            })
            .await;
    }
}

/// Until the next try.
fn pause(failures: u32, error: &AskError) -> SignedDuration {
    let doubled = MIN_PAUSE.saturating_mul(1 << failures.min(10)).min(MAX_PAUSE);
    // What a person must mend is not mended within seconds; but once it is, nobody should wait long.
    let ours = if error.may_pass() { doubled } else { doubled.max(MIN_PAUSE * 6) };
    let pause = jittered(ours).max(error.retry_after().unwrap_or_default());
    SignedDuration::try_from(pause).unwrap_or(SignedDuration::from_mins(5))
}
