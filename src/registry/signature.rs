//! Who may tell of pushes: the ways of proving to know the secret, and which of them a URL takes.
//!
//! Decides over the raw bytes, before anything is parsed, and always in constant time. Nothing here shows a secret: not
//! in `Debug`, not in an error.
//!
//! **Signatures of the body**, made with the secret as key:
//!
//! | Header | Value | Who |
//! | --- | --- | --- |
//! | `X-Hub-Signature-256` | `sha256=` and HMAC-SHA256 in hexadecimal | GitHub, Gitea, Forgejo |
//! | `X-Gitea-Signature`, `X-Forgejo-Signature` | HMAC-SHA256 in hexadecimal | Gitea, Forgejo |
//! | `X-Nexus-Webhook-Signature` | HMAC-SHA1 in hexadecimal: Nexus has nothing better, and as a MAC it is unbroken | Nexus |
//! | `X-JFrog-Event-Auth` | HMAC-SHA256 in hexadecimal, with or without `sha256=`; or the secret itself, as Artifactory is set | Artifactory |
//!
//! Where one of these is there, it alone decides: a sender that signs says what it meant to send, so a body that doesn't
//! fit was changed under way (or the secret is wrong), and no second credential makes up for that. Of several, each must be
//! right. An empty one is none: Gitea sends it when it has no secret. GitHub's older `X-Hub-Signature` (SHA-1) is not
//! looked at.
//!
//! **The secret itself**, for registries that send a fixed header: `Authorization: Bearer <secret>`; the bare value
//! (Harbor sends what it is given as it is); `Basic`, with any user and the secret as password (zot, EventBridge);
//! `X-Tranche-Token: <secret>`, for an API key header whose name one may choose (EventBridge's API destinations).
//!
//! **Which proof is enough** ([`Rule`]):
//!
//! | URL, type of the receiver | Enough |
//! | --- | --- |
//! | first URL (`DOCKER_WEBHOOK_SECRET`) | a signature, the secret in a header, or the secret as the last part of the path |
//! | any receiver with `oidc`; `GoogleArtifactRegistry` | its path, and the platform's signed token ([`super::oidc`]); nothing else is looked at |
//! | `GitHub` | its path, and `X-Hub-Signature-256` |
//! | `Gitea` | its path, and one of the three signatures that it makes, or the secret in `Authorization` |
//! | `Nexus` | its path, and `X-Nexus-Webhook-Signature` |
//! | `Artifactory` | its path, and `X-JFrog-Event-Auth` |
//! | `DockerHub`, `Quay`, `Harbor`, `Distribution`, `AzureACR`, `AlibabaACR`, `AmazonECR`, `Zot`, `Generic`, `Auto` | its path; a signature, where there is one, must be right |
//!
//! The path of a receiver is derived from its secret and can't be guessed, so whoever has it was given it. Registries that
//! can sign must, nevertheless: paths end up in logs of proxies.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderMap;
use http::header::AUTHORIZATION;

use super::secret::unhex;
pub use super::secret::{SHORT_SECRET, Secret, Secrets};
use crate::api::webhook::RegistryType;

/// GitHub's signature, which others took over.
pub const SIGNATURE_HEADER: &str = "x-hub-signature-256";
/// A header for the secret that no vendor uses for anything else.
pub const TOKEN_HEADER: &str = "x-tranche-token";

/// A way of signing a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// `X-Hub-Signature-256`.
    Hub,
    /// `X-Gitea-Signature`.
    Gitea,
    /// `X-Forgejo-Signature`.
    Forgejo,
    /// `X-Nexus-Webhook-Signature`.
    Nexus,
    /// `X-JFrog-Event-Auth`.
    Artifactory,
}

const SCHEMES: [Scheme; 5] = [Scheme::Hub, Scheme::Gitea, Scheme::Forgejo, Scheme::Nexus, Scheme::Artifactory];

/// What a URL takes for proof.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// Any way of showing the secret: the first URL, whose path everybody knows.
    Secret,
    /// Having found the path.
    Path,
    /// A signature by one of these schemes, besides the path; or the secret in `Authorization`, where that is said.
    Signature {
        /// Which.
        schemes: &'static [Scheme],
        /// Whether `Authorization` will do.
        authorization: bool,
    },
    /// The platform's signed token, besides the path.
    Token,
}

