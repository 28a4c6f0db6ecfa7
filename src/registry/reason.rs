//! Why an authentic push makes no rollout. Everything here is answered with 2xx: a registry that is told of an error
//! sends the same again, for ever, or gives the hook up.

use super::tags::TagRefusal;

/// Why nothing was made of a push, or why one policy made nothing of it. The one text of it goes into the answer and the
/// log; [`Reason::label`] goes into metrics.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Reason {
    /// An event of another kind: a ping, a deletion, a package that is no image.
    #[error("{0}")]
    NotAPush(String),
    /// The receiver is for another registry.
    #[error("this is not what a registry of the type sends that the receiver is for")]
    OtherRegistry,
    /// The receiver takes deliveries, and makes nothing of them.
    #[error("the receiver is suspended")]
    ReceiverSuspended,
    /// The receiver does not speak for that repository.
    #[error("the receiver does not take pushes of {image}: its spec.repositories name others")]
    RepositoryNotAllowed {
        /// As pushed.
        image: String,
    },
    /// A push to a registry that doesn't say where it is.
    #[error("{0}")]
    HostUnknown(String),
    /// A manifest without tag: one architecture of an image, or a signature.
    #[error("{image} was pushed without a tag: only tagged images are rolled out")]
    Untagged {
        /// Without tag.
        image: String,
    },
    /// A signature, attestation or bill of materials beside an image.
    #[error("the tag {tag} holds a signature, an attestation or a bill of materials, not an image")]
    CosignArtifact {
        /// The tag.
        tag: String,
    },
    /// No policy speaks of it.
    #[error("no policy's image pattern matches {image}")]
    NoPolicyMatches {
        /// As pushed.
        image: String,
    },
    /// The policy starts no rollouts.
    #[error("the policy is suspended")]
    Suspended,
    /// The policy's tag rules are against it.
    #[error(transparent)]
    Tag(#[from] TagRefusal),
    /// It was rolled back before.
    #[error(
        "{image} was rolled back by {rollout} and does not come back by itself: create an ImageRollout to try it again"
    )]
    Rejected {
        /// As the policy remembers it.
        image: String,
        /// The rollout that went back.
        rollout: String,
    },
    /// A lower version than the one that rolls or rolled out.
    #[error(
        "{tag} is older than {latest}, which {rollout} brings: set spec.tags.allowDowngrade to roll it out all the same"
    )]
    Older {
        /// The tag.
        tag: String,
        /// The latest tag.
        latest: String,
        /// Its rollout.
        rollout: String,
    },
    /// Another image is being rolled out, and the policy ignores new ones meanwhile.
    #[error("the rollout {active} is still running and the policy says onNewImage: Ignore")]
    Busy {
        /// The rollout that runs.
        active: String,
    },
    /// The policy can't be followed.
    #[error("the policy can't be followed: {0}")]
    InvalidPolicy(String),
    /// There is a rollout of this tag, and no telling whether the tag was moved since.
    #[error("{rollout} is of this tag, and the registry does not say whether the tag was moved since: {why}")]
    DigestUnknown {
        /// The image.
        image: String,
        /// The rollout that is there.
        rollout: String,
        /// What to do about it.
        why: String,
    },
    /// An object of that name is there and is for another image.
    #[error("the name {rollout} is taken by a rollout of another image: delete that one and push again")]
    NameTaken {
        /// The name.
        rollout: String,
    },
    /// The API server finds the rollout invalid; sending it again won't change that.
    #[error("the API server refused the rollout: {0}")]
    Refused(String),
}

impl Reason {
    /// One word, stable, for metrics and scripts.
    #[must_use]
    pub fn label(&self) -> &'static str {
        match self {
            Self::NotAPush(_) => "NotAPush",
            Self::HostUnknown(_) => "HostUnknown",
            Self::OtherRegistry => "OtherRegistry",
            Self::ReceiverSuspended => "ReceiverSuspended",
            Self::RepositoryNotAllowed { .. } => "RepositoryNotAllowed",
            Self::Untagged { .. } => "Untagged",
            Self::CosignArtifact { .. } => "CosignArtifact",
            Self::NoPolicyMatches { .. } => "NoPolicyMatches",
            Self::Suspended => "Suspended",
            Self::Tag(TagRefusal::Pattern { .. }) => "TagPattern",
            Self::Tag(TagRefusal::Excluded { .. }) => "TagExcluded",
            Self::Tag(TagRefusal::NotAVersion { .. }) => "TagNotAVersion",
            Self::Tag(TagRefusal::OutOfRange { .. }) => "TagOutOfRange",
            Self::Rejected { .. } => "Rejected",
            Self::Older { .. } => "Older",
            Self::Busy { .. } => "Busy",
            Self::InvalidPolicy(_) => "InvalidPolicy",
            Self::DigestUnknown { .. } => "DigestUnknown",
            Self::NameTaken { .. } => "NameTaken",
            Self::Refused(_) => "Refused",
        }
    }
}
