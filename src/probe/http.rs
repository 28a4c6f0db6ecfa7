//! The `http` check: a request to a device, and what its answer says.
//!
//! Redirects are followed on the same host alone, and never from https to http; where a redirect's status is expected, it
//! isn't followed at all. Of a body the first 64 KiB are looked at, and nothing where nothing is asked of it.

use bytes::Bytes;
use http::header::LOCATION;
use http::{HeaderMap, Method, StatusCode};
use ipnet::IpNet;
use regex::bytes::{Regex, RegexBuilder};
use reqwest::Url;
use tokio::time::Instant;

use super::exchange::{self, Answer, Ask};
use super::guard::{Guard, Reach};
use super::headers::{self, HeaderText};
use super::invalid::InvalidCheck;
use super::statuses::Statuses;
use super::template::{Host, RenderError, Template, Values};
use super::tls::{Tls, TlsSpec};
use super::verdict::{Doubt, Failure, Outcome};

/// How much of a body is looked at: health endpoints answer with less than a kilobyte.
pub const MAX_BODY: usize = 64 << 10;
/// On the same host: to https, to a path with a slash, to a login that was passed.
const MAX_REDIRECTS: usize = 3;
/// The longest pattern or text; as in the API.
const MAX_PATTERN: usize = 1024;
/// What a compiled pattern may take. A thousand policies with the largest are 256 MB, and none has a pattern like that.
const MAX_REGEX: usize = 256 << 10;

/// An `http` check as a policy has it.
#[derive(Clone, Debug, Default)]
pub struct HttpSpec {
    /// With placeholders; see [`Template`].
    pub url: String,
    /// GET where it is empty.
    pub method: String,
    /// Sent along.
    pub headers: Vec<(String, HeaderText)>,
    /// Statuses or ranges. Empty: 200.
    pub expected_status: Vec<String>,
    /// What the body must contain.
    pub body_contains: Option<String>,
    /// A regular expression over bytes: `(?i)` is of ASCII, `.` is a byte.
    pub body_matches: Option<String>,
    /// For https.
    pub tls: TlsSpec,
}

/// An `http` check that can work.
#[derive(Clone, Debug)]
pub struct HttpCheck {
    url: Template,
    method: Method,
    headers: HeaderMap,
    expected: Statuses,
    contains: Option<Box<str>>,
    matches: Option<Regex>,
    tls: Tls,
}

impl HttpCheck {
    /// Reads it.
    ///
    /// # Errors
    /// What is wrong with it, whatever the device.
    pub fn parse(spec: &HttpSpec) -> Result<Self, InvalidCheck> {
        let HttpSpec { url, method, headers, expected_status, body_contains, body_matches, tls } = spec;
        let method = match method.as_str() {
            "" | "GET" => Method::GET,
            "HEAD" => Method::HEAD,
            "OPTIONS" => Method::OPTIONS,
            "POST" => Method::POST,
            "PUT" => Method::PUT,
            other => return Err(InvalidCheck::Method(other.chars().take(20).collect())),
        };
        let expected = match expected_status.as_slice() {
            [] => Statuses::default(),
            texts => Statuses::parse(texts).map_err(InvalidCheck::Statuses)?,
        };
        let too_long = |text: &String| text.is_empty() || text.len() > MAX_PATTERN;
        if body_contains.iter().chain(body_matches).any(too_long) {
            return Err(InvalidCheck::Body("bodyContains and bodyMatches must have from 1 to 1024 bytes"));
        }
        if method == Method::HEAD && (body_contains.is_some() || body_matches.is_some()) {
            return Err(InvalidCheck::Body("an answer to HEAD has no body that could be looked at"));
        }
        Ok(Self {
            url: Template::parse(url).map_err(InvalidCheck::Url)?,
            method,
            headers: headers::parse(headers)?,
            expected,
            contains: body_contains.as_deref().map(Into::into),
            matches: body_matches.as_deref().map(regex).transpose()?,
            tls: Tls::parse(tls).map_err(InvalidCheck::Tls)?,
        })
    }

    pub(super) fn host(&self, values: &Values) -> Result<Host, RenderError> {
        self.url.host(values)
    }

    /// Looks at one device.
    pub async fn look(&self, guard: &Guard, values: &Values, allowed: &[IpNet], deadline: Instant) -> Outcome {
        let reach = Reach::Device { own: values.device_ip, allowed };
        match self.ask(guard, values, reach, deadline).await {
            Ok(answer) => self.judge(&answer),
            Err(outcome) => outcome,
        }
    }