impl Rule {
    /// The rule of a receiver, by its type and by whether it says what a token must say.
    #[must_use]
    pub fn of(type_: RegistryType, oidc: bool) -> Self {
        let signature = |schemes| Self::Signature { schemes, authorization: false };
        if oidc {
            return Self::Token;
        }
        match type_ {
            RegistryType::GoogleArtifactRegistry => Self::Token,
            RegistryType::GitHub => signature(&[Scheme::Hub]),
            RegistryType::Nexus => signature(&[Scheme::Nexus]),
            RegistryType::Artifactory => signature(&[Scheme::Artifactory]),
            RegistryType::Gitea => {
                Self::Signature { schemes: &[Scheme::Hub, Scheme::Gitea, Scheme::Forgejo], authorization: true }
            }
            RegistryType::Auto
            | RegistryType::DockerHub
            | RegistryType::Quay
            | RegistryType::Harbor
            | RegistryType::Distribution
            | RegistryType::AmazonECR
            | RegistryType::AzureACR
            | RegistryType::AlibabaACR
            | RegistryType::Zot
            | RegistryType::Generic => Self::Path,
        }
    }
}

/// Why a delivery isn't authentic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unauthentic {
    /// Nothing to go by.
    #[error(
        "the delivery proves nothing: sign the body (X-Hub-Signature-256), send Authorization: Bearer <secret>, or put the secret at the end of the path"
    )]
    NoCredential,
    /// The registry can sign, and this delivery isn't.
    #[error("the delivery has no {0}: give the registry's webhook the same secret, so that it signs what it sends")]
    NotSigned(&'static str),
    /// The signature isn't that of this body.
    #[error("{0} is not the signature of this body: it must be made with the secret, over the bytes as sent")]
    Signature(&'static str),
    /// Header or path.
    #[error("the secret is wrong")]
    Secret,
    /// The platform's token isn't there.
    #[error(
        "the delivery carries no signed token (Authorization: Bearer): enable authentication on the push subscription"
    )]
    NoToken,
}

/// What the headers and the path prove before the body is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proof<'a> {
    /// Enough: the secret itself was shown, or the path is all that is asked.
    Shown,
    /// The body is signed: read it, then ask [`verify_body`].
    Signed,
    /// Here is a token, yet to be verified.
    Token(&'a str),
}

/// Looks at headers and path only, so that a stranger without any credential costs no body. `path_secret` is the last
/// part of the first URL's path; a receiver's path is proven before there is a rule to ask.
///
/// # Errors
/// When there is no credential, or a wrong one.
pub fn knock<'a>(
    secrets: &Secrets,
    rule: Rule,
    headers: &'a HeaderMap,
    path_secret: Option<&[u8]>,
) -> Result<Proof<'a>, Unauthentic> {
    if rule == Rule::Token {
        let bearer = |value: &'a http::HeaderValue| std::str::from_utf8(scheme(value.as_bytes(), b"bearer ")?).ok();
        return headers.get_all(AUTHORIZATION).iter().find_map(bearer).map(Proof::Token).ok_or(Unauthentic::NoToken);
    }
    let mut signatures = signatures(headers).peekable();
    if signatures.peek().is_some() {
        let (mut asked, mut to_verify) = (false, false);
        for (scheme, value) in signatures {
            asked |= match rule {
                Rule::Secret | Rule::Path | Rule::Token => true,
                Rule::Signature { schemes, authorization: _ } => schemes.contains(&scheme),
            };
            match scheme {
                Scheme::Artifactory if secrets.is(value) => {}
                // The secret in plain, and a wrong one: no body is read for it.
                Scheme::Artifactory if mac::<32>(value).is_none() => return Err(Unauthentic::Secret),
                Scheme::Hub | Scheme::Gitea | Scheme::Forgejo | Scheme::Nexus | Scheme::Artifactory => {
                    to_verify = true;
                }
            }
        }
        if asked {
            return Ok(if to_verify { Proof::Signed } else { Proof::Shown });
        }
    }
    match rule {
        Rule::Path => return Ok(Proof::Shown),
        Rule::Signature { schemes, authorization: false } => {
            return Err(Unauthentic::NotSigned(schemes.first().map_or("signature", |scheme| scheme.header_shown())));
        }
        Rule::Secret | Rule::Signature { schemes: _, authorization: true } | Rule::Token => {}
    }
    let mut given = false;
    for candidate in shown(headers).into_iter().chain(path_secret.map(<[u8]>::to_vec)) {
        given = true;
        if secrets.is(&candidate) {
            return Ok(Proof::Shown);
        }
    }
    if given {
        return Err(Unauthentic::Secret);
    }
    Err(match rule {
        Rule::Signature { .. } => Unauthentic::NotSigned(Scheme::Hub.header_shown()),
        Rule::Secret | Rule::Path | Rule::Token => Unauthentic::NoCredential,
    })
}

