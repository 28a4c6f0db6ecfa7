//! Which credentials of a `kubernetes.io/dockerconfigjson` Secret are for a repository. Pure.
//!
//! The rules are those of `imagePullSecrets`: a key of `auths` names a host, with or without scheme, port and path; `*`
//! stands for any run of characters within one part of the host's name; of several that fit, the one with the longest path
//! is taken, and of those the one with the fewest `*`. A path ends at a whole part: `host/team` is not for `host/teams/app`.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};
use serde::Deserialize;

use super::secret::Secret;

/// What the API server lets a Secret hold at most.
const MAX_CONFIG: usize = 1 << 20;
/// How people write it, with padding or without.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);
/// Docker's way to say that the password is an identity token.
const TOKEN_USER: &str = "<token>";

/// By what a registry knows somebody. Never shows its secrets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Credentials {
    /// User and password, or a token in the place of a password.
    Password {
        /// User.
        username: String,
        /// Password.
        password: Secret,
    },
    /// A refresh token, which is exchanged for a bearer token (Azure's registries give those).
    IdentityToken(Secret),
    /// A bearer token that is used as it is.
    RegistryToken(Secret),
}

/// Why a Secret's content can't be used. Never shows any of it but the names of registries.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CredentialsError {
    /// Too large.
    #[error("the .dockerconfigjson has more than {MAX_CONFIG} bytes")]
    TooLarge,
    /// Not JSON, or not of that shape.
    #[error(
        "the .dockerconfigjson can't be read (line {line}, column {column}): it must be JSON such as {{\"auths\": {{\"registry.example.com\": {{\"username\": …, \"password\": …}}}}}}"
    )]
    Shape {
        /// Where.
        line: usize,
        /// Where.
        column: usize,
    },
    /// `auth` is not what it should be.
    #[error("the entry for {registry} in .dockerconfigjson has an `auth` that is not base64 of user:password")]
    Auth {
        /// The host of the entry.
        registry: String,
    },
}

#[derive(Deserialize)]
struct Config {
    #[serde(default)]
    auths: BTreeMap<String, Option<Entry>>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Entry {
    auth: Option<String>,
    username: Option<String>,
    password: Option<String>,
    identitytoken: Option<String>,
    registrytoken: Option<String>,
}

/// The credentials for a repository (canonical, as in [`crate::api::image::ImageRef`]) or for a host alone; none where no
/// entry fits, or the one that does is empty (as those of credential helpers are).
///
/// # Errors
/// When the content is not of the Secret type's shape, or the entry that fits can't be read. Other entries may be broken.
pub fn credentials_for(dockerconfigjson: &[u8], repository: &str) -> Result<Option<Credentials>, CredentialsError> {
    if dockerconfigjson.len() > MAX_CONFIG {
        return Err(CredentialsError::TooLarge);
    }
    // The parser's own words would quote what it met, and that may be a password.
    let config: Config = serde_json::from_slice(dockerconfigjson)
        .map_err(|error| CredentialsError::Shape { line: error.line(), column: error.column() })?;
    let (host, path) = repository.split_once('/').unwrap_or((repository, ""));
    let best = config
        .auths
        .iter()
        .filter_map(|(key, entry)| {
            let key = Key::parse(key);
            key.fits(host, path).then_some((key.rank(), key, entry.as_ref()?))
        })
        .max_by_key(|(rank, ..)| *rank);
    match best {
        Some((_, key, entry)) => entry.read(&key.host),
        None => Ok(None),
    }
}

/// What a key of `auths` says.
struct Key {
    host: String,
    path: String,
}

impl Key {
    fn parse(key: &str) -> Self {
        let key = key.strip_prefix("https://").or_else(|| key.strip_prefix("http://")).unwrap_or(key);
        let (host, path) = key.split_once('/').unwrap_or((key, ""));
        let path = path.trim_matches('/');
        // The API's version is no part of a repository's name: https://index.docker.io/v1/ is how Docker writes its own.
        let path = match path.split_once('/') {
            Some(("v1" | "v2", rest)) => rest,
            None if path == "v1" || path == "v2" => "",
            Some(_) | None => path,
        };
        // What is before an @ would be a password.
        let host = host.rsplit_once('@').map_or(host, |(_, host)| host).to_ascii_lowercase();
        let host = match host.as_str() {
            "index.docker.io" | "registry-1.docker.io" => "docker.io".into(),
            _ => host,
        };
        Self { host, path: path.into() }
    }

    fn fits(&self, host: &str, path: &str) -> bool {
        let within = path.strip_prefix(self.path.as_str());
        hosts_match(&self.host, host)
            && (self.path.is_empty() || within.is_some_and(|rest| rest.is_empty() || rest.starts_with('/')))
    }