    async fn ask(
        &self,
        guard: &Guard,
        values: &Values,
        reach: Reach<'_>,
        deadline: Instant,
    ) -> Result<Answer, Outcome> {
        let mut url = self.url.render(values).map_err(|error| no_target(&error))?;
        let mut plain = None;
        let limit = if self.contains.is_some() || self.matches.is_some() { MAX_BODY } else { 0 };
        for _ in 0..=MAX_REDIRECTS {
            let headers = plain.as_ref().unwrap_or(&self.headers);
            let (method, tls, body) = (&self.method, &self.tls, &Bytes::new());
            let ask = Ask { method, url: &url, headers, body, tls, reach, limit, deadline };
            let answer = exchange::ask(guard, &ask).await?;
            let follows = self.method == Method::GET || self.method == Method::HEAD;
            if !follows || !is_redirect(answer.status) || self.expected.contains(answer.status.as_u16()) {
                return Ok(answer);
            }
            let next = redirected(&url, &answer)?;
            if url.origin() != next.origin() {
                plain = Some(headers::without_secrets(&self.headers));
            }
            url = next;
        }
        Err(Outcome::failed(Failure::Redirect, format!("it redirects more than {MAX_REDIRECTS} times")))
    }

    fn judge(&self, answer: &Answer) -> Outcome {
        let status = answer.status.as_u16();
        if !self.expected.contains(status) {
            return Outcome::failed(Failure::Status, format!("status {status}, expected {}", self.expected));
        }
        let within = if answer.cut { " in its first 64 KiB" } else { "" };
        let contained = |text: &str| memmem(&answer.body, text.as_bytes());
        if self.contains.as_deref().is_some_and(|text| !contained(text)) {
            return Outcome::failed(Failure::Body, format!("the body doesn't contain what it must{within}"));
        }
        if self.matches.as_ref().is_some_and(|regex| !regex.is_match(&answer.body)) {
            return Outcome::failed(Failure::Body, format!("the body doesn't match what it must{within}"));
        }
        Outcome::Passed
    }
}

/// What a template that makes no target says.
pub(super) fn no_target(error: &RenderError) -> Outcome {
    let doubt = match error {
        RenderError::NoAddress => Doubt::NoAddress,
        RenderError::NotALabel(_) | RenderError::Dots | RenderError::Url => Doubt::NoTarget,
    };
    Outcome::unknown(doubt, error.to_string())
}

fn regex(pattern: &str) -> Result<Regex, InvalidCheck> {
    let built = RegexBuilder::new(pattern).unicode(false).size_limit(MAX_REGEX).dfa_size_limit(MAX_REGEX).build();
    built.map_err(|error| InvalidCheck::Regex(error.to_string().chars().take(300).collect()))
}

fn memmem(body: &[u8], text: &[u8]) -> bool {
    body.windows(text.len()).any(|window| window == text)
}

fn is_redirect(status: StatusCode) -> bool {
    matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308)
}