/// Checks the signatures of a body. Of several each must be right: there is no telling which one a proxy in between
/// looked at.
///
/// # Errors
/// When there is none or a wrong one.
pub fn verify_body(secrets: &Secrets, headers: &HeaderMap, body: &[u8]) -> Result<(), Unauthentic> {
    let mut any = false;
    for (scheme, value) in signatures(headers) {
        any = true;
        if !scheme.signed(secrets, value, body) {
            return Err(Unauthentic::Signature(scheme.header_shown()));
        }
    }
    if any { Ok(()) } else { Err(Unauthentic::NoCredential) }
}

impl Scheme {
    fn header(self) -> &'static str {
        match self {
            Self::Hub => SIGNATURE_HEADER,
            Self::Gitea => "x-gitea-signature",
            Self::Forgejo => "x-forgejo-signature",
            Self::Nexus => "x-nexus-webhook-signature",
            Self::Artifactory => "x-jfrog-event-auth",
        }
    }

    /// As its vendor writes it.
    fn header_shown(self) -> &'static str {
        match self {
            Self::Hub => "X-Hub-Signature-256",
            Self::Gitea => "X-Gitea-Signature",
            Self::Forgejo => "X-Forgejo-Signature",
            Self::Nexus => "X-Nexus-Webhook-Signature",
            Self::Artifactory => "X-JFrog-Event-Auth",
        }
    }

    fn signed(self, secrets: &Secrets, value: &[u8], body: &[u8]) -> bool {
        let sha256 =
            |mac: Option<[u8; 32]>| mac.is_some_and(|mac| secrets.any(|secret| secret.made_sha256(&mac, body)));
        match self {
            Self::Hub => sha256(value.strip_prefix(b"sha256=").and_then(unhex)),
            Self::Gitea | Self::Forgejo => sha256(unhex(value)),
            Self::Nexus => unhex::<20>(value).is_some_and(|mac| secrets.any(|secret| secret.made_sha1(&mac, body))),
            Self::Artifactory => secrets.is(value) | sha256(mac(value)),
        }
    }
}

/// Every signature that is there, and not empty.
fn signatures(headers: &HeaderMap) -> impl Iterator<Item = (Scheme, &[u8])> {
    SCHEMES.into_iter().flat_map(move |scheme| {
        let values = headers.get_all(scheme.header()).iter().map(|value| value.as_bytes().trim_ascii());
        values.filter(|value| !value.is_empty() && *value != b"sha256=").map(move |value| (scheme, value))
    })
}

/// A MAC with or without `sha256=` before it.
fn mac<const N: usize>(value: &[u8]) -> Option<[u8; N]> {
    unhex(value.strip_prefix(b"sha256=").unwrap_or(value))
}

/// Everything in the headers that may be the secret.
fn shown(headers: &HeaderMap) -> Vec<Vec<u8>> {
    let mut candidates = Vec::new();
    for value in headers.get_all(AUTHORIZATION) {
        let value = value.as_bytes().trim_ascii();
        candidates.push(value.to_vec());
        candidates.extend(scheme(value, b"bearer ").map(<[u8]>::to_vec));
        let basic = scheme(value, b"basic ").and_then(|encoded| STANDARD.decode(encoded).ok());
        // A user's name holds no colon, a password may (RFC 7617 §2).
        let colon = basic.as_ref().and_then(|pair| pair.iter().position(|byte| *byte == b':'));
        candidates.extend(basic.zip(colon).map(|(pair, colon)| pair[colon + 1..].to_vec()));
    }
    candidates.extend(headers.get_all(TOKEN_HEADER).iter().map(|value| value.as_bytes().trim_ascii().to_vec()));
    candidates
}

