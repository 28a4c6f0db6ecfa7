//! A document that is no registry's: the keys of whoever signs tokens. Asked for within the same rules of addresses, since
//! its URL is written in an object, too.

use std::time::Duration;

use reqwest::header::CACHE_CONTROL;
use reqwest::{Method, StatusCode, Url};
use tokio::time::Instant;

use super::http::Ask;
use super::{Access, Registries, RegistryError};

/// What is at a URL.
#[derive(Clone, Debug)]
pub struct Document {
    /// Its content, of an answer that is good.
    pub body: Vec<u8>,
    /// For how long it may be kept, as its server says.
    pub cache_control: Option<String>,
}

impl Registries {
    /// What is at `url`, if it is no larger than `limit` and here within `timeout`. Over http only when the URL says so.
    ///
    /// # Errors
    /// When it isn't to be had; every status but 200 is one.
    pub async fn document(&self, url: &str, limit: usize, timeout: Duration) -> Result<Document, RegistryError> {
        let parsed = Url::parse(url).map_err(|error| RegistryError::Malformed {
            host: "nobody".into(),
            what: format!("because the URL can't be read: {error}"),
        })?;
        let access = Access::default().with_plain_http(parsed.scheme() == "http");
        let ask = Ask {
            method: Method::GET,
            url: parsed,
            access: &access,
            accept: "application/json",
            authorization: None,
            if_none_match: None,
            form: None,
            limit,
            deadline: Instant::now() + timeout,
        };
        let answer = self.0.http.ask(ask).await?;
        let (host, status) = (answer.host.clone(), answer.status.as_u16());
        if answer.status.is_server_error() {
            return Err(RegistryError::Server { host, status });
        }
        if answer.status != StatusCode::OK {
            return Err(RegistryError::Malformed { host, what: format!("with status {status}") });
        }
        let cache_control = answer.header(CACHE_CONTROL).map(str::to_owned);
        Ok(Document { body: answer.body, cache_control })
    }
}
