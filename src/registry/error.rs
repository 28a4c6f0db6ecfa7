//! Why a delivery has no push in it.
//!
//! [`ParseError::NotAPush`] is no failure: the delivery is understood, and answered with 2xx. So are [`ParseError::NoHost`]
//! and [`ParseError::Host`], for which the receiver lacks a setting. Every other one is a delivery that is not as its
//! registry documents it.

use crate::api::image::ImageError;

/// Why a delivery has no push in it.
#[derive(Debug, thiserror::Error)]
pub enum ParseError {
    /// A form instead of JSON: a setting of the webhook.
    #[error("the body is a form: set the webhook's content type to application/json")]
    Form,
    /// No JSON object, or a field of another type than the registry documents.
    #[error("the body can't be read as {what}: {error}")]
    Json {
        /// What it was taken for.
        what: &'static str,
        /// Where and why.
        #[source]
        error: serde_json::Error,
    },
    /// No dialect takes it.
    #[error(
        "the body is JSON, but no registry known here tells of a push like that: a CI job may send \
         {{\"image\": \"host/name:tag\"}}"
    )]
    Unknown,
    /// A field is missing that this registry always sends.
    #[error("the payload is taken for one of {dialect}, but has no {field}")]
    Missing {
        /// The registry, as people call it.
        dialect: &'static str,
        /// Path of the field.
        field: &'static str,
    },
    /// A field holds what it can't hold.
    #[error("the payload is taken for one of {dialect}, but its {field} {problem}")]
    Field {
        /// The registry, as people call it.
        dialect: &'static str,
        /// Path of the field.
        field: &'static str,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// A registry that doesn't say where it is, and a receiver that doesn't either.
    #[error(
        "{dialect} does not say which host devices pull from: set spec.registry of this URL's RegistryWebhook to it, \
         such as registry.example.com:5000"
    )]
    NoHost {
        /// The registry, as people call it.
        dialect: &'static str,
    },
    /// A host that in a reference would be read as a name on Docker Hub.
    #[error(
        "{host:?} can't be told from a name on Docker Hub: set spec.registry of this URL's RegistryWebhook to the host \
         that devices pull from, with a dot or a port, such as registry.example.com:5000"
    )]
    Host {
        /// As it came.
        host: String,
    },
    /// It names an image that can't exist.
    #[error("the payload names an image that can't exist: {0}")]
    Image(#[from] ImageError),
    /// Understood, authentic, and no push of a container image.
    #[error("{0}")]
    NotAPush(String),
}
