//! The client of the API server, with bounds that fit a controller.
//!
//! kube's own default retries a refused call for minutes, hidden from the caller. Every caller here has a better plan:
//! the controller tries again with a growing pause per object, the gateway and the webhook tell their client when to
//! come back. So a call is made once, and its failure is seen.

use std::path::Path;
use std::time::Duration;

use kube::config::{KubeConfigOptions, Kubeconfig, KubeconfigError};
use kube::{Client, Config};

/// Why there is no client.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Neither a kubeconfig nor a pod.
    #[error(
        "no cluster to talk to: set KUBECONFIG (or ~/.kube/config) to a file that names one, or run inside a pod with a service account"
    )]
    Config(#[source] kube::config::InferConfigError),
    /// The kubeconfig, or the context of it, that was asked for.
    #[error("the kubeconfig can't be used: {0}; `kubectl config get-contexts` lists what there is")]
    Kubeconfig(KubeconfigError),
    /// The settings can't be used.
    #[error("the cluster's settings can't be used")]
    Build(#[source] Box<kube::Error>),
}

/// A client from KUBECONFIG or the pod's service account, and the namespace that these name.
///
/// # Errors
/// When no cluster is configured, or its settings can't be used.
pub async fn connect() -> Result<(Client, String), ClientError> {
    patient(Config::infer().await.map_err(ClientError::Config)?)
}

/// The same from a kubeconfig and a context of it that somebody chose; each by itself as kubectl would have it.
///
/// # Errors
/// When there is no such file or context, or its settings can't be used.
pub async fn connect_to(file: Option<&Path>, context: Option<String>) -> Result<(Client, String), ClientError> {
    let file = file.map_or_else(Kubeconfig::read, Kubeconfig::read_from).map_err(ClientError::Kubeconfig)?;
    let options = KubeConfigOptions { context, ..KubeConfigOptions::default() };
    patient(Config::from_custom_kubeconfig(file, &options).await.map_err(ClientError::Kubeconfig)?)
}

fn patient(mut config: Config) -> Result<(Client, String), ClientError> {
    config.connect_timeout = Some(Duration::from_secs(5));
    let namespace = config.default_namespace.clone();
    Ok((with_config(config)?, namespace))
}

/// A client of the same cluster that is nobody: for requests that bring credentials of their own.
///
/// # Errors
/// When no cluster is configured, or its settings can't be used.
pub async fn connect_as_nobody() -> Result<Client, ClientError> {
    let config = without_credentials(Config::infer().await.map_err(ClientError::Config)?);
    patient(config).map(|(client, _)| client)
}

/// Where the cluster is and how it is known, and nothing that says who asks: no token, certificate or impersonation, nor
/// headers, which may hold any of them.
fn without_credentials(mut config: Config) -> Config {
    config.auth_info = kube::config::AuthInfo::default();
    config.headers = Vec::new();
    config
}

/// A client for a given configuration.
///
/// # Errors
/// When the settings can't be used.
pub fn with_config(mut config: Config) -> Result<Client, ClientError> {
    config.default_retry = false;
    Client::try_from(config).map_err(|error| ClientError::Build(Box::new(error)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_brings_nothing() {
        let mut config = Config::new("https://cluster.example".parse().unwrap());
        config.auth_info.token_file = Some("/token".into());
        config.auth_info.client_certificate = Some("/certificate".into());
        config.auth_info.impersonate = Some("admin".into());
        let header = (http::header::AUTHORIZATION, http::HeaderValue::from_static("Bearer a"));
        config.headers.push(header);
        let nobody = without_credentials(config);
        let info = &nobody.auth_info;
        assert!(info.token_file.is_none() && info.client_certificate.is_none() && info.impersonate.is_none());
        assert!(nobody.headers.is_empty());
    }
}
