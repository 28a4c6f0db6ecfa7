//! What a tag stands for: the one question that a rollout has for the registry before it touches a device.
//!
//! A push is only a hint. A policy that offers digests (`spec.image.offer: Digest`) tells devices what the registry itself
//! says the tag stands for, and only if that is what the push announced. While there is no answer the rollout waits, and
//! says so. A policy that offers tags doesn't ask: devices ask the registry themselves, each when it pulls.

use jiff::{SignedDuration, Timestamp};

use crate::api::ImageRef;
use crate::api::policy::Offer;
use crate::api::rollout::ImageRolloutSpec;

use super::report::WaitingOn;

/// For so long a registry may say something else than its push announced, before the rollout is given up. Registries that
/// replicate announce a push before every replica has it.
const MISMATCH: SignedDuration = SignedDuration::from_mins(10);
/// And is asked again so often meanwhile.
pub const MISMATCH_AGAIN: SignedDuration = SignedDuration::from_secs(30);

/// What is known of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Resolution {
    /// The registry isn't asked: the image is taken as the rollout names it.
    #[default]
    Unasked,
    /// It has not answered for the first time.
    Asked,
    /// It gave no answer.
    NoAnswer {
        /// Why, in words.
        why: String,
        /// When it is asked again.
        again: Timestamp,
    },
    /// What the tag stands for: `sha256:` and 64 hexadecimal digits.
    Digest(String),
    /// It stands for something else than the push announced.
    Other {
        /// What it stands for.
        digest: String,
        /// Since when that is seen.
        since: Timestamp,
    },
    /// It stands for something that no device can run; what it is.
    NotAnImage(String),
}

impl Resolution {
    /// The digest, once it is known.
    #[must_use]
    pub fn digest(&self) -> Option<&str> {
        match self {
            Self::Digest(digest) => Some(digest),
            Self::Unasked | Self::Asked | Self::NoAnswer { .. } | Self::Other { .. } | Self::NotAnImage(_) => None,
        }
    }
}

/// Whether a rollout that has not started needs the registry's word. Not for an image that is named by digest alone: it
/// can't stand for anything else.
#[must_use]
pub fn is_needed(spec: &ImageRolloutSpec, offer: Offer) -> bool {
    match offer {
        Offer::Tag => false,
        Offer::Digest => spec.image.tag.is_some(),
    }
}

/// What follows for a rollout that would start otherwise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// It may, with that digest if one is known.
    Start(Option<String>),
    /// Not yet; look again then at the latest.
    Wait(WaitingOn, Option<Timestamp>),
    /// It never can.
    Fail(String),
}

/// Judges the registry's word on an image that was told of.
#[must_use]
pub fn judge(image: &ImageRef, resolution: &Resolution, now: Timestamp) -> Step {
    let by_tag = ImageRef { digest: None, ..image.clone() }.to_string();
    match resolution {
        Resolution::Unasked => Step::Start(None),
        Resolution::Asked => Step::Wait(WaitingOn::Registry { image: by_tag, why: None }, None),
        Resolution::NoAnswer { why, again } => {
            Step::Wait(WaitingOn::Registry { image: by_tag, why: Some((why.clone(), *again)) }, Some(*again))
        }
        Resolution::NotAnImage(what) => Step::Fail(format!("{by_tag} is {what}, not a container image")),
        Resolution::Digest(found) => match image.digest.as_deref() {
            // Whoever asked has not seen that yet; it looks again, and says since when.
            Some(announced) if announced != found => mismatch(by_tag, announced, found, now, now),
            Some(_) | None => Step::Start(Some(found.clone())),
        },
        Resolution::Other { digest, since } => {
            mismatch(by_tag, image.digest.as_deref().unwrap_or_default(), digest, *since, now)
        }
    }
}

