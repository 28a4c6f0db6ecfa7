//! One question to a registry: its URLs, by what it is authorized, and what an answer says that is not the one hoped for.
//! Pure.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reqwest::header::HeaderValue;
use reqwest::{Method, StatusCode, Url};
use serde::Deserialize;
use tokio::time::Instant;

use super::access::Access;
use super::credentials::Credentials;
use super::error::RegistryError;
use super::grants::Grant;
use super::http::{Answer, Ask};
use crate::api::image::{DEFAULT_REGISTRY, ImageError, ImageRef};

/// Where Docker Hub's API is.
const DOCKER_HUB: &str = "registry-1.docker.io";
/// The header by which a registry names what it serves.
const CONTENT_DIGEST: &str = "docker-content-digest";

/// What is asked for, and how.
pub(super) struct Question<'a> {
    image: &'a ImageRef,
    pub(super) access: &'a Access,
    /// As in the image's name.
    pub(super) host: &'a str,
    /// The repository within the registry.
    pub(super) path: &'a str,
    /// The image's tag doesn't matter.
    repository_only: bool,
}

impl<'a> Question<'a> {
    pub(super) fn of(image: &'a ImageRef, access: &'a Access) -> Result<Self, RegistryError> {
        // The parts are public: who made them up needn't have parsed them. What comes out is what a URL is made of.
        let checked = ImageRef::new(&image.repository, image.tag.as_deref(), image.digest.as_deref());
        let is_canonical = checked.map_err(RegistryError::Image)?.repository == image.repository;
        match image.repository.split_once('/') {
            Some((host, path)) if is_canonical => Ok(Self { image, access, host, path, repository_only: false }),
            Some(_) | None => Err(RegistryError::Image(ImageError::Name(image.repository.clone()))),
        }
    }

    /// The same of the repository as a whole.
    pub(super) fn of_repository(self) -> Self {
        Self { repository_only: true, ..self }
    }

    pub(super) fn ask(&self, url: Url, accept: &'static str, limit: usize, deadline: Instant) -> Ask<'a> {
        Ask {
            method: Method::GET,
            url,
            access: self.access,
            accept,
            authorization: None,
            if_none_match: None,
            form: None,
            limit,
            deadline,
        }
    }

    pub(super) fn url(&self, what: &str, query: &str) -> Result<Url, RegistryError> {
        let scheme = if self.access.plain_http() { "http" } else { "https" };
        let host = if self.host == DEFAULT_REGISTRY { DOCKER_HUB } else { self.host };
        let mut url = Url::parse(&format!("{scheme}://{host}/v2/{}/{what}", self.path))
            .map_err(|_| self.malformed("nothing: its name can't be part of a URL"))?;
        url.set_query(Some(query).filter(|query| !query.is_empty()));
        Ok(url)
    }

    /// The digest decides, as for a container engine; else the tag.
    pub(super) fn manifest_url(&self) -> Result<Url, RegistryError> {
        let reference = self.image.digest.as_deref().or(self.image.tag.as_deref()).unwrap_or("latest");
        self.url(&format!("manifests/{reference}"), "")
    }

    pub(super) fn authorization(&self, grant: Option<&Grant>) -> Result<Option<HeaderValue>, RegistryError> {
        let value = match (grant, self.access.credentials()) {
            (Some(Grant::Bearer(token)), _) => format!("Bearer {}", token.expose()),
            (Some(Grant::Password), Some(Credentials::Password { username, password })) => {
                let pair = format!("{username}:{}", password.expose());
                format!("Basic {}", STANDARD.encode(pair))
            }
            (Some(Grant::Password) | None, _) => return Ok(None),
        };
        let value = HeaderValue::from_str(&value);
        value.map(Some).map_err(|_| self.malformed("nothing: the token for it has characters that can't be sent"))
    }

    /// Compares a digest with the one that was asked for, if one was.
    pub(super) fn compare(&self, answer: &Answer, digest: &str) -> Result<(), RegistryError> {
        match &self.image.digest {
            Some(expected) if expected != digest => Err(RegistryError::Digest {
                host: answer.host.clone(),
                expected: expected.clone(),
                served: digest.to_owned(),
            }),
            Some(_) | None => Ok(()),
        }
    }

    /// What an answer says that is not the one hoped for.
    pub(super) fn refusal(&self, answer: &Answer) -> RegistryError {
        let host = answer.host.clone();
        match answer.status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => self.unauthorized(answer),
            StatusCode::NOT_FOUND => RegistryError::NoSuchImage { image: self.what() },
            StatusCode::REQUEST_TIMEOUT => RegistryError::Server { host, status: answer.status.as_u16() },
            status if status.is_server_error() => RegistryError::Server { host, status: status.as_u16() },
            status => RegistryError::Malformed { host, what: format!("with status {}", status.as_u16()) },
        }
    }

