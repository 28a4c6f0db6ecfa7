//! Intake: a push and the policies, to rollouts and reasons.
//!
//! Decides what a push makes; creates nothing. The name of a rollout is made from policy and image, so that one push,
//! however often and by whomever it is told, is one object: the API server itself refuses the second.
//!
//! **Two names for one image.** One registry tells of a push with its digest, another without, and both may tell of the
//! same. So the first rollout of a tag is named by the tag alone ([`first_name`]), whoever told of it. Only when that name
//! is taken, by other bits under the same tag, does a push get a name that its digest is part of ([`digest_name`]): a tag
//! that was moved is a new rollout. [`crate::record`] tries them in that order.

use std::fmt::Write as _;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::core::ObjectMeta;
use sha2::{Digest as _, Sha256};

use super::PushEvent;
use super::claim::{Claim, PolicyKey, Terms, Word};
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
    /// On which terms that policy wants it.
    pub terms: Terms,
    /// The object, complete, under its first name.
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
            Word::Yes(terms) => {
                let rollout = rollout(claim, event, terms.strategy, received);
                decisions.push(Decision::Create(Box::new(Creation { policy: claim.key.clone(), terms, rollout })));
            }
        }
    }
    if decisions.is_empty() {
        let reason = Reason::NoPolicyMatches { image: event.image.to_string() };
        decisions.push(Decision::Ignore(Ignored { policy: None, reason }));
        decisions.append(&mut unreadable);
    }
    decisions
}

/// Name of the first rollout of a tag for a policy: the policy's name, a dash, and ten hexadecimal digits of the SHA-256
/// over repository and tag. At most 59 characters, since a policy's name has at most 48.
#[must_use]
pub fn first_name(policy: &str, image: &ImageRef) -> String {
    name(policy, image, None)
}

/// Name of a later rollout of the same tag, which stands for other bits now; `None` while they aren't known.
#[must_use]
pub fn digest_name(policy: &str, image: &ImageRef) -> Option<String> {
    image.digest.as_deref().map(|digest| name(policy, image, Some(digest)))
}

/// Whether a rollout of that name is, as far as a name tells, of that image.
#[must_use]
pub fn is_name_of(rollout: &str, policy: &str, image: &ImageRef) -> bool {
    rollout == first_name(policy, image) || digest_name(policy, image).is_some_and(|name| rollout == name)
}

fn name(policy: &str, image: &ImageRef, digest: Option<&str>) -> String {
    let mut hash = Sha256::new();
    // The parts can't hold a line end, so they can't be shifted into each other.
    for part in [image.repository.as_str(), image.tag.as_deref().unwrap_or_default(), digest.unwrap_or_default()] {
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
            name: Some(first_name(policy, image)),
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
        assert_eq!(creation.terms.strategy, StrategyType::Staged);
        assert_eq!(
            serde_json::to_value(&creation.rollout).expect("JSON"),
            json!({
                "apiVersion": "tranche.dev/v1alpha1", "kind": "ImageRollout",
                "metadata": {
                    "name": first_name("app", &image.parse().expect("an image")), "namespace": "plant",
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
        let image = |image: &str| image.parse::<ImageRef>().expect("an image");
        let name = |policy: &str, text: &str| first_name(policy, &image(text));
        // printf 'docker.io/acme/app\nv2\n\n' | sha256sum
        assert_eq!(name("app", "acme/app:v2"), "app-15d3fa6e7a");
        assert_eq!(name("app", "docker.io/acme/app:v2"), "app-15d3fa6e7a");
        let pushed = [DIGEST, OTHER].map(|digest| image(&format!("acme/app:v2@{digest}")));
        assert_eq!(first_name("app", &pushed[0]), "app-15d3fa6e7a", "whoever tells of it, with digest or without");
        let firsts = ["acme/app:v2", "acme/app:v3", "acme/app", "ghcr.io/acme/app:v2"].map(|text| name("app", text));
        let laters = pushed.each_ref().map(|pushed| digest_name("app", pushed).expect("a digest"));
        let all: std::collections::BTreeSet<_> = firsts.iter().chain(&laters).collect();
        assert_eq!(all.len(), firsts.len() + laters.len(), "different images have different names");
        assert_eq!(digest_name("app", &image("acme/app:v2")), None);
        for ours in [&firsts[0], &laters[0]] {
            assert!(is_name_of(ours, "app", &pushed[0]), "{ours}");
        }
        assert!(!is_name_of(&laters[1], "app", &pushed[0]) && !is_name_of(&firsts[0], "web", &pushed[0]));
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
        let latest = |tag: &str| json!({"latest": {"image": "docker.io/acme/app:v2", "tag": tag, "rollout": "app-1"}});
        let by_tag = || rejected("docker.io/acme/app:v2");
        let by_both = || rejected(&format!("docker.io/acme/app:v2@{DIGEST}"));
        let ours = first_name("app", &"acme/app:v2".parse().expect("an image"));
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
            // The registry is asked for the digest first; where it isn't, the tag has to do.
            (json!({"image": image()}), by_both(), "acme/app:v2".into(), "Create"),
            (json!({"image": {"pattern": "acme/app:*", "offer": "Tag"}}), by_both(), "acme/app:v2".into(), "Rejected"),
            (json!({"image": image()}), latest("v2.0.0"), "acme/app:v1.9.9".into(), "Older"),
            (json!({"image": image()}), latest("v2.0.0"), "acme/app:v2.0.1".into(), "Create"),
            (json!({"image": image()}), latest("v2.0.0"), "acme/app:edge".into(), "Create"),
            (json!({"image": image()}), latest("edge"), "acme/app:v1.9.9".into(), "Create"),
            (json!({"image": {"pattern": "acme/*"}}), latest("v2.0.0"), "acme/other:v1.9.9".into(), "Create"),
            (
                json!({"image": image(), "tags": {"allowDowngrade": true}}),
                latest("v2.0.0"),
                "acme/app:v1.9.9".into(),
                "Create",
            ),
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
