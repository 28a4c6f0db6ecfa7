//! What intake needs to know of one policy, compiled once and asked for every push.
//!
//! Decides whether a policy wants an image. A policy that can't be read or followed is a claim too: it says so when a
//! push finds no other, and it never stops the others.

use std::fmt;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::{Resource as _, ResourceExt as _};

use super::intake::is_name_of;
use super::pattern::Pattern;
use super::reason::Reason;
use super::tags::TagFilter;
use crate::api::condition::truncate;
use crate::api::policy::{ImageUpdatePolicySpec, Offer, OnNewImage, RegistryAccess, StrategyType};
use crate::api::{ImageRef, ImageUpdatePolicy};

/// Longest policy name; the CRD's own limit. A rollout's name is made from it and must fit a label.
const MAX_POLICY_NAME: usize = 48;
/// Longest excerpt of a parser's complaint about an unreadable policy.
const MAX_COMPLAINT: usize = 300;

/// Which policy. Sorts by namespace, then name: the order in which policies are asked and listed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PolicyKey {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

impl fmt::Display for PolicyKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// One policy's word on images.
#[derive(Clone, Debug)]
pub struct Claim {
    /// Whose.
    pub key: PolicyKey,
    /// What its rollouts are owned by; absent for a policy that no API server has given a UID.
    pub owner: Option<OwnerReference>,
    rules: Result<Rules, String>,
}

#[derive(Clone, Debug)]
struct Rules {
    pattern: Pattern,
    tags: Result<TagFilter, String>,
    suspend: bool,
    offer: Offer,
    access: RegistryAccess,
    strategy: StrategyType,
    on_new_image: OnNewImage,
    allow_downgrade: bool,
    active: Option<String>,
    /// Tag and rollout of the latest image, with its repository.
    latest: Option<Latest>,
    /// Repository of the active rollout, where the status tells.
    active_repository: Option<String>,
    rejected: Vec<(ImageRef, String)>,
}

#[derive(Clone, Debug)]
struct Latest {
    repository: String,
    tag: Option<String>,
    rollout: String,
}

/// How a policy that wants a rollout has it made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Terms {
    /// How fast.
    pub strategy: StrategyType,
    /// How devices are told the image.
    pub offer: Offer,
    /// How its registry is reached.
    pub access: RegistryAccess,
}

/// What a policy makes of an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Word {
    /// Nothing: it doesn't speak of it.
    Silent,
    /// It may well speak of it, but can't be read.
    Unreadable(Reason),
    /// It speaks of it and wants no rollout.
    No(Reason),
    /// It wants a rollout, on these terms.
    Yes(Terms),
}

impl Claim {
    /// Compiles a policy.
    #[must_use]
    pub fn of(policy: &ImageUpdatePolicy) -> Self {
        let key = PolicyKey { namespace: policy.namespace().unwrap_or_default(), name: policy.name_any() };
        let rules = if key.name.len() > MAX_POLICY_NAME {
            Err("metadata.name is longer than 48 characters".to_owned())
        } else {
            Rules::of(policy)
        };
        let owner =
            policy.controller_owner_ref(&()).map(|owner| OwnerReference { block_owner_deletion: Some(false), ..owner });
        Self { key, owner, rules }
    }

    /// A policy that isn't even of the policy's shape.
    #[must_use]
    pub fn unreadable(key: PolicyKey, why: &str) -> Self {
        Self { key, owner: None, rules: Err(truncate(why.to_owned(), MAX_COMPLAINT)) }
    }

    /// What the policy makes of an image.
    #[must_use]
    pub fn word_on(&self, image: &ImageRef) -> Word {
        let rules = match &self.rules {
            Ok(rules) => rules,
            Err(why) => return Word::Unreadable(Reason::InvalidPolicy(why.clone())),
        };
        if !rules.pattern.matches(&image.repository, image.tag.as_deref()) {
            return Word::Silent;
        }
        match rules.objection(&self.key.name, image) {
            Some(reason) => Word::No(reason),
            None => Word::Yes(Terms { strategy: rules.strategy, offer: rules.offer, access: rules.access.clone() }),
        }
    }
}