    pub(super) fn unauthorized(&self, answer: &Answer) -> RegistryError {
        RegistryError::Unauthorized {
            host: answer.host.clone(),
            image: self.what(),
            had_credentials: self.access.credentials().is_some(),
            code: error_code(&answer.body),
        }
    }

    pub(super) fn malformed(&self, what: &str) -> RegistryError {
        RegistryError::Malformed { host: self.host.to_owned(), what: what.to_owned() }
    }

    fn what(&self) -> String {
        if self.repository_only { self.image.repository.clone() } else { self.image.to_string() }
    }
}

/// The digest in an answer's header, where it is one of the kind that images are named by.
pub(super) fn announced(answer: &Answer) -> Option<String> {
    let digest = answer.header(CONTENT_DIGEST)?;
    ImageRef::new("digest", None, Some(digest)).ok()?.digest
}

/// The code of the first error in an answer. Its message isn't shown: it may be anything, also what was sent.
fn error_code(body: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    struct Body {
        errors: Vec<One>,
    }
    #[derive(Deserialize)]
    struct One {
        code: String,
    }
    let code = serde_json::from_slice::<Body>(body).ok()?.errors.into_iter().next()?.code;
    let is_code = code.len() <= 40 && code.bytes().all(|b| b.is_ascii_uppercase() || b == b'_');
    is_code.then_some(code)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(text: &str) -> ImageRef {
        text.parse().expect(text)
    }

    #[test]
    fn where_images_are_asked_for() {
        let digest = format!("sha256:{}", "0".repeat(64));
        let (open, plain) = (Access::default(), Access::default().with_plain_http(true));
        for (text, access, url) in [
            ("redis", &open, "https://registry-1.docker.io/v2/library/redis/manifests/latest".to_owned()),
            ("acme/app:v1", &open, "https://registry-1.docker.io/v2/acme/app/manifests/v1".into()),
            ("r.example:5000/a/b/c:v1", &plain, "http://r.example:5000/v2/a/b/c/manifests/v1".into()),
            (&format!("ghcr.io/a/b:v1@{digest}"), &open, format!("https://ghcr.io/v2/a/b/manifests/{digest}")),
        ] {
            let image = image(text);
            let question = Question::of(&image, access).unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!(question.manifest_url().expect(text).as_str(), url);
        }
        let redis = image("redis");
        let question = Question::of(&redis, &open).expect("an image");
        let url = question.url("tags/list", "n=5&last=a").expect("a URL");
        assert_eq!(url.as_str(), "https://registry-1.docker.io/v2/library/redis/tags/list?n=5&last=a");
    }

    #[test]
    fn names_that_nobody_parsed() {
        for (repository, tag) in [
            ("r.example/../../admin", None),
            ("r.example/a?x=y", None),
            ("me@r.example/a", None),
            ("redis", None),
            ("r.example/a", Some("../../x")),
            ("r.example/a", Some("v1?x=y")),
        ] {
            let image = ImageRef { repository: repository.into(), tag: tag.map(Into::into), digest: None };
            assert!(matches!(Question::of(&image, &Access::default()), Err(RegistryError::Image(_))), "{image}");
        }
    }

    #[test]
    fn codes() {
        for (body, code) in [
            (r#"{"errors":[{"code":"DENIED","message":"x"}]}"#, Some("DENIED")),
            (r#"{"errors":[{"code":"hunter2"}]}"#, None),
            (r#"{"errors":[]}"#, None),
            ("<html>", None),
        ] {
            assert_eq!(error_code(body.as_bytes()).as_deref(), code, "{body}");
        }
    }
}
