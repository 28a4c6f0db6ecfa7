//! Signed tokens of a platform (OpenID Connect): how Google's Pub/Sub proves that a push is its own.
//!
//! A pure function of token, keys, rule and time. RS256 and ES256 over keys of a JSON Web Key Set. The algorithm follows
//! from the key, and the token must agree with it: `none`, or an HMAC made with the public key as secret, gets nowhere.
//!
//! Verified with `ring`, which TLS has in the tree already. The crate `jsonwebtoken` would bring a second provider
//! (aws-lc, or RustCrypto with `rsa` and its timing advisory), and reads the clock by itself, which nothing here may.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use ring::signature::{ECDSA_P256_SHA256_FIXED, RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents, UnparsedPublicKey};
use serde::Deserialize;

use crate::api::webhook::OidcRule;

/// Longest token that is looked at. Google's have about 1.2 KiB.
const MAX_TOKEN: usize = 8 * 1024;
/// Most keys of a set. Google has two or three at a time.
const MAX_KEYS: usize = 64;
/// Seconds by which two clocks may differ.
const LEEWAY: i64 = 60;

/// Why a token proves nothing. No text repeats what the token or the rule says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// Not three parts of base64 with JSON in the first two.
    #[error("it is no signed token (JWT)")]
    Malformed,
    /// No `kid`.
    #[error("the token does not say by which key it is signed (kid)")]
    NoKeyId,
    /// A `kid` that the issuer doesn't have.
    #[error("the token is signed by a key that its issuer does not have")]
    UnknownKey,
    /// `none`, or another algorithm than the key's.
    #[error("the token is signed by another algorithm than its key is for: RS256 and ES256 are taken")]
    Algorithm,
    /// The signature.
    #[error("the token's signature is wrong")]
    Signature,
    /// `iss`.
    #[error("the token is of another issuer than spec.oidc.issuer")]
    Issuer,
    /// `aud`.
    #[error("the token is for another audience than spec.oidc.audience: give the push subscription that audience")]
    Audience,
    /// `email`.
    #[error("the token is of another account than spec.oidc.email: let the push subscription use that service account")]
    Email,
    /// `email_verified`.
    #[error("the token's issuer has not verified its email")]
    EmailNotVerified,
    /// `exp`.
    #[error("the token has expired")]
    Expired,
    /// `nbf`, `iat`.
    #[error("the token is from the future: set the clocks")]
    NotYet,
}

/// Why a text is no set of keys.
#[derive(Debug, thiserror::Error)]
pub enum KeySetError {
    /// Not the JSON of one.
    #[error("it is no JSON Web Key Set")]
    Json(#[source] serde_json::Error),
    /// None that can be used.
    #[error("it has no key for RS256 or ES256")]
    Empty,
}

/// The keys of an issuer.
#[derive(Clone, Debug)]
pub struct KeySet(Vec<(String, Key)>);

#[derive(Clone, Debug)]
enum Key {
    Rsa {
        n: Vec<u8>,
        e: Vec<u8>,
    },
    /// The uncompressed point.
    P256(Vec<u8>),
}

impl KeySet {
    /// Reads a JSON Web Key Set. Keys of other kinds, for other uses, or without an id are left out.
    ///
    /// # Errors
    /// When nothing usable is in it.
    pub fn parse(bytes: &[u8]) -> Result<Self, KeySetError> {
        #[derive(Deserialize)]
        struct Set {
            keys: Vec<serde_json::Value>,
        }
        let Set { keys } = serde_json::from_slice(bytes).map_err(KeySetError::Json)?;
        let keys: Vec<_> = keys.into_iter().take(MAX_KEYS).filter_map(Key::read).collect();
        if keys.is_empty() { Err(KeySetError::Empty) } else { Ok(Self(keys)) }
    }