impl Rules {
    /// A lower version than the latest, of the same repository. The planner looks again when the rollout would start: two
    /// pushes may come in faster than a status is written.
    fn older(&self, tags: &TagFilter, image: &ImageRef) -> Option<Reason> {
        let latest =
            self.latest.as_ref().filter(|latest| !self.allow_downgrade && latest.repository == image.repository)?;
        let (tag, than) = (image.tag.as_deref()?, latest.tag.as_deref()?);
        tags.is_older(tag, than).then(|| Reason::Older {
            tag: tag.to_owned(),
            latest: than.to_owned(),
            rollout: latest.rollout.clone(),
        })
    }

    fn of(policy: &ImageUpdatePolicy) -> Result<Self, String> {
        let ImageUpdatePolicySpec { suspend, image, tags, strategy, on_new_image, .. } = &policy.spec;
        let pattern = Pattern::parse(&image.pattern).map_err(|error| format!("spec.image.pattern: {error}"))?;
        let allow_downgrade = tags.as_ref().is_some_and(|tags| tags.allow_downgrade);
        let tags = TagFilter::new(tags.as_ref()).map_err(|error| format!("spec.tags.{error}"));
        let status = policy.status.as_ref();
        let active = status.and_then(|status| status.active_rollout.clone());
        let latest = status.and_then(|status| status.latest.as_ref()).and_then(|latest| {
            let repository = latest.image.parse::<ImageRef>().ok()?.repository;
            Some(Latest { repository, tag: latest.tag.clone(), rollout: latest.rollout.clone() })
        });
        let active_repository = latest
            .as_ref()
            .filter(|latest| Some(&latest.rollout) == active.as_ref())
            .map(|latest| latest.repository.clone());
        let rejected = policy
            .rejected()
            .filter_map(|rejected| Some((rejected.image.parse().ok()?, rejected.rollout.clone())))
            .collect();
        Ok(Self {
            pattern,
            tags,
            suspend: *suspend,
            offer: image.offer,
            access: image.registry.clone().unwrap_or_default(),
            strategy: strategy.type_,
            on_new_image: *on_new_image,
            allow_downgrade,
            active,
            latest,
            active_repository,
            rejected,
        })
    }

    /// The first thing that is against a rollout of a matching image.
    fn objection(&self, policy: &str, image: &ImageRef) -> Option<Reason> {
        if self.suspend {
            return Some(Reason::Suspended);
        }
        let tags = match &self.tags {
            Ok(tags) => tags,
            Err(why) => return Some(Reason::InvalidPolicy(why.clone())),
        };
        if let Some(Err(refusal)) = image.tag.as_deref().map(|tag| tags.check(tag)) {
            return Some(refusal.into());
        }
        let is_rejected = |(rejected, _): &&(ImageRef, String)| is_rejected(rejected, image, self.offer);
        if let Some((rejected, rollout)) = self.rejected.iter().find(is_rejected) {
            return Some(Reason::Rejected { image: rejected.to_string(), rollout: rollout.clone() });
        }
        if let Some(older) = self.older(tags, image) {
            return Some(older);
        }
        let active = self.active.as_ref().filter(|_| self.on_new_image == OnNewImage::Ignore)?;
        // A policy may span repositories; only a rollout of the same one is in the way.
        let elsewhere = self.active_repository.as_ref().is_some_and(|repository| *repository != image.repository);
        let same_image = is_name_of(active, policy, image);
        (!elsewhere && !same_image).then(|| Reason::Busy { active: active.clone() })
    }
}

/// A rejected image comes back under no disguise that can be seen through: the same digest is the same image whatever its
/// tag; without both digests the tag has to do. Where the registry will be asked for the digest before anything starts,
/// the planner sees through it then, and a tag that was moved to something better is not turned away here.
fn is_rejected(rejected: &ImageRef, pushed: &ImageRef, offer: Offer) -> bool {
    let same_tag = rejected.tag.is_some() && rejected.tag == pushed.tag;
    rejected.repository == pushed.repository
        && match (&rejected.digest, &pushed.digest, offer) {
            (Some(rejected), Some(pushed), _) => rejected == pushed,
            (Some(_), None, Offer::Digest) => false,
            (Some(_) | None, None, _) | (None, Some(_), _) => same_tag,
        }
}
