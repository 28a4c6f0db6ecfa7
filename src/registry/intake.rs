//! Intake: a push and the policies, to rollouts and reasons.
//!
//! Decides what a push makes; creates nothing. The name of a rollout is made from policy and image, so that one push,
//! however often and by whomever it is told, is one object: the API server itself refuses the second.

use std::fmt::Write as _;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::core::ObjectMeta;
use sha2::{Digest as _, Sha256};

use super::PushEvent;
use super::claim::{Claim, PolicyKey, Word};
use super::reason::Reason;
use crate::api::policy::StrategyType;
use crate::api::rollout::{DesiredState, ImageRolloutSpec, ImageSpec, PolicyRef, Trigger, TriggerType};
use crate::api::{ImageRef, ImageRollout, POLICY_LABEL, ROLLOUT_FINALIZER};

/// Bytes of the image's hash in a rollout's name: ten hexadecimal digits. Enough that two images of one policy don't
/// meet by accident in its lifetime; whoever creates the object compares the image, so a meeting is seen.
const HASH_BYTES: usize = 5;

/// What is to be done about a push.
#[derive(Clone, Debug, PartialEq)]
pub enum Decision {
    /// This object should exist.
    Create(Box<Creation>),
    /// Nothing.
    Ignore(Ignored),
}

/// A rollout to create.
#[derive(Clone, Debug, PartialEq)]
pub struct Creation {
    /// For which policy.
    pub policy: PolicyKey,
    /// How that policy rolls out; for the answer.
    pub strategy: StrategyType,
    /// The object, complete.
    pub rollout: ImageRollout,
}

/// Why nothing is created.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ignored {
    /// By which policy; none when the push concerns no policy.
    pub policy: Option<PolicyKey>,
    /// Why.
    pub reason: Reason,
}

/// What to do about a push that came in at `received`. Never empty: every policy that speaks of the image has a word,
/// and when none does, that is the reason. Policies that can't be read are listed only then, as they might be the one.
#[must_use]
pub fn decide<'a>(
    event: &PushEvent,
    received: Timestamp,
    claims: impl IntoIterator<Item = &'a Claim>,
) -> Vec<Decision> {
    if let Some(reason) = not_for_any_policy(&event.image) {
        return vec![Decision::Ignore(Ignored { policy: None, reason })];
    }
    let (mut decisions, mut unreadable) = (Vec::new(), Vec::new());
    for claim in claims {
        let ignore = |reason| Decision::Ignore(Ignored { policy: Some(claim.key.clone()), reason });
        match claim.word_on(&event.image) {
            Word::Silent => {}
            Word::Unreadable(reason) => unreadable.push(ignore(reason)),
            Word::No(reason) => decisions.push(ignore(reason)),
            Word::Yes(strategy) => decisions.push(Decision::Create(Box::new(Creation {
                policy: claim.key.clone(),
                strategy,
                rollout: rollout(claim, event, strategy, received),
            }))),
        }
    }
    if decisions.is_empty() {
        let reason = Reason::NoPolicyMatches { image: event.image.to_string() };
        decisions.push(Decision::Ignore(Ignored { policy: None, reason }));
        decisions.append(&mut unreadable);
    }
    decisions
}

/// Name of the rollout of an image for a policy: the policy's name, a dash, and ten hexadecimal digits of the SHA-256 over
/// repository, tag and digest. At most 59 characters, since a policy's name has at most 48.
#[must_use]
pub fn rollout_name(policy: &str, image: &ImageRef) -> String {
    let ImageRef { repository, tag, digest } = image;
    let mut hash = Sha256::new();
    // The parts can't hold a line end, so they can't be shifted into each other.
    for part in [repository.as_str(), tag.as_deref().unwrap_or_default(), digest.as_deref().unwrap_or_default()] {
        hash.update(part);
        hash.update(b"\n");
    }
    let mut name = format!("{policy}-");
    for byte in hash.finalize().iter().take(HASH_BYTES) {
        // Writing to a String can't fail.
        let _ = write!(name, "{byte:02x}");
    }
    name
}

