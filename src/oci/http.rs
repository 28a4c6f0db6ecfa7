//! One request to one host, and where it leads: the only place of this module that opens connections.
//!
//! Every address is checked before it is connected to: names by the resolver, which hands on none but checked addresses,
//! so that nothing is looked up a second time and a name that changes its mind gains nothing; addresses in URLs before the
//! request, since no resolver is asked for those; and both again for every redirect, which are followed here and not by the
//! library. Proxies of the environment are not used: a proxy would look the names up itself.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use reqwest::header::{
    ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue, IF_NONE_MATCH, LOCATION, RETRY_AFTER,
};
use reqwest::{Client, Method, StatusCode, Url};
use tokio::time::Instant;

use super::access::{Access, Authorities, Id};
use super::addresses::AddressRules;
use super::error::RegistryError;
use super::failure::{failed, is_broken, last_cause};
use super::hosts::Hosts;
use super::resolver::Resolver;
use super::retry;
use crate::clock::Clock;

/// A registry that can be reached at all takes a connection in one or two seconds, from anywhere.
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// From the request to the last byte of an answer, which has some kilobytes. A slow registry is tried again later; until
/// then it must not hold up others in the queue to its host.
pub(super) const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// Registries redirect once (to a storage or another region).
const MAX_REDIRECTS: usize = 5;
/// Of an answer that says no, this much is looked at for the reason.
const MAX_ERROR: usize = 64 << 10;
/// Connections that are kept open for the next poll.
const IDLE_CONNECTIONS: usize = 2;
/// For how long; most registries close theirs after a minute.
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);
/// HTTP clients that are kept, one for each set of authorities. Beyond, all are made anew.
const MAX_CLIENTS: usize = 64;

/// What is asked.
pub(super) struct Ask<'a> {
    pub(super) method: Method,
    pub(super) url: Url,
    pub(super) access: &'a Access,
    pub(super) accept: &'static str,
    pub(super) authorization: Option<HeaderValue>,
    pub(super) if_none_match: Option<HeaderValue>,
    /// A form; such a request is not redirected.
    pub(super) form: Option<String>,
    /// The largest good answer, bytes.
    pub(super) limit: usize,
    /// When the whole question must be answered, of which this is a part.
    pub(super) deadline: Instant,
}

/// What was answered, with any status.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Vec<u8>,
    /// Who answered, after all redirects: host, and port if any.
    pub(super) host: String,
    /// A redirect led to another host, port or scheme.
    pub(super) elsewhere: bool,
}

impl Answer {
    /// A header's text.
    pub(super) fn header(&self, name: impl reqwest::header::AsHeaderName) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}

/// Connections, and the limits on them.
pub(super) struct Http {
    rules: Arc<AddressRules>,
    clock: Clock,
    hosts: Hosts,
    /// By the authorities that are trusted: a connection that one policy's authority vouches for is not another policy's.
    clients: Mutex<HashMap<Option<Id>, Client>>,
}

impl Http {
    pub(super) fn new(rules: AddressRules, clock: Clock) -> Self {
        Self { rules: Arc::new(rules), clock, hosts: Hosts::default(), clients: Mutex::default() }
    }

    /// Asks, and follows redirects of GET and HEAD.
    pub(super) async fn ask(&self, mut ask: Ask<'_>) -> Result<Answer, RegistryError> {
        let mut elsewhere = false;
        for _ in 0..=MAX_REDIRECTS {
            let mut answer = self.ask_one(&ask).await?;
            answer.elsewhere = elsewhere;
            if !is_redirect(answer.status) {
                return Ok(answer);
            }
            let next = self.redirected(&ask, &answer)?;
            if !same_origin(&ask.url, &next) {
                ask.authorization = None;
                elsewhere = true;
            }
            ask.url = next;
        }
        Err(malformed(&ask.url, format!("with more than {MAX_REDIRECTS} redirects")))
    }

    fn redirected(&self, ask: &Ask<'_>, answer: &Answer) -> Result<Url, RegistryError> {
        let host = shown(&ask.url);
        if ask.form.is_some() {
            return Err(malformed(
                &ask.url,
                format!("with status {} to what can't be redirected", answer.status.as_u16()),
            ));
        }
        let next = answer.header(LOCATION).and_then(|location| ask.url.join(location).ok());
        let next = next.ok_or_else(|| malformed(&ask.url, "with a redirect to nowhere".into()))?;
        if next.scheme() == "http" && ask.url.scheme() == "https" {
            return Err(RegistryError::PlainHttp { what: format!("{}, to which {host} redirects,", shown(&next)) });
        }
        Ok(next)
    }

