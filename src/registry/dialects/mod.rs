//! How each registry tells of a push: one file for each.
//!
//! **A new dialect** is one file with an implementation of [`Dialect`], and one line in [`DIALECTS`]. The first one
//! that recognises a delivery reads it, so look-alikes are told apart in `recognises` alone. A dialect never trusts its
//! vendor to keep to the documented shape: only fields that are used are typed, everything else is skipped.

pub mod acr;
pub mod alibaba;
pub mod artifactory;
pub mod distribution;
pub mod dockerhub;
pub mod ecr;
pub mod gar;
pub mod generic;
pub mod gitea;
pub mod github;
pub mod harbor;
pub mod nexus;
pub mod quay;
pub mod zot;

use super::delivery::{Delivery, tidy};
use super::{ParseError, PushEvent};
use crate::api::webhook::RegistryType;

/// Every dialect, in the order in which they are asked: those first that a header or an unmistakable name tells.
pub const DIALECTS: &[&dyn Dialect] = &[
    &gitea::Gitea,
    &github::GitHub,
    &nexus::Nexus,
    &artifactory::Artifactory,
    &harbor::Harbor,
    &zot::Zot,
    &ecr::Ecr,
    &distribution::Distribution,
    &gar::Gar,
    &quay::Quay,
    &alibaba::Alibaba,
    &dockerhub::DockerHub,
    &acr::Acr,
    &generic::Generic,
];

/// Most pushes that are taken from one delivery. Each is asked of every policy, and of a thousand of them that takes up to
/// 0.1 ms: 64 keep the answer within the few milliseconds that a registry's patience is made of. No registry was seen to
/// tell of more than a handful at once; what is beyond is for the policy's poll to find.
pub(super) const MAX_PUSHES: usize = 64;

/// How one registry tells of a push.
pub trait Dialect: Sync {
    /// Its name in `spec.trigger.receiver` and in metrics.
    fn name(&self) -> &'static str;

    /// What people call the registry.
    fn title(&self) -> &'static str;

    /// What a `RegistryWebhook` calls it.
    fn type_(&self) -> RegistryType;

    /// Whether a delivery is written in this dialect. Looks at headers and at the outline of the payload; must not claim
    /// what another registry could have sent.
    fn recognises(&self, delivery: &Delivery<'_>) -> bool;

    /// What a recognised delivery says.
    ///
    /// # Errors
    /// [`ParseError::NotAPush`] for an event that is understood and is no push; every other error is a delivery that is
    /// not as the registry documents it, or a receiver that lacks a setting.
    fn parse(&self, delivery: &Delivery<'_>) -> Result<Vec<PushEvent>, ParseError>;
}

/// The pushes of a delivery that tells of several things. One that can't be read stops none of the others; when there is
/// no push at all, the first thing that is wrong is the answer, else the first reason why it is no push.
fn each<T>(
    things: impl IntoIterator<Item = T>,
    read: impl FnMut(T) -> Result<PushEvent, ParseError>,
) -> Result<Vec<PushEvent>, ParseError> {
    let (mut pushes, mut wrong, mut no_push) = (Vec::new(), None, None);
    for result in things.into_iter().map(read) {
        match result {
            // One image under several ids is one image.
            Ok(push) if pushes.iter().any(|other: &PushEvent| other.image == push.image) => {}
            Ok(push) => pushes.push(push),
            Err(ParseError::NotAPush(why)) => drop(no_push.get_or_insert(why)),
            Err(error) => drop(wrong.get_or_insert(error)),
        }
        if pushes.len() == MAX_PUSHES {
            break;
        }
    }
    match (pushes.is_empty(), wrong, no_push) {
        (false, _, _) => Ok(pushes),
        (true, Some(error), _) => Err(error),
        (true, None, Some(why)) => Err(ParseError::NotAPush(why)),
        (true, None, None) => Err(ParseError::NotAPush("the delivery tells of nothing".into())),
    }
}

/// A word of a stranger within a sentence of ours.
fn shown(text: &str) -> String {
    format!("{:?}", tidy(text).unwrap_or_default())
}