/// What no policy rolls out, whatever it says.
fn not_for_any_policy(image: &ImageRef) -> Option<Reason> {
    match image.tag.as_deref() {
        None => Some(Reason::Untagged { image: image.to_string() }),
        Some(tag) if is_cosign_artifact(tag) => Some(Reason::CosignArtifact { tag: tag.into() }),
        Some(_) => None,
    }
}

/// `sha256-<64 hex>`, alone (a referrers index) or with a suffix such as `.sig`, `.att`, `.sbom`.
fn is_cosign_artifact(tag: &str) -> bool {
    let Some(rest) = tag.strip_prefix("sha256-") else { return false };
    let (hex, _suffix) = rest.split_once('.').unwrap_or((rest, ""));
    hex.len() == 64 && hex.bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn rollout(claim: &Claim, event: &PushEvent, strategy: StrategyType, received: Timestamp) -> ImageRollout {
    let PushEvent { image, actor, delivery_id, receiver } = event;
    let ImageRef { repository, tag, digest } = image;
    let PolicyKey { namespace, name: policy } = &claim.key;
    ImageRollout {
        metadata: ObjectMeta {
            name: Some(rollout_name(policy, image)),
            namespace: Some(namespace.clone()),
            labels: Some(
                [("app.kubernetes.io/managed-by", "tranche"), (POLICY_LABEL, policy)]
                    .map(|(key, value)| (key.to_owned(), value.to_owned()))
                    .into(),
            ),
            owner_references: claim.owner.clone().map(|owner| vec![owner]),
            // From the first moment: a rollout that is deleted before the controller saw it goes the ordinary way, too.
            finalizers: Some(vec![ROLLOUT_FINALIZER.into()]),
            ..ObjectMeta::default()
        },
        spec: ImageRolloutSpec {
            policy_ref: PolicyRef { name: policy.clone() },
            image: ImageSpec { repository: repository.clone(), tag: tag.clone(), digest: digest.clone() },
            trigger: Some(Trigger {
                type_: TriggerType::Webhook,
                receiver: Some((*receiver).to_owned()),
                delivery_id: delivery_id.clone(),
                actor: actor.clone(),
                time: Some(MicroTime(received)),
            }),
            paused: false,
            not_before: None,
            // Written out, so that the field to raise is there for a person to see.
            approved_batches: (strategy == StrategyType::Manual).then_some(0),
            acknowledged_failures: 0,
            roll_back_devices: Vec::new(),
            desired_state: DesiredState::Active,
        },
        status: None,
    }
}

#[cfg(test)]
mod tests {
    use kube::ResourceExt as _;
    use serde_json::{Value, json};

    use super::*;
    use crate::api::ImageUpdatePolicy;

    const DIGEST: &str = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
    const OTHER: &str = "sha256:1123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    fn policy(name: &str, mut spec: Value, status: &Value) -> Claim {
        spec["devices"] = json!({"names": ["a"]});
        let policy: ImageUpdatePolicy = serde_json::from_value(json!({
            "apiVersion": "tranche.dev/v1alpha1", "kind": "ImageUpdatePolicy",
            "metadata": {"name": name, "namespace": "plant", "uid": "u-1"}, "spec": spec, "status": status,
        }))
        .expect("a policy");
        Claim::of(&policy)
    }

    fn plain(name: &str, pattern: &str) -> Claim {
        policy(name, json!({"image": {"pattern": pattern}}), &json!({}))
    }

    fn push(image: &str) -> PushEvent {
        PushEvent {
            image: image.parse().expect("an image"),
            actor: Some("ann".into()),
            delivery_id: Some("d-1".into()),
            receiver: "github",
        }
    }

    fn decided(image: &str, claims: &[Claim]) -> Vec<Decision> {
        decide(&push(image), Timestamp::UNIX_EPOCH, claims)
    }

    fn reasons(image: &str, claims: &[Claim]) -> Vec<&'static str> {
        decided(image, claims)
            .iter()
            .map(|decision| match decision {
                Decision::Create(_) => "Create",
                Decision::Ignore(ignored) => ignored.reason.label(),
            })
            .collect()
    }

    #[test]
    fn the_rollout() {
        let image = format!("acme/app:v2@{DIGEST}");
        let decisions = decided(&image, &[plain("app", "acme/app:*")]);
        let [Decision::Create(creation)] = &decisions[..] else { panic!("{decisions:?}") };
        assert_eq!(creation.strategy, StrategyType::Staged);
        assert_eq!(
            serde_json::to_value(&creation.rollout).expect("JSON"),
            json!({
                "apiVersion": "tranche.dev/v1alpha1", "kind": "ImageRollout",
                "metadata": {
                    "name": rollout_name("app", &image.parse().expect("an image")), "namespace": "plant",
                    "labels": {"app.kubernetes.io/managed-by": "tranche", "tranche.dev/policy": "app"},
                    "finalizers": ["tranche.dev/rollout"],
                    "ownerReferences": [{
                        "apiVersion": "tranche.dev/v1alpha1", "kind": "ImageUpdatePolicy", "name": "app", "uid": "u-1",
                        "controller": true, "blockOwnerDeletion": false,
                    }],
                },
                "spec": {
                    "policyRef": {"name": "app"},
                    "image": {"repository": "docker.io/acme/app", "tag": "v2", "digest": DIGEST},
                    "trigger": {
                        "type": "Webhook", "receiver": "github", "deliveryID": "d-1", "actor": "ann",
                        "time": "1970-01-01T00:00:00.000000Z",
                    },
                    "paused": false, "acknowledgedFailures": 0, "desiredState": "Active",
                },
            })
        );
    }

    #[test]
    fn names() {
        let name = |policy: &str, image: &str| rollout_name(policy, &image.parse().expect("an image"));
        // printf 'docker.io/acme/app\nv2\n\n' | sha256sum
        assert_eq!(name("app", "acme/app:v2"), "app-15d3fa6e7a");
        assert_eq!(name("app", "docker.io/acme/app:v2"), "app-15d3fa6e7a");
        let images = ["acme/app:v2", "acme/app:v3", "acme/app", "ghcr.io/acme/app:v2"].map(ToOwned::to_owned);
        let digests = [DIGEST, OTHER].map(|digest| format!("acme/app:v2@{digest}"));
        let all: std::collections::BTreeSet<_> =
            images.iter().chain(&digests).map(|image| name("app", image)).collect();
        assert_eq!(all.len(), images.len() + digests.len(), "different images have different names");
        assert!(name(&"p".repeat(48), "acme/app:v2").len() <= 63);
    }

    #[test]
    fn manual_starts_with_nothing_approved() {
        let manual =
            policy("app", json!({"image": {"pattern": "acme/app"}, "strategy": {"type": "Manual"}}), &json!({}));
        let decisions = decided("acme/app:v2", &[manual]);
        let [Decision::Create(creation)] = &decisions[..] else { panic!("{decisions:?}") };
        assert_eq!(creation.rollout.spec.approved_batches, Some(0));
    }

    #[test]
    fn each_policy_has_its_own_rollout() {
        let claims = [plain("a", "acme/*"), plain("b", "acme/app:v*"), plain("c", "acme/other")];
        let names: Vec<_> = decided("acme/app:v2", &claims)
            .iter()
            .map(|decision| match decision {
                Decision::Create(creation) => creation.rollout.name_any(),
                Decision::Ignore(ignored) => panic!("{ignored:?}"),
            })
            .collect();
        assert_eq!(names.len(), 2);
        assert!(names[0].starts_with("a-") && names[1].starts_with("b-"), "{names:?}");
    }

    #[test]
    fn what_no_policy_rolls_out() {
        let claims = [plain("all", "*")];
        let hex = "0123456789abcdef".repeat(4);
        assert_eq!(reasons("acme/app", &claims), ["Untagged"]);
        assert_eq!(reasons(&format!("acme/app@{DIGEST}"), &claims), ["Untagged"]);
        for suffix in ["", ".sig", ".att", ".sbom"] {
            assert_eq!(reasons(&format!("acme/app:sha256-{hex}{suffix}"), &claims), ["CosignArtifact"], "{suffix}");
        }
        assert_eq!(reasons("acme/app:sha256-abc.sig", &claims), ["Create"], "only what cosign writes");
    }

    #[test]
    fn objections() {
        let image = || json!({"pattern": "acme/app:*"});
        let rejected =
            |image: &str| json!({"rejected": [{"image": image, "rollout": "app-1", "time": "2026-01-01T00:00:00Z"}]});
        let by_tag = || rejected("docker.io/acme/app:v2");
        let by_both = || rejected(&format!("docker.io/acme/app:v2@{DIGEST}"));
        let ours = rollout_name("app", &"acme/app:v2".parse().expect("an image"));
        let tags = json!({"image": image(), "tags": {"semver": "^2", "exclude": ["-rc"], "pattern": "^v"}});
        for (spec, status, pushed, expected) in [
            (json!({"image": image(), "suspend": true}), json!({}), "acme/app:v2".into(), "Suspended"),
            (tags.clone(), json!({}), "acme/app:v2.0.0".into(), "Create"),
            (tags.clone(), json!({}), "acme/app:2.0.0".into(), "TagPattern"),
            (tags.clone(), json!({}), "acme/app:v2.0.0-rc1".into(), "TagExcluded"),
            (tags.clone(), json!({}), "acme/app:v3.0.0".into(), "TagOutOfRange"),
            (tags, json!({}), "acme/app:v-next".into(), "TagNotAVersion"),
            (json!({"image": image(), "tags": {"pattern": "("}}), json!({}), "acme/app:v2".into(), "InvalidPolicy"),
            (json!({"image": image()}), by_tag(), "acme/app:v2".into(), "Rejected"),
            (json!({"image": image()}), by_tag(), "acme/app:v3".into(), "Create"),
            (json!({"image": image()}), by_tag(), format!("acme/app:v2@{DIGEST}"), "Rejected"),
            (json!({"image": image()}), by_both(), format!("acme/app:v3@{DIGEST}"), "Rejected"),
            (json!({"image": image()}), by_both(), format!("acme/app:v2@{OTHER}"), "Create"),
            (json!({"image": image()}), by_both(), "acme/app:v2".into(), "Rejected"),
            (json!({"image": image(), "onNewImage": "Ignore"}), json!({}), "acme/app:v2".into(), "Create"),
            (
                json!({"image": image(), "onNewImage": "Ignore"}),
                json!({"activeRollout": "app-1"}),
                "acme/app:v2".into(),
                "Busy",
            ),
            (
                json!({"image": image(), "onNewImage": "Ignore"}),
                json!({"activeRollout": ours}),
                "acme/app:v2".into(),
                "Create",
            ),
            (
                json!({"image": image(), "onNewImage": "Queue"}),
                json!({"activeRollout": "app-1"}),
                "acme/app:v2".into(),
                "Create",
            ),
            (
                json!({"image": {"pattern": "acme/*"}, "onNewImage": "Ignore"}),
                json!({"activeRollout": "app-1", "latest": {"image": "acme/other:v1", "rollout": "app-1"}}),
                "acme/app:v2".into(),
                "Create",
            ),
        ] {
            let claim = policy("app", spec.clone(), &status);
            let pushed: String = pushed;
            assert_eq!(reasons(&pushed, &[claim]), [expected], "{pushed}: {spec} {status}");
        }
    }

    #[test]
    fn unreadable_policies_stop_nobody_and_speak_up_when_nobody_else_does() {
        let key = PolicyKey { namespace: "plant".into(), name: "odd".into() };
        let odd =
            || [plain("bad", "acme/app:"), Claim::unreadable(key.clone(), "no spec"), plain(&"x".repeat(49), "*")];
        let mut claims = odd().to_vec();
        assert_eq!(
            reasons("acme/app:v2", &claims),
            ["NoPolicyMatches", "InvalidPolicy", "InvalidPolicy", "InvalidPolicy"]
        );
        claims.push(plain("good", "acme/app:*"));
        assert_eq!(reasons("acme/app:v2", &claims), ["Create"]);
        assert_eq!(reasons("acme/app:v2", &[]), ["NoPolicyMatches"]);
    }
}
