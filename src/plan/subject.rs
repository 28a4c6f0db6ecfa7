//! What a rollout rolls out, and by which rules: the plan in its own status once it has started, else its policy.

use crate::api::policy::Offer;
use crate::api::rollout::ImageRolloutSpec;
use crate::api::{ImageRef, ImageRollout};

use super::observed::PolicyState;
use super::report::WaitingOn;
use super::resolution::Resolution;
use super::validated::{Invalid, Rules};

/// What a rollout rolls out, and by which rules.
#[derive(Clone, Debug)]
pub struct Subject {
    /// The image as devices are told it.
    pub image: ImageRef,
    /// The plan in its status once it has started, else its policy as it would be resolved now.
    pub rules: Rules,
}

impl Subject {
    /// Of a rollout. `resolution` only matters until it has started; then its status remembers the digest.
    ///
    /// # Errors
    /// What keeps it from being said; nothing is done to any device then.
    pub fn new(rollout: &ImageRollout, policy: PolicyState<'_>, resolution: &Resolution) -> Result<Self, WaitingOn> {
        let invalid = |error: &Invalid| WaitingOn::ImageInvalid { why: error.to_string() };
        let image = rollout_image(&rollout.spec).map_err(|error| invalid(&error))?;
        let name = || rollout.spec.policy_ref.name.clone();
        match (rollout.status.as_ref().and_then(|status| Some((status, status.plan.as_ref()?))), policy) {
            (Some((status, plan)), _) => Ok(Self {
                image: offered_image(&with_digest(image, status.digest.as_deref()), plan.offer),
                rules: Rules::new(plan, &status.batches)
                    .map_err(|error| WaitingOn::PlanInvalid { why: error.to_string() })?,
            }),
            (None, PolicyState::Valid(policy)) => Ok(Self {
                image: offered_image(&with_digest(image, resolution.digest()), policy.spec.image.offer),
                rules: policy.rules.clone(),
            }),
            (None, PolicyState::Missing) => Err(WaitingOn::PolicyMissing { policy: name() }),
            (None, PolicyState::Invalid(why)) => Err(WaitingOn::PolicyInvalid { policy: name(), why: why.into() }),
        }
    }
}

/// The image of a rollout as its author or the registry named it: repository, tag, digest.
///
/// # Errors
/// When the rollout's image is none.
pub fn rollout_image(spec: &ImageRolloutSpec) -> Result<ImageRef, Invalid> {
    ImageRef::new(&spec.image.repository, spec.image.tag.as_deref(), spec.image.digest.as_deref())
        .map_err(Invalid::Image)
}

/// The same, with the digest that the registry gave its tag when the rollout started.
///
/// # Errors
/// When the rollout's image is none.
pub fn resolved_image(rollout: &ImageRollout) -> Result<ImageRef, Invalid> {
    let digest = rollout.status.as_ref().and_then(|status| status.digest.as_deref());
    Ok(with_digest(rollout_image(&rollout.spec)?, digest))
}

fn with_digest(image: ImageRef, digest: Option<&str>) -> ImageRef {
    ImageRef { digest: image.digest.or_else(|| digest.map(str::to_owned)), ..image }
}

/// The reference that devices are told: by digest where the policy says so and one is known, else by tag.
#[must_use]
pub fn offered_image(image: &ImageRef, offer: Offer) -> ImageRef {
    let by_digest = ImageRef { tag: None, ..image.clone() };
    let by_tag = ImageRef { digest: None, ..image.clone() };
    match offer {
        Offer::Digest if image.digest.is_some() => by_digest,
        Offer::Tag | Offer::Digest if image.tag.is_some() => by_tag,
        Offer::Tag | Offer::Digest => by_digest,
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixture::digest;
    use super::*;

    #[test]
    fn devices_are_told_one_name_of_the_image() {
        let digest = digest('1');
        let (by_tag, by_digest) = ("docker.io/acme/web:v2".to_owned(), format!("docker.io/acme/web@{digest}"));
        let both = format!("acme/web:v2@{digest}");
        for (named, offer, told) in [
            (both.as_str(), Offer::Digest, &by_digest),
            (both.as_str(), Offer::Tag, &by_tag),
            ("acme/web:v2", Offer::Digest, &by_tag),
            ("acme/web:v2", Offer::Tag, &by_tag),
            (by_digest.as_str(), Offer::Digest, &by_digest),
            (by_digest.as_str(), Offer::Tag, &by_digest),
        ] {
            assert_eq!(offered_image(&named.parse().unwrap(), offer).to_string(), *told, "{named} {offer:?}");
        }
    }
}
