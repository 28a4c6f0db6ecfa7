//! What a registry asks for when it says 401, and what a token server answers. Pure.

use std::time::Duration;

use http_auth::ChallengeParser;
use serde::Deserialize;

use super::secret::Secret;

/// How long a token is good where the server doesn't say: Docker's token specification.
const DEFAULT_LIFE: Duration = Duration::from_secs(60);
/// No token is kept for longer, whatever is said of it: somebody may have taken the right away meanwhile.
const LONGEST_LIFE: Duration = Duration::from_secs(3600);
/// A token isn't used in its last moments, in which it could end on its way: a quarter of its life, at most this.
const MARGIN: Duration = Duration::from_secs(30);
/// The largest tokens seen (of registries that put a whole list of rights into them) have some ten thousand characters.
const MAX_TOKEN: usize = 64 << 10;

/// By what a registry wants to be asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Challenge {
    /// A token from elsewhere.
    Bearer {
        /// URL of the token server.
        realm: String,
        /// What the token is for, in that server's words.
        service: Option<String>,
    },
    /// User and password.
    Basic,
}

/// The strongest of the challenges in the `WWW-Authenticate` headers that this client can meet: a token before a password.
/// What isn't a challenge by the grammar is passed over.
pub(super) fn challenge<'a>(headers: impl Iterator<Item = &'a str>) -> Option<Challenge> {
    let mut found = None;
    for header in headers {
        for challenge in ChallengeParser::new(header) {
            let Ok(challenge) = challenge else { break };
            let parameter = |name: &str| {
                let (_, value) = challenge.params.iter().find(|(key, _)| key.eq_ignore_ascii_case(name))?;
                Some(value.to_unescaped())
            };
            if challenge.scheme.eq_ignore_ascii_case("bearer")
                && let Some(realm) = parameter("realm").filter(|realm| !realm.is_empty())
            {
                return Some(Challenge::Bearer { realm, service: parameter("service") });
            }
            if challenge.scheme.eq_ignore_ascii_case("basic") {
                found = Some(Challenge::Basic);
            }
        }
    }
    found
}

/// A token and for how long, from when it was asked for, it is to be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Token {
    pub(super) token: Secret,
    pub(super) use_for: Duration,
}

#[derive(Deserialize)]
struct Answer {
    token: Option<String>,
    access_token: Option<String>,
    expires_in: Option<serde_json::Number>,
}

/// What a token server answered; absent where there is no token in it that could be sent.
pub(super) fn token(body: &[u8]) -> Option<Token> {
    let answer: Answer = serde_json::from_slice(body).ok()?;
    let filled = |token: &String| !token.is_empty();
    let token = answer.token.filter(filled).or(answer.access_token.filter(filled))?;
    if token.len() > MAX_TOKEN || !token.bytes().all(|b| b.is_ascii_graphic()) {
        return None;
    }
    let said = answer.expires_in.and_then(|seconds| seconds.as_u64()).map(Duration::from_secs);
    let life = said.unwrap_or(DEFAULT_LIFE).min(LONGEST_LIFE);
    Some(Token { token: Secret::new(token), use_for: life - MARGIN.min(life / 4) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn challenges() {
        let bearer = |realm: &str, service: Option<&str>| {
            Some(Challenge::Bearer { realm: realm.into(), service: service.map(Into::into) })
        };
        for (headers, expected) in [
            (
                &[
                    r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:a/b:pull""#,
                ][..],
                bearer("https://auth.docker.io/token", Some("registry.docker.io")),
            ),
            (&[r#"bearer Realm=https"#], bearer("https", None)),
            (
                &[r#"Bearer realm="https://h/token?a=b\"c",error="invalid_token""#],
                bearer("https://h/token?a=b\"c", None),
            ),
            (&[r#"Basic realm="x", charset="UTF-8""#], Some(Challenge::Basic)),
            (&["BASIC realm=x"], Some(Challenge::Basic)),
            (&[r#"Basic realm="x", Bearer realm="https://h/t",service="s""#], bearer("https://h/t", Some("s"))),
            (&[r#"Basic realm="x""#, r#"Bearer realm="https://h/t""#], bearer("https://h/t", None)),
            (&[r#"Bearer service="s""#], None),
            (&[r#"Bearer realm="""#], None),
            (&["Negotiate"], None),
            (&["\"\"\"", r#"Basic realm="x""#], Some(Challenge::Basic)),
            (&["", ",,,", "Bearer realm=\"unfinished"], None),
            (&[], None),
        ] {
            assert_eq!(challenge(headers.iter().copied()), expected, "{headers:?}");
        }
    }

    #[test]
    fn tokens() {
        for (body, expected) in [
            (r#"{"token":"t"}"#, Some(("t", 45))),
            (r#"{"access_token":"t"}"#, Some(("t", 45))),
            (r#"{"token":"a","access_token":"b","expires_in":300,"issued_at":"x"}"#, Some(("a", 270))),
            (r#"{"token":"","access_token":"b","expires_in":4}"#, Some(("b", 3))),
            (r#"{"token":"t","expires_in":0}"#, Some(("t", 0))),
            (r#"{"token":"t","expires_in":-5}"#, Some(("t", 45))),
            (r#"{"token":"t","expires_in":86400}"#, Some(("t", 3570))),
            (r#"{"token":"t\nX-Header: 1"}"#, None),
            (r#"{"token":""}"#, None),
            (r#"{"token":5}"#, None),
            ("{}", None),
            ("[]", None),
            ("", None),
        ] {
            let expected = expected.map(|(t, s)| Token { token: Secret::new(t), use_for: Duration::from_secs(s) });
            assert_eq!(token(body.as_bytes()), expected, "{body}");
        }
    }
    proptest::proptest! {
        #[test]
        fn nothing_that_is_sent_breaks_it(text in r#"(Bearer|Basic|,| |=|"|\\|realm|[\x20-\x7e]){0,40}"#, body in ".{0,80}") {
            let _ = challenge([text.as_str()].into_iter());
            let _ = token(body.as_bytes());
        }
    }
}