fn mismatch(image: String, announced: &str, found: &str, since: Timestamp, now: Timestamp) -> Step {
    let until = since + MISMATCH;
    if now >= until {
        return Step::Fail(format!("the push announced {image} as {announced}, and the registry has {found} for it"));
    }
    let (announced, found) = (announced.to_owned(), found.to_owned());
    Step::Wait(WaitingOn::DigestMismatch { image, announced, found, until }, Some(until.min(now + MISMATCH_AGAIN)))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::fixture::{Fixture, at, device, digest, policy, rollout};
    use super::*;

    fn image(text: &str) -> ImageRef {
        text.parse().unwrap()
    }

    fn judged(named: &str, resolution: &Resolution, now: i64) -> Step {
        judge(&image(named), resolution, at(now))
    }

    #[test]
    fn nothing_starts_without_the_registrys_word() {
        assert_eq!(judged("acme/web:v2", &Resolution::Unasked, 0), Step::Start(None));
        let (one, other) = (digest('1'), digest('2'));
        let found = Resolution::Digest(one.clone());
        assert_eq!(judged("acme/web:v2", &found, 0), Step::Start(Some(one.clone())));
        assert_eq!(judged(&format!("acme/web:v2@{one}"), &found, 0), Step::Start(Some(one)));
        assert!(matches!(
            judged("acme/web:v2", &Resolution::Asked, 0),
            Step::Wait(WaitingOn::Registry { why: None, .. }, None)
        ));
        let again = at(60);
        let no_answer = Resolution::NoAnswer { why: "it is down".into(), again };
        let Step::Wait(waiting, Some(next)) = judged(&format!("acme/web:v2@{other}"), &no_answer, 30) else { panic!() };
        assert_eq!(next, again);
        let text = waiting.to_string();
        assert!(text.contains("it is down") && text.contains("offer") && text.contains("acme/web:v2"), "{text}");
        assert!(!text.contains(&other), "the tag is asked for: {text}");
        let chart = Resolution::NotAnImage("a Helm chart".into());
        let Step::Fail(text) = judged("acme/web:v2", &chart, 0) else { panic!() };
        assert!(text.contains("Helm chart"), "{text}");
    }

    #[test]
    fn the_registry_is_asked_for_tags_where_digests_are_offered() {
        let named = |image: serde_json::Value| -> ImageRolloutSpec {
            serde_json::from_value(json!({ "policyRef": { "name": "web" }, "image": image })).unwrap()
        };
        let by_tag = named(json!({ "repository": "acme/web", "tag": "v2" }));
        let by_digest = named(json!({ "repository": "acme/web", "digest": digest('1') }));
        assert!(is_needed(&by_tag, Offer::Digest));
        assert!(!is_needed(&by_tag, Offer::Tag) && !is_needed(&by_digest, Offer::Digest));
    }

    /// Its word may change while something else is waited for; but what can't start must not take another's place.
    #[test]
    fn the_registry_is_asked_last_unless_a_place_is_taken() {
        for (on_new_image, older, reason) in
            [("Replace", true, "AwaitingRegistry"), ("Queue", true, "Queued"), ("Queue", false, "AwaitingRegistry")]
        {
            let policy = policy(&json!({ "onNewImage": on_new_image }));
            let mut fixture = Fixture::new(policy, rollout(&json!({})), &[device("d", &json!({}))], at(0));
            fixture.resolution = Resolution::Asked;
            if older {
                let mut older = rollout(&json!({}));
                older.metadata.name = Some("web-v1".into());
                older.metadata.creation_timestamp =
                    Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(at(-900)));
                older.status = serde_json::from_value(json!({ "phase": "Progressing" })).unwrap();
                fixture.siblings.push(older);
            }
            let reasons: Vec<_> = fixture.settle().waiting_on.iter().map(WaitingOn::reason).collect();
            assert_eq!(reasons, [reason], "{on_new_image} {older}");
        }
    }

    #[test]
    fn another_digest_is_waited_for_and_then_given_up() {
        let named = format!("acme/web:v2@{}", digest('1'));
        let first = Resolution::Digest(digest('2'));
        assert!(matches!(judged(&named, &first, 0), Step::Wait(WaitingOn::DigestMismatch { .. }, Some(_))));
        let found = Resolution::Other { digest: digest('2'), since: at(0) };
        let Step::Wait(waiting, Some(next)) = judged(&named, &found, 0) else { panic!() };
        assert_eq!((waiting.reason(), next), ("DigestMismatch", at(30)));
        let Step::Wait(_, Some(next)) = judged(&named, &found, 590) else { panic!() };
        assert_eq!(next, at(600));
        let Step::Fail(text) = judged(&named, &found, 600) else { panic!() };
        assert!(text.contains(&digest('1')) && text.contains(&digest('2')), "{text}");
    }
}