    /// Whether a key of that id is there.
    #[must_use]
    pub fn has(&self, kid: &str) -> bool {
        self.0.iter().any(|(id, _)| id == kid)
    }
}

impl Key {
    fn read(value: serde_json::Value) -> Option<(String, Self)> {
        #[derive(Deserialize)]
        struct Jwk {
            kid: String,
            kty: String,
            alg: Option<String>,
            #[serde(rename = "use")]
            use_: Option<String>,
            n: Option<String>,
            e: Option<String>,
            crv: Option<String>,
            x: Option<String>,
            y: Option<String>,
        }
        let jwk: Jwk = serde_json::from_value(value).ok()?;
        let bytes = |text: Option<String>| URL_SAFE_NO_PAD.decode(text?).ok();
        let coordinate = |text| bytes(text).filter(|bytes| bytes.len() == 32);
        let key = match (jwk.kty.as_str(), jwk.crv.as_deref()) {
            ("RSA", _) => Self::Rsa { n: bytes(jwk.n)?, e: bytes(jwk.e)? },
            ("EC", Some("P-256")) => Self::P256([vec![4], coordinate(jwk.x)?, coordinate(jwk.y)?].concat()),
            _ => return None,
        };
        let fits = jwk.alg.is_none_or(|alg| alg == key.algorithm()) && jwk.use_.is_none_or(|use_| use_ == "sig");
        fits.then_some((jwk.kid, key))
    }

    fn algorithm(&self) -> &'static str {
        match self {
            Self::Rsa { .. } => "RS256",
            Self::P256(_) => "ES256",
        }
    }

    fn verify(&self, message: &[u8], signature: &[u8]) -> Result<(), TokenError> {
        let verified = match self {
            // Keys below 2048 bits are refused.
            Self::Rsa { n, e } => {
                RsaPublicKeyComponents { n, e }.verify(&RSA_PKCS1_2048_8192_SHA256, message, signature)
            }
            Self::P256(point) => UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point).verify(message, signature),
        };
        verified.map_err(|_| TokenError::Signature)
    }
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    kid: Option<String>,
    /// Extensions that must be understood; none is.
    crit: Option<serde::de::IgnoredAny>,
}

#[derive(Deserialize)]
struct Claims {
    iss: String,
    aud: Audience,
    exp: f64,
    iat: Option<f64>,
    nbf: Option<f64>,
    email: Option<String>,
    email_verified: Option<bool>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Audience {
    One(String),
    Several(Vec<String>),
}

/// By which key a token says it is signed. Nothing is verified.
///
/// # Errors
/// When it is no token, or doesn't say.
pub fn key_id(token: &str) -> Result<String, TokenError> {
    let (header, _) = split(token)?;
    header.kid.ok_or(TokenError::NoKeyId)
}

/// Whether a token says, at `now`, what the rule asks, and is signed by one of the keys.
///
/// # Errors
/// The first thing that is wrong with it. What it claims is looked at only after the signature.
pub fn verify(token: &str, keys: &KeySet, rule: &OidcRule, now: Timestamp) -> Result<(), TokenError> {
    let (header, Parts { message, payload, signature }) = split(token)?;
    let kid = header.kid.ok_or(TokenError::NoKeyId)?;
    let (_, key) = keys.0.iter().find(|(id, _)| *id == kid).ok_or(TokenError::UnknownKey)?;
    if header.alg != key.algorithm() {
        return Err(TokenError::Algorithm);
    }
    key.verify(message.as_bytes(), &decode(signature)?)?;
    let claims: Claims = serde_json::from_slice(&decode(payload)?).map_err(|_| TokenError::Malformed)?;
    check(&claims, rule, now)
}

fn check(claims: &Claims, rule: &OidcRule, now: Timestamp) -> Result<(), TokenError> {
    let Claims { iss, aud, exp, iat, nbf, email, email_verified } = claims;
    let OidcRule { issuer, audience, email: account, jwks_url: _ } = rule;
    let is_audience = match aud {
        Audience::One(one) => one == audience,
        Audience::Several(several) => several.contains(audience),
    };
    // Whole seconds are what tokens have; fractions are allowed (RFC 7519 §2).
    #[expect(clippy::cast_precision_loss, reason = "exact for hundreds of millions of years")]
    let (earliest, latest) = ((now.as_second() - LEEWAY) as f64, (now.as_second() + LEEWAY) as f64);
    let begun = |time: &Option<f64>| time.is_none_or(|time| time <= latest);
    if iss != issuer {
        Err(TokenError::Issuer)
    } else if !is_audience {
        Err(TokenError::Audience)
    } else if email.as_ref() != Some(account) {
        Err(TokenError::Email)
    } else if *email_verified != Some(true) {
        Err(TokenError::EmailNotVerified)
    } else if *exp <= earliest {
        Err(TokenError::Expired)
    } else if !begun(iat) || !begun(nbf) {
        Err(TokenError::NotYet)
    } else {
        Ok(())
    }
}

/// The parts of a token, still encoded.
struct Parts<'a> {
    /// What is signed.
    message: &'a str,
    payload: &'a str,
    signature: &'a str,
}

