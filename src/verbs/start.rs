//! Rollouts that a person makes. Owner and finalizer are the controller's to add, as for one that kubectl made.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::ResourceExt as _;
use sha2::{Digest as _, Sha256};

use super::{Conflict, Effect, Person};
use crate::api::act::Act;
use crate::api::condition::truncate;
use crate::api::policy::StrategyType;
use crate::api::rollout::{DesiredState, ImageRolloutSpec, ImageSpec, Phase, PolicyRef, Trigger, TriggerType};
use crate::api::{ImageRef, ImageRollout, ImageUpdatePolicy, POLICY_LABEL};
use crate::registry::intake::first_name;

/// Longest actor of a trigger; the bound of the CRD.
const MAX_ACTOR: usize = 253;

/// The rollout of an image for a policy. It has the name that a push of the same tag would give it, so the two are one.
#[must_use]
pub fn start(policy: &ImageUpdatePolicy, image: &ImageRef, person: &Person) -> ImageRollout {
    let name = policy.name_any();
    // Without a tag the digest is all that tells one image of the repository from another.
    let rollout = match (&image.tag, &image.digest) {
        (None, Some(digest)) => named(&name, &[&image.repository, digest]),
        (Some(_) | None, _) => first_name(&name, image),
    };
    let mut rollout = build(&rollout, &name, image_spec(image), person, "RolloutStarted");
    rollout.metadata.namespace = policy.namespace();
    if policy.spec.strategy.type_ == StrategyType::Manual {
        rollout.spec.approved_batches = Some(0);
    }
    rollout
}

fn image_spec(image: &ImageRef) -> ImageSpec {
    let ImageRef { repository, tag, digest } = image.clone();
    ImageSpec { repository, tag, digest }
}

/// Another rollout of the same image, after one that ended without success. Its name follows from the first's UID, so that
/// asking twice makes one.
///
/// # Errors
/// When the first has not ended, or has succeeded.
pub fn retry(rollout: &ImageRollout, person: &Person) -> Result<ImageRollout, Conflict> {
    let name = rollout.name_any();
    let phase = rollout.status.as_ref().map(|status| status.phase).unwrap_or_default();
    if phase == Phase::Completed {
        let text = format!("rollout {name} has succeeded ({phase}): there is nothing to try again");
        return Err(Conflict { phase, text });
    }
    if !phase.is_terminal() {
        let text = format!("rollout {name} has not ended ({phase}): resume it, or cancel it first");
        return Err(Conflict { phase, text });
    }
    let policy = rollout.spec.policy_ref.name.as_str();
    let uid = rollout.uid().unwrap_or_default();
    let again = named(policy, &["retry", &name, &uid]);
    let mut again = build(&again, policy, rollout.spec.image.clone(), person, "RolloutRetried");
    again.metadata.namespace = rollout.namespace();
    // As for the first: what was approved then is not approved now, and only where every batch asks does none go first.
    // One that never started may be of any strategy; without a number the policy decides, and Manual opens nothing.
    let plan = rollout.status.as_ref().and_then(|status| status.plan.as_ref());
    if plan.is_some_and(|plan| plan.strategy == StrategyType::Manual) {
        again.spec.approved_batches = Some(0);
    }
    Ok(again)
}

/// What becomes of a rollout that somebody has started, by themselves or before: what happens, and to how many devices.
#[must_use]
pub fn course(rollout: &ImageRollout) -> Effect {
    let status = rollout.status.as_ref();
    let devices = status.and_then(|status| status.totals.as_ref()).map(|totals| totals.devices);
    let text = match (status, rollout.spec.paused, &rollout.spec.not_before) {
        (Some(status), _, _) if status.message.is_empty() => format!("it is {}", status.phase),
        (Some(status), _, _) => format!("it is {}: {}", status.phase, status.message),
        (None, true, _) => "it is paused: nothing is released before it is resumed".into(),
        (None, false, Some(time)) => format!("nothing is released before {}", time.0),
        (None, false, None) if rollout.spec.approved_batches == Some(0) => {
            "its devices are counted and put into batches, each of which waits for approval".into()
        }
        (None, false, None) => {
            "its devices are counted and put into batches, and the first batch opens once it may".into()
        }
    };
    Effect { devices, text }
}

/// What a rollout is to whoever asks for one of the same name. Names follow from what is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum There {
    /// What they ask for: it runs, or has completed.
    Same,
    /// It is of another image.
    OtherImage,
    /// It has ended without success. Rolling the image out once more takes another word: [`retry`].
    Ended(Phase),
}

/// What `there` is to whoever asks for `wanted`.
#[must_use]
pub fn already_there(there: &ImageRollout, wanted: &ImageRollout) -> There {
    let (image, asked) = (&there.spec.image, &wanted.spec.image);
    // Whoever names no digest takes what the tag stood for.
    let other_bits = asked.digest.is_some() && image.digest != asked.digest;
    if image.repository != asked.repository || image.tag != asked.tag || other_bits {
        return There::OtherImage;
    }
    let phase = there.status.as_ref().map(|status| status.phase).unwrap_or_default();
    if phase.is_terminal() && phase != Phase::Completed { There::Ended(phase) } else { There::Same }
}

/// The policy's name and ten hexadecimal digits: at most 59 characters.
fn named(policy: &str, parts: &[&str]) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update(part);
        hash.update(b"\n");
    }
    let digits: String = hash.finalize().iter().take(5).map(|byte| format!("{byte:02x}")).collect();
    format!("{policy}-{digits}")
}

fn build(name: &str, policy: &str, image: ImageSpec, person: &Person, verb: &str) -> ImageRollout {
    let spec = ImageRolloutSpec {
        policy_ref: PolicyRef { name: policy.to_owned() },
        image,
        trigger: Some(Trigger {
            type_: TriggerType::Manual,
            receiver: None,
            delivery_id: None,
            actor: Some(truncate(person.name.clone(), MAX_ACTOR)),
            time: Some(MicroTime(person.time)),
        }),
        paused: false,
        not_before: None,
        approved_batches: None,
        acknowledged_failures: 0,
        roll_back_devices: Vec::new(),
        desired_state: DesiredState::Active,
    };
    let mut rollout = ImageRollout::new(name, spec);
    rollout.labels_mut().insert(POLICY_LABEL.into(), policy.to_owned());
    // The first generation of an object is 1.
    let act = Act { generation: 1, ..person.act(verb, &rollout) };
    rollout.annotations_mut().extend(act.annotation().into_iter().map(|(key, value)| (key.to_owned(), value)));
    rollout
}