/// What follows an authentication scheme; its case is of no matter (RFC 9110 §11.1).
fn scheme<'a>(value: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let (scheme, rest) = value.split_at_checked(name.len())?;
    scheme.eq_ignore_ascii_case(name).then(|| rest.trim_ascii())
}

/// The value of [`SIGNATURE_HEADER`] for a body: what a sender computes. For the simulator, the demo and tests.
#[must_use]
pub fn sign(secret: &Secret, body: &[u8]) -> String {
    format!("sha256={}", secret.sign(body))
}

#[cfg(test)]
mod tests {
    use hmac::{Hmac, KeyInit as _, Mac as _};

    use super::*;
    use crate::registry::secret::hex;

    const BODY: &[u8] = b"Hello, World!";
    const SECRET: &str = "It's a Secret to Everybody";
    /// GitHub's published example: secret "It's a Secret to Everybody", body "Hello, World!".
    const GITHUBS_OWN: &str = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17";

    const EVERY_TYPE: [RegistryType; 15] = [
        RegistryType::Auto,
        RegistryType::DockerHub,
        RegistryType::GitHub,
        RegistryType::Quay,
        RegistryType::Harbor,
        RegistryType::Distribution,
        RegistryType::AmazonECR,
        RegistryType::GoogleArtifactRegistry,
        RegistryType::AzureACR,
        RegistryType::AlibabaACR,
        RegistryType::Artifactory,
        RegistryType::Nexus,
        RegistryType::Gitea,
        RegistryType::Zot,
        RegistryType::Generic,
    ];