fn split(token: &str) -> Result<(Header, Parts<'_>), TokenError> {
    if token.len() > MAX_TOKEN {
        return Err(TokenError::Malformed);
    }
    let (message, signature) = token.rsplit_once('.').ok_or(TokenError::Malformed)?;
    let (header, payload) = message.split_once('.').ok_or(TokenError::Malformed)?;
    let header: Header = serde_json::from_slice(&decode(header)?).map_err(|_| TokenError::Malformed)?;
    if header.crit.is_some() {
        return Err(TokenError::Malformed);
    }
    Ok((header, Parts { message, payload, signature }))
}

fn decode(part: &str) -> Result<Vec<u8>, TokenError> {
    URL_SAFE_NO_PAD.decode(part).map_err(|_| TokenError::Malformed)
}

#[cfg(test)]
mod tests {
    use base64::engine::general_purpose::STANDARD;
    use ring::rand::SystemRandom;
    use ring::rsa::KeyPair as RsaKeyPair;
    use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _, RSA_PKCS1_SHA256};
    use serde_json::{Value, json};

    use super::*;

    const NOW: i64 = 1_800_000_000;
    const KEYS: &str = include_str!("../../tests/data/oidc/jwks.json");

    fn now() -> Timestamp {
        Timestamp::from_second(NOW).expect("a time")
    }

    fn rule() -> OidcRule {
        OidcRule {
            issuer: "https://accounts.google.com".into(),
            audience: "https://hooks.example.com".into(),
            email: "push@project.iam.gserviceaccount.com".into(),
            jwks_url: "https://unused.example.com".into(),
        }
    }

    fn claims() -> Value {
        json!({
            "iss": "https://accounts.google.com", "aud": "https://hooks.example.com", "sub": "1234", "azp": "1234",
            "email": "push@project.iam.gserviceaccount.com", "email_verified": true, "iat": NOW - 10, "exp": NOW + 3590,
        })
    }

    fn with(changes: &Value) -> Value {
        let mut claims = claims();
        for (name, value) in changes.as_object().expect("changes") {
            if value.is_null() {
                claims.as_object_mut().expect("claims").remove(name);
            } else {
                claims[name] = value.clone();
            }
        }
        claims
    }

    fn keys() -> KeySet {
        KeySet::parse(KEYS.as_bytes()).expect("keys")
    }

    fn rsa() -> RsaKeyPair {
        let pem = include_str!("../../tests/data/oidc/key.pem");
        let der: String = pem.lines().filter(|line| !line.starts_with("-----")).collect();
        RsaKeyPair::from_pkcs8(&STANDARD.decode(der).expect("base64")).expect("a key")
    }

    fn encode(value: &Value) -> String {
        URL_SAFE_NO_PAD.encode(value.to_string())
    }

    fn token_with(header: &Value, claims: &Value, sign: impl FnOnce(&[u8]) -> Vec<u8>) -> String {
        let message = format!("{}.{}", encode(header), encode(claims));
        let signature = URL_SAFE_NO_PAD.encode(sign(message.as_bytes()));
        format!("{message}.{signature}")
    }

    fn by_rsa(message: &[u8]) -> Vec<u8> {
        let key = rsa();
        let mut signature = vec![0; key.public().modulus_len()];
        key.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), message, &mut signature).expect("signed");
        signature
    }

    fn token(claims: &Value) -> String {
        token_with(&json!({"alg": "RS256", "kid": "one", "typ": "JWT"}), claims, by_rsa)
    }

    fn verified(token: &str) -> Result<(), TokenError> {
        verify(token, &keys(), &rule(), now())
    }

    #[test]
    fn what_it_says() {
        for (changes, expected) in [
            (json!({}), Ok(())),
            (json!({"aud": ["https://other.example.com", "https://hooks.example.com"]}), Ok(())),
            (json!({"iat": null, "sub": null}), Ok(())),
            (json!({"nbf": NOW - 1}), Ok(())),
            (json!({"iss": "https://accounts.google.com.evil.example"}), Err(TokenError::Issuer)),
            (json!({"iss": "accounts.google.com"}), Err(TokenError::Issuer)),
            (json!({"aud": "https://hooks.example.com/other"}), Err(TokenError::Audience)),
            (json!({"aud": []}), Err(TokenError::Audience)),
            (json!({"email": "evil@project.iam.gserviceaccount.com"}), Err(TokenError::Email)),
            (json!({"email": null}), Err(TokenError::Email)),
            (json!({"email_verified": false}), Err(TokenError::EmailNotVerified)),
            (json!({"email_verified": null}), Err(TokenError::EmailNotVerified)),
            (json!({"email_verified": "true"}), Err(TokenError::Malformed)),
            (json!({"exp": NOW - 59}), Ok(())),
            (json!({"exp": NOW - 60}), Err(TokenError::Expired)),
            (json!({"exp": null}), Err(TokenError::Malformed)),
            (json!({"exp": "never"}), Err(TokenError::Malformed)),
            (json!({"iat": NOW + 60}), Ok(())),
            (json!({"iat": NOW + 61}), Err(TokenError::NotYet)),
            (json!({"nbf": NOW + 61}), Err(TokenError::NotYet)),
        ] {
            assert_eq!(verified(&token(&with(&changes))), expected, "{changes}");
        }
    }

    #[test]
    fn by_whom_it_is_signed() {
        let hmac = |message: &[u8]| {
            // The confusion of keys: the public key, as everybody knows it, used as a secret.
            let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, KEYS.as_bytes());
            ring::hmac::sign(&key, message).as_ref().to_vec()
        };
        let signed =
            |alg: &str, sign: fn(&[u8]) -> Vec<u8>| token_with(&json!({"alg": alg, "kid": "one"}), &claims(), sign);
        assert_eq!(verified(&signed("RS256", by_rsa)), Ok(()));
        assert_eq!(verified(&signed("none", |_| Vec::new())), Err(TokenError::Algorithm));
        assert_eq!(verified(&signed("none", by_rsa)), Err(TokenError::Algorithm));
        assert_eq!(verified(&signed("HS256", hmac)), Err(TokenError::Algorithm));
        assert_eq!(verified(&signed("RS256", hmac)), Err(TokenError::Signature));
        assert_eq!(verified(&signed("ES256", by_rsa)), Err(TokenError::Algorithm));
        assert_eq!(verified(&signed("RS256", |_| Vec::new())), Err(TokenError::Signature));

        // Other claims under the same signature.
        let good = token(&with(&json!({"email": "evil@example.com"})));
        let (_, signature) = good.rsplit_once('.').expect("three parts");
        let header = encode(&json!({"alg": "RS256", "kid": "one"}));
        assert_eq!(verified(&format!("{header}.{}.{signature}", encode(&claims()))), Err(TokenError::Signature));
    }

    #[test]
    fn a_key_that_is_new() {
        let rotated = token_with(&json!({"alg": "RS256", "kid": "two"}), &claims(), by_rsa);
        assert_eq!(key_id(&rotated).as_deref(), Ok("two"));
        assert_eq!(verified(&rotated), Err(TokenError::UnknownKey));
        let keys = KeySet::parse(KEYS.replace("\"one\"", "\"two\"").as_bytes()).expect("keys");
        assert!(keys.has("two") && !keys.has("one"));
        assert_eq!(verify(&rotated, &keys, &rule(), now()), Ok(()));
    }

    #[test]
    fn elliptic_curves_too() {
        let random = SystemRandom::new();
        let document = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).expect("a key");
        let key =
            EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, document.as_ref(), &random).expect("a key");
        let point = key.public_key().as_ref();
        let (x, y) = (URL_SAFE_NO_PAD.encode(&point[1..33]), URL_SAFE_NO_PAD.encode(&point[33..]));
        let set = json!({"keys": [{"kid": "ec", "kty": "EC", "crv": "P-256", "x": x, "y": y}]});
        let keys = KeySet::parse(set.to_string().as_bytes()).expect("keys");
        let sign = |message: &[u8]| key.sign(&random, message).expect("signed").as_ref().to_vec();
        let token = token_with(&json!({"alg": "ES256", "kid": "ec"}), &claims(), sign);
        assert_eq!(verify(&token, &keys, &rule(), now()), Ok(()));
        let token = token_with(&json!({"alg": "RS256", "kid": "ec"}), &claims(), by_rsa);
        assert_eq!(verify(&token, &keys, &rule(), now()), Err(TokenError::Algorithm));
    }

    #[test]
    fn what_is_no_token() {
        let good = token(&claims());
        let long = "a".repeat(MAX_TOKEN + 1);
        for text in
            ["", ".", "..", "a.b", "a.b.c", "e30.e30.e30", &good[1..], &format!("{good}."), &format!("{good}="), &long]
        {
            assert!(verified(text).is_err(), "{text}");
            assert!(key_id(text).is_err() || text.len() > 3, "{text}");
        }
        let no_key = token_with(&json!({"alg": "RS256"}), &claims(), by_rsa);
        assert_eq!(verified(&no_key), Err(TokenError::NoKeyId));
        let extended = token_with(&json!({"alg": "RS256", "kid": "one", "crit": ["b64"]}), &claims(), by_rsa);
        assert_eq!(verified(&extended), Err(TokenError::Malformed));
    }

    #[test]
    fn sets_of_keys() {
        for (set, usable) in [
            (json!({"keys": []}), false),
            (json!({}), false),
            (json!({"keys": [{"kid": "a", "kty": "oct", "k": "c2VjcmV0"}]}), false),
            (json!({"keys": [{"kid": "a", "kty": "RSA", "use": "enc", "n": "AQAB", "e": "AQAB"}]}), false),
            (json!({"keys": [{"kid": "a", "kty": "RSA", "alg": "RS512", "n": "AQAB", "e": "AQAB"}]}), false),
            (json!({"keys": [{"kty": "RSA", "n": "AQAB", "e": "AQAB"}]}), false),
            (json!({"keys": [{"kid": "a", "kty": "EC", "crv": "P-256", "x": "AQAB", "y": "AQAB"}]}), false),
            (
                json!({"keys": [7, {"kid": "a", "kty": "OKP"}, {"kid": "b", "kty": "RSA", "n": "AQAB", "e": "AQAB"}]}),
                true,
            ),
        ] {
            assert_eq!(KeySet::parse(set.to_string().as_bytes()).is_ok(), usable, "{set}");
        }
        // A key that is too small to mean anything.
        let keys =
            KeySet::parse(br#"{"keys": [{"kid": "one", "kty": "RSA", "n": "AQAB", "e": "AQAB"}]}"#).expect("keys");
        assert_eq!(verify(&token(&claims()), &keys, &rule(), now()), Err(TokenError::Signature));
    }
}
