//! The devices' requests: thin, and without any idea of what a device would do with an answer.

use std::sync::Arc;
use std::time::Duration;

use reqwest::header::{
    CACHE_CONTROL, CONTENT_ENCODING, CONTENT_TYPE, ETAG, HeaderMap, HeaderName, HeaderValue, IF_NONE_MATCH, PRAGMA,
};
use reqwest::{Client, StatusCode};

use super::agent::Answer;
use super::identity::{DeviceKey, Identity};
use super::reporter::Delivery;
use super::wire::{self, Report};

/// The agent's own timeout.
const TIMEOUT: Duration = Duration::from_secs(30);
/// A target is some kilobytes; a server that sends more than this is broken, and must not take the whole fleet's memory.
const MAX_ANSWER: usize = 4 << 20;
const API_KEY: HeaderName = HeaderName::from_static("x-device-api-key");

/// Why the devices can't talk to a server.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// The server's address is none.
    #[error("{0:?} is not the address of a server: write http://host:port or https://host")]
    Server(String),
    /// The HTTP client can't be made.
    #[error("cannot set up the HTTP client")]
    Client(#[source] reqwest::Error),
}

/// One HTTP client for all devices: its connections are shared, as their own would be behind one NAT.
#[derive(Clone, Debug)]
pub struct Http {
    client: Client,
    api: Arc<str>,
}

impl Http {
    /// Talks to `server`: `http://host:port`, with or without `/api`, which the agent appends where it is missing.
    ///
    /// # Errors
    /// When `server` is no HTTP address, or the client's TLS can't be set up.
    pub fn new(server: &str) -> Result<Self, HttpError> {
        let bad = || HttpError::Server(server.to_owned());
        let url = reqwest::Url::parse(server).map_err(|_| bad())?;
        if !matches!(url.scheme(), "http" | "https") || !url.has_host() || url.query().is_some() {
            return Err(bad());
        }
        // A process has one TLS provider. Whoever came first has installed the same one.
        let _ = rustls::crypto::ring::default_provider().install_default();
        // Straight to the server, as the agent does: a proxy of the person's shell is none of the devices'.
        let client = Client::builder().timeout(TIMEOUT).no_proxy().build().map_err(HttpError::Client)?;
        let base = server.trim_end_matches('/');
        let api = if base.ends_with("/api") { format!("{base}/v1") } else { format!("{base}/api/v1") };
        Ok(Self { client, api: api.into() })
    }

    /// Polls for the target of `device`.
    pub async fn poll(&self, device: &Identity, if_none_match: Option<&str>) -> Answer {
        let Some(mut headers) = auth(&device.key) else { return Answer::Failed };
        if let Some(etag) = if_none_match {
            let Ok(etag) = HeaderValue::from_str(etag) else { return Answer::Failed };
            headers.insert(IF_NONE_MATCH, etag);
            // What the agent's HTTP library adds to conditional requests.
            headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
            headers.insert(PRAGMA, HeaderValue::from_static("no-cache"));
        }
        let url = format!("{}/device/{}/state", self.api, device.uuid);
        let response = match self.client.get(url).headers(headers).send().await {
            Ok(response) => response,
            Err(error) => {
                tracing::debug!(device = %device.uuid, %error, "poll failed");
                return Answer::Failed;
            }
        };
        match response.status() {
            StatusCode::NOT_MODIFIED => Answer::Unchanged,
            StatusCode::OK => target(device, response).await,
            status => {
                tracing::debug!(device = %device.uuid, %status, "poll refused");
                Answer::Failed
            }
        }
    }

    /// Sends a report of `device`.
    pub async fn report(&self, device: &Identity, report: Report) -> Delivery {
        let Some(mut headers) = auth(&device.key) else { return Delivery::Refused };
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if report.gzip {
            headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        }
        let url = format!("{}/device/state", self.api);
        match self.client.patch(url).headers(headers).body(report.body).send().await {
            Ok(response) if response.status().is_success() => Delivery::Accepted,
            Ok(response) => {
                tracing::debug!(device = %device.uuid, status = %response.status(), "report refused");
                if response.status().is_client_error() { Delivery::Refused } else { Delivery::Lost }
            }
            Err(error) => {
                tracing::debug!(device = %device.uuid, %error, "report failed");
                Delivery::Lost
            }
        }
    }
}

async fn target(device: &Identity, mut response: reqwest::Response) -> Answer {
    let etag = response.headers().get(ETAG).and_then(|etag| etag.to_str().ok()).map(Arc::from);
    let mut body = Vec::new();
    loop {
        match response.chunk().await {
            Ok(Some(chunk)) if body.len() + chunk.len() <= MAX_ANSWER => body.extend_from_slice(&chunk),
            Ok(None) => break,
            Ok(Some(_)) | Err(_) => return Answer::Failed,
        }
    }
    match wire::parse_target(&body, &device.uuid) {
        Ok(state) => Answer::Target { etag, state },
        Err(error) => {
            tracing::debug!(device = %device.uuid, %error, "the answer to a poll is not JSON");
            Answer::Failed
        }
    }
}

fn auth(key: &DeviceKey) -> Option<HeaderMap> {
    let mut value = HeaderValue::from_str(key.expose()).ok()?;
    value.set_sensitive(true);
    Some(HeaderMap::from_iter([(API_KEY, value)]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_path_is_the_agents() {
        for (server, api) in [
            ("http://localhost:8080", "http://localhost:8080/api/v1"),
            ("http://localhost:8080/", "http://localhost:8080/api/v1"),
            ("https://example.com/api", "https://example.com/api/v1"),
            ("https://example.com/iot/api/", "https://example.com/iot/api/v1"),
        ] {
            assert_eq!(&*Http::new(server).expect(server).api, api);
        }
        for bad in ["", "localhost:8080", "ftp://x", "http://", "http://x?y"] {
            assert!(Http::new(bad).is_err(), "{bad:?} must be refused");
        }
    }
}
