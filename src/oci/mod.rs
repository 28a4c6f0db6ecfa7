//! A thin client of the OCI distribution API: which digest a tag has, what a manifest is of, which tags there are.
//!
//! It reads and never writes, and keeps nothing of what registries say but tokens, for as long as those are good. It decides
//! what may be asked at all ([`AddressRules`]), how much at once, and what an answer must be to be believed: a digest that
//! has a digest's form, content whose SHA-256 is the one that was announced, sizes within bounds. What follows from an
//! answer is decided by its callers.
//!
//! ```text
//!   Registries ── digest, manifest, tags
//!     │  question   URLs, and what an answer says no with (pure)
//!     │  grants     tokens that are still good
//!     │  challenge  what a 401 asks for, what a token server answers (pure)
//!     ▼
//!   http ── one request and its redirects: addresses, TLS, timeouts, sizes
//!        hosts      few at once, none before Retry-After
//!        resolver   names to addresses that may be reached
//!        addresses  which addresses are never reached (pure)
//! ```
//!
//! # Why not the crate oci-client?
//!
//! It builds its HTTP client itself, from a configuration that has no resolver and no redirect policy, and returns no
//! header of an answer. Loopback, link-local and metadata addresses must not be reached, also after redirects and DNS, and
//! Retry-After and ETag must be obeyed; neither can be held with it. The part that is needed of the API is three requests
//! and the token flow; the grammar of challenges is left to `http-auth`.
//!
//! # Docker Hub
//!
//! Images of `docker.io` are asked for at `registry-1.docker.io`, whose tokens come from `auth.docker.io`. A HEAD is free
//! there, a GET of a manifest counts as a pull.

mod access;
mod addresses;
mod challenge;
mod credentials;
mod document;
mod error;
mod failure;
mod grants;
mod hosts;
mod http;
mod manifest;
mod question;
mod resolver;
mod retry;
mod secret;
mod tags;

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use reqwest::header::{CONTENT_TYPE, ETAG, HeaderValue, LINK, WWW_AUTHENTICATE};
use reqwest::{Method, StatusCode, Url};
use tokio::time::Instant;

pub use self::access::{Access, AuthoritiesError};
pub use self::addresses::{AddressRules, AddressRulesError};
use self::challenge::Challenge;
pub use self::credentials::{Credentials, CredentialsError, credentials_for};
pub use self::document::Document;
pub use self::error::{Class, RegistryError};
use self::grants::{Grant, Grants, Key};
use self::http::{Answer, Ask, Http};
pub use self::manifest::{Manifest, ManifestKind};
use self::question::{Question, announced};
pub use self::secret::Secret;
pub use self::tags::{Known, Tags};
use crate::api::image::ImageRef;
use crate::clock::Clock;

/// The largest manifest: the limit that the OCI specification gives registries.
const MAX_MANIFEST: usize = 4 << 20;
/// The largest page of tags: a registry that doesn't serve pages sends 10,000 tags of full length in a third of it.
const MAX_PAGE: usize = 4 << 20;
/// The largest answer of a token server.
const MAX_TOKEN_ANSWER: usize = 128 << 10;
/// One question in all: a request, a token, the request again, redirects. Who asks has others to ask for.
const QUESTION_TIMEOUT: Duration = Duration::from_secs(30);
/// A list of tags in all; it may have many pages.
const LIST_TIMEOUT: Duration = Duration::from_secs(90);

/// The registries of the world, as one process asks them: connections, tokens and limits are shared by all who hold a
/// clone.
#[derive(Clone)]
pub struct Registries(Arc<Inner>);

struct Inner {
    http: Http,
    grants: Grants,
}

impl fmt::Debug for Registries {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registries").finish_non_exhaustive()
    }
}

impl Registries {
    /// Asks registries within these rules. The clock is for what registries say in dates.
    #[must_use]
    pub fn new(rules: AddressRules, clock: Clock) -> Self {
        Self(Arc::new(Inner { http: Http::new(rules, clock), grants: Grants::default() }))
    }

    /// The digest that an image has now: that of its tag (`latest` where none is written), or its own, if the registry has
    /// it. `sha256:` and 64 hexadecimal digits. Costs one HEAD where the registry answers with a digest, else a GET.
    ///
    /// # Errors
    /// As [`RegistryError`] has them; within 30 s at most.
    pub async fn digest(&self, image: &ImageRef, access: &Access) -> Result<String, RegistryError> {
        let question = Question::of(image, access)?;
        let url = question.manifest_url()?;
        let deadline = Instant::now() + QUESTION_TIMEOUT;
        let ask =
            || Ask { method: Method::HEAD, ..question.ask(url.clone(), manifest::ACCEPT, MAX_MANIFEST, deadline) };
        let answer = self.authorized(&question, ask).await?;
        match answer.status {
            StatusCode::OK => {
                if let Some(digest) = announced(&answer) {
                    question.compare(&answer, &digest)?;
                    return Ok(digest);
                }
            }
            // Registries without HEAD.
            StatusCode::METHOD_NOT_ALLOWED | StatusCode::NOT_IMPLEMENTED | StatusCode::BAD_REQUEST => {}
            _ => return Err(question.refusal(&answer)),
        }
        Ok(self.manifest_by(&question, deadline).await?.digest)
    }