    /// One request, no redirect.
    async fn ask_one(&self, ask: &Ask<'_>) -> Result<Answer, RegistryError> {
        let host = shown(&ask.url);
        self.check(&ask.url, ask.access)?;
        let client = self.client(ask.access)?;
        let who = ask.access.id();
        let kept_back = || match self.hosts.wait(&host, who) {
            Some(retry_after) => Err(RegistryError::Wait { host: host.clone(), retry_after }),
            None => Ok(()),
        };
        kept_back()?;
        let begun = Instant::now();
        let timeout =
            |at: Instant| RegistryError::Timeout { host: host.clone(), after: at.saturating_duration_since(begun) };
        let slot = self.hosts.slot(&host);
        let Ok(_slot) = tokio::time::timeout_at(ask.deadline, slot).await else { return Err(timeout(ask.deadline)) };
        // Those before in the queue may have been told to wait.
        kept_back()?;

        let until = ask.deadline.min(Instant::now() + REQUEST_TIMEOUT);
        let exchange = async {
            let mut request = client.request(ask.method.clone(), ask.url.clone()).header(ACCEPT, ask.accept);
            if let Some(authorization) = &ask.authorization {
                let mut authorization = authorization.clone();
                authorization.set_sensitive(true);
                request = request.header(AUTHORIZATION, authorization);
            }
            if let Some(etag) = &ask.if_none_match {
                request = request.header(IF_NONE_MATCH, etag);
            }
            if let Some(form) = &ask.form {
                request = request.header(CONTENT_TYPE, "application/x-www-form-urlencoded").body(form.clone());
            }
            let again = if ask.form.is_none() { request.try_clone() } else { None };
            let sent = match (request.send().await, again) {
                // The server has closed a connection that was kept open, just when it was used again.
                (Err(error), Some(again)) if is_broken(&error) => again.send().await,
                (sent, _) => sent,
            };
            let mut response = sent.map_err(|error| failed(&host, error))?;
            let body = read(&mut response, ask.limit, &host).await?;
            Ok(Answer {
                status: response.status(),
                headers: std::mem::take(response.headers_mut()),
                body,
                host: host.clone(),
                elsewhere: false,
            })
        };
        let answer = tokio::time::timeout_at(until, exchange).await.map_err(|_| timeout(until))??;
        self.mind(&answer, who)?;
        Ok(answer)
    }

    /// Turns "later" into an error, and remembers it.
    fn mind(&self, answer: &Answer, who: Id) -> Result<(), RegistryError> {
        let asked = answer.header(RETRY_AFTER).and_then(|value| retry::retry_after(value, self.clock.now()));
        let wait = match answer.status {
            StatusCode::TOO_MANY_REQUESTS => Some(asked.unwrap_or(retry::UNSAID)),
            StatusCode::SERVICE_UNAVAILABLE => asked,
            _ => None,
        };
        let Some(retry_after) = wait else { return Ok(()) };
        self.hosts.set_wait(&answer.host, who, retry_after);
        Err(RegistryError::Wait { host: answer.host.clone(), retry_after })
    }

    /// Whether a URL may be asked at all. What it is a URL of is checked here; what its name resolves to, by [`Resolver`].
    fn check(&self, url: &Url, access: &Access) -> Result<(), RegistryError> {
        match url.scheme() {
            "https" => {}
            "http" if access.plain_http() => {}
            "http" => return Err(RegistryError::PlainHttp { what: shown(url) }),
            _ => return Err(malformed(url, "with a URL that is neither http nor https".into())),
        }
        // It would be sent as credentials, and shown.
        if !url.username().is_empty() || url.password().is_some() {
            return Err(malformed(url, "with a URL that has a user in it".into()));
        }
        if let Some(address) = literal(url) {
            self.rules.check(address).map_err(|kind| RegistryError::Address { host: shown(url), address, kind })?;
        }
        Ok(())
    }

    fn client(&self, access: &Access) -> Result<Client, RegistryError> {
        let authorities = access.authorities();
        let id = authorities.map(|authorities| authorities.id);
        let mut clients = self.clients.lock();
        if let Some(client) = clients.get(&id) {
            return Ok(client.clone());
        }
        let client = new_client(&self.rules, authorities)?;
        if clients.len() >= MAX_CLIENTS {
            clients.clear();
        }
        clients.insert(id, client.clone());
        Ok(client)
    }
}