/// Where a redirect leads.
fn redirected(from: &Url, answer: &Answer) -> Result<Url, Outcome> {
    let failed = |what: &str| Outcome::failed(Failure::Redirect, format!("status {}, {what}", answer.status.as_u16()));
    let location = answer.headers.get(LOCATION).and_then(|location| location.to_str().ok());
    let Some(next) = location.and_then(|location| from.join(location).ok()) else {
        return Err(failed("a redirect to nowhere"));
    };
    let to_plain = from.scheme() == "https" && next.scheme() == "http";
    if to_plain
        || !matches!(next.scheme(), "http" | "https")
        || !next.username().is_empty()
        || next.password().is_some()
    {
        return Err(failed("a redirect to what is not asked for"));
    }
    if next.host_str() != from.host_str() {
        return Err(failed("a redirect to another host, which is not followed"));
    }
    Ok(next)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::Secret;

    fn spec() -> HttpSpec {
        HttpSpec { url: "http://{device_ip}/health".into(), ..HttpSpec::default() }
    }

    fn answer(status: u16, body: &[u8]) -> Answer {
        let status = StatusCode::from_u16(status).expect("a status");
        Answer { status, headers: HeaderMap::new(), body: body.to_vec(), cut: false }
    }

    #[test]
    fn judged() {
        let some = |text: &str| Some(text.to_owned());
        for (what, spec, status, body, expected) in [
            ("by default", spec(), 200, "", "Passed"),
            ("by default", spec(), 204, "", "Status"),
            ("a range", HttpSpec { expected_status: vec!["200-299".into()], ..spec() }, 204, "", "Passed"),
            ("contains", HttpSpec { body_contains: some("ok"), ..spec() }, 200, "it is ok.", "Passed"),
            ("contains", HttpSpec { body_contains: some("ok"), ..spec() }, 200, "o k", "Body"),
            ("contains", HttpSpec { body_contains: some("ok"), ..spec() }, 500, "ok", "Status"),
            ("contains", HttpSpec { body_contains: some("ok"), ..spec() }, 200, "", "Body"),
            (
                "matches",
                HttpSpec { body_matches: some(r#"(?i)"status":\s*"UP""#), ..spec() },
                200,
                r#"{"status": "up"}"#,
                "Passed",
            ),
            ("matches", HttpSpec { body_matches: some("^ok$"), ..spec() }, 200, "not ok", "Body"),
            ("both", HttpSpec { body_contains: some("a"), body_matches: some("b"), ..spec() }, 200, "ab", "Passed"),
            ("both", HttpSpec { body_contains: some("a"), body_matches: some("b"), ..spec() }, 200, "a", "Body"),
        ] {
            let check = HttpCheck::parse(&spec).expect(what);
            assert_eq!(check.judge(&answer(status, body.as_bytes())).label(), expected, "{what} {status} {body}");
        }
        let check = HttpCheck::parse(&HttpSpec { body_matches: some("ok"), ..spec() }).expect("good");
        assert_eq!(check.judge(&answer(200, b"\xff\xfeok")), Outcome::Passed, "not UTF-8");
    }

    #[test]
    fn refused() {
        let some = |text: &str| Some(text.to_owned());
        for (what, spec, expected) in [
            ("url", HttpSpec { url: "http://{ip}/".into(), ..spec() }, "the url is wrong: {ip} is no placeholder"),
            ("method", HttpSpec { method: "CONNECT".into(), ..spec() }, "\"CONNECT\" is no method"),
            ("status", HttpSpec { expected_status: vec!["2xx".into()], ..spec() }, "expectedStatus is wrong: \"2xx\""),
            ("regex", HttpSpec { body_matches: some("("), ..spec() }, "bodyMatches is no regular expression"),
            ("large regex", HttpSpec { body_matches: some("(a{1000}){1000}"), ..spec() }, "bodyMatches is no regular"),
            ("empty", HttpSpec { body_contains: some(""), ..spec() }, "bodyContains and bodyMatches must have"),
            ("long", HttpSpec { body_contains: Some("x".repeat(1025)), ..spec() }, "bodyContains and bodyMatches"),
            ("head", HttpSpec { method: "HEAD".into(), body_contains: some("x"), ..spec() }, "an answer to HEAD"),
            (
                "tls",
                HttpSpec { tls: TlsSpec { ca_pem: Some(Vec::new()), ..TlsSpec::default() }, ..spec() },
                "the TLS options are wrong: its authorities",
            ),
        ] {
            let sentence = HttpCheck::parse(&spec).expect_err(what).sentence();
            assert!(sentence.starts_with(expected), "{what}: {sentence}");
        }
    }

    #[test]
    fn secrets_are_not_shown() {
        let headers = vec![("Authorization".to_owned(), HeaderText::Secret(Secret::new("hunter2")))];
        let spec = HttpSpec { headers, ..spec() };
        let check = HttpCheck::parse(&spec).expect("good");
        assert!(!format!("{spec:?} {check:?}").contains("hunter2"));
    }

    #[test]
    fn redirects() {
        for (from, location, expected) in [
            ("http://10.0.0.1/a", "/b", Ok("http://10.0.0.1/b")),
            ("http://10.0.0.1/a", "https://10.0.0.1/b", Ok("https://10.0.0.1/b")),
            ("http://10.0.0.1/a", "http://10.0.0.1:81/b", Ok("http://10.0.0.1:81/b")),
            ("https://10.0.0.1/a", "http://10.0.0.1/b", Err(())),
            ("http://10.0.0.1/a", "http://10.0.0.2/b", Err(())),
            ("http://10.0.0.1/a", "//169.254.169.254/latest", Err(())),
            ("http://10.0.0.1/a", "http://me@10.0.0.1/", Err(())),
            ("http://10.0.0.1/a", "file:///etc/passwd", Err(())),
            ("http://10.0.0.1/a", "", Ok("http://10.0.0.1/a")),
        ] {
            let mut answer = answer(302, b"");
            answer.headers.insert(LOCATION, location.parse().expect(location));
            let next = redirected(&Url::parse(from).expect(from), &answer).map(String::from);
            assert_eq!(next.as_deref().map_err(|_| ()), expected, "{from} {location}");
        }
        assert!(redirected(&Url::parse("http://a/").expect("one"), &answer(302, b"")).is_err());
    }
}