    /// An image's manifest: its digest, and what it is of. At most 4 MiB; its SHA-256 is compared with the digest that the
    /// registry announces and with the one that was asked for.
    ///
    /// # Errors
    /// As [`RegistryError`] has them; within 30 s at most.
    pub async fn manifest(&self, image: &ImageRef, access: &Access) -> Result<Manifest, RegistryError> {
        let question = Question::of(image, access)?;
        self.manifest_by(&question, Instant::now() + QUESTION_TIMEOUT).await
    }

    async fn manifest_by(&self, question: &Question<'_>, deadline: Instant) -> Result<Manifest, RegistryError> {
        let url = question.manifest_url()?;
        let ask = || question.ask(url.clone(), manifest::ACCEPT, MAX_MANIFEST, deadline);
        let answer = self.authorized(question, ask).await?;
        if answer.status != StatusCode::OK {
            return Err(question.refusal(&answer));
        }
        let manifest = manifest::read(&answer.body, answer.header(CONTENT_TYPE))
            .map_err(|manifest::NoManifest(what)| RegistryError::Malformed { host: answer.host.clone(), what })?;
        if let Some(expected) = announced(&answer)
            && expected != manifest.digest
        {
            return Err(RegistryError::Digest { host: answer.host, expected, served: manifest.digest });
        }
        question.compare(&answer, &manifest.digest)?;
        Ok(manifest)
    }

    /// The tags of a repository, named as in [`ImageRef`]; at most 10,000. With what was `known` last time, a registry that
    /// can tell sends nothing where nothing changed.
    ///
    /// # Errors
    /// As [`RegistryError`] has them; within 90 s at most.
    pub async fn tags(&self, repository: &str, access: &Access, known: Option<&Known>) -> Result<Tags, RegistryError> {
        let image = ImageRef::new(repository, None, None).map_err(RegistryError::Image)?;
        let question = Question::of(&image, access)?.of_repository();
        let first = question.url("tags/list", &format!("n={}", tags::PAGE))?;
        let deadline = Instant::now() + LIST_TIMEOUT;
        let mut etag = known.and_then(|known| HeaderValue::from_str(&known.etag).ok());
        let mut url = first.clone();
        let mut all: Vec<String> = Vec::new();
        let mut seen: HashSet<String> = HashSet::new();
        let mut fresh = None;
        for page in 0..tags::MAX_PAGES {
            let if_none_match = etag.take();
            let ask = || Ask {
                if_none_match: if_none_match.clone(),
                ..question.ask(url.clone(), "application/json", MAX_PAGE, deadline)
            };
            let answer = self.authorized(&question, ask).await?;
            match answer.status {
                StatusCode::OK => {}
                StatusCode::NOT_MODIFIED if if_none_match.is_some() => return Ok(Tags::Unchanged),
                _ => return Err(question.refusal(&answer)),
            }
            let Some(mut found) = tags::page(&answer.body) else {
                let what = "a list of tags that can't be read".into();
                return Err(RegistryError::Malformed { host: answer.host, what });
            };
            // No list is worth more time than that, and this is no task of its own.
            let cut = found.len() > tags::MAX_TAGS;
            found.truncate(tags::MAX_TAGS);
            let count = found.len();
            let last = found.last().cloned();
            let before = all.len();
            for tag in found {
                let is_tag = ImageRef::new(&image.repository, Some(&tag), None).is_ok();
                if is_tag && seen.insert(tag.clone()) {
                    all.push(tag);
                }
            }
            if cut || all.len() > tags::MAX_TAGS {
                all.truncate(tags::MAX_TAGS);
                return Ok(Tags::List { tags: all, truncated: true, known: None });
            }
            let next = match (answer.header(LINK).and_then(tags::next_query), last) {
                (Some(query), _) => Some(question.url("tags/list", &query)?),
                // A full page without a link: some registries leave the client to see that by itself.
                (None, Some(last)) if count == tags::PAGE && all.len() > before => {
                    let mut url = first.clone();
                    url.query_pairs_mut().append_pair("last", &last);
                    Some(url)
                }
                (None, _) => None,
            };
            if page == 0 && next.is_none() {
                fresh = answer.header(ETAG).map(|etag| Known { etag: etag.to_owned() });
            }
            match next {
                // A registry that goes in circles has no more to say.
                Some(next) if all.len() > before && next != url => url = next,
                Some(_) | None => return Ok(Tags::List { tags: all, truncated: false, known: fresh }),
            }
        }
        Ok(Tags::List { tags: all, truncated: true, known: None })
    }