    fn secrets(text: &str) -> Secrets {
        Secret::new(text).expect("a secret").into()
    }

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, value.parse().expect("a header value"));
        }
        headers
    }

    /// As a registry computes it, apart from the code under test.
    fn sha256(secret: &str, body: &[u8]) -> String {
        let mut mac = Hmac::<sha2::Sha256>::new_from_slice(secret.as_bytes()).expect("any key");
        mac.update(body);
        hex(&mac.finalize().into_bytes())
    }

    fn sha1(secret: &str, body: &[u8]) -> String {
        let mut mac = Hmac::<sha1::Sha1>::new_from_slice(secret.as_bytes()).expect("any key");
        mac.update(body);
        hex(&mac.finalize().into_bytes())
    }

    #[test]
    fn published_vectors() {
        assert_eq!(sign(&Secret::new(format!("{SECRET}\n")).expect("a secret"), BODY), GITHUBS_OWN);
        let good = |name, value: &str| verify_body(&secrets(SECRET), &headers(&[(name, value)]), BODY);
        assert_eq!(good("x-hub-signature-256", GITHUBS_OWN), Ok(()));
        assert_eq!(good("x-hub-signature-256", &GITHUBS_OWN.to_uppercase().replace("SHA256", "sha256")), Ok(()));
        // RFC 2202, test case 2.
        let (key, body) = ("Jefe", b"what do ya want for nothing?");
        let nexus = headers(&[("x-nexus-webhook-signature", "effcdf6ae5eb2fa2d27416d5f184df9c259a7c79")]);
        assert_eq!(verify_body(&secrets(key), &nexus, body), Ok(()));
    }

    #[test]
    fn every_scheme_over_the_bytes_as_sent() {
        let (mac256, mac1) = (sha256(SECRET, BODY), sha1(SECRET, BODY));
        let prefixed = format!("sha256={mac256}");
        for (name, good, bad) in [
            ("x-hub-signature-256", vec![&*prefixed], vec![&*mac256, &mac1]),
            ("x-gitea-signature", vec![&*mac256], vec![&*prefixed, &mac1]),
            ("x-forgejo-signature", vec![&*mac256], vec![&*prefixed, &mac1]),
            ("x-nexus-webhook-signature", vec![&*mac1], vec![&*prefixed, &mac256]),
            ("x-jfrog-event-auth", vec![&*mac256, &prefixed, SECRET], vec![&*mac1, "another secret"]),
        ] {
            let rotated =
                Secrets::new(Secret::new("the next one, of some length").expect("a secret"), Secret::new(SECRET));
            for value in good {
                let sent = headers(&[(name, value)]);
                assert_eq!(verify_body(&secrets(SECRET), &sent, BODY), Ok(()), "{name}: {value}");
                assert_eq!(verify_body(&rotated, &sent, BODY), Ok(()), "{name}: {value}, while rotating");
                assert!(knock(&secrets(SECRET), Rule::Secret, &sent, None).is_ok());
                assert!(verify_body(&secrets("another"), &sent, BODY).is_err(), "{name}: {value}");
                // The secret in plain says nothing of the body.
                assert_eq!(verify_body(&secrets(SECRET), &sent, b"Hello, World! ").is_ok(), value == SECRET);
            }
            let short = &prefixed[..70];
            let (digit, letter) = (mac256.replace('7', "8"), mac256.replace('7', "g"));
            for value in bad.into_iter().chain(["x", "sha256=00", short, &digit, &letter, "sha1=00"]) {
                let sent = headers(&[(name, value)]);
                assert!(verify_body(&secrets(SECRET), &sent, BODY).is_err(), "{name}: {value}");
            }
        }
    }

    #[test]
    fn who_is_let_in_by_the_first_url() {
        // printf 'zot:s3cret' | base64
        let (basic, other) = ("Basic em90OnMzY3JldA==", "Basic em90OnMzY3JlZA==");
        for (sent, path, expected) in [
            (vec![], None, Err(Unauthentic::NoCredential)),
            (vec![], Some("s3cret"), Ok(Proof::Shown)),
            (vec![], Some("s3cres"), Err(Unauthentic::Secret)),
            (vec![], Some(""), Err(Unauthentic::Secret)),
            (vec![("authorization", "Bearer s3cret")], None, Ok(Proof::Shown)),
            (vec![("authorization", "bearer  s3cret ")], None, Ok(Proof::Shown)),
            (vec![("authorization", "Bearer s3cret2")], None, Err(Unauthentic::Secret)),
            (vec![("authorization", basic)], None, Ok(Proof::Shown)),
            (vec![("authorization", other)], None, Err(Unauthentic::Secret)),
            (vec![("authorization", "Basic s3cret")], None, Err(Unauthentic::Secret)),
            (vec![("authorization", "s3cret")], None, Ok(Proof::Shown)),
            (vec![("authorization", "s3cre")], None, Err(Unauthentic::Secret)),
            (vec![("x-tranche-token", "s3cret")], None, Ok(Proof::Shown)),
            (vec![("x-tranche-token", "Bearer s3cret")], None, Err(Unauthentic::Secret)),
            // A proxy's own credential doesn't hide ours.
            (vec![("authorization", "Basic eDp5"), ("authorization", "Bearer s3cret")], None, Ok(Proof::Shown)),
            (vec![("authorization", "Bearer wrong")], Some("s3cret"), Ok(Proof::Shown)),
            // Who signs is judged by the signature alone.
            (vec![("x-hub-signature-256", "x"), ("authorization", "Bearer s3cret")], Some("s3cret"), Ok(Proof::Signed)),
            (vec![("x-nexus-webhook-signature", "x")], Some("s3cret"), Ok(Proof::Signed)),
            (vec![("x-jfrog-event-auth", "s3cret")], None, Ok(Proof::Shown)),
            (vec![("x-jfrog-event-auth", "s3cret"), ("x-gitea-signature", "00")], None, Ok(Proof::Signed)),
            (vec![("x-jfrog-event-auth", "s3cre")], Some("s3cret"), Err(Unauthentic::Secret)),
            // Gitea without a secret.
            (vec![("x-gitea-signature", ""), ("x-hub-signature-256", "sha256=")], Some("s3cret"), Ok(Proof::Shown)),
            // SHA-1 of the body alone proves nothing.
            (vec![("x-hub-signature", "sha1=00")], None, Err(Unauthentic::NoCredential)),
        ] {
            let sent = headers(&sent);
            let knocked = knock(&secrets("s3cret"), Rule::Secret, &sent, path.map(str::as_bytes));
            assert_eq!(knocked, expected, "{sent:?} {path:?}");
        }
    }

    #[test]
    fn who_is_let_in_by_a_receiver() {
        use RegistryType::{Artifactory, Auto, GitHub, Gitea, GoogleArtifactRegistry, Harbor, Nexus};
        let (hub, nexus, gitea) = ("x-hub-signature-256", "x-nexus-webhook-signature", "x-gitea-signature");
        let bearer = ("authorization", "Bearer s3cret");
        let not_signed = |header| Err(Unauthentic::NotSigned(header));
        for (type_, sent, expected) in [
            (Auto, vec![], Ok(Proof::Shown)),
            (Auto, vec![("authorization", "Bearer of another thing")], Ok(Proof::Shown)),
            (Auto, vec![(hub, "x")], Ok(Proof::Signed)),
            (Harbor, vec![(nexus, "x")], Ok(Proof::Signed)),
            (GitHub, vec![], not_signed("X-Hub-Signature-256")),
            (GitHub, vec![bearer], not_signed("X-Hub-Signature-256")),
            (GitHub, vec![(nexus, "x")], not_signed("X-Hub-Signature-256")),
            (GitHub, vec![(hub, "sha256=")], not_signed("X-Hub-Signature-256")),
            (GitHub, vec![(hub, "x")], Ok(Proof::Signed)),
            (Nexus, vec![(hub, "x")], not_signed("X-Nexus-Webhook-Signature")),
            (Nexus, vec![(nexus, "x")], Ok(Proof::Signed)),
            (Gitea, vec![], not_signed("X-Hub-Signature-256")),
            (Gitea, vec![(gitea, "x")], Ok(Proof::Signed)),
            (Gitea, vec![(gitea, ""), bearer], Ok(Proof::Shown)),
            (Gitea, vec![(gitea, "x"), bearer], Ok(Proof::Signed)),
            (Gitea, vec![("authorization", "Bearer s3cres")], Err(Unauthentic::Secret)),
            (Artifactory, vec![bearer], not_signed("X-JFrog-Event-Auth")),
            (Artifactory, vec![("x-jfrog-event-auth", "s3cret")], Ok(Proof::Shown)),
            (Artifactory, vec![("x-jfrog-event-auth", "s3cres")], Err(Unauthentic::Secret)),
            (GoogleArtifactRegistry, vec![], Err(Unauthentic::NoToken)),
            (GoogleArtifactRegistry, vec![(hub, "x")], Err(Unauthentic::NoToken)),
            (GoogleArtifactRegistry, vec![("authorization", "s3cret")], Err(Unauthentic::NoToken)),
            (GoogleArtifactRegistry, vec![bearer], Ok(Proof::Token("s3cret"))),
        ] {
            let sent = headers(&sent);
            let knocked = knock(&secrets("s3cret"), Rule::of(type_, false), &sent, None);
            assert_eq!(knocked, expected, "{type_:?} {sent:?}");
        }
    }

    /// Only these need no more than the path.
    #[test]
    fn a_token_is_asked_wherever_it_is_described() {
        for type_ in EVERY_TYPE {
            assert_eq!(Rule::of(type_, true), Rule::Token, "{type_:?}");
            let path_is_enough = knock(&secrets("s3cret"), Rule::of(type_, false), &HeaderMap::new(), None).is_ok();
            let can_prove_more = matches!(
                type_,
                RegistryType::GitHub
                    | RegistryType::Gitea
                    | RegistryType::Nexus
                    | RegistryType::Artifactory
                    | RegistryType::GoogleArtifactRegistry
            );
            assert_eq!(path_is_enough, !can_prove_more, "{type_:?}");
        }
    }

    #[test]
    fn every_signature_must_be_right() {
        let secret = secrets(SECRET);
        let one = headers(&[("x-hub-signature-256", GITHUBS_OWN)]);
        let twice = headers(&[("x-hub-signature-256", GITHUBS_OWN), ("x-hub-signature-256", GITHUBS_OWN)]);
        let mixed = headers(&[("x-hub-signature-256", GITHUBS_OWN), ("x-hub-signature-256", "sha256=00")]);
        let of_two = headers(&[("x-hub-signature-256", GITHUBS_OWN), ("x-gitea-signature", "00")]);
        assert_eq!(verify_body(&secret, &one, BODY), Ok(()));
        assert_eq!(verify_body(&secret, &twice, BODY), Ok(()));
        assert_eq!(verify_body(&secret, &mixed, BODY), Err(Unauthentic::Signature("X-Hub-Signature-256")));
        assert_eq!(verify_body(&secret, &of_two, BODY), Err(Unauthentic::Signature("X-Gitea-Signature")));
        assert_eq!(verify_body(&secret, &HeaderMap::new(), BODY), Err(Unauthentic::NoCredential));
        assert!(verify_body(&secret, &one, b"Hello, World! ").is_err());
    }
}
