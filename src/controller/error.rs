//! What can go wrong in a pass, and what it means for the next one.

use crate::plan::validated::Invalid;

/// A pass that failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The object does not even parse; it needs a new version of the CRD or a person.
    #[error("{kind} {name} can't be read: {why}")]
    Unreadable {
        /// Its kind.
        kind: &'static str,
        /// Its name.
        name: String,
        /// What the parser says.
        why: String,
    },
    /// A policy that makes no sense. Its status says so.
    #[error("policy {0} can't be followed")]
    InvalidPolicy(String, #[source] Box<Invalid>),
    /// Writing a status.
    #[error("writing the status of {0}")]
    Status(String, #[source] Box<kube::Error>),
    /// Adding or removing the finalizer.
    #[error("changing the finalizer of {0}")]
    Finalizer(String, #[source] Box<kube::Error>),
    /// Writing to devices. The first failure of several; the others are counted.
    #[error("writing to device {device} ({others} others failed too)")]
    Device {
        /// The first.
        device: String,
        /// How many more.
        others: usize,
        /// Why.
        #[source]
        source: Box<kube::Error>,
    },
    /// Deleting a finished rollout.
    #[error("deleting the finished rollout {0}")]
    Prune(String, #[source] Box<kube::Error>),
    /// The pass took too long.
    #[error("the pass over {0} took longer than {limit} s", limit = super::RECONCILE_TIMEOUT.as_secs())]
    Timeout(String),
    /// A background watch ended.
    #[error("a background task of the controller ended: {0}")]
    Background(String),
}

/// What an error means for the next pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// We looked at an old state of things. Soon again, nobody's fault.
    Stale,
    /// The API server can't do it now. Again, with growing pauses.
    Transient,
    /// Nothing changes until a person does something. Wait for a change.
    Invalid,
}

impl Error {
    /// What it means for the next pass.
    #[must_use]
    pub fn class(&self) -> Class {
        match self {
            Self::Unreadable { .. } | Self::InvalidPolicy(..) => Class::Invalid,
            Self::Status(_, source)
            | Self::Finalizer(_, source)
            | Self::Prune(_, source)
            | Self::Device { source, .. } => class_of(source),
            Self::Timeout(_) | Self::Background(_) => Class::Transient,
        }
    }

    /// One word for metrics and logs.
    #[must_use]
    pub fn label(&self) -> &'static str {
        match self {
            Self::Unreadable { .. } => "Unreadable",
            Self::InvalidPolicy(..) => "InvalidPolicy",
            Self::Status(..) => "Status",
            Self::Finalizer(..) => "Finalizer",
            Self::Device { .. } => "Device",
            Self::Prune(..) => "Prune",
            Self::Timeout(_) => "Timeout",
            Self::Background(_) => "Background",
        }
    }
}

/// Class of the API server's answer.
#[must_use]
pub fn class_of(error: &kube::Error) -> Class {
    match error {
        kube::Error::Api(status) if status.is_conflict() || status.is_not_found() => Class::Stale,
        _ => Class::Transient,
    }
}
