//! Asks registries on a policy's behalf: reads the Secrets that the policy names, each time anew, and asks with what they
//! hold. Decides nothing, and keeps neither secrets nor answers.

use std::time::Duration;

use k8s_openapi::api::core::v1::Secret;
use kube::{Api, Client};

use crate::api::ImageRef;
use crate::api::policy::RegistryAccess;
use crate::api::webhook::SecretRef;
use crate::oci::{Access, Class, Known, Manifest, Registries, RegistryError, Tags, credentials_for};

/// Reading one Secret. A question to a registry has a limit of its own.
const SECRET_TIMEOUT: Duration = Duration::from_secs(5);
/// Key of a Secret of type `kubernetes.io/dockerconfigjson`.
const DOCKER_CONFIG: &str = ".dockerconfigjson";
/// Key of a Secret with certificates.
const CA: &str = "ca.crt";

/// Asks registries. Cheap to clone; clones share connections, tokens and limits.
#[derive(Clone)]
pub struct Resolver {
    client: Client,
    registries: Registries,
}

impl std::fmt::Debug for Resolver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Resolver").finish_non_exhaustive()
    }
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// A Secret is not there, or lacks its key.
    #[error("Secret {name}, which spec.image.registry.{field} names, {why}")]
    Secret {
        /// Its name.
        name: String,
        /// Which field of the policy names it.
        field: &'static str,
        /// What is wrong with it.
        why: String,
    },
    /// A Secret can't be read.
    #[error("Secret {name}, which spec.image.registry.{field} names, could not be read: {source}")]
    Read {
        /// Its name.
        name: String,
        /// Which field of the policy names it.
        field: &'static str,
        /// Says the API server.
        #[source]
        source: Box<kube::Error>,
    },
    /// The API server didn't answer.
    #[error("the API server did not answer in time for Secret {0}")]
    Timeout(String),
    /// The registry.
    #[error(transparent)]
    Registry(#[from] RegistryError),
}

impl AskError {
    /// Whether it may pass by itself, soon.
    #[must_use]
    pub fn may_pass(&self) -> bool {
        match self {
            Self::Secret { .. } => false,
            Self::Read { .. } | Self::Timeout(_) => true,
            Self::Registry(error) => match error.class() {
                Class::NoAnswer | Class::NoSuchImage => true,
                Class::Unauthorized | Class::Refused | Class::Malformed => false,
            },
        }
    }

    /// How long the registry asked to be left alone.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Registry(error) => error.retry_after(),
            Self::Secret { .. } | Self::Read { .. } | Self::Timeout(_) => None,
        }
    }

    /// One word for it: reason of conditions, label of metrics.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Secret { .. } => "SecretUnusable",
            Self::Read { .. } | Self::Timeout(_) => "SecretUnread",
            Self::Registry(error) => match error.class() {
                Class::NoAnswer => "RegistryNoAnswer",
                Class::NoSuchImage => "NoSuchImage",
                Class::Unauthorized => "RegistryUnauthorized",
                Class::Refused => "RegistryRefused",
                Class::Malformed => "RegistryMalformed",
            },
        }
    }
}

impl Resolver {
    /// Asks through `registries`, and reads Secrets with `client`.
    #[must_use]
    pub fn new(client: Client, registries: Registries) -> Self {
        Self { client, registries }
    }

    /// The digest of an image's tag, as cheaply as the registry allows.
    ///
    /// # Errors
    /// See [`AskError`].
    pub async fn digest(&self, namespace: &str, image: &ImageRef, how: &RegistryAccess) -> Result<String, AskError> {
        let access = self.access(namespace, &image.repository, how).await?;
        Ok(self.registries.digest(&by_tag(image), &access).await?)
    }

    /// The manifest of an image's tag.
    ///
    /// # Errors
    /// See [`AskError`].
    pub async fn manifest(
        &self,
        namespace: &str,
        image: &ImageRef,
        how: &RegistryAccess,
    ) -> Result<Manifest, AskError> {
        let access = self.access(namespace, &image.repository, how).await?;
        Ok(self.registries.manifest(&by_tag(image), &access).await?)
    }

    /// The tags of a repository.
    ///
    /// # Errors
    /// See [`AskError`].
    pub async fn tags(
        &self,
        namespace: &str,
        repository: &str,
        how: &RegistryAccess,
        known: Option<&Known>,
    ) -> Result<Tags, AskError> {
        let access = self.access(namespace, repository, how).await?;
        Ok(self.registries.tags(repository, &access, known).await?)
    }

    async fn access(&self, namespace: &str, repository: &str, how: &RegistryAccess) -> Result<Access, AskError> {
        let RegistryAccess { pull_secret_ref, ca_secret_ref, plain_http } = how;
        let mut access = Access::default().with_plain_http(*plain_http);
        if let Some(SecretRef { name }) = pull_secret_ref {
            let field = "pullSecretRef";
            let config = self.secret(namespace, name, DOCKER_CONFIG, field).await?;
            let credentials =
                credentials_for(&config, repository).map_err(|error| cannot_be_used(name, field, &error))?;
            access = access.with_credentials(credentials);
        }
        if let Some(SecretRef { name }) = ca_secret_ref {
            let field = "caSecretRef";
            let pem = self.secret(namespace, name, CA, field).await?;
            access = access.with_authorities(&pem).map_err(|error| cannot_be_used(name, field, &error))?;
        }
        Ok(access)
    }

    async fn secret(&self, namespace: &str, name: &str, key: &str, field: &'static str) -> Result<Vec<u8>, AskError> {
        let unusable = |why: String| AskError::Secret { name: name.to_owned(), field, why };
        let api: Api<Secret> = Api::namespaced(self.client.clone(), namespace);
        let secret = tokio::time::timeout(SECRET_TIMEOUT, api.get_opt(name))
            .await
            .map_err(|_| AskError::Timeout(name.to_owned()))?
            .map_err(|source| AskError::Read { name: name.to_owned(), field, source: Box::new(source) })?
            .ok_or_else(|| unusable("does not exist in this namespace".into()))?;
        let value = secret.data.unwrap_or_default().remove(key);
        value.map(|value| value.0).ok_or_else(|| unusable(format!("has no key {key}")))
    }
}

fn cannot_be_used(name: &str, field: &'static str, error: &dyn std::error::Error) -> AskError {
    AskError::Secret { name: name.to_owned(), field, why: format!("can't be used: {error}") }
}

/// A push's own digest is what the answer is compared with, not what is asked for.
fn by_tag(image: &ImageRef) -> ImageRef {
    match image.tag {
        Some(_) => ImageRef { digest: None, ..image.clone() },
        None => image.clone(),
    }
}