    fn rank(&self) -> (usize, std::cmp::Reverse<usize>) {
        (self.path.len(), std::cmp::Reverse(self.host.matches('*').count()))
    }
}

/// Part by part, so that `*.example.com` is not for `a.b.example.com`; ports must be the same.
fn hosts_match(pattern: &str, host: &str) -> bool {
    let split =
        |text: &str| text.rsplit_once(':').map_or((text.to_owned(), None), |(h, p)| (h.into(), Some(p.to_owned())));
    let ((pattern, pattern_port), (host, port)) = (split(pattern), split(host));
    let parts = |text: &str| text.split('.').map(str::to_owned).collect::<Vec<_>>();
    let (pattern, host) = (parts(&pattern), parts(&host));
    pattern_port == port
        && pattern.len() == host.len()
        && pattern.iter().zip(&host).all(|(pattern, part)| glob(pattern, part))
}

/// `*` for any run of characters.
fn glob(pattern: &str, text: &str) -> bool {
    let Some((first, rest)) = pattern.split_once('*') else { return pattern == text };
    let Some(mut text) = text.strip_prefix(first) else { return false };
    let mut pieces: Vec<&str> = rest.split('*').collect();
    let last = pieces.pop().unwrap_or_default();
    for piece in pieces {
        let Some(at) = text.find(piece) else { return false };
        text = &text[at + piece.len()..];
    }
    text.ends_with(last)
}

impl Entry {
    fn read(&self, registry: &str) -> Result<Option<Credentials>, CredentialsError> {
        let given = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
        if let Some(token) = given(&self.identitytoken) {
            return Ok(Some(Credentials::IdentityToken(Secret::new(token))));
        }
        if let Some(token) = given(&self.registrytoken) {
            return Ok(Some(Credentials::RegistryToken(Secret::new(token))));
        }
        let pair = match given(&self.auth) {
            Some(auth) => Some(decode(&auth).ok_or_else(|| CredentialsError::Auth { registry: registry.into() })?),
            None => given(&self.username).map(|user| (user, self.password.clone().unwrap_or_default())),
        };
        Ok(pair.map(|(username, password)| match username.as_str() {
            TOKEN_USER => Credentials::IdentityToken(Secret::new(password)),
            _ => Credentials::Password { username, password: Secret::new(password) },
        }))
    }
}

/// User and password of an `auth`. Docker itself pads it with zeros, and shells leave a line's end.
fn decode(auth: &str) -> Option<(String, String)> {
    let bytes = BASE64.decode(auth.trim()).ok()?;
    let text = String::from_utf8(bytes).ok()?;
    let (user, password) = text.split_once(':')?;
    (!user.is_empty()).then(|| (user.into(), password.trim_end_matches(['\0', '\n', '\r']).into()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn config(auths: &serde_json::Value) -> Vec<u8> {
        serde_json::to_vec(&json!({ "auths": auths })).expect("JSON")
    }

    /// The user that a repository is asked for as.
    fn user(keys: &[&str], repository: &str) -> Option<String> {
        let auths: serde_json::Map<_, _> =
            keys.iter().map(|key| ((*key).to_owned(), json!({"username": key, "password": "p"}))).collect();
        match credentials_for(&config(&auths.into()), repository).expect("readable")? {
            Credentials::Password { username, .. } => Some(username),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn whose_entry() {
        for (keys, repository, key) in [
            (&["ghcr.io"][..], "ghcr.io/acme/app", Some("ghcr.io")),
            (&["ghcr.io"], "ghcr.io", Some("ghcr.io")),
            (&["https://ghcr.io"], "ghcr.io/acme/app", Some("https://ghcr.io")),
            (&["http://ghcr.io/v2/"], "ghcr.io/acme/app", Some("http://ghcr.io/v2/")),
            (&["GHCR.io"], "ghcr.io/acme/app", Some("GHCR.io")),
            (&["quay.io"], "ghcr.io/acme/app", None),
            (&["evil-ghcr.io"], "ghcr.io/acme/app", None),
            (&["ghcr.io.evil.example"], "ghcr.io/acme/app", None),
            (&["https://index.docker.io/v1/"], "docker.io/acme/app", Some("https://index.docker.io/v1/")),
            (&["index.docker.io"], "docker.io/library/redis", Some("index.docker.io")),
            (&["docker.io"], "docker.io/acme/app", Some("docker.io")),
            (&["registry-1.docker.io"], "docker.io/acme/app", Some("registry-1.docker.io")),
            (&["docker.io/acme"], "docker.io/other/app", None),
            (&["r.example:5000"], "r.example:5000/app", Some("r.example:5000")),
            (&["r.example"], "r.example:5000/app", None),
            (&["r.example:5000"], "r.example/app", None),
            (&["r.example", "r.example/team", "r.example/team/app"], "r.example/team/app", Some("r.example/team/app")),
            (&["r.example", "r.example/team", "r.example/team/app"], "r.example/team/b", Some("r.example/team")),
            (&["r.example", "r.example/team"], "r.example/teams/b", Some("r.example")),
            (&["r.example/team"], "r.example", None),
            (&["*.azurecr.io"], "acme.azurecr.io/app", Some("*.azurecr.io")),
            (&["*.azurecr.io"], "a.b.azurecr.io/app", None),
            (&["*.azurecr.io", "acme.azurecr.io"], "acme.azurecr.io/app", Some("acme.azurecr.io")),
            (&["pre-*-x.example"], "pre-1-x.example/app", Some("pre-*-x.example")),
            (&["pre-*-x.example"], "pre-x.example/app", None),
            (&["*"], "ghcr.io/app", None),
            (&[], "ghcr.io/app", None),
        ] {
            assert_eq!(user(keys, repository).as_deref(), key, "{keys:?} {repository}");
        }
    }

    #[test]
    fn what_an_entry_says() {
        let password = |user: &str, password: &str| {
            Some(Credentials::Password { username: user.into(), password: Secret::new(password) })
        };
        for (entry, expected) in [
            (json!({"username": "u", "password": "p"}), password("u", "p")),
            (json!({"username": "u"}), password("u", "")),
            (json!({"auth": "dTpw"}), password("u", "p")),
            // u:p:q, without padding, with a line's end
            (json!({"auth": "dTpwOnE\n"}), password("u", "p:q")),
            (json!({"auth": "dTpwOnE="}), password("u", "p:q")),
            (json!({"auth": "dTpwAAA="}), password("u", "p")),
            (json!({"auth": "dTpw", "username": "x", "password": "y"}), password("u", "p")),
            (json!({"auth": "dTpw", "identitytoken": "t"}), Some(Credentials::IdentityToken(Secret::new("t")))),
            (json!({"username": "<token>", "password": "t"}), Some(Credentials::IdentityToken(Secret::new("t")))),
            (json!({"registrytoken": "t"}), Some(Credentials::RegistryToken(Secret::new("t")))),
            (json!({"auth": "", "email": "a@example.com"}), None),
            (json!({}), None),
            (json!(null), None),
        ] {
            let found = credentials_for(&config(&json!({ "r.example": entry })), "r.example/app");
            assert_eq!(found, Ok(expected), "{entry}");
        }
    }

    #[test]
    fn what_cannot_be_read() {
        for auth in ["%%%", "dQ==", "OnA=", "/w=="] {
            let auths = json!({"https://me:mine@r.example": {"auth": auth}, "fine.example": {"auth": "dTpw"}});
            let error = credentials_for(&config(&auths), "r.example/app").expect_err(auth);
            assert_eq!(error, CredentialsError::Auth { registry: "r.example".into() });
            assert!(!format!("{error} {error:?}").contains(auth) && !format!("{error} {error:?}").contains("mine"));
            assert!(credentials_for(&config(&auths), "fine.example/app").expect("fine").is_some());
        }
        for text in ["", "hunter2", r#"{"auths": "hunter2"}"#, r#"{"auths": {"r.example": "hunter2"}}"#] {
            let error = credentials_for(text.as_bytes(), "r.example/app").expect_err(text);
            assert!(!format!("{error} {error:?}").contains("hunter2"), "{error:?}");
        }
        assert_eq!(credentials_for(b"{}", "r.example/app"), Ok(None));
        assert_eq!(credentials_for(&vec![b' '; MAX_CONFIG + 1], "r.example"), Err(CredentialsError::TooLarge));
    }

    #[test]
    fn secrets_are_not_shown() {
        let secret = "hunter2";
        for credentials in [
            Credentials::Password { username: "u".into(), password: Secret::new(secret) },
            Credentials::IdentityToken(Secret::new(secret)),
            Credentials::RegistryToken(Secret::new(secret)),
        ] {
            assert!(!format!("{credentials:?}").contains(secret));
        }
    }
    proptest::proptest! {
        #[test]
        fn a_glob_is_what_its_expression_is(pattern in "[ab*]{0,8}", text in "[ab]{0,8}") {
            let expression = regex::Regex::new(&format!("^{}$", pattern.replace('*', ".*"))).expect("an expression");
            proptest::prop_assert_eq!(glob(&pattern, &text), expression.is_match(&text));
        }

        #[test]
        fn nothing_in_a_secret_breaks_it(key in ".{0,20}", auth in ".{0,20}") {
            let _ = credentials_for(&config(&json!({key: {"auth": auth}})), "r.example/app");
        }
    }
}