    /// Asks, and once more with what a 401 asks for. The answer has any other status, or 401 where there is nothing more to
    /// offer.
    async fn authorized<'a>(
        &self,
        question: &Question<'a>,
        ask: impl Fn() -> Ask<'a>,
    ) -> Result<Answer, RegistryError> {
        let key = Key { host: question.host.to_owned(), path: question.path.to_owned(), who: question.access.id() };
        let grant = match question.access.credentials() {
            Some(Credentials::RegistryToken(token)) => Some(Grant::Bearer(token.clone())),
            Some(Credentials::Password { .. } | Credentials::IdentityToken(_)) | None => self.0.grants.get(&key),
        };
        let ask_with = async |grant: Option<&Grant>| {
            self.0.http.ask(Ask { authorization: question.authorization(grant)?, ..ask() }).await
        };
        let answer = ask_with(grant.as_ref()).await?;
        // What a storage asks for to which the registry redirects is not the registry's word: it must not choose the server
        // that gets the registry's password.
        if answer.status != StatusCode::UNAUTHORIZED || answer.elsewhere {
            return Ok(answer);
        }
        self.0.grants.forget(&key);
        let headers = answer.headers.get_all(WWW_AUTHENTICATE);
        let asked_for = challenge::challenge(headers.iter().filter_map(|value| value.to_str().ok()));
        let new = match (asked_for, question.access.credentials()) {
            // It is used as it is, and was.
            (_, Some(Credentials::RegistryToken(_))) => return Ok(answer),
            (Some(Challenge::Bearer { realm, service }), _) => {
                let asked_at = Instant::now();
                let token = self.token(question, &realm, service.as_deref(), ask().deadline).await?;
                self.0.grants.put_token(key.clone(), token.token.clone(), asked_at + token.use_for);
                Grant::Bearer(token.token)
            }
            (Some(Challenge::Basic), Some(Credentials::Password { .. })) if grant != Some(Grant::Password) => {
                self.0.grants.put_password(key.clone());
                Grant::Password
            }
            (Some(Challenge::Basic) | None, _) => return Ok(answer),
        };
        let answer = ask_with(Some(&new)).await?;
        if answer.status == StatusCode::UNAUTHORIZED {
            self.0.grants.forget(&key);
        }
        Ok(answer)
    }

    /// A token for pulling from the question's repository, by Docker's token specification: with the password, if there is
    /// one; by OAuth 2 with an identity token; else the one that everybody gets.
    async fn token(
        &self,
        question: &Question<'_>,
        realm: &str,
        service: Option<&str>,
        deadline: Instant,
    ) -> Result<challenge::Token, RegistryError> {
        let nonsense = || question.malformed("with a token server that has no URL");
        let mut url = Url::parse(realm).map_err(|_| nonsense())?;
        if !url.has_host() {
            return Err(nonsense());
        }
        // What is sent there are passwords.
        if url.scheme() == "http" && !question.access.plain_http() {
            return Err(RegistryError::PlainHttp {
                what: format!("{}, to which {} sends for a token,", http::shown(&url), question.host),
            });
        }
        let scope = format!("repository:{}:pull", question.path);
        let mut parameters = vec![("scope", scope.as_str())];
        parameters.extend(service.map(|service| ("service", service)));
        let mut ask = question.ask(url.clone(), "application/json", MAX_TOKEN_ANSWER, deadline);
        match question.access.credentials() {
            Some(Credentials::IdentityToken(token)) => {
                parameters.extend([
                    ("grant_type", "refresh_token"),
                    ("refresh_token", token.expose()),
                    ("client_id", "tranche"),
                ]);
                ask.method = Method::POST;
                ask.form =
                    Url::parse_with_params("form:", &parameters).ok().and_then(|url| url.query().map(Into::into));
            }
            Some(Credentials::Password { .. }) => {
                ask.authorization = question.authorization(Some(&Grant::Password))?;
                url.query_pairs_mut().extend_pairs(&parameters);
                ask.url = url;
            }
            Some(Credentials::RegistryToken(_)) | None => {
                url.query_pairs_mut().extend_pairs(&parameters);
                ask.url = url;
            }
        }
        let answer = self.0.http.ask(ask).await?;
        match answer.status {
            StatusCode::OK => {}
            // Whatever it says no with, it is no token for these credentials.
            status if status.is_client_error() && status != StatusCode::REQUEST_TIMEOUT => {
                return Err(question.unauthorized(&answer));
            }
            _ => return Err(question.refusal(&answer)),
        }
        challenge::token(&answer.body)
            .ok_or_else(|| RegistryError::Malformed { host: answer.host, what: "without a token".into() })
    }
}