fn new_client(rules: &Arc<AddressRules>, authorities: Option<&Authorities>) -> Result<Client, RegistryError> {
    // A process has one TLS provider. Whoever came first has installed the same one.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let builder = || {
        Client::builder()
            .dns_resolver(Resolver(Arc::clone(rules)))
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .referer(false)
            .retry(reqwest::retry::never())
            .connect_timeout(CONNECT_TIMEOUT)
            .pool_max_idle_per_host(IDLE_CONNECTIONS)
            .pool_idle_timeout(IDLE_TIMEOUT)
            .user_agent(concat!("tranche/", env!("CARGO_PKG_VERSION")))
    };
    let cannot = |error: reqwest::Error| RegistryError::Client { reason: last_cause(&error) };
    match authorities {
        Some(authorities) => {
            let certificates = authorities.certificates.iter().map(|der| reqwest::Certificate::from_der(der));
            let certificates = certificates.collect::<Result<Vec<_>, _>>().map_err(cannot)?;
            builder().tls_certs_merge(certificates).build().map_err(cannot)
        }
        None => builder().build().or_else(|error| {
            // A system without authorities can ask over http still. Over https it then trusts nobody.
            tracing::warn!(reason = last_cause(&error), "no authorities of the system: no https registry is trusted");
            builder().tls_certs_only([]).build().map_err(cannot)
        }),
    }
}

/// Reads an answer to its end, but no more than is allowed. Of an answer that says no, the beginning will do.
async fn read(response: &mut reqwest::Response, limit: usize, host: &str) -> Result<Vec<u8>, RegistryError> {
    let good = response.status().is_success();
    let limit = if good { limit } else { MAX_ERROR };
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| failed(host, error))? {
        if body.len() + chunk.len() > limit {
            if good {
                return Err(RegistryError::Malformed {
                    host: host.into(),
                    what: format!("with more than {limit} bytes"),
                });
            }
            break;
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

fn malformed(url: &Url, what: String) -> RegistryError {
    RegistryError::Malformed { host: shown(url), what }
}

fn is_redirect(status: StatusCode) -> bool {
    matches!(
        status,
        StatusCode::MOVED_PERMANENTLY
            | StatusCode::FOUND
            | StatusCode::SEE_OTHER
            | StatusCode::TEMPORARY_REDIRECT
            | StatusCode::PERMANENT_REDIRECT
    )
}

fn same_origin(one: &Url, other: &Url) -> bool {
    one.scheme() == other.scheme()
        && one.host_str() == other.host_str()
        && one.port_or_known_default() == other.port_or_known_default()
}

/// Host, and port if it was written: what of a URL may be shown.
pub(super) fn shown(url: &Url) -> String {
    let host: String = url.host_str().unwrap_or("nowhere").chars().take(253).collect();
    url.port().map_or(host.clone(), |port| format!("{host}:{port}"))
}

/// The address that a URL names, where it doesn't name a host. The URL's parser has brought every spelling of one
/// (`0x7f.1`, `2130706433`) into the usual form.
fn literal(url: &Url) -> Option<IpAddr> {
    let host = url.host_str()?;
    host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host).parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> Url {
        Url::parse(text).expect(text)
    }

    fn http(rules: &str) -> Http {
        Http::new(rules.parse().expect(rules), Clock::default())
    }

    #[test]
    fn every_spelling_of_an_address() {
        for host in
            ["127.0.0.1", "127.1", "0x7f.1", "0177.0.0.1", "2130706433", "127.0.0.1.", "[::1]", "[::ffff:7f00:1]"]
        {
            let error = http("").check(&url(&format!("https://{host}:5000/v2/")), &Access::default()).expect_err(host);
            assert!(matches!(error, RegistryError::Address { .. }), "{host}: {error}");
        }
        for host in ["10.0.0.1", "registry.example", "[fd12::1]"] {
            let checked = http("").check(&url(&format!("https://{host}:5000/v2/")), &Access::default());
            assert_eq!(checked, Ok(()), "{host}");
        }
    }

    #[test]
    fn schemes_and_users() {
        let plain = Access::default().with_plain_http(true);
        assert!(matches!(
            http("").check(&url("http://r.example/"), &Access::default()),
            Err(RegistryError::PlainHttp { .. })
        ));
        assert_eq!(http("").check(&url("http://r.example/"), &plain), Ok(()));
        assert!(http("").check(&url("ftp://r.example/"), &plain).is_err());
        let error = http("").check(&url("https://me:hunter2@r.example/"), &plain).expect_err("a user");
        assert!(!format!("{error} {error:?}").contains("hunter2"));
    }

    #[test]
    fn origins() {
        assert!(same_origin(&url("https://a/x"), &url("https://a:443/y")));
        for other in ["http://a/x", "https://b/x", "https://a:444/x"] {
            assert!(!same_origin(&url("https://a/x"), &url(other)), "{other}");
        }
    }
}
